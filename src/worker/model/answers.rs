//! The real decisions about an answer, and what a publish that fails looks like.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::{state::Fate, trace::How};
use crate::{
    broker::publisher::PublishError,
    delivery::{
        exchange::{Answer, Exchange},
        outcome::judge,
        rules::Rules,
    },
    settings::Backoff,
    worker::{
        attempt::after,
        report::Attempt,
        settle::transition::{Successor, Transition},
    },
};

/// The real decisions about an answer.
pub fn fate(status: u16, attempt: u8) -> Fate {
    let answer = Answer { status, ..Answer::default() };
    let exchange = Exchange::new(Ok(answer), Duration::ZERO);
    let rules = Rules::default();
    let outcome = judge(&exchange, &rules, SystemTime::UNIX_EPOCH, POLICY.retry_after_maximum);
    let number = u32::from(attempt) + 1;
    let attempt = Attempt { at: Timestamp::UNIX_EPOCH, number, of: RETRY_ATTEMPTS + 1, exchange: &exchange };
    let not_made = || unreachable!("an answer is an attempt");
    match after(&attempt, &outcome, &rules, &POLICY, 0.5, not_made) {
        Transition::Delivered => Fate::Delivered,
        Transition::Successor(Successor::Retry { .. }) => Fate::Retry,
        Transition::Successor(Successor::Fail { .. }) => Fate::Fail,
        Transition::Refused(_) | Transition::Successor(_) => unreachable!("no rule refuses it"),
    }
}

const POLICY: Backoff = Backoff {
    initial: Duration::from_secs(1),
    multiplier: 2.0,
    maximum: Duration::from_secs(60),
    jitter: 0.0,
    retry_after_maximum: Duration::from_secs(60),
};

/// One retry: a job ends after two attempts.
pub const RETRY_ATTEMPTS: u32 = 1;

impl How {
    pub fn error(self) -> PublishError {
        match self {
            How::Lost => PublishError::Lost(String::new()),
            How::TimedOut => PublishError::TimedOut,
            How::Nacked => PublishError::Nacked,
            How::Returned => PublishError::Returned { code: 312, text: String::new() },
            How::Unclear => PublishError::Unclear,
        }
    }
}

//! Decides the next step of a job after an attempt.

use std::time::Duration;

use super::{
    backoff,
    outcome::{FailReason, Outcome, RetryReason},
};
use crate::settings::Backoff;

/// The next step of a job after an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The job is done.
    Delivered,
    /// The job is done, but the receiver did not take the lead.
    Refused,
    /// The job is tried again, and this attempt does not count.
    Again,
    /// The job is tried again, after at least this long.
    Retry {
        /// The schedule with jitter, or the receiver's wait if that is longer. Not yet rounded up to a delay queue.
        wait: Duration,
        /// The reason.
        reason: RetryReason,
    },
    /// The job is never tried again.
    Failed {
        /// The reason.
        reason: FailReason,
        /// The outcome of the last attempt, if the reason is that all attempts are used up.
        last: Option<RetryReason>,
    },
}

/// Returns the verdict after attempt number `attempt` (1-based) of a target with `retry_attempts` retries. `draw`, in
/// `[0, 1)`, is the jitter.
pub fn verdict(outcome: &Outcome, attempt: u32, retry_attempts: u32, policy: &Backoff, draw: f64) -> Verdict {
    match *outcome {
        Outcome::Delivered => Verdict::Delivered,
        Outcome::Refused => Verdict::Refused,
        Outcome::NotMade => Verdict::Again,
        Outcome::Never(reason) => Verdict::Failed { reason, last: None },
        Outcome::Retry { reason, .. } if attempt > retry_attempts => {
            Verdict::Failed { reason: FailReason::Exhausted, last: Some(reason) }
        }
        Outcome::Retry { reason, not_before } => {
            let wait = backoff::wait(policy, attempt, draw).max(not_before.unwrap_or_default());
            Verdict::Retry { wait, reason }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Backoff = Backoff {
        initial: Duration::from_secs(1),
        multiplier: 2.0,
        maximum: Duration::from_secs(60),
        jitter: 0.0,
        retry_after_maximum: Duration::from_secs(86_400),
    };

    fn retry(not_before: Option<Duration>) -> Outcome {
        Outcome::Retry { reason: RetryReason::Status, not_before }
    }

    #[test]
    fn n_retries_are_n_plus_one_attempts() {
        for (attempt, wait) in [(1, 1), (2, 2), (3, 4)] {
            let expected = Verdict::Retry { wait: Duration::from_secs(wait), reason: RetryReason::Status };
            assert_eq!(verdict(&retry(None), attempt, 3, &POLICY, 0.5), expected);
        }
        let enough = Verdict::Failed { reason: FailReason::Exhausted, last: Some(RetryReason::Status) };
        assert_eq!(verdict(&retry(None), 4, 3, &POLICY, 0.5), enough);
        assert_eq!(verdict(&retry(Some(Duration::from_secs(9))), 4, 3, &POLICY, 0.5), enough);
    }

    #[test]
    fn a_receivers_wish_lengthens_the_wait_and_never_shortens_it() {
        let wait = |wish| match verdict(&retry(Some(Duration::from_secs(wish))), 3, 5, &POLICY, 0.5) {
            Verdict::Retry { wait, .. } => wait.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!((wait(3), wait(7)), (4, 7));
    }

    #[test]
    fn final_is_final_at_the_first_attempt() {
        let gone = Verdict::Failed { reason: FailReason::Gone, last: None };
        assert_eq!(verdict(&Outcome::Never(FailReason::Gone), 1, 5, &POLICY, 0.5), gone);
        assert_eq!(verdict(&Outcome::Delivered, 1, 5, &POLICY, 0.5), Verdict::Delivered);
        assert_eq!(verdict(&Outcome::Refused, 1, 5, &POLICY, 0.5), Verdict::Refused);
        assert_eq!(verdict(&Outcome::NotMade, 6, 5, &POLICY, 0.5), Verdict::Again);
    }
}

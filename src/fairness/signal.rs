//! What an attempt says of its target's capacity, from what the wire said and what that meant.

use std::time::Duration;

use crate::delivery::outcome::{Exchange, Fault, Outcome};

/// What an attempt says of its target's capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// There was an answer: the target is there, whatever it thinks of the job.
    Answered,
    /// Too slow, not there, or in trouble.
    Failing,
    /// It asks to be left alone, for so long if it said.
    PushedBack(Option<Duration>),
    /// Nothing: it never came to a request, or the fault was ours.
    Nothing,
}

/// A receiver that answers 404 has capacity; one that answers 500 has trouble; a name that does not resolve is nobody's
/// capacity, but asking again at once helps as little.
pub fn signal(exchange: &Exchange, outcome: &Outcome) -> Signal {
    match &exchange.result {
        Ok(answer) => match (answer.status, outcome) {
            // Whatever the status: the target's rules say what it means.
            (_, Outcome::Delivered | Outcome::Refused) => Signal::Answered,
            (429, Outcome::Retry { not_before, .. }) => Signal::PushedBack(*not_before),
            // On other statuses `Retry-After` delays its own delivery only.
            (503, Outcome::Retry { not_before: Some(wish), .. }) => Signal::PushedBack(Some(*wish)),
            (500..=599, _) => Signal::Failing,
            _ => Signal::Answered,
        },
        // A retried fault is the receiver's trouble, but for a bug of our own. All others never came to a request.
        Err(Fault::Panic) => Signal::Nothing,
        Err(_) if matches!(outcome, Outcome::Retry { .. }) => Signal::Failing,
        Err(_) => Signal::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::delivery::{
        outcome::{Answer, judge},
        rules::{Condition, Rules},
    };

    fn of(result: Result<(u16, Option<&str>), Fault>) -> Signal {
        ruled(result, &Rules::default())
    }

    fn ruled(result: Result<(u16, Option<&str>), Fault>, rules: &Rules) -> Signal {
        let answer = |(status, wish): (u16, Option<&str>)| Answer {
            status,
            retry_after: wish.map(str::to_owned),
            body: Some("{}".into()),
            ..Answer::default()
        };
        let exchange = Exchange::new(result.map(answer), Duration::ZERO);
        signal(&exchange, &judge(&exchange, rules, SystemTime::now(), Duration::from_secs(60)))
    }

    #[test]
    fn answers_open_a_lane_and_trouble_narrows_it() {
        for status in [200, 204, 301, 400, 404, 410] {
            assert_eq!(of(Ok((status, None))), Signal::Answered, "{status}");
        }
        for status in [500, 502, 503, 504] {
            assert_eq!(of(Ok((status, None))), Signal::Failing, "{status}");
        }
        for fault in Fault::all() {
            let ours = matches!(
                fault.label(),
                "proxy" | "local" | "forbidden_address" | "plain_http" | "unusable_target" | "panic"
            );
            assert_eq!(of(Err(fault)), if ours { Signal::Nothing } else { Signal::Failing }, "{fault}");
        }
    }

    #[test]
    fn a_receivers_wish_closes_the_lane_up_to_the_stated_maximum() {
        assert_eq!(of(Ok((429, None))), Signal::PushedBack(None));
        assert_eq!(of(Ok((429, Some("7")))), Signal::PushedBack(Some(Duration::from_secs(7))));
        assert_eq!(of(Ok((503, Some("7000")))), Signal::PushedBack(Some(Duration::from_secs(60))));
    }

    #[test]
    fn a_wish_beside_another_status_closes_no_lane() {
        assert_eq!(of(Ok((502, Some("7")))), Signal::Failing);
        assert_eq!(of(Ok((404, Some("7")))), Signal::Answered);
    }

    #[test]
    fn the_rules_of_a_target_tell_answers_from_trouble() {
        let condition = Condition { pointer: "/success".into(), equals: true.into() };
        let rules = Rules {
            accept: [429, 500].into_iter().collect(),
            never_retry: [404, 502].into_iter().collect(),
            accept_if: Some(condition.into()),
            ..Rules::default()
        };
        // A refusal (200), accepted statuses, and one that is final.
        for status in [200, 429, 500, 404] {
            assert_eq!(ruled(Ok((status, Some("7"))), &rules), Signal::Answered, "{status}");
        }
        // While it fails for good, fewer leads should be lost.
        assert_eq!(ruled(Ok((502, None)), &rules), Signal::Failing);
    }
}

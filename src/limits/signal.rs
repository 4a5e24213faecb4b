//! The sign of health that an attempt gives: an answer, an error, a failure, or the wish for a pause.

use std::time::Duration;

use crate::delivery::{exchange::Exchange, fault::Fault, outcome::Outcome};

/// A sign of the receiver's health, given by an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// It answered, whatever it makes of the lead.
    Answered,
    /// It answered that it is in trouble: 5xx or 408.
    Error,
    /// A transport fault or a timeout.
    Failing,
    /// It asks for a pause, of this length if it names one.
    Paused(Option<Duration>),
    /// No sign: no request was made, or the fault was ours.
    Nothing,
}

/// Returns the sign that an attempt gives. A receiver that answers 404 has capacity, and one that answers 500 has
/// trouble. A name that does not resolve says nothing about capacity, but another request right now would not help
/// either.
pub fn signal(exchange: &Exchange, outcome: &Outcome) -> Signal {
    match &exchange.result {
        Ok(answer) => match (answer.status, outcome) {
            // Whatever the status, the target's rules give its meaning.
            (_, Outcome::Delivered | Outcome::Refused) => Signal::Answered,
            (429, Outcome::Retry { not_before, .. }) => Signal::Paused(*not_before),
            // On other statuses, `Retry-After` delays only its own delivery.
            (503, Outcome::Retry { not_before: Some(wish), .. }) => Signal::Paused(Some(*wish)),
            (408 | 500..=599, _) => Signal::Error,
            _ => Signal::Answered,
        },
        // A retried fault is the receiver's trouble, unless it is our own bug. After any other fault, no request was
        // made.
        Err(Fault::Panic) => Signal::Nothing,
        // The receiver may be the cause, and another request would not help either.
        Err(Fault::ProxyRefused) => Signal::Failing,
        Err(_) if matches!(outcome, Outcome::Retry { .. }) => Signal::Failing,
        Err(_) => Signal::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::delivery::{
        exchange::Answer,
        outcome::judge,
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
    fn statuses_and_faults_tell_answers_from_failures() {
        for status in [200, 204, 301, 400, 404, 410] {
            assert_eq!(of(Ok((status, None))), Signal::Answered, "{status}");
        }
        for status in [408, 500, 502, 503, 504] {
            assert_eq!(of(Ok((status, None))), Signal::Error, "{status}");
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
    fn a_wish_pauses_the_circuit_up_to_the_stated_maximum() {
        assert_eq!(of(Ok((429, None))), Signal::Paused(None));
        assert_eq!(of(Ok((429, Some("7")))), Signal::Paused(Some(Duration::from_secs(7))));
        assert_eq!(of(Ok((503, Some("7000")))), Signal::Paused(Some(Duration::from_secs(60))));
    }

    #[test]
    fn a_wish_beside_another_status_pauses_no_circuit() {
        assert_eq!(of(Ok((502, Some("7")))), Signal::Error);
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
        // The limit shrinks, so that fewer leads are lost while it fails for good.
        assert_eq!(ruled(Ok((502, None)), &rules), Signal::Error);
    }
}

use std::collections::HashSet;

use super::*;
use crate::egress::Refusal;

const DAY: Duration = Duration::from_secs(86_400);

fn answered(status: u16, retry_after: Option<&str>) -> Exchange {
    let retry_after = retry_after.map(str::to_owned);
    Exchange {
        result: Ok(Answer { status, retry_after, snippet: None, incomplete: false }),
        elapsed: Duration::ZERO,
        replaced: false,
    }
}

fn faulty(fault: Fault) -> Exchange {
    Exchange::without_answer(fault, Duration::ZERO)
}

fn verdict(exchange: &Exchange) -> Outcome {
    judge(exchange, SystemTime::UNIX_EPOCH, DAY)
}

#[test]
fn only_2xx_is_delivered() {
    for status in 100..=999 {
        let delivered = verdict(&answered(status, None)) == Outcome::Delivered;
        assert_eq!(delivered, (200..=299).contains(&status), "{status}");
    }
}

#[test]
fn every_status_that_is_special() {
    let retried = [
        (300, RetryReason::Redirect),
        (301, RetryReason::Redirect),
        (304, RetryReason::Redirect),
        (308, RetryReason::Redirect),
        (400, RetryReason::Status),
        (401, RetryReason::Status),
        (404, RetryReason::Status),
        (409, RetryReason::Status),
        (429, RetryReason::Pushback),
        (500, RetryReason::Status),
        (502, RetryReason::Status),
        (503, RetryReason::Pushback),
        (101, RetryReason::Status),
        (999, RetryReason::Status),
    ];
    for (status, reason) in retried {
        assert_eq!(verdict(&answered(status, None)), Outcome::Retry { reason, not_before: None }, "{status}");
    }
    assert_eq!(verdict(&answered(410, Some("5"))), Outcome::Never(FailReason::Gone));
}

#[test]
fn retry_after_counts_on_429_and_503_only() {
    for status in [429, 503] {
        let Outcome::Retry { not_before, .. } = verdict(&answered(status, Some("7"))) else { panic!("{status}") };
        assert_eq!(not_before, Some(Duration::from_secs(7)), "{status}");
    }
    for status in [301, 500, 502, 404] {
        let Outcome::Retry { not_before, .. } = verdict(&answered(status, Some("7"))) else { panic!("{status}") };
        assert_eq!(not_before, None, "{status}");
    }
}

#[test]
fn retry_after_is_capped_and_nonsense_is_ignored() {
    let pushed = |value| match verdict(&answered(429, Some(value))) {
        Outcome::Retry { not_before, .. } => not_before,
        other => panic!("{other:?}"),
    };
    assert_eq!(pushed("999999999"), Some(DAY));
    assert_eq!(pushed("Thu, 01 Jan 1970 00:00:09 GMT"), Some(Duration::from_secs(9)));
    assert_eq!(pushed("soon"), None);
}

#[test]
fn forbidden_and_unusable_are_final_and_all_other_faults_are_not() {
    for fault in Fault::all() {
        let is_final = matches!(verdict(&faulty(fault)), Outcome::Never(_));
        assert_eq!(
            is_final,
            matches!(fault, Fault::ForbiddenAddress(_) | Fault::PlainHttp | Fault::UnusableTarget),
            "{fault}"
        );
    }
}

#[test]
fn a_retried_fault_and_its_reason_share_their_name() {
    for fault in Fault::all() {
        match verdict(&faulty(fault)) {
            Outcome::Retry { reason, not_before } => assert_eq!((reason.label(), not_before), (fault.label(), None)),
            Outcome::Never(reason) => assert_eq!(reason.label(), fault.label()),
            Outcome::NotMade => assert!(matches!(fault, Fault::Proxy | Fault::Local), "{fault}"),
            Outcome::Delivered => panic!("{fault} is no delivery"),
        }
    }
}

#[test]
fn classes_of_answers_and_faults() {
    let classes =
        [(200, "2xx"), (204, "2xx"), (301, "3xx"), (404, "4xx"), (503, "5xx"), (101, "other"), (700, "other")];
    for (status, class) in classes {
        assert_eq!(answered(status, None).class(), class);
        assert_eq!(answered(status, None).status(), Some(status));
    }
    assert_eq!(faulty(Fault::ForbiddenAddress(Refusal::Denied)).class(), "forbidden_address");
    assert_eq!(faulty(Fault::Connect).status(), None);
}

#[test]
fn labels_are_distinct_snake_case_and_come_back() {
    let snake = |label: &str| label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let retries: HashSet<_> = RetryReason::all().into_iter().map(RetryReason::label).collect();
    let fails: HashSet<_> = FailReason::ALL.map(FailReason::label).into();
    let faults: HashSet<_> = Fault::all().into_iter().map(Fault::label).collect();
    assert_eq!((retries.len(), fails.len(), faults.len()), (25, 11, 27));
    assert!(retries.iter().chain(&fails).chain(&faults).all(|label| snake(label)));
    for reason in FailReason::ALL {
        assert_eq!(FailReason::parse(reason.label()), Some(reason));
    }
    assert_eq!(FailReason::parse("Exhausted"), None);
    assert_eq!(FailReason::parse(""), None);
}

#[test]
fn every_meaning_is_one_sentence_that_says_what_to_do() {
    let verbs = ["replay", "discard"];
    for reason in FailReason::ALL {
        let meaning = reason.meaning();
        assert!(meaning.ends_with('.') && meaning.matches(". ").count() == 0, "{meaning}");
        assert!(verbs.iter().any(|verb| meaning.contains(verb)), "{meaning}");
        assert!(!meaning.contains("  "), "{meaning}");
    }
}

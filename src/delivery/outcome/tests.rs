use std::collections::HashSet;

use bytes::Bytes;

use super::*;
use crate::egress::Refusal;

const DAY: Duration = Duration::from_secs(86_400);

fn answered(status: u16, retry_after: Option<&str>) -> Exchange {
    let retry_after = retry_after.map(str::to_owned);
    with(Answer { status, retry_after, ..Answer::default() })
}

fn with(answer: Answer) -> Exchange {
    Exchange::new(Ok(answer), Duration::ZERO)
}

fn faulty(fault: Fault) -> Exchange {
    Exchange::new(Err(fault), Duration::ZERO)
}

fn verdict(exchange: &Exchange) -> Outcome {
    ruled(exchange, &Rules::default())
}

fn ruled(exchange: &Exchange, rules: &Rules) -> Outcome {
    judge(exchange, rules, SystemTime::UNIX_EPOCH, DAY)
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
fn retry_after_counts_on_every_retried_status() {
    for status in [101, 301, 400, 404, 429, 500, 502, 503, 999] {
        let Outcome::Retry { not_before, .. } = verdict(&answered(status, Some("7"))) else { panic!("{status}") };
        assert_eq!(not_before, Some(Duration::from_secs(7)), "{status}");
    }
    let unreadable = Answer { status: 200, retry_after: Some("7".into()), ..Answer::default() };
    let wish = Some(Duration::from_secs(7));
    let again = Outcome::Retry { reason: RetryReason::AnswerUnreadable, not_before: wish };
    assert_eq!(ruled(&with(unreadable), &success()), again);
}

fn retried(reason: RetryReason) -> Outcome {
    Outcome::Retry { reason, not_before: None }
}

#[test]
fn accepted_statuses_are_delivered_and_never_retried_ones_fail_at_once() {
    let rules = Rules {
        accept: [302, 409, 410, 429, 503].into_iter().collect(),
        never_retry: [301, 404, 422, 500].into_iter().collect(),
        ..Rules::default()
    };
    for status in [200, 204, 302, 409, 410, 429, 503] {
        assert_eq!(ruled(&answered(status, Some("7")), &rules), Outcome::Delivered, "{status}");
    }
    for status in [301, 404, 422, 500] {
        assert_eq!(ruled(&answered(status, None), &rules), Outcome::Never(FailReason::NeverRetry), "{status}");
    }
    assert_eq!(ruled(&answered(400, None), &rules), retried(RetryReason::Status));
    let gone = Rules { never_retry: [410].into_iter().collect(), ..Rules::default() };
    assert_eq!(ruled(&answered(410, None), &gone), Outcome::Never(FailReason::Gone));
}

/// `accept_if: { json: /success, equals: true }`, and 409 in `accept`.
fn success() -> Rules {
    let condition = super::super::rules::Condition { pointer: "/success".into(), equals: true.into() };
    Rules { accept: [409].into_iter().collect(), accept_if: Some(condition.into()), ..Rules::default() }
}

#[test]
fn the_body_of_a_2xx_decides_where_the_target_says_so() {
    let judged = |status, body: Option<&'static str>, incomplete| {
        let body = body.map(Bytes::from);
        ruled(&with(Answer { status, body, incomplete, ..Answer::default() }), &success())
    };
    let (yes, no) = (Some(r#"{"success": true}"#), Some(r#"{"success": false}"#));
    assert_eq!(judged(200, yes, false), Outcome::Delivered);
    assert_eq!(judged(202, no, false), Outcome::Refused);
    assert_eq!(judged(200, Some("{}"), false), Outcome::Refused);
    for (body, incomplete) in [(yes, true), (no, true), (Some("<html>"), false), (Some(""), false), (None, false)] {
        assert_eq!(judged(200, body, incomplete), retried(RetryReason::AnswerUnreadable), "{body:?}");
    }
    assert_eq!(judged(409, no, false), Outcome::Delivered, "a status in `accept` needs no body");
    assert_eq!(judged(500, yes, false), retried(RetryReason::Status));
}

#[test]
fn an_answer_that_is_incomplete_counts_by_its_status() {
    let answer = |status| with(Answer { status, incomplete: true, ..Answer::default() });
    assert_eq!(verdict(&answer(200)), Outcome::Delivered);
    assert_eq!(verdict(&answer(500)), retried(RetryReason::Status));
}

#[test]
fn a_bot_challenge_is_not_an_answer_of_the_receiver() {
    let lists =
        Rules { accept: [403].into_iter().collect(), never_retry: [503].into_iter().collect(), ..Rules::default() };
    let challenged = |status| with(Answer { status, challenge: true, ..Answer::default() });
    for status in [403, 503] {
        assert_eq!(ruled(&challenged(status), &lists), retried(RetryReason::BotChallenge), "{status}");
    }
    assert_eq!(verdict(&challenged(404)), retried(RetryReason::Status));
    assert_eq!(verdict(&challenged(200)), Outcome::Delivered);
}

#[test]
fn only_a_redirect_says_where_to() {
    let answer = |status| with(Answer { status, location: Some("https://b.example".into()), ..Answer::default() });
    assert_eq!(answer(308).detail().as_deref(), Some("redirect to https://b.example"));
    assert_eq!(answer(201).detail(), None);
    assert_eq!(answered(302, None).detail(), None);
    assert_eq!(faulty(Fault::Connect).detail(), None);
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
            Outcome::NotMade => assert!(matches!(fault, Fault::Proxy | Fault::ProxyRefused | Fault::Local), "{fault}"),
            Outcome::Delivered | Outcome::Refused => panic!("{fault} must not count as delivered or refused"),
        }
    }
}

#[test]
fn classes_of_answers_and_faults() {
    let classes = [(200, "2xx"), (204, "2xx"), (301, "3xx"), (404, "4xx"), (503, "5xx"), (101, "1xx"), (700, "other")];
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
    assert_eq!((retries.len(), fails.len(), faults.len()), (28, 13, 29));
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

/// The receiver refused the token, and not the lead.
#[test]
fn a_401_is_final_only_without_a_token() {
    let judged = |token| {
        let rules = Rules { never_retry: [401].into_iter().collect(), token, ..Rules::default() };
        judge(&answered(401, None), &rules, SystemTime::now(), DAY)
    };
    assert_eq!(judged(false), Outcome::Never(FailReason::NeverRetry));
    assert!(matches!(judged(true), Outcome::Retry { reason: RetryReason::Status, .. }));
}

//! Pages show the values that they are given, and no value becomes markup.

use bytes::Bytes;
use jiff::Timestamp;
use maud::Markup;

use super::{
    Frame,
    preview::Preview,
    rejected::{self, Difference, Form},
    search::Result as Found,
};
use crate::{
    console::{
        door::Visitor,
        log::{Answer, Reach, Story},
        query::Query,
        queue,
        watch::{Queues, Sight, Worker},
        work::{Kind, State, Work},
    },
    dead_letters::{
        filter::Filter,
        listing::Listing,
        record::Record,
        repair::Change,
        stats::{Causes, Stats},
    },
    delivery_log::{Delivered, Deliveries, Entry, What},
    job::{History, HistoryEntry, Job},
    limits::{self, View},
    settings::Role,
};

/// A hostile text for every field that a client can set.
const EVIL: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;</title>";

fn frame(role: Role) -> Frame {
    Frame { visitor: Visitor { name: EVIL.to_owned(), role }, token: "t0ken".to_owned(), now: Timestamp::now() }
}

/// Checks that the hostile text is not markup, and that it can be read.
fn check(page: &Markup) -> String {
    let page = page.clone().into_string();
    for evil in ["<script>", "<img", "onerror=alert(1)>", "'><", "</title><"] {
        let without = page.replace("<title>", "");
        assert!(!without.contains(evil) || evil == "</title><", "{evil} in {page}");
    }
    assert_eq!(page.matches("</title>").count(), 1);
    assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
    page
}

fn evil_job() -> Job {
    let own = || EVIL.to_owned();
    let mut history = History::default();
    history.push(HistoryEntry {
        at: Timestamp::UNIX_EPOCH,
        attempt: 1,
        outcome: own(),
        reason: own(),
        status: Some(500),
        ms: 12,
        detail: None,
        snippet: Some(own()),
    });
    let body = serde_json::json!({ "event": EVIL, "leadId": EVIL, "data": { EVIL: EVIL } }).to_string();
    Job {
        webhook_id: own(),
        lead: Some(own()),
        submission: Some(own()),
        organization: own(),
        campaign: own(),
        history,
        body: Bytes::from(body),
        ..crate::dead_letters::record::tests::job()
    }
}

fn evil_record() -> Record {
    let reason = crate::dead_letters::record::Reason::Newer(EVIL.to_owned());
    Record { content: Ok(evil_job()), reason, detail: Some(EVIL.to_owned()), failed_at: None, deliveries: 0 }
}

fn looked() -> queue::Looked {
    let (mut listing, mut stats) = (Listing::new(Filter::default(), 10), Stats::default());
    let headers = lapin::BasicProperties::default().with_message_id(EVIL.into()).with_type(EVIL.into());
    for record in [evil_record(), Record::read(&headers, Bytes::new())] {
        listing.add(&record);
        stats.add(&record);
    }
    queue::Looked::for_tests(listing, stats.rows(), vec![EVIL.to_owned()])
}

fn evil_rejected() -> Record {
    let headers = lapin::BasicProperties::default().with_message_id(EVIL.into()).with_type(EVIL.into());
    let reason = crate::dead_letters::record::Reason::Newer(EVIL.to_owned());
    Record { reason, detail: Some(EVIL.to_owned()), ..Record::read(&headers, Bytes::new()) }
}

fn rejected() -> queue::Rejected {
    let (mut listing, mut causes) = (Listing::new(Filter::default(), 10), Causes::default());
    listing.add(&evil_rejected());
    causes.add(&evil_rejected());
    let lines = listing.unreadable().to_vec();
    queue::Rejected { causes: causes.list(), lines, present: 1, notes: vec![EVIL.to_owned()] }
}

#[test]
fn hostile_content_stays_text_on_every_page() {
    let query =
        Query::default().with(&[("q", Some(EVIL)), ("since", Some(EVIL)), ("lead", Some(EVIL)), ("id", Some(EVIL))]);
    let looked = looked();
    let circuit = View {
        organization: EVIL.to_owned(),
        origin: EVIL.to_owned(),
        state: limits::State::Failing,
        in_flight: 1,
        limit: 2,
        answers_per_second: 0.5,
        deferred: 3,
        paused_for_seconds: 4,
        answers: true,
        cause: None,
    };
    let sight = Sight {
        at: Some(Timestamp::UNIX_EPOCH),
        queues: Queues { failed: Some(3), delays: vec![(std::time::Duration::from_secs(2), 5)], ..Queues::default() },
        broker_problem: Some(EVIL.to_owned()),
        worker: Some(Worker { circuits: vec![circuit], ..Worker::default() }),
        worker_problem: Some(EVIL.to_owned()),
    };
    let evil = || Some(EVIL.into());
    let mut deliveries = Deliveries::new(9, Vec::new(), None);
    let entry = Entry {
        id: evil(),
        event: evil(),
        lead: evil(),
        submission: evil(),
        campaign: evil(),
        organization: evil(),
        target: evil(),
        attempt: Some(1),
        error: evil(),
        note: evil(),
        reason: evil(),
        by: evil(),
        revision: evil(),
        ..Entry::new(What::Failed, Timestamp::UNIX_EPOCH)
    };
    deliveries.add(&entry);
    let (found, more) = deliveries.finish();
    let reach = Reach { broken_off_at: Some(Timestamp::UNIX_EPOCH), ..Reach::default() };
    let answer = Answer { deliveries: found, more, records: 1, reach };
    let story =
        Story { records: vec![(EVIL.to_owned(), entry)], left_out: 1, reach, since: Some(Timestamp::UNIX_EPOCH) };
    for role in [Role::Read, Role::Act] {
        let frame = frame(role);
        check(&super::overview::page(&frame, &sight, Some(&looked)));
        check(&super::search::page(&frame, &query, Found::Found(&answer, Timestamp::UNIX_EPOCH)));
        check(&super::search::page(&frame, &query, Found::Wrong(EVIL.to_owned())));
        check(&super::delivery::page(&frame, EVIL, &story));
        check(&super::failed::page(&frame, &query, Some(&looked), &[EVIL.to_owned()]));
        check(&super::settings::page(&frame, &query, None, &[EVIL.to_owned()]));
        check(&frame.trouble(EVIL, EVIL));
        for state in [
            State::Running,
            State::Done(vec![EVIL.into()]),
            State::Partly(vec![EVIL.into()]),
            State::Refused(EVIL.into()),
        ] {
            check(&super::work::page(&frame, &Work::for_tests(Kind::Replay { rate: None }, state)));
        }
        for action in ["replay", "discard"] {
            let directory = Some(std::path::Path::new(EVIL));
            let notes = vec![EVIL.to_owned()];
            let preview = Preview {
                action,
                query: &query,
                times: (None, None),
                by_id: true,
                count: 2,
                notes,
                unreadable: 1,
                directory,
            };
            check(&super::preview::page(&frame, &preview));
        }
        let rejected = rejected();
        check(&super::rejected::list(&frame, &query.with(&[("reason", Some(EVIL))]), &rejected));
        let form = Form {
            action: EVIL.into(),
            field: EVIL.into(),
            how: EVIL.into(),
            value: EVIL.into(),
            organization: EVIL.into(),
        };
        let change = Change { field: EVIL.into(), how: "changed", was: Some(EVIL.into()), now: Some(EVIL.into()) };
        let misplaced = Some(crate::store::Misplaced::UnknownCampaign);
        for difference in [
            None,
            Some(Difference::Unusable(EVIL.into())),
            Some(Difference::Usable { changes: vec![change], misplaced }),
        ] {
            let directory = Some(std::path::Path::new(EVIL));
            check(&super::rejected::preview(
                &frame,
                &rejected::Preview { id: EVIL, form: &form, difference, directory },
            ));
        }
        for revealed in [false, true] {
            let found = queue::Found { body: evil_job().body, record: evil_rejected(), copies: 2, delivered: None };
            check(&super::rejected::message(&frame, EVIL, &found, 1 << 20, revealed));
            let delivered = Some(Delivered::Unknown);
            let found = queue::Found { body: evil_job().body, record: evil_record(), copies: 2, delivered };
            check(&super::job::page(&frame, EVIL, &found, revealed));
        }
    }
}

#[test]
fn the_data_of_a_lead_is_masked_until_asked_for() {
    let job = crate::dead_letters::record::tests::job();
    let body = Bytes::from_static(br#"{"leadId":"l1","data":{"email":"john@example.com"}}"#);
    let mut history = History::default();
    let snippet = Some("john@example.com".to_owned());
    let (outcome, reason) = ("failed".to_owned(), "status".to_owned());
    history.push(HistoryEntry {
        at: Timestamp::UNIX_EPOCH,
        attempt: 1,
        outcome,
        reason,
        status: Some(500),
        ms: 1,
        detail: None,
        snippet,
    });
    let record =
        crate::dead_letters::record::tests::record(&Job { history, ..job }, crate::delivery::reason::FailReason::Gone);
    let found = queue::Found { body, record, copies: 1, delivered: None };
    for (role, revealed, shown) in [(Role::Read, false, false), (Role::Act, false, false), (Role::Act, true, true)] {
        let page = super::job::page(&frame(role), "wh_x", &found, revealed).into_string();
        assert_eq!(page.contains("john@example.com"), shown);
    }
}

#[test]
fn a_payload_that_is_too_large_for_an_event_is_not_shown() {
    let body = Bytes::from_static(br#"{"leadId":"l1","data":{}}"#);
    for (largest, shown) in [(body.len(), true), (body.len() - 1, false)] {
        for revealed in [false, true] {
            let found = queue::Found { body: body.clone(), record: evil_rejected(), copies: 1, delivered: None };
            let page = super::rejected::message(&frame(Role::Act), "m", &found, largest, revealed).into_string();
            assert_eq!((page.contains("l1"), page.contains("<pre")), (shown, shown));
            assert_eq!(page.contains("25 bytes are too large") && page.contains("rejected export"), !shown);
        }
    }
}

#[test]
fn a_reader_is_shown_no_form_that_acts() {
    let looked = looked();
    for (role, acts) in [(Role::Read, false), (Role::Act, true)] {
        let page = super::failed::page(&frame(role), &Query::default(), Some(&looked), &[]).into_string();
        assert_eq!(page.contains("name=\"action\""), acts);
        let delivered = None;
        let found = queue::Found { body: evil_job().body, record: evil_record(), copies: 1, delivered };
        let page = super::job::page(&frame(role), "wh_x", &found, false).into_string();
        assert_eq!((page.contains("method=\"post\""), page.contains("t0ken")), (acts, acts));
        let found = queue::Found { body: evil_job().body, record: evil_rejected(), copies: 1, delivered: None };
        let page = super::rejected::message(&frame(role), "m", &found, 1 << 20, false).into_string();
        assert_eq!((page.contains("method=\"post\""), page.contains("t0ken")), (acts, acts));
    }
}

/// Escaping holds by construction if no page bypasses it. The content security policy needs pages without inline
/// scripts and styles.
#[test]
fn nothing_is_pre_escaped() {
    let room = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console");
    let mut looked_at = 0;
    for directory in [room.clone(), room.join("pages")] {
        for file in std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()) {
            let is_test = file.ends_with("tests.rs");
            if file.extension().is_none_or(|kind| kind != "rs") || is_test {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<String>();
            for word in ["PreEscaped", " style=", "onclick", "javascript:"] {
                assert!(!code.contains(word), "{word} in {}", file.display());
            }
            looked_at += 1;
        }
    }
    assert!(looked_at > 15, "{looked_at}");
}

use std::{collections::BTreeMap, time::Duration};

use super::{Kind, Metrics, catalogue};
use crate::delivery::{
    exchange::{Answer, Exchange},
    fault::Fault,
};

fn answered(status: u16) -> Exchange {
    Exchange::new(Ok(Answer { status, ..Answer::default() }), Duration::from_millis(30))
}

fn fault(fault: Fault) -> Exchange {
    Exchange::new(Err(fault), Duration::from_millis(30))
}

/// Uses each metric once, so that every family has a sample.
fn busy() -> std::sync::Arc<Metrics> {
    let metrics = Metrics::new();
    metrics.event_dispatched(2);
    metrics.direct_attempt();
    metrics.event_without_target("disabled");
    metrics.event_rejected("not_json");
    metrics.event_irregular("timestamp");
    metrics.job_delivered();
    metrics.job_failed("gone");
    metrics.job_retry("status");
    metrics.job_deferred("saturated");
    metrics.attempt(&answered(204), "delivered");
    metrics.attempt(&fault(Fault::Panic), "retry");
    metrics.job_refused(true);
    metrics.event_lag(Duration::from_millis(20));
    metrics.due_lag(Duration::from_secs(2));
    drop(metrics.attempting());
    (0..3).for_each(|_| std::mem::forget(metrics.attempting()));
    metrics.publish_confirmed(Duration::from_millis(2));
    metrics.publish_failed("nacked");
    metrics.reconnected("jobs");
    metrics.store_revision("r1");
    metrics.store_loaded();
    metrics.set_queue_messages([("events", 1), ("failed", 7), ("delay.16000", 2), ("delay_20000", 3)]);
    metrics.set_not_empty(vec![("failed", Duration::from_secs(90))]);
    metrics.duplicate_suppressed();
    drop(metrics.suspect());
    metrics.child_died("alone");
    metrics.set_waiting_outcomes(4);
    metrics.set_policy_problems(2);
    metrics
}

#[tokio::test]
async fn the_scrape_and_the_catalogue_agree() {
    let page = busy().encode();
    let mut shown = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            shown.insert(name.to_owned(), kind.to_owned());
        }
    }
    for entry in catalogue() {
        let kind = shown.remove(entry.registered());
        assert_eq!(kind.as_deref(), Some(entry.kind.name()), "{}", entry.name);
        let sample = page.lines().find(|line| !line.starts_with('#') && line.starts_with(entry.name));
        let sample = sample.unwrap_or_else(|| panic!("no sample of {}", entry.name));
        for label in entry.labels {
            assert!(sample.contains(&format!("{label}=\"")), "{sample} should have the label {label}");
        }
        assert_eq!(entry.kind == Kind::Counter, entry.name.ends_with("_total"), "{}", entry.name);
        assert!(!entry.help.ends_with('.'), "{}", entry.name);
    }
    assert!(shown.is_empty(), "not in the catalogue: {shown:?}");
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn what_happened_is_what_is_counted() {
    let page = busy().encode();
    for line in [
        "leadhook_events_total{result=\"dispatched\"} 1",
        "leadhook_events_total{result=\"no_target\"} 1",
        "leadhook_events_total{result=\"rejected\"} 1",
        "leadhook_no_target_total{reason=\"disabled\"} 1",
        "leadhook_events_rejected_total{reason=\"not_json\"} 1",
        "leadhook_deliveries_total 2",
        "leadhook_jobs_total{outcome=\"delivered\",reason=\"\"} 1",
        "leadhook_jobs_total{outcome=\"failed\",reason=\"gone\"} 1",
        "leadhook_jobs_total{outcome=\"retry\",reason=\"status\"} 1",
        "leadhook_jobs_total{outcome=\"deferred\",reason=\"saturated\"} 1",
        "leadhook_attempts_total{class=\"2xx\",outcome=\"delivered\"} 1",
        "leadhook_attempts_total{class=\"panic\",outcome=\"retry\"} 1",
        "leadhook_attempt_seconds_count 2",
        "leadhook_panics_total 1",
        "leadhook_suspects_in_flight 0",
        "leadhook_child_deaths_total{child=\"alone\"} 1",
        "leadhook_attempts_in_flight 3",
        "leadhook_publish_failures_total{reason=\"nacked\"} 1",
        "leadhook_publish_failures_total{reason=\"lost\"} 0",
        "leadhook_reconnects_total{role=\"jobs\"} 1",
        "leadhook_queue_not_empty_seconds{queue=\"failed\"} 90",
        "leadhook_queue_not_empty_seconds{queue=\"rejected\"} 0",
        "leadhook_store_info{revision=\"r1\"} 1",
        "leadhook_store_last_reload_success 1",
        "leadhook_queue_messages{queue=\"failed\"} 7",
        "leadhook_queue_messages{queue=\"delay_16000\"} 2",
        "leadhook_retries_waiting 5",
        "leadhook_duplicates_suppressed_total 1",
        "leadhook_waiting_outcomes 4",
        "leadhook_broker_policy_problems 2",
        concat!("leadhook_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(page.lines().any(|shown| shown == line), "missing: {line}\n{page}");
    }
}

#[test]
fn a_new_revision_and_vanished_queues_replace_the_old_ones() {
    let metrics = busy();
    metrics.store_revision("r2");
    metrics.store_revision("r2");
    metrics.store_refused();
    metrics.set_queue_messages([("events", 5)]);
    let page = metrics.encode();
    assert!(page.contains("leadhook_store_info{revision=\"r2\"} 1"));
    assert!(!page.contains("r1"));
    assert!(page.contains("leadhook_store_last_reload_success 0"));
    assert!(page.contains("leadhook_queue_messages{queue=\"events\"} 5"));
    assert!(!page.contains("leadhook_queue_messages{queue=\"failed\""));
    assert!(page.contains("leadhook_retries_waiting 0"));
}

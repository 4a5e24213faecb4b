//! Fail points: gaps between two steps of the protocol, where a test can kill the process or make a task panic.
//!
//! They exist in test builds only. The crate depends on itself for tests, which switches on the feature `failpoints`
//! (Cargo.toml). Without the feature, [`hit`] is an empty function. `leadhook --version` says `failpoints` if the build
//! has them.
//!
//! A test arms them with `LEADHOOK_FAILPOINTS`, a list of `point[:detail]=action[@n]` with `;` between:
//!
//! ```text
//! job.posted=kill@17                     SIGKILL to itself once the 17th attempt was answered
//! publish.sent:leadhook.jobs=kill@5      SIGKILL once the 5th job was written to the socket, before its confirm
//! job.posting:acme/SUS=abort             SIGABRT before each POST to that target: its message kills the process
//! job.posting:acme/SUS=panic             a panic before each POST to that target
//! ```
//!
//! The kill is a real SIGKILL and not an abort, so the kernel treats the process as in production. The library `fail`
//! was rejected: it can panic, sleep and return, but it can neither kill nor count to the n-th hit.

/// Every fail point, in the order in which an event passes them, with the state of the work at that point.
pub const POINTS: [(&str, &str); 17] = [
    ("event.taken", "an event was consumed"),
    ("event.resolved", "its targets are known, nothing is published (detail: campaign)"),
    ("event.posting", "the POST of a direct attempt is about to be made (detail: target key)"),
    ("event.posted", "the POST of a direct attempt was answered, nothing is settled (detail: target key)"),
    ("publish.sent", "a message was written to the socket, no confirm has come (detail: its queue)"),
    (
        "event.recorded",
        "delivered, or all that follows is confirmed, the event is not acked (detail: what became of its first delivery)",
    ),
    ("event.acked", "the ack of the event is on its way"),
    ("job.taken", "a job was consumed"),
    ("job.posting", "the POST is about to be made (detail: target key)"),
    ("job.posted", "the POST was answered, nothing is settled (detail: target key)"),
    ("job.recorded", "its successor, if any, is confirmed, the job is not acked (detail: the step)"),
    ("job.acked", "the ack of the job is on its way"),
    ("replay.taken", "a failed job is held, nothing is published"),
    ("replay.recorded", "the replayed job is confirmed, the failed one is not removed"),
    ("store.loaded", "a changed store was read and is not yet in use"),
    ("stop.asked", "SIGTERM has come, consumers still run"),
    ("stop.consumers_ended", "consumers have ended, attempts are in flight"),
];

/// The version that `leadhook --version` prints.
pub const VERSION: &str = if cfg!(feature = "failpoints") {
    concat!(env!("CARGO_PKG_VERSION"), " (a test build, with failpoints)")
} else {
    env!("CARGO_PKG_VERSION")
};

/// Runs the actions that are armed for this point. A rule can ask for one `detail`: a queue, a target or a kind of
/// step.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hit(_point: &str, _detail: &str) {}

#[cfg(feature = "failpoints")]
pub use armed::hit;

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };

    use super::POINTS;

    /// The environment variable that arms fail points.
    const VARIABLE: &str = "LEADHOOK_FAILPOINTS";

    enum Action {
        Kill,
        Abort,
        Panic,
    }

    struct Rule {
        point: String,
        detail: Option<String>,
        action: Action,
        /// The hit that triggers the action, counted from 1. Without it, every hit does.
        only: Option<u64>,
        hits: AtomicU64,
    }

    static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        text.split(';')
            .filter(|rule| !rule.is_empty())
            .map(|rule| parse(rule).unwrap_or_else(|| misspelt(rule)))
            .collect()
    });

    fn parse(rule: &str) -> Option<Rule> {
        let (place, action) = rule.split_once('=')?;
        let (point, detail) = match place.split_once(':') {
            Some((point, detail)) => (point, Some(detail.to_owned())),
            None => (place, None),
        };
        let (action, only) = match action.split_once('@') {
            Some((action, only)) => (action, Some(only.parse().ok()?)),
            None => (action, None),
        };
        let action = match action {
            "kill" => Action::Kill,
            "abort" => Action::Abort,
            "panic" => Action::Panic,
            _ => return None,
        };
        let known = POINTS.iter().any(|(name, _)| *name == point);
        known.then(|| Rule { point: point.to_owned(), detail, action, only, hits: AtomicU64::new(0) })
    }

    /// Ends the process: a test whose fault never happens would prove nothing.
    fn misspelt(rule: &str) -> ! {
        eprintln!("{VARIABLE}: `{rule}` is not a fail point");
        std::process::exit(2);
    }

    /// Runs the actions that are armed for this point. A rule can ask for one `detail`: a queue, a target or a kind of
    /// step.
    pub fn hit(point: &str, detail: &str) {
        let here = |rule: &&Rule| rule.point == point && rule.detail.as_deref().is_none_or(|wanted| wanted == detail);
        for rule in RULES.iter().filter(here) {
            let hits = rule.hits.fetch_add(1, Ordering::Relaxed) + 1;
            if rule.only.is_some_and(|only| only != hits) {
                continue;
            }
            match rule.action {
                Action::Kill => die(),
                Action::Abort => std::process::abort(),
                Action::Panic => panic!("fail point {point}"),
            }
        }
    }

    fn die() -> ! {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // Not reached: the signal is delivered before the call returns.
        std::process::abort();
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn rules_are_read_and_unknown_points_are_not() {
            let rule = parse("job.posted:acme/ABC=kill@17").unwrap();
            assert_eq!(
                (rule.point.as_str(), rule.detail.as_deref(), rule.only),
                ("job.posted", Some("acme/ABC"), Some(17))
            );
            assert!(matches!(parse("job.posting=panic").unwrap().action, Action::Panic));
            for wrong in ["job.posted", "job.posted=explode", "job.postet=kill", "job.posted=kill@x"] {
                assert!(parse(wrong).is_none(), "{wrong}");
            }
        }
    }
}

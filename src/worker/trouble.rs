//! When the log says that a target is in trouble, and when that it has recovered: one line each.
//!
//! The limits (`crate::fairness`) judge a circuit at each attempt, and a sick receiver changes its state many times a minute.
//! So the log looks every few seconds, and tells of a state only when it has lasted.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a circuit must be in trouble before the log says so: one slow answer is not news.
const LASTING: Duration = Duration::from_secs(10);

/// How long a circuit must be out of trouble before it counts as recovered.
const CALM: Duration = Duration::from_secs(30);

/// How long a circuit in trouble is remembered when no attempt is made on it any more.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// How one circuit looks.
pub(super) struct Look<'a> {
    /// `<organization> <origin>`.
    pub circuit: &'a Arc<str>,
    /// The state of a circuit in trouble: `failing` or `paused`.
    pub trouble: Option<&'static str>,
    /// It has answered since its start, or since its last trouble.
    pub answers: bool,
}

/// What the log has to say after a look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The circuit is in trouble.
    Begun { circuit: Arc<str>, state: &'static str },
    /// It answers again, after so long.
    Recovered { circuit: Arc<str>, after: Duration },
}

/// The circuits in trouble. Pure: `now` is an argument.
#[derive(Debug, Default)]
pub(super) struct Troubles(HashMap<Arc<str>, Trouble>);

#[derive(Debug)]
struct Trouble {
    since: Instant,
    /// When it was last seen in trouble.
    seen: Instant,
    /// The log has said so.
    told: bool,
}

impl Troubles {
    /// Compares all circuits with the looks before.
    pub(super) fn look<'a>(&mut self, looks: impl Iterator<Item = Look<'a>>, now: Instant) -> Vec<Change> {
        let since = |then| now.saturating_duration_since(then);
        let mut changes = Vec::new();
        for Look { circuit, trouble, answers } in looks {
            if let Some(state) = trouble {
                let begun = Trouble { since: now, seen: now, told: false };
                let known = self.0.entry(circuit.clone()).or_insert(begun);
                known.seen = now;
                if !known.told && since(known.since) >= LASTING {
                    known.told = true;
                    changes.push(Change::Begun { circuit: circuit.clone(), state });
                }
            } else if let Some(known) = self.0.get(circuit)
                && known.told
                && answers
                && since(known.seen) >= CALM
            {
                let after = known.seen.saturating_duration_since(known.since);
                changes.push(Change::Recovered { circuit: circuit.clone(), after });
                self.0.remove(circuit);
            }
        }
        self.0.retain(|_, known| if known.told { since(known.seen) < REMEMBERED } else { known.seen == now });
        changes
    }

    /// How many the log has told of and that have not recovered.
    pub(super) fn told(&self) -> usize {
        self.0.values().filter(|known| known.told).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILING: Option<&str> = Some("failing");

    /// The lines about one circuit that looks like this at these seconds: trouble, and whether it answers.
    fn lines(seen: &[(u64, Option<&'static str>, bool)]) -> Vec<String> {
        let (begun, circuit, mut troubles) = (Instant::now(), Arc::from("acme https://crm"), Troubles::default());
        let mut lines = Vec::new();
        for (second, trouble, answers) in seen {
            let look = Look { circuit: &circuit, trouble: *trouble, answers: *answers };
            let now = begun + Duration::from_secs(*second);
            lines.extend(troubles.look([look].into_iter(), now).into_iter().map(|change| match change {
                Change::Begun { state, .. } => format!("{second}: {state}"),
                Change::Recovered { after, .. } => format!("{second}: recovered after {}", after.as_secs()),
            }));
        }
        lines
    }

    #[test]
    fn one_line_when_it_begins_and_one_when_it_ends() {
        let mut seen: Vec<_> = (0..20).map(|n| (n * 5, FAILING, false)).collect();
        seen.extend((20..40).map(|n| (n * 5, None, true)));
        assert_eq!(lines(&seen), ["10: failing", "125: recovered after 95"]);
    }

    #[test]
    fn a_moment_of_trouble_is_not_told() {
        assert_eq!(lines(&[(0, FAILING, false), (5, FAILING, false), (10, None, true), (50, None, true)]), [""; 0]);
        assert_eq!(lines(&[(0, FAILING, false), (5, None, true), (10, FAILING, false)]), [""; 0], "each by itself");
    }

    #[test]
    fn a_relapse_is_the_same_trouble() {
        let seen = [(0, FAILING, false), (10, FAILING, false), (20, None, true), (45, Some("paused"), true)];
        assert_eq!(lines(&seen), ["10: failing"]);
        let more = [(50, None, true), (74, None, true), (75, None, true)];
        assert_eq!(lines(&[&seen[..], &more[..]].concat()), ["10: failing", "75: recovered after 45"]);
    }

    #[test]
    fn only_an_answer_is_a_recovery() {
        let quiet = (2..400).map(|n| (n * 5, None, false));
        let seen: Vec<_> = [(0, FAILING, false), (10, FAILING, false)].into_iter().chain(quiet).collect();
        assert_eq!(lines(&seen), ["10: failing"]);
    }

    #[test]
    fn what_is_not_tried_any_more_is_forgotten_after_a_day() {
        let (begun, circuit, mut troubles) = (Instant::now(), Arc::from("acme https://crm"), Troubles::default());
        for second in [0, 10] {
            let look = Look { circuit: &circuit, trouble: FAILING, answers: false };
            troubles.look([look].into_iter(), begun + Duration::from_secs(second));
        }
        troubles.look(std::iter::empty(), begun + Duration::from_secs(3600));
        assert_eq!(troubles.told(), 1);
        troubles.look(std::iter::empty(), begun + Duration::from_secs(25 * 3600));
        assert_eq!(troubles.told(), 0);
    }
}

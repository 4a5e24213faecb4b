//! Decides when the log reports that a target is in trouble, and that it has recovered: one line each.
//!
//! The limits (`crate::limits`) judge a circuit at each attempt, and a sick receiver changes its state many times a
//! minute. So the log looks every few seconds, and reports a state only when it has lasted.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::limits::{State, View};

/// How long a circuit must be in trouble before the log reports it: one slow answer is not news.
const LASTING: Duration = Duration::from_secs(10);

/// How long a circuit must be out of trouble before it counts as recovered.
const CALM: Duration = Duration::from_secs(30);

/// How long a circuit in trouble is remembered after attempts at it have stopped.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// A change that the log reports after a look.
#[derive(Debug, PartialEq)]
pub(crate) enum Change {
    /// The circuit is in trouble.
    Begun { circuit: View },
    /// It answers again, after this time in trouble.
    Recovered { circuit: View, after: Duration },
}

/// The circuits in trouble. Pure: `now` is an argument.
#[derive(Debug, Default)]
pub(crate) struct Troubles(HashMap<(String, String), Trouble>);

#[derive(Debug)]
struct Trouble {
    since: Instant,
    /// When it was last seen in trouble.
    seen: Instant,
    /// Whether the log has reported it.
    told: bool,
}

impl Troubles {
    /// Compares all circuits with earlier looks, and returns the changes.
    pub(crate) fn look(&mut self, circuits: Vec<View>, now: Instant) -> Vec<Change> {
        let since = |then| now.saturating_duration_since(then);
        let mut changes = Vec::new();
        for circuit in circuits {
            let name = (circuit.organization.clone(), circuit.origin.clone());
            if matches!(circuit.state, State::Failing | State::Paused) {
                let known = self.0.entry(name).or_insert(Trouble { since: now, seen: now, told: false });
                known.seen = now;
                if !known.told && since(known.since) >= LASTING {
                    known.told = true;
                    changes.push(Change::Begun { circuit });
                }
            } else if let Some(known) = self.0.get(&name)
                && known.told
                && circuit.answers
                && since(known.seen) >= CALM
            {
                let after = known.seen.saturating_duration_since(known.since);
                changes.push(Change::Recovered { circuit, after });
                self.0.remove(&name);
            }
        }
        self.0.retain(|_, known| if known.told { since(known.seen) < REMEMBERED } else { known.seen == now });
        changes
    }

    /// Returns how many reported circuits have not recovered.
    pub(crate) fn told(&self) -> usize {
        self.0.values().filter(|known| known.told).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILING: State = State::Failing;
    const HEALTHY: State = State::Healthy;

    fn circuit(state: State, answers: bool) -> View {
        View {
            organization: "acme".to_owned(),
            origin: "https://crm".to_owned(),
            state,
            in_flight: 0,
            limit: 4,
            answers_per_second: 0.0,
            deferred: 0,
            paused_for_seconds: 0,
            answers,
            cause: None,
        }
    }

    /// Returns the lines about one circuit, given its state and whether it answers at these seconds.
    fn lines(seen: &[(u64, State, bool)]) -> Vec<String> {
        let (begun, mut troubles) = (Instant::now(), Troubles::default());
        let mut lines = Vec::new();
        for (second, state, answers) in seen {
            let now = begun + Duration::from_secs(*second);
            let changes = troubles.look(vec![circuit(*state, *answers)], now);
            lines.extend(changes.into_iter().map(|change| match change {
                Change::Begun { circuit } => format!("{second}: {}", circuit.state.label()),
                Change::Recovered { after, .. } => format!("{second}: recovered after {}", after.as_secs()),
            }));
        }
        lines
    }

    #[test]
    fn one_line_when_it_begins_and_one_when_it_ends() {
        let mut seen: Vec<_> = (0..20).map(|n| (n * 5, FAILING, false)).collect();
        seen.extend((20..40).map(|n| (n * 5, HEALTHY, true)));
        assert_eq!(lines(&seen), ["10: failing", "125: recovered after 95"]);
    }

    #[test]
    fn a_moment_of_trouble_is_not_told() {
        assert_eq!(
            lines(&[(0, FAILING, false), (5, FAILING, false), (10, HEALTHY, true), (50, HEALTHY, true)]),
            [""; 0]
        );
        assert_eq!(lines(&[(0, FAILING, false), (5, HEALTHY, true), (10, FAILING, false)]), [""; 0], "each by itself");
    }

    #[test]
    fn a_relapse_is_the_same_trouble() {
        let seen = [(0, FAILING, false), (10, FAILING, false), (20, HEALTHY, true), (45, State::Paused, true)];
        assert_eq!(lines(&seen), ["10: failing"]);
        let more = [(50, HEALTHY, true), (74, HEALTHY, true), (75, HEALTHY, true)];
        assert_eq!(lines(&[&seen[..], &more[..]].concat()), ["10: failing", "75: recovered after 45"]);
    }

    #[test]
    fn only_an_answer_is_a_recovery() {
        let quiet = (2..400).map(|n| (n * 5, HEALTHY, false));
        let seen: Vec<_> = [(0, FAILING, false), (10, FAILING, false)].into_iter().chain(quiet).collect();
        assert_eq!(lines(&seen), ["10: failing"]);
    }

    #[test]
    fn what_is_not_tried_any_more_is_forgotten_after_a_day() {
        let (begun, mut troubles) = (Instant::now(), Troubles::default());
        for second in [0, 10] {
            troubles.look(vec![circuit(FAILING, false)], begun + Duration::from_secs(second));
        }
        troubles.look(Vec::new(), begun + Duration::from_secs(3600));
        assert_eq!(troubles.told(), 1);
        troubles.look(Vec::new(), begun + Duration::from_secs(25 * 3600));
        assert_eq!(troubles.told(), 0);
    }
}

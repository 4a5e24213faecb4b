//! Counts the answers of the broker and describes them.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use crate::{
    broker::publisher::PublishError,
    cli::output::{human_duration, printable},
};

/// Counts answers. Keeps one error for each kind and routing key.
#[derive(Debug, Default)]
pub(super) struct Tally {
    confirmed: u64,
    not_done: BTreeMap<(&'static str, String), (u64, PublishError)>,
}

/// The answer of the command.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    events: u64,
    confirmed: u64,
    /// Events that were not sent, because they would have failed too.
    not_sent: u64,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Problem {
    reason: &'static str,
    routing_key: String,
    count: u64,
    explanation: String,
}

impl Tally {
    pub fn count(&mut self, routing_key: String, answer: Result<(), PublishError>) {
        match answer {
            Ok(()) => self.confirmed += 1,
            Err(error) => self.not_done.entry((error.label(), routing_key)).or_insert((0, error)).0 += 1,
        }
    }

    pub fn summary(self, exchange: &str, events: u64, elapsed: Duration, warnings: Vec<String>) -> Summary {
        let problem = |((reason, routing_key), (count, error)): ((&'static str, String), (u64, PublishError))| {
            let explanation = printable(&explanation(&error, exchange, &routing_key));
            Problem { reason, routing_key, count, explanation }
        };
        let problems: Vec<_> = self.not_done.into_iter().map(problem).collect();
        let answered = self.confirmed + problems.iter().map(|problem| problem.count).sum::<u64>();
        Summary {
            events,
            confirmed: self.confirmed,
            not_sent: events.saturating_sub(answered),
            problems,
            warnings,
            seconds: (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
        }
    }
}

impl Summary {
    pub fn all_confirmed(&self) -> bool {
        self.confirmed == self.events
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = human_duration(Duration::from_secs_f64(self.seconds));
        if self.all_confirmed() {
            return write!(f, "{} published and confirmed in {took}", events(self.events));
        }
        write!(f, "{} of {} confirmed in {took}", self.confirmed, events(self.events))?;
        for problem in &self.problems {
            let key = printable(&problem.routing_key);
            write!(f, "\n  {} with key {key}: {}", events(problem.count), problem.explanation)?;
        }
        if self.not_sent > 0 {
            write!(f, "\n  {} not sent after that", events(self.not_sent))?;
        }
        Ok(())
    }
}

fn explanation(error: &PublishError, exchange: &str, routing_key: &str) -> String {
    match error {
        PublishError::Returned { code: 312, .. } => format!(
            "no queue is bound to exchange {exchange} for key {routing_key}: run `leadhook topology apply`, \
             and see amqp.routing_keys for the keys that it binds"
        ),
        PublishError::ChannelClosed { code: 404, .. } => {
            format!(
                "the exchange {exchange} does not exist: run `leadhook topology apply`, and see amqp.exchange for its name"
            )
        }
        PublishError::ChannelClosed { code: 403, .. } => {
            format!("the user of amqp.urls may not write to exchange {exchange}")
        }
        PublishError::Nacked => {
            "refused by the broker: a queue is at its limit or has no leader now; publish them again later".to_owned()
        }
        PublishError::TimedOut => "not confirmed within amqp.confirm_timeout, but perhaps published".to_owned(),
        PublishError::Unclear | PublishError::Lost(_) => format!("{error}, but perhaps published"),
        PublishError::Returned { .. } | PublishError::ChannelClosed { .. } | PublishError::Unwanted => {
            error.to_string()
        }
    }
}

fn events(count: u64) -> String {
    if count == 1 { "1 event".to_owned() } else { format!("{count} events") }
}

//! Tells whether jobs on the failed queue were also delivered.
//!
//! A crash can fork a job: one copy is delivered while the other fails. Replaying the failed copy would send the
//! webhook again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use jiff::Timestamp;
use lapin::types::ShortString;
use memchr::memmem::Finder;

use super::{
    batch::Batch,
    entry::{Entry, What},
    reader::{self, LogError, LogReader, Progress, Start},
};
use crate::settings::Amqp;

/// The deliveries of some jobs, by the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Time of the oldest record; the log knows nothing before it. `None` if it knows nothing at all.
    from: Option<Timestamp>,
    delivered: BTreeMap<String, Timestamp>,
}

/// Whether a job was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It was delivered, first at this time.
    At(Timestamp),
    /// The log covers the life of the job, and has no delivery of it.
    Never,
    /// The log does not go back far enough, or does not exist.
    Unknown,
}

impl Known {
    /// Creates the value from its parts, for tests.
    pub fn new(from: Option<Timestamp>, delivered: BTreeMap<String, Timestamp>) -> Known {
        Known { from, delivered }
    }

    /// Returns whether the job of this id was delivered. `first_seen` is when a worker first saw its event.
    pub fn of(&self, id: &str, first_seen: Timestamp) -> Delivered {
        match (self.delivered.get(id), self.from) {
            (Some(at), _) => Delivered::At(*at),
            (None, Some(from)) if from <= first_seen => Delivered::Never,
            (None, _) => Delivered::Unknown,
        }
    }

    /// Reads the log from `since` on and notes which of `ids` were delivered.
    ///
    /// # Errors
    /// See [`LogError`].
    pub async fn read(
        amqp: &Amqp,
        stream: &ShortString,
        ids: &BTreeSet<&str>,
        since: Timestamp,
        progress: impl Fn(Progress),
    ) -> Result<Known, LogError> {
        let from = reader::oldest(amqp, stream).await?;
        let mut known = Known { from, delivered: BTreeMap::new() };
        let mut reader = LogReader::open(amqp, stream, Start::At(since)).await?;
        let mut word = String::new();
        let _ = write!(word, "\"what\":\"{}\"", What::Delivered.name());
        let delivered = Finder::new(&word);
        while let Some(message) = reader.next().await? {
            progress(reader.progress());
            let Some(batch) = Batch::read(&message) else { continue };
            for line in batch.lines().filter(|line| delivered.find(line).is_some()) {
                let Ok(entry) = serde_json::from_slice::<Entry<'_>>(line) else { continue };
                known.note(ids, &entry);
            }
        }
        reader.leave().await;
        Ok(known)
    }

    fn note(&mut self, ids: &BTreeSet<&str>, entry: &Entry<'_>) {
        let Some(id) = entry.id.as_deref().filter(|id| entry.what == What::Delivered && ids.contains(id)) else {
            return;
        };
        let first = self.delivered.entry(id.to_owned()).or_insert_with(|| entry.time());
        *first = entry.time().min(*first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_log_knows_nothing_of_what_was_before_it() {
        let known = Known::new(Some(at(10)), BTreeMap::from([("a".to_owned(), at(5))]));
        assert_eq!(known.of("a", at(1)), Delivered::At(at(5)));
        assert_eq!(known.of("b", at(9)), Delivered::Unknown);
        assert_eq!(known.of("b", at(10)), Delivered::Never);
        assert_eq!(Known::default().of("b", at(10)), Delivered::Unknown);
    }

    #[test]
    fn the_first_delivery_counts() {
        let mut known = Known::default();
        let ids = BTreeSet::from(["a"]);
        for (id, what, second) in
            [("a", What::Delivered, 7), ("a", What::Delivered, 5), ("a", What::Retry, 1), ("b", What::Delivered, 2)]
        {
            known.note(&ids, &Entry { id: Some(id.into()), ..Entry::new(what, at(second)) });
        }
        assert_eq!(known.delivered, BTreeMap::from([("a".to_owned(), at(5))]));
    }
}

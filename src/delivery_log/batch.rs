//! Records of the same moment share a message: a heading line that names the writer, then one JSON object per line.
//!
//! A message whose confirm is lost is published again, so a reader may see it twice. Each writer numbers its messages
//! and publishes one at a time. After number 7 of a writer, every number up to 7 is a repeat ([`Seen`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::entry::Entry;

/// The version of the format that this code writes.
const VERSION: u32 = 1;

/// The first line of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heading {
    /// Version of the format.
    v: u32,
    /// Name of the writing process, unique to this run.
    pub writer: String,
    /// Number of the message within its writer, from 1.
    pub number: u64,
}

/// Returns a message: the heading line, then the records.
pub fn message(writer: &str, number: u64, records: &[u8]) -> Vec<u8> {
    let heading = Heading { v: VERSION, writer: writer.to_owned(), number };
    // Serializing a struct of numbers and text cannot fail.
    let mut message = serde_json::to_vec(&heading).unwrap_or_default();
    message.push(b'\n');
    message.extend_from_slice(records);
    message
}

/// Appends a record as a line of JSON. Omits a record that cannot be serialized.
pub fn add(records: &mut Vec<u8>, entry: &Entry<'_>) {
    let before = records.len();
    match serde_json::to_writer(&mut *records, entry) {
        Ok(()) => records.push(b'\n'),
        Err(_) => records.truncate(before),
    }
}

/// A message whose heading is decoded, and whose records are not.
pub struct Batch<'a> {
    /// The writer and its number.
    pub heading: Heading,
    records: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Reads a message. Returns `None` if it is not one of the delivery log, or has another format version.
    pub fn read(message: &'a [u8]) -> Option<Batch<'a>> {
        let end = message.iter().position(|byte| *byte == b'\n')?;
        let heading: Heading = serde_json::from_slice(&message[..end]).ok()?;
        (heading.v == VERSION).then(|| Batch { heading, records: &message[end + 1..] })
    }

    /// Returns the records in the order in which they were written. Skips lines that cannot be read.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        self.lines().filter_map(|line| serde_json::from_slice(line).ok())
    }

    /// Returns the lines of the records, undecoded.
    pub fn lines(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.records.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
    }
}

/// The highest message number read from each writer.
#[derive(Debug, Default)]
pub struct Seen(BTreeMap<String, u64>);

impl Seen {
    /// Notes a message. Returns `false` if it was read before.
    pub fn note(&mut self, heading: &Heading) -> bool {
        match self.0.get_mut(&heading.writer) {
            Some(last) if *last >= heading.number => false,
            Some(last) => {
                *last = heading.number;
                true
            }
            None => {
                self.0.insert(heading.writer.clone(), heading.number);
                true
            }
        }
    }
}

/// Returns a name that is unique to this run of the process: host, process id and a random number.
pub(super) fn writer() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "localhost".into());
    format!("{host}/{}/{:08x}", std::process::id(), fastrand::u32(..))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::delivery_log::What;

    fn entry(lead: &str) -> Entry<'_> {
        Entry { lead: Some(lead.into()), ..Entry::new(What::Retry, Timestamp::UNIX_EPOCH) }
    }

    #[test]
    fn what_was_written_is_read() {
        let mut records = Vec::new();
        for lead in ["a", "quote \" and \n line", "ü"] {
            add(&mut records, &entry(lead));
        }
        let message = message("w", 7, &records);
        let batch = Batch::read(&message).unwrap();
        assert_eq!((batch.heading.writer.as_str(), batch.heading.number), ("w", 7));
        let leads: Vec<_> = batch.entries().map(|entry| entry.lead.unwrap().into_owned()).collect();
        assert_eq!(leads, ["a", "quote \" and \n line", "ü"]);
    }

    #[test]
    fn what_is_not_said_takes_no_room() {
        let mut records = Vec::new();
        add(&mut records, &Entry::new(What::NoTarget, Timestamp::UNIX_EPOCH));
        assert_eq!(records, b"{\"at\":0,\"what\":\"no_target\"}\n");
    }

    /// The reference text of `delivery_log.max_bytes` says how large a record is.
    #[test]
    fn a_record_is_as_large_as_the_reference_says() {
        let mut records = Vec::new();
        let attempt = Entry {
            id: Some("wh_614aed4cb0f94c6ea6ba1ef9ab42cd5e".into()),
            event: Some("lead.delivered".into()),
            lead: Some("lead_0a94ac470000".into()),
            submission: Some("sub_0a94ac470000".into()),
            campaign: Some("ABC".into()),
            organization: Some("acme".into()),
            target: Some("acme/ABC".into()),
            attempt: Some(1),
            of: Some(6),
            status: Some(200),
            ms: Some(120),
            revision: Some("4f5e6d7c8b9a".into()),
            ..Entry::new(What::Delivered, "2026-11-30T10:30:00Z".parse().unwrap())
        };
        add(&mut records, &attempt);
        let key = crate::settings::reference().iter().find(|key| key.name == "delivery_log.max_bytes").unwrap();
        let (_, said) = key.what.split_once("A record takes about ").unwrap();
        let said: usize = said.split(' ').next().unwrap().parse().unwrap();
        assert!(records.len().abs_diff(said) <= said / 8, "{} bytes, the reference says {said}", records.len());
    }

    #[test]
    fn foreign_messages_and_lines_are_passed_over() {
        assert!(Batch::read(b"").is_none());
        assert!(Batch::read(b"hello\nworld\n").is_none());
        assert!(Batch::read(b"{\"v\":2,\"writer\":\"w\",\"number\":1}\n").is_none());
        let batch =
            Batch::read(b"{\"v\":1,\"writer\":\"w\",\"number\":1}\nnonsense\n{\"at\":1,\"what\":\"new\",\"x\":1}")
                .unwrap();
        let entries: Vec<_> = batch.entries().map(|entry| (entry.at, entry.what)).collect();
        assert_eq!(entries, [(1, What::Unknown)]);
    }

    #[test]
    fn a_message_that_was_published_twice_is_read_once() {
        let mut seen = Seen::default();
        let heading = |writer: &str, number| Heading { v: VERSION, writer: writer.to_owned(), number };
        let read = [("a", 1), ("b", 4), ("a", 1), ("a", 2), ("b", 4), ("b", 5)];
        assert_eq!(
            read.map(|(writer, number)| seen.note(&heading(writer, number))),
            [true, true, false, true, false, true]
        );
    }
}

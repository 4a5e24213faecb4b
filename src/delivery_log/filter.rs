//! Selects records of the delivery log.

use jiff::Timestamp;
use memchr::memmem::Finder;

use super::{batch::Batch, entry::Entry};
use crate::{event::EventKind, job::is_beginning};

/// All conditions that are set must hold. A record without the field does not match.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Beginning of a `webhook-id`, with or without `wh_`.
    pub id: Option<String>,
    /// The event's `leadId`.
    pub lead: Option<String>,
    /// The event's `submissionId`.
    pub submission: Option<String>,
    /// The event's campaign.
    pub campaign: Option<String>,
    /// The organization.
    pub organization: Option<String>,
    /// The whole target key.
    pub target: Option<String>,
    /// The event's kind.
    pub event: Option<EventKind>,
    /// At this time or later.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub before: Option<Timestamp>,
}

/// A filter that is ready to search many messages.
pub struct Search<'f> {
    filter: &'f Filter,
    needle: Option<Finder<'f>>,
}

impl Search<'_> {
    /// Calls `each` with the writer and the record, for each matching record of a message.
    pub fn through(&self, message: &[u8], mut each: impl FnMut(&str, &Entry<'_>)) {
        let found = |text: &[u8]| self.needle.as_ref().is_none_or(|needle| needle.find(text).is_some());
        if !found(message) {
            return;
        }
        let Some(batch) = Batch::read(message) else { return };
        for line in batch.lines().filter(|line| found(line)) {
            let Ok(entry) = serde_json::from_slice::<Entry<'_>>(line) else { continue };
            if self.filter.matches(&entry) {
                each(&batch.heading.writer, &entry);
            }
        }
    }
}

impl Filter {
    /// Prepares a search of many messages.
    pub fn search(&self) -> Search<'_> {
        Search { filter: self, needle: self.needle().map(Finder::new) }
    }

    /// Returns whether a record matches.
    pub fn matches(&self, entry: &Entry<'_>) -> bool {
        let is = |wanted: &Option<String>, found: &Option<std::borrow::Cow<'_, str>>| match wanted {
            None => true,
            Some(wanted) => found.as_deref() == Some(wanted),
        };
        is(&self.lead, &entry.lead)
            && is(&self.submission, &entry.submission)
            && is(&self.campaign, &entry.campaign)
            && is(&self.organization, &entry.organization)
            && is(&self.target, &entry.target)
            && self.id.as_ref().is_none_or(|said| entry.id.as_deref().is_some_and(|id| is_beginning(said, id)))
            && self.event.is_none_or(|event| entry.event.as_deref() == Some(event.name()))
            && self.since.is_none_or(|since| entry.at >= since.as_millisecond())
            && self.before.is_none_or(|before| entry.at < before.as_millisecond())
    }

    /// Returns a text that each matching record contains verbatim, so that other records need no parsing. It is the
    /// most selective condition that JSON does not escape. Returns `None` if there is none.
    fn needle(&self) -> Option<&str> {
        let plain = |text: &&str| text.chars().all(|c| !c.is_control() && c != '"' && c != '\\') && !text.is_empty();
        let asked = [&self.id, &self.submission, &self.lead, &self.target, &self.campaign, &self.organization];
        asked.into_iter().filter_map(Option::as_deref).find(plain)
    }

    /// Returns whether it selects by a lead, a submission or a job.
    pub fn is_narrow(&self) -> bool {
        self.id.is_some() || self.lead.is_some() || self.submission.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery_log::What;

    #[test]
    fn each_part_of_a_filter_counts() {
        let entry = Entry {
            id: Some("wh_abcdef".into()),
            lead: Some("l".into()),
            submission: Some("s".into()),
            campaign: Some("c".into()),
            organization: Some("o".into()),
            target: Some("o/c".into()),
            event: Some("lead.failed".into()),
            ..Entry::new(What::Retry, Timestamp::from_second(100).unwrap())
        };
        let some = |text: &str| Some(text.to_owned());
        let at = |second| Timestamp::from_second(second).ok();
        type Row = (Filter, Filter);
        let rows: [Row; 9] = [
            (Filter { id: some("abcd"), ..Filter::default() }, Filter { id: some("bcd"), ..Filter::default() }),
            (Filter { lead: some("l"), ..Filter::default() }, Filter { lead: some("s"), ..Filter::default() }),
            (
                Filter { submission: some("s"), ..Filter::default() },
                Filter { submission: some("l"), ..Filter::default() },
            ),
            (Filter { campaign: some("c"), ..Filter::default() }, Filter { campaign: some("C"), ..Filter::default() }),
            (
                Filter { organization: some("o"), ..Filter::default() },
                Filter { organization: some(""), ..Filter::default() },
            ),
            (Filter { target: some("o/c"), ..Filter::default() }, Filter { target: some("o"), ..Filter::default() }),
            (
                Filter { event: Some(EventKind::Failed), ..Filter::default() },
                Filter { event: Some(EventKind::Delivered), ..Filter::default() },
            ),
            (Filter { since: at(100), ..Filter::default() }, Filter { since: at(101), ..Filter::default() }),
            (Filter { before: at(101), ..Filter::default() }, Filter { before: at(100), ..Filter::default() }),
        ];
        assert!(Filter::default().matches(&entry));
        for (yes, no) in rows {
            assert!(yes.matches(&entry), "{yes:?}");
            assert!(!no.matches(&entry), "{no:?}");
            assert!(!no.matches(&Entry::new(What::Rejected, Timestamp::UNIX_EPOCH)) || no.before.is_some(), "{no:?}");
        }
    }

    #[test]
    fn a_needle_is_what_stands_in_the_record() {
        let lead = |text: &str| Filter { lead: Some(text.to_owned()), ..Filter::default() };
        assert_eq!(lead("lead_1").needle(), Some("lead_1"));
        assert_eq!(lead("ü").needle(), Some("ü"));
        for written_otherwise in ["a\"b", "a\\b", "a\nb", ""] {
            assert_eq!(lead(written_otherwise).needle(), None, "{written_otherwise}");
        }
        assert_eq!(Filter { target: Some("o/c".into()), ..Filter::default() }.needle(), Some("o/c"));
    }
}

//! Reads the names and values of a form or of an address. A name can occur several times.

use jiff::Timestamp;
use url::form_urlencoded;

use crate::{
    dead_letters::filter::{self, Filter},
    event::EventKind,
};

/// Fields of a filter, in the order in which forms show them.
pub const FILTERS: [&str; 10] =
    ["organization", "campaign", "target", "event", "reason", "error", "lead", "submission", "since", "before"];

/// Most characters of a value that are read. Ids have at most 255.
const LONGEST: usize = 300;

/// Names and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=1&b=2`. Empty values count as missing, because a form sends one for each field that is not filled in.
    pub fn read(text: &str) -> Query {
        let pairs = form_urlencoded::parse(text.as_bytes());
        let said = pairs.map(|(name, value)| (name.into_owned(), value.trim().chars().take(LONGEST).collect()));
        Query(said.filter(|(_, value): &(String, String)| !value.is_empty()).collect())
    }

    /// Returns the first value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns all values of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns a number, or `otherwise` if it is missing or invalid.
    pub fn number(&self, name: &str, otherwise: u64) -> u64 {
        self.get(name).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    }

    /// Returns a copy with other values of some names. A name without a value is left out.
    pub fn with(&self, changes: &[(&str, Option<&str>)]) -> Query {
        let mut pairs: Vec<_> =
            self.0.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name)).cloned().collect();
        pairs.extend(changes.iter().filter_map(|(name, value)| Some(((*name).to_owned(), (*value)?.to_owned()))));
        Query(pairs)
    }

    /// Returns only the fields of a filter, always in the same order.
    pub fn filters(&self) -> Query {
        let pairs = FILTERS.iter().filter_map(|name| Some(((*name).to_owned(), self.get(name)?.to_owned())));
        Query(pairs.collect())
    }

    /// Returns all names and values.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Formats the query for an address, with the question mark. The text is empty if there are no values.
    pub fn text(&self) -> String {
        let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish();
        if text.is_empty() { text } else { format!("?{text}") }
    }

    /// Returns the filter.
    ///
    /// # Errors
    /// The invalid values, each with the name of its field.
    pub fn filter(&self, now: Timestamp) -> Result<Filter, Vec<String>> {
        let own = |name: &str| self.get(name).map(str::to_owned);
        let mut wrong = Vec::new();
        let mut note = |name: &str, problem: String| wrong.push(format!("{name}: {problem}"));
        let event = self.get("event").and_then(|text| {
            let kind = EventKind::parse(text);
            if kind.is_none() {
                note("event", format!("expected one of {}", EventKind::ALL.map(EventKind::name).join(", ")));
            }
            kind
        });
        let reason =
            self.get("reason").and_then(|text| filter::reason(text).map_err(|problem| note("reason", problem)).ok());
        let mut time = |name: &str| {
            self.get(name).and_then(|text| filter::time(text, now).map_err(|problem| note(name, problem)).ok())
        };
        let (since, before) = (time("since"), time("before"));
        let filter = Filter {
            campaign: own("campaign"),
            organization: own("organization"),
            target: own("target"),
            event,
            lead: own("lead"),
            submission: own("submission"),
            reason,
            error: own("error"),
            since,
            before,
        };
        if wrong.is_empty() { Ok(filter) } else { Err(wrong) }
    }
}

/// Encodes a text as part of a path.
pub fn segment(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2024-06-15T10:30:00Z".parse().unwrap()
    }

    #[test]
    fn values_of_a_form_are_read_and_written_again() {
        let query = Query::read("lead=+l%26%3C1%3E+&id=a&id=b&campaign=&page=3&page=x");
        assert_eq!(query.get("lead"), Some("l&<1>"));
        assert_eq!(query.all("id").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((query.get("campaign"), query.number("page", 1), query.number("lead", 7)), (None, 3, 7));
        assert_eq!(query.filters().text(), "?lead=l%26%3C1%3E");
        assert_eq!(query.filters().with(&[("page", Some("2"))]).text(), "?lead=l%26%3C1%3E&page=2");
        assert_eq!(Query::read("").text(), "");
        assert_eq!(segment("a b/\"<"), "a%20b%2F%22%3C");
    }

    #[test]
    fn filters_are_read_and_wrong_values_are_named() {
        let said = "organization=o&campaign=c&target=t&event=lead.failed&reason=gone&error=timeout&lead=l&submission=s&since=2h&before=1h";
        let filter = Query::read(said).filter(now()).unwrap();
        assert_eq!(filter.event, Some(EventKind::Failed));
        assert_eq!(filter.since.unwrap().to_string(), "2024-06-15T08:30:00Z");
        assert_eq!(filter.before.unwrap().to_string(), "2024-06-15T09:30:00Z");
        let texts = [
            filter.organization,
            filter.campaign,
            filter.target,
            filter.reason,
            filter.error,
            filter.lead,
            filter.submission,
        ];
        assert_eq!(texts.map(Option::unwrap), ["o", "c", "t", "gone", "timeout", "l", "s"]);
        let wrong = Query::read("event=x&reason=<b>&since=y&before=z").filter(now()).unwrap_err();
        assert_eq!(wrong.len(), 4, "{wrong:?}");
        assert!(Query::read("page=2").filter(now()).unwrap().is_empty());
    }
}

//! What is wrong with a store, where, and what would be right. All problems of a store are collected before anything
//! is said, so that a broken store is repaired in one go. No problem ever holds a secret, a header value or a URL.

use std::{fmt, sync::Arc};

/// A place in a file of the store, as an editor counts: lines and columns (in characters) begin at 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as it was named or found.
    pub file: Arc<str>,
    /// 1-based.
    pub line: usize,
    /// 1-based, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Whether a store can be used in spite of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The store is refused.
    Error,
    /// The store is used, but probably does not mean what it says.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One thing that is wrong in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether the store is refused for it.
    pub severity: Severity,
    /// Where, if it lies inside a file.
    pub place: Option<Place>,
    /// Which key, `organizations.acme.webhook.timeout` for example; empty for a file as a whole.
    pub path: String,
    /// What is wrong and what would be right; begins in lower case.
    pub text: String,
}

/// `file:line:column: key.path: text`. The severity is not in it: who mixes them says so.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.text)
    }
}

/// Everything that is wrong in a store, in the order of its files and lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub(super) Vec<Problem>);

impl Problems {
    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// How many, errors and warnings together.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any of them means that the store is refused.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// The first error and how many more there are, on one line: for logs and readiness.
    pub fn summary(&self) -> String {
        let errors: Vec<_> = self.0.iter().filter(|problem| problem.severity == Severity::Error).collect();
        match errors.as_slice() {
            [] => "no errors".to_owned(),
            [only] => only.to_string(),
            [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
        }
    }

    /// Notes something for which the store is refused.
    pub(super) fn error(&mut self, place: &Place, path: impl fmt::Display, text: impl Into<String>) {
        self.push(Severity::Error, Some(place.clone()), path.to_string(), text.into());
    }

    /// Notes something that is probably a mistake.
    pub(super) fn warning(&mut self, place: &Place, path: impl fmt::Display, text: impl Into<String>) {
        self.push(Severity::Warning, Some(place.clone()), path.to_string(), text.into());
    }

    /// Notes something for which the store is refused and that lies in no line of a file.
    pub(super) fn general(&mut self, text: impl Into<String>) {
        self.push(Severity::Error, None, String::new(), text.into());
    }

    /// Brings the problems into the order of files and lines: they are found in the order of the checks.
    pub(super) fn sort(&mut self) {
        self.0.sort_by(|one, other| (&one.place, one.severity).cmp(&(&other.place, other.severity)));
        self.0.dedup();
    }

    fn push(&mut self, severity: Severity, place: Option<Place>, path: String, text: String) {
        self.0.push(Problem { severity, place, path, text: on_one_line(text) });
    }
}

/// Names that a store gives (of a file, of an organization) may hold anything, and a problem goes to logs and terminals:
/// line breaks and what moves a cursor are shown, not sent.
fn on_one_line(text: String) -> String {
    let moves = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if !text.contains(moves) {
        return text;
    }
    text.chars().fold(String::new(), |mut line, c| {
        if moves(c) {
            line.extend(c.escape_default())
        } else {
            line.push(c)
        }
        line
    })
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

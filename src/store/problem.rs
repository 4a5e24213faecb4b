//! The problems of a store: what is wrong, where, and how to fix it. All problems are reported together, so that an
//! author can fix a broken store at once. No problem contains a secret, a header value or a URL.

use std::{fmt, sync::Arc};

/// A place in a file of the store. Lines and columns (in characters) begin at 1, as in an editor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The path of the file, as it was given or found.
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

/// Whether a store can be used despite a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The store is refused.
    Error,
    /// The store is used, but probably does not do what its author wants.
    Warning,
}

impl Severity {
    /// Returns `error` or `warning`.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One problem of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether the store is refused because of it.
    pub severity: Severity,
    /// Its place, if it is inside a file.
    pub place: Option<Place>,
    /// Its key, for example `organizations.acme.webhook.timeout`; empty for a file as a whole.
    pub path: String,
    /// The fault and how to fix it; begins in lower case.
    pub text: String,
}

/// Shows `file:line:column: key.path: text`. A caller that mixes severities adds the severity.
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

/// All problems of a store, in the order of its files and lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub(super) Vec<Problem>);

impl Problems {
    /// Iterates over all of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// Returns the number of errors and warnings together.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are neither errors nor warnings.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether any of them is an error, for which the store is refused.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Returns the first error and the number of further errors, on one line for logs and readiness.
    pub fn summary(&self) -> String {
        let errors: Vec<_> = self.0.iter().filter(|problem| problem.severity == Severity::Error).collect();
        match errors.as_slice() {
            [] => "no errors".to_owned(),
            [only] => only.to_string(),
            [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
        }
    }

    /// Adds an error, for which the store is refused.
    pub(super) fn error(&mut self, place: &Place, path: impl fmt::Display, text: impl Into<String>) {
        self.push(Severity::Error, Some(place.clone()), path.to_string(), text.into());
    }

    /// Adds a warning about a probable mistake.
    pub(super) fn warning(&mut self, place: &Place, path: impl fmt::Display, text: impl Into<String>) {
        self.push(Severity::Warning, Some(place.clone()), path.to_string(), text.into());
    }

    /// Adds an error that does not belong to a line of a file.
    pub(super) fn general(&mut self, text: impl Into<String>) {
        self.push(Severity::Error, None, String::new(), text.into());
    }

    /// Sorts the problems by file and line, and removes duplicates. The checks find them in another order.
    pub(super) fn sort(&mut self) {
        self.0.sort_by(|one, other| (&one.place, one.severity).cmp(&(&other.place, other.severity)));
        self.0.dedup();
    }

    fn push(&mut self, severity: Severity, place: Option<Place>, path: String, text: String) {
        self.0.push(Problem { severity, place, path, text: on_one_line(text) });
    }
}

/// Escapes line breaks and control characters. A problem goes to logs and terminals, and a name in it (of a file, of an
/// organization) may contain any character.
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

//! The problems of settings, each with the place of its value.

use std::{fmt, path::PathBuf};

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The place of the value.
    pub place: Place,
    /// `section.key`, unless the problem concerns the file itself or the name of a variable.
    pub key: Option<String>,
    /// The fault and how to fix it. Never contains the value of a setting with credentials.
    pub text: String,
}

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file, at this line and column.
    File {
        /// The path, as it was given.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// In a file as a whole.
    WholeFile(PathBuf),
    /// In this environment variable.
    Variable(String),
    /// By this option of the command line.
    Option(&'static str),
    /// In a compiled-in default, or in the settings as a whole.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Place::WholeFile(path) => write!(f, "{}", path.display()),
            Place::Variable(name) => f.write_str(name),
            Place::Option(option) => f.write_str(option),
            Place::Default => f.write_str("settings"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.text)
    }
}

/// All problems. Never empty when returned as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, place: Place, key: Option<&str>, text: impl Into<String>) {
        self.0.push(Problem { place, key: key.map(str::to_owned), text: text.into() });
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "cannot use the settings: {one}"),
            all => {
                write!(f, "cannot use the settings: {} problems", all.len())?;
                all.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for Problems {}

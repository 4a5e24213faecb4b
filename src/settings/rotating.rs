//! Values with credentials, which an operator rotates. They are set directly, or in a file that is read again at each
//! use.
//!
//! If the file becomes unusable later, the last good value stays in use. The log says so once, and readiness warns as
//! long as it lasts ([`Rotating::problem`]). Nothing here quotes the content of a file.

use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::problem::Place;
use crate::os_error;

/// Longest file, in bytes.
const LONGEST: u64 = 64 << 10;

/// A value, and the file from which it comes, if any. Clones share both.
pub struct Rotating<T>(Arc<Inner<T>>);

struct Inner<T> {
    file: Option<Source<T>>,
    state: Mutex<State<T>>,
}

struct Source<T> {
    key: &'static str,
    path: PathBuf,
    parse: Parse<T>,
}

struct State<T> {
    value: Arc<T>,
    problem: Option<String>,
}

/// Parses the text of a file.
pub(super) type Parse<T> = Box<dyn Fn(&str) -> Result<T, Fault> + Send + Sync>;

/// Why a file cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// From 1; `None` for the file as a whole.
    line: Option<usize>,
    /// Never quotes the content.
    text: String,
}

impl<T: PartialEq> Rotating<T> {
    /// Makes a value that does not change.
    pub fn said(value: T) -> Rotating<T> {
        Rotating(Arc::new(Inner { file: None, state: Mutex::new(State { value: Arc::new(value), problem: None }) }))
    }

    /// Reads the value from the file that the setting `key` names.
    pub(super) fn open(key: &'static str, path: PathBuf, parse: Parse<T>) -> Result<Rotating<T>, (Place, String)> {
        let source = Source { key, path, parse };
        match source.read() {
            Ok(value) => {
                let state = Mutex::new(State { value: Arc::new(value), problem: None });
                Ok(Rotating(Arc::new(Inner { file: Some(source), state })))
            }
            Err(Fault { line, text }) => {
                let path = source.path;
                let place = match line {
                    Some(line) => Place::File { path, line, column: 1 },
                    None => Place::WholeFile(path),
                };
                Err((place, text))
            }
        }
    }

    /// Reads the file again and returns its value, or else the last good one. Blocks on the file.
    pub fn now(&self) -> Arc<T> {
        let Some(source) = &self.0.file else { return self.last() };
        let read = source.read();
        let mut state = self.state();
        match read {
            Ok(value) => {
                if *state.value != value {
                    tracing::info!(setting = source.key, file = %source.path.display(), "the file has new content");
                    state.value = Arc::new(value);
                } else if state.problem.is_some() {
                    tracing::info!(setting = source.key, file = %source.path.display(), "the file can be used again");
                }
                state.problem = None;
            }
            Err(fault) => {
                let problem = source.told(&fault);
                if state.problem.as_ref() != Some(&problem) {
                    tracing::warn!("{problem}; its last good content stays in use");
                    state.problem = Some(problem);
                }
            }
        }
        state.value.clone()
    }

    /// Returns the last good value without reading the file.
    pub fn last(&self) -> Arc<T> {
        self.state().value.clone()
    }

    /// Returns why the file could not be used when it was last read, if so.
    pub fn problem(&self) -> Option<String> {
        self.state().problem.clone()
    }

    /// Returns the path of the file, if the value comes from one.
    pub fn path(&self) -> Option<&Path> {
        self.0.file.as_ref().map(|source| source.path.as_path())
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Source<T> {
    fn read(&self) -> Result<T, Fault> {
        let whole = |text: String| Fault { line: None, text };
        let unreadable = |error: std::io::Error| whole(os_error::words(&error));
        // A pipe gives its content only once, and opening it may block.
        if !std::fs::metadata(&self.path).map_err(unreadable)?.is_file() {
            return Err(whole("is not a regular file, which can be read again".to_owned()));
        }
        let mut bytes = Vec::new();
        File::open(&self.path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
        if bytes.len() as u64 > LONGEST {
            return Err(whole(format!("is longer than {} KiB", LONGEST >> 10)));
        }
        let text = String::from_utf8(bytes).map_err(|_| whole("is not UTF-8 text".to_owned()))?;
        (self.parse)(&text)
    }

    fn told(&self, fault: &Fault) -> String {
        let line = fault.line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("cannot use the file of {}: {}{line}: {}", self.key, self.path.display(), fault.text)
    }
}

/// Makes a parser for a file with one entry on each line. It skips empty lines.
pub(super) fn lines<T: 'static>(parse: fn(&str) -> Result<T, String>) -> Parse<Vec<T>> {
    Box::new(move |text| {
        let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
        let entries = lines.map(|(index, line)| parse(line).map_err(|text| Fault { line: Some(index + 1), text }));
        let entries: Vec<_> = entries.collect::<Result<_, _>>()?;
        match entries.is_empty() {
            true => Err(Fault { line: None, text: "holds no entry: write one on each line".to_owned() }),
            false => Ok(entries),
        }
    })
}

/// Makes a parser for a file with exactly one entry, on one line. It skips empty lines.
pub(super) fn line<T: 'static>(parse: fn(&str) -> Result<T, String>) -> Parse<T> {
    let lines = lines(parse);
    Box::new(move |text| {
        let mut entries = lines(text)?;
        match (entries.pop(), entries.len()) {
            (Some(entry), 0) => Ok(entry),
            _ => Err(Fault { line: None, text: "holds more than one entry: write one line".to_owned() }),
        }
    })
}

/// Adds a check of all entries together to `parse`.
pub(super) fn checked<T: 'static>(parse: Parse<T>, problem: fn(&T) -> Option<String>) -> Parse<T> {
    Box::new(move |text| {
        let value = parse(text)?;
        problem(&value).map_or(Ok(value), |text| Err(Fault { line: None, text }))
    })
}

impl<T> Clone for Rotating<T> {
    fn clone(&self) -> Rotating<T> {
        Rotating(self.0.clone())
    }
}

impl<T: PartialEq + fmt::Display> fmt::Display for Rotating<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.last().fmt(f)
    }
}

/// Shows the value as its own `Debug` does.
impl<T: PartialEq + fmt::Debug> fmt::Debug for Rotating<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.last().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn number(text: &str) -> Result<u32, String> {
        text.parse().map_err(|_| "is not a number".to_owned())
    }

    fn open(path: &Path) -> Result<Rotating<Vec<u32>>, (Place, String)> {
        Rotating::open("a.key_file", path.to_owned(), lines(number))
    }

    #[test]
    fn a_file_is_read_at_each_use_and_its_last_good_content_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers");
        fs::write(&path, "\n 1 \r\n\n2\n").unwrap();
        let rotating = open(&path).unwrap();
        assert_eq!(*rotating.now(), [1, 2]);
        fs::write(&path, "3").unwrap();
        assert_eq!((&*rotating.last(), &*rotating.now()), (&vec![1, 2], &vec![3]));
        assert_eq!(rotating.problem(), None);

        let spoil: [(&[u8], &str); 4] = [
            (b"4\n\nhunter2\n", ":3: is not a number"),
            (b"\n\n", ": holds no entry: write one on each line"),
            (b"\xff", ": is not UTF-8 text"),
            (&[b'1'; (64 << 10) + 1], ": is longer than 64 KiB"),
        ];
        for (content, problem) in spoil {
            fs::write(&path, content).unwrap();
            assert_eq!(*rotating.now(), [3]);
            let told = rotating.clone().problem().unwrap();
            assert_eq!(told, format!("cannot use the file of a.key_file: {}{problem}", path.display()));
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(*rotating.now(), [3]);
        assert!(rotating.problem().unwrap().ends_with("numbers: there is no such file or directory"));
        fs::create_dir(&path).unwrap();
        assert_eq!(*rotating.now(), [3]);
        assert!(rotating.problem().unwrap().ends_with("is not a regular file, which can be read again"));
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "3").unwrap();
        assert_eq!(*rotating.now(), [3]);
        assert_eq!(rotating.problem(), None);
    }

    #[test]
    fn a_symlink_swap_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (version, content) in [("one", "1"), ("two", "2")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("numbers"), content).unwrap();
        }
        std::os::unix::fs::symlink("one", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/numbers", at("numbers")).unwrap();
        let rotating = open(&at("numbers")).unwrap();
        std::os::unix::fs::symlink("two", at("..next")).unwrap();
        fs::rename(at("..next"), at("..data")).unwrap();
        assert_eq!(*rotating.now(), [2]);
    }

    #[test]
    fn a_file_for_one_value_holds_one_line() {
        let parse = line(number);
        assert_eq!(parse("\n7\n"), Ok(7));
        assert_eq!(parse("7\n8\n").unwrap_err().text, "holds more than one entry: write one line");
        assert_eq!(parse("").unwrap_err().text, "holds no entry: write one on each line");
    }
}

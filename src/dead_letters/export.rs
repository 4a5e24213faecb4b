//! Writes whole messages of the failed or the rejected queue to a file, as one JSON object per line. They hold lead
//! data, so only the owner may read the file.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde::Serialize;

use super::{browse::Held, facts::JobFacts, record::Record};
use crate::job::upstream;

/// A file to which messages are appended.
pub struct Export {
    path: PathBuf,
    file: BufWriter<File>,
    by: Option<String>,
    because: Option<String>,
    /// Messages written.
    pub written: u64,
}

impl Export {
    /// Creates the file, readable by its owner only. Never touches an existing file.
    ///
    /// # Errors
    /// The file exists, or cannot be created.
    pub fn create(path: &Path) -> io::Result<Export> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        // A new file is on the disk only if its name is, too (fsync(2)).
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()?;
        Ok(Export { path: path.to_owned(), file: BufWriter::new(file), by: None, because: None, written: 0 })
    }

    /// Adds to each line who took the message away, and why.
    pub fn signed(self, by: &str, because: &str) -> Export {
        Export { by: Some(by.to_owned()), because: Some(because.to_owned()), ..self }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a message.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, held: &Held) -> io::Result<()> {
        let line = Line { taken_by: self.by.as_deref(), because: self.because.as_deref(), ..line(held) };
        serde_json::to_writer(&mut self.file, &line)?;
        self.file.write_all(b"\n")?;
        self.written += 1;
        Ok(())
    }

    /// Makes sure that the whole file is on the disk.
    ///
    /// # Errors
    /// The file cannot be written. Messages since the last success may not be on the disk.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()
    }
}

/// One message, with everything that is known about it.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    reason: &'a str,
    detail: Option<&'a str>,
    failed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobFacts<'a>>,
    /// Why it is not a job.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
    /// The message's properties and headers, as text.
    properties: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    /// Who took it off the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    taken_by: Option<&'a str>,
    /// The reason given.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<&'a str>,
}

fn line(held: &Held) -> Line<'_> {
    let Record { content, reason, detail, failed_at, .. } = &held.record;
    let text = std::str::from_utf8(&held.body).ok();
    Line {
        id: held.record.key(),
        reason: reason.label(),
        detail: detail.as_deref(),
        failed_at: *failed_at,
        job: content.as_ref().ok().map(JobFacts::of),
        problem: content.as_ref().err().map(|unreadable| unreadable.problem.as_str()),
        properties: upstream::to_json(&held.properties, |_| false),
        body_base64: text.is_none().then(|| BASE64_STANDARD.encode(&held.body)),
        body: text,
        taken_by: None,
        because: None,
    }
}

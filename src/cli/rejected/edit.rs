//! `leadhook rejected edit`.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use bytes::Bytes;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};

use super::requeue::{How, repaired};
use crate::{
    cli::{
        dead_letters::DeadLetters,
        failed::{agree::agree, show},
        output::{self, Exit, Refusal, after_help},
    },
    dead_letters::{
        given_ids::GivenIds,
        interrupt::{ENDED, Holding},
        repair::Repair,
        selection::Choice,
    },
    event::Event,
    job::fresh_copy,
    os_error,
};

/// Edit the body of one rejected message, and put it back onto the events queue
///
/// Opens the editor of VISUAL or EDITOR on a private file, which is removed afterwards. The file holds the data of the
/// lead. The result must be a usable event. The message id and the headers stay; `requeue --organization` changes the
/// organization.
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook rejected edit raw_5d41402abc",
    "nothing was changed, or the message was left (the output says why)"
))]
pub(super) struct Args {
    /// The message id (`raw_...` for a message without one), or its beginning (at least 6 characters)
    #[arg(value_name = "ID")]
    id: String,
    /// Show the values that change; they may be data of the lead
    #[arg(long)]
    show_data: bool,
    #[command(flatten)]
    how: How,
}

pub(super) async fn run(args: &Args, letters: &DeadLetters<'_>) -> Result<Exit, Refusal> {
    let editor =
        ["VISUAL", "EDITOR"].into_iter().find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()));
    let editor = editor.ok_or_else(|| {
        Refusal::usage("no editor is known: neither VISUAL nor EDITOR is set", "set one of them, such as EDITOR=nano")
    })?;
    let (id, was) = show::body(&args.id, args.how.is_json(), letters).await?;
    // From here on, a signal does not end the process before the file is removed.
    let holding = letters.interrupt.hold();
    let file = PrivateFile::new(&was).map_err(|error| unusable("make", &error))?;
    let cleaning = remove_at_signals(&file, holding).map_err(|error| unusable("guard", &error))?;
    let now = edited(&editor, &file, &was, args.how.is_agreed(), letters.settings.delivery.max_event_bytes);
    drop(file);
    cleaning.abort();
    let now = now?;
    if now == was {
        return Err(Refusal::findings(
            format!("nothing was changed: {}", output::printable(&id)),
            "`leadhook rejected requeue` puts a message back as it is",
        ));
    }
    let choice = Choice::Named(GivenIds::whole(vec![id]));
    repaired(choice, &args.how, &Repair::Body { was, now }, args.show_data, letters).await
}

/// Removes the file and ends the process at SIGINT, SIGTERM or SIGHUP, because the main task waits for the editor.
fn remove_at_signals(file: &PrivateFile, holding: Holding) -> io::Result<JoinHandle<()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let directory = file.directory.clone();
    Ok(tokio::spawn(async move {
        tokio::select! { () = holding.interrupted() => {}, _ = hangup.recv() => {} }
        remove(&directory);
        std::process::exit(ENDED);
    }))
}

/// Lets a person edit the body until it is a usable event.
fn edited(editor: &str, file: &PrivateFile, was: &Bytes, agreed: bool, max_bytes: usize) -> Result<Bytes, Refusal> {
    loop {
        let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(&file.path).status();
        let status = status.map_err(|error| unusable("edit", &error))?;
        if !status.success() {
            return Err(Refusal::findings(
                format!("the editor failed, and nothing was done: {status}"),
                "run it again",
            ));
        }
        let now = read(&file.path, was).map_err(|error| unusable("read", &error))?;
        // The organization in a header does not matter here: it is checked later, with the message.
        let Err(rejection) = Event::decode(&now, None, max_bytes) else { return Ok(now) };
        let text = format!("the result is not a usable event: {}", output::printable(&rejection.to_string()));
        if agreed || agree(false, &format!("{text}. Edit it again?")).is_err() {
            return Err(Refusal::findings(text, "run it again; the message was left as it was"));
        }
    }
}

/// Reads the file without the line break that editors add at its end.
fn read(path: &Path, was: &Bytes) -> io::Result<Bytes> {
    let mut now = fs::read(path)?;
    if now.last() == Some(&b'\n') && was.last() != Some(&b'\n') {
        now.pop();
    }
    Ok(now.into())
}

fn unusable(doing: &str, error: &io::Error) -> Refusal {
    let (directory, why) = (std::env::temp_dir(), os_error::words(error));
    let text = format!("cannot {doing} the file with the body: {}: {why}", directory.display());
    Refusal::findings(text, "make room there, or set TMPDIR to a directory that this user may write to")
}

/// A file that only its owner can read, in its own directory, because an editor keeps its copies beside it. Dropping
/// this value removes both.
struct PrivateFile {
    directory: PathBuf,
    path: PathBuf,
}

impl PrivateFile {
    fn new(body: &[u8]) -> io::Result<PrivateFile> {
        let directory = std::env::temp_dir().join(format!("leadhook-{}", fresh_copy()));
        DirBuilder::new().mode(0o700).create(&directory)?;
        let file = PrivateFile { path: directory.join("event.json"), directory };
        // Editors hide a byte order mark, and it may be the reason for the rejection.
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file.path)?.write_all(body)?;
        Ok(file)
    }
}

impl Drop for PrivateFile {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

fn remove(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory) {
        let (path, why) = (directory.display(), os_error::words(&error));
        output::warn(&format!("cannot remove the file with the data of a lead, remove it yourself: {path}: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const EVENT: &[u8] = br#"{"event":"lead.queued","leadId":"l","submissionId":"s","campaignId":"C","status":"","timestamp":0,"data":{}}"#;

    #[test]
    fn the_file_is_private_and_is_gone_afterwards() {
        let file = PrivateFile::new(b"\xef\xbb\xbf{}").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file.path), mode(&file.directory)), (0o600, 0o700));
        assert_eq!(fs::read(&file.path).unwrap(), b"{}");
        let directory = file.directory.clone();
        fs::write(directory.join("event.json~"), "a copy of an editor").unwrap();
        drop(file);
        assert!(!directory.exists());
    }

    #[test]
    fn what_the_editor_leaves_is_the_body_if_it_is_an_event() {
        let was = Bytes::from_static(EVENT);
        let edit = |script: &str| edited(script, &PrivateFile::new(&was).unwrap(), &was, true, 1 << 20);
        let changed = edit("sed -i 's/\"l\"/\"lead_2\"/'").unwrap();
        assert_eq!(changed, String::from_utf8(EVENT.to_vec()).unwrap().replace("\"l\"", "\"lead_2\""));
        assert_eq!(edit("true").unwrap(), was);
        assert_eq!(edit("sh -c 'echo >> \"$1\"' sh").unwrap(), was, "an editor adds a line break");
        assert!(edit("sed -i 's/leadId/lead/'").unwrap_err().text.contains("missing_field"));
        assert!(edit("false").unwrap_err().text.contains("the editor failed"));
    }
}

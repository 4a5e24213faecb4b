//! Removes messages for good. Each is written to a file, and is acked only when the file is on the disk.

use std::{collections::BTreeSet, io};

use jiff::Timestamp;

use super::{
    browse::{Browse, Held},
    browse_error::BrowseError,
    export::Export,
    renew::{Renewer, is_due_for_renewal},
    selection::{Selection, Wanted},
};
use crate::delivery_log::{DeliveryLog, Entry, What};

/// Why a removal stopped. Messages that were not acked stay on the queue.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The browse ended.
    #[error(transparent)]
    Browse(#[from] BrowseError),
    /// The file cannot be written.
    #[error("cannot write {path}: {}", crate::os_error::words(.source))]
    File {
        /// The path of the file.
        path: String,
        /// The cause.
        source: io::Error,
    },
}

/// Number of records that one wait for room in the delivery log covers: about 450 KB.
const ROOM_FOR: usize = 1_000;

/// Who removes messages, and why. Written to the delivery log, and to each line of the file.
#[derive(Clone, Copy)]
pub struct Doing<'a> {
    /// The delivery log.
    pub log: &'a DeliveryLog,
    /// The person who removes them.
    pub by: &'a str,
    /// The reason given.
    pub because: &'a str,
}

impl Doing<'_> {
    fn record(&self, held: &Held) {
        let now = Timestamp::now();
        let entry = match &held.record.content {
            Ok(job) => Entry::of_job(What::Discarded, now, job),
            Err(_) => Entry { id: Some(held.record.key().into()), ..Entry::new(What::Discarded, now) },
        };
        self.log.write(&Entry { reason: Some(self.because.into()), by: Some(self.by.into()), ..entry });
    }
}

/// A removal in progress.
pub struct Removal<'a> {
    doing: Doing<'a>,
    export: Export,
    /// Identities of the messages that were written and acked.
    removed: BTreeSet<String>,
    acked: u64,
    /// Number of messages removed.
    pub messages: u64,
    /// Jobs that failed again since they were chosen; left on the queue.
    pub failed_again: u64,
}

impl<'a> Removal<'a> {
    /// Creates a removal that writes to this file.
    pub fn new(export: Export, doing: Doing<'a>) -> Removal<'a> {
        let export = export.signed(doing.by, doing.because);
        Removal { doing, export, removed: BTreeSet::new(), acked: 0, messages: 0, failed_again: 0 }
    }

    /// Removes the chosen messages, batch by batch. Calls `seen` with the size of each batch.
    ///
    /// # Errors
    /// See [`RemoveError`].
    pub async fn chosen(
        &mut self,
        selection: &Selection,
        browse: &mut Browse,
        renewer: &mut Renewer<'_>,
        seen: impl Fn(u64),
    ) -> Result<(), RemoveError> {
        loop {
            let batch = browse.next().await?;
            if batch.is_empty() {
                return Ok(());
            }
            let mut wanted = Vec::new();
            for held in &batch {
                match selection.wants(&held.record) {
                    Wanted::Yes => wanted.push(held),
                    Wanted::CameBack => self.failed_again += 1,
                    Wanted::No if is_due_for_renewal(&held.record) => renewer.renew(held).await,
                    Wanted::No => {}
                }
            }
            let written = wanted.iter().try_for_each(|held| self.export.write(held)).and_then(|()| self.export.sync());
            written.map_err(|source| RemoveError::File { path: self.export.path().display().to_string(), source })?;
            for (at, held) in wanted.into_iter().enumerate() {
                // One wait covers the next `ROOM_FOR` records.
                if at % ROOM_FOR == 0 {
                    self.doing.log.room().await;
                }
                if held.remove().await {
                    self.acked += 1;
                    self.messages += 1;
                    self.removed.extend(held.identity());
                    self.doing.record(held);
                }
            }
            seen(batch.len() as u64);
        }
    }

    /// Returns how many messages are in the file.
    pub fn written(&self) -> u64 {
        self.export.written
    }

    /// Confirms that the removed messages are gone, and ends the browse.
    ///
    /// # Errors
    /// Some of them may still be on the queue.
    pub async fn confirm_removed(&self, browse: Browse) -> Result<(), BrowseError> {
        browse.confirm_removed(self.acked, |held| held.identity().is_some_and(|id| self.removed.contains(&id))).await
    }
}

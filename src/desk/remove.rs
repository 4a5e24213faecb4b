//! Taking messages away for good: each is written into a file, the file is on the disk, and only then the message is acked.

use std::{collections::BTreeSet, io};

use jiff::Timestamp;

use super::{
    export::Export,
    survey::{Survey, Wanted},
    visit::{Held, Visit, VisitError},
    wear::{Renewer, is_worn},
};
use crate::delivery_log::{DeliveryLog, Entry, What};

/// Why it was broken off. What was not acked lies where it lay.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The visit ended.
    #[error(transparent)]
    Visit(#[from] VisitError),
    /// The file cannot be written.
    #[error("cannot write {path}: {}", crate::os_error::words(.source))]
    File {
        /// Which.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

/// Records for which room is asked at once: some 450 KB.
const ROOM_FOR: usize = 1_000;

/// Who takes them away, and why; written into the delivery log, and into each line of the file.
#[derive(Clone, Copy)]
pub struct Doing<'a> {
    /// The delivery log.
    pub log: &'a DeliveryLog,
    /// Who.
    pub by: &'a str,
    /// Why.
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

/// Messages on their way out.
pub struct Removal<'a> {
    doing: Doing<'a>,
    export: Export,
    /// What was written and acked.
    removed: BTreeSet<String>,
    acked: u64,
    /// Messages taken away.
    pub messages: u64,
    /// Jobs that failed anew since they were chosen; left where they are.
    pub failed_again: u64,
}

impl<'a> Removal<'a> {
    /// Into this file.
    pub fn new(export: Export, doing: Doing<'a>) -> Removal<'a> {
        let export = export.signed(doing.by, doing.because);
        Removal { doing, export, removed: BTreeSet::new(), acked: 0, messages: 0, failed_again: 0 }
    }

    /// Takes away what was chosen, batch by batch; `seen` is called with the size of each batch.
    ///
    /// # Errors
    /// As [`RemoveError`] says.
    pub async fn chosen(
        &mut self,
        survey: &Survey,
        visit: &mut Visit,
        renewer: &mut Renewer<'_>,
        seen: impl Fn(u64),
    ) -> Result<(), RemoveError> {
        loop {
            let batch = visit.next().await?;
            if batch.is_empty() {
                return Ok(());
            }
            let mut wanted = Vec::new();
            for held in &batch {
                match survey.wants(&held.record) {
                    Wanted::Yes => wanted.push(held),
                    Wanted::CameBack => self.failed_again += 1,
                    Wanted::No if is_worn(&held.record) => renewer.renew(held).await,
                    Wanted::No => {}
                }
            }
            let written = wanted.iter().try_for_each(|held| self.export.write(held)).and_then(|()| self.export.sync());
            written.map_err(|source| RemoveError::File { path: self.export.path().display().to_string(), source })?;
            for (at, held) in wanted.into_iter().enumerate() {
                // So many records find room.
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

    /// Messages in the file.
    pub fn written(&self) -> u64 {
        self.export.written
    }

    /// Makes sure that what was taken away is gone, and ends the visit.
    ///
    /// # Errors
    /// Some of it may be on the queue still.
    pub async fn make_sure(&self, visit: Visit) -> Result<(), VisitError> {
        visit.make_sure(self.acked, |held| held.identity().is_some_and(|id| self.removed.contains(&id))).await
    }
}

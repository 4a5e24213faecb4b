//! The parts that all handlers share.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    access::Access, door::Door, log::Stories, queue::DeadLetters, throttle::Throttle, watch::Watch, work::Works,
};
use crate::{
    broker::publisher::Publisher,
    delivery_log::{self, Entry},
    store::{LiveStore, Problems},
};

/// Longest wait until a record is on the stream.
const RECORD: Duration = Duration::from_secs(5);

/// The address of the client.
#[derive(Clone, Copy)]
pub struct Peer(pub IpAddr);

/// The parts that all handlers share.
pub struct Shared {
    pub access: Arc<Access>,
    pub door: Door,
    pub throttle: Mutex<Throttle>,
    pub watch: Watch,
    pub letters: Arc<DeadLetters>,
    pub works: Works,
    pub stories: Stories,
    pub store: Mutex<Option<Arc<LiveStore>>>,
}

/// A record could not be written to the delivery log.
pub struct Unrecorded;

impl Shared {
    /// Writes a record, and waits until it is on the stream. Without a delivery log it does not wait.
    pub async fn on_record(&self, entry: &Entry<'_>) -> Result<(), Unrecorded> {
        let publisher = Publisher::start(&self.access.settings.amqp, "record", None, CancellationToken::new());
        let log = delivery_log::start(&self.access.settings, &self.access.plan, &publisher, None);
        log.write(entry);
        let unwritten = log.close(RECORD).await;
        publisher.close().await;
        if unwritten == 0 { Ok(()) } else { Err(Unrecorded) }
    }

    /// Returns the webhook store. Opens it at the first use, and then watches its files for changes.
    pub async fn store(self: &Arc<Shared>) -> Result<Arc<LiveStore>, Problems> {
        let shared = self.clone();
        let opening = tokio::task::spawn_blocking(move || {
            let mut kept = shared.store.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(store) = kept.as_ref() {
                return Ok((store.clone(), false));
            }
            let store = Arc::new(LiveStore::open(&shared.access.settings.store.path, &shared.access.settings.secrets)?);
            *kept = Some(store.clone());
            Ok((store, true))
        });
        let (store, fresh) = match opening.await {
            Ok(opened) => opened?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        if fresh {
            tokio::spawn(store.clone().watch(self.access.shutdown.clone(), |_| {}));
        }
        Ok(store)
    }
}

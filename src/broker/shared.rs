//! One connection that several users share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use deadpool::{
    Runtime,
    managed::{self, Metrics, PoolError, RecycleError, RecycleResult},
};

use super::connection::{ConnectError, Connection, HANDSHAKE, connect_in_turn};
use crate::settings::Amqp;

/// Makes the connections of a pool. The manager of deadpool-lapin does not accept certificates.
pub struct Opening {
    amqp: Amqp,
    role: &'static str,
    /// Number of the broker to try first.
    first: Arc<AtomicUsize>,
    /// Number of the broker that the connection was made with.
    made_with: AtomicUsize,
}

impl Opening {
    fn has_others(&self) -> bool {
        self.amqp.urls.last().len() > 1
    }
}

impl managed::Manager for Opening {
    type Type = Connection;
    type Error = ConnectError;

    async fn create(&self) -> Result<Connection, ConnectError> {
        let first = self.first.load(Ordering::Relaxed);
        let (connection, number) = connect_in_turn(&self.amqp, self.role, first).await?;
        // Stays with the broker that answered, unless another user has moved on meanwhile.
        let _ = self.first.compare_exchange(first, number, Ordering::Relaxed, Ordering::Relaxed);
        self.made_with.store(number, Ordering::Relaxed);
        Ok(connection)
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<ConnectError> {
        let first = self.first.load(Ordering::Relaxed);
        if !connection.status().connected() {
            Err(RecycleError::message("the connection is lost"))
        } else if first != self.made_with.load(Ordering::Relaxed) && self.has_others() {
            Err(RecycleError::message("another broker is to be tried"))
        } else {
            Ok(())
        }
    }
}

/// A connection on loan from a [`Shared`].
pub type Lent = managed::Object<Opening>;

/// One connection that several users share. [`Shared::get`] makes it when it is first needed, and again when it is
/// lost.
pub struct Shared {
    /// `None` without a runtime for its timeouts.
    pool: Option<managed::Pool<Opening>>,
    first: Arc<AtomicUsize>,
}

impl Shared {
    /// Prepares a pool of one connection, but does not connect yet. `first` is the number of the broker to try first.
    /// Needs a tokio runtime.
    pub fn new(amqp: &Amqp, role: &'static str, first: usize) -> Shared {
        let first = Arc::new(AtomicUsize::new(first));
        let opening = Opening { amqp: amqp.clone(), role, first: first.clone(), made_with: AtomicUsize::new(0) };
        let pool =
            managed::Pool::builder(opening).max_size(1).wait_timeout(Some(HANDSHAKE)).runtime(Runtime::Tokio1).build();
        Shared { pool: pool.ok(), first }
    }

    /// Returns whether there is another broker to move to.
    pub fn has_others(&self) -> bool {
        self.pool.as_ref().is_some_and(|pool| pool.manager().has_others())
    }

    /// Lends the connection until the guard is dropped. Open the channels that you need on it, then drop the guard.
    ///
    /// # Errors
    /// As [`super::connection::connect`], or if another user holds the connection for too long.
    pub async fn get(&self) -> Result<Lent, ConnectError> {
        let pool = self.pool.as_ref().ok_or(ConnectError::Unconfigured)?;
        pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            _ => ConnectError::Silent { url: "the shared connection".to_owned() },
        })
    }

    /// Gives up a useless connection, so that the next broker is tried first.
    pub fn move_on(&self) {
        self.first.fetch_add(1, Ordering::Relaxed);
    }

    /// Closes the connection, if there is one. The wait is bounded, and a failure is harmless because the socket closes
    /// anyway.
    pub async fn close(&self) {
        let Some(pool) = &self.pool else { return };
        if pool.status().size > 0
            && let Ok(connection) = pool.get().await
        {
            let goodbye = connection.close(200, "goodbye".into());
            let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
        }
        pool.close();
    }
}

/// Takes a connection away from all its users, and closes it in the background.
pub fn discard(connection: Lent) {
    let connection = Lent::take(connection);
    tokio::spawn(async move {
        let _ = tokio::time::timeout(Duration::from_secs(1), connection.close(200, "starting again".into())).await;
    });
}

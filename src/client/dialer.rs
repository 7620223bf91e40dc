//! One connection of the binary transport for all who need it, and a new one when it is lost.

use std::{
    sync::{Arc, Mutex as BlockingMutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Mutex, time::sleep};

use super::transport::{Settings, Transport, TransportError};
use crate::rudp::{connection::HANDSHAKE, packet::Cid};

/// Between two tries to reach a proxy that was there before and refuses now.
const AGAIN: Duration = Duration::from_millis(500);

/// The way to a proxy. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Dialer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    current: Mutex<Option<Transport>>,
    /// The proxy's ids of all the connections that there have been.
    dialled: BlockingMutex<Vec<Cid>>,
}

impl Dialer {
    /// Without a connection yet.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared {
            settings,
            current: Mutex::new(None),
            dialled: BlockingMutex::default(),
        }))
    }

    /// How connections are held.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The connection; a new one if there is none or it is lost. Whoever asks meanwhile waits for
    /// the same one.
    ///
    /// # Errors
    /// If there is no connection to be had.
    pub async fn transport(&self) -> Result<Transport, TransportError> {
        let mut current = self.0.current.lock().await;
        if let Some(transport) = current.as_ref().filter(|transport| !transport.is_over()) {
            return Ok(transport.clone());
        }
        let transport = self.dial().await?;
        self.connections().push(transport.id());
        *current = Some(transport.clone());
        Ok(transport)
    }

    /// A proxy that was there and is refused by its kernel now restarts: as long as a handshake may
    /// take, it is waited for.
    async fn dial(&self) -> Result<Transport, TransportError> {
        let give_up_at = Instant::now() + HANDSHAKE;
        loop {
            match Transport::connect(&self.0.settings).await {
                Err(TransportError::Refused)
                    if self.dialled() > 0 && Instant::now() < give_up_at =>
                {
                    sleep(AGAIN).await;
                }
                dialled => return dialled,
            }
        }
    }

    /// The connection if there is one.
    pub async fn current(&self) -> Option<Transport> {
        let current = self.0.current.lock().await;
        current.clone().filter(|transport| !transport.is_over())
    }

    /// How many connections there have been.
    pub fn dialled(&self) -> u32 {
        // Each has taken a handshake.
        u32::try_from(self.connections().len()).unwrap_or(u32::MAX)
    }

    /// The proxy's ids of these, the first one first.
    pub fn ids(&self) -> Vec<Cid> {
        self.connections().clone()
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Cid>> {
        // Whole between any two calls.
        self.0
            .dialled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection, if there is one.
    pub async fn close(&self) {
        if let Some(transport) = self.0.current.lock().await.take() {
            transport.close().await;
        }
    }
}

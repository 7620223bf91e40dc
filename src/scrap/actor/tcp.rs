//! Answers the scraper's peers.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::IntCounterVec;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{Index, Kept};
use crate::scrap::{
    catalog::Catalog,
    request::{MAX_REQUEST, NONE, Parsed, Request, parse},
};
use crate::{
    http::{Attend, Connection},
    role::Keep,
    watch::event::packet::{Label, Protocol, Role},
};

/// An answer must be taken within so long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a peer that has its answer may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers peers. Those that are there when the actor goes still get their answer, so that a restart
/// leaves no question unanswered.
#[derive(Clone)]
pub(super) struct Peers(Keep<Kept>);

impl Peers {
    pub(super) fn new(keep: Keep<Kept>) -> Self {
        Self(keep)
    }
}

impl Attend for Peers {
    fn label(&self) -> Label {
        Label::new(Role::Scrap, Protocol::List)
    }

    async fn attend(&self, connection: Connection) {
        let Kept { index, metrics, .. } = self.0.get();
        let peer = Peer {
            connection,
            index,
            requests: metrics.scrap_requests.clone(),
        };
        peer.serve().await;
    }
}

struct Peer {
    connection: Connection,
    index: Arc<Index>,
    requests: IntCounterVec,
}

impl Peer {
    async fn serve(mut self) {
        let patience = self.connection.place.limits().request_timeout;
        let request = match timeout(patience, self.request()).await {
            Ok(Ok(Some(request))) => request,
            Ok(_) => return self.count("invalid"),
            Err(_) => {
                self.connection.place.timed_out();
                return self.count("timeout");
            }
        };
        self.connection.place.busy();
        self.count(match request {
            Request::List => "signget",
            Request::Url(_) => "signurl",
        });
        let catalog = self.catalog().await;
        let answered = timeout(ANSWER_TIMEOUT, self.answer(&request, catalog.as_deref())).await;
        if !matches!(answered, Ok(Ok(()))) {
            tracing::debug!("a peer did not take its answer");
            return;
        }
        self.connection.place.idle();
        let _ = timeout(CLOSE_TIMEOUT, self.drain()).await;
    }

    fn count(&self, kind: &str) {
        self.requests.with_label_values(&[kind]).inc();
    }

    async fn request(&mut self) -> io::Result<Option<Request>> {
        let mut buffer = [0; MAX_REQUEST];
        let mut length = 0;
        loop {
            let read = self.connection.stream.read(&mut buffer[length..]).await?;
            length += read;
            match parse(&buffer[..length], read == 0) {
                Parsed::Request(request) => return Ok(Some(request)),
                Parsed::Invalid => return Ok(None),
                Parsed::Incomplete => {}
            }
        }
    }

    /// The newest list, after the wait that it is worth.
    async fn catalog(&self) -> Option<Arc<Catalog>> {
        let mut newest = self.index.view.subscribe();
        let now = Instant::now();
        let (patience, hurry, fetches) = {
            let view = newest.borrow();
            let schedule = &view.schedule;
            (
                schedule.patience(now),
                schedule.may_hurry(now),
                view.fetches,
            )
        };
        if hurry {
            self.index.demand.notify_one();
        }
        if let Some(patience) = patience {
            let fetched = newest.wait_for(|view| view.fetches != fetches);
            let _ = timeout(patience, fetched).await.is_ok();
        }
        newest.borrow().catalog.clone()
    }

    async fn answer(&mut self, request: &Request, catalog: Option<&Catalog>) -> io::Result<()> {
        let answer = match (request, catalog) {
            (_, None) => "",
            (Request::List, Some(catalog)) => catalog.list(),
            (Request::Url(name), Some(catalog)) => {
                catalog.url(name).map_or(NONE, |url| url.as_str())
            }
        };
        self.connection.stream.write_all(answer.as_bytes()).await?;
        self.connection.stream.shutdown().await
    }

    /// Reads on until the peer closes: closing over unread bytes would reset the connection, and
    /// the peer could lose its answer.
    async fn drain(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1024];
        while self.connection.stream.read(&mut buffer).await? > 0 {}
        Ok(())
    }
}

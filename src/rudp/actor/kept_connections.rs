//! HTTP connections to origins, from one request to the next.

use std::{
    cell::RefCell,
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::http1::SendRequest,
};
use tokio::time::{Instant, timeout};

use super::gate::Turn;

/// How long the end of a body is waited for whose bytes are all there.
const END: Duration = Duration::from_millis(100);
/// Connections kept for the next request.
const MAX_IDLE: usize = 64;
/// And for how long: origins close theirs after some seconds.
const MAX_IDLE_TIME: Duration = Duration::from_secs(4);

pub(super) type Sender = SendRequest<Empty<Bytes>>;

/// The connections to origins that wait for their next request. Clones share them.
#[derive(Clone, Default)]
pub(super) struct KeptConnections(Rc<RefCell<VecDeque<Idle>>>);

struct Idle {
    to: SocketAddr,
    from: IpAddr,
    sender: Sender,
    since: Instant,
}

impl KeptConnections {
    pub(super) fn take(&self, to: SocketAddr, from: IpAddr) -> Option<Sender> {
        let mut idle = self.0.borrow_mut();
        let now = Instant::now();
        idle.retain(|idle| !idle.sender.is_closed() && now - idle.since < MAX_IDLE_TIME);
        let newest = idle
            .iter()
            .rposition(|idle| idle.to == to && idle.from == from && idle.sender.is_ready())?;
        idle.remove(newest).map(|idle| idle.sender)
    }

    fn give(&self, to: SocketAddr, from: IpAddr, sender: Sender) {
        let mut idle = self.0.borrow_mut();
        let now = Instant::now();
        idle.retain(|idle| !idle.sender.is_closed() && now - idle.since < MAX_IDLE_TIME);
        if idle.len() == MAX_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle {
            to,
            from,
            sender,
            since: now,
        });
    }
}

/// A connection that one answer has for itself.
pub(super) struct BorrowedConnection {
    pub(super) to: SocketAddr,
    pub(super) sender: Sender,
    /// The client's turn, which ends with it.
    pub(super) turn: Option<Turn>,
}

impl BorrowedConnection {
    /// All that was wanted of `body` has been read: gives the connection back for the next request.
    pub(super) fn finish(mut self, body: Incoming, kept: &KeptConnections, from: IpAddr) {
        self.turn = None;
        let kept = kept.clone();
        actix_rt::spawn(async move {
            // The body's end has perhaps not been read yet; if that takes long, there is more of it.
            if body.is_end_stream() || drain(body).await {
                let ready = timeout(END, self.sender.ready()).await;
                if matches!(ready, Ok(Ok(()))) {
                    kept.give(self.to, from, self.sender);
                }
            }
        });
    }
}

/// Reads the end of a body of which everything has been read; false if there is more.
async fn drain(mut body: Incoming) -> bool {
    matches!(timeout(END, body.frame()).await, Ok(None))
}

//! One connection of the binary transport as an actor: takes its share of each receive, has files
//! fetched for its streams, and sends by itself on the shared socket.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    rc::Rc,
    task::{self, Poll},
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, MessageResult,
};
use bytes::BytesMut;

use super::{
    clock::Alarm,
    counters::WindowSeries,
    session::{Describe, Stop},
    shared::{Shared, caught},
    source::{Progress, Source},
};
use crate::rudp::{
    connection::{Arrival, CloseReason, Connection, Ecn, Event, Stats, StreamId, Transmit},
    exchange,
    packet::{Cid, ErrorCode},
    serve::{Command, Limits, Server},
    session::Query,
    signal,
};
use crate::{
    net::{self, drive, is_too_large},
    role::Crash,
    telemetry::{
        api,
        packets::{self, Fate},
    },
};

/// Messages that wait for a connection at most; each holds what one receive brought for it.
const MAILBOX: usize = 32;
/// What a connection sends before others have their turn, bytes.
const TURN: usize = 256 << 10;
/// How often what it has counted goes into the metrics.
const REPORT: Duration = Duration::from_millis(100);

/// One connection. It ends by itself, alone: nobody restarts it.
pub struct RudpConnection {
    connection: Connection,
    server: Server,
    cid: Cid,
    opened: Instant,
    shared: Rc<Shared>,
    fetches: Vec<Fetch>,
    alarm: Alarm,
    /// What the kernel had no room for.
    unsent: Option<(Vec<u8>, Transmit)>,
    local: Option<IpAddr>,
    heard: Instant,
    reported: Stats,
    reported_at: Instant,
    window: Option<WindowSeries>,
    ended: &'static str,
}

/// What is under way for a stream.
struct Fetch {
    stream: StreamId,
    work: Work,
}

enum Work {
    List(Pin<Box<dyn Future<Output = Option<String>>>>),
    File(Source),
}

/// What one receive brought for one connection.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Packets {
    pub(super) first: Run,
    pub(super) more: Vec<Run>,
}

/// Datagrams that came together.
#[derive(Debug)]
pub(super) struct Run {
    /// One behind the other.
    pub(super) bytes: BytesMut,
    /// The length of each but the last.
    pub(super) stride: usize,
    pub(super) arrival: Arrival,
}

impl RudpConnection {
    /// Starts a connection on the current thread. When it ends, however, the table hears of it.
    pub(super) fn start(connection: Connection, shared: Rc<Shared>, now: Instant) -> Addr<Self> {
        let cid = connection.cid();
        let table = shared.table.clone();
        let alarm = Alarm::new(&shared.clock);
        let (ended, reason) = std::sync::mpsc::channel();
        let actor = Self {
            server: Server::new(Limits::default(), now),
            connection,
            cid,
            opened: now,
            shared,
            fetches: Vec::new(),
            alarm,
            unsent: None,
            local: None,
            heard: now,
            reported: Stats::default(),
            reported_at: now,
            window: None,
            ended: "end",
        };
        drop(ended);
        drop::<std::sync::mpsc::Receiver<()>>(reason);
        let context = Context::new();
        let address = context.address();
        let run = context.into_future(actor);
        actix_rt::spawn(async move {
            let whole = caught(run).await;
            if let Some(table) = table.upgrade() {
                table.closed(cid, if whole { "end" } else { "crash" });
            }
        });
        address
    }
}

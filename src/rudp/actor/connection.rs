//! One connection of the binary transport as an actor: takes its share of each receive, has files
//! fetched for its streams, and sends by itself on the shared socket.

use std::{
    cell::RefCell,
    future::Future,
    io,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    task::{self, Poll},
    time::{Duration, Instant},
};

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, MessageResult};
use bytes::BytesMut;

use super::{
    clock::Alarm,
    counters::{Dropped, Shown},
    ended::Life,
    message::{ABANDONED, Describe, Displaced, Stop},
    pump::{Observer, Pump, Pumped},
    shared::{BusyOne, Shared},
    source::{Progress, Source},
};
use crate::rudp::{
    connection::{Arrival, CloseReason, Connection, Event, Stats, StreamId, Unreadable},
    exchange,
    packet::{Cid, ErrorCode},
    serve::{Command, FileServer, ServeLimits},
    session::Query,
    signal,
    statistics::{self, Standing},
};
use crate::{
    net::drive,
    role::{Crash, Guarded, api},
    statistic::fields,
    watch::event::hub,
};

/// Their kind, where they are told beside sessions of the signals.
pub(super) const TRANSPORT: &str = "transport";
/// Messages that wait for a connection at most; each holds what one receive brought for it.
const MAILBOX: usize = 32;
/// How often what it has counted goes into the metrics.
const REPORT: Duration = Duration::from_millis(100);

/// One connection. It ends by itself, alone: nobody restarts it.
pub struct RudpConnection {
    connection: Connection,
    server: FileServer,
    cid: Cid,
    opened: Instant,
    shared: Rc<Shared>,
    fetches: Vec<Fetch>,
    /// When to look again at those of which nothing is wanted.
    rest_at: Option<Instant>,
    alarm: Alarm,
    pump: Pump,
    /// Our address that the client writes to.
    local: Option<IpAddr>,
    heard: Instant,
    /// What the metrics know, and since when.
    reported: Stats,
    reported_at: Instant,
    shown: Option<Shown<Standing>>,
    /// While it carries something.
    busy: Option<BusyOne>,
    life: Rc<RefCell<Life>>,
    stops: bool,
}

/// What is under way for a stream.
struct Fetch {
    stream: StreamId,
    work: Work,
}

enum Work {
    List(Pin<Box<dyn Future<Output = Option<String>>>>),
    File(Box<Source>),
}

/// What one receive brought for one connection.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Packets {
    pub(super) first: Run,
    pub(super) more: Vec<Run>,
}

impl Packets {
    /// How many datagrams.
    pub(super) fn count(&self) -> u64 {
        let count = |run: &Run| run.bytes.len().div_ceil(run.stride) as u64;
        count(&self.first) + self.more.iter().map(count).sum::<u64>()
    }
}

/// Datagrams that came together.
#[derive(Debug)]
pub(super) struct Run {
    /// Datagrams, one behind the other.
    pub(super) bytes: BytesMut,
    /// The length of each but the last; not 0.
    pub(super) stride: usize,
    pub(super) arrival: Arrival,
}

/// Counts what becomes of a connection's datagrams.
struct Outlet<'a> {
    shared: &'a Shared,
    cid: Cid,
}

impl Observer for Outlet<'_> {
    fn sent(&mut self, datagrams: usize) {
        self.shared.counters.packets_sent(datagrams);
    }

    fn lost(&mut self, datagrams: usize, error: &io::Error) {
        tracing::debug!(connection = %self.cid, %error, datagrams, "packets could not be sent");
        self.shared.counters.lost_send.inc_by(datagrams as u64);
    }
}

impl RudpConnection {
    /// Starts a connection on the current thread. When it ends, however, the table hears of it.
    pub(super) fn start(connection: Connection, shared: Rc<Shared>, now: Instant) -> Addr<Self> {
        let cid = connection.cid();
        let registry = shared.registry.clone();
        let alarm = Alarm::new(&shared.clock);
        let name = connection.peer().name;
        let mut life = Life::new(
            TRANSPORT,
            connection.remote(),
            name.as_deref().unwrap_or(""),
        );
        life.told().connection_id = Some(cid.to_string());
        life.how("end", None);
        // Before it is confirmed there is nobody to tell of.
        let life = Rc::new(RefCell::new(life.unborn()));
        let ended = shared.ended.clone();
        let actor = Self {
            server: FileServer::new(ServeLimits::default(), now),
            connection,
            cid,
            opened: now,
            shared,
            fetches: Vec::new(),
            rest_at: None,
            alarm,
            pump: Pump::default(),
            local: None,
            heard: now,
            reported: Stats::default(),
            reported_at: now,
            shown: None,
            busy: None,
            life: Rc::clone(&life),
            stops: false,
        };
        let context = Context::new();
        let address = context.address();
        let running = Guarded::new(context, actor).run();
        actix_rt::spawn(async move {
            let outcome = running.await;
            let mut life = life.borrow_mut();
            if let Err(failure) = outcome {
                life.how("crash", Some(&failure.cause));
            }
            if let Some(registry) = registry.upgrade() {
                registry.closed(cid, &life.told().how);
            }
            life.end(&ended);
        });
        address
    }

    /// Whatever woke it: does what is due, sends what may be sent, and sets the alarm.
    fn poll(&mut self, ctx: &mut Context<Self>, task: &mut task::Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if self.connection.poll_timeout().is_some_and(|at| at <= now) {
            self.connection.handle_timeout(now);
        }
        if self.server.poll_timeout().is_some_and(|at| at <= now) {
            self.server.handle_timeout(&mut self.connection, now);
        }
        let mut budget = self.shared.portion();
        let sent = loop {
            let served = self.serve(now, task);
            match self.send(&mut budget) {
                Pumped::All => {}
                Pumped::Nothing if served => {}
                sent => break sent,
            }
        };
        self.report(now);
        let busy = !self.fetches.is_empty() || self.connection.held() > 0;
        if busy != self.busy.is_some() {
            self.busy = busy.then(|| self.shared.busy.one_more());
        }
        if self.connection.is_over() || self.stops {
            self.server.handle_close();
            self.fetches.clear();
            ctx.stop();
            return Poll::Ready(());
        }
        match sent {
            Pumped::Turn => task.waker().wake_by_ref(),
            Pumped::Blocked => self.shared.wake_when_sendable(task.waker()),
            Pumped::Nothing | Pumped::All => self.set_alarm(task),
        }
        Poll::Pending
    }

    fn set_alarm(&mut self, task: &task::Context<'_>) {
        let report = self.has_news().then(|| self.reported_at + REPORT);
        let due = [
            self.connection.poll_timeout(),
            self.server.poll_timeout(),
            self.rest_at,
            report,
        ];
        if let Some(due) = due.into_iter().flatten().min() {
            self.alarm.set(due, Instant::now(), task);
        }
    }

    /// Serves the streams; says whether anything has changed.
    fn serve(&mut self, now: Instant, task: &mut task::Context<'_>) -> bool {
        let mut any = false;
        while let Some(event) = self.connection.poll_event() {
            any = true;
            self.handle_event(event, now);
        }
        while let Some(command) = self.server.poll_command() {
            any = true;
            self.carry_out(command);
        }
        let mut n = 0;
        self.rest_at = None;
        while let Some(fetch) = self.fetches.get_mut(n) {
            let stream = fetch.stream;
            let progress = match &mut fetch.work {
                Work::List(list) => match list.as_mut().poll(task) {
                    Poll::Pending => None,
                    Poll::Ready(list) => {
                        let names = list.as_deref().map(signal::files);
                        let connection = &mut self.connection;
                        self.server.handle_list(stream, names, connection, now);
                        Some(true)
                    }
                },
                Work::File(source) => {
                    let wanted = !source.has_head()
                        || (self.server).wants(stream, &self.connection, self.shared.share());
                    if wanted {
                        match source.poll(task) {
                            Poll::Pending => None,
                            Poll::Ready(progress) => Some(self.take(stream, progress, now)),
                        }
                    } else {
                        let look_again = source.rest(now);
                        self.rest_at = self.rest_at.into_iter().chain(look_again).min();
                        None
                    }
                }
            };
            match progress {
                None => n += 1,
                Some(over) => {
                    any = true;
                    if over {
                        self.fetches.swap_remove(n);
                    } else {
                        n += 1;
                    }
                }
            }
        }
        any
    }

    /// Takes what a source brings; says whether that was all.
    fn take(&mut self, stream: StreamId, progress: Progress, now: Instant) -> bool {
        let connection = &mut self.connection;
        match progress {
            Progress::Head(head) => {
                self.server.handle_head(stream, head, connection, now);
                false
            }
            Progress::Chunk(chunk) => {
                self.server.handle_chunk(stream, chunk, connection);
                false
            }
            Progress::End => {
                self.server.handle_end(stream, connection);
                true
            }
            Progress::Failed(code, text) => {
                tracing::debug!(connection = %self.cid, %code, text, "a file can't be had");
                (self.server).handle_failure(stream, code, &text, connection);
                true
            }
        }
    }

    fn handle_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Stream(event) => self.server.handle_event(event, &mut self.connection, now),
            Event::Connected => {
                if let Some(registry) = self.shared.registry.upgrade() {
                    registry.confirmed(self.cid);
                }
                let address = self.connection.remote().ip();
                self.shared.allowance().proven(address, now);
                self.life.borrow_mut().begin();
                self.shared.remember(&mut self.connection, now);
                let name = self.connection.peer().name;
                let client = self.connection.remote();
                let counters = &self.shared.counters;
                self.shown = counters.show_connection(name.as_deref(), client, self.cid);
            }
            // A client alone binds anew.
            Event::Unheard => {}
            Event::Moved { from, to } => {
                tracing::info!(connection = %self.cid, %from, %to, "the client has moved");
                if let Some(registry) = self.shared.registry.upgrade() {
                    registry.moved(self.cid, to);
                }
            }
            Event::Closed(reason) => {
                tracing::debug!(connection = %self.cid, %reason, "closed");
                let how = match &reason {
                    CloseReason::Idle => "idle",
                    CloseReason::Reset => "reset",
                    CloseReason::Violation { .. } => "violation",
                    CloseReason::Local { code } if *code == ErrorCode::SHUTDOWN => "shutdown",
                    _ => "end",
                };
                (self.life.borrow_mut()).how(how, Some(&reason.to_string()));
                self.server.handle_close();
            }
        }
    }

    fn carry_out(&mut self, command: Command) {
        let from = self.local.unwrap_or(self.shared.local.ip());
        let client = self.connection.remote().ip();
        match command {
            Command::List { stream } => {
                let shared = Rc::clone(&self.shared);
                let list = async move {
                    let most = exchange::MAX_LIST;
                    shared.ask_scraper(from, client, &Query::List, most).await
                };
                let work = Work::List(Box::pin(list));
                self.fetches.push(Fetch { stream, work });
            }
            Command::Fetch {
                stream,
                file,
                range,
                validator,
            } => {
                let validator = validator.as_deref();
                let source = Source::open(&self.shared, (from, client), file, range, validator);
                let work = Work::File(Box::new(source));
                self.fetches.push(Fetch { stream, work });
            }
            Command::Cancel { stream } => self.fetches.retain(|fetch| fetch.stream != stream),
        }
    }

    fn send(&mut self, budget: &mut usize) -> Pumped {
        let shared = &*self.shared;
        let mut outlet = Outlet {
            shared,
            cid: self.cid,
        };
        let bytes = &mut shared.burst.borrow_mut();
        (self.pump).run(
            &mut self.connection,
            &shared.socket,
            bytes,
            budget,
            &mut outlet,
        )
    }

    fn has_news(&self) -> bool {
        self.connection.packets() != self.reported.packets()
    }

    fn standing(&self, now: Instant) -> Standing {
        let since = |then| now.saturating_duration_since(then);
        let idle = Some(since(self.heard));
        Standing::of(&self.connection, since(self.opened), idle)
    }

    /// Brings the metrics up to date, now and then and at the end.
    fn report(&mut self, now: Instant) {
        let due = now.saturating_duration_since(self.reported_at) >= REPORT;
        if !due && !self.connection.is_over() && !self.stops || !self.has_news() {
            return;
        }
        let standing = self.standing(now);
        if let Some(shown) = &self.shown {
            shown.set(&standing);
        }
        let stats = standing.stats;
        self.shared.counters.connection(&self.reported, &stats);
        let mut life = self.life.borrow_mut();
        let told = life.told();
        told.client = self.connection.remote();
        (told.bytes_received, told.bytes_sent) = (stats.bytes_received, stats.bytes_sent);
        (told.lost, told.sent_again) = (stats.packets_lost, stats.packets_retransmitted);
        drop(life);
        self.reported = stats;
        self.reported_at = now;
    }
}

impl Actor for RudpConnection {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.spawn(drive(Self::poll));
    }
}

impl Handler<Packets> for RudpConnection {
    type Result = ();

    /// What follows from it is done when the mailbox is empty: a burst is acknowledged at once.
    fn handle(&mut self, Packets { first, more }: Packets, _: &mut Self::Context) {
        let now = Instant::now();
        self.heard = now;
        for mut run in std::iter::once(first).chain(more) {
            self.local = run.arrival.local;
            for datagram in run.bytes.chunks_mut(run.stride) {
                // What is opened in its place is another thing afterwards.
                let shown = hub::watched().then(|| datagram.to_vec());
                let read = self.connection.handle_datagram(&run.arrival, datagram, now);
                if let Some(unreadable) = read {
                    let reason = match unreadable {
                        Unreadable::Integrity => Dropped::Integrity,
                        Unreadable::Malformed => Dropped::Malformed,
                    };
                    let datagram = shown.as_deref().unwrap_or(datagram);
                    self.shared.refuse(reason, datagram, &run.arrival);
                }
            }
        }
    }
}

impl Handler<Describe> for RudpConnection {
    type Result = MessageResult<Describe>;

    fn handle(&mut self, _: Describe, _: &mut Self::Context) -> Self::Result {
        let now = Instant::now();
        let name = self.connection.peer().name;
        MessageResult(api::SessionEntry {
            kind: TRANSPORT.to_owned(),
            client: self.connection.remote(),
            name: name.map(|name| name.to_string()).unwrap_or_default(),
            connection_id: Some(self.cid.to_string()),
            statistics: fields(statistics::TRANSPORT, &self.standing(now)),
        })
    }
}

impl Handler<Stop> for RudpConnection {
    type Result = ();

    /// The client hears of it, and the connection is gone: nobody is left to linger for.
    fn handle(&mut self, stop: Stop, ctx: &mut Self::Context) {
        if let Stop::Abandoned = stop {
            self.life.borrow_mut().how("crash", Some(ABANDONED));
            ctx.stop();
            return;
        }
        let code = ErrorCode::SHUTDOWN;
        let reason = "the proxy shuts down";
        self.connection.close(code, reason, Instant::now());
        self.stops = true;
    }
}

impl Handler<Displaced> for RudpConnection {
    type Result = ();

    /// A connection that is confirmed meanwhile has no place to give.
    fn handle(&mut self, _: Displaced, _: &mut Self::Context) {
        if !self.connection.is_open() {
            let code = ErrorCode::CONNECTION_REFUSED;
            let reason = "the proxy has too many handshakes under way, and yours took long";
            self.connection.close(code, reason, Instant::now());
            self.stops = true;
        }
    }
}

impl Handler<Crash> for RudpConnection {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        panic!("fault injection");
    }
}

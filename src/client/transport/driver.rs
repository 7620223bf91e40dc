//! The task of one connection.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    io,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::AbortHandle,
};

use super::{Command, Connected, Local, Settings};
use crate::{
    client::{
        carrier::{AnswerError, Carrier, Event, Piece, Ticket},
        udp::{self, SocketError},
    },
    config::BadLink,
    link::{LinkOptions, LinkedSocket, Side, SocketLink},
    net::{
        ReceiveBatch, Timer, UdpSocket, enlarge_buffers,
        interface::{self, InterfaceWatch},
    },
    rudp::{
        congestion::Algorithm,
        connection::{Arrival, CloseReason, Introduction, Unreadable},
        exchange::Head,
        packet::{Cid, Protection, Text},
        pump::{Observer, Pump},
        statistics::Standing,
    },
    watch::{
        event::{
            hub::{self, Trace},
            packet::{Label, Protocol, Role},
            transport::Traced,
        },
        qlog::{self, About},
        ring,
    },
};

/// What one piece of a body holds at most.
const PIECE: usize = 64 << 10;
/// A goodbye takes no longer, however slow the network.
const GOODBYE: Duration = Duration::from_secs(1);

/// After a new socket this one is given so long a chance before the next.
const REBIND: Duration = Duration::from_millis(500);

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Ended {
    Closed(CloseReason),
    /// The kernel says that nobody is there.
    Refused,
    Socket(SocketError),
}

/// Moves the bytes of one connection.
pub(super) struct Driver {
    carrier: Carrier,
    settings: Settings,
    /// The bad network before all its sockets.
    link: Option<SocketLink>,
    socket: LinkedSocket,
    bound_at: Instant,
    /// From where it sends now, for those who tell of it.
    pub(super) local: Arc<Local>,
    /// The kernel says that nobody is there.
    refused: bool,
    /// A new socket is wanted, at that time.
    rebind_at: Option<Instant>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// Listens to the kernel's news of addresses.
    news: AbortHandle,
    batch: ReceiveBatch,
    timer: Timer,
    pub(super) room: Arc<Notify>,
    /// Who waits for the handshake, and since when.
    connected: Option<oneshot::Sender<Result<Connected, Ended>>>,
    /// Who observes the process hears of the connection's steps.
    trace: Option<Trace>,
    began: Instant,
    /// When the handshake was done.
    connected_at: Option<Instant>,
    readers: BTreeMap<Ticket, Reader>,
    pump: Pump,
    /// Where datagrams are made.
    buffer: Vec<u8>,
    /// Who waits for the goodbye, and until when.
    closing: Option<(Instant, Option<oneshot::Sender<()>>)>,
    /// Why it is over, for whoever asks later.
    pub(super) over: Arc<OnceLock<CloseReason>>,
}

/// Who reads an answer.
struct Reader {
    key: u64,
    head: Option<oneshot::Sender<Result<Head, AnswerError>>>,
    ended: oneshot::Sender<Result<(), AnswerError>>,
    chunks: mpsc::Sender<Bytes>,
    /// Whether there may be something to read.
    readable: bool,
}

type Waiting = oneshot::Receiver<Result<Connected, Ended>>;

impl Driver {
    pub(super) async fn new(
        settings: &Settings,
    ) -> Result<(Self, Waiting, mpsc::UnboundedSender<Command>), SocketError> {
        let BadLink { up, down, seed } = settings.link;
        let is_bad = up != LinkOptions::default() || down != LinkOptions::default();
        let link = is_bad.then(|| SocketLink::new(Side::Client, up, down, seed));
        if let (Some(link), Some(fates)) = (&link, &settings.fates) {
            link.control().watch(Arc::new(fates.clone()));
        }
        let socket = open(settings, link.as_ref(), false).await?;
        let introduction = Introduction {
            // A name of the text protocol has the same alphabet and length.
            name: Text::new(settings.name.as_str()).map_err(io::Error::other)?,
            congestion: settings.congestion,
            cid: Cid(rand::random()),
            nonce: rand::random(),
        };
        let began = Instant::now();
        let config = Arc::new(settings.config());
        let (server, seed) = (settings.server, rand::random());
        let mut carrier = Carrier::connect(config, &introduction, server, seed, began);
        let traced = || Traced {
            role: Role::Client,
            connection: introduction.cid.0,
            destination: OnceLock::new(),
            name: settings.name.as_str().to_owned(),
            remote: server,
            congestion: Algorithm::default().name(),
        };
        let trace = hub::trace(traced, began);
        if let Some(trace) = &trace {
            carrier.observe(Box::new(trace.clone()), began);
        }
        if let Some(qlog) = &settings.qlog {
            let recorder = qlog.connection(About {
                side: qlog::Side::Client,
                cid: introduction.cid.0,
                name: settings.name.as_str().to_owned(),
                remote: server,
                congestion: Algorithm::default().name(),
                began,
            });
            carrier.observe(Box::new(recorder), began);
        }
        let (tell, connected) = oneshot::channel();
        let (sender, commands) = mpsc::unbounded_channel();
        let driver = Self {
            carrier,
            settings: settings.clone(),
            link,
            local: Arc::new(Local::new(socket.local_addr()?)),
            socket,
            bound_at: began,
            refused: false,
            rebind_at: None,
            commands,
            news: tokio::spawn(hear_news(sender.downgrade())).abort_handle(),
            batch: ReceiveBatch::new(),
            timer: Timer::new()?,
            room: Arc::default(),
            connected: Some(tell),
            trace,
            began,
            connected_at: None,
            readers: BTreeMap::new(),
            pump: Pump::default(),
            buffer: Vec::new(),
            closing: None,
            over: Arc::default(),
        };
        Ok((driver, connected, sender))
    }

    /// Runs until the connection is over.
    pub(super) async fn run(mut self) {
        if let Err(error) = self.serve().await {
            tracing::debug!(%error, "the connection's timer failed");
            if let Some(connected) = self.connected.take() {
                let _ = connected.send(Err(Ended::Socket(error.into())));
            }
        }
    }

    async fn serve(&mut self) -> io::Result<()> {
        loop {
            self.handle_events();
            if self.rebind_at.is_some_and(|at| at <= Instant::now()) {
                self.rebind().await;
            }
            self.read();
            self.transmit();
            if self.carrier.is_over() || self.refused {
                return Ok(());
            }
            let goodbye = self.closing.as_ref().map(|(until, _)| *until);
            if goodbye.is_some_and(|until| until <= Instant::now()) {
                return Ok(());
            }
            let due = [self.carrier.poll_timeout(), goodbye, self.rebind_at];
            self.timer.set(due.into_iter().flatten().min())?;
            tokio::select! {
                received = poll_fn(|task| self.socket.poll_receive(task, &mut self.batch)), if self.rebind_at.is_none() => {
                    match received {
                        Ok(()) => self.receive(),
                        Err(error) => self.on_trouble(&error),
                    }
                }
                expired = self.timer.expired() => {
                    expired?;
                    self.carrier.handle_timeout(Instant::now());
                }
                command = self.commands.recv(), if self.closing.is_none() => {
                    self.obey(command);
                }
                () = self.room.notified() => {}
                ready = poll_fn(|task| self.socket.poll_send_ready(task)), if self.pump.is_blocked() => ready?,
            }
        }
    }

    /// The kernel does not send, or not receive.
    fn on_trouble(&mut self, error: &io::Error) {
        match error.raw_os_error() {
            // A server that was there may be back in a moment, and says then what it knows of the
            // connection.
            Some(libc::ECONNREFUSED) => {
                if let Some(connected) = self.connected.take() {
                    self.refused = true;
                    let _ = connected.send(Err(Ended::Refused));
                }
            }
            // No other socket would do better.
            Some(libc::EMSGSIZE | libc::ENOBUFS | libc::ENOMEM | libc::EPERM) => {}
            _ => {
                tracing::debug!(%error, "the connection's socket fails");
                self.want_socket();
            }
        }
    }

    fn want_socket(&mut self) {
        let at = self.bound_at + REBIND;
        self.rebind_at.get_or_insert(at);
    }

    /// Something about the machine's addresses has changed.
    fn on_news(&mut self) {
        let local = self.local.get();
        if self.rebind_at.is_some() || interface::address_absence(local).is_some() {
            self.rebind_at = Some(Instant::now());
        }
    }

    /// Goes on from a new socket: from the same address if the machine still has it.
    async fn rebind(&mut self) {
        self.bound_at = Instant::now();
        self.rebind_at = None;
        let opened = async {
            let socket = open(&self.settings, self.link.as_ref(), true).await?;
            let local = socket.local_addr()?;
            Ok::<_, SocketError>((socket, local))
        };
        match opened.await {
            Ok((socket, local)) => {
                let before = self.local.set(local);
                let server = self.settings.server;
                tracing::info!(%server, %before, %local, "the connection goes on from a new socket");
                self.socket = socket;
                // What waits was to leave from where nobody is any more.
                self.pump = Pump::default();
                let moved = before.ip() != local.ip();
                self.carrier.connection().rebound(moved, self.bound_at);
            }
            Err(error) => {
                tracing::debug!(%error, "no socket to go on from, yet");
                self.want_socket();
            }
        }
    }

    fn receive(&mut self) {
        let now = Instant::now();
        for segments in self.batch.buffers_mut() {
            let arrival = Arrival {
                remote: segments.source,
                local: segments.destination,
                ecn: segments.ecn,
            };
            for datagram in segments.bytes.chunks_mut(segments.stride) {
                // What is opened in its place is another thing afterwards.
                let shown = hub::watched().then(|| datagram.to_vec());
                let read = self.carrier.handle_datagram(&arrival, datagram, now);
                if let (Some(shown), Some(unreadable)) = (shown, read) {
                    let reason = match unreadable {
                        Unreadable::Integrity => "integrity",
                        Unreadable::Malformed => "malformed",
                    };
                    let tap = self.socket.tap();
                    tap.refused(&shown, arrival.remote, arrival.local, reason);
                }
            }
        }
    }

    fn obey(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Ask(asking)) => match self.carrier.ask(&asking.question.question()) {
                Ok(ticket) => {
                    let reader = Reader {
                        key: asking.key,
                        head: Some(asking.head),
                        ended: asking.ended,
                        chunks: asking.chunks,
                        readable: false,
                    };
                    self.readers.insert(ticket, reader);
                }
                Err(malformed) => {
                    let _ = asking.head.send(Err(malformed.into()));
                }
            },
            Some(Command::GiveUp(key)) => {
                let mut readers = self.readers.iter();
                if let Some((&ticket, _)) = readers.find(|(_, reader)| reader.key == key) {
                    self.readers.remove(&ticket);
                    self.carrier.give_up(ticket);
                }
            }
            Some(Command::News) => self.on_news(),
            Some(Command::Standing(tell)) => {
                let since = self.connected_at.map(|at| at.elapsed());
                let connection = self.carrier.connection();
                let _ = tell.send(Standing::of(connection, since.unwrap_or_default(), None));
            }
            Some(Command::Close(tell)) => self.close(Some(tell)),
            None => self.close(None),
        }
    }

    /// Says goodbye, and again if the server goes on, for a while.
    fn close(&mut self, tell: Option<oneshot::Sender<()>>) {
        let now = Instant::now();
        self.carrier.close(now);
        self.closing = Some((now + GOODBYE, tell));
        // Who asks from now on hears that it is over.
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            drop(command);
        }
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.carrier.poll_event() {
            match event {
                Event::Connected => {
                    self.on_connected(Instant::now());
                    if let Some(connected) = self.connected.take() {
                        let _ = connected.send(Ok(Connected {
                            id: self.carrier.connection().peer_cid(),
                            handshake: self.began.elapsed(),
                        }));
                    }
                }
                Event::Head(ticket, head) => {
                    if let Some(reader) = self.readers.get_mut(&ticket)
                        && let Some(tell) = reader.head.take()
                    {
                        let _ = tell.send(Ok(head));
                    }
                }
                Event::Readable(ticket) => {
                    if let Some(reader) = self.readers.get_mut(&ticket) {
                        reader.readable = true;
                    }
                }
                Event::Failed(ticket, error) => {
                    if let Some(reader) = self.readers.remove(&ticket) {
                        match reader.head {
                            Some(tell) => drop(tell.send(Err(error))),
                            None => drop(reader.ended.send(Err(error))),
                        }
                    }
                }
                Event::Unheard => self.rebind_at = Some(Instant::now()),
                Event::Closed(reason) => {
                    tracing::debug!(%reason, "the connection is over");
                    let _ = self.over.set(reason.clone());
                    self.commands.close();
                    if let Some(connected) = self.connected.take() {
                        let _ = connected.send(Err(Ended::Closed(reason)));
                    }
                }
            }
        }
    }

    /// The server's connection id is known: by it a link's verdicts find what is sent.
    fn on_connected(&mut self, now: Instant) {
        self.connected_at = Some(now);
        let connection = self.carrier.connection();
        let destination = connection.peer_cid().0;
        if let Some(trace) = &self.trace {
            trace.connected(destination, now);
        }
        if let Some(rings) = &self.settings.rings {
            let about = ring::About {
                connection: connection.cid().0,
                destination,
                name: self.settings.name.as_str().to_owned(),
                client: self.local.get(),
                congestion: connection.congestion(),
            };
            let recorder = rings.begin(about, self.settings.fates.clone(), now);
            connection.observe(Box::new(recorder), now);
        }
    }

    /// Reads what there is for whoever has room for it.
    fn read(&mut self) {
        let mut ended = Vec::new();
        for (&ticket, reader) in &mut self.readers {
            while reader.readable && reader.chunks.capacity() > 0 {
                match self.carrier.read(ticket, PIECE) {
                    Ok(Piece::Data(bytes)) => {
                        // There is room; a reader that has gone will say so.
                        let _ = reader.chunks.try_send(bytes);
                    }
                    Ok(Piece::Blocked) => reader.readable = false,
                    Ok(Piece::End) => {
                        reader.readable = false;
                        ended.push((ticket, Ok(())));
                    }
                    Err(error) => {
                        reader.readable = false;
                        ended.push((ticket, Err(error)));
                    }
                }
            }
        }
        for (ticket, end) in ended {
            if let Some(reader) = self.readers.remove(&ticket) {
                let _ = reader.ended.send(end);
            }
        }
    }

    /// Sends what is to be sent, until the kernel has no room.
    fn transmit(&mut self) {
        let mut all = usize::MAX;
        let mut outlet = Outlet::default();
        self.pump.run(
            self.carrier.connection(),
            &self.socket,
            &mut self.buffer,
            &mut all,
            &mut outlet,
        );
        if let Some(error) = outlet.trouble {
            self.on_trouble(&error);
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.news.abort();
    }
}

/// A socket for a connection: from the wanted address, or from any if the machine has lost that and
/// the connection `roams`.
async fn open(
    settings: &Settings,
    link: Option<&SocketLink>,
    roams: bool,
) -> Result<LinkedSocket, SocketError> {
    let server = settings.server;
    let socket = match udp::connect(settings.local, server).await {
        Err(SocketError::Bind { foreign: true, .. }) if roams => udp::connect(None, server).await?,
        socket => socket?,
    };
    let socket = socket.into_std()?;
    enlarge_buffers(&socket)?;
    let socket = UdpSocket::adopt(&socket)?
        .unfragmented()?
        .hearing_refusals();
    let socket = match link {
        Some(link) => LinkedSocket::behind(socket, link, 0),
        None => socket.into(),
    };
    let sealed = settings.protection != Protection::Checksum;
    let label = Label::new(Role::Client, Protocol::Rudp).sealed(sealed);
    Ok(socket.watched_as(label)?)
}

/// Hands on the kernel's news of addresses, as long as somebody wants them.
async fn hear_news(commands: mpsc::WeakUnboundedSender<Command>) {
    let mut watch = InterfaceWatch::new();
    loop {
        watch.changed().await;
        let Some(commands) = commands.upgrade() else {
            return;
        };
        if commands.send(Command::News).is_err() {
            return;
        }
    }
}

/// Keeps an error that is more than a loss.
#[derive(Default)]
struct Outlet {
    trouble: Option<io::Error>,
}

impl Observer for Outlet {
    fn sent(&mut self, _: usize) {}

    fn lost(&mut self, _: usize, error: &io::Error) {
        self.trouble = Some(match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => error.kind().into(),
        });
    }
}

//! The task of one connection.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{Command, Settings};
use crate::{
    client::{
        carrier::{AnswerError, Carrier, Event, Piece, Ticket},
        session::BadLink,
        udp::is_the_network,
    },
    net::{ReceiveBatch, Side, SocketLink, Timer, UdpSocket, link::LinkOptions},
    rudp::{
        connection::{Arrival, CloseReason, Introduction, Transmit},
        ecn,
        exchange::Head,
        meaning,
        packet::{Cid, Protection, Text},
        pump::{Observer, Pump},
    },
    telemetry::packets::{self, Fate},
};

/// What one piece of a body holds at most.
const PIECE: usize = 64 << 10;
/// A goodbye takes no longer, however slow the network.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Ended {
    Closed(CloseReason),
    Socket(io::Error),
}

/// Moves the bytes of one connection.
pub(super) struct Driver {
    carrier: Carrier,
    socket: UdpSocket,
    pub(super) local: SocketAddr,
    server: SocketAddr,
    commands: mpsc::UnboundedReceiver<Command>,
    batch: ReceiveBatch,
    timer: Timer,
    pub(super) room: Arc<Notify>,
    /// Whether packets can be told in words.
    readable: bool,
    /// Who waits for the handshake, and since when.
    connected: Option<oneshot::Sender<Result<Duration, Ended>>>,
    began: Instant,
    readers: BTreeMap<Ticket, Reader>,
    pump: Pump,
    /// Where datagrams are made.
    buffer: Vec<u8>,
    /// Who waits for the goodbye, and until when.
    closing: Option<(Instant, Option<oneshot::Sender<()>>)>,
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

type Connected = oneshot::Receiver<Result<Duration, Ended>>;

impl Driver {
    pub(super) fn new(
        settings: &Settings,
        mut socket: UdpSocket,
    ) -> io::Result<(Self, Connected, mpsc::UnboundedSender<Command>)> {
        let BadLink { up, down, seed } = settings.link;
        if up != LinkOptions::default() || down != LinkOptions::default() {
            socket = socket.behind(&SocketLink::new(Side::Client, up, down, seed), 0);
        }
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
        let (tell, connected) = oneshot::channel();
        let (sender, commands) = mpsc::unbounded_channel();
        let driver = Self {
            carrier: Carrier::connect(config, &introduction, server, seed, began),
            local: socket.local_addr()?,
            socket,
            server,
            commands,
            batch: ReceiveBatch::new(),
            timer: Timer::new()?,
            room: Arc::default(),
            readable: settings.protection == Protection::Checksum,
            connected: Some(tell),
            began,
            readers: BTreeMap::new(),
            pump: Pump::default(),
            buffer: Vec::new(),
            closing: None,
        };
        Ok((driver, connected, sender))
    }

    /// Runs until the connection is over.
    pub(super) async fn run(mut self) {
        if let Err(error) = self.serve().await {
            tracing::debug!(%error, "the connection's socket failed");
            if let Some(connected) = self.connected.take() {
                let _ = connected.send(Err(Ended::Socket(error)));
            }
        }
    }

    async fn serve(&mut self) -> io::Result<()> {
        loop {
            self.handle_events();
            self.read();
            self.transmit()?;
            if self.carrier.is_over() {
                return Ok(());
            }
            let goodbye = self.closing.as_ref().map(|(until, _)| *until);
            if goodbye.is_some_and(|until| until <= Instant::now()) {
                return Ok(());
            }
            let due = self.carrier.poll_timeout().into_iter().chain(goodbye).min();
            self.timer.set(due)?;
            tokio::select! {
                received = poll_fn(|task| self.socket.poll_receive(task, &mut self.batch)) => {
                    match received {
                        Ok(()) => self.receive(),
                        Err(error) if is_the_network(&error) => {}
                        Err(error) => return Err(error),
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

    fn receive(&mut self) {
        let now = Instant::now();
        for segments in self.batch.buffers_mut() {
            let arrival = Arrival {
                remote: segments.source,
                local: segments.destination,
                ecn: segments.ecn.map(ecn::of_net),
            };
            for datagram in segments.bytes.chunks_mut(segments.stride) {
                self.carrier.handle_datagram(&arrival, datagram, now);
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
            Some(Command::Stats(tell)) => {
                let _ = tell.send(self.carrier.stats());
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
                    if let Some(connected) = self.connected.take() {
                        let _ = connected.send(Ok(self.began.elapsed()));
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
                Event::Closed(reason) => {
                    tracing::debug!(%reason, "the connection is over");
                    self.commands.close();
                    if let Some(connected) = self.connected.take() {
                        let _ = connected.send(Err(Ended::Closed(reason)));
                    }
                }
            }
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
    fn transmit(&mut self) -> io::Result<()> {
        let mut all = usize::MAX;
        let mut outlet = Outlet {
            ends: (self.local, self.server),
            readable: self.readable,
            failed: None,
        };
        self.pump.run(
            self.carrier.connection(),
            &self.socket,
            &mut self.buffer,
            &mut all,
            &mut outlet,
        );
        outlet.failed.map_or(Ok(()), Err)
    }
}

/// Tells whoever watches of what is sent, and keeps an error that is more than a loss.
struct Outlet {
    ends: (SocketAddr, SocketAddr),
    /// Whether packets can be told in words.
    readable: bool,
    failed: Option<io::Error>,
}

impl Observer for Outlet {
    fn made(&mut self, burst: &[u8], transmit: &Transmit) {
        if !packets::watched() {
            return;
        }
        for datagram in burst.chunks(transmit.segment.max(1)) {
            let meaning = meaning::of_packet(datagram, self.readable);
            let ((from, to), bytes) = (self.ends, datagram.len());
            packets::sent("client", "RUDP", from, to, bytes, Fate::Sent, meaning);
        }
    }

    fn sent(&mut self, _: usize) {}

    fn lost(&mut self, _: usize, error: &io::Error) {
        if !is_the_network(error) {
            self.failed = Some(error.kind().into());
        }
    }
}

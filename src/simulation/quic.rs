//! QUIC by quinn's own core on a virtual-time network: what `rudp`'s [`Peer`](super::Peer) and
//! [`Server`](super::Server) are for the reliable transport.
//!
//! The keys of a connection come from the operating system, so that its bytes are others each time. Their
//! number is the same, and so is all else that quinn-proto leaves to chance: it follows from the seed.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, ConnectionId,
    ConnectionIdGenerator, ConnectionStats, DatagramEvent, Dir, EcnCodepoint, Endpoint,
    EndpointConfig, Event, Incoming, ServerConfig, StreamEvent, StreamId, Transmit,
};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{
    Datagram, Host,
    transfer::{Answer, Arriving, CHUNK, Files},
};
use crate::{link::Way, watch::event::Ecn};

/// Datagrams of one size that leave in one go, as quinn has the kernel cut them.
const SEGMENTS: usize = 10;
/// What quinn makes its connection ids of.
const ID_LENGTH: usize = 8;

/// How both ends of a flow's connection behave.
#[derive(Debug, Clone)]
pub struct QuicConfig {
    /// The client's end. Flows that share one resume each other's sessions.
    pub client: ClientConfig,
    /// The sender's end, the controller included.
    pub server: Arc<ServerConfig>,
    /// The name that the sender's certificate is for.
    pub name: &'static str,
}

/// What a QUIC sender has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuicStats {
    /// Packets sent, those that only acknowledge among them: of a sender they are few.
    pub packets_sent: u64,
    /// Packets taken for lost, those that were to find out the largest datagram among them.
    pub packets_lost: u64,
    /// The bytes of those, without the latter's. What was lost is sent again, if it was data; what was sent
    /// again as a probe, quinn does not count by bytes.
    pub bytes_lost: u64,
}

impl From<&ConnectionStats> for QuicStats {
    fn from(stats: &ConnectionStats) -> Self {
        let path = &stats.path;
        Self {
            packets_sent: path.sent_packets,
            packets_lost: path.lost_packets + path.lost_plpmtud_probes,
            bytes_lost: path.lost_bytes,
        }
    }
}

/// What runs on top of a connection, on either side.
pub(super) trait QuicApplication {
    /// Takes what the connection has to tell, and opens, reads and writes streams.
    fn run(&mut self, connection: &mut Connection, now: Instant);
}

/// Connection ids that follow from a seed.
struct Ids(Pcg64Mcg);

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.next_u64().to_be_bytes())
    }

    fn cid_len(&self) -> usize {
        ID_LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Says how to behave to who connects from an address, and what runs on the connection; `None`: nobody is
/// expected from there.
pub(super) type Accept<A> = Box<dyn Fn(SocketAddr) -> Option<(Arc<ServerConfig>, A)>>;

/// One end: an endpoint and its connections.
pub(super) struct QuicHost<A> {
    endpoint: Endpoint,
    address: SocketAddr,
    way: Way,
    accept: Accept<A>,
    /// By their handles. Those that are over stay.
    connections: BTreeMap<usize, Connected<A>>,
    buffer: Vec<u8>,
}

struct Connected<A> {
    connection: Connection,
    application: A,
    dirty: bool,
    due: Option<Instant>,
}

impl<A> Connected<A> {
    fn new(connection: Connection, application: A) -> Self {
        Self {
            connection,
            application,
            dirty: true,
            due: None,
        }
    }
}

impl<A> fmt::Debug for QuicHost<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicHost")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// An endpoint all whose chance follows from the seed.
fn endpoint(server: Option<Arc<ServerConfig>>, seed: u64) -> Endpoint {
    let mut bytes = [0; 32];
    Pcg64Mcg::seed_from_u64(seed).fill_bytes(&mut bytes);
    let mut config = EndpointConfig::default();
    config.rng_seed(Some(bytes));
    config.cid_generator(move || Box::new(Ids(Pcg64Mcg::seed_from_u64(!seed))));
    // The path tells nobody that a datagram was too large, and fragments none.
    Endpoint::new(Arc::new(config), server, true, None)
}

impl<A: QuicApplication> QuicHost<A> {
    /// One that takes connections; `server` is how it behaves to those that `accept` lets in, as long as
    /// they are only asking.
    pub(super) fn server(
        address: SocketAddr,
        server: Option<Arc<ServerConfig>>,
        seed: u64,
        accept: Accept<A>,
    ) -> Self {
        Self {
            endpoint: endpoint(server, seed),
            address,
            way: Way::Down,
            accept,
            connections: BTreeMap::new(),
            buffer: Vec::new(),
        }
    }

    /// One with one connection, that it begins.
    ///
    /// # Errors
    /// quinn does not take the server's name or address.
    pub(super) fn client(
        address: SocketAddr,
        (config, server): (&QuicConfig, SocketAddr),
        application: A,
        seed: u64,
        now: Instant,
    ) -> Result<Self, quinn_proto::ConnectError> {
        let mut first = [0; 16];
        Pcg64Mcg::seed_from_u64(seed.rotate_left(32)).fill_bytes(&mut first);
        let mut client = config.client.clone();
        client.initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&first)));
        let mut endpoint = endpoint(None, seed);
        let (handle, connection) = endpoint.connect(now, client, server, config.name)?;
        let connected = Connected::new(connection, application);
        Ok(Self {
            endpoint,
            address,
            way: Way::Up,
            accept: Box::new(|_| None),
            connections: [(handle.0, connected)].into(),
            buffer: Vec::new(),
        })
    }

    /// What runs on its connections.
    pub(super) fn applications(&self) -> impl Iterator<Item = &A> {
        self.connections.values().map(|one| &one.application)
    }

    /// Who is on the other side of each, and what has been counted.
    pub(super) fn counted(&self) -> impl Iterator<Item = (SocketAddr, ConnectionStats)> {
        self.connections.values().map(|connected| {
            let connection = &connected.connection;
            (connection.remote_address(), connection.stats())
        })
    }

    fn admit(&mut self, incoming: Incoming, now: Instant, out: &mut Vec<Datagram>) {
        let Some((config, application)) = (self.accept)(incoming.remote_address()) else {
            self.endpoint.ignore(incoming);
            return;
        };
        self.buffer.clear();
        let accepted = self
            .endpoint
            .accept(incoming, now, &mut self.buffer, Some(config));
        match accepted {
            Ok((handle, connection)) => {
                let connected = Connected::new(connection, application);
                self.connections.insert(handle.0, connected);
            }
            Err(error) => {
                if let Some(transmit) = error.response {
                    self.put(&transmit, out);
                }
            }
        }
    }

    /// What is in the buffer leaves.
    fn put(&self, transmit: &Transmit, out: &mut Vec<Datagram>) {
        let bytes = self.buffer.get(..transmit.size).unwrap_or_default();
        let segment = transmit.segment_size.unwrap_or(transmit.size).max(1);
        out.extend(bytes.chunks(segment).map(|bytes| Datagram {
            way: self.way,
            from: self.address,
            to: transmit.destination,
            ecn: transmit.ecn.map(|ecn| match ecn {
                EcnCodepoint::Ect0 => Ecn::Ect0,
                EcnCodepoint::Ect1 => Ecn::Ect1,
                EcnCodepoint::Ce => Ecn::Ce,
            }),
            bytes: bytes.to_vec(),
        }));
    }

    /// One connection, until it has nothing more to do now.
    fn drive(&mut self, handle: usize, now: Instant, out: &mut Vec<Datagram>) {
        // It is taken out, for its endpoint has a say meanwhile.
        let Some(mut connected) = self.connections.remove(&handle) else {
            return;
        };
        loop {
            let connection = &mut connected.connection;
            connected.application.run(connection, now);
            let mut quiet = true;
            while let Some(event) = connection.poll_endpoint_events() {
                quiet = false;
                let answer = self.endpoint.handle_event(ConnectionHandle(handle), event);
                if let Some(answer) = answer {
                    connection.handle_event(answer);
                }
            }
            loop {
                self.buffer.clear();
                let transmit = connection.poll_transmit(now, SEGMENTS, &mut self.buffer);
                let Some(transmit) = transmit else {
                    break;
                };
                quiet = false;
                self.put(&transmit, out);
            }
            if quiet {
                break;
            }
        }
        connected.due = connected.connection.poll_timeout();
        connected.dirty = false;
        self.connections.insert(handle, connected);
    }
}

impl<A: QuicApplication> Host for QuicHost<A> {
    fn handle_datagram(&mut self, datagram: Datagram, now: Instant, out: &mut Vec<Datagram>) {
        self.buffer.clear();
        let ecn = datagram.ecn.map(|ecn| match ecn {
            Ecn::Ect0 => EcnCodepoint::Ect0,
            Ecn::Ect1 => EcnCodepoint::Ect1,
            Ecn::Ce => EcnCodepoint::Ce,
        });
        let bytes = BytesMut::from(&datagram.bytes[..]);
        let event = self
            .endpoint
            .handle(now, datagram.from, None, ecn, bytes, &mut self.buffer);
        match event {
            None => {}
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(connected) = self.connections.get_mut(&handle.0) {
                    connected.connection.handle_event(event);
                    connected.dirty = true;
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.admit(incoming, now, out),
            Some(DatagramEvent::Response(transmit)) => self.put(&transmit, out),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        for connected in self.connections.values_mut() {
            if connected.due.is_some_and(|at| at <= now) {
                connected.connection.handle_timeout(now);
                connected.dirty = true;
            }
        }
    }

    fn send(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        let dirty = self.connections.iter();
        let dirty = dirty.filter(|(_, connected)| connected.dirty);
        let dirty: Vec<usize> = dirty.map(|(handle, _)| *handle).collect();
        for handle in dirty {
            self.drive(handle, now, out);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let due = self.connections.values();
        due.filter_map(|connected| connected.due).min()
    }

    fn is_at(&self, address: SocketAddr) -> bool {
        self.address == address
    }
}

/// A client that asks for files, on a stream each, and reads them as they come.
#[derive(Debug)]
pub(super) struct QuicDownload {
    pub(super) files: Files<StreamId, ConnectionError>,
}

impl QuicDownload {
    pub(super) fn new(wanted: Arriving) -> Self {
        Self {
            files: Files::new(wanted),
        }
    }

    fn ask(&mut self, connection: &mut Connection) {
        while let Some(size) = self.files.next()
            && let Some(stream) = connection.streams().open(Dir::Bi)
        {
            let mut send = connection.send_stream(stream);
            // What was opened just now takes both.
            let _ = send.write(&size.to_be_bytes());
            let _ = send.finish();
            self.files.asked(stream);
        }
    }

    fn read(&mut self, connection: &mut Connection, stream: StreamId, now: Instant) {
        let mut receive = connection.recv_stream(stream);
        let Ok(mut chunks) = receive.read(true) else {
            return;
        };
        loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => self.files.came(stream, chunk.bytes.len(), now),
                Ok(None) => {
                    self.files.ended(stream, now);
                    break;
                }
                Err(_) => break,
            }
        }
        // The connection is asked what to send, in any case.
        let _ = chunks.finalize();
    }
}

impl QuicApplication for QuicDownload {
    fn run(&mut self, connection: &mut Connection, now: Instant) {
        while let Some(event) = connection.poll() {
            match event {
                Event::Connected => {
                    self.files.progress.connected_at = Some(now);
                    self.ask(connection);
                }
                Event::Stream(StreamEvent::Readable { id }) => self.read(connection, id, now),
                Event::ConnectionLost { reason } => self.files.progress.closed = Some(reason),
                _ => {}
            }
        }
    }
}

/// A server's side of it.
#[derive(Debug)]
pub(super) struct QuicUpload {
    answers: BTreeMap<StreamId, Answer>,
    chunk: Bytes,
}

impl QuicUpload {
    pub(super) fn new() -> Self {
        Self {
            answers: BTreeMap::new(),
            chunk: Bytes::from(vec![0; CHUNK]),
        }
    }

    fn read(&mut self, connection: &mut Connection, stream: StreamId) {
        let Some(answer) = self.answers.get_mut(&stream) else {
            return;
        };
        let mut receive = connection.recv_stream(stream);
        let Ok(mut chunks) = receive.read(true) else {
            return;
        };
        while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
            answer.heard(&chunk.bytes);
        }
        let _ = chunks.finalize();
    }

    /// Writes a chunk on each stream in turns, so that they share the room, as much as the connection
    /// takes: it says when it takes more.
    fn write(&mut self, connection: &mut Connection) {
        let mut taken = true;
        while taken {
            taken = false;
            let chunk = &self.chunk;
            self.answers.retain(|stream, answer| {
                let Answer::Left(left) = answer else {
                    return true;
                };
                let mut send = connection.send_stream(*stream);
                if *left > 0 {
                    let length = (*left).min(CHUNK as u64) as usize;
                    match send.write_chunks(&mut [chunk.slice(..length)]) {
                        Ok(written) => {
                            *left -= written.bytes as u64;
                            taken = true;
                            return true;
                        }
                        Err(quinn_proto::WriteError::Blocked) => return true,
                        Err(_) => {}
                    }
                }
                // A connection that is over has ended it already.
                let _ = send.finish();
                false
            });
        }
    }
}

impl QuicApplication for QuicUpload {
    fn run(&mut self, connection: &mut Connection, _: Instant) {
        while let Some(event) = connection.poll() {
            match event {
                Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => {
                    while let Some(stream) = connection.streams().accept(Dir::Bi) {
                        self.answers.insert(stream, Answer::Asked(Vec::new()));
                        self.read(connection, stream);
                    }
                }
                Event::Stream(StreamEvent::Readable { id }) => self.read(connection, id),
                _ => {}
            }
        }
        self.write(connection);
    }
}

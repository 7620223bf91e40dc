//! QUIC by quinn, one connection and one stream for each flow.

use std::{
    cell::RefCell,
    io,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::try_join_all;
use quinn::{
    Connection, ConnectionId, Endpoint, EndpointConfig, Incoming, RecvStream, SendStream,
    ServerConfig, TokioRuntime, VarInt,
};
use tokio::sync::oneshot;

use super::{Came, Ground, SAMPLE, Task};
use crate::compare::{
    plan::Run,
    quic,
    recorder::FlowRecord,
    sender::{QuicControl, Sender},
};

/// How much is written at once.
const CHUNK: usize = 64 << 10;

/// The records of a run's flows, once there are any.
pub(super) type Records = Arc<Mutex<Vec<FlowRecord>>>;

/// A flow's client chooses the connection id that its first packet goes to: so the server knows the flow,
/// and its controller, before there is a connection.
fn first_id(flow: usize) -> ConnectionId {
    let random = rand::random::<[u8; 8]>();
    ConnectionId::new(&[random, (flow as u64).to_be_bytes()].concat())
}

fn flow_of(first_id: &ConnectionId) -> Option<usize> {
    let (_, flow) = first_id.split_first_chunk::<8>()?;
    usize::try_from(u64::from_be_bytes(flow.try_into().ok()?)).ok()
}

/// Who sends, in a thread of its own; dropped, it ends.
pub(super) struct Servers {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Servers {
    /// Starts a server for each flow of this kind; one for all on loopback, where there is one relay.
    pub(super) fn start(ground: &Ground, run: &Run, records: Records) -> Result<Self, String> {
        let controls = run.senders.iter().map(|sender| match sender {
            Sender::Quic(control) => Some(*control),
            _ => None,
        });
        let controls: Arc<[Option<QuicControl>]> = controls.collect();
        let mut plans = Vec::new();
        for (flow, control) in controls.iter().enumerate() {
            if let Some(control) = control {
                // Each connection gets its own instead.
                let config = quic::server(*control, None);
                let config = config.map_err(|error| format!("no QUIC server: {error}"))?;
                plans.push((ground.listen(flow), config));
            }
        }
        if matches!(ground, Ground::Loopback) {
            plans.truncate(1);
        }
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let thread = ground.at_senders("quic", move |entered| {
            let served = entered.and_then(|()| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                let guard = runtime.enter();
                let mut endpoints = Vec::new();
                for (listen, config) in plans {
                    endpoints.push(endpoint(listen, Some(config))?);
                }
                drop(guard);
                Ok((runtime, endpoints))
            });
            let (runtime, endpoints) = match served {
                Ok(served) => served,
                Err(error) => {
                    let _ = tell.send(Err(error));
                    return;
                }
            };
            let first = endpoints.first().map(Endpoint::local_addr);
            let _ = tell.send(first.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into())));
            runtime.block_on(async {
                for endpoint in &endpoints {
                    let (endpoint, controls) = (endpoint.clone(), Arc::clone(&controls));
                    let records = Arc::clone(&records);
                    tokio::spawn(async move {
                        while let Some(incoming) = endpoint.accept().await {
                            // Who sends strange packets gets no answer.
                            let flow = flow_of(&incoming.orig_dst_cid()).and_then(|flow| {
                                let records = records.lock();
                                let records = records.unwrap_or_else(PoisonError::into_inner);
                                Some(((*controls.get(flow)?)?, records.get(flow)?.clone()))
                            });
                            match flow {
                                Some((control, record)) => {
                                    tokio::spawn(serve(incoming, control, record));
                                }
                                None => incoming.ignore(),
                            }
                        }
                    });
                }
                let _ = stopped.await;
            });
        })?;
        match told.recv() {
            Ok(Ok(address)) => Ok(Self {
                address,
                stop: Some(stop),
                thread: Some(thread),
            }),
            Ok(Err(error)) => Err(format!("no QUIC server: {error}")),
            Err(_) => Err("no QUIC server".to_owned()),
        }
    }

    /// Where the first of them listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if let (Some(stop), Some(thread)) = (self.stop.take(), self.thread.take()) {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

fn endpoint(listen: SocketAddr, config: Option<ServerConfig>) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind(listen)?;
    Endpoint::new(
        EndpointConfig::default(),
        config,
        socket,
        Arc::new(TokioRuntime),
    )
}

/// Answers each stream's eight bytes, a size, with so many bytes.
async fn serve(incoming: Incoming, control: QuicControl, record: FlowRecord) {
    let Ok(config) = quic::server(control, Some(record.clone())) else {
        return;
    };
    let Ok(connecting) = incoming.accept_with(Arc::new(config)) else {
        return;
    };
    let Ok(connection) = connecting.await else {
        return;
    };
    tokio::spawn(ask(connection.clone(), record));
    // Until it is closed, what got lost is sent again.
    while let Ok((send, receive)) = connection.accept_bi().await {
        tokio::spawn(answer(send, receive));
    }
}

async fn answer(mut send: SendStream, mut receive: RecvStream) {
    let mut size = [0; 8];
    if receive.read_exact(&mut size).await.is_err() {
        return;
    }
    let chunk = Bytes::from(vec![0; CHUNK]);
    let mut left = u64::from_be_bytes(size);
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        if send.write_chunk(chunk.slice(..length)).await.is_err() {
            return;
        }
        left -= length as u64;
    }
    let _ = send.finish();
}

/// Asks a sender what it has counted until its connection is over.
async fn ask(connection: Connection, record: FlowRecord) {
    while connection.close_reason().is_none() {
        record.counts(Instant::now(), quic::counts((&connection.stats()).into()));
        tokio::time::sleep(SAMPLE).await;
    }
}

/// Starts a client.
pub(super) fn receive(task: Task, link: SocketAddr) -> Result<JoinHandle<Came>, String> {
    let ground = task.ground.clone();
    let server = match ground {
        Ground::Loopback => link,
        Ground::Namespaces { .. } => ground.listen(task.number),
    };
    ground.at_receivers("quic receiver", move |entered| {
        let mut came = Came::default();
        let fetched = entered.and_then(|()| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(fetch(&task, server, &mut came))
        });
        came.failure = fetched.err().map(|error| error.to_string());
        came
    })
}

async fn fetch(task: &Task, server: SocketAddr, came: &mut Came) -> io::Result<()> {
    let local = task.ground.local(task.number);
    let local = local.unwrap_or_else(|| std::net::Ipv4Addr::UNSPECIFIED.into());
    let mut endpoint = endpoint((local, 0).into(), None)?;
    let mut config = quic::client()?;
    let flow = task.number;
    config.initial_dst_cid_provider(Arc::new(move || first_id(flow)));
    endpoint.set_default_client_config(config);
    task.wait();
    let came = RefCell::new(came);
    let file = async |connection: &Connection, file: u64| {
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(&task.file_size().to_be_bytes()).await?;
        let _ = send.finish();
        let mut left = task.file_size();
        let mut chunks = [const { Bytes::new() }; 32];
        while let Some(count) = receive.read_chunks(&mut chunks).await? {
            let pieces = chunks[..count].iter_mut();
            let read: usize = pieces.map(|chunk| std::mem::take(chunk).len()).sum();
            left = left.saturating_sub(read as u64);
            task.piece(&mut came.borrow_mut(), file, read as u64, left == 0);
        }
        io::Result::Ok(())
    };
    let fetching = async {
        let connecting = endpoint
            .connect(server, quic::NAME)
            .map_err(io::Error::other)?;
        let connection = connecting.await?;
        let files = (0..task.files).map(|number| file(&connection, number));
        try_join_all(files).await?;
        let mut came = came.borrow_mut();
        if came.received == task.size() {
            came.whole = Some(Instant::now());
        }
        Ok(())
    };
    let fetched = task.until_over(fetching).await;
    endpoint.close(VarInt::from_u32(0), b"");
    // Who does not hear it finds out by itself.
    let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
    fetched
}

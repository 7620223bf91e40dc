//! QUIC by quinn, one connection and one stream for each flow.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
    congestion::{BbrConfig, CubicConfig, NewRenoConfig},
    rustls::{
        RootCertStore,
        pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    },
};
use tokio::sync::oneshot;

use super::{Came, Ground, SAMPLE, Task};
use crate::compare::{
    plan::Run,
    recorder::{FlowRecord, Sample},
    sender::{QuicControl, Sender},
};

/// The name that the certificate is for.
const NAME: &str = "labnet.test";
/// How much is written at once.
const CHUNK: usize = 64 << 10;
/// Windows larger than any path here needs, so that only the congestion window counts. The rest are
/// quinn's defaults: discovery of the packet size, from 1200 up to 1452 bytes, among them.
const WINDOW: u32 = 16 << 20;

/// A certificate that is its own authority, and its key. Ed25519's signatures are all of one size, so
/// that a handshake's packets are, too.
#[derive(Clone)]
pub(super) struct Identity {
    certificate: CertificateDer<'static>,
    key: Arc<[u8]>,
}

impl Identity {
    fn new() -> Result<Self, rcgen::Error> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
        let params = rcgen::CertificateParams::new([NAME.to_owned()])?;
        Ok(Self {
            certificate: params.self_signed(&key)?.der().clone(),
            key: key.serialize_der().into(),
        })
    }

    fn server(&self, control: QuicControl) -> Result<ServerConfig, quinn::rustls::Error> {
        let key = PrivatePkcs8KeyDer::from(self.key.to_vec());
        let certificates = vec![self.certificate.clone()];
        let mut config = ServerConfig::with_single_cert(certificates, key.into())?;
        config.transport_config(transport(control));
        Ok(config)
    }

    fn client(&self, control: QuicControl) -> io::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.certificate.clone())
            .map_err(io::Error::other)?;
        let config = ClientConfig::with_root_certificates(Arc::new(roots));
        let mut config = config.map_err(io::Error::other)?;
        config.transport_config(transport(control));
        Ok(config)
    }
}

fn transport(control: QuicControl) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(WINDOW.into());
    match control {
        QuicControl::Bbr => config.congestion_controller_factory(Arc::new(BbrConfig::default())),
        QuicControl::Cubic => {
            config.congestion_controller_factory(Arc::new(CubicConfig::default()))
        }
        QuicControl::NewReno => {
            config.congestion_controller_factory(Arc::new(NewRenoConfig::default()))
        }
    };
    Arc::new(config)
}

/// The records of a run's flows, once there are any.
pub(super) type Records = Arc<Mutex<Vec<FlowRecord>>>;

/// Who sends, in a thread of its own; dropped, it ends.
pub(super) struct Servers {
    address: SocketAddr,
    identity: Identity,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Servers {
    /// Starts a server for each flow of this kind.
    pub(super) fn start(ground: &Ground, run: &Run, records: Records) -> Result<Self, String> {
        let identity = Identity::new().map_err(|error| format!("no certificate: {error}"))?;
        let mut plans = Vec::new();
        for (flow, sender) in run.senders.iter().enumerate() {
            if let Sender::Quic(control) = sender {
                let config = identity.server(*control);
                let config = config.map_err(|error| format!("no QUIC server: {error}"))?;
                plans.push((ground.listen(flow), config));
            }
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
                    let (endpoint, records) = (endpoint.clone(), Arc::clone(&records));
                    tokio::spawn(async move {
                        while let Some(incoming) = endpoint.accept().await {
                            tokio::spawn(serve(incoming, Arc::clone(&records)));
                        }
                    });
                }
                let _ = stopped.await;
            });
        })?;
        match told.recv() {
            Ok(Ok(address)) => Ok(Self {
                address,
                identity,
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

    /// What its clients trust.
    pub(super) fn identity(&self) -> Identity {
        self.identity.clone()
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

/// Answers a stream's sixteen bytes, its flow's number and a size, with so many bytes.
async fn serve(incoming: Incoming, records: Records) {
    let Ok(connection) = incoming.await else {
        return;
    };
    let Ok((mut send, mut receive)) = connection.accept_bi().await else {
        return;
    };
    let mut request = [0; 16];
    if receive.read_exact(&mut request).await.is_err() {
        return;
    }
    let [flow, size] = [0, 8].map(|at| {
        let mut number = [0; 8];
        number.copy_from_slice(&request[at..at + 8]);
        u64::from_be_bytes(number)
    });
    let record = {
        let records = records.lock().unwrap_or_else(PoisonError::into_inner);
        usize::try_from(flow)
            .ok()
            .and_then(|flow| records.get(flow).cloned())
    };
    if let Some(record) = record {
        tokio::spawn(ask(connection.clone(), record));
    }
    let chunk = Bytes::from(vec![0; CHUNK]);
    let mut left = size;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        if send.write_chunk(chunk.slice(..length)).await.is_err() {
            return;
        }
        left -= length as u64;
    }
    let _ = send.finish();
    // Until then what got lost is sent again.
    connection.closed().await;
}

/// Asks a sender how it stands until its connection is over.
async fn ask(connection: Connection, record: FlowRecord) {
    while connection.close_reason().is_none() {
        record.sample(Instant::now(), sample(&connection));
        tokio::time::sleep(SAMPLE).await;
    }
}

fn sample(connection: &Connection) -> Sample {
    let path = connection.stats().path;
    let metrics = connection.congestion_state().metrics();
    Sample {
        window: path.cwnd,
        // quinn's number for none is the greatest.
        ssthresh: metrics.ssthresh.filter(|ssthresh| *ssthresh < u64::MAX),
        in_flight: None,
        rtt: path.rtt,
        pacing: metrics.pacing_rate.map(|rate| rate as f64),
        packets: Some(path.sent_packets),
        // What was lost is sent again; probes, which quinn does not count by bytes, come on top.
        again_bytes: Some(path.lost_bytes),
        lost: Some(path.lost_packets),
    }
}

/// Starts a client.
pub(super) fn receive(
    task: Task,
    link: SocketAddr,
    identity: Identity,
) -> Result<JoinHandle<Came>, String> {
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
            runtime.block_on(fetch(&task, server, &identity, &mut came))
        });
        came.failure = fetched.err().map(|error| error.to_string());
        came
    })
}

async fn fetch(
    task: &Task,
    server: SocketAddr,
    identity: &Identity,
    came: &mut Came,
) -> io::Result<()> {
    let Sender::Quic(control) = task.sender else {
        return Ok(());
    };
    let local = task.ground.local(task.number);
    let local = local.unwrap_or_else(|| std::net::Ipv4Addr::UNSPECIFIED.into());
    let mut endpoint = endpoint((local, 0).into(), None)?;
    endpoint.set_default_client_config(identity.client(control)?);
    let size = task.size();
    task.wait();
    let fetching = async {
        let connecting = endpoint.connect(server, NAME).map_err(io::Error::other)?;
        let connection = connecting.await?;
        let (mut send, mut receive) = connection.open_bi().await?;
        let request = [task.number as u64, size].map(u64::to_be_bytes).concat();
        send.write_all(&request).await?;
        let _ = send.finish();
        let mut chunks = [const { Bytes::new() }; 32];
        while let Some(count) = receive.read_chunks(&mut chunks).await? {
            let now = Instant::now();
            for chunk in &mut chunks[..count] {
                came.received += std::mem::take(chunk).len() as u64;
            }
            came.first_byte.get_or_insert(now);
            task.record.delivered(now, came.received);
        }
        if came.received == size {
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

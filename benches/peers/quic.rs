//! quinn: QUIC with TLS 1.3, one connection and one stream for each session.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Instant};

use bytes::Bytes;
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
    congestion::{BbrConfig, CubicConfig, NewRenoConfig},
    rustls::{
        RootCertStore,
        pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    },
};

use super::{Congestion, Meter, Wish, parts, random_chunk, ready, runtime, udp, unbound};

const NAME: &str = "labnet.test";
const CERTIFICATE: &str = "certificate.der";
const KEY: &str = "key.der";

/// Puts a certificate and its key into a folder, for both ends to read.
pub fn make_keys(folder: &Path) {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    fs::write(folder.join(CERTIFICATE), made.cert.der()).expect("a file");
    fs::write(folder.join(KEY), made.signing_key.serialize_der()).expect("a file");
}

/// Windows larger than any path here needs, so that only the congestion window counts. The rest
/// are quinn's defaults: discovery of the packet size, from 1200 up to 1452 bytes, among them.
fn transport(congestion: Congestion) -> Arc<TransportConfig> {
    const WINDOW: u32 = 16 * 1024 * 1024;
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(WINDOW.into());
    match congestion {
        Congestion::Bbr => config.congestion_controller_factory(Arc::new(BbrConfig::default())),
        Congestion::Cubic => config.congestion_controller_factory(Arc::new(CubicConfig::default())),
        Congestion::NewReno => {
            config.congestion_controller_factory(Arc::new(NewRenoConfig::default()))
        }
    };
    Arc::new(config)
}

/// Answers each stream's eight bytes, a number, with so many bytes.
pub fn serve(congestion: Congestion, address: SocketAddr, keys: &Path) {
    let certificate = fs::read(keys.join(CERTIFICATE)).expect("a certificate");
    let key = fs::read(keys.join(KEY)).expect("a key");
    let mut config = ServerConfig::with_single_cert(
        vec![CertificateDer::from(certificate)],
        PrivatePkcs8KeyDer::from(key).into(),
    )
    .expect("a configuration");
    config.transport_config(transport(congestion));
    let chunk = random_chunk();
    runtime().block_on(async {
        let endpoint = Endpoint::new(
            EndpointConfig::default(),
            Some(config),
            udp(address),
            Arc::new(TokioRuntime),
        );
        let endpoint = endpoint.expect("an endpoint");
        ready();
        while let Some(incoming) = endpoint.accept().await {
            let chunk = chunk.clone();
            tokio::spawn(async move {
                if let Ok(connection) = incoming.await {
                    answer(connection, chunk).await;
                }
            });
        }
    });
}

async fn answer(connection: Connection, chunk: Bytes) {
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        let mut size = [0; 8];
        if receive.read_exact(&mut size).await.is_err() {
            return;
        }
        for part in parts(&chunk, u64::from_be_bytes(size)) {
            if send.write_chunk(part).await.is_err() {
                return;
            }
        }
        let _ = send.finish();
    }
}

/// The seconds that each session took.
pub fn fetch(congestion: Congestion, address: SocketAddr, keys: &Path, wish: Wish) -> Vec<f64> {
    let certificate = fs::read(keys.join(CERTIFICATE)).expect("a certificate");
    let mut roots = RootCertStore::empty();
    let added = roots.add(CertificateDer::from(certificate));
    added.expect("a certificate");
    let config = ClientConfig::with_root_certificates(Arc::new(roots));
    let mut config = config.expect("a configuration");
    config.transport_config(transport(congestion));
    runtime().block_on(async {
        let endpoint = Endpoint::new(
            EndpointConfig::default(),
            None,
            udp(unbound(address)),
            Arc::new(TokioRuntime),
        );
        let mut endpoint = endpoint.expect("an endpoint");
        endpoint.set_default_client_config(config);
        let mut connections = Vec::new();
        for _ in 0..wish.sessions {
            let connection = endpoint.connect(address, NAME).expect("an address");
            connections.push(connection.await.expect("a connection"));
        }
        let sessions: Vec<_> = connections
            .into_iter()
            .map(|connection| tokio::spawn(session(connection, wish)))
            .collect();
        let mut each = Vec::new();
        for session in sessions {
            each.push(session.await.expect("it came"));
        }
        each
    })
}

async fn session(connection: Connection, wish: Wish) -> f64 {
    let mut meter = Meter::new(wish);
    let mut chunks = [const { Bytes::new() }; 32];
    let start = Instant::now();
    let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
    let sent = send.write_all(&wish.size.to_be_bytes()).await;
    sent.expect("the request went out");
    let _ = send.finish();
    while let Some(n) = receive.read_chunks(&mut chunks).await.expect("bytes") {
        for chunk in &mut chunks[..n] {
            meter.add(std::mem::take(chunk).len());
        }
    }
    assert_eq!(meter.so_far, wish.size, "the stream ended early");
    start.elapsed().as_secs_f64()
}

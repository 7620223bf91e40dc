//! QUIC by quinn: what everything that drives it shares, be it over sockets, in virtual time or in a
//! benchmark.
//!
//! quinn tells nothing of single packets. What it does tell is written down where it happens: its
//! congestion controller is [watched](server) from within, at each acknowledgement, and counters are
//! [read](counts) when they are wanted.

use std::{
    any::Any,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::{
    ClientConfig, ServerConfig, TransportConfig, VarInt,
    congestion::{
        BbrConfig, Controller, ControllerFactory, ControllerMetrics, CubicConfig, NewRenoConfig,
    },
    rustls::{
        RootCertStore,
        pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    },
};
use quinn_proto::RttEstimator;

use super::{
    recorder::{Counts, FlowRecord, Sample},
    sender::QuicControl,
};
use crate::{simulation::QuicStats, watch::event::transport::Limit};

/// The name that the certificate is for.
pub const NAME: &str = "labnet.test";
/// Windows larger than any path here needs, so that only the congestion window counts. The rest are
/// quinn's defaults: discovery of the packet size, from 1200 up to 1452 bytes, among them.
const WINDOW: u32 = 16 << 20;

/// A certificate that is its own authority, for [`NAME`], and its key, made with `openssl ca -selfsign`. An
/// experiment's server proves nothing to anybody: they are no secret. Being the same always, with
/// Ed25519's signatures of one size, they make the packets of all handshakes of one size.
const CERTIFICATE: &[u8] = include_bytes!("quic/certificate.der");
/// PKCS #8.
const KEY: &[u8] = include_bytes!("quic/key.der");

/// How a server sends with this controller; `record` is to have what its connection goes through.
///
/// # Errors
/// quinn does not take the certificate.
pub fn server(control: QuicControl, record: Option<FlowRecord>) -> io::Result<ServerConfig> {
    let certificates = vec![CertificateDer::from(CERTIFICATE)];
    let key = PrivatePkcs8KeyDer::from(KEY);
    let config = ServerConfig::with_single_cert(certificates, key.into());
    let mut config = config.map_err(io::Error::other)?;
    config.transport_config(transport(Controllers { control, record }));
    Ok(config)
}

/// How a client of such a server behaves, whose controller matters not: it sends a request and
/// acknowledgements.
///
/// # Errors
/// quinn does not take the certificate.
pub fn client() -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let added = roots.add(CertificateDer::from(CERTIFICATE));
    added.map_err(io::Error::other)?;
    let config = ClientConfig::with_root_certificates(Arc::new(roots));
    let mut config = config.map_err(io::Error::other)?;
    config.transport_config(transport(Controllers {
        control: QuicControl::Cubic,
        record: None,
    }));
    Ok(config)
}

fn transport(controllers: Controllers) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(WINDOW.into())
        .congestion_controller_factory(Arc::new(controllers));
    Arc::new(config)
}

/// What quinn has counted of a sender.
pub fn counts(stats: QuicStats) -> Counts {
    Counts {
        packets: Some(stats.packets_sent),
        again_bytes: Some(stats.bytes_lost),
        lost: Some(stats.packets_lost),
    }
}

/// Makes the controllers of a server's connections.
struct Controllers {
    control: QuicControl,
    record: Option<FlowRecord>,
}

impl ControllerFactory for Controllers {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let controller = match self.control {
            QuicControl::Bbr => Arc::new(BbrConfig::default()).build(now, current_mtu),
            QuicControl::Cubic => Arc::new(CubicConfig::default()).build(now, current_mtu),
            QuicControl::NewReno => Arc::new(NewRenoConfig::default()).build(now, current_mtu),
        };
        match &self.record {
            None => controller,
            Some(record) => Box::new(Watched {
                controller,
                record: record.clone(),
                mtu: current_mtu.into(),
                in_flight: 0,
                since: now,
                smoothed: None,
                newest: None,
            }),
        }
    }
}

/// A controller of quinn's, and who writes down what it is told and what it answers.
struct Watched {
    controller: Box<dyn Controller>,
    record: FlowRecord,
    /// The largest datagram.
    mtu: u64,
    /// Bytes in flight. Those that only acknowledge count until the next acknowledgement comes.
    in_flight: u64,
    /// Up to when it is known what held the sender back.
    since: Instant,
    /// The round trip as quinn smooths it.
    smoothed: Option<Duration>,
    /// When the newest packet was sent that the acknowledgement at hand names.
    newest: Option<Instant>,
}

impl Watched {
    /// What kept quinn from sending more, given that it had something to send. It asks for the room of a
    /// whole datagram.
    fn limit(&self) -> Limit {
        match self.in_flight + self.mtu >= self.controller.window() {
            true => Limit::Window,
            false => Limit::Pacing,
        }
    }

    fn held_back(&mut self, now: Instant, by: Limit) {
        let time = now.saturating_duration_since(self.since);
        self.record.held_back(now, by, time);
        self.since = now;
    }

    fn tell(&self, now: Instant, rtt: Option<Duration>, in_flight: u64) {
        let window = self.controller.window();
        // quinn's number for none is the greatest.
        let ssthresh = self.controller.metrics().ssthresh;
        let smoothed = self.smoothed.filter(|rtt| !rtt.is_zero());
        self.record.sample(
            now,
            Sample {
                window,
                ssthresh: ssthresh.filter(|ssthresh| *ssthresh < u64::MAX),
                in_flight: Some(in_flight),
                rtt: rtt.unwrap_or_default(),
                // Its pacer's, for every controller: the rate that BBR tells is not used.
                pacing: smoothed.map(|rtt| 1.25 * 8.0 * window as f64 / rtt.as_secs_f64()),
                phase: ssthresh.map(|ssthresh| match window < ssthresh {
                    true => "slow_start",
                    false => "avoidance",
                }),
            },
        );
    }
}

impl Controller for Watched {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.held_back(now, self.limit());
        self.in_flight += bytes;
        self.controller.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.newest = self.newest.max(Some(sent));
        self.smoothed = Some(rtt.get());
        self.controller.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        let limit = match app_limited {
            true => Limit::Application,
            false => self.limit(),
        };
        self.held_back(now, limit);
        let before = std::mem::replace(&mut self.in_flight, in_flight);
        self.controller
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
        let newest = self.newest.take();
        let rtt = newest.map(|sent| now.saturating_duration_since(sent));
        self.tell(now, rtt, before);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.held_back(now, self.limit());
        let before = self.controller.window();
        self.controller
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        self.in_flight = self.in_flight.saturating_sub(lost_bytes);
        let after = self.controller.window();
        if after < before {
            let why = match (lost_bytes, is_persistent_congestion) {
                // So it says that the peer has reported marks.
                (0, _) => "packets were marked (ECN)".to_owned(),
                (bytes, false) => format!("{bytes} bytes were taken for lost"),
                (bytes, true) => format!(
                    "{bytes} bytes were taken for lost, over so long a time that the path was down"
                ),
            };
            self.record.cut(now, (before, after), &why);
        }
        self.tell(now, None, self.in_flight);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu.into();
        self.controller.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.controller.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.controller.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            controller: self.controller.clone_box(),
            record: self.record.clone(),
            ..*self
        })
    }

    fn initial_window(&self) -> u64 {
        self.controller.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

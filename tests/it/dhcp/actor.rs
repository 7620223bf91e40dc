//! The actor on the loopback interface: sockets, store, metrics, messages.

use std::{
    net::{SocketAddr, UdpSocket},
    path::Path,
    time::Duration,
};

use actix::{Actor, Addr};
use labnet::{
    config::{Dhcp, DhcpListen},
    dhcp::{DhcpActor, DhcpKept},
    role::api::ListLeases,
    role::{Keep, Resources, Role},
    telemetry::Metrics,
};

use super::{config, ip, reserve, subnet};
use crate::support::dhcp::{ACK, Answer, DISCOVER, OFFER, Packet, RELEASE, REQUEST};

const PATIENCE: Duration = Duration::from_secs(60);

fn on_loopback() -> Dhcp {
    let mut subnet = subnet(0, 20);
    reserve(&mut subnet, 7, ip(15));
    Dhcp {
        listen: DhcpListen::Addresses(vec!["127.0.0.1:0".parse().expect("an address")]),
        ..config(vec![subnet])
    }
}

fn resources(state_dir: &Path) -> Resources {
    Resources::new(state_dir.to_owned())
}

fn prepare(
    config: &Dhcp,
    previous: Option<&DhcpKept>,
    resources: &Resources,
) -> Result<DhcpKept, String> {
    DhcpActor::prepare(config, previous, resources).map_err(|error| error.to_string())
}

fn address(kept: &DhcpKept) -> SocketAddr {
    let listens = DhcpActor::listens(kept);
    let address = listens[0].strip_prefix("udp ").expect("UDP");
    address.parse().expect("an address")
}

/// A client that waits for each answer in a thread where it blocks nobody.
struct Client(UdpSocket);

impl Client {
    fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        socket.connect(server).expect("loopback");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self(socket)
    }

    async fn ask(&self, packet: &Packet) -> Answer {
        self.tell(packet);
        let socket = self.0.try_clone().expect("a socket");
        let receive = move || {
            let mut bytes = [0; 2000];
            let len = socket.recv(&mut bytes).expect("an answer");
            Answer::parse(&bytes[..len])
        };
        tokio::task::spawn_blocking(receive)
            .await
            .expect("received")
    }

    fn tell(&self, packet: &Packet) {
        self.0.send(&packet.bytes()).expect("send");
    }

    async fn lease(&self, client: u8) -> Answer {
        let offer = self.ask(&Packet::new(DISCOVER, client)).await;
        assert_eq!(offer.kind(), OFFER);
        let server = [127, 0, 0, 1].into();
        let request = Packet::new(REQUEST, client)
            .requested(offer.yiaddr())
            .server(server);
        let ack = self.ask(&request.option(12, b"host")).await;
        assert_eq!(ack.kind(), ACK);
        ack
    }
}

fn metric(metrics: &Metrics, series: &str) -> Option<u64> {
    let text = metrics.render();
    let value = text.lines().find_map(|line| line.strip_prefix(series))?;
    value.trim().parse().ok()
}

async fn states(dhcp: &Addr<DhcpActor>) -> Vec<(String, String)> {
    let leases = dhcp.send(ListLeases).await.expect("an answer");
    let state = |lease: labnet::role::api::LeaseEntry| (lease.address.to_string(), lease.state);
    leases.into_iter().map(state).collect()
}

fn run(test: impl AsyncFnOnce()) {
    actix::System::new().block_on(test());
}

#[test]
fn a_lease_over_loopback_is_listed_and_counted() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let resources = resources(state.path());
    run(async || {
        let kept = prepare(&on_loopback(), None, &resources).expect("prepared");
        let client = Client::new(address(&kept));
        let dhcp = DhcpActor::new(Keep::new(kept)).start();
        let ack = client.lease(7).await;
        assert_eq!(ack.yiaddr(), ip(15));
        assert_eq!(ack.option(54), Some(&[127, 0, 0, 1][..]));
        let leases = dhcp.send(ListLeases).await.expect("an answer");
        assert_eq!(leases.len(), 1);
        let lease = &leases[0];
        assert_eq!(lease.address, ip(15));
        assert_eq!(lease.hardware_address, "02:00:00:00:00:07");
        assert_eq!(lease.hostname.as_deref(), Some("host"));
        assert_eq!(lease.client_id, None);
        assert_eq!(lease.subnet, "10.0.0.0/24");
        assert_eq!(lease.state, "bound");
        assert!(lease.reserved);

        client.tell(&Packet::new(RELEASE, 7).ciaddr(ip(15)));
        let mut broken = Packet::new(DISCOVER, 1);
        broken.header[2] = 200;
        client.tell(&broken);
        client.ask(&Packet::new(DISCOVER, 8).id(b"\x01\xff")).await;
        let leases = dhcp.send(ListLeases).await.expect("an answer");
        assert_eq!(leases[0].client_id.as_deref(), Some("01ff"));
        let metric = |series: &str| metric(&resources.metrics, series);
        for (series, value) in [
            (
                "messages_total{direction=\"received\",type=\"discover\"}",
                2,
            ),
            ("messages_total{direction=\"received\",type=\"request\"}", 1),
            ("messages_total{direction=\"received\",type=\"release\"}", 1),
            ("messages_total{direction=\"sent\",type=\"offer\"}", 2),
            ("messages_total{direction=\"sent\",type=\"ack\"}", 1),
            ("dropped_total{reason=\"malformed\"}", 1),
            ("leases{state=\"bound\",subnet=\"10.0.0.0/24\"}", 0),
            ("leases{state=\"offered\",subnet=\"10.0.0.0/24\"}", 1),
            ("leases{state=\"released\",subnet=\"10.0.0.0/24\"}", 1),
            ("pool_addresses{subnet=\"10.0.0.0/24\"}", 10),
        ] {
            assert_eq!(
                metric(&format!("labnet_dhcp_{series}")),
                Some(value),
                "{series}"
            );
        }
    });
}

#[test]
fn leases_and_the_socket_outlive_the_actor_and_a_reload() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let resources = resources(state.path());
    let kept = run_and_lease(&resources);
    let mut changed = on_loopback();
    changed.subnets.push(subnet(5, 20));
    let renewed = prepare(&changed, Some(&kept), &resources).expect("prepared");
    assert_eq!(DhcpActor::listens(&renewed), DhcpActor::listens(&kept));
    // Sent while nobody listens; the socket keeps it.
    let client = Client::new(address(&kept));
    let reboot = Packet::new(REQUEST, 1).requested(ip(10));
    client.tell(&reboot);
    run(async || {
        let dhcp = DhcpActor::new(Keep::new(renewed)).start();
        let ack = client.ask(&reboot).await;
        assert_eq!((ack.kind(), ack.yiaddr()), (ACK, ip(10)));
        assert_eq!(
            states(&dhcp).await,
            [("10.0.0.10".to_owned(), "bound".to_owned())]
        );
        let pool = "labnet_dhcp_pool_addresses{subnet=\"10.0.5.0/24\"}";
        assert_eq!(metric(&resources.metrics, pool), Some(11));
    });
}

fn run_and_lease(resources: &Resources) -> DhcpKept {
    let kept = prepare(&on_loopback(), None, resources).expect("prepared");
    let client = Client::new(address(&kept));
    let actor = DhcpActor::new(Keep::new(kept.clone()));
    run(async || {
        actor.start();
        assert_eq!(client.lease(1).await.yiaddr(), ip(10));
    });
    kept
}

#[test]
fn what_cannot_be_prepared_says_what_to_look_at() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let resources = resources(state.path());
    let kept = prepare(&on_loopback(), None, &resources).expect("prepared");
    let refused = |listen: DhcpListen, state_dir: &Path| {
        let config = Dhcp {
            listen,
            ..on_loopback()
        };
        let resources = Resources::new(state_dir.to_owned());
        prepare(&config, None, &resources).err().expect("refused")
    };
    let other = tempfile::tempdir().expect("a temporary folder");
    let SocketAddr::V4(taken) = address(&kept) else {
        panic!("IPv4")
    };
    let cause = refused(DhcpListen::Addresses(vec![taken]), other.path());
    assert!(cause.starts_with("dhcp.listen: 127.0.0.1:"), "{cause}");
    // The store is open already.
    let cause = refused(on_loopback().listen, state.path());
    assert!(cause.starts_with("state_dir: "), "{cause}");
    assert!(cause.contains("in use"), "{cause}");
}

#[test]
fn a_flood_of_noise_stops_nobody() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let resources = resources(state.path());
    run(async || {
        let kept = prepare(&on_loopback(), None, &resources).expect("prepared");
        let server = address(&kept);
        DhcpActor::new(Keep::new(kept)).start();
        let noise = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        for n in 0..2000_u32 {
            let byte = n.to_be_bytes()[3];
            let bytes = vec![byte; n as usize % 700];
            noise.send_to(&bytes, server).expect("send");
        }
        Client::new(server).lease(1).await;
    });
}

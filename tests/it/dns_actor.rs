//! The DNS server's actor on real sockets: both transports on a port that the kernel chose.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use labnet::{
    config,
    dns::{DnsActor, Kept, Zone},
    role::{Keep, PrepareError, Resources, Role},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

const HEAD: &str = "$TTL 1h\n@ SOA ns admin 1 2 3 4 5\n@ NS ns\nns A 192.0.2.53\n";
/// `ns.example.com A`
const QUESTION: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02ns\x07example\x03com\x00\x00\x01\x00\x01";
const PATIENCE: Duration = Duration::from_secs(60);

fn config(dir: &Path, listen: &str) -> config::Dns {
    config::Dns {
        listen: vec![listen.parse().expect("an address")],
        zones: vec![config::Zone {
            name: "example.com.".to_owned(),
            file: dir.join("zone"),
        }],
        connections: labnet::config::ConnectionLimits::of(64, 64),
    }
}

struct Running {
    resources: Resources,
    kept: Kept,
    udp: SocketAddr,
    tcp: SocketAddr,
    // The actor lives as long as its address.
    _actor: actix::Addr<DnsActor>,
}

fn start(config: &config::Dns, dir: &Path) -> Running {
    let resources = Resources::new(dir.to_owned());
    let kept = DnsActor::prepare(config, None, &resources).expect("prepared");
    let address = |prefix: &str| {
        let listens = DnsActor::listens(&kept);
        let found = listens
            .iter()
            .find_map(|text| text.strip_prefix(prefix)?.parse().ok());
        found.unwrap_or_else(|| panic!("{prefix} in {listens:?}"))
    };
    let (udp, tcp) = (address("udp "), address("tcp "));
    let keep = Keep::new(kept.clone());
    let actor = actix::Supervisor::start(move |_| DnsActor::new(keep));
    Running {
        resources,
        kept,
        udp,
        tcp,
        _actor: actor,
    }
}

async fn ask_udp(server: SocketAddr, question: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    // A connected socket takes answers from that address alone.
    socket.connect(server).await.expect("loopback");
    socket.send(question).await.expect("sent");
    let mut answer = vec![0; 2000];
    let received = timeout(PATIENCE, socket.recv(&mut answer)).await;
    answer.truncate(received.expect("in time").expect("an answer"));
    answer
}

async fn ask_tcp(server: SocketAddr, question: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).await.expect("a connection");
    let length = u16::try_from(question.len()).expect("short");
    stream.write_all(&length.to_be_bytes()).await.expect("sent");
    stream.write_all(question).await.expect("sent");
    let length = stream.read_u16().await.expect("a length");
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.expect("an answer");
    answer
}

fn zone_dir(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::write(dir.path().join("zone"), text).expect("a file");
    dir
}

#[actix::test]
async fn both_transports_answer_on_one_port_and_are_counted() {
    let dir = zone_dir(HEAD);
    let lab = start(&config(dir.path(), "127.0.0.1:0"), dir.path());
    assert_eq!(lab.udp, lab.tcp);
    let (udp, tcp) = (
        ask_udp(lab.udp, QUESTION).await,
        ask_tcp(lab.tcp, QUESTION).await,
    );
    assert_eq!(udp, tcp);
    assert_eq!(udp[..8], [0x12, 0x34, 0x85, 0, 0, 1, 0, 1]);
    assert_eq!(udp[udp.len() - 4..], [192, 0, 2, 53]);
    let metrics = Arc::clone(&lab.resources.metrics);
    // Answered means received and sent: the empty one was heard before.
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    for message in [
        &b""[..],
        &[0x12; 11],
        &[0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        socket.send_to(message, lab.udp).await.expect("sent");
    }
    ask_udp(lab.udp, &[0; 12]).await;
    let text = metrics.render();
    for line in [
        "labnet_dns_queries_total{transport=\"udp\",type=\"a\"} 1",
        "labnet_dns_queries_total{transport=\"tcp\",type=\"a\"} 1",
        "labnet_dns_queries_total{transport=\"udp\",type=\"other\"} 1",
        "labnet_dns_responses_total{rcode=\"noerror\"} 2",
        "labnet_dns_responses_total{rcode=\"formerr\"} 1",
        "labnet_dns_dropped_total{reason=\"short\"} 2",
        "labnet_dns_dropped_total{reason=\"response\"} 1",
        "labnet_dns_zone_records{zone=\"example.com.\"} 3",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[actix::test]
async fn the_answer_comes_from_the_address_that_was_asked() {
    let dir = zone_dir(HEAD);
    let lab = start(&config(dir.path(), "0.0.0.0:0"), dir.path());
    for address in ["127.0.0.1", "127.0.0.77"] {
        let server = SocketAddr::new(address.parse().expect("an address"), lab.udp.port());
        assert_eq!(ask_udp(server, QUESTION).await[3], 0);
    }
}

#[actix::test]
async fn a_bad_zone_or_a_taken_port_is_told_beforehand() {
    let dir = zone_dir(&format!("{HEAD}www A 192.0.2\n"));
    let resources = Resources::new(dir.path().to_owned());
    let prepare = |config: &config::Dns| DnsActor::prepare(config, None, &resources).map(|_| ());
    let file = dir.path().join("zone");
    assert_eq!(
        prepare(&config(dir.path(), "127.0.0.1:0")),
        Err(PrepareError::new(
            "dns.zone[0].file",
            format!("{}:5: '192.0.2' is not an IPv4 address", file.display()),
        ))
    );
    fs::remove_file(&file).expect("ours");
    let error = prepare(&config(dir.path(), "127.0.0.1:0")).expect_err("no file");
    assert!(error.problem.contains("cannot be read"), "{error}");
    fs::write(&file, HEAD).expect("ours");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = taken.local_addr().expect("bound").to_string();
    let error = prepare(&config(dir.path(), &address)).expect_err("taken");
    assert!(
        error.key == "dns.listen" && error.problem.contains(&address),
        "{error}"
    );
}

#[actix::test]
async fn a_new_configuration_takes_the_sockets_over_and_sees_changed_files() {
    let dir = zone_dir(HEAD);
    let mut config = config(dir.path(), "127.0.0.1:0");
    let lab = start(&config, dir.path());
    assert!(DnsActor::up_to_date(&lab.kept));
    fs::write(dir.path().join("more"), "new A 192.0.2.7\n").expect("a file");
    fs::write(dir.path().join("zone"), format!("{HEAD}$INCLUDE more\n")).expect("a file");
    assert!(!DnsActor::up_to_date(&lab.kept));
    config
        .listen
        .push("127.0.0.1:0".parse().expect("an address"));
    let kept = DnsActor::prepare(&config, Some(&lab.kept), &lab.resources).expect("prepared");
    let (before, after) = (DnsActor::listens(&lab.kept), DnsActor::listens(&kept));
    assert_eq!(before, after[..2], "the same socket");
    assert!(DnsActor::up_to_date(&kept));
    fs::write(dir.path().join("more"), "new A 192.0.2.8\n").expect("a file");
    assert!(!DnsActor::up_to_date(&kept), "an included file counts");
}

#[test]
fn the_zones_that_come_with_labnet_load() {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    for file in ["labnet.toml", "lan.toml"] {
        let config = config::load(&conf.join(file)).expect("a valid configuration");
        let zones = config.dns.expect("a [dns] table").zones;
        assert!(!zones.is_empty());
        for zone in zones {
            let name = zone.name.parse().expect("a name");
            let loaded = Zone::load(&name, &zone.file, &|path| fs::read(path));
            assert!(loaded.expect("a zone").records() > 2, "{}", zone.name);
        }
    }
}

//! Questions to every role of a lab, all the time, each asked once and waited for.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::support::{Lab, probe::Addresses};

/// No answer after so long is a lost one: nothing is asked twice.
const PATIENCE: Duration = Duration::from_secs(20);
/// A whole file may take so long.
const DOWNLOAD: Duration = Duration::from_secs(120);
/// The pauses between two questions of a kind, unless a trial sets others.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two downloads.
const DOWNLOAD_PAUSE: Duration = Duration::from_millis(500);
/// The file that all downloads are of.
const FILE: &str = "5MB.zip";
/// So many clients have a lease.
const CLIENTS: u8 = 20;

/// The `[origin]` table that the load wants.
pub(crate) fn origin(ip: Ipv4Addr) -> String {
    format!("[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"{FILE}\", \"task2.pdf\"]\n")
}

type Answer = Result<(), String>;
type Ask = Box<dyn FnMut() -> Answer + Send>;

/// What is asked over and over, by a thread of its own.
struct Kind {
    name: &'static str,
    answered: AtomicU64,
    /// The longest wait for an answer, in microseconds.
    longest: AtomicU64,
    /// From one question to the next at least, in microseconds.
    interval: AtomicU64,
}

/// Leases by hardware address, as their clients know them.
type Leases = Arc<Mutex<BTreeMap<[u8; 6], Ipv4Addr>>>;

/// The questions under way. Ends with all its threads when dropped.
pub(crate) struct Load {
    kinds: Vec<Arc<Kind>>,
    failures: Arc<Mutex<Vec<String>>>,
    done: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    leases: Leases,
    cuts: BTreeMap<&'static str, Cuts>,
    redialled: Arc<AtomicU64>,
    /// Of the file that all downloads are of.
    contents: Arc<Vec<u8>>,
}

/// How often a role has been made to cut the TCP connections on which it is asked nothing.
type Cuts = Arc<AtomicU64>;

impl Load {
    /// Asks the lab at these addresses, its proxy at all of `proxies`. Each of these gets a session
    /// that lasts, and so do DNS over TCP and HTTP.
    pub(crate) fn start(addresses: &Addresses, proxies: &[SocketAddr]) -> Self {
        let mut load = Self {
            kinds: Vec::new(),
            failures: Arc::default(),
            done: Arc::default(),
            threads: Vec::new(),
            leases: Leases::default(),
            redialled: Arc::default(),
            contents: Arc::default(),
            cuts: ["dns", "origin", "http"]
                .map(|role| (role, Cuts::default()))
                .into(),
        };
        let [for_dns, for_origin, for_http] =
            ["dns", "origin", "http"].map(|role| Arc::clone(&load.cuts[role]));
        let at = |port| addresses.at(port);
        let contents = KeptAlive::new(at(8080), &for_origin)
            .get(&format!("/{FILE}"))
            .expect("the sample");
        assert_eq!(contents.len(), 5_000_000);
        let contents = Arc::new(contents);
        load.contents = Arc::clone(&contents);

        let dns = at(5300);
        load.ask("dns udp", PAUSE, Box::new(move || ask_dns(dns)));
        let mut stays = DnsOverTcp::new(dns, &for_dns);
        load.ask(
            "dns tcp, one connection",
            PAUSE,
            Box::new(move || stays.ask()),
        );
        let fresh = move || DnsOverTcp::new(dns, &for_dns).ask();
        load.ask("dns tcp, new connections", PAUSE, Box::new(fresh));

        let (mut dhcp, server) = (Dhcp::new(Arc::clone(&load.leases)), at(6767));
        load.ask("dhcp", PAUSE, Box::new(move || dhcp.ask(server)));

        for proxy in proxies {
            let mut session = Signals::new(*proxy).expect("a session");
            load.ask(
                "signals, one session",
                PAUSE,
                Box::new(move || session.echo()),
            );
            let proxy = *proxy;
            let fresh = move || {
                let mut session = Signals::new(proxy)?;
                session.echo()?;
                session.end()
            };
            load.ask("signals, new sessions", PAUSE, Box::new(fresh));
            let expected = Arc::clone(&contents);
            let redialled = Arc::clone(&load.redialled);
            let download = move || download(proxy, &[], &expected, &redialled);
            load.ask("rudp download", DOWNLOAD_PAUSE, Box::new(download));
        }

        let (origin, expected) = (at(8080), Arc::clone(&contents));
        let cuts = Arc::clone(&for_origin);
        let whole = move || {
            let body = KeptAlive::new(origin, &cuts).get(&format!("/{FILE}"))?;
            (body == *expected)
                .then_some(())
                .ok_or_else(|| format!("{} bytes, or not the right ones", body.len()))
        };
        load.ask("http download", DOWNLOAD_PAUSE, Box::new(whole));
        let kinds = [
            (
                "origin, new connections",
                "origin, one connection",
                origin,
                "/",
                for_origin,
            ),
            (
                "http, new connections",
                "http, one connection",
                at(9167),
                "/-/healthy",
                for_http,
            ),
        ];
        for (fresh, lasting, server, path, cuts) in kinds {
            let mut stays = KeptAlive::new(server, &cuts);
            load.ask(lasting, PAUSE, Box::new(move || stays.get(path).map(drop)));
            let ask = move || KeptAlive::new(server, &cuts).get(path).map(drop);
            load.ask(fresh, PAUSE, Box::new(ask));
        }

        let whole = Addresses(addresses.0);
        let list = move || {
            let list = whole.scrap(PATIENCE).ok_or("no list")?;
            let right = list == format!("{FILE};task2.pdf;");
            right.then_some(()).ok_or_else(|| format!("{list:?}"))
        };
        load.ask("scrap", PAUSE, Box::new(list));
        load
    }

    /// Downloads over a slow link, too: some connection is under way nearly all the time, however fast the
    /// machine is.
    pub(crate) fn download_slowly(&mut self, proxy: SocketAddr) {
        let (expected, redialled) = (Arc::clone(&self.contents), Arc::clone(&self.redialled));
        let download = move || download(proxy, &["--rate", "40mbit"], &expected, &redialled);
        self.ask("slow rudp download", Duration::ZERO, Box::new(download));
    }

    fn ask(&mut self, name: &'static str, pause: Duration, mut ask: Ask) {
        let kind = Arc::new(Kind {
            name,
            answered: AtomicU64::new(0),
            longest: AtomicU64::new(0),
            interval: AtomicU64::new(pause.as_micros() as u64),
        });
        self.kinds.push(Arc::clone(&kind));
        let (done, failures) = (Arc::clone(&self.done), Arc::clone(&self.failures));
        self.threads.push(thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let answer = ask();
                let took = asked.elapsed();
                if let Err(problem) = answer {
                    let problem = format!("{name}, after {took:?}: {problem}");
                    failures.lock().expect("not poisoned").push(problem);
                    return;
                }
                let longest = took.as_micros() as u64;
                kind.longest.fetch_max(longest, Ordering::Relaxed);
                kind.answered.fetch_add(1, Ordering::Relaxed);
                let interval = Duration::from_micros(kind.interval.load(Ordering::Relaxed));
                thread::sleep(interval.saturating_sub(took));
            }
        }));
    }

    /// The role is about to crash: TCP connections on which it is asked nothing go with it, and their
    /// clients ask again on others.
    pub(crate) fn expect_cut(&self, role: &str) {
        if let Some(cuts) = self.cuts.get(role) {
            cuts.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Fails the test if anything has been lost so far.
    #[track_caller]
    pub(crate) fn check(&self) {
        let failures = self.failures.lock().expect("not poisoned");
        assert!(failures.is_empty(), "{failures:#?}");
    }

    /// How many connections of the binary transport had to be made again.
    pub(crate) fn redialled(&self) -> u64 {
        self.redialled.load(Ordering::Relaxed)
    }

    /// How many answers of each kind there have been.
    pub(crate) fn answered(&self) -> Vec<u64> {
        let answered = |kind: &Arc<Kind>| kind.answered.load(Ordering::Relaxed);
        self.kinds.iter().map(answered).collect()
    }

    /// Waits until each question has been answered twice, the second time after this was called; of
    /// downloads, whatever is under way.
    #[track_caller]
    pub(crate) fn wait_for_answers(&self) {
        self.wait_for(|kind| !kind.name.ends_with("download"));
    }

    /// The same, and for two whole downloads of each kind.
    #[track_caller]
    pub(crate) fn wait_for_downloads(&self) {
        self.wait_for(|_| true);
    }

    #[track_caller]
    fn wait_for(&self, whom: impl Fn(&Kind) -> bool) {
        let (began, before) = (Instant::now(), self.answered());
        let missing = |now: &[u64]| {
            let missing = |n: &usize| now[*n] < before[*n] + 2 && whom(&self.kinds[*n]);
            (0..now.len()).find(missing)
        };
        while let Some(missing) = missing(&self.answered()) {
            self.check();
            let name = self.kinds[missing].name;
            assert!(began.elapsed() < DOWNLOAD * 2, "nothing came of {name}");
            thread::sleep(Duration::from_millis(5));
        }
        self.check();
    }

    /// Finds out for `time` how much can be answered at most, and asks half of that from then on.
    pub(crate) fn halve(&self, time: Duration) {
        for kind in &self.kinds {
            kind.interval.store(0, Ordering::Relaxed);
        }
        let before = self.answered();
        thread::sleep(time);
        let after = self.answered();
        for (n, kind) in self.kinds.iter().enumerate() {
            let answered = (after[n] - before[n]).max(1);
            let interval = 2 * time.as_micros() as u64 / answered;
            kind.interval.store(interval, Ordering::Relaxed);
            println!("{}: {answered} in {time:?} at most", kind.name);
        }
    }

    /// Ends it: all that was asked has been answered, and every lease is there.
    #[track_caller]
    pub(crate) fn end(mut self, lab: &Lab) {
        self.stop();
        self.check();
        for kind in &self.kinds {
            let longest = Duration::from_micros(kind.longest.load(Ordering::Relaxed));
            let answered = kind.answered.load(Ordering::Relaxed);
            println!("{}: {answered} answers, the slowest {longest:?}", kind.name);
            assert!(answered > 0, "{}", kind.name);
        }
        let told = lab.json("/api/v1/leases");
        let told = told.as_array().expect("a list");
        let leases = self.leases.lock().expect("not poisoned");
        assert_eq!(leases.len(), usize::from(CLIENTS));
        for (client, address) in &*leases {
            let kept = told.iter().any(|lease| {
                lease["address"] == address.to_string()
                    && lease["hardware_address"] == written(client)
                    && lease["state"] == "bound"
            });
            assert!(kept, "the lease of {address} is gone: {told:?}");
        }
    }

    fn stop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let outcome = thread.join();
            assert!(
                outcome.is_ok() || thread::panicking(),
                "a question panicked"
            );
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

fn written(hardware: &[u8; 6]) -> String {
    hardware.map(|byte| format!("{byte:02x}")).join(":")
}

fn udp(to: SocketAddr) -> Result<UdpSocket, String> {
    let from = match to {
        SocketAddr::V4(_) => "127.0.0.1:0",
        SocketAddr::V6(_) => "[::1]:0",
    };
    let connected = UdpSocket::bind(from).and_then(|socket| {
        socket.connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    });
    connected.map_err(|error| error.to_string())
}

fn exchange(socket: &UdpSocket, question: &[u8]) -> Result<Vec<u8>, String> {
    let mut answer = vec![0; 4096];
    let length = socket
        .send(question)
        .and_then(|_| socket.recv(&mut answer))
        .map_err(|error| error.to_string())?;
    answer.truncate(length);
    Ok(answer)
}

/// A query for the address of a name.
pub(crate) fn query(id: u16, name: &str) -> Vec<u8> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

/// Whether it answers that query with records.
fn answers(answer: &[u8], id: u16) -> Answer {
    let right = answer.len() > 12
        && answer[..2] == id.to_be_bytes()
        && answer[3] & 15 == 0
        && answer[6..8] != [0, 0];
    right.then_some(()).ok_or_else(|| format!("{answer:?}"))
}

fn ask_dns(server: SocketAddr) -> Answer {
    look_up(server, "www.example.com")
}

/// Asks by UDP for the address of a name.
pub(crate) fn look_up(server: SocketAddr, name: &str) -> Answer {
    let id = rand::random();
    answers(&exchange(&udp(server)?, &query(id, name))?, id)
}

fn tcp(to: SocketAddr) -> Result<TcpStream, String> {
    let connected = TcpStream::connect_timeout(&to, PATIENCE).and_then(|stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    });
    connected.map_err(|error| format!("connecting: {error}"))
}

struct DnsOverTcp {
    server: SocketAddr,
    stream: Option<TcpStream>,
    cuts: Cuts,
    /// Of these, those before it connected.
    cut: u64,
}

impl DnsOverTcp {
    fn new(server: SocketAddr, cuts: &Cuts) -> Self {
        Self {
            server,
            stream: None,
            cuts: Arc::clone(cuts),
            cut: 0,
        }
    }

    fn ask(&mut self) -> Answer {
        loop {
            let answer = self.ask_once();
            let cut = self.cuts.load(Ordering::Relaxed);
            if answer.is_ok() || cut == self.cut {
                return answer;
            }
            self.stream = None;
        }
    }

    fn ask_once(&mut self) -> Answer {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                self.cut = self.cuts.load(Ordering::Relaxed);
                none.insert(tcp(self.server)?)
            }
        };
        let id = rand::random();
        let query = query(id, "www.example.com");
        let mut message = (query.len() as u16).to_be_bytes().to_vec();
        message.extend(query);
        let mut exchange = || -> std::io::Result<Vec<u8>> {
            stream.write_all(&message)?;
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut answer = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut answer)?;
            Ok(answer)
        };
        answers(&exchange().map_err(|error| error.to_string())?, id)
    }
}

/// DISCOVER and REQUEST for each client in turn, then again and again what each has.
struct Dhcp {
    leases: Leases,
    next: u8,
}

impl Dhcp {
    fn new(leases: Leases) -> Self {
        Self { leases, next: 0 }
    }

    fn ask(&mut self, server: SocketAddr) -> Answer {
        let client = [2, 0, 0, 0, 0x70, self.next];
        self.next = (self.next + 1) % CLIENTS;
        let socket = udp(server)?;
        let known = self
            .leases
            .lock()
            .expect("not poisoned")
            .get(&client)
            .copied();
        let (address, identifier) = match known {
            Some(address) => (address, None),
            None => {
                let offer = exchange(&socket, &dhcp_message(&client, 1, &[]))?;
                if dhcp_type(&offer) != Some(2) {
                    return Err(format!("no offer: {offer:?}"));
                }
                (yiaddr(&offer), dhcp_option(&offer, 54).map(<[u8]>::to_vec))
            }
        };
        let mut options = vec![(50, address.octets().to_vec())];
        options.extend(identifier.map(|server| (54, server)));
        let ack = exchange(&socket, &dhcp_message(&client, 3, &options))?;
        if dhcp_type(&ack) != Some(5) || yiaddr(&ack) != address {
            return Err(format!("no ACK of {address}: {ack:?}"));
        }
        self.leases
            .lock()
            .expect("not poisoned")
            .insert(client, address);
        Ok(())
    }
}

fn dhcp_message(client: &[u8; 6], kind: u8, options: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[4..8].copy_from_slice(&client[2..]);
    message[28..34].copy_from_slice(client);
    message[236..].copy_from_slice(&[99, 130, 83, 99]);
    message.extend([53, 1, kind]);
    for (code, value) in options {
        message.extend([*code, value.len() as u8]);
        message.extend(value);
    }
    message.push(255);
    message
}

fn yiaddr(message: &[u8]) -> Ipv4Addr {
    let octets: [u8; 4] = message[16..20].try_into().expect("four");
    octets.into()
}

fn dhcp_type(message: &[u8]) -> Option<u8> {
    dhcp_option(message, 53)?.first().copied()
}

fn dhcp_option(message: &[u8], code: u8) -> Option<&[u8]> {
    let mut rest = message.get(240..)?;
    loop {
        match *rest.first()? {
            0 => rest = &rest[1..],
            255 => return None,
            found => {
                let length = usize::from(*rest.get(1)?);
                let value = rest.get(2..2 + length)?;
                if found == code {
                    return Some(value);
                }
                rest = &rest[2 + length..];
            }
        }
    }
}

/// A session of the signals.
pub(crate) struct Signals {
    socket: UdpSocket,
    id: u32,
}

impl Signals {
    pub(crate) fn new(proxy: SocketAddr) -> Result<Self, String> {
        let socket = udp(proxy)?;
        // The number of a name: the sum of its characters' codes.
        let this = Self { socket, id: 289 };
        this.say("SIGNEW:Tal", "SIGNACK")?;
        Ok(this)
    }

    /// Where it is, as the proxy sees it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    pub(crate) fn echo(&mut self) -> Answer {
        self.id += 1;
        let id = self.id;
        self.say(
            &format!("SIGNECHO:{id};17.5"),
            &format!("ECHOREPLY:{id};17.5"),
        )
    }

    pub(crate) fn end(mut self) -> Answer {
        self.id += 1;
        let id = self.id;
        self.say(&format!("SIGNEND:{id};SIGNEND"), &format!("ACKEND:{id}"))
    }

    fn say(&self, signal: &str, expected: &str) -> Answer {
        let said = |error| format!("{signal}: {error}");
        let answer = exchange(&self.socket, signal.as_bytes()).map_err(said)?;
        let answer = String::from_utf8_lossy(&answer);
        let right = answer == expected;
        right
            .then_some(())
            .ok_or_else(|| said(format!("{answer:?}")))
    }
}

/// A file by the binary transport, and whether it is whole.
fn download(proxy: SocketAddr, options: &[&str], expected: &[u8], redialled: &AtomicU64) -> Answer {
    let out = tempfile::tempdir().expect("a temporary folder");
    let mut client = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args(["client", "--server", &proxy.to_string(), "--via", "rudp"])
        .args(["--json", "--out", out.path().to_str().expect("UTF-8")])
        .args(options)
        .args(["get", FILE])
        .env("NO_COLOR", "1")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("labnet starts");
    let began = Instant::now();
    while client.try_wait().expect("a child").is_none() {
        if began.elapsed() > DOWNLOAD {
            client.kill().expect("a child");
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = client.wait_with_output().expect("it ends");
    let summary = output
        .stdout
        .rsplit(|byte| *byte == b'\n')
        .find(|line| !line.is_empty());
    let summary: serde_json::Value =
        serde_json::from_slice(summary.unwrap_or_default()).unwrap_or_default();
    let connections = summary["connections"].as_u64().unwrap_or(0);
    redialled.fetch_add(connections.saturating_sub(1), Ordering::Relaxed);
    let whole = fs::read(out.path().join(FILE)).is_ok_and(|contents| contents == *expected);
    let fine = output.status.success() && whole && connections > 0;
    fine.then_some(()).ok_or_else(|| {
        let [said, complaint] =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        format!("{}: {said}{complaint}", output.status)
    })
}

/// HTTP over one connection.
struct KeptAlive {
    server: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
    cuts: Cuts,
    /// Of these, those before it connected.
    cut: u64,
}

impl KeptAlive {
    fn new(server: SocketAddr, cuts: &Cuts) -> Self {
        Self {
            server,
            stream: None,
            cuts: Arc::clone(cuts),
            cut: 0,
        }
    }

    fn get(&mut self, path: &str) -> Result<Vec<u8>, String> {
        loop {
            let mut head = String::new();
            let body = self.get_once(path, &mut head);
            let cut = self.cuts.load(Ordering::Relaxed);
            // Whatever has begun to answer, ends it, too.
            if body.is_ok() || cut == self.cut || !head.is_empty() {
                return body;
            }
            self.stream = None;
        }
    }

    fn get_once(&mut self, path: &str, head: &mut String) -> Result<Vec<u8>, String> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                self.cut = self.cuts.load(Ordering::Relaxed);
                none.insert(BufReader::new(tcp(self.server)?))
            }
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.server);
        let mut exchange = || -> std::io::Result<Vec<u8>> {
            stream.get_mut().write_all(request.as_bytes())?;
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(head)? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            let length = head.lines().find_map(|line| {
                let (field, value) = line.split_once(':')?;
                let here = field.eq_ignore_ascii_case("content-length");
                here.then(|| value.trim().parse().ok())?
            });
            let mut body = vec![0; length.unwrap_or(0)];
            stream.read_exact(&mut body)?;
            Ok(body)
        };
        let body = exchange().map_err(|error| error.to_string())?;
        let fine = head.starts_with("HTTP/1.1 200 ");
        fine.then_some(body).ok_or_else(|| head.clone())
    }
}

/// A page over a connection of its own.
pub(crate) fn page(server: SocketAddr, path: &str) -> Answer {
    KeptAlive::new(server, &Cuts::default()).get(path).map(drop)
}

//! labnet's own transport: its server with its own origin, and its client.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::{self, File},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    time::timeout,
};

use super::{Came, Ground, LOOK, Task};
use crate::{
    client::transport::{self, TransportError},
    compare::{
        exec::Program,
        plan::{Amount, Run},
        recorder::FlowRecord,
        sender::{Sender, Transport},
    },
    config::{self, BadLink, LinkOptions},
    congestion::Controllers,
    net::{Sockets, representation::want_sha256},
    origin::MOST_SUMMED,
    role::Steering,
    rudp::{packet::Protection, signal::Name},
    supervisor::Lab,
    watch::{event::transport::Observer, fates::Fates, ring::About, watcher::Watcher},
};

/// The file that is carried.
const FILE: &str = "transfer.bin";
/// What a client's name begins with; its flow's number follows.
const NAME: &str = "flow-";
/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// The most that a run by time may carry: more than any machine does in an hour, and less than ext4's
/// largest file, 2^44 - 4096 bytes.
const ENDLESS: u64 = 1 << 43;

/// Has the connections of a run watched.
#[derive(Debug)]
pub(super) struct Watch {
    fates: Fates,
    records: Mutex<Vec<FlowRecord>>,
}

/// Has those flows controlled by programs that have one, by the flow.
#[derive(Debug)]
pub(super) struct Steered(pub(super) BTreeMap<usize, Program>);

impl Watch {
    pub(super) fn new(fates: Fates) -> Self {
        Self {
            fates,
            records: Mutex::default(),
        }
    }

    /// From now on connections belong to these flows.
    pub(super) fn set(&self, records: Vec<FlowRecord>) {
        *self.records.lock().unwrap_or_else(PoisonError::into_inner) = records;
    }
}

/// Which flow a connection is of.
fn flow_of(about: &About) -> Option<usize> {
    about.name.strip_prefix(NAME)?.parse().ok()
}

impl Steering for Steered {
    fn controls(&self, about: &About) -> Option<Arc<dyn Controllers>> {
        let program = self.0.get(&flow_of(about)?)?;
        Some(Arc::new(program.clone()))
    }
}

impl Watcher for Watch {
    fn begins(&self, about: About, now: Instant) -> Option<Box<dyn Observer>> {
        let flow = flow_of(&about)?;
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let record = records.get(flow)?;
        Some(record.observer(about, self.fates.clone(), now))
    }
}

/// The server, in threads of its own; dropped, it ends.
pub(super) struct Proxy {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Proxy {
    /// Starts it where senders are, and waits until it has its file.
    pub(super) fn start(
        ground: &Ground,
        run: &Run,
        watch: Arc<Watch>,
        steering: Arc<Steered>,
    ) -> Result<Self, String> {
        let folder = Folder::new().map_err(|error| format!("no temporary folder: {error}"))?;
        let listen: Vec<SocketAddr> = match ground {
            Ground::Loopback => vec![ground.listen(0)],
            Ground::Namespaces { .. } => run
                .senders
                .iter()
                .enumerate()
                .filter(|(_, sender)| sender.transport() == Transport::Rudp)
                .map(|(flow, _)| ground.listen(flow))
                .collect(),
        };
        let bytes = match run.amount {
            Amount::Size(size) => size / run.files.max(1),
            Amount::Time(time) => {
                let rates = run.changes.iter().map(|change| change.down.rate);
                let most = rates
                    .chain([run.down.rate])
                    .max_by_key(|rate| rate.is_none());
                let rates = run.changes.iter().filter_map(|change| change.down.rate);
                let fastest = rates.chain(run.down.rate).max();
                let bytes = match (most.flatten(), fastest) {
                    // Twice what the link can carry.
                    (Some(_), Some(rate)) => (rate.get() as f64 / 4.0 * time.as_secs_f64()) as u64,
                    _ => ENDLESS,
                };
                // Who gets the first byte would wait for the sum.
                bytes.max(MOST_SUMMED + 1)
            }
        };
        let bytes = bytes.min(ENDLESS);
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let initial_window = run.initial_window_bytes();
        let thread = ground.at_senders("proxy", move |entered| {
            entered.map_err(|error| format!("no namespace: {error}"))?;
            let made = make(&folder.0, bytes, initial_window, &listen);
            let (config, sockets, address, origin) =
                made.map_err(|error| format!("the server: {error}"))?;
            actix::System::new().block_on(async {
                let lab = Lab::start_attended(config, sockets, watch, steering).await;
                let lab = lab.map_err(|error| format!("the server does not start: {error}"))?;
                let ready = timeout(PATIENCE, async {
                    while lab.metrics().scrap_files.get() < 1 {
                        tokio::time::sleep(LOOK).await;
                    }
                    have_summed(origin).await
                });
                let ready = matches!(ready.await, Ok(Ok(())));
                if ready {
                    // Nobody hears it only if nobody waits any more.
                    let _ = tell.send(address);
                    let _ = stopped.await;
                }
                lab.shutdown().await;
                match ready {
                    true => Ok(()),
                    false => {
                        Err("the server does not get its list of files, or its file".to_owned())
                    }
                }
            })
        })?;
        match told.recv() {
            Ok(address) => Ok(Self {
                address,
                stop: Some(stop),
                thread: Some(thread),
            }),
            // It has ended, and says why.
            Err(_) => Err(match thread.join() {
                Ok(Err(problem)) => problem,
                _ => "the server ended".to_owned(),
            }),
        }
    }

    /// Where it listens, the first address of several.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let (Some(stop), Some(thread)) = (self.stop.take(), self.thread.take()) {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

/// A folder of this process alone, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let name = format!(
            "labnet-compare-{}-{:08x}",
            std::process::id(),
            rand::random::<u32>()
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of it is in a folder for what may be left.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until the origin knows its file's sum, for which the first byte would wait otherwise: what is measured is
/// the transport.
async fn have_summed(origin: SocketAddr) -> io::Result<()> {
    let mut connection = TcpStream::connect(origin).await?;
    let (name, value) = want_sha256();
    let value = value.to_str().map_err(io::Error::other)?;
    let request = format!(
        "HEAD /{FILE} HTTP/1.1\r\nhost: {origin}\r\n{name}: {value}\r\nconnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await?;
    Ok(())
}

/// The server's file, configuration and sockets, its first address and the origin's.
fn make(
    folder: &Path,
    bytes: u64,
    initial_window: Option<u64>,
    listen: &[SocketAddr],
) -> io::Result<(config::Config, Sockets, SocketAddr, SocketAddr)> {
    let files = folder.join("files");
    fs::create_dir(&files)?;
    // Holes: it takes no room on the disk.
    File::create(files.join(FILE))?.set_len(bytes)?;
    let sockets = Sockets::default();
    let here = SocketAddr::from(([127, 0, 0, 1], 0));
    let (scrap, origin) = (sockets.reserve_tcp(here)?, sockets.reserve_tcp(here)?);
    let mut bound = Vec::new();
    for address in listen {
        bound.push(sockets.reserve_udp(*address)?);
    }
    let first = bound.first().copied().ok_or(io::ErrorKind::InvalidInput)?;
    let bound: Vec<String> = bound.iter().map(ToString::to_string).collect();
    let initial_window = initial_window.map(|bytes| format!("initial_window = \"{bytes}\"\n"));
    let initial_window = initial_window.unwrap_or_default();
    let text = format!(
        "state_dir = \"state\"\n[log]\nlevel = \"warn\"\n[rudp]\nlisten = {bound:?}\n{initial_window}\
         max_sessions_per_address = 1000\nmax_handshakes_per_address = 1000\n\
         max_fetches = 1000\nmax_fetches_per_address = 1000\n\
         [scrap]\nlisten = \"{scrap}\"\norigin = \"http://{origin}/\"\n[origin]\nlisten = \"{origin}\"\n\
         files = {:?}\n",
        files.display().to_string()
    );
    let path = folder.join("labnet.toml");
    fs::write(&path, &text)?;
    let config = config::parse(&text, &path, []);
    let config = config.map_err(|problems| io::Error::other(problems.to_string()))?;
    Ok((config, sockets, first, origin))
}

/// Starts a client.
pub(super) fn receive(task: Task, link: SocketAddr) -> Result<JoinHandle<Came>, String> {
    let ground = task.ground.clone();
    let server = match ground {
        Ground::Loopback => link,
        Ground::Namespaces { .. } => ground.listen(task.number),
    };
    ground.at_receivers("receiver", move |entered| {
        let runtime = entered.and_then(|()| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
        });
        let mut came = Came::default();
        match runtime {
            Ok(runtime) => {
                let fetched = runtime.block_on(fetch(&task, server, &mut came));
                came.failure = fetched.err().map(|error| error.to_string());
            }
            Err(error) => came.failure = Some(error.to_string()),
        }
        came
    })
}

/// A link of the receiver's own, beyond the one that is shared.
fn further(away: Duration) -> BadLink {
    let way = LinkOptions {
        delay: away,
        ..LinkOptions::default()
    };
    BadLink {
        up: way,
        down: way,
        ..BadLink::default()
    }
}

async fn fetch(task: &Task, server: SocketAddr, came: &mut Came) -> Result<(), TransportError> {
    let congestion = match task.sender {
        Sender::Rudp(congestion) => Some(congestion),
        // The server knows by the flow's name what controls it.
        Sender::Exec(_) => None,
        Sender::Tcp(_) | Sender::Quic(_) => return Ok(()),
    };
    let Ok(name) = Name::new(&format!("{NAME}{}", task.number)) else {
        return Ok(());
    };
    let settings = transport::Settings {
        local: task.ground.local(task.number),
        server,
        name,
        congestion,
        protection: Protection::Checksum,
        max_datagram: None,
        link: further(task.away),
        fates: None,
        rings: None,
        qlog: None,
    };
    task.wait();
    let mut open = None;
    let came = RefCell::new(came);
    let file = async |transport: &transport::Transport, file: u64| {
        let mut reply = transport.get(FILE, 0, None).await?;
        let mut left = task.file_size();
        while let Some(bytes) = reply.next().await? {
            left = left.saturating_sub(bytes.len() as u64);
            task.piece(&mut came.borrow_mut(), file, bytes.len() as u64, left == 0);
        }
        Ok::<_, TransportError>(())
    };
    let fetching = async {
        let transport = transport::Transport::connect(&settings).await?;
        let transport = &*open.insert(transport);
        let files = (0..task.files).map(|number| file(transport, number));
        try_join_all(files).await?;
        came.borrow_mut().whole = Some(Instant::now());
        Ok(())
    };
    let fetched = task.until_over(fetching).await;
    if let Some(transport) = open {
        // Who does not hear it finds out by itself.
        let _ = timeout(GOODBYE, transport.close()).await;
    }
    fetched
}

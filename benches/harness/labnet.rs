//! labnet's own rows: `labnet serve` and `labnet client get --via rudp`.

use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use labnet::{
    client::transport::{Settings, Transport},
    config::BadLink,
    rudp::packet::{Protection, Secret},
};
use serde::Deserialize;

use super::support::{Lab, Namespace, PATIENCE};
use crate::peers::{Fetched, Wish};

/// The name of the file that is fetched.
pub const FILE: &str = "file.bin";

/// The last line of `labnet client get --json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Summary {
    /// Bytes received.
    pub bytes: u64,
    /// From the request sent to the last byte received.
    pub seconds: f64,
    /// Whether all of it came.
    pub complete: bool,
}

/// A proxy with its origin beside it on one address.
pub struct Site {
    /// Its process.
    pub lab: Lab,
    address: String,
}

impl Site {
    /// Serves a folder from labnet's own origin. `rudp` are further keys of `[rudp]`.
    pub fn start(address: &str, folder: &Path, rudp: &str, namespace: Option<&Namespace>) -> Self {
        let origin = format!(
            "[origin]\nlisten = \"{address}:8080\"\nfiles = {:?}\n",
            folder.display().to_string()
        );
        Self::before(
            address,
            &format!("http://{address}:8080/"),
            &origin,
            rudp,
            namespace,
        )
    }

    /// Stands before an origin that somebody else runs. `more` are further tables, or keys like `watch.memory`
    /// that name theirs.
    pub fn before(
        address: &str,
        page: &str,
        more: &str,
        rudp: &str,
        namespace: Option<&Namespace>,
    ) -> Self {
        let config = format!(
            "{more}\n[rudp]\nlisten = \"{address}:49152\"\n{rudp}\n\
             [scrap]\nlisten = \"{address}:49153\"\norigin = \"{page}\"\n\
             [http]\nlisten = \"{address}:9167\"\n"
        );
        let site = Self {
            lab: Lab::start_with(&config, &[], namespace),
            address: address.to_owned(),
        };
        site.wait_for_the_list(namespace);
        site
    }

    /// The scraper reads the page on its own time. Asked from beside the proxy, so that nothing
    /// of this goes over the link.
    fn wait_for_the_list(&self, namespace: Option<&Namespace>) {
        let start = Instant::now();
        loop {
            let mut command = labnet(namespace);
            self.to_here(&mut command).args(["--json", "list"]);
            let output = command.output().expect("labnet starts");
            if String::from_utf8_lossy(&output.stdout).contains(FILE) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "no {FILE} on the list");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The command that downloads the file over many connections at once, and prints a [`Fetched`].
    pub fn get_often(&self, congestion: &str, wish: Wish) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("a path of its own"));
        command.args([
            "role",
            "labnet",
            &format!("{}:49152", self.address),
            congestion,
        ]);
        command.arg(serde_json::to_string(&wish).expect("a plain struct"));
        command
    }

    /// The command that captures what passes at the lab's sockets.
    pub fn capture(&self, file: &Path) -> Command {
        let mut command = labnet(None);
        command.arg("capture").arg("--write").arg(file);
        command.args(["--url", &format!("http://{}:9167", self.address)]);
        command
    }

    fn to_here<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .arg("client")
            .args(["--server", &format!("{}:49152", self.address)])
    }

    /// The command that downloads the file over the transport; its last line is a [`Summary`].
    pub fn get(
        &self,
        namespace: Option<&Namespace>,
        congestion: Option<&str>,
        more: &[&str],
    ) -> Command {
        let mut command = labnet(namespace);
        self.to_here(&mut command);
        command.args(["--json", "get", FILE, "--via", "rudp"]);
        if let Some(congestion) = congestion {
            command.args(["--congestion", congestion]);
        }
        command.args(more);
        command
    }
}

/// The program, in a namespace if there is one.
fn labnet(namespace: Option<&Namespace>) -> Command {
    let labnet = env!("CARGO_BIN_EXE_labnet");
    match namespace {
        Some(namespace) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &namespace.name, labnet]);
            command
        }
        None => Command::new(labnet),
    }
}

/// What both sides know where a benchmark has `protection = "psk"`.
pub const SECRET: &str = "a benchmark has no secrets";

/// Plays the part of many clients if the arguments ask for it: comes first in `main`.
pub fn role() -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ["role", "labnet", server, congestion, wish] = arguments[..] else {
        return false;
    };
    labnet::net::raise_descriptor_limit().expect("as many sockets as sessions");
    let wish: Wish = serde_json::from_str(wish).expect("JSON");
    let protection = match std::env::var("LABNET_SECRET") {
        Ok(secret) => Protection::Psk(Secret::new(&secret).expect("long enough")),
        Err(_) => Protection::Checksum,
    };
    let settings = Settings {
        local: None,
        server: server.parse().expect("an address"),
        name: labnet::rudp::signal::Name::new("bench").expect("a name"),
        congestion: Some(congestion.parse().expect("a controller")),
        protection,
        max_datagram: None,
        link: BadLink::default(),
        fates: None,
        rings: None,
        qlog: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let each = runtime.block_on(async {
        // All open before the first one asks.
        let mut transports = Vec::new();
        for _ in 0..wish.sessions {
            transports.push(Transport::connect(&settings).await.expect("a connection"));
        }
        let transfers = transports.into_iter().map(|transport| {
            tokio::spawn(async move {
                let start = Instant::now();
                let mut reply = transport.get(FILE, 0, None).await.expect("a head");
                let mut received = 0;
                while let Some(bytes) = reply.next().await.expect("bytes") {
                    received += bytes.len() as u64;
                }
                assert_eq!(received, wish.size);
                let seconds = start.elapsed().as_secs_f64();
                transport.close().await;
                seconds
            })
        });
        let transfers: Vec<_> = transfers.collect();
        let mut each = Vec::new();
        for transfer in transfers {
            each.push(transfer.await.expect("no panic"));
        }
        each
    });
    let fetched = Fetched::new(wish.size, each);
    println!(
        "{}",
        serde_json::to_string(&fetched).expect("a plain struct")
    );
    true
}

//! A capture of real packets, and what tshark says of it with the dissector.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::support::{Namespace, run, signal, wait_for};

pub(super) const DISSECTOR: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/conf/wireshark/labnet.lua");
/// What is sent behind the last packet of interest.
const LAST: &str = "this is the end of the capture";

/// The UDP packets of an interface, written to a file.
pub(super) struct Capture {
    child: Child,
    file: PathBuf,
    dir: TempDir,
    namespace: String,
}

impl Capture {
    pub(super) fn start(namespace: &Namespace, interface: &str) -> Self {
        let dir = TempDir::new().expect("a folder");
        let file = dir.path().join("capture.pcapng");
        let log = fs::File::create(dir.path().join("log")).expect("a file");
        let child = Command::new("ip")
            .args(["netns", "exec", &namespace.name, "dumpcap", "-q"])
            // MiB: more than any of these tests sends.
            .args(["-i", interface, "-B", "200", "-f", "udp", "-w"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("ip starts");
        let capture = Self {
            child,
            file,
            dir,
            namespace: namespace.name.clone(),
        };
        wait_for("the capture", || {
            capture.log().contains("File:").then_some(())
        });
        capture
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).expect("a log")
    }

    /// All packets up to now, none missing.
    #[track_caller]
    pub(super) fn stop(mut self, interface_address: &str) -> Captured {
        wait_for("the last packet", || {
            let end = format!("echo '{LAST}' > /dev/udp/{interface_address}/9");
            let inside = ["netns", "exec", &self.namespace, "bash", "-c", &end];
            run("ip", &inside);
            thread::sleep(Duration::from_millis(100));
            let bytes = fs::read(&self.file).expect("a capture");
            let mut windows = bytes.windows(LAST.len());
            windows
                .any(|window| window == LAST.as_bytes())
                .then_some(())
        });
        signal(self.child.id(), "INT");
        self.child.wait().expect("its end");
        let log = self.log();
        let dropped = log.split("(pcap:").nth(1).expect("its counts");
        assert!(dropped.starts_with("0/dumpcap:0/"), "{log}");
        Captured {
            file: self.file.clone(),
            _dir: std::mem::replace(&mut self.dir, TempDir::new().expect("a folder")),
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A capture, to be read with the dissector.
pub(super) struct Captured {
    file: PathBuf,
    _dir: TempDir,
}

impl Captured {
    /// Of datagrams from the proxy (`true`) and to it, as Linux would capture them without a link
    /// layer; of each as many bytes as `most` allows.
    pub(super) fn of(datagrams: &[(bool, Vec<u8>)], most: usize) -> Self {
        let dir = TempDir::new().expect("a folder");
        let file = dir.path().join("made.pcap");
        // pcap's header: version 2.4, raw IP.
        let mut bytes = Vec::new();
        for field in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 1 << 18, 101] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        for (n, (from_proxy, payload)) in datagrams.iter().enumerate() {
            let (source, destination) = match from_proxy {
                true => (([127, 0, 0, 10], 49152u16), ([127, 20, 30, 41], 40000u16)),
                false => (([127, 20, 30, 41], 40000), ([127, 0, 0, 10], 49152)),
            };
            let udp = 8 + payload.len() as u16;
            let mut packet = vec![0x45, 0];
            packet.extend_from_slice(&(20 + udp).to_be_bytes());
            packet.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0]);
            packet.extend_from_slice(&source.0);
            packet.extend_from_slice(&destination.0);
            for field in [source.1, destination.1, udp, 0] {
                packet.extend_from_slice(&field.to_be_bytes());
            }
            packet.extend_from_slice(payload);
            let kept = packet.len().min(28 + most);
            for field in [1_800_000_000, n as u32, kept as u32, packet.len() as u32] {
                bytes.extend_from_slice(&field.to_le_bytes());
            }
            bytes.extend_from_slice(&packet[..kept]);
        }
        fs::write(&file, bytes).expect("written");
        Self { file, _dir: dir }
    }

    /// What tshark prints, which must have nothing to say against the dissector.
    #[track_caller]
    pub(super) fn tshark(&self, arguments: &[&str]) -> String {
        let script = format!("lua_script:{DISSECTOR}");
        let file = self.file.to_str().expect("a path");
        let output = run(
            "tshark",
            &[&["-X", &script, "-r", file], arguments].concat(),
        );
        let stderr = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = stderr
            .lines()
            .filter(|line| !line.starts_with("Running as user"))
            .collect();
        assert!(said.is_empty(), "{said:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Those of its packets that fit the filter, as a capture of their own.
    #[track_caller]
    pub(super) fn only(&self, filter: &str) -> Self {
        let dir = TempDir::new().expect("a folder");
        let file = dir.path().join("only.pcapng");
        self.tshark(&["-Y", filter, "-w", file.to_str().expect("a path")]);
        Self { file, _dir: dir }
    }

    /// These fields of the packets that fit the filter: for each packet, for each field, all values.
    #[track_caller]
    pub(super) fn fields(&self, filter: &str, names: &[&str]) -> Vec<Vec<Vec<String>>> {
        let mut arguments = vec!["-Y", filter, "-T", "fields", "-E", "aggregator=|"];
        arguments.extend(names.iter().flat_map(|name| ["-e", *name]));
        let values = |field: &str| match field {
            "" => Vec::new(),
            field => field.split('|').map(str::to_owned).collect(),
        };
        let text = self.tshark(&arguments);
        let lines = text
            .lines()
            .map(|line| line.split('\t').map(values).collect());
        lines.collect()
    }

    /// How often each value of a field is there.
    #[track_caller]
    pub(super) fn tally(&self, filter: &str, name: &str) -> BTreeMap<String, u64> {
        let mut tally = BTreeMap::new();
        for packet in self.fields(filter, &[name]) {
            for value in packet.into_iter().flatten() {
                *tally.entry(value).or_default() += 1;
            }
        }
        tally
    }

    /// How many packets of the protocol there are, trains taken apart.
    #[track_caller]
    pub(super) fn packets(&self, filter: &str) -> u64 {
        let both = [
            self.tally(filter, "labnet.packet"),
            self.tally(filter, "labnet.signal"),
        ];
        both.iter().flat_map(BTreeMap::values).sum()
    }

    /// That every datagram to and from the port is dissected, and none of them malformed.
    #[track_caller]
    pub(super) fn all_well(&self, port: u16) {
        let not = format!("udp.port == {port} && !labnet && !icmp");
        assert_eq!(self.tshark(&["-Y", &not]), "");
        let wrong = "labnet.malformed || _ws.malformed || _ws.lua.error || labnet.integrity.bad || labnet.cut";
        assert_eq!(self.tshark(&["-Y", wrong]), "");
    }
}

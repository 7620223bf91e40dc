//! The state folder of a running service, and what happens to it.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use crate::support::dhcp::{ACK, Answer, DISCOVER, OFFER, Packet, REQUEST};
use crate::support::{Lab, PATIENCE, disk::Disk, labnet, loopback, run, wait_for};

/// How long to wait for an answer that must not come.
const SILENCE: Duration = Duration::from_secs(2);

struct Service {
    lab: Lab,
    ip: Ipv4Addr,
}

fn config(ip: Ipv4Addr, lease_time: &str) -> String {
    format!(
        "state_dir = \"state\"\n[http]\nlisten = \"{ip}:9167\"\n[dhcp]\nlisten = [\"{ip}:6767\"]\n\
         [[dhcp.subnet]]\nsubnet = \"127.20.30.0/24\"\n\
         pools = [\"127.20.30.41-127.20.30.60\"]\nlease_time = \"{lease_time}\"\n"
    )
}

impl Service {
    fn start() -> Self {
        Self::start_in("1h", &[])
    }

    fn start_in(lease_time: &str, environment: &[(&str, &str)]) -> Self {
        let ip = loopback();
        let lab = Lab::start_in(&config(ip, lease_time), &[], None, environment);
        Self { lab, ip }
    }

    fn state(&self) -> PathBuf {
        self.lab.dir().join("state")
    }

    fn database(&self) -> PathBuf {
        self.state().join("leases.sqlite")
    }

    fn ask(&self, packet: &Packet, patience: Duration) -> Option<Answer> {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        socket.set_read_timeout(Some(patience)).expect("a timeout");
        socket
            .send_to(&packet.bytes(), (self.ip, 6767))
            .expect("sent");
        let mut answer = [0; 2000];
        let len = socket.recv(&mut answer).ok()?;
        Some(Answer::parse(&answer[..len]))
    }

    /// DISCOVER, OFFER, REQUEST; the address of the ACK if there is one.
    fn lease_within(&self, client: u8, patience: Duration) -> Option<Ipv4Addr> {
        let offer = self.ask(&Packet::new(DISCOVER, client), PATIENCE)?;
        assert_eq!(offer.kind(), OFFER);
        let request = Packet::new(REQUEST, client)
            .requested(offer.yiaddr())
            .server(self.ip)
            .option(12, b"host");
        let answer = self.ask(&request, patience)?;
        assert_eq!(answer.kind(), ACK);
        Some(answer.yiaddr())
    }

    #[track_caller]
    fn lease(&self, client: u8) -> Ipv4Addr {
        self.lease_within(client, PATIENCE).expect("an ACK")
    }

    /// What holds an address by the service's list: state and seconds left.
    fn held(&self, address: Ipv4Addr) -> Option<(String, u64)> {
        let leases = self.lab.json("/api/v1/leases");
        let lease = leases
            .as_array()
            .expect("a list")
            .iter()
            .find(|lease| lease["address"] == address.to_string())?;
        Some((
            lease["state"].as_str().expect("text").to_owned(),
            lease["seconds_left"].as_u64().expect("a number"),
        ))
    }

    fn is_bound(&self, address: Ipv4Addr) -> bool {
        self.held(address)
            .is_some_and(|(state, _)| state == "bound")
    }

    #[track_caller]
    fn wait_degraded(&self, reason: &str) {
        wait_for("a degraded service", || {
            let (code, body) = self.lab.get("/-/ready");
            (code == 503 && body.contains("dhcp") && body.contains(reason)).then_some(())
        });
    }

    #[track_caller]
    fn wait_ready(&self) {
        wait_for("a ready service", || {
            (self.lab.get("/-/ready").0 == 200).then_some(())
        });
    }

    fn verb(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = labnet(&[&["leases"], arguments].concat());
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8(text).expect("UTF-8"),
        )
    }
}

fn path(path: &std::path::Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn without_its_state_folder_it_promises_nothing_and_it_heals() {
    let mut service = Service::start();
    let kept = service.lease(1);
    fs::remove_dir_all(service.state()).expect("removed");
    assert_eq!(service.lease_within(2, SILENCE), None);
    service.wait_degraded("state");
    assert!(
        !service.state().exists(),
        "it may be a disk that is not mounted"
    );
    fs::create_dir(service.state()).expect("back");
    service.wait_ready();
    let second = service.lease(2);
    service.lab.kill_and_restart();
    service.wait_ready();
    assert!(service.is_bound(kept) && service.is_bound(second));
    let log = service.lab.log();
    assert!(log.contains("none are given"), "{log}");
    assert!(log.contains("leases are stored again"), "{log}");
}

#[test]
fn nothing_that_happens_to_the_database_makes_a_promise_untrue() {
    let mut service = Service::start();
    let mut promised = vec![service.lease(1)];
    let deletions: [&dyn Fn(&Service); 4] = [
        &|service| fs::remove_file(service.database()).expect("removed"),
        &|service| fs::remove_file(service.state().join("leases.sqlite-wal")).expect("removed"),
        &|service| fs::write(service.database(), [0x55; 20_000]).expect("spoilt"),
        &|service| {
            let other = service.state().join("other");
            fs::write(&other, "no database at all, but a file of somebody").expect("written");
            fs::rename(other, service.database()).expect("replaced");
        },
    ];
    for (n, spoil) in deletions.into_iter().enumerate() {
        spoil(&service);
        // With or without an ACK: what has one is there after the restart.
        let client = 10 + n as u8;
        promised.extend(service.lease_within(client, SILENCE));
        service.wait_ready();
        promised.push(service.lease(20 + client));
        service.lab.kill_and_restart();
        service.wait_ready();
        for address in &promised {
            assert!(service.is_bound(*address), "{n}: {address}");
        }
    }
}

#[test]
fn a_damaged_row_is_left_out_and_told_and_repaired() {
    let mut service = Service::start();
    let addresses: Vec<_> = (1..=5).map(|client| service.lease(client)).collect();
    assert_eq!(service.lab.terminate(), Some(0));
    let database = service.database();
    let mut bytes = fs::read(&database).expect("read");
    // The hardware address of the third client's row, once in its key and once by itself.
    let mac = [2, 0, 0, 0, 0, 3];
    let at = bytes
        .windows(6)
        .position(|window| window == mac)
        .expect("the row");
    bytes[at + 5] = 0x33;
    fs::write(&database, bytes).expect("written");
    let file = path(&database).to_owned();
    let (code, told) = service.verb(&["check", &file]);
    assert_eq!(code, Some(1), "{told}");
    let damaged = format!("the lease of {}", addresses[2]);
    assert!(
        told.contains(&damaged) && told.contains("labnet leases repair"),
        "{told}"
    );

    service.lab.kill_and_restart();
    service.wait_ready();
    for (n, address) in addresses.iter().enumerate() {
        assert_eq!(service.is_bound(*address), n != 2, "{address}");
    }
    let log = service.lab.log();
    assert!(
        log.contains(&damaged) && log.contains("labnet leases repair"),
        "{log}"
    );
    let (code, told) = service.verb(&["repair", &file]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("in use"), "{told}");

    assert_eq!(service.lab.terminate(), Some(0));
    let (code, told) = service.verb(&["repair", &file]);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains(&damaged) && told.contains("damaged-1"),
        "{told}"
    );
    let (code, told) = service.verb(&["check", "--json", &file]);
    assert_eq!(code, Some(0), "{told}");
    let condition: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(condition["leases"], 4);
    service.lab.kill_and_restart();
    service.wait_ready();
    assert!(service.is_bound(addresses[4]));
}

#[test]
fn a_copy_is_made_while_it_runs_and_can_be_started_from() {
    let mut service = Service::start();
    let first = service.lease(1);
    let url = format!("http://{}/", service.lab.http);
    let copy = service.lab.dir().join("copy.sqlite");
    let back_up = |service: &Service, more: &[&str]| {
        let arguments = ["backup", path(&copy), "--url", &url];
        service.verb(&[&arguments[..], more].concat())
    };
    let (code, told) = back_up(&service, &[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("1 leases"), "{told}");
    let before = fs::read(&copy).expect("read");
    let second = service.lease(2);
    let (code, told) = back_up(&service, &[]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("--force"), "{told}");
    assert_eq!(fs::read(&copy).expect("read"), before);
    assert_eq!(back_up(&service, &["--force"]).0, Some(0));
    let names = fs::read_dir(service.lab.dir()).expect("list");
    let left: Vec<_> = names
        .map(|entry| entry.expect("entry").file_name())
        .filter(|name| name.to_string_lossy().starts_with("copy.sqlite"))
        .collect();
    assert_eq!(left, ["copy.sqlite"]);
    assert_eq!(service.lab.terminate(), Some(0));
    fs::remove_dir_all(service.state()).expect("removed");
    fs::create_dir(service.state()).expect("made");
    fs::copy(&copy, service.database()).expect("copied");
    service.lab.kill_and_restart();
    service.wait_ready();
    assert!(service.is_bound(first) && service.is_bound(second));
}

#[test]
fn a_reload_takes_dhcp_live() {
    let service = Service::start();
    let leased = service.lease(1);
    let offer = service
        .ask(&Packet::new(DISCOVER, 2), PATIENCE)
        .expect("an OFFER");
    fs::write(service.lab.config(), config(service.ip, "2h")).expect("written");
    // What is read anew from the disk would be missing now.
    let hidden = service.lab.dir().join("hidden");
    fs::rename(service.state(), &hidden).expect("moved");
    let (code, answer) = service.lab.post("/-/reload");
    assert_eq!(code, 200, "{answer}");
    fs::rename(&hidden, service.state()).expect("moved back");
    assert!(service.is_bound(leased));
    let (state, _) = service.held(offer.yiaddr()).expect("the offer");
    assert_eq!(state, "offered");
    service.wait_ready();
    let request = Packet::new(REQUEST, 2)
        .requested(offer.yiaddr())
        .server(service.ip);
    let ack = service.ask(&request, PATIENCE).expect("an ACK");
    assert_eq!((ack.kind(), ack.seconds(51)), (ACK, Some(7200)));
    let log = wait_for("a line for each lease", || {
        let log = service.lab.log();
        (log.matches("lease given").count() >= 2).then_some(log)
    });
    assert_eq!(log.matches("leases loaded").count(), 1, "{log}");
    let given = log.lines().filter(|line| line.contains("lease given"));
    let given: Vec<_> = given.collect();
    assert_eq!(given.len(), 2, "{log}");
    for part in [&leased.to_string(), "02:00:00:00:00:01", "host"] {
        assert!(given[0].contains(part), "{}", given[0]);
    }
}

/// Debian's; where it is depends on the processor.
fn libfaketime() -> Option<PathBuf> {
    let libraries = fs::read_dir("/usr/lib").ok()?.flatten();
    libraries
        .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
}

#[test]
#[ignore = "needs libfaketime"]
fn leases_neither_vanish_nor_last_for_ever_when_the_clock_is_set() {
    let library = libfaketime().expect("tests/run installs faketime");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let offset = folder.path().join("offset");
    let set = |clock: &str| {
        let new = folder.path().join("new");
        fs::write(&new, format!("{clock}\n")).expect("written");
        fs::rename(&new, &offset).expect("renamed");
    };
    set("+0d");
    let mut service = Service::start_in(
        "90s",
        &[
            ("LD_PRELOAD", path(&library)),
            ("FAKETIME_TIMESTAMP_FILE", path(&offset)),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_NO_CACHE", "1"),
        ],
    );
    let address = service.lease(1);
    for (before, clock) in ["+400d", "-400d", "+0d"].into_iter().enumerate() {
        set(clock);
        wait_for("the step to be noticed", || {
            let log = service.lab.log();
            (log.matches("the clock was set").count() > before).then_some(())
        });
        let (state, left) = service.held(address).expect("the lease");
        assert_eq!(state, "bound", "{clock}");
        assert!(left <= 90, "{clock}: {left}");
        assert_eq!(service.lab.get("/-/ready").0, 200, "{clock}");
        if clock == "+400d" {
            // The file was moved, too.
            service.lab.kill_and_restart();
            service.wait_ready();
            let (state, left) = service.held(address).expect("the lease");
            assert_eq!(state, "bound", "after a restart");
            assert!(left <= 90, "{left}");
        }
    }
    set("-400d");
    let (_, left) = service.held(address).expect("the lease");
    std::thread::sleep(Duration::from_secs(left));
    wait_for("its end", || {
        (service.held(address)?.0 == "expired").then_some(())
    });
}

#[test]
#[ignore = "needs root to mount a small file system"]
fn a_full_disk_is_told_and_waited_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Disk::mount(folder.path().join("disk"), "256k");
    let ip = loopback();
    let state = format!("state_dir = {:?}", disk.path());
    let text = config(ip, "1h").replace("state_dir = \"state\"", &state);
    let mut service = Service {
        lab: Lab::start(&text),
        ip,
    };
    let first = service.lease(1);
    let filler = disk.fill();
    let mut promised = vec![first];
    // The log has pages to spare; then it is over.
    promised.extend((2..15).map_while(|client| service.lease_within(client, SILENCE)));
    service.wait_degraded("disk is full");
    fs::remove_file(&filler).expect("removed");
    service.wait_ready();
    promised.push(service.lease(20));
    service.lab.kill_and_restart();
    service.wait_ready();
    for address in promised {
        assert!(service.is_bound(address), "{address}");
    }
    drop(service);
    drop(disk);
}

/// Read-only from one moment to the next, as a disk with errors: what is open can still be written, and a
/// restart could not.
#[test]
#[ignore = "needs root to mount"]
fn a_state_folder_that_becomes_read_only_is_told_until_it_is_not() {
    let mut service = Service::start();
    let mut promised = vec![service.lease(1)];
    let state = service.state();
    run("mount", &["--bind", path(&state), path(&state)]);
    run("mount", &["-o", "remount,ro,bind", path(&state)]);
    promised.extend(service.lease_within(2, SILENCE));
    service.wait_degraded("is read-only");
    let heals = service.lab.get("/-/healthy").0;
    run("umount", &[path(&state)]);
    assert_eq!(heals, 200);
    service.wait_ready();
    promised.push(service.lease(3));
    service.lab.kill_and_restart();
    service.wait_ready();
    for address in promised {
        assert!(service.is_bound(address), "{address}");
    }
}

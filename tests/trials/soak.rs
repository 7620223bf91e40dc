//! Half of what the lab can do, for long, with a mishap now and then.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, unshare};

use super::{
    crashes::{config, crash_role, crash_signals, free_v6, metric},
    gauges::Gauges,
    in_full,
    load::{Load, look_up},
};
use crate::support::{Lab, loopback, probe::Addresses, run, wait_for};

const ROLES: [&str; 6] = ["dns", "dhcp", "rudp", "scrap", "origin", "http"];
const DROPPED: &str = "labnet_log_lines_dropped_total";
/// Of the interface that comes and goes.
const FLAPPING: &str = "10.77.0.1";
/// So long nobody reads the log, or the interface is away.
const AWAY: Duration = Duration::from_secs(2);

struct Soak {
    lab: Lab,
    addresses: Addresses,
    config: String,
    /// Whether there is an interface to take away.
    interface: bool,
}

impl Soak {
    /// The network is this thread's own and that of all it starts, if it may have one.
    fn start() -> Self {
        let interface = unshare(CloneFlags::CLONE_NEWNET).is_ok();
        let addresses = Addresses(loopback());
        if interface {
            run("ip", &["link", "set", "lo", "up"]);
            appear();
        } else {
            println!("without root no interface comes and goes");
        }
        let v6 = free_v6();
        let mut config = config(&addresses, v6);
        if interface {
            for (table, port) in [("dns", 5300), ("rudp", 49152)] {
                let before = format!("[{table}]\nlisten = [");
                assert!(config.contains(&before), "{config}");
                config = config.replace(&before, &format!("{before}\"{FLAPPING}:{port}\", "));
            }
        }
        let lab = Lab::start_with(&config, &[("example.com.zone", &addresses.zone())], None);
        wait_for("the file list", || addresses.scrap(Duration::from_secs(5)));
        Self {
            lab,
            addresses,
            config,
            interface,
        }
    }

    fn mishap(&self, n: usize, load: &Load) {
        let kinds = if self.interface { 4 } else { 3 };
        let turn = n / kinds;
        match n % kinds {
            0 => {
                let role = ROLES[turn % ROLES.len()];
                load.expect_cut(role);
                crash_role(&self.lab, role);
                assert!(crash_signals(&self.lab, self.addresses.at(49152)));
            }
            1 => self.stall(),
            2 => {
                let zone = format!("{}v{n} IN A 192.0.2.1\n", self.addresses.zone());
                fs::write(self.lab.dir().join("example.com.zone"), zone).expect("written");
                self.reload(&self.config);
                let dns = self.addresses.at(5300);
                look_up(dns, &format!("v{n}.example.com")).expect("the new record");
            }
            _ => self.flap(),
        }
    }

    fn reload(&self, config: &str) {
        fs::write(self.lab.config(), config).expect("written");
        let (code, body) = self.lab.post("/-/reload");
        assert_eq!(code, 200, "{body}");
    }

    /// Nobody reads the log, and every packet is told there.
    fn stall(&self) {
        let dropped = metric(&self.lab, DROPPED);
        let held = self.lab.hold_log();
        let packets = "[log]\nlevel = \"info,labnet::packet=trace\"\n";
        self.reload(&format!("{}{packets}", self.config));
        let full = || (metric(&self.lab, DROPPED) > dropped).then_some(());
        wait_for("lines to be dropped", full);
        thread::sleep(AWAY);
        self.reload(&self.config);
        drop(held);
    }

    fn flap(&self) {
        run("ip", &["link", "delete", "lab0"]);
        let ready = |expected| (self.lab.get("/-/ready").0 == expected).then_some(());
        wait_for("the loss to be noticed", || ready(503));
        thread::sleep(AWAY);
        appear();
        wait_for("the address to be taken", || ready(200));
        let dns = format!("{FLAPPING}:5300").parse().expect("an address");
        look_up(dns, "www.example.com").expect("it is heard there again");
    }
}

fn appear() {
    run("ip", &["link", "add", "lab0", "type", "bridge"]);
    run(
        "ip",
        &["address", "add", &format!("{FLAPPING}/24"), "dev", "lab0"],
    );
    run("ip", &["link", "set", "lab0", "up"]);
}

#[test]
#[ignore = "needs half a minute, an IPv6 loopback, and for the interface root and iproute2"]
fn soak() {
    let [whole, between, calibrate, sample] = if in_full() {
        [30 * 60_000, 60_000, 10_000, 2000].map(Duration::from_millis)
    } else {
        [30_000, 5000, 3000, 200].map(Duration::from_millis)
    };
    let soak = Soak::start();
    let lab = &soak.lab;
    let load = Load::start(&soak.addresses, &[soak.addresses.at(49152)]);
    load.wait_for_answers();
    load.halve(calibrate);
    let mut gauges = Gauges::new();
    let began = Instant::now();
    let mut mishaps = 0;
    while began.elapsed() < whole {
        if began.elapsed() >= between * mishaps {
            soak.mishap(mishaps as usize, &load);
            mishaps += 1;
        }
        load.check();
        gauges.sample(lab);
        thread::sleep(sample);
    }
    let took = began.elapsed();
    load.wait_for_downloads();
    load.end(lab);
    println!("{mishaps} mishaps");
    assert!(mishaps >= 3, "{mishaps} mishaps");
    gauges.assert_flat(took / 3);
    assert_eq!(lab.get("/-/ready").0, 200);
}

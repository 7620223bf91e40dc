//! A thread of a role that does nothing: stopped by a debugger.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;

use super::in_full;
use crate::support::{
    Lab, loopback,
    probe::Addresses,
    stopped::{stop, threads},
    wait_for,
};

/// Each role's thread, and one of those of the proxy's second socket.
const THREADS: [&str; 7] = ["dns", "dhcp", "rudp", "rudp/1", "scrap", "origin", "http"];
const PATIENCE: Duration = Duration::from_millis(500);
/// The supervisor looks so often: what it says of a thread stands for so long at least.
const WATCHED: Duration = Duration::from_millis(500);

/// Ends the questions, also when the trial fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn ask(addresses: &Addresses, role: &str) -> bool {
    match role {
        "dns" => addresses.dns(PATIENCE),
        "dhcp" => addresses.dhcp(PATIENCE),
        "rudp" => addresses.rudp(PATIENCE),
        "scrap" => addresses.scrap(PATIENCE).is_some(),
        "origin" => addresses.origin(),
        _ => addresses.http(),
    }
}

fn state(lab: &Lab, role: &str) -> Option<String> {
    let (code, body) = lab.get("/api/v1/status");
    if code != 200 {
        return None;
    }
    let status: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let components = status["components"].as_array().expect("a list");
    let component = components.iter().find(|entry| entry["name"] == role)?;
    Some(component["state"].as_str().expect("a word").to_owned())
}

/// Stops the role's thread `times` times, each for `time`.
fn stopped_and_replaced(thread_name: &str, times: u32, time: Duration, stuck_after: Duration) {
    let role = thread_name
        .split('/')
        .next()
        .expect("split gives one at least");
    let addresses = Addresses(loopback());
    let ip = addresses.0;
    let origin = format!("[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\"]\n");
    let config = format!(
        "{}\n[supervisor]\nstuck_after = \"{}ms\"\nmax_restarts = 1000\n",
        addresses
            .config(&format!("http://{ip}:8080/"), &origin)
            .replace("[rudp]\n", "[rudp]\nshards = 2\nidle_timeout = \"5s\"\n"),
        stuck_after.as_millis()
    );
    let lab = Lab::start_with(&config, &[("example.com.zone", &addresses.zone())], None);
    let restarts =
        format!("labnet_component_restarts_total{{component=\"{role}\",reason=\"stuck\"}}");
    let mut random = Pcg32::seed_from_u64(u64::from(lab.pid()));
    let done = AtomicBool::new(false);
    let answers = AtomicU32::new(0);
    thread::scope(|scope| {
        // Questions come in all the time.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if ask(&addresses, role) {
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let _done = Done(&done);
        let (mut replaced, mut held) = (0, 0);
        // On a machine that does too much the supervisor itself comes too late to judge anybody.
        while replaced + held < times || replaced == 0 && held < 3 {
            wait_for("one thread that answers", || {
                (!threads(lab.pid(), thread_name).is_empty() && ask(&addresses, role)).then_some(())
            });
            thread::sleep(Duration::from_millis(random.random_range(0..500)));
            let old = *threads(lab.pid(), thread_name).last().expect("one");
            let before = lab.metric(&restarts);
            let mut stopping = stop(old, time);
            let mut seen_not_ready = false;
            let mut seen_stuck = false;
            let (mut looked, mut longest) = (Instant::now(), Duration::ZERO);
            // Replaced while the old one still stands; or held up by what it holds until it wakes.
            let outcome = wait_for("the role to be replaced, or to wake", || {
                seen_not_ready |= lab.get("/-/ready").0 == 503;
                longest = longest.max(looked.elapsed());
                looked = Instant::now();
                let now = state(&lab, role);
                seen_stuck |= now.as_deref() == Some("stuck");
                let asleep = stopping.try_wait().expect("a child").is_none();
                if lab.metric(&restarts) > before {
                    return Some(asleep);
                }
                (!asleep && now.as_deref() == Some("up")).then_some(false)
            });
            if lab.metric(&restarts) > before {
                assert!(outcome, "{role} was replaced only when its thread was free");
                replaced += 1;
                let answered = answers.load(Ordering::Relaxed);
                wait_for("the successor's answers", || {
                    (answers.load(Ordering::Relaxed) > answered + 2).then_some(())
                });
            } else {
                held += 1;
                assert!(
                    seen_stuck || role == "http" || longest >= WATCHED,
                    "{role} held, and nobody was told"
                );
            }
            assert!(
                seen_not_ready || role == "http" || longest >= WATCHED,
                "/-/ready was 200 while {role} was stuck"
            );
            assert!(stopping.wait().expect("a child").success());
            wait_for("the old thread's end", || {
                let now = threads(lab.pid(), thread_name);
                let over = !outcome || !now.contains(&old);
                (over && now.len() == 1).then_some(())
            });
            wait_for("readiness", || (lab.get("/-/ready").0 == 200).then_some(()));
            assert_eq!(state(&lab, role).as_deref(), Some("up"));
        }
        println!("{thread_name}: replaced {replaced}, held {held}");
        assert!(replaced > 0, "never replaced");
        lab.expect_log(&format!("its thread {thread_name} has done nothing"));
    });
}

#[test]
#[ignore = "needs python3 and ptrace"]
fn stuck() {
    let (times, time, stuck_after) = if in_full() {
        (20, Duration::from_secs(20), Duration::from_secs(10))
    } else {
        (1, Duration::from_secs(12), Duration::from_secs(3))
    };
    thread::scope(|scope| {
        for name in THREADS {
            scope.spawn(move || stopped_and_replaced(name, times, time, stuck_after));
        }
    });
}

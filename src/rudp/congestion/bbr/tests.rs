use std::time::Duration;
use super::{Bbr, State, simulator::{Path, Simulator, MTU}};
use super::super::Start;

fn bbr(sim_start: std::time::Instant, rtt: Duration, seed: u64) -> Bbr {
    Bbr::new(&Start { now: sim_start, mtu: MTU, rtt: Some(rtt), initial_window: None, seed })
}

#[test]
fn explore() {
    for loss in [0.0, 0.001, 0.01, 0.05] {
        for seed in 0..5 {
            let mut path = Path::new(100, 50);
            path.loss = loss;
            let mut sim = Simulator::new(path.clone(), seed);
            let c = bbr(sim.start, path.rtt, seed);
            sim.add(c, 20_000_000, Duration::ZERO);
            let verbose = seed == 0 && std::env::var("V").is_ok();
            let mut last: Option<State> = None;
            let mut next = Duration::ZERO;
            sim.run(Duration::from_secs(60), |sim| {
                if verbose {
                    let f = &sim.flows[0];
                    let c = &f.control;
                    if last != Some(c.state) || sim.elapsed() > next {
                        last = Some(c.state);
                        next = sim.elapsed() + Duration::from_millis(50);
                        println!("{:>7.1} {:?} bw {:.1} st {:.1} pace {:.1} cwnd {} infl {} q {} amb {:.3} lt {} lost {}", sim.elapsed().as_secs_f64()*1e3, c.state, c.bw as f64*8e-6, c.bw_shortterm.min(99_999_999) as f64*8e-6, c.pacing_rate as f64*8e-6, c.window, f.in_flight, sim.queued, c.ambient_loss(), c.inflight_longterm, f.lost);
                    }
                }
                sim.flows[0].done_at.is_some()
            });
            println!("loss {loss} seed {seed}: {:.1} Mbit/s peak {} drops {}", sim.flows[0].goodput(), sim.peak_queue, sim.tail_drops);
        }
    }
}

#[test]
fn grid() {
    for (mbit, rtt) in [(10, 50), (100, 50), (1000, 20), (100, 10), (20, 200), (50, 30), (300, 40), (5,100), (72, 50), (140, 50)] {
        for q in [0.1, 0.25, 1.0, 4.0] {
            let mut path = Path::new(mbit, rtt);
            path.queue = (path.queue as f64 * q) as u64;
            let bdp = mbit * 125 * rtt;
            let mut sim = Simulator::new(path.clone(), 1);
            let c = bbr(sim.start, path.rtt, 1);
            sim.add(c, mbit * 200_000, Duration::ZERO);
            sim.run(Duration::from_secs(60), |sim| sim.flows[0].done_at.is_some());
            print!("{mbit}/{rtt} q{q}: {:.2} peak {:.2} BDP loss {:.3} | ", sim.flows[0].goodput() / mbit as f64, sim.peak_queue as f64 / bdp as f64, sim.flows[0].lost as f64 / (mbit * 200_000) as f64);
        }
        println!();
    }
}

#[test]
fn trace() {
    let get = |n: &str, d: f64| std::env::var(n).ok().and_then(|v| v.parse::<f64>().ok()).unwrap_or(d);
    let mbit = get("MBIT", 100.0) as u64;
    let mut path = Path::new(mbit, get("RTT", 50.0) as u64);
    path.queue = (path.queue as f64 * get("Q", 1.0)) as u64;
    path.loss = get("LOSS", 0.0);
    path.ack_every = Duration::from_millis(get("ACK", 0.0) as u64);
    if get("BUCKET", 0.0) > 0.0 { path.bucket = Some(get("BUCKET", 0.0) as u64); }
    let seed = get("SEED", 1.0) as u64;
    let mut sim = Simulator::new(path.clone(), seed);
    let c = bbr(sim.start, path.rtt, seed);
    sim.add(c, (get("MB", 20.0) * 1e6) as u64, Duration::ZERO);
    let mut last: Option<State> = None;
    let mut next = Duration::ZERO;
    sim.run(Duration::from_secs(60), |sim| {
        let f = &sim.flows[0];
        let c = &f.control;
        if last != Some(c.state) || sim.elapsed() > next {
            last = Some(c.state);
            next = sim.elapsed() + Duration::from_millis(get("STEP", 50.0) as u64);
            println!("{:>7.1} {:?} bw {:.1} st {:.1} pace {:.1} cwnd {} infl {} q {} amb {:.3} lt {:.0}k lost {} rtt {:?} seen {}", sim.elapsed().as_secs_f64()*1e3, c.state, c.bw as f64*8e-6, c.bw_shortterm.min(99_999_999) as f64*8e-6, c.pacing_rate as f64*8e-6, c.window, f.in_flight, sim.queued, c.ambient_loss(), c.inflight_longterm as f64/1e3, f.lost, c.min_rtt, c.queue.is_seen());
        }
        sim.flows[0].done_at.is_some()
    });
    println!("{:.1} Mbit/s peak {} drops {}", sim.flows[0].goodput(), sim.peak_queue, sim.tail_drops);
}

#[derive(Debug)]
enum Any { Bbr(Box<Bbr>), Cubic(super::super::Cubic) }
use super::super::{Congestion, Ack, Loss, Lost, Sent, Cubic, Rate};
impl Any {
    fn get(&self) -> &dyn Congestion { match self { Self::Bbr(b) => b.as_ref(), Self::Cubic(c) => c } }
    fn get_mut(&mut self) -> &mut dyn Congestion { match self { Self::Bbr(b) => b.as_mut(), Self::Cubic(c) => c } }
}
impl Congestion for Any {
    fn on_sent(&mut self, s: &Sent) { self.get_mut().on_sent(s) }
    fn on_ack(&mut self, s: &Ack) { self.get_mut().on_ack(s) }
    fn on_packet_lost(&mut self, s: &Lost) { self.get_mut().on_packet_lost(s) }
    fn on_congestion(&mut self, s: &Loss) { self.get_mut().on_congestion(s) }
    fn on_mtu(&mut self, s: u64) { self.get_mut().on_mtu(s) }
    fn window(&self) -> u64 { self.get().window() }
    fn pacing_rate(&self) -> Option<Rate> { self.get().pacing_rate() }
    fn in_slow_start(&self) -> bool { self.get().in_slow_start() }
    fn phase(&self) -> &'static str { self.get().phase() }
}
fn start(now: std::time::Instant, rtt: Duration, seed: u64) -> Start {
    Start { now, mtu: MTU, rtt: Some(rtt), initial_window: None, seed }
}

#[test]
fn share() {
    let big = 1 << 50;
    for (mbit, rtt, q) in [(100, 50, 1.0), (100,50,0.5), (100, 50, 2.0), (20, 50, 1.0), (10,30,1.0)] {
        for kind in ["bb", "bb5", "bc0", "bc5", "cb0", "cb5"] {
            let mut jain_sum = String::new();
            for seed in 1..4 {
            let mut path = Path::new(mbit, rtt);
            path.queue = (path.queue as f64 * q) as u64;
            let mut sim = Simulator::new(path.clone(), seed);
            let s = start(sim.start, path.rtt, seed);
            let mk = |c: u8, seed| { let mut s = s; s.seed = seed; if c == b'b' { Any::Bbr(Box::new(Bbr::new(&s))) } else { Any::Cubic(Cubic::new(&s)) } };
            let k = kind.as_bytes();
            sim.add(mk(k[0], seed), big, Duration::ZERO);
            let d = if kind.ends_with('5') { 5 } else { 0 };
            sim.run(Duration::from_secs(if kind.ends_with('5') { 5 } else { 0 }), |_| false);
            let s = Start { rtt: Some(path.rtt + Duration::from_secs_f64(sim.queued as f64 / path.rate as f64)), ..s };
            let mk = |c: u8, seed| { let mut s = s; s.seed = seed; if c == b'b' { Any::Bbr(Box::new(Bbr::new(&s))) } else { Any::Cubic(Cubic::new(&s)) } };
            sim.add(mk(k[1], seed + 100), big, Duration::from_secs(d));
            sim.run(Duration::from_secs(d), |_| false);
            let a0 = sim.flows[0].delivered;
            let t = sim.elapsed().as_secs_f64();
            sim.run(Duration::from_secs(d + 30), |_| false);
            let dt = sim.elapsed().as_secs_f64() - t;
            let a = (sim.flows[0].delivered - a0) as f64 * 8e-6 / dt;
            let b = sim.flows[1].delivered as f64 * 8e-6 / dt;
            let jain = (a + b).powi(2) / 2.0 / (a * a + b * b);
            jain_sum += &format!(" {a:.1}+{b:.1} J{jain:.2}");
            }
            println!("SHARE {mbit}/{rtt} q{q} {kind}: {jain_sum}");
        }
    }
}

#[test]
fn trace2() {
    let get = |n: &str, d: f64| std::env::var(n).ok().and_then(|v| v.parse::<f64>().ok()).unwrap_or(d);
    let kind = std::env::var("KIND").unwrap_or("bc".into());
    let mut path = Path::new(get("MBIT", 100.0) as u64, get("RTT", 50.0) as u64);
    path.queue = (path.queue as f64 * get("Q", 1.0)) as u64;
    path.loss = get("LOSS", 0.0);
    let seed = get("SEED", 1.0) as u64;
    let mut sim = Simulator::new(path.clone(), seed);
    let s = start(sim.start, path.rtt, seed);
    let mk = |c: u8, seed| { let mut s = s; s.seed = seed; if c == b'b' { Any::Bbr(Box::new(Bbr::new(&s))) } else { Any::Cubic(Cubic::new(&s)) } };
    let k = kind.as_bytes();
    sim.add(mk(k[0], seed), 1<<50, Duration::ZERO);
    sim.add(mk(k[1], seed + 100), 1<<50, Duration::from_secs(get("D", 0.0) as u64));
    let mut next = Duration::ZERO;
    let mut last = [None, None];
    sim.run(Duration::from_secs(get("T", 20.0) as u64), |sim| {
        let st = [0, 1].map(|i| match &sim.flows[i].control { Any::Bbr(b) => Some(b.state), _ => None });
        if last != st || sim.elapsed() > next {
            last = st;
            next = sim.elapsed() + Duration::from_millis(get("STEP", 100.0) as u64);
            print!("TR {:>7.1} q {} drops {} ", sim.elapsed().as_secs_f64() * 1e3, sim.queued, sim.tail_drops);
            for f in &sim.flows { match &f.control {
                Any::Bbr(c) => print!("| {:?} bw {:.1} max {:.1} st {:.1} pace {:.1} cwnd {:.0}k infl {:.0}k amb {:.3} lt {:.0}k lost {:.0}k rtt {:.1} seen {} ", c.state, c.bw as f64*8e-6, c.max_bw.get() as f64*8e-6, c.bw_shortterm.min(99_999_999) as f64*8e-6, c.pacing_rate as f64*8e-6, c.window as f64/1e3, f.in_flight as f64/1e3, c.ambient_loss(), (c.inflight_longterm as f64/1e3).min(1e5), f.lost as f64/1e3, c.min_rtt.unwrap_or_default().as_secs_f64()*1e3, c.queue.is_seen()),
                Any::Cubic(c) => print!("| cubic {:.0}k infl {:.0}k", c.window() as f64/1e3, f.in_flight as f64/1e3),
            } }
            println!();
        }
        false
    });
}

fn lone(path: &Path, seed: u64, secs: u64) -> (f64, f64, f64, u64) {
    let mut sim = Simulator::new(path.clone(), seed);
    let c = bbr(sim.start, path.rtt, seed);
    sim.add(c, 1 << 50, Duration::ZERO);
    sim.run(Duration::from_secs(secs), |_| false);
    let f = &sim.flows[0];
    (f.delivered as f64 * 8e-6 / secs as f64, f.lost as f64 / (f.lost + f.delivered) as f64, sim.peak_queue as f64 / path.rate as f64 / path.rtt.as_secs_f64(), sim.tail_drops)
}

#[test]
fn long() {
    for (mbit, rtt) in [(100, 50), (10, 50), (100, 10), (20, 200), (1000, 20), (5, 30)] {
        for loss in [0.0, 0.001, 0.01, 0.05, 0.1] {
            let mut path = Path::new(mbit, rtt);
            path.loss = loss;
            let secs = if mbit == 1000 { 10 } else { 30 };
            let (r, l, p, d) = lone(&path, 3, secs);
            print!("LONG {mbit}/{rtt} loss {loss}: {:.3} lost {l:.3} peak {p:.2} drops {d} | ", r / mbit as f64);
        }
        println!();
    }
    // aggregation, jitter
    for (mbit, rtt) in [(100, 50), (10, 50), (100, 10)] {
    for (ack, jit) in [(5, 0), (20, 0), (60, 0), (0, 2), (0, 10), (0, 30)] {
        let mut path = Path::new(mbit, rtt);
        path.ack_every = Duration::from_millis(ack);
        path.jitter = Duration::from_millis(jit);
        let (r, l, p, d) = lone(&path, 3, 20);
        print!("AGG {mbit}/{rtt} ack {ack} jitter {jit}: {:.3} lost {l:.3} peak {p:.2} drops {d} | ", r / mbit as f64);
    }
        println!();
    }
    // policers
    for bucket in [10_000, 50_000, 200_000, 1_000_000] {
      for (mbit, rtt) in [(20, 50), (100, 50), (10, 20)] {
        let mut path = Path::new(mbit, rtt);
        path.bucket = Some(bucket);
        let (r, l, _, d) = lone(&path, 3, 30);
        print!("POL {mbit}/{rtt} bucket {bucket}: {:.3} lost {l:.3} drops {d} | ", r / mbit as f64);
      }
        println!();
    }
    // loopback
    for (jit, timer, ack) in [(0, 1000, 0), (200, 1000, 0), (500, 1000, 50), (0, 50, 0), (300, 50, 200), (1000, 1000, 100)] {
        let mut path = Path::new(10_000, 1);
        path.rtt = Duration::from_micros(50);
        path.queue = 4_000_000;
        path.jitter = Duration::from_micros(jit);
        path.timer = Duration::from_micros(timer);
        path.ack_every = Duration::from_micros(ack);
        let (r, l, p, d) = lone(&path, 3, 2);
        println!("LOOP jitter {jit} timer {timer} ack {ack}: {:.3} lost {l:.4} peak {p:.2} drops {d}", r / 10_000.0);
    }
}

#[test]
fn steps() {
    for (from, to) in [(10u64, 100u64), (100, 10), (50, 100), (100, 50)] {
        for q in [1.0, 0.25] {
        let mut path = Path::new(from, 50);
        path.queue = (path.queue.max(to * 125 * 50) as f64 * q) as u64;
        path.changes.push((Duration::from_secs(10), to * 125_000, path.rtt));
        let mut sim = Simulator::new(path.clone(), 1);
        let c = bbr(sim.start, path.rtt, 1);
        sim.add(c, 1 << 50, Duration::ZERO);
        print!("STEP {from}->{to} q{q}:");
        let mut before = 0;
        for sec in 1..=24 {
            sim.run(Duration::from_secs(sec), |_| false);
            print!(" {:.0}", (sim.flows[0].delivered - before) as f64 * 8e-6);
            before = sim.flows[0].delivered;
        }
        println!();
        }
    }
    for (r1, r2) in [(20, 100), (100, 20)] {
        let mut path = Path::new(100, r1);
        path.queue = 625_000;
        path.changes.push((Duration::from_secs(10), path.rate, Duration::from_millis(r2)));
        let mut sim = Simulator::new(path.clone(), 1);
        let c = bbr(sim.start, path.rtt, 1);
        sim.add(c, 1 << 50, Duration::ZERO);
        print!("RTTSTEP {r1}->{r2}:");
        let mut before = 0;
        for sec in 1..=30 {
            sim.run(Duration::from_secs(sec), |_| false);
            print!(" {:.0}", (sim.flows[0].delivered - before) as f64 * 8e-6);
            before = sim.flows[0].delivered;
        }
        println!();
    }
}

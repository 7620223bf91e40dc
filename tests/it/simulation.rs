//! The virtual-time network as `labnet compare --simulate` runs it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use labnet::{
    link::LinkOptions,
    rudp::{congestion::Algorithm, connection::CloseReason, packet::read_number},
    simulation::{
        Closed, Flow, LinkChange, Observers, Sender, Simulated, Simulation, SimulationError,
    },
    watch::{
        event::{
            link::{self, Outcome, Verdict, Way},
            transport::{Observer, Step},
        },
        fates::Fates,
        ring::{About, Rings},
        why::{LAST, Why},
    },
};

fn link(list: &str) -> LinkOptions {
    let mut options = LinkOptions::default();
    options.set_list(list).expect(list);
    options.check().expect(list);
    options
}

fn on(list: &str, flows: &[Flow]) -> Simulation {
    let mut simulation = Simulation::new(link(list), link(list));
    simulation.time = Duration::from_secs(10);
    simulation.flows = flows.to_vec();
    simulation
}

fn run(simulation: &Simulation) -> Simulated {
    simulation
        .run(Instant::now(), Observers::default())
        .expect("it can be run")
}

const COURSE: &str = "rate=20mbit,delay=25ms,queue=125kB";

#[test]
fn each_controller_alone_fills_the_link_within_its_time() {
    for algorithm in Algorithm::ALL {
        let simulated = run(&on(COURSE, &[Flow::new(algorithm)]));
        assert_eq!(simulated.elapsed, Duration::from_secs(10));
        assert!(!simulated.cut_short);
        let [flow] = &simulated.flows[..] else {
            panic!("one flow");
        };
        let share = flow.received as f64 * 8.0 / 10.0 / 20e6;
        // 1445 bytes of 1500 are the stream's, and BBR's ProbeRTT takes its part.
        assert!((0.85..0.964).contains(&share), "{algorithm}: {share}");
        let sender = flow.sender.expect("it was heard");
        assert!(sender.packets_sent >= simulated.down.delivered);
        // The two meet, but for what was under way.
        let received = flow.client.packets_received;
        assert!(received <= simulated.down.delivered && received > 14_000);
        assert_eq!(flow.closed, None);
        // Connected after two round trips, the first byte after three.
        let ms = |at: Option<Duration>| at.expect("it came").as_millis();
        assert!((100..105).contains(&ms(flow.connected_at)), "{flow:?}");
        assert!((150..160).contains(&ms(flow.first_byte_at)), "{flow:?}");
        assert_eq!(flow.completed_at, None);
        // A value each 100 ms, the beginning and the end included; none is less than the one before.
        assert_eq!(flow.delivered.len(), 101);
        assert!(
            flow.delivered
                .is_sorted_by_key(|value| (value.at, value.bytes))
        );
        let last = flow.delivered.last().expect("101");
        assert_eq!((last.at.as_secs(), last.bytes), (10, flow.received));
    }
}

#[test]
fn the_same_seed_gives_the_same_run_whenever_it_starts() {
    let list = format!("{COURSE},loss=1,burst=2,jitter=3ms,reorder=2,duplicate=1,corrupt=1");
    let mut simulation = on(&list, &Algorithm::ALL.map(Flow::new));
    let first = run(&simulation);
    let later = Instant::now() + Duration::from_secs(1_000_003);
    let again = simulation.run(later, Observers::default());
    assert_eq!(again.expect("it can be run"), first);
    simulation.seed += 1;
    assert_ne!(run(&simulation), first);
}

#[test]
fn what_begins_later_and_ends_earlier_does() {
    let size = 1_000_000;
    let flows = [
        Flow::new(Algorithm::Cubic),
        Flow {
            starts: Duration::from_secs(4),
            size: Some(size),
            ..Flow::new(Algorithm::Cubic)
        },
    ];
    let mut simulation = on(COURSE, &flows);
    let simulated = run(&simulation);
    let [endless, late] = &simulated.flows[..] else {
        panic!("two flows");
    };
    assert!(late.connected_at.expect("it was heard") > Duration::from_secs(4));
    let completed = late.completed_at.expect("it got its share");
    assert!(
        (4.5..9.5).contains(&completed.as_secs_f64()),
        "{completed:?}"
    );
    assert_eq!(late.received, size);
    let at = |flow: &labnet::simulation::SimulatedFlow, seconds: f64| {
        let mut values = flow.delivered.iter();
        let value = values.find(|value| value.at.as_secs_f64() >= seconds);
        value.expect("there is one each 100 ms").bytes
    };
    assert_eq!(at(late, 4.0), 0);
    assert_eq!(at(late, completed.as_secs_f64()), size);
    // While the other had its share there was less.
    let alone = at(endless, 4.0) - at(endless, 3.0);
    let shared = at(endless, 5.0) - at(endless, 4.2);
    assert!(shared * 10 < alone * 8, "{shared} and {alone}");

    // When all are done it is over.
    for flow in &mut simulation.flows {
        flow.size = Some(size);
    }
    let simulated = run(&simulation);
    let [first, late] = &simulated.flows[..] else {
        panic!("two flows");
    };
    assert!(first.completed_at.expect("it is alone") < Duration::from_secs(1));
    let ended = late.completed_at.expect("it is alone");
    assert_eq!(simulated.elapsed, ended);
    assert!(ended < Duration::from_secs(5), "{ended:?}");
}

#[test]
fn the_link_becomes_another_one_on_time() {
    let mut simulation = on(COURSE, &[Flow::new(Algorithm::Cubic)]);
    let slow = link("rate=5mbit,delay=25ms,queue=125kB");
    simulation.changes = vec![LinkChange {
        at: Duration::from_secs(5),
        up: slow,
        down: slow,
    }];
    let simulated = run(&simulation);
    let delivered = &simulated.flows[0].delivered;
    let at = |seconds: usize| delivered[seconds * 10].bytes as f64 * 8e-6;
    let (before, after) = ((at(5) - at(3)) / 2.0, (at(10) - at(7)) / 3.0);
    assert!((18.0..20.0).contains(&before), "{before} Mbit/s");
    assert!((4.3..5.0).contains(&after), "{after} Mbit/s");
}

/// The steps of a flow and the link's verdicts, by what they have in common.
#[derive(Debug, Clone, Default)]
struct Heard(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    senders: Vec<Sender>,
    /// By connection id and packet number: the flow that says that it was sent, and when.
    sent: BTreeMap<(u64, u32), (usize, Instant)>,
    /// The flow that the link says it is of, when it was handed in, and whether it was lost.
    verdicts: BTreeMap<(u64, u32), (usize, Instant, bool)>,
}

#[derive(Debug)]
struct Watching {
    heard: Heard,
    sender: Sender,
}

impl Observer for Watching {
    fn on_step(&mut self, now: Instant, step: &Step) {
        if let Step::Sent(sent) = step {
            let key = (self.sender.destination.0, sent.number as u32);
            let mut told = self.heard.0.lock().unwrap();
            told.sent.insert(key, (self.sender.flow, now));
        }
    }

    fn wants_packets(&self) -> bool {
        true
    }
}

impl link::Observer for Heard {
    fn on_verdict(&self, verdict: &Verdict<'_>) {
        if let Some(key) = read_number(verdict.payload)
            && verdict.way == Way::Down
        {
            let flow = Simulation::flow_of(verdict.peer.expect("each has one"));
            let lost = matches!(verdict.outcome, Outcome::Lost(_));
            let value = (flow.expect("it is of one"), verdict.offered, lost);
            self.0.lock().unwrap().verdicts.insert(key, value);
        }
    }
}

#[test]
fn who_watches_hears_of_each_packet_what_its_sender_and_what_the_link_did() {
    let heard = Heard::default();
    let asked = heard.clone();
    let observers = Observers {
        link: Some(Arc::new(heard.clone())),
        senders: Some(Box::new(move |sender| {
            asked.0.lock().unwrap().senders.push(*sender);
            vec![Box::new(Watching {
                heard: asked.clone(),
                sender: *sender,
            })]
        })),
        pieces: None,
    };
    let simulation = on(COURSE, &Algorithm::ALL.map(Flow::new));
    let start = Instant::now();
    let simulated = simulation.run(start, observers).expect("it can be run");
    let told = heard.0.lock().unwrap();
    let mut senders = told.senders.clone();
    senders.sort_by_key(|sender| sender.flow);
    assert_eq!(senders.len(), 4);
    for (flow, sender) in senders.iter().enumerate() {
        let congestion = simulation.flows[flow].congestion;
        assert_eq!((sender.flow, sender.congestion), (flow, congestion.name()));
        assert_eq!(sender.client, Simulation::client_of(flow));
    }
    assert!(told.sent.len() > 10_000);
    for (key, (flow, at, _)) in &told.verdicts {
        assert_eq!(told.sent[key], (*flow, *at));
        assert!(*at >= start && *at <= start + simulated.elapsed);
    }
    // The link counts the packets without a number, too: those of the handshakes.
    let lost = told.verdicts.values().filter(|(_, _, lost)| *lost).count();
    assert_eq!(lost as u64, simulated.down.lost.total());
    assert!(lost > 100, "{lost}");
}

#[test]
fn who_is_never_heard_is_told_so() {
    let mut simulation = on("loss=100,delay=1ms", &[Flow::new(Algorithm::Bbr)]);
    simulation.time = Duration::from_secs(100);
    let simulated = run(&simulation);
    // The client gives up, and with it the run.
    assert_eq!(simulated.elapsed, Duration::from_secs(30));
    let flow = &simulated.flows[0];
    assert_eq!(flow.closed, Some(Closed::Rudp(CloseReason::Handshake)));
    assert_eq!((flow.received, flow.sender), (0, None));
}

#[test]
fn where_time_would_stand_still_nothing_is_run() {
    let nothing = LinkOptions::default();
    let mut simulation = Simulation::new(nothing, nothing);
    assert_eq!(simulation.check(), Err(SimulationError::Timeless));
    simulation.down = link("delay=1ms");
    assert_eq!(simulation.check(), Ok(()));
    simulation.changes.push(LinkChange {
        at: Duration::from_secs(1),
        up: nothing,
        down: nothing,
    });
    assert_eq!(simulation.check(), Err(SimulationError::Timeless));
    simulation.changes.clear();
    simulation.sample_every = Duration::ZERO;
    assert_eq!(simulation.check(), Err(SimulationError::NoInterval));
}

#[test]
fn flows_and_their_clients_find_each_other() {
    for flow in [0, 1, 255, 256, 65_535, 1 << 20] {
        let client = Simulation::client_of(flow);
        assert_eq!(Simulation::flow_of(client), Some(flow));
    }
    let server = "10.0.0.1:49152".parse().expect("an address");
    assert_eq!(Simulation::flow_of(server), None);
}

/// The ring of one sender after that time on a lossy link.
fn remembered(time: Duration) -> (Rings, Instant) {
    let rings = Rings::new(64 << 20);
    let fates = Fates::new(read_number);
    let (begin, told) = (rings.clone(), fates.clone());
    let senders = move |sender: &Sender| -> Vec<Box<dyn Observer>> {
        let about = About {
            connection: sender.connection.0,
            destination: sender.destination.0,
            name: "Tal".to_owned(),
            client: sender.client,
            congestion: sender.congestion,
        };
        vec![Box::new(begin.begin(about, Some(told.clone()), sender.now))]
    };
    let mut simulation = on(
        "rate=1mbit,delay=20ms,queue=20kB,loss=1",
        &[Flow::new(Algorithm::Cubic)],
    );
    simulation.time = time;
    simulation.sample_every = Duration::from_secs(1);
    let start = Instant::now();
    let observers = Observers {
        link: Some(Arc::new(fates)),
        senders: Some(Box::new(senders)),
        ..Observers::default()
    };
    simulation.run(start, observers).expect("it can be run");
    (rings, start + time)
}

/// What is told of an hour takes no longer to find than what is told of a minute: it looks at the last changes
/// of the window alone, however many there were.
#[test]
fn why_after_an_hour_looks_at_no_more_than_after_a_minute() {
    let ask = |(rings, now): &(Rings, Instant)| {
        let mut told = Vec::new();
        // The best of many: what a busy machine takes in between is not its work.
        let times = (0..200).map(|_| {
            let asked = Instant::now();
            told = Why::all(rings, "Tal", LAST, *now);
            asked.elapsed()
        });
        let best = times.min().expect("many");
        let [why] = &told[..] else { panic!("{told:?}") };
        (best, why.clone())
    };
    let minute = remembered(Duration::from_secs(60));
    let hour = remembered(Duration::from_secs(3600));
    let (quick, short) = ask(&minute);
    let (best, long) = ask(&hour);
    println!("{} cuts: {best:?}; {}: {quick:?}", long.cuts, short.cuts);
    assert!(
        long.cuts > 30 * short.cuts && short.cuts > LAST,
        "{} {}",
        long.cuts,
        short.cuts
    );
    assert_eq!((short.changes.len(), long.changes.len()), (LAST, LAST));
    assert!(
        long.changes.iter().all(|change| change.link.is_some()),
        "{long:?}"
    );
    assert!(
        best < 10 * quick,
        "{best:?} after an hour, {quick:?} after a minute"
    );
    // All that it tells is in the last changes and in counts: without what was before it tells the same.
    let (rings, now) = hour;
    let told = rings.each(|record| {
        let mut last = record.clone();
        last.changes.drain(..last.changes.len() - LAST);
        last.samples.clear();
        Some((Why::of(record, LAST, now), Why::of(&last, LAST, now)))
    });
    assert_eq!(told[0].0, told[0].1);
    assert!(rings.used() <= 64 << 20);
}

/// How long each packet of the data's way waited in the queue, and whether it was marked.
#[derive(Debug, Default)]
struct Waits(Mutex<Vec<(Instant, Duration, bool)>>);

impl link::Observer for Waits {
    fn on_verdict(&self, verdict: &Verdict<'_>) {
        if let (Way::Down, Outcome::Delivered(passage)) = (verdict.way, verdict.outcome) {
            let wait = (verdict.offered, passage.queued, passage.marked.is_some());
            self.0.lock().expect("no panic").push(wait);
        }
    }
}

#[test]
fn codel_keeps_cubic_s_queue_short_where_a_queue_that_drops_its_tail_is_full() {
    let start = Instant::now();
    // Ten bandwidth-delay products: half a second of queue.
    let of = |more: &str| {
        let list = format!("rate=20mbit,delay=25ms,queue=1250kB{more}");
        let mut simulation = on(&list, &[Flow::new(Algorithm::Cubic)]);
        simulation.time = Duration::from_secs(60);
        let waits = Arc::new(Waits::default());
        let observers = Observers {
            link: Some(waits.clone()),
            ..Observers::default()
        };
        let simulated = simulation.run(start, observers).expect("it can be run");
        let waits = std::mem::take(&mut *waits.0.lock().expect("no panic"));
        // What slow start has put there is gone by then.
        let late = waits
            .iter()
            .filter(|(at, ..)| *at - start > Duration::from_secs(20));
        let mut waited: Vec<Duration> = late.map(|(_, queued, _)| *queued).collect();
        waited.sort_unstable();
        let marked = waits.iter().filter(|(.., marked)| *marked).count() as u64;
        assert_eq!(marked, simulated.down.marked);
        let share = simulated.flows[0].received as f64 * 8.0 / 60.0 / 20e6;
        (waited[waited.len() / 2], share, simulated)
    };
    let ms = Duration::from_millis;
    let (tail, ..) = of("");
    assert!(tail > ms(300), "{tail:?}");
    let (codel, share, dropped) = of(",aqm=codel");
    // One flow alone: its saw-tooth spends about as long below the target as above.
    assert!(codel < ms(10), "{codel:?}");
    assert!(share > 0.85, "{share}");
    assert_eq!((dropped.down.marked, dropped.down.lost.queue), (0, 0));
    assert!(dropped.down.lost.codel > 10);
    // Marks do the same, and nothing is lost.
    let (codel, share, marked) = of(",aqm=codel,ecn=on");
    assert!(codel < ms(10), "{codel:?}");
    assert!(share > 0.85, "{share}");
    assert_eq!(marked.down.lost.total(), 0);
    assert!(marked.down.marked > 10);
    let sender = marked.flows[0].sender.expect("it was heard");
    assert_eq!(sender.packets_lost, 0);
    assert!(sender.congestion_events > 10, "{sender:?}");
    // RED's mean stays between its thresholds, a sixth and a half of the half second.
    let (red, share, _) = of(",aqm=red");
    assert!(red < ms(250), "{red:?}");
    assert!(share > 0.85, "{share}");
}

#[test]
fn a_policer_holds_a_sender_to_its_rate_without_a_queue() {
    let simulation = on(
        "rate=100mbit,delay=25ms,queue=1250kB,policer=10mbit,30kB",
        &[Flow::new(Algorithm::Bbr)],
    );
    let simulated = run(&simulation);
    let share = simulated.flows[0].received as f64 * 8.0 / 10.0 / 10e6;
    assert!((0.7..1.0).contains(&share), "{share}");
    assert!(simulated.down.lost.policer > 0);
    assert_eq!(simulated.down.lost.total(), simulated.down.lost.policer);
    // In all it never let more through than its rate and one burst.
    let most = simulated.elapsed.as_secs_f64() * 10e6 / 8.0 + 30e3;
    assert!(simulated.down.delivered_bytes as f64 <= most);
}

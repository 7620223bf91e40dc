//! `labnet why` is never wrong: random networks, and every number of every sentence against what the
//! connection told step by step, what the link said of each packet, and what really arrived.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use labnet::{
    rudp::{congestion::Algorithm, connection::Config, packet::read_number},
    watch::{
        event::{
            link::{self, Congestion, Loss, Outcome, Verdict, Way},
            transport::{Cause, Change, Lost, Observer, Reaction, Rule, Spurious, Step},
        },
        fates::Fate,
        why::{LatePacket, LinkFate, Why, WindowChange},
    },
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::transport::sim::Sim;

/// Every step, as the connection told it.
#[derive(Debug, Clone, Default)]
struct Steps(Arc<Mutex<Vec<(Instant, Step)>>>);

impl Observer for Steps {
    fn on_step(&mut self, now: Instant, step: &Step) {
        self.0.lock().unwrap().push((now, *step));
    }

    fn wants_packets(&self) -> bool {
        true
    }
}

/// A packet that comes out: its way, its number on the link, when it does, and what it is.
type Arrived = (Way, u64, Instant, Option<(u64, u32)>);

/// Every verdict of the link, besides what `why` gets of them.
#[derive(Debug)]
struct Verdicts {
    known: Mutex<HashMap<(u64, u32), Fate>>,
    arrivals: Mutex<Vec<Arrived>>,
}

impl link::Observer for Verdicts {
    fn on_verdict(&self, verdict: &Verdict<'_>) {
        if let Outcome::Delivered(passage) = verdict.outcome {
            let arrival = (
                verdict.way,
                verdict.number,
                passage.arrives,
                read_number(verdict.payload),
            );
            self.arrivals.lock().unwrap().push(arrival);
        }
        if let Some(key) = read_number(verdict.payload) {
            let fate = Fate {
                offered: verdict.offered,
                size: verdict.size,
                queue: verdict.queue,
                outcome: verdict.outcome,
                overtaken_by: 0,
            };
            self.known.lock().unwrap().insert(key, fate);
        }
    }
}

/// What happened in a run.
struct Truth {
    began: Instant,
    steps: Vec<(Instant, Step)>,
    verdicts: HashMap<(u64, u32), Fate>,
    arrivals: Vec<Arrived>,
    /// What the client got, undamaged or not.
    arrived: HashSet<(u64, u32)>,
    destination: u64,
    congestion: Algorithm,
}

impl Truth {
    fn changes(&self) -> impl Iterator<Item = (Instant, &Change)> {
        self.steps.iter().filter_map(|(at, step)| match step {
            Step::Window(change) => Some((*at, change)),
            _ => None,
        })
    }

    fn lost(&self, number: u64) -> (Instant, Lost) {
        let mut lost = self.steps.iter().filter_map(|(at, step)| match step {
            Step::Lost(lost) if lost.number == number => Some((*at, *lost)),
            _ => None,
        });
        lost.next().expect("it was declared lost")
    }

    fn spurious(&self, number: u64) -> (Instant, Spurious) {
        let mut spurious = self.steps.iter().filter_map(|(at, step)| match step {
            Step::Spurious(spurious) if spurious.number == number => Some((*at, *spurious)),
            _ => None,
        });
        spurious.next().expect("it was acknowledged after all")
    }

    /// How many packets were declared lost right before the change: by the same acknowledgement or timer,
    /// of which there may be several at one time.
    fn lost_with(&self, change: &Change) -> usize {
        let is_it = |step: &Step| matches!(step, Step::Window(one) if std::ptr::eq(one, change));
        let at = self.steps.iter().position(|(_, step)| is_it(step));
        let before = self.steps[..at.expect("one of them")].iter().rev();
        before
            .map(|(_, step)| step)
            .take_while(|step| matches!(step, Step::Lost(_) | Step::Mtu { .. }))
            .filter(|step| matches!(step, Step::Lost(lost) if lost.congestion))
            .count()
    }

    fn seconds(&self, at: Instant) -> f64 {
        (at - self.began).as_secs_f64()
    }

    /// What may be said of the link, having been compared with what it did.
    fn check_link(&self, number: u64, told: Option<&LinkFate>, numbers: &mut Vec<String>) {
        let key = (self.destination, number as u32);
        let fate = self.verdicts[&key];
        let told = told.expect("the link told of every packet");
        let arrived = self.arrived.contains(&key);
        // A header that was damaged on the way names another packet.
        let header = |fate: &Fate| match fate.outcome {
            Outcome::Delivered(passage) => passage.corrupted.is_some_and(|byte| byte < 13),
            Outcome::Lost(_) => false,
        };
        let unsure = self.verdicts.values().any(header);
        assert_eq!(told.queue_bytes, fate.queue.bytes);
        assert_eq!(told.queue_limit_bytes, fate.queue.limit);
        match fate.outcome {
            Outcome::Lost(loss) => {
                assert!(
                    !arrived || unsure,
                    "packet {number} is told to be lost, and came"
                );
                assert_eq!(told.fate, loss.name());
                match loss {
                    Loss::QueueFull => {
                        let queue = fate.queue;
                        assert!(queue.bytes + fate.size > queue.limit, "{fate:?}");
                        numbers.extend(
                            [queue.bytes, queue.limit, fate.size].map(|n| commas(n as u64)),
                        );
                        let rate = queue.rate.expect("what has a queue has a rate").get();
                        numbers.push(ms(Duration::from_secs_f64(
                            queue.bytes as f64 * 8.0 / rate as f64,
                        )));
                        numbers.push(rate_number(rate));
                    }
                    Loss::Burst { nth } => numbers.push(nth.to_string()),
                    Loss::Policed { tokens } => {
                        assert!(tokens < fate.size as u64, "{fate:?}");
                        assert_eq!(told.tokens_bytes, Some(tokens));
                        numbers.extend([fate.size as u64, tokens].map(commas));
                    }
                    Loss::Managed(congestion) => numbers.push(managed(congestion, told)),
                    Loss::Random | Loss::Blackout | Loss::Memory => {}
                }
            }
            Outcome::Delivered(passage) => {
                assert!(
                    arrived || unsure,
                    "packet {number} is told to have come, and did not"
                );
                let took = passage.arrives - fate.offered;
                numbers.extend([took, passage.held_back, passage.queued].map(ms));
                numbers.extend(passage.corrupted.map(|byte| byte.to_string()));
                if told.overtaken_by > 0 {
                    assert_eq!(told.overtaken_by, self.overtakers(key), "packet {number}");
                    numbers.push(told.overtaken_by.to_string());
                }
                let corrupted = passage.corrupted.is_some();
                assert_eq!(told.fate == "corrupted", corrupted);
                if let Some(congestion) = passage.marked {
                    assert!(corrupted || told.fate == "marked");
                    numbers.push(managed(congestion, told));
                }
            }
        }
    }

    /// How many that were handed to the link after this packet came out before it.
    fn overtakers(&self, key: (u64, u32)) -> u64 {
        let mut arrivals = self.arrivals.iter();
        let (way, number, at, _) = arrivals
            .find(|arrival| arrival.3 == Some(key))
            .expect("it came out");
        let ahead = self
            .arrivals
            .iter()
            .filter(|other| other.0 == *way && other.1 > *number && other.2 < *at);
        ahead.count() as u64
    }

    fn check_change(&self, told: &WindowChange) {
        let words = &told.words;
        let near = |at: Instant, told: f64| (self.seconds(at) - told).abs() < 1e-9;
        let (at, first) = self
            .changes()
            .find(|(at, change)| {
                near(*at, told.at_seconds)
                    && change.before == told.before_bytes
                    && (told.steps > 1 || change.after == told.after_bytes)
            })
            .unwrap_or_else(|| panic!("nothing changed then: {told:?}"));
        let (until, last) = self
            .changes()
            .find(|(at, change)| {
                near(*at, told.until_seconds)
                    && change.after == told.after_bytes
                    && (told.steps > 1 || change.before == told.before_bytes)
            })
            .unwrap_or_else(|| panic!("nothing changed to that then: {told:?}"));
        let steps = self
            .changes()
            .filter(|(when, _)| (at..=until).contains(when))
            .count();
        assert!(told.steps as usize <= steps, "{told:?}");
        assert_eq!(told.ssthresh_bytes, last.ssthresh);
        assert!(first.before >= last.after || told.steps == 1, "{told:?}");
        let mut numbers = vec![
            format!("{:.3}", told.at_seconds),
            kb(told.before_bytes),
            kb(told.after_bytes),
        ];
        if told.steps > 1 {
            numbers.push(told.steps.to_string());
            numbers.push(format!("{:.3}", told.until_seconds));
        }
        let cut = told.after_bytes < told.before_bytes;
        assert_eq!(words.contains(" cut the window from "), cut, "{words}");
        self.check_reaction(last, &mut numbers);
        self.check_cause(at, last, told, &mut numbers);
        if let Some(undone) = told.undone_at_seconds {
            let mut undoings = self
                .changes()
                .filter_map(|(at, change)| match change.cause {
                    Cause::Undone { number } if near(at, undone) => Some(number),
                    _ => None,
                });
            let number = undoings.next().expect("it was undone");
            assert!(self.spurious(number).1.undoes);
            numbers.extend([format!("{undone:.3}"), number.to_string()]);
        }
        all_known(words, &numbers);
    }

    fn check_reaction(&self, change: &Change, numbers: &mut Vec<String>) {
        match change.reaction {
            Reaction::Multiplied { tenths, of, least } => {
                let wanted = match self.congestion {
                    Algorithm::Cubic => 7,
                    _ => 5,
                };
                assert_eq!(tenths, wanted);
                let kept = of * u64::from(tenths) / 10;
                assert!(change.after.abs_diff(kept.max(least)) <= 1, "{change:?}");
                assert!(
                    of <= change.before && change.before - of < 1500,
                    "{change:?}"
                );
                numbers.extend([format!("0.{tenths}"), kb(of)]);
            }
            Reaction::Delay {
                standing,
                least,
                base,
                slow_start,
            } => {
                assert!(least >= base && standing > 0, "{change:?}");
                assert!(slow_start || change.before > change.after);
                numbers.extend([ms(least), ms(least - base), commas(standing)]);
            }
            Reaction::Decayed { timeouts, silence } => {
                numbers.extend([
                    timeouts.to_string(),
                    format!("{:.3}", silence.as_secs_f64()),
                ]);
            }
            Reaction::Model {
                bandwidth,
                min_rtt,
                bound,
            } => {
                assert_eq!(change.after, bound.bytes(), "{change:?}");
                numbers.extend([rate_number(bandwidth * 8), ms(min_rtt)]);
            }
            Reaction::Collapsed
            | Reaction::Restored
            | Reaction::SlowStartOver
            | Reaction::InFlight
            | Reaction::Program { .. }
            | Reaction::ProgramFailed
            | Reaction::Unsaid => {}
        }
    }

    fn check_cause(
        &self,
        at: Instant,
        change: &Change,
        told: &WindowChange,
        numbers: &mut Vec<String>,
    ) {
        match change.cause {
            Cause::Loss(event) | Cause::Persistent(event) => {
                let (lost_at, lost) = self.lost(event.largest);
                assert_eq!((lost_at, lost.rule), (at, event.rule));
                assert!(lost.congestion);
                assert_eq!(self.lost_with(change), event.packets as usize);
                assert_eq!(told.packet, Some(event.largest));
                numbers.extend([event.largest.to_string(), event.packets.to_string()]);
                self.check_rule(at, &lost, numbers);
                self.check_link(event.largest, told.link.as_ref(), numbers);
            }
            Cause::Undone { number } => {
                let (when, spurious) = self.spurious(number);
                assert!(spurious.undoes && when == at);
                numbers.push(number.to_string());
            }
            Cause::Marked { smallest, largest } => {
                // The link marked one of those that were acknowledged with the report.
                let packet = told.packet.expect("one is named");
                assert!((smallest..=largest).contains(&packet));
                numbers.extend([largest, packet].map(|number| number.to_string()));
                let is_marked = |number: u64| {
                    let fate = self.verdicts.get(&(self.destination, number as u32));
                    fate.is_some_and(|fate| fate.mark().is_some())
                };
                match told.link.as_ref() {
                    Some(link) => {
                        assert_eq!(link.fate, "marked", "{told:?}");
                        self.check_link(packet, Some(link), numbers);
                    }
                    // One that was held back came after the largest, and was counted with the next report
                    // (RFC 9000 section 13.4.2.1).
                    None => {
                        assert!(!(smallest..=largest).any(is_marked), "{told:?}");
                        assert!((0..smallest).any(is_marked), "{told:?}");
                    }
                }
            }
            Cause::Acknowledged | Cause::Idle => {}
        }
    }

    fn check_rule(&self, at: Instant, lost: &Lost, numbers: &mut Vec<String>) {
        let by = match lost.rule {
            Rule::PacketThreshold {
                threshold,
                largest_acked,
            } => {
                assert!(threshold >= 3 && largest_acked >= lost.number + threshold);
                largest_acked
            }
            Rule::TimeThreshold {
                delay,
                largest_acked,
            } => {
                assert!(at - lost.sent_at >= delay && largest_acked > lost.number);
                numbers.push(ms(delay));
                largest_acked
            }
        };
        let acknowledged = self.steps.iter().any(|(when, step)| {
            matches!(step, Step::Acknowledged { number, .. } if *number == by) && *when <= at
        });
        assert!(acknowledged, "{by} was not acknowledged");
        numbers.push(by.to_string());
    }

    /// What the link did to the packets that were declared lost, all together.
    fn check_fates(&self, why: &Why) {
        let mut truth: HashMap<&str, u64> = HashMap::new();
        for (_, step) in &self.steps {
            if let Step::Lost(lost) = step
                && lost.congestion
            {
                let fate = &self.verdicts[&(self.destination, lost.number as u32)];
                *truth.entry(fate.name()).or_default() += 1;
            }
        }
        let mut told = 0;
        for of in &why.fates {
            assert!(
                of.packets <= truth.get(&of.fate[..]).copied().unwrap_or(0) || of.fate == "unknown"
            );
            told += of.packets;
        }
        assert_eq!(told, why.lost, "{:?}", why.fates);
    }

    fn check(&self, why: &Why) {
        let cuts = self.changes().filter(|(_, change)| change.is_cut());
        assert!(why.cuts <= cuts.count());
        let lost = |step: &Step| matches!(step, Step::Lost(lost) if lost.congestion);
        let lost = self.steps.iter().filter(|(_, step)| lost(step)).count();
        assert_eq!(why.lost, lost as u64);
        for change in &why.changes {
            self.check_change(change);
        }
        self.check_fates(why);
        for late in &why.late {
            let (at, spurious) = self.spurious(late.packet);
            let (lost_at, _) = self.lost(late.packet);
            let mut numbers = vec![
                format!("{:.3}", self.seconds(at)),
                late.packet.to_string(),
                ms(spurious.late),
            ];
            let took = at - lost_at;
            assert!(took.abs_diff(spurious.late) < Duration::from_micros(2));
            assert_eq!(late.whole_event, spurious.undoes);
            self.check_link(late.packet, late.link.as_ref(), &mut numbers);
            all_known(&late.words, &numbers);
        }
        // Something holds the sender back at any time, and only one thing.
        let limited: f64 = why.limits.iter().map(|limited| limited.seconds).sum();
        assert!((limited - why.seconds).abs() < 1e-6, "{why:?}");
    }
}

/// Every number in the words is one of these, but those of the documents that are named.
fn all_known(words: &str, numbers: &[String]) {
    let mut bare = words.to_owned();
    for document in [
        "RFC 9438 4.6",
        "RFC 9002 7.3.2",
        "RFC 9002 7.2",
        "RFC 9002 7.6.2",
        "RFC 9002 7.6",
        "RFC 9406",
        "RFC 5681 4.1",
    ] {
        bare = bare.replace(document, "");
    }
    let number = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',');
    for token in bare.split(|c: char| !number(c)) {
        let token = token.trim_matches(['.', ',']);
        let known = token.is_empty() || numbers.iter().any(|number| number == token);
        assert!(known, "{token} in: {words}\nnot of {numbers:?}");
    }
}

/// What decided of a packet that the queue's management dropped or marked.
fn managed(congestion: Congestion, told: &LinkFate) -> String {
    match congestion {
        Congestion::CoDel { sojourn } => {
            assert_eq!(told.sojourn_seconds, Some(sojourn.as_secs_f64()));
            ms(sojourn)
        }
        Congestion::Red { average } => {
            assert_eq!(told.average_queue_bytes, Some(average));
            commas(average)
        }
    }
}

fn kb(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1000.0)
}

fn ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

fn commas(n: u64) -> String {
    match n {
        0..1000 => n.to_string(),
        _ => format!("{},{:03}", commas(n / 1000), n % 1000),
    }
}

/// Of a rate in the unit that suits it.
fn rate_number(bits: u64) -> String {
    let unit = match bits {
        1_000_000_000.. => 1e9,
        1_000_000.. => 1e6,
        _ => 1e3,
    };
    let rounded = (bits as f64 / unit * 1000.0).round() / 1000.0;
    format!("{rounded}")
}

/// A network that loses, delays, reorders and damages as the seed has it.
fn network(rng: &mut Pcg64Mcg) -> String {
    let rate = [2, 5, 10, 20, 50][rng.random_range(0..5)];
    let mut list = vec![
        format!("delay={}ms", rng.random_range(2..40)),
        format!("rate={rate}mbit,queue={}B", rng.random_range(9_000..80_000)),
    ];
    let mut maybe = |chance: f64, item: String| {
        if rng.random::<f64>() < chance {
            list.push(item);
        }
    };
    maybe(0.4, "loss=1".to_owned());
    maybe(0.2, "loss=3,burst=3".to_owned());
    maybe(0.4, "reorder=3,reorder_by=12ms".to_owned());
    maybe(0.2, "corrupt=1".to_owned());
    maybe(0.2, "jitter=5ms".to_owned());
    maybe(0.1, "blackout=1s/400ms".to_owned());
    maybe(0.15, "policer=5mbit,20kB".to_owned());
    maybe(0.15, "aqm=codel".to_owned());
    maybe(0.15, "aqm=red".to_owned());
    maybe(0.3, "aqm=codel,ecn=on".to_owned());
    maybe(0.15, "aqm=red,ecn=on".to_owned());
    list.join(",")
}

/// One random run; how many changes of the window, late packets, late ones that were overtaken, and
/// answers to marks it told of.
fn run(seed: u64) -> [usize; 4] {
    let rng = &mut Pcg64Mcg::seed_from_u64(seed);
    let congestion = Algorithm::ALL[(seed % 4) as usize];
    let (up, down) = (network(rng), network(rng));
    let config = Config {
        congestion,
        ..Config::default()
    };
    let mut sim = Sim::new(&up, &down, config, seed);
    let steps = Steps::default();
    let steps_of_each = steps.clone();
    sim.observe(move || Box::new(steps_of_each.clone()));
    let verdicts = Arc::new(Verdicts {
        known: Mutex::default(),
        arrivals: Mutex::default(),
    });
    sim.path.link.watch(Arc::clone(&verdicts) as _);
    let client = sim.client(congestion, &[rng.random_range(200_000..1_500_000)]);
    let done = sim.download(Duration::from_secs(300));
    assert!(done.is_some(), "seed {seed}: stuck with {down}");
    let destination = sim.clients[client].peer.connection.cid().0;
    let now = sim.now();
    let most = usize::MAX;
    let found = sim
        .rings
        .each(|record| Some((record.began, Why::of(record, most, now))));
    let [(began, why)] = &found[..] else {
        panic!("seed {seed}: {} sessions", found.len());
    };
    let truth = Truth {
        began: *began,
        steps: steps.0.lock().unwrap().clone(),
        verdicts: verdicts.known.lock().unwrap().clone(),
        arrivals: verdicts.arrivals.lock().unwrap().clone(),
        arrived: sim.path.arrived.clone().expect("it is observed"),
        destination,
        congestion,
    };
    println!("seed {seed}, {congestion}, {down}");
    why.lines().iter().for_each(|line| println!("{line}"));
    truth.check(why);
    let overtaken = |late: &&LatePacket| late.link.as_ref().is_some_and(|l| l.overtaken_by > 0);
    let overtaken = why.late.iter().filter(overtaken).count();
    let marked = why.changes.iter().filter(|change| change.cause == "ecn");
    [why.changes.len(), why.late.len(), overtaken, marked.count()]
}

fn runs(seeds: std::ops::Range<u64>) {
    let mut told = [0; 4];
    for seed in seeds {
        let run = run(seed);
        told.iter_mut().zip(run).for_each(|(sum, of)| *sum += of);
    }
    // Else nothing was compared.
    assert!(
        told[0] > 20 && told[1] > 5 && told[2] > 5 && told[3] > 5,
        "{told:?}"
    );
}

#[test]
fn every_sentence_is_true_of_the_link_and_of_the_trace() {
    runs(0..40);
}

#[test]
#[ignore = "needs minutes: 1,000 runs"]
fn every_sentence_is_true_in_a_thousand_runs() {
    runs(0..1000);
}

//! A client's core and the server's over a network that loses, doubles, delays and reorders, in
//! virtual time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use labnet::rudp::{
    Requester,
    endpoint::{Endpoint, HalfOpenLimits, Route},
    output::{Change, Output},
    requester::{Event, Failure, Reply, Request},
    session::{Query, Session, SessionLimits},
    signal::Name,
};
use proptest::prelude::*;
use rand_pcg::{Pcg32, rand_core::Rng};

const LIST: [&str; 3] = ["50MB.zip", "image-site.png", "task2.pdf"];
const CLIENT: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 20, 30, 41)),
    40_000,
);

/// How bad the network is and what the client does.
#[derive(Debug, Clone)]
struct Scenario {
    seed: u64,
    /// Percent, each way.
    loss: u32,
    duplication: u32,
    /// One way.
    delay: Duration,
    /// Up to so much more, each datagram on its own: this is what reorders.
    jitter: Duration,
    client_window: u32,
    server_window: u32,
    /// Percent of the questions that find no scraper.
    scraper_gone: u32,
    requests: Vec<Request>,
    /// Between two requests, at most.
    pause: Duration,
}

/// What comes next in virtual time.
enum Happening {
    AtServer(Vec<u8>),
    AtClient(Vec<u8>),
    Scraper(Query, bool),
    Submit(Request),
}

struct World {
    scenario: Scenario,
    random: Pcg32,
    now: Instant,
    start: Instant,
    serial: u64,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    client: Requester,
    endpoint: Endpoint<()>,
    server: Option<Session>,
    /// How the session stood when its SIGNEND was answered.
    ended: Option<labnet::rudp::session::Description>,
    out: Output,
    /// All that the client told, with the time since the start.
    events: Vec<(Duration, Event)>,
    lost_in_a_row: HashMap<(bool, Vec<u8>), u32>,
    gone_in_a_row: u32,
}

/// How often in a row the same datagram is lost at most, so that no seed is so unlucky that a
/// client rightly gives up: 16 tries get through both ways.
const LONGEST_BURST: u32 = 3;

impl World {
    fn new(scenario: Scenario) -> Self {
        let now = Instant::now();
        let name = Name::new("Tal").expect("plain");
        let mut world = Self {
            random: Pcg32::new(scenario.seed, 7),
            client: Requester::new(name, scenario.client_window, scenario.seed, now),
            scenario,
            now,
            start: now,
            serial: 0,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            endpoint: Endpoint::default(),
            server: None,
            ended: None,
            out: Output::default(),
            events: Vec::new(),
            lost_in_a_row: HashMap::new(),
            gone_in_a_row: 0,
        };
        let mut at = Duration::ZERO;
        for request in world.scenario.requests.clone() {
            at += world.up_to(world.scenario.pause);
            world.plan(at, Happening::Submit(request));
        }
        world
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.next_u32() % 100 < percent
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        most * (self.random.next_u32() >> 16) / (1 << 16)
    }

    fn plan(&mut self, after: Duration, happening: Happening) {
        self.serial += 1;
        self.queue.push(Reverse((self.now + after, self.serial)));
        self.happenings.insert(self.serial, happening);
    }

    fn carry(&mut self, bytes: &[u8], to_server: bool) {
        let lost = self.chance(self.scenario.loss);
        let in_a_row = self
            .lost_in_a_row
            .entry((to_server, bytes.to_vec()))
            .or_default();
        if lost && *in_a_row < LONGEST_BURST {
            *in_a_row += 1;
            return;
        }
        *in_a_row = 0;
        let copies = 1 + u32::from(self.chance(self.scenario.duplication));
        for _ in 0..copies {
            let after = self.scenario.delay + self.up_to(self.scenario.jitter);
            let bytes = bytes.to_vec();
            let happening = if to_server {
                Happening::AtServer(bytes)
            } else {
                Happening::AtClient(bytes)
            };
            self.plan(after, happening);
        }
    }

    /// Runs until the client's session is over and the network is empty.
    fn run(&mut self) {
        loop {
            self.drain_client();
            let next = self.queue.peek().map(|Reverse((at, _))| *at);
            let Some(at) = next.into_iter().chain(self.client.poll_timeout()).min() else {
                break;
            };
            assert!(
                at - self.start < Duration::from_secs(3600),
                "stuck: {:?} {:?}",
                self.scenario,
                self.events
            );
            self.now = self.now.max(at);
            if self
                .server
                .as_ref()
                .is_some_and(|session| session.poll_timeout() <= self.now)
            {
                self.server = None;
                self.endpoint = Endpoint::default();
            }
            if next == Some(at) {
                let Some(Reverse((_, serial))) = self.queue.pop() else {
                    unreachable!("peeked");
                };
                let happening = self.happenings.remove(&serial).expect("planned");
                self.happen(happening);
            } else {
                self.client.handle_timeout(self.now);
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Submit(request) => {
                self.client.submit(request, self.now).expect("not over");
            }
            Happening::AtClient(bytes) => self.client.handle(&bytes, self.now),
            Happening::AtServer(bytes) => {
                let limits = SessionLimits {
                    max_window: self.scenario.server_window,
                    idle_timeout: Duration::from_secs(60),
                };
                let half_open = HalfOpenLimits {
                    most: 1,
                    idle_timeout: limits.idle_timeout,
                };
                let mut out = Output::default();
                self.endpoint.expire(&half_open, self.now);
                let endpoint = &mut self.endpoint;
                let route = endpoint.route(CLIENT, &bytes, &half_open, self.now, &mut out);
                for reply in out.replies() {
                    self.carry(reply.bytes, false);
                }
                match route {
                    Route::Session => {}
                    Route::Open(half_open) => {
                        self.server = Some(Session::new(half_open, limits));
                        self.endpoint.insert(CLIENT, ());
                    }
                    Route::Greeted(_) | Route::Drop(_) => return,
                }
                self.serve(|session, now, out| session.handle(&bytes, now, out));
            }
            Happening::Scraper(query, gone) => {
                let answer: Arc<str> = match &query {
                    Query::List => LIST.map(|file| format!("{file};")).concat().into(),
                    Query::File(file) => format!("http://origin/{file}").into(),
                };
                let answer = (!gone).then_some(&answer);
                self.serve(|session, _, out| session.handle_scraper(&query, answer, out));
            }
        }
    }

    fn serve(&mut self, call: impl FnOnce(&mut Session, Instant, &mut Output)) {
        let Some(session) = &mut self.server else {
            return;
        };
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        call(session, self.now, &mut out);
        if out.changes.contains(&Change::Ended) {
            self.ended = Some(session.describe(self.now));
        }
        let description = session.describe(self.now);
        assert!((1..=self.scenario.server_window).contains(&description.window));
        assert!(description.early < self.scenario.server_window as usize);
        if let Some(query) = session.poll_query() {
            let after = self.up_to(Duration::from_millis(500));
            let gone = self.gone_in_a_row < 2 && self.chance(self.scenario.scraper_gone);
            self.gone_in_a_row = if gone { self.gone_in_a_row + 1 } else { 0 };
            self.plan(after, Happening::Scraper(query, gone));
        }
        for reply in out.replies() {
            self.carry(reply.bytes, false);
        }
        self.out = out;
    }

    fn drain_client(&mut self) {
        while let Some(outgoing) = self.client.poll_transmit(self.now) {
            self.carry(&outgoing.bytes, true);
        }
        while let Some(event) = self.client.poll_event() {
            self.events.push((self.now - self.start, event));
        }
    }

    /// Everything answered exactly once, rightly, and counted consistently.
    fn check(&self) {
        let context = || {
            let events = self.events.iter().map(|event| format!("{event:?}\n"));
            format!("{:?}\n{}", self.scenario, events.collect::<String>())
        };
        assert!(self.client.is_over(), "{}", context());
        let first = Name::new("Tal").expect("plain").first_id();
        let mut answers = BTreeMap::new();
        let mut no_goodbye = false;
        for (_, event) in &self.events {
            match event {
                Event::Answered {
                    ticket, id, reply, ..
                } => {
                    assert_eq!(ticket.id(), *id);
                    let twice = answers.insert(*id, reply);
                    assert_eq!(twice, None, "{}", context());
                }
                // The server has answered, see below, and forgotten: the last word may be lost.
                Event::Failed(Failure::NoGoodbye) => no_goodbye = true,
                Event::Failed(failure) => panic!("{failure} {}", context()),
                _ => {}
            }
        }
        let requests = &self.scenario.requests;
        let unanswered = usize::from(no_goodbye);
        assert_eq!(answers.len() + unanswered, requests.len(), "{}", context());
        let mut before = (0, 0);
        for ((id, reply), (place, request)) in answers.iter().zip(requests.iter().enumerate()) {
            let place = place as u64;
            assert_eq!(*id, first + place);
            match (request, reply) {
                (Request::Echo { timestamp: sent }, Reply::Echo { timestamp }) => {
                    assert_eq!(sent, timestamp);
                }
                (Request::Stat, Reply::Stat(statistics)) => {
                    let now = (statistics.sent, statistics.lost);
                    assert!(now.0 >= before.0 && now.1 >= before.1, "{}", context());
                    let early = u64::from(self.scenario.server_window);
                    assert!((place + 1..=place + 1 + early).contains(&now.0));
                    if self.is_perfect() {
                        assert_eq!(now, (place + 1, 0));
                    }
                    before = now;
                }
                (Request::List, Reply::List(files)) => assert_eq!(*files, LIST),
                (Request::Redirect(file), Reply::Redirect(url)) => {
                    assert_eq!(*url, Some(format!("http://origin/{file}")));
                }
                (Request::End, Reply::End) => {}
                other => panic!("{other:?}"),
            }
        }
        let ended = self.ended.as_ref().expect("SIGNEND was answered");
        assert_eq!(ended.received, requests.len() as u64);
        assert!(ended.lost >= before.1 && ended.lost <= ended.received);
        let stats = self.client.stats();
        assert_eq!(stats.answered, answers.len() as u64);
        assert_eq!(stats.sent, requests.len() as u64 + 1 + stats.resent);
        let resent = |event: &&(_, Event)| matches!(event.1, Event::Resent { .. });
        assert_eq!(
            stats.resent,
            self.events.iter().filter(resent).count() as u64
        );
    }

    /// No loss, no reordering, no window too small.
    fn is_perfect(&self) -> bool {
        let Scenario {
            loss,
            jitter,
            client_window,
            server_window,
            ..
        } = &self.scenario;
        *loss == 0 && jitter.is_zero() && client_window < server_window
    }
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        5 => "[0-9]{10}\\.[0-9]{1,7}".prop_map(|timestamp| Request::Echo { timestamp }),
        2 => Just(Request::Stat),
        2 => Just(Request::List),
        1 => prop::sample::select(LIST.to_vec()).prop_map(|file| Request::Redirect(file.to_owned())),
    ]
}

fn scenario() -> impl Strategy<Value = Scenario> {
    (
        (
            any::<u64>(),
            prop_oneof![Just(0), 1u32..=30],
            prop_oneof![Just(0), 1u32..=30],
            0u64..300,
            prop_oneof![Just(0), 0u64..400],
        ),
        (1u32..=80, 2u32..=64, prop_oneof![Just(0u32), 1u32..30]),
        prop::collection::vec(request(), 0..60),
        prop_oneof![Just(0), 0u64..2000],
    )
        .prop_map(
            |(
                (seed, loss, duplication, delay, jitter),
                (client_window, server_window, scraper_gone),
                mut requests,
                pause,
            )| {
                requests.push(Request::End);
                Scenario {
                    seed,
                    loss,
                    duplication,
                    delay: Duration::from_millis(delay),
                    jitter: Duration::from_millis(jitter),
                    client_window,
                    server_window,
                    scraper_gone,
                    requests,
                    pause: Duration::from_millis(pause),
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn everything_is_answered_exactly_once(scenario in scenario()) {
        let mut world = World::new(scenario);
        world.run();
        world.check();
    }
}

/// A session of this many signals on a network of this loss.
fn heavy(seed: u64, loss: u32) -> World {
    let mut requests = Vec::new();
    for n in 0..40 {
        requests.push(match n % 8 {
            3 => Request::Stat,
            5 => Request::List,
            _ => Request::Echo {
                timestamp: n.to_string(),
            },
        });
    }
    requests.push(Request::End);
    World::new(Scenario {
        seed,
        loss,
        duplication: 20,
        delay: Duration::from_millis(10),
        jitter: Duration::from_millis(100),
        client_window: 16,
        server_window: 16,
        scraper_gone: 10,
        requests,
        pause: Duration::from_millis(20),
    })
}

#[test]
fn thirty_percent_loss_both_ways_a_thousand_times() {
    for seed in 0..1000 {
        let mut world = heavy(seed, 30);
        world.run();
        world.check();
        assert!(world.ended.as_ref().expect("ended").lost > 0);
        assert!(world.client.stats().resent > 0);
    }
}

#[test]
fn the_same_seed_loses_the_same() {
    let run = |seed| {
        let mut world = heavy(seed, 20);
        world.run();
        world.events
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn a_client_with_a_wider_window_than_the_server_s_waits_and_goes_on() {
    let mut world = heavy(1, 0);
    world.scenario.server_window = 3;
    world.scenario.jitter = Duration::ZERO;
    world.run();
    world.check();
    let heard = |wanted: fn(&Event) -> bool| {
        world
            .events
            .iter()
            .filter(|(_, event)| wanted(event))
            .count()
    };
    assert!(heard(|event| matches!(event, Event::Full(_))) > 0);
    assert!(heard(|event| *event == Event::GoingOn) > 0);
}

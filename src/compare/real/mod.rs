//! A run for real: labnet's own client and server, this kernel's TCP, quinn, all over one link.
//!
//! | file | |
//! |---|---|
//! | `ground` | where it happens: loopback and a relay, or two namespaces and a tunnel |
//! | `rudp`, `tcp`, `quic` | the senders and their receivers |
//!
//! Each receiver has a thread of its own, the link has one, and so has labnet's server. All begin at one
//! moment that is chosen before.

mod ground;
mod quic;
mod rudp;
mod tcp;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub use ground::Ground;

use super::{
    exec::{Program, Time},
    gather::{self, Ended, Measured},
    outcome,
    plan::{Amount, Plan, Run},
    recorder::{FlowRecord, LinkRecord, Now},
    sender::{Sender, Transport},
};
use crate::{congestion::Controllers, net::gain_namespaces, watch::fates::Fates};

/// From when all is ready to when all begin.
const READY: Duration = Duration::from_millis(100);
/// A transfer of a size that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How often it is looked whether something is over.
const LOOK: Duration = Duration::from_millis(10);
/// How often a sender that tells nothing by itself is asked.
const SAMPLE: Duration = Duration::from_millis(5);

/// Hears how a run goes while it does.
pub trait Audience {
    /// So much later, each flow in the order of the run's senders.
    fn interval(&mut self, elapsed: Duration, flows: &[Now]);

    /// How long after the last interval the next one is told.
    fn every(&self) -> Duration;
}

/// What a flow's ends need to know.
#[derive(Clone)]
struct Task {
    number: usize,
    sender: Sender,
    record: FlowRecord,
    amount: Amount,
    /// In so many files.
    files: u64,
    /// When it begins.
    start: Instant,
    /// How far its receiver is from the link, each way.
    away: Duration,
    /// When it ends at the latest.
    deadline: Instant,
    ground: Ground,
    /// Somebody wants it to end before.
    stop: Arc<AtomicBool>,
    /// What controls it, if that is a program.
    program: Option<Program>,
}

/// What came of a flow at its receiver.
#[derive(Debug, Default)]
struct Came {
    received: u64,
    first_byte: Option<Instant>,
    /// When all had come.
    whole: Option<Instant>,
    failure: Option<String>,
}

impl Task {
    /// Bytes to be sent.
    fn size(&self) -> u64 {
        match self.amount {
            Amount::Size(size) => size,
            Amount::Time(_) => u64::MAX,
        }
    }

    /// Bytes of each file.
    fn file_size(&self) -> u64 {
        self.size() / self.files.max(1)
    }

    /// A piece of a file was read now, with which it may be `whole`.
    fn piece(&self, came: &mut Came, file: u64, bytes: u64, whole: bool) {
        let now = Instant::now();
        came.first_byte.get_or_insert(now);
        came.received += bytes;
        self.record.delivered(now, came.received);
        let file = usize::try_from(file).unwrap_or(usize::MAX);
        self.record.file(now, file, whole);
    }

    /// Whether its time is up, or nobody sends any more.
    fn is_over(&self) -> bool {
        let mut program = self.program.iter();
        Instant::now() >= self.deadline
            || self.stop.load(Ordering::Relaxed)
            || program.any(Controllers::has_failed)
    }

    /// Gets what `fetching` gets, for as long as there is time: that it ran out is no error.
    async fn until_over<E>(&self, fetching: impl Future<Output = Result<(), E>>) -> Result<(), E> {
        let over = async {
            while !self.is_over() {
                let left = self.deadline.saturating_duration_since(Instant::now());
                tokio::time::sleep(left.min(LOOK)).await;
            }
        };
        tokio::select! {
            fetched = fetching => fetched,
            () = over => Ok(()),
        }
    }

    /// Waits for the moment at which all begin.
    fn wait(&self) {
        thread::sleep(self.start.saturating_duration_since(Instant::now()));
    }
}

/// The programs that control flows, by the flow; dropped, they have ended.
struct Programs(BTreeMap<usize, Program>);

impl Programs {
    fn start(plan: &Run, stop: &Arc<AtomicBool>) -> Self {
        let senders = plan.senders.iter().enumerate();
        let programs = senders.filter_map(|(number, sender)| match sender {
            Sender::Exec(exec) => {
                let program = Program::new(exec, Time::Real, Arc::clone(stop));
                Some((number, program))
            }
            _ => None,
        });
        Self(programs.collect())
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        self.0.values().for_each(Program::end);
    }
}

/// Makes sure that a plan can be run here, and chooses where. To be called before there is a second
/// thread.
///
/// # Errors
/// Why not, and what would help.
pub fn prepare(plan: &Plan) -> Result<Ground, String> {
    let carriers = |run: &Run| {
        let mut carriers: Vec<Transport> = run.senders.iter().map(Sender::transport).collect();
        carriers.sort_unstable();
        carriers.dedup();
        carriers.len()
    };
    // A relay has one server behind it.
    if !plan.has(Transport::Tcp) && plan.runs.iter().all(|run| carriers(run) == 1) {
        return Ok(Ground::Loopback);
    }
    gain_namespaces()?;
    let ground = Ground::namespaces().map_err(|error| format!("no network namespaces: {error}"))?;
    for sender in plan.runs.iter().flat_map(|run| &run.senders) {
        if let Sender::Tcp(name) = sender
            && let Some(why) = tcp::refusal(&ground, name)
        {
            return Err(format!("{sender}: {why}"));
        }
    }
    Ok(ground)
}

/// Runs it.
///
/// # Errors
/// Why it could not be run; what goes wrong with one flow is in the outcome.
pub fn run(
    plan: &Run,
    ground: &Ground,
    audience: &mut dyn Audience,
    stop: &Arc<AtomicBool>,
) -> Result<outcome::Run, String> {
    // A namespace has its address from its device: that comes first. A relay needs its server.
    let link = match ground {
        Ground::Namespaces { .. } => Some(ground.link(plan, None)?),
        Ground::Loopback => None,
    };
    let fates = Fates::new(ground.reader());
    let own = plan
        .senders
        .iter()
        .any(|sender| sender.transport() == Transport::Rudp);
    // They take their time to begin, and have it until the connections do.
    let programs = Programs::start(plan, stop);
    let watch = Arc::new(rudp::Watch::new(fates.clone()));
    let steering = Arc::new(rudp::Steered(programs.0.clone()));
    let proxy = own
        .then(|| rudp::Proxy::start(ground, plan, Arc::clone(&watch), steering))
        .transpose()?;
    let quic = quic::Records::default();
    let servers = plan
        .senders
        .iter()
        .any(|sender| sender.transport() == Transport::Quic)
        .then(|| quic::Servers::start(ground, plan, Arc::clone(&quic)))
        .transpose()?;
    let address = proxy.as_ref().map(rudp::Proxy::address);
    let address = address.or(servers.as_ref().map(quic::Servers::address));
    let link = match link {
        Some(link) => link,
        None => ground.link(plan, address)?,
    };
    if let Some(packets) = plan.initial_window
        && plan.has(Transport::Tcp)
    {
        ground.set_initial_window(packets)?;
    }
    let start = Instant::now() + READY;
    let until = plan.time().map(|time| start + time);
    let deadline = until.unwrap_or(start + PATIENCE);
    let records = (0..plan.senders.len()).map(|number| plan.record(number, start, until));
    let records: Vec<FlowRecord> = records.collect();
    watch.set(records.clone());
    *quic.lock().unwrap_or_else(PoisonError::into_inner) = records.clone();
    let heard = LinkRecord::new((start, until), records.len(), ground.flow_of(), fates);
    let heard = Arc::new(heard);
    link.control.watch(heard.clone());
    let mut flows = Vec::new();
    for (number, sender) in plan.senders.iter().enumerate() {
        let place = plan.place(number);
        let task = Task {
            number,
            sender: sender.clone(),
            record: records[number].clone(),
            amount: plan.amount,
            files: plan.files,
            start: start + place.after,
            away: place.away,
            deadline,
            ground: ground.clone(),
            stop: Arc::clone(stop),
            program: programs.0.get(&number).cloned(),
        };
        flows.push(match sender.transport() {
            Transport::Rudp => rudp::receive(task, link.address),
            Transport::Tcp => tcp::transfer(task),
            Transport::Quic => quic::receive(task, link.address),
        }?);
    }
    let mut changes = plan.changes.iter().peekable();
    let mut told = start;
    // When each was seen to be over.
    let mut over = vec![None; flows.len()];
    while flows.iter().any(|flow| !flow.is_finished()) {
        thread::sleep(LOOK);
        let now = Instant::now();
        for (over, flow) in over.iter_mut().zip(&flows) {
            if flow.is_finished() {
                over.get_or_insert(now);
            }
        }
        if link.is_down() {
            // Without it nothing more comes.
            stop.store(true, Ordering::Relaxed);
        }
        while let Some(change) = changes.next_if(|change| start + change.after <= now) {
            link.control.set_options(change.up, change.down);
        }
        if now >= told + audience.every() {
            told += audience.every();
            let flows: Vec<Now> = records.iter().map(FlowRecord::now).collect();
            audience.interval(told.saturating_duration_since(start), &flows);
        }
    }
    let ended = Instant::now().min(deadline);
    let mut measured = Vec::new();
    let flows = flows.into_iter().zip(records).zip(over);
    for (number, ((flow, record), over)) in flows.enumerate() {
        let came = flow.join().unwrap_or_else(|_| Came {
            failure: Some("its receiver panicked".to_owned()),
            ..Came::default()
        });
        let whole = came.whole.map(Ended::Whole);
        let program = programs.0.get(&number);
        let failed = program.and_then(Program::failure);
        measured.push(Measured {
            record,
            began: start + plan.place(number).after,
            ended: whole.unwrap_or(Ended::Stopped(over.map_or(ended, |at| at.min(ended)))),
            received: came.received,
            first_byte: came.first_byte,
            failure: match came.failure {
                _ if failed.is_some() => failed,
                None if whole.is_none() && plan.time().is_none() => {
                    Some("it was stopped before it was done".to_owned())
                }
                None if came.first_byte.is_none() => Some("nothing came in its time".to_owned()),
                failure => failure,
            },
            answers: program.map(Program::answers),
        });
    }
    let took = ended.saturating_duration_since(start);
    let run = gather::run(plan, start, took, measured, &heard);
    drop(proxy);
    drop(servers);
    link.end()?;
    Ok(run)
}

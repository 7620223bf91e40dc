//! A run in virtual time.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    exec::{Program, Time},
    gather::{self, Ended, Measured},
    outcome,
    plan::{Amount, Run},
    quic,
    recorder::{FlowRecord, LinkRecord},
    sender::{QuicControl, Sender},
};
use crate::{
    rudp::{congestion::Algorithm, packet::read_number},
    simulation::{self, Flow, LinkChange, Observers, Piece, QuicConfig, Simulation},
    watch::{fates::Fates, ring::About},
};

/// A transfer of a size that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How often it is looked at what has come.
const SAMPLE: Duration = Duration::from_millis(50);

/// Runs it.
///
/// # Errors
/// Why it can't be run.
pub fn run(plan: &Run) -> Result<outcome::Run, String> {
    run_until(plan, &Arc::default())
}

/// Runs it; `stop` ends it before its time where programs control the senders.
///
/// # Errors
/// Why it can't be run.
pub fn run_until(plan: &Run, stop: &Arc<AtomicBool>) -> Result<outcome::Run, String> {
    let mut experiment = Simulation::new(plan.up, plan.down);
    let size = match plan.amount {
        Amount::Size(size) => Some(size),
        Amount::Time(_) => None,
    };
    experiment.time = plan.time().unwrap_or(PATIENCE);
    experiment.sample_every = SAMPLE;
    experiment.seed = plan.seed;
    experiment.files = plan.files;
    experiment.changes = plan
        .changes
        .iter()
        .map(|change| LinkChange {
            at: change.after,
            up: change.up,
            down: change.down,
        })
        .collect();
    experiment.server.initial_window = plan.initial_window_bytes();
    let mut programs: BTreeMap<usize, Program> = BTreeMap::new();
    let start = Instant::now();
    let fates = Fates::new(read_number);
    let records = (0..plan.senders.len()).map(|number| plan.record(number, start, None));
    let records: Vec<FlowRecord> = records.collect();
    for (number, (sender, record)) in plan.senders.iter().zip(&records).enumerate() {
        let place = plan.place(number);
        let mut flow = Flow {
            starts: place.after,
            size,
            away: place.away,
            ..Flow::new(Algorithm::default())
        };
        match sender {
            Sender::Rudp(congestion) => flow.congestion = *congestion,
            Sender::Exec(exec) => {
                let program = Program::new(exec, Time::Virtual, Arc::clone(stop));
                (experiment.controllers).insert(number, Arc::new(program.clone()));
                programs.insert(number, program);
            }
            Sender::Quic(control) => {
                let config = quic_config(*control, record);
                let config = config.map_err(|error| format!("{sender}: {error}"))?;
                experiment.quic.insert(number, config);
            }
            Sender::Tcp(_) => {
                return Err(format!(
                    "{sender} is not of this program: it can't be simulated"
                ));
            }
        }
        experiment.flows.push(flow);
    }
    let flow_of = |verdict: &crate::link::model::Verdict<'_>| Simulation::flow_of(verdict.peer?);
    let link = LinkRecord::new(
        (start, None),
        records.len(),
        Box::new(flow_of),
        fates.clone(),
    );
    let link = Arc::new(link);
    let (watched, reading) = (records.clone(), records.clone());
    let observers = Observers {
        link: Some(link.clone()),
        senders: Some(Box::new(move |sender: &simulation::Sender| {
            let about = About {
                connection: sender.connection.0,
                destination: sender.destination.0,
                name: String::new(),
                client: sender.client,
                congestion: sender.congestion,
            };
            let record = watched.get(sender.flow).into_iter();
            record
                .map(|record| record.observer(about.clone(), fates.clone(), sender.now))
                .collect()
        })),
        pieces: Some(Arc::new(move |piece: &Piece| {
            if let Some(record) = reading.get(piece.flow) {
                record.file(piece.at, piece.file, piece.whole);
            }
        })),
    };
    let came = experiment
        .run(start, observers)
        .map_err(|error| error.to_string())?;
    let mut flows = Vec::new();
    for (number, (record, flow)) in records.into_iter().zip(&came.flows).enumerate() {
        // Told first: what was delivered is looked at now and then only.
        if let Some(at) = flow.first_byte_at {
            record.first_byte(start + at);
        }
        // It is looked at until all are done.
        let until = flow.completed_at.unwrap_or(came.elapsed);
        for delivered in flow.delivered.iter().filter(|one| one.at <= until) {
            record.delivered(start + delivered.at, delivered.bytes);
        }
        if let Some(counted) = flow.quic {
            record.counts(start + came.elapsed, quic::counts(counted));
        }
        let program = programs.get(&number);
        let failed = program.and_then(Program::failure);
        let failure = match (&flow.closed, flow.completed_at) {
            _ if failed.is_some() => failed,
            (Some(reason), None) => Some(reason.to_string()),
            _ if flow.sender.is_none() && flow.quic.is_none() => {
                Some("there was no connection".to_owned())
            }
            (None, None) if size.is_some() && stop.load(Ordering::Relaxed) => {
                Some("it was stopped before it was done".to_owned())
            }
            (None, None) if size.is_some() => Some("it was not done within an hour".to_owned()),
            _ if flow.first_byte_at.is_none() => Some("nothing came in its time".to_owned()),
            _ if came.cut_short => Some("it took too many events and was cut short".to_owned()),
            _ => None,
        };
        flows.push(Measured {
            record,
            began: start + plan.place(number).after,
            ended: match flow.completed_at {
                Some(at) => Ended::Whole(start + at),
                None => Ended::Stopped(start + came.elapsed),
            },
            received: flow.received,
            first_byte: flow.first_byte_at.map(|at| start + at),
            failure,
            answers: program.map(Program::answers),
        });
    }
    Ok(gather::run(plan, start, came.elapsed, flows, &link))
}

/// How the two ends of a QUIC flow behave.
fn quic_config(control: QuicControl, record: &FlowRecord) -> io::Result<QuicConfig> {
    Ok(QuicConfig {
        client: quic::client()?,
        server: Arc::new(quic::server(control, Some(record.clone()))?),
        name: quic::NAME,
    })
}

//! The threads of the sockets beyond the first: each receives for one, and its sessions and
//! connections live there.

use std::{
    future::poll_fn,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
    thread,
};

use actix::Addr;
use tokio::sync::{mpsc, watch};

use super::{
    RudpEndpoint, WorkerFailed,
    front::{Front, Plan},
};
use crate::role::{Beats, Failure, Role};

/// The threads. They outlive the endpoint's actor, as the sessions in them do.
pub(super) struct Workers(Vec<Worker>);

/// Takes what shall be spawned in its thread, which ends with it.
type Worker = mpsc::UnboundedSender<Box<dyn FnOnce() + Send>>;

/// The receivers in the threads: they end with it.
pub(super) struct Running {
    _ends: watch::Sender<()>,
}

impl Workers {
    /// How many threads.
    pub(super) fn count(&self) -> u16 {
        u16::try_from(self.0.len()).unwrap_or(u16::MAX)
    }

    /// As many threads.
    ///
    /// # Errors
    /// If there are no more to be had.
    pub(super) fn new(count: usize) -> io::Result<Self> {
        (1..=count).map(work).collect::<io::Result<_>>().map(Self)
    }

    /// Starts the receivers of an address beyond the first, each in a thread; `endpoint` hears when one fails.
    /// `beats` hears of the threads' hearts.
    pub(super) fn start(
        front: &Front,
        plan: &Plan,
        endpoint: &Addr<RudpEndpoint>,
        beats: &Beats,
    ) -> Running {
        let (ends, ended) = watch::channel(());
        for (number, worker) in front.workers.0.iter().enumerate() {
            let (front, plan, endpoint) = (front.clone(), plan.clone(), endpoint.clone());
            let ended = ended.clone();
            let beating = beats.beat(name(number + 1));
            let start = move || {
                actix_rt::spawn(async move {
                    tokio::select! {
                        () = receive((front, plan), number + 1, endpoint, ended) => {}
                        () = beating => {}
                    }
                });
            };
            // Its thread ends with it alone.
            let _ = worker.send(Box::new(start));
        }
        Running { _ends: ends }
    }
}

/// The name of a thread, as it is shown.
fn name(number: usize) -> String {
    format!("{}/{number}", RudpEndpoint::NAME)
}

/// Starts the thread `number`.
fn work(number: usize) -> io::Result<Worker> {
    let (worker, mut work) = mpsc::unbounded_channel::<Box<dyn FnOnce() + Send>>();
    let runtime = actix_rt::Runtime::new;
    thread::Builder::new().name(name(number)).spawn(move || {
        let runtime = match runtime() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, number, "no executor for the proxy's thread");
                return;
            }
        };
        runtime.block_on(async {
            while let Some(start) = work.recv().await {
                start();
            }
        });
    })?;
    Ok(worker)
}

/// Receives for the socket `number` until it fails or the endpoint ends.
async fn receive(
    (front, plan): (Front, Plan),
    number: usize,
    endpoint: Addr<RudpEndpoint>,
    mut ended: watch::Receiver<()>,
) {
    let receiver = front.receiver(&plan, number);
    // The workers end with the last who keeps them: not to be this one.
    drop(front);
    let mut receiver = match receiver {
        Ok(receiver) => receiver,
        Err(error) => {
            let tried = format_args!("taking over the proxy's socket {number}");
            endpoint.do_send(WorkerFailed(Failure::socket(tried, error)));
            return;
        }
    };
    let failed = poll_fn(
        |task| match catch_unwind(AssertUnwindSafe(|| receiver.poll(task))) {
            Ok(polled) => polled.map(|error| {
                Failure::socket(
                    format_args!("receiving at the proxy's socket {number}"),
                    error,
                )
            }),
            Err(panic) => Poll::Ready(Failure::panic(panic.as_ref())),
        },
    );
    tokio::select! {
        // First: what comes after a reload is for the receiver that follows, which may listen where this
        // one takes nobody new. An error is the sender's end.
        biased;
        _ = ended.changed() => {}
        failure = failed => endpoint.do_send(WorkerFailed(failure)),
    }
}

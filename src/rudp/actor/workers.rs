//! The threads of the sockets beyond the first: each receives for one, and its sessions and
//! connections live there.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
};

use actix::{Addr, Arbiter};
use tokio::sync::watch;

use super::{
    RudpEndpoint, WorkerFailed,
    front::{Front, Plan},
};
use crate::role::Failure;

/// The threads. They outlive the endpoint's actor, as the sessions in them do.
pub(super) struct Workers(Vec<Arbiter>);

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
    pub(super) fn new(count: usize) -> Self {
        Self((0..count).map(|_| Arbiter::new()).collect())
    }

    /// Starts the receivers of an address beyond the first, each in a thread; `endpoint` hears when one fails.
    pub(super) fn start(front: &Front, plan: &Plan, endpoint: &Addr<RudpEndpoint>) -> Running {
        let (ends, ended) = watch::channel(());
        for (number, worker) in front.workers.0.iter().enumerate() {
            let (front, plan, endpoint) = (front.clone(), plan.clone(), endpoint.clone());
            let ended = ended.clone();
            worker.spawn_fn(move || {
                actix_rt::spawn(receive((front, plan), number + 1, endpoint, ended));
            });
        }
        Running { _ends: ends }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &self.0 {
            worker.stop();
        }
    }
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
        failure = failed => endpoint.do_send(WorkerFailed(failure)),
        // An error is the sender's end.
        _ = ended.changed() => {}
    }
}

//! The receivers of the sockets beyond the first, each in a thread of the workers.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Poll,
};

use actix::Addr;
use tokio::sync::watch;

use super::{RudpEndpoint, WorkerFailed, front::Front, plan::Plan, workers::name};
use crate::role::{Beats, Failure};

/// The receivers in the threads: they end with it.
pub(super) struct Running {
    _ends: watch::Sender<()>,
}

impl Running {
    /// Starts the receivers of an address beyond the first, each in a thread; `endpoint` hears when one fails.
    /// `beats` hears of the threads' hearts.
    pub(super) fn start(
        front: &Front,
        plan: &Plan,
        endpoint: &Addr<RudpEndpoint>,
        beats: &Beats,
    ) -> Self {
        let (ends, ended) = watch::channel(());
        let workers = Arc::clone(&front.workers);
        for number in 1..=usize::from(front.workers.count()) {
            let (front, plan, endpoint) = (front.clone(), plan.clone(), endpoint.clone());
            let ended = ended.clone();
            let beating = beats.beat(name(number));
            workers.start(number, move || {
                actix_rt::spawn(async move {
                    tokio::select! {
                        () = receive((front, plan), number, endpoint, ended) => {}
                        () = beating => {}
                    }
                });
            });
        }
        Self { _ends: ends }
    }
}

/// Receives for the socket `number` until it fails or the endpoint ends.
async fn receive(
    (front, plan): (Front, Plan),
    number: usize,
    endpoint: Addr<RudpEndpoint>,
    mut ended: watch::Receiver<()>,
) {
    let mut receiver = match front.receiver(&plan, number) {
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

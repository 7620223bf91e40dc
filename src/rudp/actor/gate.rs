//! Turns that tasks wait for.

use std::{
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use prometheus::IntGauge;
use tokio::sync::oneshot;

use crate::rudp::{
    places::Prefix,
    turns::{TurnLimits, Turns},
};

/// Lets so many pass at once, the addresses in turn. For the tasks of all threads.
#[derive(Clone)]
pub(super) struct Gate(Arc<Inner>);

struct Inner {
    turns: Mutex<Turns<oneshot::Sender<Turn>>>,
    /// How many wait, to be read without the lock.
    waiting: AtomicUsize,
    /// How many have a turn, and how many wait.
    shown: Option<[IntGauge; 2]>,
}

/// A turn; it is given back when this is dropped.
pub(super) struct Turn(Option<(Gate, Prefix)>);

/// A turn to come.
pub(super) struct Waiting {
    gate: Gate,
    address: Prefix,
    turn: oneshot::Receiver<Turn>,
}

impl Gate {
    /// `shown`: gauges of those that have a turn, and of those that wait.
    pub(super) fn new(limits: TurnLimits, shown: Option<[IntGauge; 2]>) -> Self {
        Self(Arc::new(Inner {
            turns: Mutex::new(Turns::new(limits)),
            waiting: AtomicUsize::new(0),
            shown,
        }))
    }

    pub(super) fn set_limits(&self, limits: TurnLimits) {
        let mut turns = self.lock();
        turns.set_limits(limits);
        self.grant(&mut turns);
    }

    /// Waits for a turn, for somebody at this address.
    pub(super) fn turn(&self, address: IpAddr) -> Waiting {
        let address = Prefix::of(address);
        let (give, turn) = oneshot::channel();
        let mut turns = self.lock();
        turns.wait(address, give);
        self.grant(&mut turns);
        drop(turns);
        Waiting {
            gate: self.clone(),
            address,
            turn,
        }
    }

    /// Whether somebody would have a turn that this address gives back.
    pub(super) fn is_wanted(&self, address: IpAddr) -> bool {
        self.0.waiting.load(Ordering::Relaxed) > 0 && self.lock().is_wanted(Prefix::of(address))
    }

    fn grant(&self, turns: &mut Turns<oneshot::Sender<Turn>>) {
        while let Some((address, give)) = turns.grant() {
            let turn = Turn(Some((self.clone(), address)));
            if let Err(mut turn) = give.send(turn) {
                // Nobody waits any more. Not by its drop: the turns are locked.
                turn.0 = None;
                turns.give_back(address);
            }
        }
        self.0.waiting.store(turns.waiting(), Ordering::Relaxed);
        if let Some([running, waiting]) = &self.0.shown {
            running.set(turns.taken() as i64);
            waiting.set(turns.waiting() as i64);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Turns<oneshot::Sender<Turn>>> {
        // Whole between any two calls, even if a thread died while it held the lock.
        self.0.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((gate, address)) = self.0.take() {
            let mut turns = gate.lock();
            turns.give_back(address);
            gate.grant(&mut turns);
        }
    }
}

impl Future for Waiting {
    type Output = Turn;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Turn> {
        // The sender is dropped when this is, and not before.
        let turn = ready!(Pin::new(&mut self.turn).poll(task));
        Poll::Ready(turn.unwrap_or(Turn(None)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.turn.close();
        let mut turns = self.gate.lock();
        turns.retain(self.address, |give| !give.is_closed());
        self.gate.grant(&mut turns);
    }
}

//! The last files that went to HTTP clients: how much of each arrived there.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::transfer::{KIND, Transfer};
use crate::{http::Passed, role::api};

/// So many are remembered; one more takes the place of the oldest of the address that has most.
const REMEMBERED: usize = 1000;

/// The list of them, the last one last.
#[derive(Default)]
pub(super) struct EndedTransfers(Mutex<VecDeque<Ended>>);

/// A transfer of which nothing more is given to the kernel.
pub(super) struct Ended {
    transfer: Arc<Transfer>,
    lasted: Duration,
    unix: Duration,
    /// What became of it, once that is known: what the kernel was given takes its time.
    outcome: Option<Outcome>,
}

#[derive(Clone, Copy)]
struct Outcome {
    how: &'static str,
    /// Bytes that the client's kernel has acknowledged.
    acknowledged: u64,
    /// What the kernel has measured by then.
    passed: Option<Passed>,
}

impl EndedTransfers {
    pub(super) fn note(&self, ended: Ended) {
        let list = &mut *self.lock();
        list.push_back(ended);
        if list.len() <= REMEMBERED {
            return;
        }
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for ended in list.iter() {
            *counts.entry(ended.transfer.client.ip()).or_default() += 1;
        }
        let most = counts.values().max().copied();
        let oldest = list.iter().position(|ended| {
            let count = counts.get(&ended.transfer.client.ip()).copied();
            count == most
        });
        if let Some(oldest) = oldest {
            list.remove(oldest);
        }
    }

    /// Another begins on the connection of this client: whoever asks on has what was asked for before.
    pub(super) fn another_on(&self, client: SocketAddr) {
        let list = &mut *self.lock();
        for ended in list.iter_mut() {
            if ended.transfer.client == client && ended.outcome.is_none() {
                ended.outcome = ended.now_whole();
            }
        }
    }

    /// All that are remembered, the last first.
    pub(super) fn list(&self) -> Vec<api::EndedTransfer> {
        let list = &mut *self.lock();
        list.iter_mut().rev().map(Ended::tell).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Ended>> {
        // Whole between any two calls.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ended {
    /// A transfer that ends now.
    pub(super) fn now(transfer: Arc<Transfer>) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            lasted: transfer.began.elapsed(),
            unix: unix.unwrap_or_default(),
            outcome: None,
            transfer,
        }
    }

    /// It has arrived, if all of it was given to the kernel.
    fn now_whole(&self) -> Option<Outcome> {
        let transfer = &self.transfer;
        let sent = transfer.sent.load(Ordering::Relaxed);
        (sent == transfer.length).then(|| Outcome {
            how: "end",
            acknowledged: transfer.length,
            passed: transfer.wire.passed().map(|(passed, _)| passed),
        })
    }

    /// What can be said now, and whether that will stay so.
    fn outcome(&self) -> (Outcome, bool) {
        let transfer = &self.transfer;
        let sent = transfer.sent.load(Ordering::Relaxed);
        let Some((passed, over)) = transfer.wire.passed() else {
            let outcome = Outcome {
                how: "unknown",
                acknowledged: 0,
                passed: None,
            };
            return (outcome, true);
        };
        let whole = sent == transfer.length && transfer.written(&passed) >= sent;
        if whole && passed.unacknowledged == 0 {
            return (
                Outcome {
                    how: "end",
                    acknowledged: sent,
                    passed: Some(passed),
                },
                true,
            );
        }
        let outcome = Outcome {
            how: match over {
                false => "arriving",
                // The kernel had all of it and goes on sending after the connection is closed on this side.
                true if whole && !passed.info.closed => "unknown",
                true => "broken_off",
            },
            acknowledged: transfer.acknowledged(&passed),
            passed: Some(passed),
        };
        (outcome, over)
    }

    fn tell(&mut self) -> api::EndedTransfer {
        let outcome = self.outcome.unwrap_or_else(|| {
            let (outcome, stays) = self.outcome();
            self.outcome = stays.then_some(outcome);
            outcome
        });
        let transfer = &self.transfer;
        let before = transfer.before.map(|before| before.info);
        let info = outcome.passed.map(|passed| passed.info);
        let since = |count: fn(&crate::net::TcpInfo) -> u64| {
            let before = before.as_ref().map_or(0, count);
            info.as_ref().map(|info| count(info).saturating_sub(before))
        };
        api::EndedTransfer {
            kind: KIND.to_owned(),
            client: transfer.client,
            name: String::new(),
            file: transfer.file.clone(),
            how: outcome.how.to_owned(),
            ended_unix: self.unix.as_secs_f64(),
            connected_seconds: self.lasted.as_secs_f64(),
            length_bytes: transfer.length,
            bytes_sent: outcome.acknowledged,
            congestion: transfer.congestion.clone(),
            rtt_seconds: info.map(|info| info.rtt.as_secs_f64()),
            segments_sent: since(|info| info.data_segments),
            segments_retransmitted: since(|info| info.retransmitted),
        }
    }
}

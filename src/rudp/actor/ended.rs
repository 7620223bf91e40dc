//! The sessions and connections that are over: how, and what they have done.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    role::api::EndedSession,
    rudp::{
        connection_table::RateLimit,
        places::{Places, Prefix},
    },
};

/// So many are remembered; one more takes the place of the oldest of the address that has most.
const REMEMBERED: usize = 1000;
/// So many refusals a second are told in the log: whoever is refused may try again and again.
const REFUSALS_TOLD: u32 = 10;
/// The longest cause that is kept, in characters.
const LONGEST_CAUSE: usize = 200;

/// The list of them, for the threads of all sockets.
#[derive(Clone)]
pub(super) struct EndedSessions(Arc<Mutex<Inner>>);

struct Inner {
    list: Places<u64, EndedSession>,
    next: u64,
    refusals: RateLimit,
}

/// What is known of a session or connection even when it has crashed.
pub(super) struct Life {
    began: Instant,
    /// Whether its end is still to be told.
    open: bool,
    /// As it will be told.
    told: EndedSession,
}

impl EndedSessions {
    pub(super) fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            list: Places::default(),
            next: 0,
            refusals: RateLimit::new(REFUSALS_TOLD, now),
        })))
    }

    /// All that are remembered, the last first.
    pub(super) fn list(&self) -> Vec<EndedSession> {
        let inner = self.lock();
        let mut list: Vec<_> = inner.list.iter().collect();
        list.sort_by_key(|(number, _)| std::cmp::Reverse(**number));
        list.into_iter().map(|(_, ended)| ended.clone()).collect()
    }

    /// Notes a client that was refused, and why.
    pub(super) fn refused(&self, kind: &str, client: SocketAddr, name: &str, why: &str) {
        let mut life = Life::new(kind, client, name);
        life.how("refused", Some(why));
        life.end(self);
    }

    fn note(&self, ended: EndedSession) {
        let mut inner = self.lock();
        let EndedSession {
            kind,
            client,
            name,
            how,
            connected_seconds: seconds,
            bytes_received,
            bytes_sent,
            lost,
            sent_again,
            ..
        } = &ended;
        let cause = ended.cause.as_deref().unwrap_or_default();
        if how != "refused" || inner.refusals.take(Instant::now()) {
            tracing::info!(
                %client, name, how, cause, seconds, bytes_received, bytes_sent, lost, sent_again,
                "{kind}: a session has ended"
            );
        } else {
            tracing::debug!(%client, name, cause, "{kind}: refused");
        }
        let prefix = Prefix::of(ended.client.ip());
        let number = inner.next;
        inner.next += 1;
        inner.list.insert(number, prefix, ended, REMEMBERED);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whole between any two calls, even if a thread died while it held the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Life {
    /// A session or connection that begins: `kind` is `signals` or `transport`.
    pub(super) fn new(kind: &str, client: SocketAddr, name: &str) -> Self {
        Self {
            began: Instant::now(),
            open: true,
            told: EndedSession {
                kind: kind.to_owned(),
                client,
                name: name.to_owned(),
                connection_id: None,
                how: "idle".to_owned(),
                cause: None,
                ended_unix: 0.0,
                connected_seconds: 0.0,
                bytes_received: 0,
                bytes_sent: 0,
                lost: 0,
                sent_again: 0,
            },
        }
    }

    /// What it has done so far, to be brought up to date.
    pub(super) fn told(&mut self) -> &mut EndedSession {
        &mut self.told
    }

    /// How it ends, and in which words: these may be an outsider's.
    pub(super) fn how(&mut self, how: &str, cause: Option<&str>) {
        how.clone_into(&mut self.told.how);
        self.told.cause =
            cause.map(|cause| cause.escape_debug().take(LONGEST_CAUSE).collect::<String>());
    }

    /// Tells of its end, once.
    pub(super) fn end(&mut self, ended: &EndedSessions) {
        if std::mem::take(&mut self.open) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            self.told.ended_unix = now.unwrap_or_default().as_secs_f64();
            self.told.connected_seconds = self.began.elapsed().as_secs_f64();
            ended.note(self.told.clone());
        }
    }

    /// Nothing is to be told of its end: it has not begun yet.
    pub(super) fn unborn(mut self) -> Self {
        self.open = false;
        self
    }

    /// The session has begun: its end is to be told.
    pub(super) fn begin(&mut self) {
        self.open = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_printable_and_of_all_addresses() {
        let ended = EndedSessions::new(Instant::now());
        let end = |host: u8, name: &str| {
            let mut life = Life::new("signals", SocketAddr::from(([10, 0, 0, host], 1)), name);
            let rude = format!("\u{1b}[2J\u{202e}{}", "x".repeat(1000));
            life.how("crash", Some(&rude));
            life.end(&ended);
            // A second time there is nothing to tell.
            life.end(&ended);
        };
        end(1, "Tal");
        for n in 0..2000 {
            end(2, &format!("x{n}"));
        }
        let list = ended.list();
        assert_eq!(list.len(), REMEMBERED);
        assert_eq!(list[0].name, "x1999", "the last first");
        assert_eq!(list.last().expect("one").name, "Tal");
        let cause = list[0].cause.as_deref().expect("told");
        assert!(cause.len() <= LONGEST_CAUSE && cause.is_ascii(), "{cause}");
    }
}

//! What the DHCP server tells other roles of its leases, as they come and go.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use actix::{Message, Recipient};

/// A turn in the life of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum LeaseEvent {
    /// A client holds this address: from now on, or still, and what it says of itself is new.
    Bound {
        /// The leased address.
        address: Ipv4Addr,
        /// The host name that its client gave (option 12).
        hostname: Option<Arc<str>>,
    },
    /// Nobody holds it any more: released, expired, declined or forgotten.
    Ended {
        /// The address.
        address: Ipv4Addr,
    },
}

/// Passes lease events on from the one that leases to all that want to know. Whoever begins to
/// listen hears first of the leases that there are; so nobody has to ask.
#[derive(Debug, Clone, Default)]
pub struct Leases(Arc<Mutex<Board>>);

#[derive(Debug, Default)]
struct Board {
    bound: BTreeMap<Ipv4Addr, Option<Arc<str>>>,
    listeners: Vec<Recipient<LeaseEvent>>,
}

impl Leases {
    /// Tells those that listen, if it is news.
    pub fn publish(&self, event: LeaseEvent) {
        self.lock().publish(event);
    }

    /// Tells what is news where these are all the leases that there are.
    pub fn replace(&self, bound: impl IntoIterator<Item = (Ipv4Addr, Option<Arc<str>>)>) {
        let bound: BTreeMap<_, _> = bound.into_iter().collect();
        let mut board = self.lock();
        let ended: Vec<_> = board.bound.keys().copied().collect();
        for address in ended {
            if !bound.contains_key(&address) {
                board.publish(LeaseEvent::Ended { address });
            }
        }
        for (address, hostname) in bound {
            board.publish(LeaseEvent::Bound { address, hostname });
        }
    }

    /// From now on `listener` hears of leases, first of those that there are.
    pub fn subscribe(&self, listener: Recipient<LeaseEvent>) {
        let mut board = self.lock();
        for (address, hostname) in &board.bound {
            let (address, hostname) = (*address, hostname.clone());
            listener.do_send(LeaseEvent::Bound { address, hostname });
        }
        // A role that restarts keeps its address.
        board.listeners.retain(|known| *known != listener);
        board.listeners.push(listener);
    }

    /// How many addresses are leased.
    pub fn len(&self) -> usize {
        self.lock().bound.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        // Whole between any two statements that change it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    fn publish(&mut self, event: LeaseEvent) {
        let is_news = match &event {
            LeaseEvent::Bound { address, hostname } => {
                let before = self.bound.insert(*address, hostname.clone());
                before.as_ref() != Some(hostname)
            }
            LeaseEvent::Ended { address } => self.bound.remove(address).is_some(),
        };
        if is_news {
            self.listeners.retain(Recipient::connected);
            for listener in &self.listeners {
                listener.do_send(event.clone());
            }
        }
    }
}

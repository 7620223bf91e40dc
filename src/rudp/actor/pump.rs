//! From a connection to the kernel, the same for both ends.

use std::{collections::VecDeque, io, time::Instant};

use crate::{
    link::LinkedSocket,
    net::{first_link, is_too_large},
    rudp::connection::{Connection, Transmit},
};

/// Bursts that leave one right after the other, at most: as many as the largest portion has.
const BURSTS: usize = 16;

/// Sends what a connection has to send, and keeps what the kernel has no room for.
#[derive(Debug, Default)]
pub struct Pump {
    unsent: VecDeque<(Vec<u8>, Transmit)>,
}

/// Who wants to know what becomes of a connection's datagrams.
pub trait Observer {
    /// So many were sent.
    fn sent(&mut self, datagrams: usize);

    /// So many were not, and are as good as lost on the way.
    fn lost(&mut self, datagrams: usize, error: &io::Error);
}

/// Whether everything that was to be sent is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pumped {
    /// Nothing, there was nothing to send.
    Nothing,
    /// All of it.
    All,
    /// The kernel has no room: it is to be waited for.
    Blocked,
    /// Its turn is over.
    Turn,
}

impl Pump {
    /// Whether something waits for the kernel to have room.
    pub fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends what may be sent now, up to `budget` bytes and the rest of a burst. What goes in several
    /// bursts is made, in `bytes`, before the first one leaves: whoever receives them is woken once,
    /// not for each.
    ///
    /// What the kernel finds too large for the first link (EMSGSIZE) goes back into the connection,
    /// which makes smaller ones of it at once.
    pub fn run(
        &mut self,
        connection: &mut Connection,
        socket: &LinkedSocket,
        bytes: &mut Vec<u8>,
        budget: &mut usize,
        observer: &mut impl Observer,
    ) -> Pumped {
        let mut pumped = Pumped::Nothing;
        while let Some((burst, transmit)) = self.unsent.pop_front() {
            if !send(connection, socket, &burst, &transmit, observer) {
                self.unsent.push_front((burst, transmit));
                return Pumped::Blocked;
            }
            pumped = Pumped::All;
        }
        let segments = socket.max_segments();
        loop {
            if *budget == 0 {
                return Pumped::Turn;
            }
            bytes.clear();
            let mut bursts = [None; BURSTS];
            for burst in &mut bursts {
                *burst = connection.poll_transmit(Instant::now(), bytes, segments);
                let Some(transmit) = burst else {
                    break;
                };
                *budget = budget.saturating_sub(transmit.length);
                if *budget == 0 {
                    break;
                }
            }
            if bytes.is_empty() {
                return pumped;
            }
            let mut rest = &bytes[..];
            for transmit in bursts.into_iter().flatten() {
                let (burst, after) = rest.split_at(transmit.length);
                rest = after;
                if self.is_blocked() || !send(connection, socket, burst, &transmit, observer) {
                    self.unsent.push_back((burst.to_vec(), transmit));
                }
            }
            if self.is_blocked() {
                return Pumped::Blocked;
            }
            pumped = Pumped::All;
        }
    }
}

/// Hands datagrams to the kernel; false if it has no room for them now.
fn send(
    connection: &mut Connection,
    socket: &LinkedSocket,
    burst: &[u8],
    transmit: &Transmit,
    observer: &mut impl Observer,
) -> bool {
    let sent = socket.try_send_segments(
        burst,
        transmit.segment,
        transmit.remote,
        transmit.local,
        transmit.ecn,
    );
    let error = match sent {
        Ok(()) => {
            observer.sent(burst.len().div_ceil(transmit.segment));
            return true;
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
        Err(error) => error,
    };
    let again = is_too_large(&error) && {
        let fits = first_link::largest_payload(transmit.remote, transmit.local);
        connection.on_too_big(transmit, fits, Instant::now())
    };
    if !again {
        // As on any link that loses them: the connection finds out.
        observer.lost(burst.len().div_ceil(transmit.segment), &error);
    }
    true
}

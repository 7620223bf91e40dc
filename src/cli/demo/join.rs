//! Joins what one end of a NAT sent with what the other end saw of it.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{happening::Happening, home::crosses, row::Packet, seen::Seen};
use crate::watch::{
    event::packet::{Fate, Protocol, Role},
    words::What,
};

/// So long the other end's word is waited for. It takes less than a millisecond; if the packet was lost, or waits in
/// the client's own bad network, it is told without.
const PATIENCE: Duration = Duration::from_millis(200);

/// So long the packet is waited for because of which the kernel asks: it is told by another thread.
const ARP_PATIENCE: Duration = Duration::from_millis(20);

/// What happens, in order, each message through the NAT with what its receiver saw.
#[derive(Debug, Default)]
pub(super) struct Join {
    /// Whether there is a NAT.
    behind_nat: bool,
    held: VecDeque<(Instant, Happening)>,
    /// Where the proxy saw the transport's last packet come from.
    last_seen: Option<SocketAddr>,
}

impl Join {
    /// For a walk behind a NAT, or for any other, where nothing waits.
    pub(super) fn new(behind_nat: bool) -> Self {
        Self {
            behind_nat,
            ..Self::default()
        }
    }

    /// Something has happened.
    pub(super) fn put(&mut self, happening: Happening, now: Instant) {
        let Happening::Seen(at, seen) = happening else {
            // A packet is told before the ARP that it waited for in the kernel.
            let later = match &happening {
                Happening::Packet(at, _) => self.take_arp_since(*at),
                _ => Vec::new(),
            };
            self.held.push_back((now, happening));
            self.held.extend(later);
            return;
        };
        let waiting = self.held.iter_mut().find_map(|(_, held)| match held {
            Happening::Packet(_, packet) if packet.print == seen.print && awaits(packet) => {
                Some(packet)
            }
            _ => None,
        });
        if let Some(packet) = waiting {
            packet.seen = Some(seen);
        }
        if let Some(before) = self.moved(&seen) {
            let moved = Happening::Moved(at, before, seen.source);
            self.held.push_back((now, moved));
        }
    }

    fn take_arp_since(&mut self, time: Instant) -> Vec<(Instant, Happening)> {
        let is_later =
            |held: &(Instant, Happening)| matches!(held.1, Happening::Arp(at, _) if at >= time);
        if !self.held.iter().any(is_later) {
            return Vec::new();
        }
        let (later, rest) = self.held.drain(..).partition(is_later);
        self.held = rest;
        Vec::from(later)
    }

    /// Where the proxy saw the transport's connection before, if this is another place.
    fn moved(&mut self, seen: &Seen) -> Option<SocketAddr> {
        if seen.role != Role::Rudp || !seen.is_transport {
            return None;
        }
        let before = self.last_seen.replace(seen.source)?;
        (before != seen.source).then_some(before)
    }

    /// The next that is to be told.
    pub(super) fn next(&mut self, now: Instant) -> Option<Happening> {
        let (since, happening) = self.held.front()?;
        if now < *since + self.patience_with(happening) {
            return None;
        }
        self.held.pop_front().map(|(_, happening)| happening)
    }

    /// The longest that may be waited for something new, before [`next`](Self::next) is asked again.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        match self.held.front() {
            Some((since, happening)) => {
                (*since + self.patience_with(happening)).saturating_duration_since(now)
            }
            None => Duration::MAX,
        }
    }

    fn patience_with(&self, happening: &Happening) -> Duration {
        match happening {
            Happening::Packet(_, packet) if self.behind_nat && awaits(packet) => PATIENCE,
            Happening::Arp(..) => ARP_PATIENCE,
            _ => Duration::ZERO,
        }
    }
}

/// Whether the other end's word of a packet is missing. The bytes of files are as many as nobody reads.
fn awaits(packet: &Packet) -> bool {
    packet.seen.is_none()
        && packet.fate != Fate::LostOnPurpose
        && packet.protocol != Protocol::Dhcp
        && matches!(packet.reading.what, What::Message(_))
        && crosses(packet.source, packet.destination)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{
        super::{
            home::{OUTER, SERVER},
            seen::Print,
        },
        *,
    };
    use crate::watch::words::Reading;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 41);

    fn sent(print: u64, now: Instant) -> Happening {
        Happening::Packet(
            now,
            Packet {
                role: Role::Client,
                protocol: Protocol::Rudp,
                source: (CLIENT, 40_000).into(),
                destination: (SERVER, 49_152).into(),
                bytes: 17,
                fate: Fate::Sent,
                reading: Reading::message("SIGNEW", "hello"),
                print: Print(print),
                seen: None,
            },
        )
    }

    fn seen(print: u64, port: u16, is_transport: bool, now: Instant) -> Happening {
        let seen = Seen {
            role: Role::Rudp,
            source: (OUTER, port).into(),
            destination: (SERVER, 49_152).into(),
            print: Print(print),
            is_transport,
        };
        Happening::Seen(now, seen)
    }

    #[test]
    fn a_message_waits_for_the_other_end_s_word_and_not_for_long() {
        let now = Instant::now();
        let mut join = Join::new(true);
        join.put(sent(1, now), now);
        join.put(sent(2, now), now);
        join.put(Happening::End, now);
        assert!(join.next(now).is_none());
        assert_eq!(join.patience(now), PATIENCE);
        join.put(seen(1, 20_001, false, now), now);
        let Some(Happening::Packet(_, packet)) = join.next(now) else {
            panic!("the first is joined");
        };
        let source: SocketAddr = (OUTER, 20_001).into();
        assert_eq!(packet.seen.map(|seen| seen.source), Some(source));
        // The second was lost: it is told without, and the order stays.
        assert!(join.next(now).is_none());
        let later = now + PATIENCE;
        assert!(
            matches!(join.next(later), Some(Happening::Packet(_, packet)) if packet.seen.is_none())
        );
        assert!(matches!(join.next(later), Some(Happening::End)));
        assert!(join.next(later).is_none());
        // Where there is no NAT nothing waits.
        let mut join = Join::new(false);
        join.put(sent(1, now), now);
        assert!(join.next(now).is_some());
    }

    #[test]
    fn a_connection_that_comes_from_another_port_has_moved() {
        let now = Instant::now();
        let mut join = Join::new(true);
        for (port, is_transport) in [
            (20_001, true),
            (20_001, true),
            // A signal, of another socket.
            (20_002, false),
            (21_001, true),
        ] {
            join.put(seen(9, port, is_transport, now), now);
        }
        let Some(Happening::Moved(_, from, to)) = join.next(now) else {
            panic!("it has moved");
        };
        assert_eq!((from.port(), to.port()), (20_001, 21_001));
        assert!(join.next(now).is_none());
    }

    #[test]
    fn what_stays_on_one_side_does_not_cross() {
        let [client, outer, server] = [(CLIENT, 5), (OUTER, 6), (SERVER, 7)].map(SocketAddr::from);
        assert!(crosses(client, server) && crosses(outer, server) && crosses(server, outer));
        assert!(crosses(server, client));
        assert!(!crosses(server, server) && !crosses(client, outer));
    }
}

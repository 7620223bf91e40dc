use std::{
    future::poll_fn,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use tokio::sync::Notify;

use super::{
    Damage, Link, LinkControl, LinkCounters, LinkOptions, Packet, Way, control::Controlled,
};
use crate::{
    net::{Tun, TunPlan, keep_time},
    watch::event::link::Observer,
};

/// Two devices that a tunnel joins.
#[derive(Debug, Clone)]
pub struct TunnelPlan {
    /// The device on the left.
    pub left: TunPlan,
    /// The device on the right.
    pub right: TunPlan,
    /// What happens to packets from left to right.
    pub up: LinkOptions,
    /// What happens to packets from right to left.
    pub down: LinkOptions,
    /// Decides about every packet's fate.
    pub seed: u64,
}

/// A bad link between two network namespaces, for everything that goes over IP.
///
/// Rate and queue count IP packets with their headers. The kernel cuts what it joined for speed
/// (GSO) before the link sees it: each packet has its own fate. Corruption changes one byte behind
/// the IP header; in UDP one of the payload, and the checksum with it, so that the receiving
/// program, not the kernel, has to notice. ECN marks are those of the IP header.
pub struct Tunnel {
    left: Tun,
    right: Tun,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Something is due earlier than the link's timer knows.
    earlier: Notify,
}

struct State {
    link: Link<Frame>,
    /// Used for both devices in turn.
    buffer: Box<[u8]>,
    /// When the link's timer is due.
    timer: Option<Instant>,
    undelivered: u64,
}

/// The largest IP packet.
const MAX_PACKET: usize = 65_535;
/// So many packets of one device before the other has its turn.
const BATCH: usize = 64;

impl Tunnel {
    /// Makes the devices. Needs root.
    ///
    /// # Errors
    /// What the kernel refuses, and for which device.
    pub fn open(plan: &TunnelPlan) -> io::Result<Self> {
        let state = State {
            link: Link::new(plan.up, plan.down, plan.seed, Instant::now()),
            buffer: vec![0; MAX_PACKET].into(),
            timer: None,
            undelivered: 0,
        };
        Ok(Self {
            left: Tun::open(&plan.left)?,
            right: Tun::open(&plan.right)?,
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                earlier: Notify::new(),
            }),
        })
    }

    /// A handle on it that outlives [`run`](Self::run).
    pub fn control(&self) -> LinkControl {
        LinkControl::new(self.shared.clone())
    }

    /// Carries packets until dropped; the devices vanish then.
    ///
    /// # Errors
    /// Those of the devices and of the timer, and if someone removes a device. To remove a
    /// namespace by name is not enough for that: it lives on as long as its device does.
    pub async fn run(self) -> io::Result<()> {
        tokio::select! {
            failed = self.receive(Way::Up) => failed,
            failed = self.receive(Way::Down) => failed,
            failed = self.deliver() => failed,
            failed = self.left.removed() => failed,
            failed = self.right.removed() => failed,
        }
    }

    async fn receive(&self, way: Way) -> io::Result<()> {
        loop {
            poll_fn(|task| self.poll_device(way, task)).await?;
        }
    }

    fn poll_device(&self, way: Way, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let device = match way {
            Way::Up => &self.left,
            Way::Down => &self.right,
        };
        let state = &mut *self.shared.lock();
        let mut outcome = Poll::Ready(Ok(()));
        for _ in 0..BATCH {
            match device.poll_receive(task, &mut state.buffer) {
                Poll::Ready(Ok(length)) => {
                    let frame = Frame(state.buffer[..length].into());
                    state.link.handle_input(way, frame, Instant::now());
                }
                Poll::Ready(Err(error)) => {
                    outcome = Poll::Ready(Err(error));
                    break;
                }
                Poll::Pending => {
                    outcome = Poll::Pending;
                    break;
                }
            }
        }
        self.send_what_is_due(state);
        self.shared.wake_if_earlier(state);
        outcome
    }

    async fn deliver(&self) -> io::Result<()> {
        keep_time(&self.shared.earlier, || {
            let state = &mut *self.shared.lock();
            self.send_what_is_due(state);
            state.timer = state.link.poll_timeout();
            state.timer
        })
        .await
    }

    fn send_what_is_due(&self, state: &mut State) {
        while let Some((way, frame)) = state.link.poll_output(Instant::now()) {
            let device = match way {
                Way::Up => &self.right,
                Way::Down => &self.left,
            };
            if device.try_send(&frame.0).is_err() {
                state.undelivered += 1;
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_if_earlier(&self, state: &State) {
        if let Some(due) = state.link.poll_timeout()
            && state.timer.is_none_or(|timer| due < timer)
        {
            self.earlier.notify_one();
        }
    }
}

impl Controlled for Shared {
    fn watch(&self, observer: Arc<dyn Observer>) {
        self.lock().link.watch(observer);
    }

    fn unwatch(&self, observer: &Arc<dyn Observer>) {
        self.lock().link.unwatch(observer);
    }

    fn counters(&self) -> LinkCounters {
        let state = self.lock();
        LinkCounters {
            clients: None,
            undelivered: state.undelivered,
            up: state.link.direction(Way::Up).counters(),
            down: state.link.direction(Way::Down).counters(),
        }
    }

    fn options(&self, way: Way) -> LinkOptions {
        *self.lock().link.direction(way).options()
    }

    fn set_options(&self, up: LinkOptions, down: LinkOptions) {
        let now = Instant::now();
        let state = &mut *self.lock();
        state.link.set_options(Way::Up, up, now);
        state.link.set_options(Way::Down, down, now);
        self.wake_if_earlier(state);
    }
}

/// An IP packet.
#[derive(Debug, Clone)]
struct Frame(Box<[u8]>);

const UDP: u8 = 17;
const UDP_HEADER: usize = 8;
/// Without options.
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// Both bits of the ECN field (RFC 3168 section 5); none of them: the sender understands no marks.
const CE: u8 = 0b11;

impl Frame {
    /// That of IP.
    fn version(&self) -> Option<u8> {
        self.0.first().map(|first| first >> 4)
    }

    /// The ECN field: the last bits of IPv4's second byte, and of IPv6's traffic class, which begins
    /// in the middle of its first byte.
    fn ecn(&self) -> u8 {
        match self.version() {
            Some(4) if self.0.len() >= IPV4_HEADER => self.0[1] & CE,
            Some(6) if self.0.len() >= IPV6_HEADER => (self.0[1] >> 4) & CE,
            _ => 0,
        }
    }
}

impl Packet for Frame {
    fn size(&self) -> usize {
        self.0.len()
    }

    fn payload(&self) -> &[u8] {
        &self.0
    }

    fn is_ect(&self) -> bool {
        self.ecn() != 0
    }

    fn set_ce(&mut self) {
        match self.version() {
            Some(4) if self.0.len() >= IPV4_HEADER => {
                let word = |frame: &[u8]| u16::from_be_bytes([frame[0], frame[1]]);
                let before = word(&self.0);
                self.0[1] |= CE;
                let checksum = u16::from_be_bytes([self.0[10], self.0[11]]);
                let checksum = amended(checksum, before, word(&self.0));
                self.0[10..12].copy_from_slice(&checksum.to_be_bytes());
            }
            // Its header has no checksum, and UDP's and TCP's do not cover the field.
            Some(6) if self.0.len() >= IPV6_HEADER => self.0[1] |= CE << 4,
            _ => {}
        }
    }

    fn take(&mut self, damage: Damage) -> Option<usize> {
        let (protocol, header) = match self.version() {
            Some(4) => {
                let header = usize::from(self.0[0] & 0xf) * 4;
                // More fragments, or an offset: no whole UDP datagram (RFC 791 section 3.1).
                let part = self
                    .0
                    .get(6..8)
                    .is_none_or(|bytes| bytes[0] & 0x3f != 0 || bytes[1] != 0);
                (self.0.get(9).filter(|_| !part).copied(), header)
            }
            Some(6) => (self.0.get(6).copied(), IPV6_HEADER),
            _ => (None, 0),
        };
        let segment = self.0.get_mut(header..)?;
        if protocol != Some(UDP) || segment.len() < UDP_HEADER {
            let (place, _) = damage.strike(segment)?;
            return Some(header + place);
        }
        let (udp, payload) = segment.split_at_mut(UDP_HEADER);
        let (place, before) = damage.strike(payload)?;
        let word = |byte: u8| {
            if place % 2 == 0 {
                u16::from(byte) << 8
            } else {
                byte.into()
            }
        };
        let checksum = u16::from_be_bytes([udp[6], udp[7]]);
        // 0: the sender made none (RFC 768).
        if checksum != 0 {
            let checksum = match amended(checksum, word(before), word(payload[place])) {
                // A checksum of 0 is written as its other form.
                0 => 0xffff,
                checksum => checksum,
            };
            udp[6..8].copy_from_slice(&checksum.to_be_bytes());
        }
        Some(header + UDP_HEADER + place)
    }
}

/// The checksum after one of the words it covers has become another one (RFC 1624 section 3).
fn amended(checksum: u16, before: u16, after: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!before) + u32::from(after);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    // Two folds leave 16 bits.
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// Damages by a link, the only one who can.
    fn damaged(frame: Vec<u8>, seed: u64) -> (Vec<u8>, bool) {
        let options = LinkOptions {
            corrupt: 100.0,
            ..LinkOptions::default()
        };
        let now = Instant::now();
        let mut link = Link::new(options, options, seed, now);
        link.handle_input(Way::Up, Frame(frame.into()), now);
        let (_, frame) = link
            .poll_output(now + Duration::from_secs(1))
            .expect("arrived");
        let corrupted = link.direction(Way::Up).counters().corrupted == 1;
        (frame.0.into(), corrupted)
    }

    /// The sum of big-endian words without the carries lost (RFC 1071).
    fn sum(bytes: &[u8]) -> u16 {
        let mut sum: u32 = bytes
            .chunks(2)
            .map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// What a UDP checksum covers, over IPv4 or IPv6.
    fn covered(frame: &[u8], header: usize) -> Vec<u8> {
        let segment = &frame[header..];
        let addresses = if header == 40 {
            &frame[8..40]
        } else {
            &frame[12..20]
        };
        let length = (segment.len() as u16).to_be_bytes();
        [addresses, &[0, UDP], &length, segment].concat()
    }

    fn udp(payload: &[u8], header: usize, checksummed: bool) -> Vec<u8> {
        let mut frame = vec![0; header];
        if header == 40 {
            (frame[0], frame[6]) = (0x60, UDP);
        } else {
            (frame[0], frame[6], frame[9]) = (0x45, 0x40, UDP);
        }
        frame[header - 8..].copy_from_slice(&[10, 77, 0, 1, 10, 77, 0, 2]);
        let length = (payload.len() + UDP_HEADER) as u16;
        frame.extend([0xc0, 0, 0xc0, 1]);
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        if checksummed {
            let checksum = !sum(&covered(&frame, header));
            let checksum = if checksum == 0 { 0xffff } else { checksum };
            frame[header + 6..header + 8].copy_from_slice(&checksum.to_be_bytes());
        }
        frame
    }

    proptest! {
        #[test]
        fn a_damaged_datagram_has_a_right_checksum(
            payload in prop::collection::vec(any::<u8>(), 1..64),
            header in prop_oneof![Just(20), Just(40)],
            seed: u64,
        ) {
            let frame = udp(&payload, header, true);
            let (after, corrupted) = damaged(frame.clone(), seed);
            prop_assert!(corrupted);
            prop_assert_eq!(&after[..header + 6], &frame[..header + 6]);
            let changed = after[header + 8..].iter().zip(&payload);
            prop_assert_eq!(changed.filter(|(now, then)| now != then).count(), 1);
            prop_assert_eq!(sum(&covered(&after, header)), 0xffff);
        }

        #[test]
        fn no_packet_is_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), seed: u64) {
            let (after, corrupted) = damaged(bytes.clone(), seed);
            prop_assert_eq!(after.len(), bytes.len());
            prop_assert_eq!(after != bytes, corrupted);
        }
    }

    #[test]
    fn a_mark_is_in_the_header_and_its_checksum() {
        for ecn in 0..4 {
            let mut four = udp(&[7; 30], 20, true);
            (four[1], four[8]) = (0xb8 | ecn, 64);
            let checksum = !sum(&four[..20]);
            four[10..12].copy_from_slice(&checksum.to_be_bytes());
            let mut six = udp(&[7; 30], 40, true);
            (six[0], six[1]) = (0x6b, 0x8f | (ecn << 4));
            for before in [four, six] {
                let mut frame = Frame(before.clone().into());
                assert_eq!(frame.is_ect(), ecn != 0);
                if !frame.is_ect() {
                    continue;
                }
                frame.set_ce();
                assert_eq!(frame.ecn(), CE);
                if before.len() == 58 {
                    assert_eq!(sum(&frame.0[..20]), 0xffff);
                    assert_eq!((frame.0[0], frame.0[1]), (before[0], 0xb8 | CE));
                    assert_eq!(
                        (&frame.0[2..10], &frame.0[12..]),
                        (&before[2..10], &before[12..])
                    );
                } else {
                    assert_eq!((frame.0[0], frame.0[1]), (before[0], 0x8f | (CE << 4)));
                    assert_eq!(frame.0[2..], before[2..]);
                }
            }
        }
        // What is no IP packet has no such field.
        for bytes in [&[][..], &[0x45, 3], &[0x65; 30], &[0x15; 60]] {
            let mut frame = Frame(bytes.into());
            assert!(!frame.is_ect());
            frame.set_ce();
            assert_eq!(*frame.0, *bytes);
        }
    }

    #[test]
    fn what_is_no_datagram_is_damaged_behind_its_header() {
        let mut tcp = udp(&[7; 30], 20, false);
        tcp[9] = 6;
        for seed in 0..100 {
            let (after, corrupted) = damaged(tcp.clone(), seed);
            assert!(corrupted);
            assert_eq!(after[..20], tcp[..20]);
        }
        // A datagram without a checksum stays one; a fragment's first bytes are no UDP header.
        let plain = udp(&[7; 30], 20, false);
        assert_eq!(damaged(plain.clone(), 1).0[26..28], [0, 0]);
        let mut fragment = udp(&[7; 2], 20, true);
        fragment[6] = 0x20;
        let hit_in_header =
            (0..100).any(|seed| damaged(fragment.clone(), seed).0[20..24] != fragment[20..24]);
        assert!(hit_in_header);
    }
}

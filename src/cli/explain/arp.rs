//! ARP (RFC 826): which hardware address has an IP address? Asked of all on the link, before the first packet to a
//! neighbour can leave.

use std::{
    fmt, io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    config::MacAddress,
    net::{Frame, Frames},
};

/// The kind of frame.
const ETHERTYPE: u16 = 0x0806;

/// One ARP frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Arp {
    /// The interface.
    pub(in crate::cli) device: String,
    /// Whether this machine has sent it.
    pub(in crate::cli) is_outgoing: bool,
    /// The frame's sender and receiver.
    pub(in crate::cli) frame: (MacAddress, MacAddress),
    /// Whether it is a question.
    pub(in crate::cli) asks: bool,
    /// Who says so.
    pub(in crate::cli) sender: (MacAddress, Ipv4Addr),
    /// Who is asked for, or told.
    pub(in crate::cli) target: (MacAddress, Ipv4Addr),
}

impl Arp {
    /// Reads a frame; `None`: it is not one of IPv4 over Ethernet.
    pub(super) fn read(frame: &Frame) -> Option<Self> {
        let bytes = frame.bytes.get(..42)?;
        // Ethernet, IPv4, and the lengths of their addresses.
        if bytes[12..20] != [0x08, 0x06, 0, 1, 0x08, 0, 6, 4] {
            return None;
        }
        let asks = match bytes[20..22] {
            [0, 1] => true,
            [0, 2] => false,
            _ => return None,
        };
        let mac = |at: usize| Some(MacAddress(bytes.get(at..at + 6)?.try_into().ok()?));
        let ip = |at: usize| {
            let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(Ipv4Addr::from(bytes))
        };
        Some(Self {
            device: frame.device.clone(),
            is_outgoing: frame.is_outgoing,
            frame: (mac(6)?, mac(0)?),
            asks,
            sender: (mac(22)?, ip(28)?),
            target: (mac(32)?, ip(38)?),
        })
    }

    /// The course's table and what there is to learn, each a label and a text.
    pub(super) fn rows(&self) -> [(&'static str, String); 5] {
        let (from, to) = &self.frame;
        let everybody = match to.0 {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => " (all on the link)",
            _ => "",
        };
        let (what, why) = match self.asks {
            true => (
                "question",
                "a frame needs the MAC of the next hop, and only its IP address is known: the packet waits in \
                 the kernel meanwhile. DNS finds the address of a name and asks one server, over any number of \
                 routers; ARP finds the MAC of an address and asks all on the link, without a server",
            ),
            false => (
                "answer",
                "only who has the address answers, and to the asker alone. It is noted in the neighbour table \
                 (`ip neighbour`), as DNS's answers are in a cache, so that it is not asked for each packet",
            ),
        };
        [
            ("application", format!("none: an ARP {what} is the kernel's own")),
            ("network", "none: ARP is no IP packet, and no router lets it through".to_owned()),
            ("link", format!("Ethernet on {}: MAC {from} → {to}{everybody}", self.device)),
            ("why", why.to_owned()),
            (
                "behind a NAT",
                "the client asks for the MAC of its router, the NAT, never for a server's; outside the NAT asks \
                 in its own name"
                    .to_owned(),
            ),
        ]
    }
}

/// As tcpdump has it.
impl fmt::Display for Arp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mac, sender) = &self.sender;
        let (_, target) = &self.target;
        match self.asks {
            true if sender == target => write!(f, "announcement: {sender} is at {mac}, mine"),
            true if sender.is_unspecified() => write!(f, "who has {target}? Is it free?"),
            true => write!(f, "who has {target}? Tell {sender}"),
            false => write!(f, "{sender} is at {mac}"),
        }
    }
}

/// Hears ARP until it is dropped.
pub(in crate::cli) struct Watch {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The longest that it takes to end.
const PATIENCE: Duration = Duration::from_millis(50);

impl Watch {
    /// Has `see` called with each ARP frame of the calling thread's network namespace from now on.
    ///
    /// # Errors
    /// The kernel refuses without CAP_NET_RAW.
    pub(in crate::cli) fn start(
        mut see: impl FnMut(&Frame, Arp) + Send + 'static,
    ) -> io::Result<Self> {
        let frames = Frames::open(ETHERTYPE)?;
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let thread = thread::Builder::new()
            .name("arp".to_owned())
            .spawn(move || {
                loop {
                    // Asked before, so that what has come until then is seen.
                    let ended = end.load(Ordering::Relaxed);
                    match frames.next(PATIENCE) {
                        Ok(Some(frame)) => {
                            if let Some(arp) = Arp::read(&frame) {
                                see(&frame, arp);
                            }
                        }
                        Ok(None) if ended => return,
                        Ok(None) => {}
                        Err(error) => {
                            tracing::warn!(%error, "ARP is not heard any more");
                            return;
                        }
                    }
                }
            })?;
        Ok(Self {
            ended,
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panicked: the hook has said so.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn frame(bytes: Vec<u8>) -> Frame {
        Frame {
            at: Instant::now(),
            device: "eth0".to_owned(),
            is_outgoing: true,
            bytes,
        }
    }

    fn bytes(operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        let mut bytes = vec![0xff; 6];
        bytes.extend([2, 0, 0, 0, 0, 7, 8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
        bytes.extend([2, 0, 0, 0, 0, 7]);
        bytes.extend(sender);
        bytes.extend([0; 6]);
        bytes.extend(target);
        bytes
    }

    #[test]
    fn questions_and_answers_are_read() {
        for (operation, sender, target, words) in [
            (
                1,
                [10, 20, 30, 41],
                [10, 20, 30, 40],
                "who has 10.20.30.40? Tell 10.20.30.41",
            ),
            (
                1,
                [0; 4],
                [10, 20, 30, 41],
                "who has 10.20.30.41? Is it free?",
            ),
            (
                2,
                [10, 20, 30, 40],
                [10, 20, 30, 41],
                "10.20.30.40 is at 02:00:00:00:00:07",
            ),
        ] {
            let arp = Arp::read(&frame(bytes(operation, sender, target))).expect("ARP");
            assert_eq!(arp.to_string(), words);
            assert!(
                arp.rows()[2]
                    .1
                    .contains("02:00:00:00:00:07 → ff:ff:ff:ff:ff:ff (all on the link)")
            );
        }
    }

    #[test]
    fn no_other_frame_is_taken_for_one() {
        let good = bytes(1, [10, 0, 0, 1], [10, 0, 0, 2]);
        for cut in 0..good.len() {
            assert_eq!(Arp::read(&frame(good[..cut].to_vec())), None);
        }
        for place in 12..22 {
            let mut bad = good.clone();
            bad[place] ^= 0x40;
            assert_eq!(Arp::read(&frame(bad)), None, "{place}");
        }
    }
}

//! Events on their way to an observer.

use std::{io::IoSlice, sync::Arc, time::Instant};

use super::{
    super::{
        link::{Crossing, LinkPlace, Overtaken, Verdict},
        packet::{Fate, Packet, Place, When},
        transport::{Life, Step, Traced},
    },
    PACKETS, STEPS, VERDICTS,
};

/// So much is kept of the packet that a verdict is about: enough for the transport's header, which tells packets
/// apart.
const START: usize = 24;

/// One event, as an observer reads it.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A packet has passed a socket.
    Packet(Packet<'a>),
    /// What a link or a connection tells.
    Other(Other<'a>),
}

/// An event that is no packet.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is read where it is made: nobody keeps one"
)]
pub enum Other<'a> {
    /// A link has told what it does to a packet.
    Verdict(Judged<'a>),
    /// A packet has come out of a link behind others.
    Overtaken {
        /// Which packet.
        crossing: Crossing,
        /// When it came out.
        arrived: Instant,
        /// How many came out before it that were handed in after it.
        packets: u64,
    },
    /// A step of a connection.
    Step {
        /// Whose.
        of: &'a Traced,
        /// By the connection's own time.
        at: Instant,
        /// What happened.
        step: &'a Step,
    },
    /// A connection begins, is connected, or ends.
    Life {
        /// Whose.
        of: &'a Traced,
        /// When.
        at: Instant,
        /// What happened.
        life: Life,
    },
}

/// A verdict, and the link that gave it.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// The link.
    pub link: LinkPlace,
    /// What the link said. Its payload is the packet's start alone.
    pub verdict: Verdict<'a>,
    /// The payload's length, bytes.
    pub length: usize,
}

impl Judged<'_> {
    /// Which packet of the link it is about.
    pub fn crossing(&self) -> Crossing {
        self.link.crossing(self.verdict.way, self.verdict.number)
    }
}

/// Events that are handed over together, in their order.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) records: Vec<Record>,
    bytes: Vec<u8>,
    /// The memory that events other than packets take outside of their records, bytes.
    boxed: usize,
    /// How many packets are announced of which it is not known yet whether they were sent.
    pub(super) pending: usize,
}

#[derive(Debug)]
pub(super) struct Record {
    what: Kept,
    /// Whether it has happened for certain: an announced packet may not be sent after all.
    pub(super) is_settled: bool,
}

/// What is kept of an event.
#[derive(Debug)]
pub(super) enum Kept {
    Packet {
        when: When,
        place: Place,
        fate: Fate,
        crossing: Option<Crossing>,
        offset: usize,
        kept: usize,
        length: usize,
    },
    Verdict(Box<KeptVerdict>),
    Overtaken(Box<(Crossing, Instant, u64)>),
    Step(Box<(Arc<Traced>, Instant, Step)>),
    Life(Box<(Arc<Traced>, Instant, Life)>),
}

#[derive(Debug)]
pub(super) struct KeptVerdict {
    link: LinkPlace,
    verdict: Verdict<'static>,
    length: usize,
    start: [u8; START],
}

impl Kept {
    pub(super) fn verdict(link: LinkPlace, verdict: &Verdict<'_>) -> Self {
        let payload = verdict.payload;
        let mut start = [0; START];
        start
            .iter_mut()
            .zip(payload)
            .for_each(|(kept, byte)| *kept = *byte);
        Self::Verdict(Box::new(KeptVerdict {
            link,
            verdict: Verdict {
                way: verdict.way,
                number: verdict.number,
                offered: verdict.offered,
                size: verdict.size,
                payload: &[],
                peer: verdict.peer,
                queue: verdict.queue,
                outcome: verdict.outcome,
            },
            length: payload.len(),
            start,
        }))
    }

    pub(super) fn overtaken(link: LinkPlace, overtaken: &Overtaken<'_>) -> Self {
        let crossing = link.crossing(overtaken.way, overtaken.number);
        Self::Overtaken(Box::new((crossing, overtaken.arrived, overtaken.packets)))
    }

    /// The memory that it takes outside of its record, bytes.
    fn boxed(&self) -> usize {
        match self {
            Self::Packet { .. } => 0,
            Self::Verdict(_) => size_of::<KeptVerdict>(),
            Self::Overtaken(_) => size_of::<(Crossing, Instant, u64)>(),
            Self::Step(_) => size_of::<(Arc<Traced>, Instant, Step)>(),
            Self::Life(_) => size_of::<(Arc<Traced>, Instant, Life)>(),
        }
    }
}

impl Record {
    /// The record of an event that has happened already.
    pub(super) fn settled(what: Kept) -> Self {
        Self {
            what,
            is_settled: true,
        }
    }

    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.what.boxed()
    }

    pub(super) fn kind(&self) -> u8 {
        match self.what {
            Kept::Packet { .. } => PACKETS,
            Kept::Verdict(_) | Kept::Overtaken(_) => VERDICTS,
            Kept::Step(_) | Kept::Life(_) => STEPS,
        }
    }

    /// Notes over which link the packet went.
    pub(super) fn cross(&mut self, over: Option<Crossing>) {
        if let Kept::Packet { crossing, .. } = &mut self.what {
            *crossing = over;
        }
    }

    /// Leaves no more than the first `bytes` of the packet.
    pub(super) fn cut(&mut self, bytes: usize) {
        if let Kept::Packet { kept, length, .. } = &mut self.what {
            *length = (*length).min(bytes);
            *kept = (*kept).min(bytes);
        }
    }
}

impl Batch {
    /// The memory that the batch takes, bytes.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.records.len() * size_of::<Record>() + self.boxed
    }

    /// What it holds of memory, whether used or not.
    pub fn held(&self) -> usize {
        self.bytes.capacity() + self.records.capacity() * size_of::<Record>() + self.boxed
    }

    /// Gives back memory, if much of it is not used: for who keeps it.
    pub fn shrink(&mut self) {
        // Copying what is nearly full costs more than it gives.
        if self.held() - self.size() > self.size() / 2 {
            self.bytes.shrink_to_fit();
            self.records.shrink_to_fit();
        }
    }

    /// Its events, in their order.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        let passed = self.records.iter().filter(|record| record.is_settled);
        passed.map(|record| match &record.what {
            Kept::Packet {
                when,
                place,
                fate,
                crossing,
                offset,
                kept,
                length,
            } => Event::Packet(Packet {
                when: *when,
                place: *place,
                fate: *fate,
                crossing: *crossing,
                payload: self.bytes.get(*offset..offset + kept).unwrap_or_default(),
                length: *length,
            }),
            Kept::Verdict(kept) => {
                let start = kept.length.min(START);
                Event::Other(Other::Verdict(Judged {
                    link: kept.link,
                    verdict: Verdict {
                        payload: &kept.start[..start],
                        ..kept.verdict
                    },
                    length: kept.length,
                }))
            }
            Kept::Overtaken(kept) => {
                let (crossing, arrived, packets) = **kept;
                Event::Other(Other::Overtaken {
                    crossing,
                    arrived,
                    packets,
                })
            }
            Kept::Step(kept) => Event::Other(Other::Step {
                of: &kept.0,
                at: kept.1,
                step: &kept.2,
            }),
            Kept::Life(kept) => Event::Other(Other::Life {
                of: &kept.0,
                at: kept.1,
                life: kept.2,
            }),
        })
    }

    /// Those of its events that are packets.
    pub fn packets(&self) -> impl Iterator<Item = Packet<'_>> {
        self.events().filter_map(|event| match event {
            Event::Packet(packet) => Some(packet),
            Event::Other(_) => None,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.bytes.clear();
        self.boxed = 0;
    }

    pub(super) fn add(&mut self, record: Record) {
        self.boxed += record.what.boxed();
        self.records.push(record);
    }

    /// Adds a packet that is not settled yet, `kept` bytes of its `parts` with it.
    pub(super) fn add_packet(
        &mut self,
        when: When,
        place: &Place,
        fate: Fate,
        parts: &[IoSlice<'_>],
        kept: usize,
    ) {
        let offset = self.bytes.len();
        for part in parts {
            let room = kept - (self.bytes.len() - offset);
            self.bytes.extend_from_slice(&part[..part.len().min(room)]);
        }
        self.records.push(Record {
            what: Kept::Packet {
                when,
                place: *place,
                fate,
                crossing: None,
                offset,
                kept,
                length: parts.iter().map(|part| part.len()).sum(),
            },
            is_settled: false,
        });
    }
}

//! A schedule: what the network does to the datagrams, what an attacker adds, what the applications call
//! and when.

use super::arbitrary::{self, Arbitrary};

/// How the run begins.
#[derive(Debug, Arbitrary)]
pub(crate) struct Setting {
    pub(crate) seed: u64,
    pub(crate) algorithms: [u8; 2],
    pub(crate) stream_window: u16,
    pub(crate) connection_window: u16,
    pub(crate) streams: u8,
    pub(crate) max_datagram: u16,
    pub(crate) idle: bool,
    pub(crate) keep_alive: bool,
    /// Without them everything has to arrive in the end.
    pub(crate) attackers: bool,
}

/// One thing that happens.
#[derive(Debug, Arbitrary)]
pub(crate) enum Step {
    /// A datagram under way arrives, whichever.
    Deliver { up: bool, which: u8 },
    /// So many arrive in their order.
    DeliverSome { up: bool, count: u8 },
    /// It never arrives.
    Drop { up: bool, which: u8 },
    /// It arrives, and once more later.
    Duplicate { up: bool, which: u8 },
    /// It is marked: the network is congested.
    Mark { up: bool, which: u8 },
    /// One of its bytes is another; its checksum may be made to fit.
    Damage {
        up: bool,
        which: u8,
        at: u16,
        with: u8,
        reseal: bool,
    },
    /// An attacker's DATA: its number so far from the next one expected.
    Forge {
        up: bool,
        from: u8,
        ahead: i8,
        frames: Vec<u8>,
    },
    /// An attacker's datagram of any bytes.
    Throw {
        up: bool,
        from: u8,
        bytes: Vec<u8>,
        seal: bool,
    },
    /// Time passes, milliseconds.
    Wait(u16),
    /// A NAT has the client seem elsewhere.
    Move(u8),
    /// The kernel refuses datagrams of this size.
    TooBig { client: bool, size: u16 },
    /// An application calls.
    Call { client: bool, call: Call },
}

#[derive(Debug, Arbitrary)]
pub(crate) enum Call {
    Open,
    Write { stream: u8, length: u16 },
    Finish(u8),
    Reset(u8),
    Stop(u8),
    Read { stream: u8, most: u16 },
    Close,
}

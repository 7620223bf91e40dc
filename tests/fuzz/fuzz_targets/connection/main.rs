//! A client and a server under any schedule: what the network does to their datagrams, what an
//! attacker adds, what the applications call and when. Nothing panics, no limit is left behind,
//! every byte that is read is right; and where nobody lied, everything arrives in the end.

#![no_main]

mod peer;
mod world;

use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};

use self::world::World;

/// How the run begins.
#[derive(Debug, Arbitrary)]
struct Setting {
    seed: u64,
    algorithms: [u8; 2],
    stream_window: u16,
    connection_window: u16,
    streams: u8,
    max_datagram: u16,
    idle: bool,
    keep_alive: bool,
    /// Without them everything has to arrive in the end.
    attackers: bool,
}

/// One thing that happens.
#[derive(Debug, Arbitrary)]
enum Step {
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
enum Call {
    Open,
    Write { stream: u8, length: u16 },
    Finish(u8),
    Reset(u8),
    Stop(u8),
    Read { stream: u8, most: u16 },
    Close,
}

fuzz_target!(|input: (Setting, Vec<Step>)| {
    let (setting, steps) = input;
    let mut world = World::new(&setting);
    for step in steps.into_iter().take(400) {
        world.run(step);
    }
    world.settle();
});

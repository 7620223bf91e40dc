//! Why the link lost a packet, and the losses that are kept.

use crate::{
    compare::outcome::{Loss, LossCause},
    watch::event::link::{self, Congestion, Outcome},
};

/// Losses that are kept one by one; all are counted.
const MOST_LOSSES: usize = 20_000;

/// Keeps a loss among those of its flow, if there is room.
pub(super) fn keep(losses: &mut Vec<Loss>, at_seconds: f64, packet: Option<u64>, cause: LossCause) {
    if losses.len() < MOST_LOSSES {
        losses.push(Loss {
            at_seconds,
            packet,
            cause,
            spurious: false,
        });
    }
}

/// Why a packet was lost, by the link's verdict on it.
pub(super) fn cause(outcome: Outcome) -> LossCause {
    match outcome {
        Outcome::Lost(link::Loss::Random) => LossCause::Random,
        Outcome::Lost(link::Loss::Burst { .. }) => LossCause::Burst,
        Outcome::Lost(link::Loss::QueueFull) => LossCause::QueueFull,
        Outcome::Lost(link::Loss::Policed { .. }) => LossCause::Policer,
        Outcome::Lost(link::Loss::Managed(Congestion::CoDel { .. })) => LossCause::Codel,
        Outcome::Lost(link::Loss::Managed(Congestion::Red { .. })) => LossCause::Red,
        Outcome::Lost(link::Loss::Blackout) => LossCause::Blackout,
        Outcome::Lost(link::Loss::Memory) => LossCause::Unknown,
        Outcome::Delivered(passage) if passage.corrupted.is_some() => LossCause::Corrupt,
        Outcome::Delivered(_) => LossCause::Late,
    }
}

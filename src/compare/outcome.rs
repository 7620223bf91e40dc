//! What came out of an experiment: one shape for the table, `--json`, the HTML report and the SVG.
//!
//! Units are seconds, bytes, packets and bits a second, and shares are of 1. What could not be seen is
//! `None`, never a guess: the kernel's TCP does not say, for one, which packet was lost to what.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::series::Series;
use crate::config::LinkOptions;

/// An experiment and what came out of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was asked.
    pub experiment: Experiment,
    /// On what.
    pub environment: Environment,
    /// Each time that the link was up, in order: with one sender after another, or with all together.
    pub runs: Vec<Run>,
    /// If a value was swept.
    pub sweep: Option<Sweep>,
}

/// What was asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// The command line that repeats it, a word each.
    pub command: Vec<String>,
    /// A name, if its file gives it one.
    pub title: Option<String>,
    /// What it is to answer.
    pub question: Option<String>,
    /// What to look for in the plots.
    pub look_for: Option<String>,
    /// The answer, to be hidden until it is wanted.
    pub answer: Option<String>,
    /// All chance of the link follows from it.
    pub seed: u64,
    /// The link.
    pub link: Link,
    /// Changes of the link while it runs.
    pub changes: Vec<LinkChange>,
    /// Whether the senders share the link; else they have it one after another.
    pub together: bool,
    /// In virtual time.
    pub simulated: bool,
    /// How often it was repeated, each time with another seed.
    pub repeats: u32,
    /// What each sender transfers; `None`: as much as it can in `time_limit_seconds`.
    pub transfer_bytes: Option<u64>,
    /// When a run ends at the latest.
    pub time_limit_seconds: Option<f64>,
}

/// A link, in words and in numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// As it would be asked for: `rate=20mbit,delay=25ms`.
    pub words: String,
    /// From the senders to the receivers, the way of the data.
    pub down: Direction,
    /// Back, the way of the acknowledgements.
    pub up: Direction,
}

/// One direction of a link.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Direction {
    /// `None`: no limit.
    pub rate_bits_per_second: Option<u64>,
    /// How long the wire is.
    pub delay_seconds: f64,
    /// By how much that varies.
    pub jitter_seconds: f64,
    /// Bytes that may wait for the rate; `None`: there is no queue.
    pub queue_bytes: Option<u64>,
    /// What the policer before the queue lets through in the long run; `None`: there is none.
    #[serde(default)]
    pub policer_bits_per_second: Option<u64>,
    /// And at once.
    #[serde(default)]
    pub policer_burst_bytes: Option<u64>,
    /// What manages the queue: `codel`, `red`; `None`: nothing, it drops what finds no room.
    #[serde(default)]
    pub aqm: Option<String>,
    /// Whether that marks packets whose sender understands it.
    #[serde(default)]
    pub ecn: bool,
    /// The share of packets that are lost on the wire.
    pub loss: f64,
    /// How many in a row, in the mean.
    pub burst_packets: Option<f64>,
    /// The share of packets that are overtaken.
    pub reorder: f64,
    /// The share of packets that come twice.
    pub duplicate: f64,
    /// The share of packets that are damaged.
    pub corrupt: f64,
}

impl From<&LinkOptions> for Direction {
    fn from(options: &LinkOptions) -> Self {
        Self {
            rate_bits_per_second: options.rate.map(Into::into),
            delay_seconds: options.delay.as_secs_f64(),
            jitter_seconds: options.jitter.as_secs_f64(),
            queue_bytes: options.rate.map(|_| options.queue_limit() as u64),
            policer_bits_per_second: options.policer.map(|policer| policer.rate.get()),
            policer_burst_bytes: options.policer.map(|policer| policer.burst as u64),
            aqm: options.aqm.map(|aqm| aqm.name().to_owned()),
            ecn: options.ecn,
            loss: options.loss / 100.0,
            burst_packets: options.burst,
            reorder: options.reorder / 100.0,
            duplicate: options.duplicate / 100.0,
            corrupt: options.corrupt / 100.0,
        }
    }
}

/// A change of the link.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkChange {
    /// When, after the run's start.
    pub at_seconds: f64,
    /// As it was asked for: `loss=5`.
    pub words: String,
}

/// On what an experiment ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// labnet's version.
    pub labnet: String,
    /// The kernel's release, if the kernel took part.
    pub kernel: Option<String>,
    /// What of the kernel's settings matters, by name.
    pub sysctls: BTreeMap<String, String>,
    /// What controlled the sending.
    pub controllers: Vec<Controller>,
}

/// A congestion controller.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Controller {
    /// The sender that it belongs to: `bbr`, `tcp-bbr`, `exec:mine.py`.
    pub sender: String,
    /// Whose it is and after which text: `labnet, draft-ietf-ccwg-bbr`, `Linux, BBR v1`.
    pub version: String,
}

/// One time that the link was up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The how-manieth repetition it belongs to, from 1.
    pub repeat: u32,
    /// The link's seed.
    pub seed: u64,
    /// The swept values, by the link's option.
    pub swept: BTreeMap<String, f64>,
    /// How long it took.
    pub seconds: f64,
    /// The senders, one or several.
    pub flows: Vec<Flow>,
    /// Jain's fairness index of the goodputs, 1 / n to 1; `None` with a single flow.
    pub jain_index: Option<f64>,
    /// Bytes that waited in the link's queue, on the way of the data.
    pub queue_bytes: Series,
}

/// One sender's transfer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Its name, unique in the run: `cubic`, `tcp-cubic`, `quic`, `cubic 2`.
    pub name: String,
    /// What sends: `cubic`, `tcp-cubic`, `quic`.
    pub sender: String,
    /// Whether everything arrived that was to be transferred, undamaged.
    pub finished: bool,
    /// What went wrong, if anything did.
    pub failure: Option<String>,
    /// When it began, after the run's start.
    pub began_seconds: f64,
    /// How long it took.
    pub seconds: f64,
    /// What it reached.
    pub totals: Totals,
    /// How it went.
    pub trace: Trace,
}

/// What one sender reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Bytes of the file that arrived, once each and in order.
    pub goodput_bytes: u64,
    /// The same a second, in bits.
    pub goodput_bits_per_second: f64,
    /// Of the link's rate; `None`: the link has no limit.
    pub link_share: Option<f64>,
    /// Bytes of the packets that carried a piece of the file again; of quinn, which does not count these, of
    /// the packets that it took for lost.
    pub sent_again_bytes: Option<u64>,
    /// Packets that carried data; of QUIC all packets of the sender.
    pub packets_sent: Option<u64>,
    /// So many would have been enough.
    pub packets_needed: Option<u64>,
    /// Packets that the sender took for lost.
    pub packets_lost_seen: Option<u64>,
    /// Packets that the link lost of it.
    pub packets_lost_by_link: Option<u64>,
    /// Packets that the link's queue management marked (ECN) instead.
    #[serde(default)]
    pub packets_marked_by_link: Option<u64>,
    /// Packets that the sender took for lost and that had arrived.
    pub packets_spurious: Option<u64>,
    /// Round trips as the sender measured them; TCP's as the kernel smooths them.
    pub rtt_seconds: Option<Spread>,
    /// How long packets waited in the link's queue.
    pub queue_delay_seconds: Option<Spread>,
    /// From the first packet of the connection to the first byte of the file.
    pub first_byte_seconds: Option<f64>,
    /// The same in round trips of the empty link.
    pub first_byte_round_trips: Option<f64>,
    /// How long each limit held the sender back, by its word: `congestion_window`, `pacing`,
    /// `flow_control`, `application`, `amplification`. Of QUIC the first two are told, and `application` for
    /// all that is neither; TCP tells none.
    pub limited_seconds: BTreeMap<String, f64>,
    /// How often the program has answered that controlled it from a process of its own, if one did.
    #[serde(default)]
    pub program_answers: Option<u64>,
    /// So often later than a smoothed round trip after what it answers; in virtual time never.
    #[serde(default)]
    pub program_answers_late: Option<u64>,
    /// How its files fared, if they were several.
    pub files: Option<Files>,
}

/// How files fared that came at once over one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Files {
    /// How many.
    pub count: usize,
    /// When the first was whole, after the connection's beginning.
    pub first_whole_seconds: Option<f64>,
    /// When half of them were; `None`: not all came.
    pub median_whole_seconds: Option<f64>,
    /// When all were.
    pub last_whole_seconds: Option<f64>,
    /// How long one of them stood still, in the mean: pauses between two pieces of it, as its receiver read
    /// them, that were longer than a round trip of the empty link.
    pub stood_still_seconds: f64,
}

/// The middle and the upper end of what was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half of it is below.
    pub p50: f64,
    /// Nineteen of twenty are below.
    pub p95: f64,
}

/// How one sender's transfer went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// The congestion window.
    pub window_bytes: Series,
    /// The slow-start threshold, where there is one.
    pub ssthresh_bytes: Series,
    /// Bytes in flight.
    pub in_flight_bytes: Series,
    /// Round trips.
    pub rtt_seconds: Series,
    /// What arrived, once each: each point the mean since the one before.
    pub goodput_bits_per_second: Series,
    /// The pace that the sender allows itself.
    pub pacing_bits_per_second: Series,
    /// Packets that the sender took for lost; of TCP and QUIC, which do not tell them one by one, those that
    /// the link lost or damaged.
    pub losses: Vec<Loss>,
    /// When those were sent that the link's queue management marked (ECN) instead of dropping them.
    #[serde(default)]
    pub marks_at_seconds: Vec<f64>,
    /// Times that the window shrank: with labnet's own senders all, with QUIC those that answer losses or
    /// marks, with TCP none.
    pub cuts: Vec<Cut>,
    /// The controller's phases, without a gap.
    pub phases: Vec<Phase>,
}

/// A packet that was lost, or taken for lost.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// When the sender took it for lost; of TCP and QUIC, when it was handed to the link.
    pub at_seconds: f64,
    /// Its number, if it is known.
    pub packet: Option<u64>,
    /// Why.
    pub cause: LossCause,
    /// The sender took it for lost, and it had arrived.
    pub spurious: bool,
}

/// Why a packet was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossCause {
    /// By chance, on the wire.
    Random,
    /// By chance, as the one before it.
    Burst,
    /// The queue had no room.
    QueueFull,
    /// It was more than the policer lets through.
    Policer,
    /// CoDel dropped it.
    Codel,
    /// RED dropped it.
    Red,
    /// On the wire in a black-out.
    Blackout,
    /// It came damaged and was thrown away.
    Corrupt,
    /// It is none: the packet arrived with a mark (ECN).
    Marked,
    /// It is none: the packet arrived, late.
    Late,
    /// Nobody told.
    #[default]
    Unknown,
}

impl LossCause {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Random,
        Self::Burst,
        Self::QueueFull,
        Self::Policer,
        Self::Codel,
        Self::Red,
        Self::Blackout,
        Self::Corrupt,
        Self::Marked,
        Self::Late,
        Self::Unknown,
    ];

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Random => "lost by chance",
            Self::Burst => "lost by chance, in a burst",
            Self::QueueFull => "queue full",
            Self::Policer => "dropped by the policer",
            Self::Codel => "dropped by CoDel",
            Self::Red => "dropped by RED",
            Self::Blackout => "black-out",
            Self::Corrupt => "damaged",
            Self::Marked => "marked (ECN), not lost",
            Self::Late => "late, not lost",
            Self::Unknown => "lost, cause not known",
        }
    }
}

/// A time that the window shrank.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// When.
    pub at_seconds: f64,
    /// The window before.
    pub before_bytes: u64,
    /// The window after.
    pub after_bytes: u64,
    /// Why, as `labnet why` says it.
    pub words: String,
}

/// A stretch of time in one phase of the controller.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// The controller's word for it.
    pub name: String,
    /// From then.
    pub from_seconds: f64,
    /// Until then.
    pub until_seconds: f64,
}

/// What came out at each value of what was swept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// The link's option that took these values, in the option's unit: `loss` in percent.
    pub option: String,
    /// Its unit, for an axis: `%`, `ms`.
    pub unit: String,
    /// One for each sender and value.
    pub points: Vec<SweepPoint>,
    /// What theory says.
    pub bounds: Vec<Bound>,
}

/// What one sender reached at one value: the median of the repetitions and their extremes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// What sends.
    pub sender: String,
    /// The value.
    pub value: f64,
    /// The median of the goodputs.
    pub goodput_bits_per_second: f64,
    /// The least.
    pub least_bits_per_second: f64,
    /// The largest.
    pub most_bits_per_second: f64,
}

/// What theory says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// `Mathis`, `CUBIC`.
    pub name: String,
    /// Where it comes from.
    pub source: String,
    /// The swept value.
    pub values: Vec<f64>,
    /// The goodput that it allows then.
    pub bits_per_second: Vec<f64>,
}

/// The middle of some numbers; of an even count the mean of both. `None` of none.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

/// Jain's fairness index of what each got: 1 if all the same, 1 / n if one has all (Jain, Chiu and Hawe
/// 1984). `None` of fewer than two, or of nothing.
pub fn jain_index(shares: &[f64]) -> Option<f64> {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    let index = sum * sum / (shares.len() as f64 * squares);
    (shares.len() > 1 && index.is_finite()).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jains_index_goes_from_one_over_n_to_one() {
        assert_eq!(jain_index(&[5.0, 5.0, 5.0]), Some(1.0));
        assert_eq!(jain_index(&[7.0, 0.0, 0.0, 0.0]), Some(0.25));
        assert_eq!(jain_index(&[1.0, 2.0]), Some(0.9));
        assert_eq!(jain_index(&[1.0]), None);
        assert_eq!(jain_index(&[0.0, 0.0]), None);
    }

    #[test]
    fn a_direction_is_told_in_base_units() {
        let mut options = LinkOptions::default();
        options
            .set_list("rate=20mbit,delay=25ms,loss=1,queue=125kB,burst=3")
            .expect("right");
        let direction = Direction::from(&options);
        assert_eq!(direction.rate_bits_per_second, Some(20_000_000));
        assert_eq!((direction.delay_seconds, direction.loss), (0.025, 0.01));
        assert_eq!(direction.queue_bytes, Some(125_000));
        let unlimited = Direction::from(&LinkOptions::default());
        assert_eq!(
            (unlimited.rate_bits_per_second, unlimited.queue_bytes),
            (None, None)
        );
    }
}

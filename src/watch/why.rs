//! Why a sender's window is what it is: its record and what the link told of it, in words and
//! numbers.
//!
//! Nothing is guessed. Each sentence tells what the connection's own trace and the link's verdicts
//! hold, and the same numbers stand beside it for programs; where neither knows, it says so.

mod words;

pub(super) use self::words::link_words;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::words::{Subject, change_words, late_words};
use super::{
    event::{
        link::{Congestion, Loss, Outcome},
        transport::{Cause, Limit, Rule},
    },
    fates::{Fate, Fates},
    ring::{Late, Noted, Record, Rings},
};

/// So many changes of the window are told unless more are asked for.
pub const LAST: usize = 8;
/// No more than these may be asked for.
pub const MOST: usize = 1000;
/// Of so many connections it is told, the newest, where a name fits more.
const TOLD: usize = 64;
/// So many changes are told of all these together, or [`LAST`] of each.
const TOGETHER: usize = 4000;
/// So many other connections of a client are named.
const OTHERS: usize = 8;

/// Why one session's window is what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// The server's connection id, 16 hexadecimal digits.
    pub connection_id: String,
    /// The client's connection id, 16 hexadecimal digits: packets to the client carry it, and so a link's verdicts on
    /// them are found.
    pub client_connection_id: String,
    /// The client's name; empty if it gave none.
    pub name: String,
    /// The client's address and port, where it was seen last.
    pub client: std::net::SocketAddr,
    /// What controls the sending.
    pub congestion: String,
    /// Other connections of this client that are remembered, the newest first, by their ids: those of the
    /// same name from the same host. A transfer goes on over a new one where the one before got lost.
    #[serde(default)]
    pub others: Vec<String>,
    /// Whether the session is over.
    pub ended: bool,
    /// How long the session has lasted, or did.
    pub seconds: f64,
    /// Packets declared lost as a sign of congestion.
    pub lost: u64,
    /// What the link did to the lost packets, as far as it had told when they were declared lost.
    pub fates: Vec<LostBy>,
    /// How many packets were declared lost and arrived after all.
    pub spurious: u64,
    /// How many cuts of the window there were.
    pub cuts: usize,
    /// The last changes of the window, the last one last.
    pub changes: Vec<WindowChange>,
    /// The last packets that were declared lost and arrived after all.
    pub late: Vec<LatePacket>,
    /// What keeps the sender from sending more now, or did last, in words.
    pub now: String,
    /// For how long each limit has kept the sender from sending more, the longest first.
    pub limits: Vec<Limited>,
    /// What cannot be known, and why.
    pub unknown: Vec<String>,
}

/// A change of the congestion window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowChange {
    /// In words.
    pub words: String,
    /// When, after the session's beginning.
    pub at_seconds: f64,
    /// When its last step was: a controller that follows a model takes many small ones, which are told as one change.
    pub until_seconds: f64,
    /// How many such steps.
    pub steps: u32,
    /// The window before.
    pub before_bytes: u64,
    /// The window after.
    pub after_bytes: u64,
    /// The slow-start threshold after.
    pub ssthresh_bytes: Option<u64>,
    /// `loss`, `ecn`, `persistent_congestion`, `undone`, `acknowledged` or `idle`.
    pub cause: String,
    /// `multiplied`, `collapsed`, `restored`, `slow_start_over`, `decayed`, `delay`, `in_flight` or
    /// `unsaid`; of a controller that follows a model what bounds the window: `model`,
    /// `inflight_longterm`, `inflight_shortterm`, `probe_rtt`, `startup` or `least`.
    pub reaction: String,
    /// The packet that was answered: the largest number declared lost at once; the one that the link
    /// marked, or the largest acknowledged with the report of a mark.
    pub packet: Option<u64>,
    /// How many were declared lost at once.
    pub packets: Option<u32>,
    /// `packet_threshold` or `time_threshold`.
    pub rule: Option<String>,
    /// The largest number acknowledged then.
    pub largest_acked: Option<u64>,
    /// What the link did to the packet.
    pub link: Option<LinkFate>,
    /// What the client's own link did to the packet then, where the client has added it.
    #[serde(default)]
    pub client_link: Option<LinkFate>,
    /// When the change was undone.
    pub undone_at_seconds: Option<f64>,
}

/// What a link did to a packet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkFate {
    /// `delivered`, `corrupted`, `marked` (and delivered), or the loss's word: `lost_queue`,
    /// `lost_random`, `lost_policer`, `lost_codel`, `lost_red`, `lost_blackout`, `lost_memory`.
    pub fate: String,
    /// Bytes that waited in the link's queue when the packet came.
    pub queue_bytes: usize,
    /// How many bytes may wait there.
    pub queue_limit_bytes: usize,
    /// How long the link's rate takes for the bytes that waited.
    pub queue_seconds: f64,
    /// From the packet's being handed to the link to its coming out, if it came out.
    pub took_seconds: Option<f64>,
    /// How much of that time the packet was held back so that others overtake it.
    pub held_back_seconds: Option<f64>,
    /// How many packets that were handed to the link later had come out earlier, if this one had come out when the
    /// link was asked.
    #[serde(default)]
    pub overtaken_by: u64,
    /// What the policer's bucket held, if that was too little.
    #[serde(default)]
    pub tokens_bytes: Option<u64>,
    /// How long it had waited when CoDel dropped or marked it.
    #[serde(default)]
    pub sojourn_seconds: Option<f64>,
    /// How long the queue was in the mean when RED dropped or marked it.
    #[serde(default)]
    pub average_queue_bytes: Option<u64>,
}

/// A packet that was declared lost and arrived after all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatePacket {
    /// In words.
    pub words: String,
    /// When its acknowledgement came.
    pub at_seconds: f64,
    /// Its number.
    pub packet: u64,
    /// The time from its being declared lost to its acknowledgement.
    pub late_seconds: f64,
    /// Whether this acknowledgement showed that no packet of the congestion event was lost, so that the controller
    /// was told to undo its answer.
    pub whole_event: bool,
    /// What the link did to it.
    pub link: Option<LinkFate>,
    /// What the client's own link did to the packet then, where the client has added it.
    #[serde(default)]
    pub client_link: Option<LinkFate>,
}

/// What became of packets that were declared lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostBy {
    /// A word of [`LinkFate::fate`], or `unknown`: the link had not told when they were declared lost.
    pub fate: String,
    /// How many such steps.
    pub packets: u64,
}

/// How long a limit has held the sender back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limited {
    /// `application`, `congestion_window`, `pacing`, `flow_control` or `amplification`.
    pub limit: String,
    /// For how long it did.
    pub seconds: f64,
}

impl Why {
    /// Why its window is what it is, with the last `changes` (a thousand at most, and of many connections fewer), of
    /// each connection whose name, ADDRESS:PORT or id this is; the newest 64 of them, those that are over included.
    /// A session waits only while what is told of is copied.
    pub fn all(rings: &Rings, who: &str, changes: usize, now: Instant) -> Vec<Self> {
        let fitting = rings.each(|record| record.is(who).then_some(())).len();
        let share = (TOGETHER / fitting.clamp(1, TOLD)).max(LAST);
        let changes = changes.min(MOST).min(share);
        let mut left = TOLD;
        let found = rings.each(|record| {
            let wanted = left > 0 && record.is(who);
            left -= usize::from(wanted);
            wanted.then(|| record.excerpt(&[], record.last(changes)))
        });
        let mut others: Vec<Vec<String>> = vec![Vec::new(); found.len()];
        rings.each(|record| -> Option<()> {
            let other = &record.about;
            for (found, others) in found.iter().zip(&mut others) {
                let about = &found.about;
                let is_other = about.connection != other.connection && about.is_same_client(other);
                if is_other && others.len() < OTHERS {
                    others.push(id(other.connection));
                }
            }
            None
        });
        let told = found.iter().zip(others);
        told.map(|(record, others)| Self {
            others,
            ..Self::of(record, changes, now)
        })
        .collect()
    }

    /// What a record tells at `now`, with the last `most` of its changes of the window, [`MOST`] at most.
    pub fn of(record: &Record, most: usize, now: Instant) -> Self {
        let most = most.min(MOST);
        let subject = Subject::of(record);
        let end = record.ended.unwrap_or(now);
        let first_late = record.spurious.len().saturating_sub(most);
        Self {
            connection_id: id(record.about.connection),
            client_connection_id: id(record.about.destination),
            name: record.about.name.clone(),
            client: record.about.client,
            congestion: record.about.congestion.to_owned(),
            others: Vec::new(),
            ended: record.ended.is_some(),
            seconds: seconds(end.saturating_duration_since(record.began)),
            lost: record.lost,
            fates: LostBy::of(record),
            spurious: record.spurious_count,
            cuts: record.cuts,
            changes: (record.last(most).iter())
                .map(|noted| WindowChange::of(&record.with_fate(noted), &subject))
                .collect(),
            late: (record.spurious.iter().skip(first_late))
                .map(|late| LatePacket::of(late, &subject))
                .collect(),
            now: words::now_words(record, now),
            limits: limits(record, now),
            unknown: unknown(record),
        }
    }

    /// Adds what another link knows of the same packets: a client's own, which the server does not see.
    pub fn join(&mut self, fates: &Fates) {
        let Ok(destination) = u64::from_str_radix(&self.client_connection_id, 16) else {
            return;
        };
        let mut joined = false;
        // A packet that the server's link lost has never come to the client's link.
        let came = |link: &Option<LinkFate>| link.as_ref().is_none_or(LinkFate::is_through);
        let mut look = |packet: u64, words: &mut String| {
            let fate = fates.of(destination, packet)?;
            words.push_str(&words::own_fate_words(packet, &fate));
            joined = true;
            Some(LinkFate::of(&fate))
        };
        for change in self.changes.iter_mut().filter(|change| came(&change.link)) {
            if let Some(packet) = change.packet {
                change.client_link = look(packet, &mut change.words);
            }
        }
        for late in self.late.iter_mut().filter(|late| came(&late.link)) {
            late.client_link = look(late.packet, &mut late.words);
        }
        if joined {
            self.unknown.retain(|text| text != NO_LINK);
        }
    }

    /// All of it in words, a line each.
    pub fn lines(&self) -> Vec<String> {
        words::lines(self)
    }
}

/// The changes of the window after `since` seconds.
pub(super) fn changes_after(record: &Record, since: f64) -> Vec<WindowChange> {
    let subject = Subject::of(record);
    let changes = &record.changes;
    let later = changes.partition_point(|noted| subject.seconds(noted.until) <= since);
    changes[later..]
        .iter()
        .map(|noted| WindowChange::of(&record.with_fate(noted), &subject))
        .collect()
}

impl LostBy {
    /// What a record tells of one change.
    pub(super) fn of(record: &Record) -> Vec<Self> {
        let by = record.lost_by.iter();
        by.map(|(fate, packets)| Self {
            fate: (*fate).to_owned(),
            packets: *packets,
        })
        .collect()
    }
}

impl WindowChange {
    fn of(noted: &Noted, subject: &Subject) -> Self {
        let change = &noted.change;
        let event = match change.cause {
            Cause::Loss(event) | Cause::Persistent(event) => Some(event),
            _ => None,
        };
        let marked = noted.fate.as_deref().map(|(number, _)| *number);
        let rule = event.map(|event| event.rule);
        let largest_acked = rule.map(|rule| match rule {
            Rule::PacketThreshold { largest_acked, .. }
            | Rule::TimeThreshold { largest_acked, .. } => largest_acked,
        });
        Self {
            words: change_words(noted, subject),
            at_seconds: subject.seconds(noted.at),
            until_seconds: subject.seconds(noted.until),
            steps: noted.steps,
            before_bytes: change.before,
            after_bytes: change.after,
            ssthresh_bytes: change.ssthresh,
            cause: change.cause.name().to_owned(),
            reaction: change.reaction.name().to_owned(),
            packet: match change.cause {
                Cause::Marked { largest, .. } => Some(marked.unwrap_or(largest)),
                _ => event.map(|event| event.largest),
            },
            packets: event.map(|event| event.packets),
            rule: rule.map(|rule| rule.name().to_owned()),
            largest_acked,
            link: noted.fate.as_deref().map(|(_, fate)| LinkFate::of(fate)),
            client_link: None,
            undone_at_seconds: noted
                .undone
                .as_ref()
                .map(|undone| subject.seconds(undone.0)),
        }
    }
}

impl LatePacket {
    fn of(late: &Late, subject: &Subject) -> Self {
        Self {
            words: late_words(late, subject),
            at_seconds: subject.seconds(late.at),
            packet: late.spurious.number,
            late_seconds: seconds(late.spurious.late),
            whole_event: late.spurious.undoes,
            link: late.fate.as_ref().map(LinkFate::of),
            client_link: None,
        }
    }
}

impl LinkFate {
    /// Whether the packet came out of the link.
    fn is_through(&self) -> bool {
        self.took_seconds.is_some()
    }

    fn of(fate: &Fate) -> Self {
        let passage = match fate.outcome {
            Outcome::Delivered(passage) => Some(passage),
            Outcome::Lost(_) => None,
        };
        let congestion = fate.congestion();
        Self {
            fate: fate.name().to_owned(),
            queue_bytes: fate.queue.bytes,
            queue_limit_bytes: fate.queue.limit,
            queue_seconds: seconds(fate.queue.time()),
            took_seconds: passage.map(|passage| seconds(passage.total())),
            held_back_seconds: passage.map(|passage| seconds(passage.held_back)),
            overtaken_by: fate.overtaken_by,
            tokens_bytes: match fate.outcome {
                Outcome::Lost(Loss::Policed { tokens }) => Some(tokens),
                _ => None,
            },
            sojourn_seconds: congestion.and_then(Congestion::sojourn).map(seconds),
            average_queue_bytes: congestion.and_then(Congestion::average),
        }
    }
}

/// A connection id as people are shown it.
fn id(id: u64) -> String {
    format!("{id:016x}")
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// A controller's name in the field.
fn controller(name: &str) -> &str {
    match name {
        "new_reno" => "NewReno",
        "cubic" => "CUBIC",
        "vegas" => "Vegas",
        "bbr" => "BBR",
        other => other,
    }
}

/// How long each limit has held the sender back, the longest first, without those that never did.
fn limits(record: &Record, now: Instant) -> Vec<Limited> {
    let Some((at, state)) = record.state else {
        return Vec::new();
    };
    let mut spent = state.spent;
    if record.ended.is_none() {
        spent.add(state.limit, now.saturating_duration_since(at));
    }
    let mut limits: Vec<_> = Limit::ALL
        .into_iter()
        .map(|limit| (limit, spent.by(limit)))
        .filter(|(_, time)| !time.is_zero())
        .collect();
    limits.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    limits
        .into_iter()
        .map(|(limit, time)| Limited {
            limit: limit.name().to_owned(),
            seconds: seconds(time),
        })
        .collect()
}

/// What to say where no link told what became of packets.
const NO_LINK: &str = "no link of this program told of these packets: what dropped or delayed them, and \
     where, cannot be known here, only what the sender concluded";

fn unknown(record: &Record) -> Vec<String> {
    let mut unknown = Vec::new();
    if !record.linked && record.lost > 0 {
        unknown.push(NO_LINK.to_owned());
    }
    let forgotten = record.since.saturating_duration_since(record.began);
    if !forgotten.is_zero() {
        unknown.push(format!(
            "what came before {:.3} s is forgotten: [watch] memory was too small for it",
            seconds(forgotten)
        ));
    }
    unknown
}

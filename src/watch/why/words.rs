//! The sentences.

use std::time::{Duration, Instant};

use super::{Why, controller, seconds};
use crate::watch::{
    event::{
        link::{Congestion, Loss, Outcome, Passage},
        transport::{Bound, Cause, Change, Event, Limit, Reaction, Rule, Told},
    },
    fates::Fate,
    ring::{Late, Noted, Record},
};

/// Whom a sentence is about.
pub(super) struct Subject<'a> {
    pub(super) began: Instant,
    /// The controller.
    pub(super) name: &'a str,
    /// Whether the packets pass a link that tells what it does to them.
    pub(super) linked: bool,
}

impl<'a> Subject<'a> {
    pub(super) fn of(record: &'a Record) -> Self {
        Self {
            began: record.began,
            name: controller(record.about.congestion),
            linked: record.linked,
        }
    }

    /// A time on the session's axis.
    pub(super) fn seconds(&self, at: Instant) -> f64 {
        seconds(at.saturating_duration_since(self.began))
    }

    fn time(&self, at: Instant) -> String {
        format!("{:.3} s", self.seconds(at))
    }
}

/// One change of the window.
pub(super) fn change_words(noted: &Noted, subject: &Subject<'_>) -> String {
    let change = &noted.change;
    let (before, after) = (kilobytes(change.before), kilobytes(change.after));
    let window = match change.after.cmp(&change.before) {
        _ if matches!(change.reaction, Reaction::Program { .. }) => {
            format!("set the window from {before} to {after} kB")
        }
        _ if change.reaction == Reaction::ProgramFailed => {
            format!("failed, and sends nothing more with a window of {before} kB")
        }
        std::cmp::Ordering::Less => format!("cut the window from {before} to {after} kB"),
        std::cmp::Ordering::Equal => format!("left the window at {after} kB"),
        std::cmp::Ordering::Greater => format!("raised the window from {before} to {after} kB"),
    };
    let at = subject.time(noted.at);
    let how = reaction_words(change);
    let mut words = format!("at {at} {} {window}{how}", subject.name);
    if noted.steps > 1 {
        words += &format!(
            ", in {} steps until {}",
            noted.steps,
            subject.time(noted.until)
        );
    }
    words += &cause_words(change);
    let is_answer = change.reaction != Reaction::ProgramFailed;
    let fate = noted.fate.as_deref();
    match change.cause {
        _ if !is_answer => {}
        Cause::Loss(_) | Cause::Persistent(_) => {
            words += &fate_words(fate.map(|(_, fate)| fate), subject);
        }
        Cause::Marked { .. } => {
            if let Some((number, fate)) = fate
                && let Some(congestion) = fate.mark()
            {
                let marked = format!("marked packet {number}");
                words += &format!("; {}", congestion_words(congestion, &marked));
            }
        }
        _ => {}
    }
    if let Some(undone) = &noted.undone {
        let (at, spurious) = **undone;
        words += &format!(
            "; that was wrong, and undone at {}: packet {} had arrived",
            subject.time(at),
            spurious.number
        );
    }
    words
}

fn reaction_words(change: &Change) -> String {
    match change.reaction {
        Reaction::Unsaid
        | Reaction::Restored
        | Reaction::Program { .. }
        | Reaction::ProgramFailed => String::new(),
        Reaction::Multiplied { tenths, of, least } => {
            let section = match tenths {
                7 => "RFC 9438 4.6",
                _ => "RFC 9002 7.3.2",
            };
            if change.after == least {
                " (two datagrams, its least: RFC 9002 7.2)".to_owned()
            } else if of == change.before {
                format!(" (x 0.{tenths}, {section})")
            } else {
                let of = kilobytes(of);
                format!(" (x 0.{tenths} of the {of} kB that whole datagrams fill, {section})")
            }
        }
        Reaction::Collapsed => " (two datagrams, its least: RFC 9002 7.6.2)".to_owned(),
        Reaction::SlowStartOver => " and ended slow start (HyStart++, RFC 9406)".to_owned(),
        Reaction::Decayed { timeouts, .. } => {
            format!(
                " (halved for each of {timeouts} timeouts, but no lower than it began: RFC 5681 4.1)"
            )
        }
        Reaction::Delay {
            slow_start: true, ..
        } => " and ended slow start".to_owned(),
        Reaction::Delay { .. } => " (one datagram less)".to_owned(),
        Reaction::InFlight => " (what is in flight, and one datagram)".to_owned(),
        Reaction::Model { bound, .. } => bound_words(bound).to_owned(),
    }
}

fn bound_words(bound: Bound) -> &'static str {
    match bound {
        Bound::Model { .. } => " (what its model says that the path holds, times its gain)",
        Bound::LongTerm { .. } => {
            " (inflight_longterm and the room it leaves to others: a probe with more in flight lost too much)"
        }
        Bound::ShortTerm { .. } => " (inflight_shortterm: the last round trips lost too much)",
        Bound::ProbeRtt { .. } => {
            " (ProbeRTT: little in flight, to see the round trip without a queue)"
        }
        Bound::Startup { .. } => {
            " (Startup: the bottleneck shows in the spacing of acknowledgements)"
        }
        Bound::Least { .. } => " (four datagrams, its least)",
    }
}

fn cause_words(change: &Change) -> String {
    if let Reaction::Program {
        later: Some((told, after)),
    } = change.reaction
    {
        let after = milliseconds(after);
        return format!(", {after} after it was told {}", told_words(told));
    }
    if change.reaction == Reaction::ProgramFailed {
        return String::new();
    }
    match change.cause {
        Cause::Loss(event) => format!(": {}", event_words(&event)),
        Cause::Persistent(event) => format!(
            ": {}, and losses span more than three probe timeouts, so that the path was down (RFC 9002 7.6)",
            event_words(&event)
        ),
        Cause::Marked { largest, .. } => format!(
            ": the network marked packets as congested instead of dropping them (ECN CE, told with the acknowledgement of packet {largest})"
        ),
        Cause::Undone { number } => format!(
            ": packet {number} was late, not lost, and so was every other of its congestion event"
        ),
        Cause::Idle => match change.reaction {
            Reaction::Decayed { silence, .. } => {
                format!(": nothing was acknowledged for {:.3} s", seconds(silence))
            }
            _ => ": it sends again after a silence".to_owned(),
        },
        Cause::Acknowledged => match change.reaction {
            Reaction::Delay {
                standing,
                least,
                base,
                ..
            } => format!(
                ": the round trip of at least {}, {} above the least ever, shows {} bytes in the queue",
                milliseconds(least),
                milliseconds(least.saturating_sub(base)),
                thousands(standing)
            ),
            Reaction::Model {
                bandwidth, min_rtt, ..
            } => format!(
                ": it takes the path for {} with a round trip of {}",
                rate(bandwidth.saturating_mul(8)),
                milliseconds(min_rtt)
            ),
            Reaction::SlowStartOver => ": the round trip grew, so that a queue builds".to_owned(),
            _ => String::new(),
        },
    }
}

fn told_words(told: Told) -> &'static str {
    match told {
        Told::Hello => "of the connection",
        Told::Sent => "of a packet that was sent",
        Told::Idle => "that it sends again after a silence",
        Told::Lost => "of a lost packet",
        Told::Congestion => "that packets were lost or marked",
        Told::Acknowledged => "of acknowledged packets",
        Told::Spurious => "that packets were late, not lost",
        Told::Mtu => "of another size of datagrams",
    }
}

fn event_words(event: &Event) -> String {
    let others = match event.packets {
        1 => String::new(),
        n => format!(", the last of {n}"),
    };
    let rule = match event.rule {
        Rule::PacketThreshold { largest_acked, .. } => {
            format!("the packet threshold ({largest_acked} acknowledged)")
        }
        Rule::TimeThreshold {
            delay,
            largest_acked,
        } => format!(
            "the time threshold ({} since it was sent, {largest_acked} acknowledged)",
            milliseconds(delay)
        ),
    };
    format!(
        "packet {}{others} was declared lost by {rule}",
        event.largest
    )
}

/// What a link did to the packet just spoken of.
pub(in crate::watch) fn link_words(fate: &Fate) -> String {
    match fate.outcome {
        Outcome::Lost(loss) => loss_words(loss, fate),
        Outcome::Delivered(passage) => passage_words(&passage, fate),
    }
}

fn fate_words(fate: Option<&Fate>, subject: &Subject<'_>) -> String {
    let Some(fate) = fate else {
        return match subject.linked {
            true => "; what the link did to it is not known".to_owned(),
            false => String::new(),
        };
    };
    format!("; {}", link_words(fate))
}

/// What a client's own link did to a packet.
pub(super) fn own_fate_words(packet: u64, fate: &Fate) -> String {
    let words = link_words(fate);
    format!("; of packet {packet} the client's own link says: {words}")
}

fn loss_words(loss: Loss, fate: &Fate) -> String {
    match loss {
        Loss::QueueFull => {
            let queue = &fate.queue;
            let rate = queue.rate.map(|bits| {
                let time = milliseconds(queue.time());
                format!(", {time} at {}", rate(bits.get()))
            });
            format!(
                "the link dropped it because its queue was full ({} of {} bytes{}; it has {})",
                thousands(queue.bytes as u64),
                thousands(queue.limit as u64),
                rate.unwrap_or_default(),
                thousands(fate.size as u64),
            )
        }
        Loss::Policed { tokens } => format!(
            "the link's policer dropped it: it has {} bytes, the bucket had tokens for {}",
            thousands(fate.size as u64),
            thousands(tokens)
        ),
        Loss::Managed(congestion) => congestion_words(congestion, "dropped it"),
        Loss::Random => "the link lost it by chance".to_owned(),
        Loss::Burst { nth } => {
            format!("the link lost it by chance, number {nth} of a burst")
        }
        Loss::Blackout => "it was on the link in a black-out".to_owned(),
        Loss::Memory => "the link held as many bytes as it may, and dropped it".to_owned(),
    }
}

/// What the queue's management did, and why.
fn congestion_words(congestion: Congestion, did: &str) -> String {
    match congestion {
        Congestion::CoDel { sojourn } => format!(
            "the link's CoDel {did} after {} in the queue",
            milliseconds(sojourn)
        ),
        Congestion::Red { average } => format!(
            "the link's RED {did} with {} bytes in the queue in the mean",
            thousands(average)
        ),
    }
}

fn passage_words(passage: &Passage, fate: &Fate) -> String {
    if let Some(byte) = passage.corrupted {
        return format!("the link damaged byte {byte} of it, and the receiver threw it away");
    }
    let total = milliseconds(passage.total());
    let mut words = match passage.marked {
        Some(congestion) => {
            let marked = congestion_words(congestion, "marked it");
            format!("{marked}, and delivered it, {total} after it was sent")
        }
        None => format!("the link delivered it, {total} after it was sent"),
    };
    if !passage.held_back.is_zero() {
        let others = match fate.overtaken_by {
            // The packet may still be on its way.
            0 => "so that others overtake it".to_owned(),
            1 => "and overtaken by 1 packet".to_owned(),
            n => format!("and overtaken by {} packets", thousands(n)),
        };
        words += &format!(
            ", held back by {} {others}",
            milliseconds(passage.held_back)
        );
    }
    if !passage.queued.is_zero() {
        words += &format!(", {} of that in its queue", milliseconds(passage.queued));
    }
    if passage.duplicated {
        words += ", and a copy with it";
    }
    words
}

/// A packet that was declared lost and arrived after all.
pub(super) fn late_words(late: &Late, subject: &Subject<'_>) -> String {
    let spurious = &late.spurious;
    let undone = match spurious.undoes {
        true => "; with it every loss of its congestion event was wrong",
        false => "",
    };
    format!(
        "at {} packet {} was late, not lost: its acknowledgement came {} after it was declared lost{}{undone}",
        subject.time(late.at),
        spurious.number,
        milliseconds(spurious.late),
        late.fate
            .as_ref()
            .map_or_else(String::new, |fate| fate_words(Some(fate), subject)),
    )
}

/// What keeps the sender from sending more.
pub(super) fn now_words(record: &Record, now: Instant) -> String {
    let Some((at, state)) = record.state else {
        return "nothing is known yet".to_owned();
    };
    let (when, was) = match record.ended {
        Some(_) => ("at the end", "was"),
        None => ("now", "is"),
    };
    let (in_flight, window) = (kilobytes(state.in_flight), kilobytes(state.window));
    let limit = match state.limit {
        Limit::Application => format!("nothing {was} left to send"),
        Limit::Window => {
            format!("the congestion window {was} full ({in_flight} of {window} kB in flight)")
        }
        Limit::Pacing => format!(
            "the pacer spaced the packets, {} ({in_flight} of {window} kB in flight)",
            rate(state.pacing_rate.saturating_mul(8))
        ),
        Limit::FlowControl => "the receiver granted no more: flow control".to_owned(),
        Limit::Amplification => {
            "the receiver had not proven its new address: no more than three times what came from there".to_owned()
        }
    };
    let age = now.saturating_duration_since(at);
    match record.ended.is_none() && age > Duration::from_secs(1) {
        true => format!("{when}: {limit}, as of {:.1} s ago", seconds(age)),
        false => format!("{when}: {limit}"),
    }
}

/// Everything that `why` tells of a session.
pub(super) fn lines(why: &Why) -> Vec<String> {
    let name = match why.name.is_empty() {
        true => "a client without a name",
        false => &why.name,
    };
    let mut lines = vec![format!(
        "{name} at {} (connection {}, {}): {:.3} s{}, {} cuts of the window, {} packets declared lost{}",
        why.client,
        why.connection_id,
        controller(&why.congestion),
        why.seconds,
        if why.ended { ", over" } else { "" },
        why.cuts,
        why.lost,
        match why.spurious {
            0 => String::new(),
            n => format!(", {n} of them wrongly"),
        }
    )];
    lines.extend(lost_by(why));
    lines.extend(
        why.changes
            .iter()
            .map(|change| format!("- {}", change.words)),
    );
    lines.extend(why.late.iter().map(|late| format!("- {}", late.words)));
    lines.push(why.now.clone());
    if !why.limits.is_empty() {
        let limits: Vec<_> = (why.limits.iter())
            .map(|limited| {
                format!(
                    "{} {:.3} s",
                    limited.limit.replace('_', " "),
                    limited.seconds
                )
            })
            .collect();
        lines.push(format!("held back by: {}", limits.join(", ")));
    }
    lines.extend(why.unknown.iter().cloned());
    if !why.others.is_empty() {
        lines.push(format!(
            "other connections of {name} from {}, the newest first: {}",
            why.client.ip(),
            why.others.join(", ")
        ));
    }
    lines
}

/// What became of the packets that were declared lost.
fn lost_by(why: &Why) -> Option<String> {
    if why.fates.iter().all(|of| of.fate == "unknown") {
        return None;
    }
    let words = why.fates.iter().map(|of| {
        let what = match &of.fate[..] {
            "lost_queue" => "dropped with a full queue",
            "lost_random" => "lost by chance",
            "lost_policer" => "dropped by the policer",
            "lost_codel" => "dropped by CoDel",
            "lost_red" => "dropped by RED",
            "marked" => "marked and delivered",
            "lost_blackout" => "lost in a black-out",
            "lost_memory" => "dropped for want of memory",
            "corrupted" => "damaged",
            "delivered" => "delivered",
            _ => "not told of by then",
        };
        format!("{} {what}", of.packets)
    });
    let words: Vec<_> = words.collect();
    Some(format!("of these the link: {}", words.join(", ")))
}

fn kilobytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1000.0)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Bits a second.
fn rate(bits: u64) -> String {
    let bits = bits as f64;
    if bits >= 1e9 {
        format!("{} Gbit/s", three(bits / 1e9))
    } else if bits >= 1e6 {
        format!("{} Mbit/s", three(bits / 1e6))
    } else {
        format!("{} kbit/s", three(bits / 1e3))
    }
}

/// Three decimals at the most.
fn three(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// With commas.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

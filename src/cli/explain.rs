//! The explained walk: for each message the course's table, layer by layer, why it is sent, and what a NAT on
//! the way would change.

pub(super) mod arp;
mod hardware;
mod lesson;

use std::{
    collections::{BTreeSet, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use console::{Style, Term, measure_text_width};

use self::{
    arp::{Arp, Watch},
    hardware::Frame,
    lesson::Lesson,
};
use crate::{
    net::Namespace,
    telemetry::complain,
    watch::{
        event::{
            hub::Wants,
            packet::{Direction, Fate, Protocol, Role},
        },
        log::{Observer, Seen},
        words::{Reading, What, Words},
    },
};

/// Where nobody says how wide it is.
const READABLE: usize = 100;

/// Explains the client's messages on standard error, and the ARP before them, until it is dropped.
pub(super) struct Explaining {
    _messages: Observer,
    /// `None`: the kernel shows ARP to root alone.
    _arp: Option<Watch>,
}

/// Begins to.
///
/// # Errors
/// The system has no thread to give.
pub(super) fn start() -> io::Result<Explaining> {
    let wants = Wants {
        data_bytes: 256,
        roles: BTreeSet::from([Role::Client]),
        ..Wants::default()
    };
    let columns = Term::stderr()
        .size_checked()
        .map(|(_, columns)| usize::from(columns));
    let explainer = Explainer::new(
        columns.unwrap_or(READABLE),
        console::colors_enabled_stderr(),
    );
    // Held until a message has all its lines.
    let explainer = Arc::new(Mutex::new(explainer));
    let of_arp = Arc::clone(&explainer);
    let arp = Watch::start(move |_, arp| {
        let mut explainer = of_arp.lock().unwrap_or_else(PoisonError::into_inner);
        let arrow = if arp.is_outgoing { "→" } else { "←" };
        complain(format_args!("{arrow} {} ARP  {arp}", arp.device));
        for line in explainer.explain_arp(&arp) {
            complain(line);
        }
    });
    let mut words = Words::default();
    let messages = Observer::start("explain", None, wants, move |seen| match seen {
        Seen::Packet(packet) => {
            let reading = words.read(packet);
            let is_message = matches!(reading.what, What::Message(_));
            if !is_message || matches!(packet.fate, Fate::Refused(_)) {
                return;
            }
            let place = &packet.place;
            let arrow = match packet.fate.direction() {
                Direction::Sent => "→",
                Direction::Received => "←",
            };
            let fate = match packet.fate {
                Fate::LostOnPurpose => " (lost on purpose)".to_owned(),
                Fate::SentAgain(why) => format!(" (again: {why})"),
                _ => String::new(),
            };
            let protocol = place.label.protocol;
            let mut explainer = explainer.lock().unwrap_or_else(PoisonError::into_inner);
            complain(format_args!(
                "{arrow} {} {}  {}{fate}",
                place.remote,
                protocol.name(),
                reading.meaning
            ));
            let message = Message {
                sender: (packet.fate.direction() == Direction::Sent).then_some(Role::Client),
                protocol,
                source: packet.source(),
                destination: packet.destination(),
                reading: &reading,
                here: None,
            };
            for line in explainer.explain(&message) {
                complain(line);
            }
        }
        Seen::Other(_) => {}
        Seen::Pause { lost } if lost.sum() == 0 => {}
        Seen::Pause { lost } => {
            tracing::warn!(lost = lost.packets, "messages that are not explained")
        }
    })?;
    Ok(Explaining {
        _messages: messages,
        _arp: arp
            .inspect_err(|error| tracing::debug!(%error, "ARP is not shown"))
            .ok(),
    })
}

/// A message, as it is explained.
pub(super) struct Message<'a> {
    /// Who sends it.
    pub(super) sender: Option<Role>,
    /// What is spoken.
    pub(super) protocol: Protocol,
    /// From where.
    pub(super) source: SocketAddr,
    /// To where.
    pub(super) destination: SocketAddr,
    /// What it says.
    pub(super) reading: &'a Reading,
    /// What a NAT has truly changed in it, in words.
    pub(super) here: Option<String>,
}

/// Explains messages, each kind at length once.
#[derive(Debug)]
pub(super) struct Explainer {
    /// Columns that may be used.
    columns: usize,
    color: bool,
    explained: HashSet<(Option<Role>, Protocol, &'static str)>,
    /// ARP's question and its answer, if they were.
    explained_arp: HashSet<bool>,
    networks: Vec<Namespace>,
}

/// The width of the labels, and of what stands before them.
const LABEL: usize = 13;
const INDENT: usize = 6;

impl Explainer {
    /// For a terminal of so many columns.
    pub(super) fn new(columns: usize, color: bool) -> Self {
        Self {
            columns,
            color,
            explained: HashSet::new(),
            explained_arp: HashSet::new(),
            networks: Vec::new(),
        }
    }

    /// Looks for frames in these networks, in this order, instead of in the one of who asks.
    pub(super) fn in_networks(mut self, networks: Vec<Namespace>) -> Self {
        self.networks = networks;
        self
    }

    /// A packet's frame, in the network where it is sent.
    fn frame(&self, from: IpAddr, to: IpAddr) -> Frame {
        let frames = self.networks.iter().filter_map(|network| {
            let frame = network.within(|| Ok(Frame::between(from, to)));
            frame.ok()
        });
        match self.networks.is_empty() {
            true => Frame::between(from, to),
            false => frames
                .max_by_key(Frame::is_of_the_sender)
                .unwrap_or(Frame::Unknown),
        }
    }

    /// The lines below a message; none for what is a file's bytes, or was explained before.
    pub(super) fn explain(&mut self, message: &Message<'_>) -> Vec<String> {
        let name = message.reading.name();
        let Some(lesson) = Lesson::of(message.sender, message.protocol, name) else {
            return Vec::new();
        };
        let kind = (message.sender, message.protocol, name);
        if !self.explained.insert(kind) {
            return Vec::new();
        }
        let ids: Vec<String> = message.reading.fields.iter().map(field).collect();
        let application = match ids.is_empty() {
            true => format!("{} {name}", message.protocol.name()),
            false => format!("{} {name}: {}", message.protocol.name(), ids.join(", ")),
        };
        let nat = match &message.here {
            Some(here) => format!("here it {here}: {}", lesson.nat),
            None => lesson.nat.to_owned(),
        };
        let carrier = carrier(message.protocol);
        let (from, to) = (message.source, message.destination);
        let rows = [
            ("application", application),
            (
                "transport",
                format!("{carrier}: port {} → port {}", from.port(), to.port()),
            ),
            ("network", format!("IP: {} → {}", from.ip(), to.ip())),
            ("link", self.frame(from.ip(), to.ip()).to_string()),
            ("why", lesson.why.to_owned()),
            ("behind a NAT", nat),
        ];
        self.table(&rows)
    }

    /// The lines below an ARP frame; none for what was explained before.
    pub(super) fn explain_arp(&mut self, arp: &Arp) -> Vec<String> {
        match self.explained_arp.insert(arp.asks) {
            true => self.table(&arp.rows()),
            false => Vec::new(),
        }
    }

    fn table(&self, rows: &[(&str, String)]) -> Vec<String> {
        let mut lines = Vec::new();
        for (label, text) in rows {
            let width = self.columns.saturating_sub(INDENT + LABEL).max(20);
            for (n, line) in wrap(text, width).into_iter().enumerate() {
                let label = if n == 0 { *label } else { "" };
                let label = Style::new()
                    .force_styling(self.color)
                    .cyan()
                    .apply_to(format!("{label:<LABEL$}"));
                lines.push(format!("{:INDENT$}{label}{line}", "").trim_end().to_owned());
            }
        }
        lines
    }
}

fn field((name, value): &(&'static str, serde_json::Value)) -> String {
    match value {
        serde_json::Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    }
}

fn carrier(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Dhcp | Protocol::Dns | Protocol::Rudp => "UDP",
        Protocol::List | Protocol::Http => "TCP",
    }
}

/// Breaks a text at its blanks.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let both = measure_text_width(&line) + 1 + measure_text_width(word);
        if !line.is_empty() && both > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(columns: usize) -> Vec<String> {
        let reading = Reading::message("SIGNECHO", "send my timestamp back").with("id", 290);
        let message = Message {
            sender: Some(Role::Client),
            protocol: Protocol::Rudp,
            source: ([127, 20, 30, 41], 40_000).into(),
            destination: ([127, 0, 0, 10], 49_152).into(),
            reading: &reading,
            here: None,
        };
        let mut explainer = Explainer::new(columns, false);
        let lines = explainer.explain(&message);
        assert_eq!(explainer.explain(&message), Vec::<String>::new(), "once");
        lines
    }

    #[test]
    fn every_layer_has_its_line_and_none_is_wider_than_the_terminal() {
        for columns in [80, 120] {
            let lines = explained(columns);
            let text = lines.join("\n");
            for part in [
                "application  RUDP SIGNECHO: id 290",
                "transport    UDP: port 40000 → port 49152",
                "network      IP: 127.20.30.41 → 127.0.0.10",
                "link         none: the loopback interface",
                "why",
                "behind a NAT",
            ] {
                assert!(text.contains(part), "{part}: {text}");
            }
            for line in lines {
                assert!(measure_text_width(&line) <= columns, "{line}");
            }
        }
    }
}

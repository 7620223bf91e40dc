//! The end of the story: the files, verified once more, and the totals.

use std::{net::IpAddr, time::Duration};

use console::measure_text_width;
use serde_json::{Value, json};

use super::{
    home::{Home, INNER, OUTER, SERVER},
    row::Tally,
    stage::{Addresses, Stage},
    table::Table,
};
use crate::client::{
    report::json_counts,
    session::Counts,
    summary::Carried,
    transfer::{Sha256, hex},
    units::{Latency, Rate, Size, count},
};
use crate::watch::event::packet::Role;

/// A file as it arrived, beside the origin's own.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Arrived {
    /// Its name.
    pub(super) name: String,
    /// What came of the download.
    pub(super) outcome: Result<Outcome, String>,
}

/// A file on the disk.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    /// Its length.
    pub(super) bytes: u64,
    /// Read from the disk.
    pub(super) sha256: Sha256,
    /// By the origin's own account, not sent over the network.
    pub(super) original: Sha256,
    /// How fast it came.
    pub(super) rate: Rate,
}

impl Arrived {
    /// Whether it is here, byte for byte.
    pub(super) fn verified(&self) -> bool {
        matches!(&self.outcome, Ok(file) if file.sha256 == file.original)
    }

    fn as_json(&self) -> Value {
        match &self.outcome {
            Ok(file) => json!({
                "type": "file",
                "name": self.name,
                "bytes": file.bytes,
                "sha256": hex(&file.sha256),
                "origin_sha256": hex(&file.original),
                "verified": self.verified(),
                "bytes_per_second": file.rate.bytes_per_second(),
            }),
            Err(error) => json!({
                "type": "file",
                "name": self.name,
                "verified": false,
                "error": error,
            }),
        }
    }
}

/// What the client brought home.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ending {
    /// By Ctrl-C or SIGTERM, before all was done.
    pub(super) interrupted: bool,
    /// The files.
    pub(super) files: Vec<Arrived>,
    /// The time that their downloads took together.
    pub(super) downloading: Duration,
    /// The client's signals.
    pub(super) counts: Counts,
    /// What the binary transport tells of itself, if it carried the files.
    pub(super) carried: Option<Carried>,
    /// The client's address, while it had one.
    pub(super) address: Option<IpAddr>,
    /// Packets from outside that the NAT dropped, for it had no note of them; `None`: there is no NAT.
    pub(super) dropped: Option<u64>,
}

impl Ending {
    fn bytes(&self) -> u64 {
        let files = self.files.iter();
        files
            .filter_map(|file| Some(file.outcome.as_ref().ok()?.bytes))
            .sum()
    }

    fn rate(&self) -> Rate {
        Rate::new(self.bytes(), self.downloading)
    }

    fn verified(&self) -> usize {
        self.files.iter().filter(|file| file.verified()).count()
    }

    /// Whether every file is here, byte for byte.
    pub(super) fn is_happy(&self) -> bool {
        !self.interrupted && !self.files.is_empty() && self.verified() == self.files.len()
    }
}

/// The ending as JSON lines: the files, then the totals.
pub(super) fn json_lines(ending: &Ending, tally: &Tally) -> String {
    let mut totals = json!({
        "type": "totals",
        "interrupted": ending.interrupted,
        "packets": tally.packets,
        "protocols": tally.protocols,
        "packets_of_the_client": tally.by_client,
        "lost_on_purpose": tally.lost,
        "signlost": tally.signlost,
        "resent": ending.counts.resent,
        "signals": json_counts(&ending.counts),
        "files": ending.files.len(),
        "verified": ending.verified(),
        "bytes": ending.bytes(),
        "bytes_per_second": ending.rate().bytes_per_second(),
        "seconds": tally.time.as_secs_f64(),
    });
    if let Some(carried) = &ending.carried {
        totals["transport"] = carried.as_json();
    }
    if let Some(dropped) = ending.dropped {
        totals["nat"] = json!({ "dropped": dropped, "moves": tally.moves });
    }
    let files = ending.files.iter().map(Arrived::as_json);
    let lines: Vec<String> = files.chain([totals]).map(|line| line.to_string()).collect();
    lines.join("\n")
}

/// The ending for people.
pub(super) fn describe(table: &Table, ending: &Ending, tally: &Tally) -> String {
    let mut lines = vec![String::new(), rule(table, "Files")];
    for file in &ending.files {
        describe_file(table, file, &mut lines);
    }
    lines.push(String::new());
    lines.push(rule(table, "Totals"));
    lines.extend(describe_totals(table, ending, tally));
    lines.push(String::new());
    let (verified, all) = (
        ending.verified() as u64,
        count(ending.files.len() as u64, "file"),
    );
    let style = table.style().bold();
    let at = (ending.address).map_or_else(String::new, |address| format!(" at {address}"));
    let interrupted = if ending.interrupted {
        "interrupted: "
    } else {
        ""
    };
    let verdict = if ending.is_happy() {
        style.green().apply_to(format!(
            "✓ {all} arrived{at}, each byte for byte what the origin has"
        ))
    } else {
        style
            .red()
            .apply_to(format!("✗ {interrupted}{verified} of {all} verified"))
    };
    lines.push(verdict.to_string());
    lines
        .iter()
        .map(|line| table.fit(line))
        .collect::<Vec<_>>()
        .join("\n")
}

fn rule(table: &Table, title: &str) -> String {
    let title = format!("── {title} ");
    let rest = table.columns().saturating_sub(measure_text_width(&title));
    let line = format!("{title}{}", "─".repeat(rest));
    table.style().bold().apply_to(line).to_string()
}

fn describe_file(table: &Table, file: &Arrived, lines: &mut Vec<String>) {
    let dim = table.style().dim();
    match &file.outcome {
        Ok(outcome) if file.verified() => {
            lines.push(format!(
                "{} {:<16} {:>6}  {:>9}  SHA-256 here = at the origin",
                table.style().green().apply_to("✓"),
                file.name,
                Size(outcome.bytes),
                outcome.rate,
            ));
            lines.push(format!("  {}", dim.apply_to(hex(&outcome.sha256))));
        }
        Ok(outcome) => {
            let red = table.style().red();
            lines.push(format!(
                "{} {:<16} {:>6}  not what the origin has",
                red.apply_to("✗"),
                file.name,
                Size(outcome.bytes)
            ));
            lines.push(format!("  here    {}", red.apply_to(hex(&outcome.sha256))));
            lines.push(format!("  origin  {}", hex(&outcome.original)));
        }
        Err(error) => lines.push(format!(
            "{} {:<16} {error}",
            table.style().red().apply_to("✗"),
            file.name
        )),
    }
}

fn describe_totals(table: &Table, ending: &Ending, tally: &Tally) -> Vec<String> {
    let counts = &ending.counts;
    let protocols: Vec<String> = tally
        .protocols
        .iter()
        .map(|(protocol, packets)| format!("{packets} {protocol}"))
        .collect();
    let losses = if tally.lost == 0 && ending.carried.is_some() {
        "none of the signals".to_owned()
    } else if tally.lost == 0 {
        "none (try --loss 20)".to_owned()
    } else {
        format!(
            "{} lost on purpose, {} SIGNLOST from the proxy, {} sent again",
            count(tally.lost, "signal"),
            tally.signlost,
            counts.resent
        )
    };
    let round_trip = match (counts.rtt_min, counts.rtt_avg, counts.rtt_max) {
        (Some(min), Some(avg), Some(max)) => format!(
            "{} min, {} avg, {} max",
            Latency(min),
            Latency(avg),
            Latency(max)
        ),
        _ => "not measured: every signal had to be sent again".to_owned(),
    };
    let carried = ending.carried.as_ref();
    let carried = carried.map(|carried| ("transport", carried.to_string()));
    let nat = ending.dropped.map(|dropped| {
        let dropped = count(dropped, "packet");
        let moves = match tally.moves {
            0 => String::new(),
            moves => format!("; the transfer moved to a new port {}", times(moves)),
        };
        let text = format!("{dropped} from outside dropped, for want of a note{moves}");
        ("NAT", text)
    });
    [
        (
            "packets",
            format!(
                "{}: {}; {} of them the client's",
                tally.packets,
                protocols.join(", "),
                tally.by_client
            ),
        ),
        ("time", format!("{:.2} s", tally.time.as_secs_f64())),
        ("losses", losses),
        ("round trip", round_trip),
        (
            "throughput",
            format!("{}: {} downloaded", ending.rate(), Size(ending.bytes())),
        ),
    ]
    .into_iter()
    .chain(carried)
    .chain(nat)
    .map(|(label, text)| {
        let label = table.style().cyan().apply_to(format!("{label:<10}"));
        format!("{label}  {text}")
    })
    .collect()
}

fn times(times: u64) -> String {
    match times {
        1 => "once".to_owned(),
        times => format!("{times} times"),
    }
}

/// Who plays, before the story begins.
pub(super) fn cast(table: &Table, stage: &Stage) -> String {
    let addresses = &stage.addresses;
    let (title, leases) = match stage.home {
        Some(_) => (
            "labnet: a home, its router with a NAT, and servers outside (in namespaces)",
            "in the home's router; leases 192.168.1.41 and up",
        ),
        None => (
            "labnet: a whole network on this machine's loopback interface",
            "leases addresses, 127.20.30.41 and up",
        ),
    };
    let roles = [
        (
            Role::Client,
            "no address yet".to_owned(),
            "new here; wants to download five files",
        ),
        (Role::Dhcp, addresses.dhcp.to_string(), leases),
        (
            Role::Dns,
            addresses.dns.to_string(),
            "knows where example.com is",
        ),
        (
            Role::Rudp,
            addresses.rudp.to_string(),
            "the proxy: answers numbered signals",
        ),
        (
            Role::Scrap,
            addresses.scrap.to_string(),
            "reads the links of the download page",
        ),
        (
            Role::Origin,
            addresses.origin.to_string(),
            "serves the download page and its files",
        ),
    ];
    let mut lines = vec![
        table.style().bold().apply_to(title).to_string(),
        String::new(),
    ];
    for (role, address, does) in roles {
        let name = table.role(role).apply_to(format!("{:<6}", role.name()));
        let address = table.style().dim().apply_to(format!("{address:<17}"));
        lines.push(format!("  {name}  {address}  {does}"));
    }
    if let Some(stage) = &stage.home {
        lines.push(String::new());
        lines.extend(inside(table, &stage.home));
    }
    lines.push(String::new());
    lines.extend(table.titles().lines().map(str::to_owned));
    lines
        .iter()
        .map(|line| table.fit(line))
        .collect::<Vec<_>>()
        .join("\n")
}

/// How the machines of a home are joined, and how to look inside.
fn inside(table: &Table, home: &Home) -> Vec<String> {
    let mut lines = vec![
        format!("  client ── {INNER} router {OUTER} ── {SERVER} servers"),
        "  What goes out gets the router's address, and a port of its choice, as source."
            .to_owned(),
    ];
    lines.push("  From another terminal of the same user, look inside while it runs:".to_owned());
    for (who, namespace) in [
        ("client", &home.client),
        ("router", &home.router),
        ("servers", &home.servers),
    ] {
        let path = namespace.path();
        let user = home.user_namespace().map_or_else(String::new, |path| {
            format!("--user={} --preserve-credentials ", path.display())
        });
        lines.push(format!(
            "    nsenter {user}--net={} bash   # {who}",
            path.display()
        ));
    }
    let dim = table.style().dim();
    let lines = lines.iter().map(|line| dim.apply_to(line).to_string());
    lines.collect()
}

/// The same for scripts.
pub(super) fn json_cast(home: &Home) -> String {
    json!({
        "type": "network",
        "client": home.client.path(),
        "router": home.router.path(),
        "servers": home.servers.path(),
    })
    .to_string()
}

/// What a newcomer may want to see next.
pub(super) fn next(table: &Table) -> String {
    let next = "next: labnet demo --loss 20   labnet demo --keep   labnet help";
    table.style().dim().apply_to(next).to_string()
}

/// What can be done with a lab that goes on.
pub(super) fn invitation(table: &Table, addresses: &Addresses) -> String {
    let Addresses {
        dhcp,
        dns,
        rudp,
        origin,
        http,
        ..
    } = addresses;
    let mut client = format!("labnet client --dhcp {dhcp}");
    if dns.port() != 5300 {
        client += &format!(" --dns-port {}", dns.port());
    }
    if rudp.port() != 49152 {
        client += &format!(" --port {}", rudp.port());
    }
    let look = [
        (format!("http://{http}/"), "the console"),
        (format!("http://{http}/metrics"), "what Prometheus reads"),
        (format!("http://{origin}/"), "the download page"),
    ];
    let tries = [
        (client, "the prompt: be the client yourself"),
        (
            format!("labnet client --server {rudp} list"),
            "no DHCP, no DNS",
        ),
        (
            format!("labnet status --url http://{http}/"),
            "who runs, and how",
        ),
        (
            format!("dig @{} -p {} example.com", dns.ip(), dns.port()),
            "any DNS client works",
        ),
        (
            format!("curl -O http://{origin}/{}", super::stage::FILES[0]),
            "any HTTP client, too",
        ),
    ];
    let mut lines = vec![String::new()];
    for (title, entries) in [
        ("The lab goes on until Ctrl-C. Look at", &look[..]),
        ("In another terminal, try", &tries[..]),
    ] {
        lines.push(table.style().bold().apply_to(title).to_string());
        let widest = entries.iter().map(|(what, _)| what.len()).max();
        let widest = widest.unwrap_or_default();
        for (what, does) in entries {
            // What is there to be copied comes first: where the line is too long, it stays whole.
            let does = table.style().dim().apply_to(does);
            lines.push(format!("  {what:<widest$}  {does}"));
        }
    }
    lines
        .iter()
        .map(|line| table.fit(line))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The same for scripts.
pub(super) fn json_invitation(addresses: &Addresses) -> String {
    json!({
        "type": "serving",
        "dhcp": addresses.dhcp,
        "dns": addresses.dns,
        "rudp": addresses.rudp,
        "scrap": addresses.scrap,
        "origin": format!("http://{}/", addresses.origin),
        "http": format!("http://{}/", addresses.http),
    })
    .to_string()
}

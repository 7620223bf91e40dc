//! `labnet check`: what a configuration would run, or all that is wrong with it.

mod absent;

use std::{
    fmt::Display,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;

pub(super) use absent::{addresses, warnings};

use super::{WRONG_USE, api::table, output};
use crate::{
    config::{self, Config, DhcpListen, OriginFiles, Problem, Problems},
    dns,
    net::refuses_congestion,
    telemetry::complain,
    text::duration,
};

/// Arguments of `labnet check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    valid: bool,
    problems: Vec<Problem>,
    /// What is missing on this host, now.
    warnings: Vec<Problem>,
    components: Vec<Component>,
}

/// One component that would run.
#[derive(Debug, Serialize)]
struct Component {
    name: &'static str,
    listens: Vec<String>,
    facts: Vec<String>,
}

/// Prints the summary or the problems.
pub(super) fn run(args: Args) -> ExitCode {
    let config = config::load(&args.file).and_then(|config| {
        let mut broken = broken_zones(&config);
        broken.extend(refused_congestion(&config));
        if broken.is_empty() {
            Ok(config)
        } else {
            Err(Problems(broken))
        }
    });
    let (code, report, heading) = match config {
        Ok(config) => {
            let heading = format!(
                "{} is valid; state is kept in {}\n\n",
                args.file.display(),
                config.state_dir.display()
            );
            let report = Report {
                valid: true,
                problems: Vec::new(),
                warnings: absent::warnings(&config),
                components: components(&config),
            };
            (ExitCode::SUCCESS, report, heading)
        }
        Err(problems) => {
            let report = Report {
                valid: false,
                problems: problems.0,
                warnings: Vec::new(),
                components: Vec::new(),
            };
            (ExitCode::from(WRONG_USE), report, String::new())
        }
    };
    let text = if args.json {
        match serde_json::to_string_pretty(&report) {
            Ok(text) => text,
            Err(error) => {
                complain(format_args!("no JSON: {error}"));
                return ExitCode::FAILURE;
            }
        }
    } else {
        heading + &report.describe()
    };
    let printed = output((text + "\n").as_bytes());
    if printed == ExitCode::SUCCESS {
        code
    } else {
        printed
    }
}

impl Report {
    fn describe(&self) -> String {
        if !self.valid {
            return joined(&self.problems, "\n");
        }
        let rows = self.components.iter().flat_map(|component| {
            let lines = component.listens.len().max(component.facts.len());
            (0..lines).map(|line| {
                [
                    if line == 0 { component.name } else { "" }.to_owned(),
                    component.listens.get(line).cloned().unwrap_or_default(),
                    component.facts.get(line).cloned().unwrap_or_default(),
                ]
            })
        });
        let mut text = table(["COMPONENT", "LISTENS", "WHAT IT DOES"], rows);
        for warning in &self.warnings {
            text.push_str(&format!("\n\nwarning: {warning}"));
        }
        text
    }
}

/// What is wrong with the zone files that the configuration names.
fn broken_zones(config: &Config) -> Vec<Problem> {
    let zones = config.dns.iter().flat_map(|dns| &dns.zones);
    zones
        .enumerate()
        .filter_map(|(index, zone)| {
            let name = zone.name.parse::<dns::Name>();
            let (file, line, message) = match name {
                Err(error) => (config.file.as_deref()?.into(), None, error.to_string()),
                Ok(name) => {
                    let error =
                        dns::Zone::load(&name, &zone.file, &|path| std::fs::read(path)).err()?;
                    (error.file, error.line, error.reason)
                }
            };
            Some(Problem {
                file: file.display().to_string(),
                line,
                key: format!("dns.zone[{index}].file"),
                message,
            })
        })
        .collect()
}

/// A congestion control that this kernel does not give.
fn refused_congestion(config: &Config) -> Option<Problem> {
    let name = config.origin.as_ref()?.congestion.as_deref()?;
    Some(Problem {
        file: config.file.as_deref()?.display().to_string(),
        line: None,
        key: "origin.congestion".to_owned(),
        message: refuses_congestion(name)?,
    })
}

fn components(config: &Config) -> Vec<Component> {
    let mut found = Vec::new();
    if let Some(dhcp) = &config.dhcp {
        found.push(self::dhcp(dhcp));
    }
    if let Some(dns) = &config.dns {
        let zones = dns.zones.iter();
        found.push(Component {
            name: "dns",
            listens: dns
                .listen
                .iter()
                .flat_map(|address| [format!("udp {address}"), format!("tcp {address}")])
                .collect(),
            facts: zones
                .map(|zone| format!("zone {} of {}", zone.name, short(config, &zone.file)))
                .collect(),
        });
    }
    if let Some(rudp) = &config.rudp {
        let link = rudp.link.iter().flat_map(|link| {
            [
                format!("bad network to it: {}", link.up),
                format!("and back: {}", link.down),
            ]
        });
        found.push(Component {
            name: "rudp",
            listens: rudp
                .listen
                .iter()
                .map(|address| format!("udp {address}"))
                .collect(),
            facts: vec![
                format!(
                    "window of {} signals, {} sessions at most, idle after {}",
                    rudp.max_window,
                    rudp.max_sessions,
                    duration(rudp.idle_timeout)
                ),
                transport(&rudp.transport),
                match rudp.scraper {
                    Some(scraper) => format!("asks the scraper at {scraper} for the files"),
                    None => "knows no scraper: SIGNGET gets no files".to_owned(),
                },
            ]
            .into_iter()
            .chain(link)
            .collect(),
        });
    }
    if let Some(scrap) = &config.scrap {
        found.push(Component {
            name: "scrap",
            listens: tcp(&scrap.listen),
            facts: vec![format!(
                "reads {}, afresh after {}",
                scrap.origin,
                duration(scrap.refresh)
            )],
        });
    }
    if let Some(origin) = &config.origin {
        found.push(Component {
            name: "origin",
            listens: tcp(&origin.listen),
            facts: match &origin.files {
                OriginFiles::Folder(folder) => {
                    vec![format!("the files of {}", short(config, folder))]
                }
                // A line of a terminal holds about four names.
                OriginFiles::Samples(names) => names
                    .chunks(4)
                    .map(|names| format!("samples {}", names.join(" ")))
                    .collect(),
            }
            .into_iter()
            .chain((origin.congestion.iter()).map(|name| format!("sends by TCP's `{name}`")))
            .collect(),
        });
    }
    if let Some(http) = &config.http {
        found.push(Component {
            name: "http",
            listens: tcp(&http.listen),
            facts: http
                .listen
                .iter()
                .map(|address| format!("http://{address}/metrics"))
                .chain([format!(
                    "fault injection {}",
                    if http.fault_injection { "on" } else { "off" }
                )])
                .collect(),
        });
    }
    found
}

/// Where it listens by TCP.
fn tcp(addresses: &[SocketAddr]) -> Vec<String> {
    let addresses = addresses.iter();
    addresses.map(|address| format!("tcp {address}")).collect()
}

fn dhcp(dhcp: &config::Dhcp) -> Component {
    let listens = match &dhcp.listen {
        DhcpListen::Addresses(addresses) => addresses
            .iter()
            .map(|address| format!("udp {address}"))
            .collect(),
        DhcpListen::Interfaces(names) => names
            .iter()
            .map(|name| format!("udp port 67 of {name}"))
            .collect(),
    };
    let facts = dhcp.subnets.iter().flat_map(|subnet| {
        let addresses: u64 = subnet.pools.iter().map(config::AddressRange::len).sum();
        let pools = if subnet.pools.is_empty() {
            "no pool".to_owned()
        } else {
            format!("{addresses} addresses: {}", joined(&subnet.pools, ", "))
        };
        [
            format!("{}: {pools}", subnet.network),
            format!(
                "leases of {}, {} reserved; router {}, names {}",
                duration(subnet.lease_time),
                subnet.reservations.len(),
                or_none(&subnet.routers),
                or_none(&subnet.name_servers),
            ),
        ]
    });
    Component {
        name: "dhcp",
        facts: facts.collect(),
        listens,
    }
}

/// A path as the configuration file would say it.
fn short(config: &Config, path: &Path) -> String {
    let folder = config.file.as_deref().and_then(Path::parent);
    folder
        .and_then(|folder| path.strip_prefix(folder).ok())
        .unwrap_or(path)
        .display()
        .to_string()
}

fn or_none<T: Display>(list: &[T]) -> String {
    if list.is_empty() {
        "none".to_owned()
    } else {
        joined(list, ", ")
    }
}

fn joined<T: Display>(list: &[T], separator: &str) -> String {
    list.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(separator)
}

/// The binary transport in a line.
fn transport(transport: &config::Transport) -> String {
    let mut said = format!("files by {}", transport.congestion.name());
    if transport.client_choice {
        said.push_str(" or as the client asks");
    }
    for class in &transport.classes {
        let clients: Vec<String> = class.clients.iter().map(ToString::to_string).collect();
        if let Some(congestion) = class.congestion {
            said.push_str(&format!(
                ", {} for {}",
                congestion.name(),
                clients.join(" ")
            ));
        }
    }
    said.push_str(match transport.protection {
        config::Protection::Checksum => ", protected by a checksum",
        config::Protection::Psk(_) => ", protected by a secret",
    });
    said
}

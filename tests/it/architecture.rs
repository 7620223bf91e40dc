//! Holds the arrows of `src/lib.rs`: which folder may name which, that no file leads back to itself, and what
//! a core may not touch.

mod circles;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const ROLES: [&str; 5] = ["dhcp", "dns", "rudp", "scrap", "origin"];

/// A role's shells: its actor and its store (with their folders `actor/` and `store/`), and the files
/// that exist to do IO. All others are cores.
const SHELLS: [&str; 4] = ["actor.rs", "store.rs", "fetch.rs", "folder.rs"];

/// Files of a core that are compiled for its tests alone: they make up the time.
const TESTS: [&str; 3] = ["tests.rs", "simulation.rs", "simulator.rs"];

/// What a core may not name: sockets, clocks, the executor, ambient randomness, the disk.
const FORBIDDEN_IN_CORES: [&str; 12] = [
    "actix",
    "tokio",
    "socket2",
    "hyper",
    "axum",
    "rusqlite",
    "std::fs",
    "std::net::Udp",
    "std::net::Tcp",
    "Instant::now",
    "SystemTime::now",
    "rand::random",
];

struct Source {
    path: PathBuf,
    /// The folder of `src/` that it lies in, or its own name without `.rs`.
    room: String,
    /// Without comments and tests.
    code: String,
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("src is there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let inside = path.strip_prefix(&root).expect("inside src");
            let first = inside.components().next().expect("a name");
            let room = first.as_os_str().to_string_lossy();
            let text = fs::read_to_string(&path).expect("a source");
            let code = without_tests(&text)
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect::<Vec<_>>()
                .join("\n");
            Source {
                room: room.trim_end_matches(".rs").to_owned(),
                path: inside.to_owned(),
                code,
            }
        })
        .collect()
}

/// Without the modules that are compiled for tests alone: those in files of their own, and the one at the
/// end.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut pieces = text.split("#[cfg(test)]\n");
    kept.push_str(pieces.next().expect("split gives one at least"));
    for piece in pieces {
        let line = piece.lines().next().unwrap_or_default();
        if line.starts_with("mod ") && line.ends_with('{') {
            break;
        }
        let is_module = line.contains("mod ") && line.ends_with(';');
        kept.push_str(if is_module {
            &piece[line.len()..]
        } else {
            piece
        });
    }
    kept
}

/// The rooms that the code names with `crate::`, in one `use` of several, too.
fn named(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        if let Some(group) = after.strip_prefix('{') {
            let mut depth = 0;
            let mut item = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => rooms.extend(first_word(&std::mem::take(&mut item))),
                    _ if depth == 0 => item.push(c),
                    _ => {}
                }
            }
            rooms.extend(first_word(&item));
        } else {
            rooms.extend(first_word(after));
        }
    }
    rooms
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text
        .trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    if word == "watch" && text.trim_start().starts_with("watch::event") {
        return Some("watch::event".to_owned());
    }
    (!word.is_empty()).then_some(word)
}

/// Whether it belongs to the vocabulary of events, which everybody may name and which names nobody.
fn is_vocabulary(source: &Source) -> bool {
    source.path.starts_with("watch/event")
}

#[test]
fn arrows_point_one_way() {
    let mut wrong = Vec::new();
    for source in sources() {
        let own = source.room.as_str();
        let allowed: Vec<&str> = match own {
            "main" | "lib" => continue,
            "cli" => vec![
                "cli",
                "compare",
                "supervisor",
                "client",
                "simulation",
                "config",
                "http",
                "link",
                "net",
                "role",
                "telemetry",
                "origin",
                "dns",
                "dhcp",
                "rudp",
                "scrap",
                "watch",
            ],
            "supervisor" => [
                &ROLES[..],
                &[
                    "supervisor",
                    "config",
                    "http",
                    "net",
                    "telemetry",
                    "role",
                    "watch",
                ],
            ]
            .concat(),
            // The client walks through the roles: it speaks their codecs.
            "client" => vec![
                "client",
                "config",
                "link",
                "net",
                "role",
                "telemetry",
                "rudp",
                "scrap",
                "watch",
            ],
            "compare" => [
                &ROLES[..],
                &[
                    "compare",
                    "congestion",
                    "supervisor",
                    "client",
                    "simulation",
                    "config",
                    "link",
                    "net",
                    "role",
                    "telemetry",
                    "watch",
                ],
            ]
            .concat(),
            // The cores, what joins them, and what watches them: no actor, no socket.
            "simulation" => vec!["simulation", "link", "rudp", "watch"],
            "text" | "statistic" | "congestion" => vec![],
            "watch" if is_vocabulary(&source) => vec![],
            "watch" => vec!["watch", "link", "net", "config"],
            "config" => vec!["config"],
            "net" => vec!["net"],
            "link" => vec!["link", "net", "config"],
            // HttpActor is an actor like the roles' and has its configuration.
            "http" => vec!["http", "telemetry", "config", "net", "role", "watch"],
            "telemetry" => vec!["telemetry", "config", "link", "net", "watch"],
            "role" => vec!["congestion", "link", "net", "role", "telemetry", "watch"],
            role if ROLES.contains(&role) => {
                vec![
                    role,
                    "congestion",
                    "config",
                    "http",
                    "link",
                    "net",
                    "telemetry",
                    "role",
                    "watch",
                ]
            }
            other => panic!("src/{other} is no room of the house: see src/lib.rs"),
        };
        for room in named(&source.code) {
            // The lowest: whoever shows a stranger's text or a session's numbers needs it, and everybody
            // may raise events.
            let lowest = ["text", "statistic", "watch::event"].contains(&room.as_str());
            if !lowest && !allowed.contains(&room.as_str()) {
                wrong.push(format!("src/{} names crate::{room}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn cores_decide_and_touch_nothing() {
    let mut wrong = Vec::new();
    for source in sources() {
        let name = source
            .path
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        let in_shell = ["actor", "store"].iter().any(|shell| {
            let mut folders = source.path.iter();
            folders.any(|folder| folder == *shell)
        });
        if !ROLES.contains(&source.room.as_str()) || in_shell || SHELLS.contains(&name.as_str()) {
            continue;
        }
        if TESTS.contains(&name.as_str()) {
            continue;
        }
        for forbidden in FORBIDDEN_IN_CORES {
            if source.code.contains(forbidden) {
                wrong.push(format!("src/{} names {forbidden}", source.path.display()));
            }
        }
        for room in named(&source.code) {
            if ["http", "link", "net", "telemetry", "role"].contains(&room.as_str()) {
                wrong.push(format!("src/{} names crate::{room}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_in_net_alone() {
    for source in sources() {
        assert!(
            source.room == "net" || !source.code.contains("unsafe "),
            "src/{}",
            source.path.display()
        );
    }
}

#[test]
fn the_reader_of_arrows_reads_every_form() {
    let code = "use crate::{config::{A, B}, net, telemetry::{Metrics, packets}};\nuse crate::role::Role;\nlet x = crate::dns::f();";
    let rooms: Vec<String> = named(code).into_iter().collect();
    assert_eq!(rooms, ["config", "dns", "net", "role", "telemetry"]);
}

//! The configuration that labnet carries with itself: what `conf/` holds.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use super::{Config, Problems, load_environment, parse, whole};

/// The files to start from, by their paths below one folder.
pub const FILES: [(&str, &str); 7] = [
    ("labnet.toml", include_str!("../../conf/labnet.toml")),
    ("lan.toml", include_str!("../../conf/lan.toml")),
    ("prometheus.yml", include_str!("../../conf/prometheus.yml")),
    (
        "zones/example.com.zone",
        include_str!("../../conf/zones/example.com.zone"),
    ),
    (
        "zones/30.20.127.in-addr.arpa.zone",
        include_str!("../../conf/zones/30.20.127.in-addr.arpa.zone"),
    ),
    (
        "zones/lan.example.com.zone",
        include_str!("../../conf/zones/lan.example.com.zone"),
    ),
    (
        "zones/30.20.10.in-addr.arpa.zone",
        include_str!("../../conf/zones/30.20.10.in-addr.arpa.zone"),
    ),
];

/// The built-in configuration, `labnet.toml` of [`FILES`], with the process's `LABNET_` environment
/// laid over it.
///
/// Its state is in `LABNET_STATE_DIR`, or else in the folder that systemd gives a service
/// (`STATE_DIRECTORY`), or else where a user's state is (`XDG_STATE_HOME`, `~/.local/state`). Beside
/// the state lie the zones, written anew each time.
///
/// # Errors
/// What is wrong with the environment, that no folder is named by any of these, or that the zones
/// cannot be written.
pub fn built_in() -> Result<Config, Problems> {
    let mut environment = load_environment()?;
    let set = environment
        .iter()
        .find(|(name, value)| name == STATE_DIR && !value.is_empty())
        .map(|(_, folder)| std::path::absolute(folder).unwrap_or_else(|_| folder.into()));
    let folder = set
        .or_else(|| state_dir(|name| env::var_os(name).map(PathBuf::from)))
        .ok_or_else(|| {
            whole(
                STATE_DIR.to_owned(),
                "is not set, and neither is HOME: set one of them to a folder for the state"
                    .to_owned(),
            )
        })?;
    let text = folder.to_str().ok_or_else(|| {
        let message = "must be set: the folder's name is no text, not encoded in UTF-8";
        whole(STATE_DIR.to_owned(), message.to_owned())
    })?;
    environment.retain(|(name, _)| name != STATE_DIR);
    environment.push((STATE_DIR.to_owned(), text.to_owned()));
    let folder = folder.join("built-in");
    write_zones(&folder).map_err(|error| whole(folder.display().to_string(), error.to_string()))?;
    let [(name, text), ..] = FILES;
    let path = folder.join(name);
    let mut config = parse(text, &path, environment).map_err(|mut problems| {
        // No such file is there to be looked into.
        for problem in &mut problems.0 {
            if Path::new(&problem.file) == path {
                problem.file = format!("(built-in {name})");
            }
        }
        problems
    })?;
    config.file = None;
    Ok(config)
}

const STATE_DIR: &str = "LABNET_STATE_DIR";

/// Where the state of a program is that nobody told.
fn state_dir(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    // systemd separates several by colons: the first is the service's own.
    let service = variable("STATE_DIRECTORY").and_then(|folders| {
        let folders = folders.to_str()?.split(':').next()?.to_owned();
        Some(PathBuf::from(folders))
    });
    let users = || {
        // A relative one is to be ignored: XDG Base Directory Specification.
        variable("XDG_STATE_HOME")
            .filter(|folder| folder.is_absolute())
            .or_else(|| Some(variable("HOME")?.join(".local/state")))
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join("labnet"))
    };
    service.filter(|folder| folder.is_absolute()).or_else(users)
}

fn write_zones(folder: &Path) -> io::Result<()> {
    for (name, text) in FILES {
        if !name.ends_with(".zone") {
            continue;
        }
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        // Another lab may be reading it.
        if fs::read(&path).is_ok_and(|written| written == text.as_bytes()) {
            continue;
        }
        fs::write(&path, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_goes_where_the_system_wants_it() {
        let found = |set: &[(&str, &str)]| {
            let folder = state_dir(|name| {
                let entry = set.iter().find(|(known, _)| *known == name);
                entry.map(|(_, value)| PathBuf::from(value))
            });
            folder.map(|folder| folder.display().to_string())
        };
        let home = ("HOME", "/home/tal");
        for (set, expected) in [
            (&[][..], None),
            (&[("HOME", "")], None),
            (&[home], Some("/home/tal/.local/state/labnet")),
            (&[home, ("XDG_STATE_HOME", "/x")], Some("/x/labnet")),
            (
                &[home, ("XDG_STATE_HOME", "x")],
                Some("/home/tal/.local/state/labnet"),
            ),
            (
                &[home, ("STATE_DIRECTORY", "/var/lib/labnet:/var/lib/b")],
                Some("/var/lib/labnet"),
            ),
        ] {
            assert_eq!(found(set).as_deref(), expected, "{set:?}");
        }
    }

    #[test]
    fn nothing_that_conf_holds_is_missing() {
        let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
        for folder in ["", "zones"] {
            for entry in fs::read_dir(conf.join(folder)).expect("conf") {
                let path = entry.expect("an entry").path();
                let name = path
                    .strip_prefix(&conf)
                    .expect("inside")
                    .display()
                    .to_string();
                let kind = path.extension().and_then(|kind| kind.to_str());
                if matches!(kind, Some("toml" | "yml" | "zone")) {
                    let embedded = FILES.iter().find(|(known, _)| *known == name);
                    assert!(embedded.is_some(), "{name}");
                }
            }
        }
    }
}

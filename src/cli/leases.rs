//! `labnet leases`: who has which address, and the file that says so.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use hyper::Method;

use super::{
    api::{Target, ago, complaint, table},
    complain, output,
};
use crate::{
    dhcp::{self, Condition, Repaired},
    net,
    role::api::LeaseEntry,
};

/// Arguments of `labnet leases`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Say what is damaged in a lease database that no labnet has open; exit 1 if anything is
    Check(Database),
    /// Save what can be read of a damaged lease database; the old file is kept beside the new one
    Repair(Database),
    /// Copy the leases of a running lab into a file
    Backup(Backup),
}

#[derive(Debug, clap::Args)]
struct Database {
    /// The database: leases.sqlite in the state folder
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Backup {
    #[command(flatten)]
    target: Target,
    /// The file to make
    file: PathBuf,
    /// Replace the file if there is one
    #[arg(long)]
    force: bool,
}

/// Prints the leases, or looks after their file.
pub(super) fn run(args: Args) -> ExitCode {
    match args.verb {
        None => args.target.show("/api/v1/leases", describe),
        Some(Verb::Check(database)) => check(&database),
        Some(Verb::Repair(database)) => repair(&database),
        Some(Verb::Backup(backup)) => back_up(&backup),
    }
}

fn check(database: &Database) -> ExitCode {
    let condition = match dhcp::inspect(&database.file) {
        Ok(condition) => condition,
        Err(error) => return failed(error),
    };
    let told = if database.json {
        json(&condition)
    } else {
        let advice = if condition.is_sound() {
            "nothing is damaged".to_owned()
        } else {
            format!(
                "`labnet leases repair {}` saves what can be read",
                database.file.display()
            )
        };
        format!("{}{advice}\n", findings(&condition))
    };
    let written = output(told.as_bytes());
    if condition.is_sound() {
        written
    } else {
        ExitCode::FAILURE
    }
}

fn repair(database: &Database) -> ExitCode {
    let repaired = match dhcp::repair(&database.file, net::wall_time().as_secs()) {
        Ok(repaired) => repaired,
        Err(error) => return failed(error),
    };
    let told = if database.json {
        json(&repaired)
    } else {
        let Repaired { condition, aside } = &repaired;
        let done = match aside {
            Some(aside) => format!(
                "what can be read is saved; the damaged file is now {}",
                aside.display()
            ),
            None => "nothing is damaged; the file is as it was".to_owned(),
        };
        format!("{}{done}\n", findings(condition))
    };
    output(told.as_bytes())
}

fn findings(condition: &Condition) -> String {
    let mut text = format!("{} leases can be read\n", condition.leases);
    for damaged in &condition.damaged {
        text += &format!("damaged: {damaged}\n");
    }
    if let Some(problem) = &condition.problem {
        text += &format!("the file: {problem}\n");
    }
    text
}

fn json(value: &impl serde::Serialize) -> String {
    // Plain data with names for keys: it has a JSON form.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

fn back_up(backup: &Backup) -> ExitCode {
    let Backup {
        target,
        file,
        force,
    } = backup;
    if !force && file.symlink_metadata().is_ok() {
        return failed(exists(file));
    }
    let image = match target.ask(Method::GET, "/api/v1/leases/backup") {
        Ok((status, body)) if status.is_success() => body,
        Ok((status, body)) => return failed(complaint(status, &body)),
        Err(error) => return failed(error),
    };
    match keep(&image, file, *force) {
        Ok(condition) => {
            let told = if target.json {
                json(&condition)
            } else {
                format!("{} leases are in {}\n", condition.leases, file.display())
            };
            output(told.as_bytes())
        }
        Err(problem) => failed(problem),
    }
}

/// Writes the copy so that under its name there is all of it or nothing, and reads it once.
fn keep(image: &[u8], file: &Path, force: bool) -> Result<Condition, String> {
    let mut partial = file.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let told = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let write = || -> io::Result<()> {
        let mut copy = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&partial)?;
        copy.write_all(image)?;
        copy.sync_all()
    };
    write().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!(
            "{} is there: of a copy that is being made, or was broken off; then remove it",
            partial.display()
        ),
        _ => {
            let _ = fs::remove_file(&partial);
            told(&partial, error)
        }
    })?;
    let finish = || -> Result<Condition, String> {
        let condition = dhcp::inspect(&partial).map_err(|error| error.to_string())?;
        if force {
            fs::rename(&partial, file).map_err(|error| told(file, error))?;
        } else {
            // Unlike a rename, this takes nobody else's name.
            fs::hard_link(&partial, file).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => exists(file),
                _ => told(file, error),
            })?;
        }
        Ok(condition)
    };
    let finished = finish();
    // Under its own name by now, or of no use.
    let _ = fs::remove_file(&partial);
    let condition = finished?;
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| told(folder, error))?;
    Ok(condition)
}

fn exists(file: &Path) -> String {
    format!("{} is there already: --force replaces it", file.display())
}

fn failed(problem: impl std::fmt::Display) -> ExitCode {
    complain(problem);
    ExitCode::FAILURE
}

fn describe(leases: Vec<LeaseEntry>) -> String {
    if leases.is_empty() {
        return "no leases".to_owned();
    }
    let rows = leases.into_iter().map(|lease| {
        [
            lease.address.to_string(),
            lease.state,
            if lease.seconds_left == 0 {
                "-".to_owned()
            } else {
                ago(lease.seconds_left as f64)
            },
            lease.hardware_address,
            lease.hostname.unwrap_or_default(),
            if lease.reserved { "yes" } else { "" }.to_owned(),
        ]
    });
    table(
        [
            "ADDRESS",
            "STATE",
            "LEFT",
            "HARDWARE ADDRESS",
            "HOST NAME",
            "RESERVED",
        ],
        rows,
    )
}

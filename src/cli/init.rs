//! `labnet init`: a configuration to start from.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;

use super::output;
use crate::{compare::ready::READY, config::built_in::FILES, telemetry::complain};

/// Arguments of `labnet init`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder to write to, made if it isn't there; no file in it is overwritten
    #[arg(value_name = "DIR", default_value = "conf")]
    folder: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Written,
    /// It was there.
    Kept,
}

#[derive(Debug, Serialize)]
struct File {
    path: PathBuf,
    action: Action,
}

/// Writes the files that are not there yet.
pub(super) fn run(args: Args) -> ExitCode {
    let mut files = Vec::new();
    let experiments = READY.map(|(name, text)| (format!("experiments/{name}.toml"), text));
    let files_to_write = FILES.map(|(name, text)| (name.to_owned(), text));
    for (name, text) in files_to_write.into_iter().chain(experiments) {
        let path = args.folder.join(name);
        match write(&path, text) {
            Ok(action) => files.push(File { path, action }),
            Err(error) => {
                complain(format_args!("cannot write {}: {error}", path.display()));
                return ExitCode::FAILURE;
            }
        }
    }
    let text = if args.json {
        match serde_json::to_string_pretty(&files) {
            Ok(text) => text + "\n",
            Err(error) => {
                complain(format_args!("no JSON: {error}"));
                return ExitCode::FAILURE;
            }
        }
    } else {
        describe(&args.folder, &files)
    };
    output(text.as_bytes())
}

fn describe(folder: &Path, files: &[File]) -> String {
    let mut text = String::new();
    for File { path, action } in files {
        text += &match action {
            Action::Written => format!("written  {}\n", path.display()),
            Action::Kept => format!("kept     {} (it was there)\n", path.display()),
        };
    }
    let [(main, _), (lan, _), ..] = FILES;
    let (main, lan) = (folder.join(main), folder.join(lan));
    text + &format!(
        "\nThis machine alone: labnet serve -c {main}\nA real network:     labnet serve -c {lan}, once \
         its addresses are yours\n",
        main = main.display(),
        lan = lan.display()
    )
}

/// Never touches a file that is there, and leaves no half of one.
fn write(path: &Path, text: &str) -> io::Result<Action> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Action::Kept),
        Err(error) => return Err(error),
    };
    file.write_all(text.as_bytes()).inspect_err(|_| {
        // The disk's error is the one to tell.
        let _ = fs::remove_file(path);
    })?;
    Ok(Action::Written)
}

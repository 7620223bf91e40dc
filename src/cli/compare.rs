//! `labnet compare`: the same transfer by several senders over the same bad link.

mod live;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{self, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use live::Live;
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

use super::{WRONG_USE, api::table, output};
use crate::{
    compare::{
        experiment::{Experiment, KEYS, Key, LINK_KEYS, Text},
        gather,
        outcome::{self, Outcome},
        plan::Plan,
        ready::{READY, ready},
        real, report, simulated,
        table::{FILES_HEAD, HEAD, answers, parts},
    },
    telemetry::{complain, logging},
};

/// Arguments of `labnet compare`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file with the same keys as the options, which go before it; or the name of one of --list
    #[arg(value_name = "EXPERIMENT.toml")]
    file: Option<PathBuf>,
    /// Show the experiments that are ready to be run, by their names
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    said: Words,
    /// Print JSON: all that was measured
    #[arg(long)]
    json: bool,
    /// Write a report with plots, one HTML file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the plots as SVG files into this folder, which is made if it isn't there
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Have the report show its curves once its reader has drawn what to expect
    #[arg(long, requires = "out")]
    ask: bool,
}

/// What the command line says of the experiment: the same keys as a file's.
#[derive(Debug)]
struct Words(Vec<(&'static Key, Vec<String>)>);

impl clap::Args for Words {
    fn augment_args(mut command: Command) -> Command {
        let groups: [(&str, &'static [Key]); 2] = [
            ("Who sends", &KEYS),
            ("What happens to packets", &LINK_KEYS[..]),
        ];
        for (heading, keys) in groups {
            for key in keys {
                let mut arg = Arg::new(key.name)
                    .long(key.option())
                    .help(key.described())
                    .help_heading(heading);
                arg = match (key.value.is_empty(), key.many) {
                    (true, _) => arg.action(ArgAction::SetTrue),
                    (false, false) => arg.value_name(key.value),
                    (false, true) => arg
                        .action(ArgAction::Append)
                        .num_args(2)
                        .value_names(key.value.split(' ').collect::<Vec<&'static str>>()),
                };
                command = command.arg(arg);
            }
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Words {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut said = Vec::new();
        for key in KEYS.iter().chain(LINK_KEYS.iter()) {
            if key.value.is_empty() {
                if matches.get_flag(key.name) {
                    said.push((key, Vec::new()));
                }
            } else if let Some(occurrences) = matches.get_occurrences::<String>(key.name) {
                let values = occurrences.map(|values| {
                    let words: Vec<&str> = values.map(String::as_str).collect();
                    words.join(" ")
                });
                said.push((key, values.collect()));
            }
        }
        Ok(Self(said))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Makes the experiment and tells what came out of it.
pub(super) fn run(args: Args) -> ExitCode {
    if args.list {
        return list(args.json);
    }
    let plan = match plan(&args) {
        Ok(plan) => plan,
        Err(problems) => {
            for problem in problems {
                complain(format_args!("labnet compare: {problem}"));
            }
            return ExitCode::from(WRONG_USE);
        }
    };
    let runs = match conduct(&plan) {
        Ok(runs) => runs,
        Err(problem) => {
            complain(format_args!("labnet compare: {problem}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = gather::outcome(&plan, runs);
    if let Err(problem) = write(&args, &outcome) {
        complain(format_args!("labnet compare: {problem}"));
        return ExitCode::FAILURE;
    }
    let text = if args.json {
        match serde_json::to_string(&outcome) {
            Ok(text) => text + "\n",
            Err(error) => {
                complain(format_args!("no JSON: {error}"));
                return ExitCode::FAILURE;
            }
        }
    } else {
        describe(&outcome)
    };
    let printed = output(text.as_bytes());
    let mut flows = outcome.runs.iter().flat_map(|run| &run.flows);
    if flows.all(|flow| flow.finished) {
        printed
    } else {
        ExitCode::FAILURE
    }
}

/// Writes the report and the pictures, if they are wanted.
fn write(args: &Args, outcome: &Outcome) -> Result<(), String> {
    let put = |file: &Path, text: String| {
        fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
    };
    if let Some(file) = &args.out {
        put(file, report::html(outcome, args.ask))?;
    }
    if let Some(folder) = &args.svg {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for (name, picture) in report::svg(outcome) {
            put(&folder.join(name), picture)?;
        }
    }
    Ok(())
}

/// Makes all runs of the plan, or as many as there are until somebody stops it.
fn conduct(plan: &Plan) -> Result<Vec<outcome::Run>, String> {
    let mut runs = Vec::new();
    let stop = Arc::new(AtomicBool::new(false));
    let stop_at_interrupt = || {
        let stop = Arc::clone(&stop);
        stop_at_interrupt(stop).map_err(|error| format!("signals: {error}"))
    };
    if plan.simulate {
        // Programs don't hear of a Ctrl-C, and have to be ended.
        if plan.has_program() {
            stop_at_interrupt()?;
        }
        for run in &plan.runs {
            runs.push(simulated::run_until(run, &stop)?);
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        return Ok(runs);
    }
    // Before there is a second thread.
    let ground = real::prepare(plan)?;
    logging::init(None, LevelFilter::WARN);
    stop_at_interrupt()?;
    let mut live = Live::new();
    for (number, run) in plan.runs.iter().enumerate() {
        live.begin(number + 1, plan.runs.len(), run);
        runs.push(real::run(run, &ground, &mut live, &stop)?);
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(runs)
}

/// What a shell tells of a process that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Ctrl-C or SIGTERM ends a run as if its time were up: what it has brought is told. The second ends all.
fn stop_at_interrupt(stop: Arc<AtomicBool>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let (Ok(mut interrupt), Ok(mut terminate)) = (
                    signal(SignalKind::interrupt()),
                    signal(SignalKind::terminate()),
                ) else {
                    return;
                };
                let mut again = false;
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if std::mem::replace(&mut again, true) {
                        // Who asks twice does not want to wait.
                        process::exit(INTERRUPTED);
                    }
                    stop.store(true, Ordering::Relaxed);
                }
            });
        })
        .map(drop)
}

/// What is to be done, or all that is wrong.
fn plan(args: &Args) -> Result<Plan, Vec<String>> {
    let told = |problems: Vec<_>| problems.iter().map(ToString::to_string).collect();
    let mut experiment = match &args.file {
        None => Experiment::default(),
        Some(file) => {
            let name = file.display().to_string();
            let text = match (fs::read_to_string(file), ready(&name)) {
                (Ok(text), _) => text,
                (Err(_), Some(text)) => text.to_owned(),
                (Err(error), None) => {
                    return Err(vec![format!("{name}: {error}; --list shows what is ready")]);
                }
            };
            Experiment::read(&name, &text).map_err(told)?
        }
    };
    let said = |name: &str| args.said.0.iter().any(|(key, _)| key.name == name);
    // What the command line says goes before all in the file that it would contradict.
    for (one, others) in [
        ("size", &["time"][..]),
        ("time", &["size", "files"]),
        ("flows", &["congestion", "against", "together"]),
        ("congestion", &["flows"]),
        ("against", &["flows"]),
    ] {
        if said(one) {
            let mut contradicted = others.iter().filter(|other| !said(other));
            contradicted
                .by_ref()
                .for_each(|other| experiment.forget(other));
        }
    }
    for (key, values) in &args.said.0 {
        let place = format!("--{}", key.option());
        experiment.say(key.name, place, values.clone());
    }
    Plan::compile(&experiment).map_err(told)
}

/// Shows what is ready to be run.
fn list(json: bool) -> ExitCode {
    // They are right: a test holds them to it.
    let read = |(name, text)| Some((name, Experiment::read(name, text).ok()?.text));
    let all: Vec<(&str, Text)> = READY.into_iter().filter_map(read).collect();
    if json {
        let all: Vec<_> = all
            .into_iter()
            .map(|(name, text)| {
                serde_json::json!({
                    "name": name,
                    "title": text.title,
                    "question": text.question,
                    "look_for": text.look_for,
                    "answer": text.answer,
                })
            })
            .collect();
        return output(format!("{}\n", serde_json::Value::from(all)).as_bytes());
    }
    let rows = all
        .into_iter()
        .map(|(name, text)| [name.to_owned(), text.question.unwrap_or_default()]);
    let table = table(["NAME", "QUESTION"], rows);
    let next = "labnet compare --simulate NAME runs one; it says what to look for, and the answer";
    output(format!("{table}\n\n{next}\n").as_bytes())
}

fn describe(outcome: &Outcome) -> String {
    let mut text = String::new();
    let experiment = &outcome.experiment;
    for line in [&experiment.title, &experiment.question]
        .into_iter()
        .flatten()
    {
        text += &format!("{}\n", line.trim_end());
    }
    text += &format!("{}; seed {}", experiment.link.words, experiment.seed);
    for change in &experiment.changes {
        text += &format!("; from {} s on {}", change.at_seconds, change.words);
    }
    text += if experiment.simulated {
        "; simulated\n"
    } else {
        "\n"
    };
    for part in parts(outcome) {
        text += "\n";
        if let Some(title) = &part.title {
            text += &format!("{title}\n");
        }
        text += &table(HEAD, part.rows);
        text += "\n";
        if !part.files.is_empty() {
            text += &format!("\n{}\n", table(FILES_HEAD, part.files));
        }
        if let Some((median, least, most)) = part.jain {
            text += &match experiment.repeats {
                1 => format!("Jain's index {median:.3}\n"),
                _ => format!("Jain's index {median:.3} ({least:.3}-{most:.3})\n"),
            };
        }
    }
    for sentence in answers(outcome) {
        text += &format!("\n{sentence}\n");
    }
    if let Some(look_for) = &experiment.look_for {
        text += "\nLook for:\n";
        text += &look_for
            .lines()
            .map(|line| format!("- {line}\n"))
            .collect::<String>();
    }
    if let Some(answer) = &experiment.answer {
        text += &format!("\nThe answer:\n{}\n", answer.trim());
    }
    text
}

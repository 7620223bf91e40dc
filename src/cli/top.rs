//! `labnet top`: a running service's sessions, live.

mod board;
mod column;
mod detail;
mod frame;
mod key;
mod meter;
mod polled;
mod screen;
mod sort;
mod spark;
mod terminal;
mod told;
mod view;

use std::{
    io,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::time::MissedTickBehavior;

use self::{
    board::{Board, Moment},
    polled::Question,
    sort::Sort,
    view::{MOST, View},
};
use super::api::Target;
use crate::{
    net::is_attended,
    telemetry::{complain, print},
};

/// Arguments of `labnet top`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "On a terminal it draws; elsewhere, with --once or with --json it prints a row for each \
session and interval."
)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// What comes first
    #[arg(long, value_enum, value_name = "KEY", default_value_t = Sort::Goodput)]
    sort: Sort,
    /// Only sessions that have this in their name, address, controller or connection id
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// How often the service is asked: 200ms to 1h
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Print one interval and end
    #[arg(long)]
    once: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let bounds = Duration::from_millis(200)..=Duration::from_secs(3600);
    if bounds.contains(&interval) {
        Ok(interval)
    } else {
        Err("not from 200ms to 1h".to_owned())
    }
}

/// Shows the sessions until the person has seen enough.
pub(super) fn run(args: Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!("no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let drawn = !args.once && !args.target.json && is_attended() && can_be_drawn_on();
    let ended = if drawn {
        let view = View::new(args.sort, args.filter);
        let screen = terminal::run(Arc::new(args.target), view, args.interval);
        let ended = terminal::guarded(|| runtime.block_on(screen));
        // A thread may wait for a key that never comes.
        runtime.shutdown_background();
        ended
    } else {
        runtime.block_on(tell(&args))
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(why);
            ExitCode::FAILURE
        }
    }
}

/// Whether the terminal knows how to move its cursor.
fn can_be_drawn_on() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// The moment, since `began`.
fn moment(began: Instant) -> Moment {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    Moment {
        steady: began.elapsed().as_secs_f64(),
        unix: unix.unwrap_or_default().as_secs_f64(),
    }
}

/// Prints intervals until Ctrl-C, or one.
async fn tell(args: &Args) -> Result<(), String> {
    let question = Question {
        sort: args.sort,
        filter: args.filter.clone(),
        limit: MOST,
        detail: None,
    };
    let began = Instant::now();
    let mut board = Board::new(args.interval.as_secs_f64());
    let mut ticks = tokio::time::interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut headed = false;
    // With the first answer alone there are no rates yet.
    let mut polls = 0_u64;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            interrupted = tokio::signal::ctrl_c() => {
                return interrupted.map_err(|error| error.to_string());
            }
        }
        let polled = question.ask(&args.target).await;
        let now = moment(began);
        let was_gone = board.gone.is_some();
        if let Err(why) = &polled {
            if polls == 0 || args.once {
                return Err(why.clone());
            }
            if !was_gone {
                complain(format_args!("gone since {} UTC: {why}", now.time()));
            }
        } else if was_gone {
            complain(format_args!("back at {} UTC", now.time()));
        }
        board.hear(polled, args.sort, now);
        if board.gone.is_some() {
            continue;
        }
        polls += 1;
        if polls == 1 {
            continue;
        }
        if !told(&board, args.target.json, &mut headed)
            .map_err(|error| format!("cannot write: {error}"))?
        {
            // Whoever read it has seen enough.
            return Ok(());
        }
        if args.once {
            return Ok(());
        }
    }
}

/// Prints an interval; false: nobody reads it any more.
fn told(board: &Board, json: bool, headed: &mut bool) -> io::Result<bool> {
    let mut text = String::new();
    if json {
        text = format!("{}\n", told::json(board));
    } else {
        if !*headed {
            text = format!("{}\n", told::HEAD);
            *headed = true;
        }
        for row in told::rows(board) {
            text += &row;
            text.push('\n');
        }
    }
    match print(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        printed => printed.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::{board::Board, polled::Polled, sort::Sort, *};

    /// An answer with sessions of these names.
    pub(super) fn polled(names: &[&str]) -> Polled {
        let sessions = names.iter().enumerate().map(|(n, name)| {
            serde_json::json!({
                "kind": "transport", "client": format!("127.0.0.1:{}", n + 1), "name": name,
                "connection_id": name, "congestion": "cubic", "phase": "slow_start",
                "connected_seconds": 100.0, "window_bytes": 14_720,
            })
        });
        let sessions: Vec<_> = sessions.collect();
        let status = serde_json::json!({
            "version": "1", "generation": 2, "config_file": null, "uptime_seconds": 7.0, "components": [
                { "name": "dhcp", "state": "degraded", "reasons": ["no interface"], "restarts": 0,
                  "last_failure": null, "state_seconds": 1.0, "listens": [] },
                { "name": "dns", "state": "up", "reasons": [], "restarts": 0,
                  "last_failure": null, "state_seconds": 1.0, "listens": [] },
            ],
        });
        Polled {
            status: serde_json::from_value(status).expect("a status"),
            fit: names.len(),
            open: names.len(),
            sessions: serde_json::from_value(sessions.into()).expect("sessions"),
            totals: Default::default(),
            link: None,
            detail: None,
        }
    }

    /// A board that has heard of these, by name.
    pub(super) fn board(names: &[&str]) -> Board {
        let mut board = Board::new(1.0);
        let now = Moment {
            steady: 1.0,
            unix: 1.0,
        };
        board.hear(Ok(polled(names)), Sort::Name, now);
        board
    }

    #[test]
    fn intervals_have_bounds() {
        assert_eq!(interval("1s"), Ok(Duration::from_secs(1)));
        for text in ["100ms", "2h", "0s", "x"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}

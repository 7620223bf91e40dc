//! The shell around the screen: keys, signals, polls in; what has changed out.

use std::{
    io::{self, Read, Write},
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use console::{Term, colors_enabled};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::{MissedTickBehavior, sleep},
};

use super::{
    board::Board,
    frame::Frame,
    key::keys,
    moment,
    polled::{Polled, Question},
    screen,
    view::{Act, View},
};
use crate::{cli::api::Target, net::RawTerminal};

/// The alternate screen, without a cursor.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
const LEAVE: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?1049l";

/// Runs what draws; a panic is told when the terminal has been given back.
pub(super) fn guarded(draws: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let told = Arc::new(Mutex::new(String::new()));
    let hears = Arc::clone(&told);
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        *hears.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
    }));
    let ended = panic::catch_unwind(AssertUnwindSafe(draws));
    panic::set_hook(before);
    ended.unwrap_or_else(|_| {
        let told = told.lock().unwrap_or_else(PoisonError::into_inner);
        Err(format!("labnet top failed: {told}"))
    })
}

/// What is asked, with a number that is another one whenever it is to be asked at once.
type Asked = (u64, Question, bool);

/// Draws until the person quits, or SIGTERM or SIGHUP comes.
///
/// # Errors
/// The service does not answer the first time, or the terminal is none.
pub(super) async fn run(
    target: Arc<Target>,
    mut view: View,
    interval: Duration,
) -> Result<(), String> {
    let said = |error: io::Error| format!("the terminal: {error}");
    let began = Instant::now();
    let mut board = Board::new(interval.as_secs_f64());
    resize(&mut view);
    let first = view.question().ask(&target).await?;
    board.hear(Ok(first), view.sort, moment(began));
    view.settle(&board);

    let mut resized = signal(SignalKind::window_change()).map_err(said)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(said)?;
    let mut hung_up = signal(SignalKind::hangup()).map_err(said)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(said)?;
    let at = target.authority().to_owned();
    let (ask, asked) = watch::channel((0, view.question(), false));
    let (answer, mut answers) = mpsc::channel(1);
    tokio::spawn(poll(target, interval, asked, answer));
    let mut pressed = listen();

    let terminal = RawTerminal::take(ENTER, LEAVE).map_err(said)?;
    let mut shown: Option<Frame> = None;
    loop {
        let now = moment(began);
        let frame = screen::draw(&mut view, &board, &at, now.steady);
        show(&frame, shown.as_ref()).map_err(said)?;
        shown = Some(frame);
        tokio::select! {
            _ = resized.recv() => {
                resize(&mut view);
                view.settle(&board);
                shown = None;
                ask_again(&ask, &view, false);
            }
            _ = terminated.recv() => return Ok(()),
            _ = hung_up.recv() => return Ok(()),
            _ = interrupted.recv() => return Ok(()),
            Some((question, polled)) = answers.recv() => {
                if !view.paused && question == view.question() {
                    board.hear(polled, view.sort, moment(began));
                    view.settle(&board);
                    // Scrolled to rows that are not there any more, or are now.
                    ask_again(&ask, &view, false);
                }
            }
            bytes = pressed.recv() => {
                // The terminal is gone.
                let Some(bytes) = bytes else { return Ok(()) };
                for key in keys(&bytes) {
                    let act = view.press(key, &board);
                    match act {
                        Act::Quit => return Ok(()),
                        Act::Suspend => {
                            terminal.suspend().map_err(said)?;
                            resize(&mut view);
                            shown = None;
                        }
                        Act::Redraw => shown = None,
                        Act::Show | Act::Ask => {}
                    }
                    ask_again(&ask, &view, act == Act::Ask);
                }
            }
            // How long it is gone is told each second.
            () = sleep(Duration::from_secs(1)), if board.gone.is_some() => {}
        }
    }
}

/// Has the service asked what the view shows now; `at_once`, or when the next interval is over.
fn ask_again(ask: &watch::Sender<Asked>, view: &View, at_once: bool) {
    let question = view.question();
    ask.send_if_modified(|(number, asked, paused)| {
        let modified = at_once || *asked != question || *paused != view.paused;
        *number += u64::from(at_once);
        (*asked, *paused) = (question, view.paused);
        modified
    });
}

/// Asks the service once an interval, and at once where that is wanted.
async fn poll(
    target: Arc<Target>,
    interval: Duration,
    mut asked: watch::Receiver<Asked>,
    answer: mpsc::Sender<(Question, Result<Polled, String>)>,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first answer is there already.
    ticks.tick().await;
    let mut last = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            changed = asked.changed() => {
                if changed.is_err() {
                    return;
                }
                let number = asked.borrow_and_update().0;
                if number == last {
                    continue;
                }
                last = number;
            }
        }
        let (_, question, paused) = asked.borrow_and_update().clone();
        if paused {
            continue;
        }
        let polled = question.ask(&target).await;
        if answer.send((question, polled)).await.is_err() {
            return;
        }
    }
}

/// What the person types, as it comes. The thread ends with the process: nothing else ends a read.
fn listen() -> mpsc::Receiver<Vec<u8>> {
    let (press, pressed) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut bytes = [0; 256];
        while let Ok(length @ 1..) = io::stdin().lock().read(&mut bytes) {
            if press.blocking_send(bytes[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    pressed
}

fn resize(view: &mut View) {
    let (height, width) = Term::stdout().size();
    // A terminal that does not know its size says 0.
    view.width = usize::from(if width == 0 { 80 } else { width });
    view.height = usize::from(if height == 0 { 24 } else { height });
}

/// Sends what has changed, in one piece, so that nothing half-drawn is seen.
fn show(frame: &Frame, before: Option<&Frame>) -> io::Result<()> {
    let changed = frame.after(before, colors_enabled());
    if changed.is_empty() {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    out.write_all(changed.as_bytes())?;
    out.flush()
}

//! The interactive prompt: a person's lines become steps of a [`Walk`].

use std::{
    env, fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc as blocking},
    thread,
};

use console::style;
use rustyline::{
    Config, Context, Editor, Helper,
    completion::{Completer, Pair},
    error::ReadlineError,
    highlight::Highlighter,
    hint::Hinter,
    history::FileHistory,
    validate::Validator,
};
use tokio::sync::mpsc;

use super::{
    command::{self, COMMANDS, Command},
    failure::WalkError,
    file_name::FileName,
    report::{Output, Report},
    terminal::Teller,
    walk::Walk,
};
use crate::link::SignalLoss;

/// A line that was typed, or why none was.
enum Typed {
    Line(String),
    /// Ctrl-C, Ctrl-D, the end of a pipe.
    End,
}

/// Runs until the person leaves. Tells whether everything that was asked for succeeded: for
/// scripts that pipe their commands in.
pub async fn run(walk: &mut Walk, output: &Output, seed: u64) -> Result<bool, WalkError> {
    let mut teller = Teller::default();
    walk.connect(&mut teller).await?;
    let files = Arc::new(Mutex::new(Vec::new()));
    let (typed, mut lines) = mpsc::channel(1);
    let (next, asked) = blocking::channel();
    let names = Arc::clone(&files);
    // A thread of its own, that dies with the process: nobody can wake a reader of a terminal.
    let reader = thread::Builder::new().name("prompt".to_owned());
    if let Err(error) = reader.spawn(move || read_lines(&asked, &typed, names)) {
        tracing::error!(%error, "no thread for the prompt");
        return Ok(false);
    }
    let mut succeeded = true;
    output.hint("`help` lists the signals, Ctrl-D leaves");
    while next.send(()).is_ok() {
        let line = tokio::select! {
            line = lines.recv() => line,
            never = walk.stay() => match never {},
        };
        let Some(Typed::Line(line)) = line else {
            break;
        };
        let command = match command::parse(&line) {
            Ok(Command::End) => break,
            Ok(command) => command,
            Err(error) => {
                output.complain(&error);
                succeeded = false;
                continue;
            }
        };
        let done = tokio::select! {
            done = obey(command, walk, output, &mut teller, seed) => Some(done),
            _ = tokio::signal::ctrl_c() => None,
        };
        match done {
            Some(Ok(done)) => succeeded &= done,
            Some(Err(error)) => {
                output.complain(&error);
                succeeded = false;
            }
            None => {
                teller = Teller::default();
                output.complain("interrupted; what has arrived of a file is kept");
                succeeded = false;
            }
        }
        *files.lock().unwrap_or_else(PoisonError::into_inner) =
            walk.files().iter().map(FileName::to_string).collect();
    }
    Ok(succeeded)
}

/// Carries a command out; tells whether all of it succeeded.
async fn obey(
    command: Command,
    walk: &mut Walk,
    output: &Output,
    teller: &mut Teller,
    seed: u64,
) -> Result<bool, WalkError> {
    let mut succeeded = true;
    match command {
        Command::Nothing | Command::End => {}
        Command::Help => help(output),
        Command::New => walk.renew(teller).await?,
        Command::Echo(times) => {
            let answers = walk.echo(times, teller).await?;
            output.report(&Report::Echoes(&answers));
        }
        Command::Stat => {
            let told = walk.stat(teller).await?;
            output.report(&Report::Statistics(&told));
        }
        Command::List => {
            let files = walk.list(teller).await?;
            output.report(&Report::Files(files));
        }
        Command::Get(wanted) if wanted.is_empty() => {
            let files = walk.list(teller).await?;
            output.report(&Report::Files(files));
            output.hint("choose with `get 1 3`, `get NAME` or `get all`");
        }
        Command::Get(wanted) => {
            if walk.files().is_empty() {
                walk.list(teller).await?;
            }
            let files: Vec<FileName> = wanted.iter().map(|text| walk.choose(text)).collect();
            succeeded = fetch(&files, walk, output, teller).await?;
        }
        Command::GetAll => {
            let files = walk.list(teller).await?.to_vec();
            succeeded = fetch(&files, walk, output, teller).await?;
        }
        Command::Loss(percent, new_seed) => {
            let seed = new_seed.unwrap_or(seed);
            walk.set_loss(SignalLoss::new(percent, seed));
            output.hint(&format!(
                "{percent} % of the signals get lost from now on (seed {seed})"
            ));
        }
    }
    Ok(succeeded)
}

/// Downloads files and reports on them; tells whether all came.
pub async fn fetch(
    files: &[FileName],
    walk: &mut Walk,
    output: &Output,
    teller: &mut Teller,
) -> Result<bool, WalkError> {
    if walk.goes_past_its_bad_network() {
        output.complain(
            "the bad network is for the signals: these files come over TCP, past it (--via rudp takes them through it)",
        );
    }
    let gathered = walk.get(files, teller).await?;
    if walk.wished_in_vain(&gathered) {
        output.complain(
            "--congestion: the origin does not say by which congestion control it sent; labnet's own alone takes a wish",
        );
    }
    for (file, result) in files.iter().zip(&gathered.files) {
        output.report(&Report::Fetched(file, result));
    }
    output.report(&Report::Gathered(&gathered.summary));
    Ok(gathered.summary.complete)
}

fn help(output: &Output) {
    let mut lines = Vec::new();
    for entry in COMMANDS {
        let typed = format!("{} {}", entry.word, entry.arguments);
        lines.push(format!(
            "  {:<26} {:<10} {}",
            style(typed).bold(),
            style(entry.signal).cyan(),
            entry.does
        ));
    }
    lines.push("  A signal may be typed as well as its word: SIGNECHO 3.".to_owned());
    output.hint(&lines.join("\n"));
}

/// Reads one line each time it is asked to.
fn read_lines(
    asked: &blocking::Receiver<()>,
    typed: &mpsc::Sender<Typed>,
    files: Arc<Mutex<Vec<String>>>,
) {
    let config = Config::builder()
        .max_history_size(1000)
        .map(|config| config.auto_add_history(true).build());
    let editor = config.and_then(Editor::<Words, FileHistory>::with_config);
    let mut editor = match editor {
        Ok(editor) => editor,
        Err(error) => {
            tracing::error!(%error, "no prompt");
            return;
        }
    };
    editor.set_helper(Some(Words { files }));
    let history = history_file();
    if let Some(path) = &history {
        // The first time there is none.
        let _ = editor.load_history(path);
    }
    while asked.recv().is_ok() {
        let line = match editor.readline("labnet> ") {
            Ok(line) => Typed::Line(line),
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => Typed::End,
            Err(error) => {
                tracing::error!(%error, "the prompt can't be read");
                Typed::End
            }
        };
        if let (Some(path), Typed::Line(_)) = (&history, &line)
            && let Err(error) = editor.append_history(path)
        {
            tracing::debug!(%error, path = %path.display(), "no history");
        }
        if typed.blocking_send(line).is_err() {
            return;
        }
    }
}

/// `~/.local/state/labnet/history`, or where XDG_STATE_HOME says; made if it isn't there.
fn history_file() -> Option<PathBuf> {
    let state = env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".local/state")))?;
    let folder = state.join("labnet");
    fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}

/// Completes commands and the names of files.
struct Words {
    files: Arc<Mutex<Vec<String>>>,
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(complete(&line[..pos], &files))
    }
}

/// Where the word under the cursor starts, and what it may become.
fn complete(line: &str, files: &[String]) -> (usize, Vec<Pair>) {
    let start = line.rfind([' ', '"']).map_or(0, |at| at + 1);
    let word = &line[start..];
    if line[..start].trim().is_empty() {
        let mut pairs: Vec<Pair> = Vec::new();
        for candidate in COMMANDS.iter().flat_map(|entry| [entry.word, entry.signal]) {
            let known = pairs.iter().any(|pair| pair.display == candidate);
            if !candidate.is_empty() && !known && starts_with(candidate, word) {
                pairs.push(pair(candidate, &format!("{candidate} ")));
            }
        }
        return (start, pairs);
    }
    let first = line.split_whitespace().next().unwrap_or_default();
    if !["get", "signget"].contains(&first.to_ascii_lowercase().as_str()) {
        return (start, Vec::new());
    }
    let quoted = line[..start].ends_with('"');
    let pairs = files
        .iter()
        .filter(|name| starts_with(name, word))
        .map(|name| match (quoted, name.contains(' ')) {
            (true, _) => pair(name, &format!("{name}\" ")),
            (false, true) => pair(name, &format!("\"{name}\" ")),
            (false, false) => pair(name, &format!("{name} ")),
        })
        .collect();
    (start, pairs)
}

fn starts_with(candidate: &str, word: &str) -> bool {
    candidate
        .get(..word.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(word))
}

fn pair(display: &str, replacement: &str) -> Pair {
    Pair {
        display: display.to_owned(),
        replacement: replacement.to_owned(),
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}

impl Validator for Words {}

impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;

    fn completions(line: &str) -> Vec<String> {
        let files = ["50MB.zip", "500MB.zip", "my notes.txt", "übung.pdf"].map(str::to_owned);
        let (start, pairs) = complete(line, &files);
        pairs
            .into_iter()
            .map(|pair| format!("{}{}", &line[..start], pair.replacement))
            .collect()
    }

    #[test]
    fn commands_signals_and_files_are_completed() {
        assert_eq!(completions("ec"), ["echo "]);
        assert_eq!(completions("SIGNE"), ["SIGNEW ", "SIGNECHO ", "SIGNEND "]);
        assert_eq!(completions("signg"), ["SIGNGET "]);
        assert_eq!(completions("get 50"), ["get 50MB.zip ", "get 500MB.zip "]);
        assert_eq!(completions("get 1 my"), ["get 1 \"my notes.txt\" "]);
        assert_eq!(completions("get \"my"), ["get \"my notes.txt\" "]);
        assert_eq!(completions("SIGNGET ü"), ["SIGNGET übung.pdf "]);
        assert_eq!(completions("echo 5"), [""; 0]);
        assert_eq!(completions("get x"), [""; 0]);
        assert_eq!(completions("").len(), 13);
    }
}

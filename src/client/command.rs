//! What a person can type at the prompt.

/// One line of the prompt, understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Nothing was typed.
    Nothing,
    /// The list of commands.
    Help,
    /// SIGNEW: a new session.
    New,
    /// SIGNECHO, so many times.
    Echo(usize),
    /// SIGNSTAT
    Stat,
    /// SIGNGET: the list.
    List,
    /// The files of these names or numbers.
    Get(Vec<String>),
    /// All files.
    GetAll,
    /// Lose so many percent of the signals on purpose; the seed, if one is given.
    Loss(f64, Option<u64>),
    /// SIGNEND: the end.
    End,
}

/// A command's words and what it does, for the help and for completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The signal behind it; empty if there is none.
    pub signal: &'static str,
    /// The plain word.
    pub word: &'static str,
    /// What follows it.
    pub arguments: &'static str,
    /// What it does.
    pub does: &'static str,
}

/// All commands, in the order of a walk.
pub const COMMANDS: [Entry; 8] = [
    Entry {
        signal: "SIGNEW",
        word: "new",
        arguments: "",
        does: "say hello: open a new session with the proxy",
    },
    Entry {
        signal: "SIGNECHO",
        word: "echo",
        arguments: "[N]",
        does: "send N timestamps at once and get them back: the latency",
    },
    Entry {
        signal: "SIGNSTAT",
        word: "stat",
        arguments: "",
        does: "ask what the proxy has counted, and compare with the count here",
    },
    Entry {
        signal: "SIGNGET",
        word: "list",
        arguments: "",
        does: "ask for the list of files",
    },
    Entry {
        signal: "SIGNGET",
        word: "get",
        arguments: "N... | NAME... | all",
        does: "download files by number or name: `get 1 3`",
    },
    Entry {
        signal: "",
        word: "loss",
        arguments: "PERCENT [SEED]",
        does: "lose signals on purpose, to see SIGNLOST at work: `loss 20`",
    },
    Entry {
        signal: "",
        word: "help",
        arguments: "",
        does: "this list",
    },
    Entry {
        signal: "SIGNEND",
        word: "quit",
        arguments: "",
        does: "say goodbye: end the session and leave (Ctrl-D does the same)",
    },
];

/// As many signals as one `echo` may send.
const MAX_ECHOES: usize = 1000;

/// Understands a line, or says what is wrong with it.
pub fn parse(line: &str) -> Result<Command, String> {
    let words = words(line);
    let Some((first, rest)) = words.split_first() else {
        return Ok(Command::Nothing);
    };
    let alone = |command| match rest {
        [] => Ok(command),
        _ => Err(format!("{first} takes nothing after it")),
    };
    match first.to_ascii_lowercase().as_str() {
        "help" | "?" | "h" => alone(Command::Help),
        "new" | "signew" => alone(Command::New),
        "echo" | "signecho" | "ping" => match rest {
            [] => Ok(Command::Echo(1)),
            [times] => times
                .parse()
                .ok()
                .filter(|times| (1..=MAX_ECHOES).contains(times))
                .map(Command::Echo)
                .ok_or_else(|| format!("{first} takes a number from 1 to {MAX_ECHOES}")),
            _ => Err(format!("{first} takes one number")),
        },
        "stat" | "signstat" | "stats" => alone(Command::Stat),
        "list" | "ls" => alone(Command::List),
        "signget" if rest.is_empty() => Ok(Command::List),
        "get" | "signget" | "download" => match rest {
            [all] if all.eq_ignore_ascii_case("all") || all == "*" => Ok(Command::GetAll),
            files => Ok(Command::Get(files.to_vec())),
        },
        "loss" => {
            let percent = rest.first().and_then(|word| {
                let percent: f64 = word.trim_end_matches('%').parse().ok()?;
                (0.0..=MAX_LOSS).contains(&percent).then_some(percent)
            });
            let seed = rest.get(1).map(|word| word.parse().ok());
            match (percent, seed, rest.len()) {
                (Some(percent), None, _) => Ok(Command::Loss(percent, None)),
                (Some(percent), Some(Some(seed)), 2) => Ok(Command::Loss(percent, Some(seed))),
                _ => Err(format!(
                    "loss takes a percentage from 0 to {MAX_LOSS}, and a seed if you like: loss 20 7"
                )),
            }
        }
        "quit" | "exit" | "end" | "bye" | "signend" | "q" => alone(Command::End),
        _ => Err(format!("{first:?} is no command; `help` lists them all")),
    }
}

/// The most loss with which a session has a fair chance to get on.
pub const MAX_LOSS: f64 = 90.0;

/// Splits at blanks; double quotes hold a name with blanks together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn signals_and_words_mean_the_same() {
        for (line, command) in [
            ("", Command::Nothing),
            ("  ", Command::Nothing),
            ("help", Command::Help),
            ("SIGNEW", Command::New),
            ("echo", Command::Echo(1)),
            ("SIGNECHO 5", Command::Echo(5)),
            ("signstat", Command::Stat),
            ("SIGNGET", Command::List),
            ("ls", Command::List),
            ("get", Command::Get(vec![])),
            ("get 1 3", Command::Get(vec!["1".into(), "3".into()])),
            (
                "SIGNGET \"my file.txt\"",
                Command::Get(vec!["my file.txt".into()]),
            ),
            ("get all", Command::GetAll),
            ("loss 20", Command::Loss(20.0, None)),
            ("loss 12.5% 7", Command::Loss(12.5, Some(7))),
            ("SIGNEND", Command::End),
            ("exit", Command::End),
        ] {
            assert_eq!(parse(line), Ok(command), "{line:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, said) in [
            ("dance", "\"dance\" is no command"),
            ("stat 3", "stat takes nothing after it"),
            ("echo 0", "from 1 to 1000"),
            ("echo x", "from 1 to 1000"),
            ("loss", "percentage from 0 to 90"),
            ("loss 101", "percentage from 0 to 90"),
            ("loss NaN", "percentage from 0 to 90"),
            ("loss 5 x", "percentage from 0 to 90"),
            ("loss 5 1 2", "percentage from 0 to 90"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(said), "{line:?}: {error}");
        }
    }

    #[test]
    fn every_command_of_the_help_is_one() {
        for entry in COMMANDS {
            let line = if entry.word == "loss" {
                "loss 1"
            } else {
                entry.word
            };
            parse(line).expect("the word");
            if !entry.signal.is_empty() {
                parse(entry.signal).expect("the signal");
            }
        }
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in ".*") {
            let _ = parse(&line);
        }
    }
}

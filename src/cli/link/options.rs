//! The options of a link, on the command line and as JSON.

use clap::{Arg, ArgMatches, Command, FromArgMatches};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Way;
use crate::client::command::MAX_LOSS;
use crate::{
    config::{
        BadLink, LinkOptions,
        link_options::{LINK_OPTIONS, LinkOption},
    },
    link::{LinkControl, SignalLoss},
};

/// What happens to packets; nothing, if no option is given.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Impairment {
    /// The options for both directions that are given, each with its value as it is written.
    both: Vec<(&'static LinkOption, String)>,
    own: Own,
}

/// What is for one direction.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = HEADING)]
struct Own {
    /// Other options for packets to the server, a list like `loss=5,delay=20ms`
    #[arg(long, global = true, value_name = "LIST", value_parser = list)]
    up: Option<String>,
    /// Other options for packets from the server
    #[arg(long, global = true, value_name = "LIST", value_parser = list)]
    down: Option<String>,
}

const HEADING: &str = "What happens to packets";

/// Each of [`LINK_OPTIONS`] is an argument, and so are those of [`Own`].
impl clap::Args for Impairment {
    fn augment_args(mut command: Command) -> Command {
        for option in LINK_OPTIONS {
            let right = |text: &str| {
                let mut options = LinkOptions::default();
                option.read(&mut options, text).map(|()| text.to_owned())
            };
            let help = match option.without {
                Some(without) => format!("{}; without it, {without}", option.does),
                None => option.does.to_owned(),
            };
            let arg = Arg::new(option.key)
                .long(option.key.replace('_', "-"))
                .global(true)
                .value_name(option.value)
                .value_parser(right)
                .help(help)
                .help_heading(HEADING);
            command = command.arg(arg);
        }
        Own::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Impairment {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |option: &'static LinkOption| {
            let text = matches.get_one::<String>(option.key)?;
            Some((option, text.clone()))
        };
        Ok(Self {
            both: LINK_OPTIONS.iter().filter_map(given).collect(),
            own: Own::from_arg_matches(matches)?,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What `--loss` means to a client: see [`Impairment::of_signals`].
pub(in crate::cli) const OWN_SIGNALS: &str = "Lose so many percent of the client's own signals, and see SIGNLOST at work; of all packets both ways with --via rudp";

/// A list that is right by itself.
fn list(text: &str) -> Result<String, String> {
    LinkOptions::default().set_list(text)?;
    Ok(text.to_owned())
}

impl Impairment {
    /// Those that are given, in words, if any is, and whether there are several.
    pub(in crate::cli) fn given(&self) -> Option<(String, bool)> {
        let both = self.both.iter().map(|(option, _)| option.key);
        let own = [("up", &self.own.up), ("down", &self.own.down)];
        let own = own.into_iter().filter(|(_, list)| list.is_some());
        let given = both.chain(own.map(|(key, _)| key));
        let given: Vec<_> = given
            .map(|key| format!("--{}", key.replace('_', "-")))
            .collect();
        match &given[..] {
            [] => None,
            [only] => Some((only.clone(), false)),
            [first @ .., last] => Some((format!("{} and {last}", first.join(", ")), true)),
        }
    }

    /// What a client makes of them for its signals: its own are lost by their numbers, the same ones
    /// whenever they are sent; those of the proxy only if `--down` says so. The other options are
    /// the link's, to be made with the same `seed`.
    pub(in crate::cli) fn of_signals(&self, seed: u64) -> Result<(SignalLoss, BadLink), String> {
        let (mut up, _) = self.directions()?;
        if up.loss > MAX_LOSS {
            return Err(format!("--loss: not a percentage from 0 to {MAX_LOSS}"));
        }
        let loss = SignalLoss::of(&up, seed);
        (up.loss, up.burst) = (0.0, None);
        let mut others = self.clone();
        others.both.retain(|(option, _)| option.key != "loss");
        let (_, down) = others.directions()?;
        Ok((loss, BadLink { up, down, seed }))
    }

    /// What a client makes of them for the binary transport's packets, which have no numbers that
    /// are the same each time: all of them are the link's, both ways, as those of `labnet link` are.
    pub(in crate::cli) fn of_packets(&self, seed: u64) -> Result<BadLink, String> {
        let (up, down) = self.directions()?;
        Ok(BadLink { up, down, seed })
    }

    /// The options of both directions, up first.
    pub(in crate::cli) fn directions(&self) -> Result<(LinkOptions, LinkOptions), String> {
        let mut both = LinkOptions::default();
        for (option, text) in &self.both {
            option.read(&mut both, text)?;
        }
        let mut options = Directions {
            up: both,
            down: both,
        };
        options
            .up
            .set_list(self.own.up.as_deref().unwrap_or_default())?;
        options
            .down
            .set_list(self.own.down.as_deref().unwrap_or_default())?;
        options.check()?;
        Ok((options.up, options.down))
    }
}

/// Both directions' options.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(super) struct Directions {
    up: LinkOptions,
    down: LinkOptions,
}

impl Directions {
    /// Those of a running link.
    pub(super) fn of(control: &LinkControl) -> Self {
        Self {
            up: control.options(Way::Up),
            down: control.options(Way::Down),
        }
    }

    /// Gives them to a running link.
    pub(super) fn give(self, control: &LinkControl) {
        control.set_options(self.up, self.down);
    }

    /// With what a JSON object says: its `up` and `down` are for one direction, whatever else it
    /// has is for both.
    pub(super) fn with(mut self, object: &Map<String, Value>) -> Result<Self, String> {
        let mut both = object.clone();
        let (up, down) = (both.remove("up"), both.remove("down"));
        for (way, options, own) in [("up", &mut self.up, up), ("down", &mut self.down, down)] {
            options.set_json(&both)?;
            match own {
                None => {}
                Some(Value::Object(own)) => options
                    .set_json(&own)
                    .map_err(|error| format!("{way}: {error}"))?,
                Some(_) => return Err(format!("{way}: an object of options is needed")),
            }
        }
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), String> {
        for (way, options) in [("up", &self.up), ("down", &self.down)] {
            options.check().map_err(|error| format!("{way}: {error}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        impairment: Impairment,
    }

    fn said(line: &str) -> Result<String, String> {
        let words = std::iter::once("x").chain(line.split_whitespace());
        let command = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let (up, down) = command.impairment.directions()?;
        Ok(format!("{up} {down}"))
    }

    #[test]
    fn directions_have_what_both_have_and_their_own() {
        for (line, options) in [
            ("", "nothing nothing"),
            ("--loss 5 --burst 3", "loss=5,burst=3 loss=5,burst=3"),
            (
                "--loss 5 --rate 10mbit --up loss=off,delay=20ms --down rate=100kbit",
                "delay=20ms,rate=10mbit loss=5,rate=100kbit",
            ),
            (
                "--jitter 1ms --queue 9kB --reorder 25 --reorder-by 7ms --duplicate 1 --corrupt 2 \
                 --blackout 5s/2s --up blackout=off,reorder=off,reorder_by=off",
                "jitter=1ms,queue=9kB,duplicate=1,corrupt=2 \
                 jitter=1ms,queue=9kB,reorder=25,reorder_by=7ms,duplicate=1,corrupt=2,blackout=5s/2s",
            ),
        ] {
            assert_eq!(said(line).as_deref(), Ok(options), "{line}");
        }
        for (line, part) in [
            ("--loss 101", "percentage"),
            ("--up los=1", "no option of a link"),
            (
                "--loss 80 --burst 2",
                "up: a loss of 80 % can't come in bursts of 2",
            ),
            ("--loss 80 --down burst=2", "down: a loss of 80 %"),
        ] {
            let error = said(line).expect_err(line);
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn a_client_s_own_signals_are_lost_by_their_numbers_and_the_rest_is_the_link_s() {
        let made = |line: &str| {
            let words = std::iter::once("x").chain(line.split_whitespace());
            let command = Line::try_parse_from(words).expect(line);
            command.impairment.of_signals(7)
        };
        for (line, percent, link) in [
            ("", 0.0, "nothing nothing"),
            ("--loss 20", 20.0, "nothing nothing"),
            ("--loss 20 --delay 5ms", 20.0, "delay=5ms delay=5ms"),
            ("--up loss=5 --down loss=7", 5.0, "nothing loss=7"),
        ] {
            let (loss, BadLink { up, down, seed }) = made(line).expect(line);
            assert_eq!(loss, SignalLoss::new(percent, 7), "{line}");
            assert_eq!(format!("{up} {down}"), link, "{line}");
            assert_eq!(seed, 7);
        }
        let (bursts, _) = made("--loss 20 --burst 3").expect("right");
        assert_ne!(bursts, SignalLoss::new(20.0, 7));
        made("--loss 91").expect_err("no session gets on");
        made("--loss 80 --burst 2").expect_err("impossible");
    }

    #[test]
    fn json_changes_one_direction_or_both() {
        let with =
            |options: Directions, json: Value| options.with(json.as_object().expect("an object"));
        let options = Directions::default();
        let changed = with(
            options,
            json!({"loss": 5, "down": {"loss": "off", "delay": "20ms"}}),
        );
        let changed = changed.expect("right");
        assert_eq!(changed.up.to_string(), "loss=5");
        assert_eq!(changed.down.to_string(), "delay=20ms");
        // What it prints is what it reads.
        let printed = serde_json::to_value(changed).expect("JSON");
        assert_eq!(with(options, printed), Ok(changed));
        for wrong in [
            json!({"up": 3}),
            json!({"up": {"lost": 3}}),
            json!({"loss": [3]}),
            json!({"loss": 80, "up": {"burst": 2}}),
        ] {
            with(options, wrong.clone()).expect_err(&wrong.to_string());
        }
    }
}

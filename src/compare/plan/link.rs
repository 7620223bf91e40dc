//! The link's options in both directions.

use std::{num::NonZeroU64, time::Duration};

use super::reader::{Reader, only};
use crate::{
    compare::{experiment::DEFAULT_LINK, sweep::bdp},
    config::LinkOptions,
};

/// A queue has room for a full packet and what comes after it.
const LEAST_QUEUE: f64 = 3_000.0;

impl Reader<'_> {
    /// The link with the value that is swept.
    pub(super) fn link(
        &mut self,
        swept: Option<(&str, &str)>,
    ) -> Option<(LinkOptions, LinkOptions)> {
        let before = self.problems.len();
        let mut both = Shape::default();
        for (key, value) in DEFAULT_LINK {
            // These are right.
            let _ = both.set(key, value);
        }
        for (key, said) in self.experiment.link() {
            let set = only(said).and_then(|value| both.set(key, value));
            if let Err(message) = set {
                self.problem(&said.place, message);
            }
        }
        if let Some((key, value)) = swept
            && let Err(message) = both.set(key, value)
        {
            let place = self.place(&["sweep"]);
            self.problem(&place, message);
        }
        let mut ways = [("up", both.clone()), ("down", both)];
        for (way, shape) in &mut ways {
            if let Some(said) = self.experiment.said(way)
                && let Err(message) = shape.set_list(&said.values.join(","))
            {
                self.problem(&said.place, message);
            }
        }
        let [(_, up), (_, down)] = ways;
        let round_trip = up.options.delay + down.options.delay;
        let mut finished = Vec::new();
        for (way, shape) in [("up", up), ("down", down)] {
            let finish = shape.finish(round_trip);
            let checked = finish
                .map_err(|message| ("queue", message))
                .and_then(|options| match options.check() {
                    Ok(()) => Ok(options),
                    Err(mismatch) => Err((mismatch.key, mismatch.message)),
                });
            match checked {
                Ok(options) => finished.push(options),
                Err((key, message)) => {
                    let place = self.place(&[way, "sweep", key, "queue", "loss"]);
                    self.problem(&place, message);
                }
            }
        }
        match (self.problems.len() == before, &finished[..]) {
            (true, &[up, down]) => Some((up, down)),
            _ => None,
        }
    }
}

/// A direction's options, the queue of which may be told by what the path holds.
#[derive(Debug, Clone, Default)]
struct Shape {
    options: LinkOptions,
    /// Bandwidth-delay products, and whether somebody asked for them.
    products: Option<f64>,
}

impl Shape {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        if key == "queue" {
            self.products = None;
            if value.ends_with("bdp") {
                self.products = Some(bdp(value)?);
                self.options.queue = None;
                return Ok(());
            }
        }
        self.options.set(key, value)
    }

    fn set_list(&mut self, list: &str) -> Result<(), String> {
        let mut items = LinkOptions::items(list)?.into_iter();
        items.try_for_each(|(key, value)| self.set(&key.replace('-', "_"), &value))
    }

    fn finish(mut self, round_trip: Duration) -> Result<LinkOptions, String> {
        if let (Some(products), Some(rate)) = (self.products, self.options.rate) {
            let bytes = products * product(rate, round_trip);
            let bytes = bytes.max(LEAST_QUEUE).round();
            self.options.set("queue", &bytes.to_string())?;
        }
        Ok(self.options)
    }
}

/// The bandwidth-delay product in bytes.
fn product(rate: NonZeroU64, round_trip: Duration) -> f64 {
    rate.get() as f64 / 8.0 * round_trip.as_secs_f64()
}

//! `[link]`: a bad network, in words and compiled.

use super::{
    BadLink, LinkOptions,
    compiler::{Compiler, NUMBER},
    file::{self, Scalar},
    value,
};

const RIGHT: &str = "a number, or a text in quotes";

// As in compile: `None` only after a problem has been noted.
impl Compiler<'_> {
    pub(super) fn link(&mut self, table: file::Link) -> Option<BadLink> {
        self.unknown::<file::Link>("link", &table.both.unknown);
        let both = self.direction("link", LinkOptions::default(), table.both);
        if let Some(both) = &both {
            self.check_options("link", both);
        }
        let seed = self.scalar("link.seed", table.seed, NUMBER, |number| {
            value::number(number, 0..=i64::MAX as u64)
        });
        let [up, down] = [("link.up", table.up), ("link.down", table.down)].map(|(at, key)| {
            let own = self.table(at, key).unwrap_or_default();
            self.unknown::<file::LinkWay>(at, &own.unknown);
            let direction = self.direction(at, both.unwrap_or_default(), own)?;
            // What is wrong for both has been told.
            if both.is_some_and(|both| both != direction) {
                self.check_options(at, &direction);
            }
            Some(direction)
        });
        both?;
        Some(BadLink {
            up: up?,
            down: down?,
            seed: seed?.unwrap_or(1),
        })
    }

    fn direction(
        &mut self,
        at: &str,
        base: LinkOptions,
        own: file::LinkWay,
    ) -> Option<LinkOptions> {
        let mut options = base;
        let mut is_right = true;
        for (key, own) in own.options {
            let read = |scalar: Scalar| options.put(key, &scalar.into_text());
            is_right &= self
                .scalar(&format!("{at}.{key}"), own, RIGHT, read)
                .is_some();
        }
        is_right.then_some(options)
    }

    fn check_options(&mut self, at: &str, options: &LinkOptions) {
        if let Err(message) = options.check() {
            self.problem(&format!("{at}.burst"), message);
        }
    }
}

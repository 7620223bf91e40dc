//! Words that a program says of itself, for events that are copied and keep no text.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// So many different phases: a word for a state, not a number.
const MOST_PHASES: usize = 64;
/// The longest of them, bytes.
const LONGEST: usize = 24;

static PHASES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// A text that is never let go of: the name of a sender of this command line, of which there are few.
pub(super) fn kept(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// A phase's word, kept for as long as this process lives, which is why there may not be many.
///
/// # Errors
/// What is wrong with it.
pub(super) fn phase(word: &str) -> Result<&'static str, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !(1..=LONGEST).contains(&word.len()) || !word.bytes().all(plain) {
        return Err(format!(
            "a phase is a word of 1 to {LONGEST} letters, digits, `_` and `-`"
        ));
    }
    // Whole between any two calls.
    let mut phases = PHASES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = phases.get(word) {
        return Ok(known);
    }
    if phases.len() >= MOST_PHASES {
        return Err(format!(
            "that is one phase more than {MOST_PHASES}, and there may not be more"
        ));
    }
    let word = kept(word.to_owned());
    phases.insert(word);
    Ok(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_few_words() {
        let known = phase("slow_start").expect("a word");
        assert!(std::ptr::eq(known, phase("slow_start").expect("known")));
        for wrong in ["", "slow start", "a\u{1b}[2J", &"x".repeat(LONGEST + 1)] {
            phase(wrong).expect_err(wrong);
        }
        let refused = (0..=MOST_PHASES).find_map(|n| phase(&format!("n{n}")).err());
        assert!(refused.expect("too many").contains("64"));
        phase("slow_start").expect("still known");
    }
}

//! The part of a file that a request asks for (RFC 9110 section 14).

use std::ops::Range;

/// What a `Range` field asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Requested {
    /// All of it: no field, one that is not understood, or several ranges at once, which a server
    /// may ignore.
    Whole,
    /// These bytes; at least one.
    Part(Range<u64>),
    /// Bytes that the file does not have.
    Unsatisfiable,
}

/// Reads the `Range` field of a request for a file of `length` bytes.
pub(super) fn requested(field: Option<&str>, length: u64) -> Requested {
    field
        .and_then(|field| bytes(field, length))
        .unwrap_or(Requested::Whole)
}

/// `None` if the field is to be ignored.
fn bytes(field: &str, length: u64) -> Option<Requested> {
    let (unit, set) = field.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    let range = match (number(first)?, number(last)?) {
        (None, None) => return None,
        (None, Some(0)) => return Some(Requested::Unsatisfiable),
        // The last bytes of nothing are nothing: satisfiable, but no range can say so.
        (None, Some(_)) if length == 0 => return None,
        (None, Some(suffix)) => length.saturating_sub(suffix)..length,
        (Some(first), Some(last)) if last < first => return None,
        (Some(first), _) if first >= length => return Some(Requested::Unsatisfiable),
        (Some(first), last) => {
            let end = last.map_or(length, |last| last.saturating_add(1).min(length));
            first..end
        }
    };
    Some(Requested::Part(range))
}

/// An optional number; `None` if the text is none. One that is too large for a `u64` is larger than
/// any file.
fn number(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(field: &str, length: u64) -> Requested {
        requested(Some(field), length)
    }

    #[test]
    fn single_ranges() {
        use Requested::Part;
        assert_eq!(of("bytes=0-499", 10_000), Part(0..500));
        assert_eq!(of("bytes=500-999", 10_000), Part(500..1000));
        assert_eq!(of("bytes=9500-", 10_000), Part(9500..10_000));
        assert_eq!(of("bytes=-500", 10_000), Part(9500..10_000));
        assert_eq!(of("bytes=-20000", 10_000), Part(0..10_000));
        assert_eq!(of("bytes=0-0", 10_000), Part(0..1));
        assert_eq!(of("bytes=0-99999999999999999999", 10), Part(0..10));
        assert_eq!(of("Bytes = 2-4 ", 10), Part(2..5));
    }

    #[test]
    fn what_the_file_does_not_have() {
        for field in [
            "bytes=10-",
            "bytes=10-20",
            "bytes=-0",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(of(field, 10), Requested::Unsatisfiable, "{field}");
        }
        assert_eq!(of("bytes=0-", 0), Requested::Unsatisfiable);
    }

    #[test]
    fn what_is_ignored() {
        assert_eq!(requested(None, 10), Requested::Whole);
        for field in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "bytes=0x1-2",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=1 - 2",
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes 0-1",
        ] {
            assert_eq!(of(field, 10), Requested::Whole, "{field}");
        }
        assert_eq!(of("bytes=-5", 0), Requested::Whole);
    }

    proptest! {
        #[test]
        fn a_part_is_inside(field in "bytes=[0-9]{0,21}-[0-9]{0,21}|\\PC*", length: u64) {
            if let Requested::Part(part) = of(&field, length) {
                prop_assert!(part.start < part.end && part.end <= length);
            }
        }
    }
}

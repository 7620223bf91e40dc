//! What an HTTP origin's answer says of a file.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED},
};
use hyper::body::Incoming;
use url::Url;

use super::origin::Lease;
use crate::rudp::exchange::{ErrorCode, Head, Range, spell};

/// Asks for the digest of the whole file (RFC 9530).
pub(super) const WANT_REPR_DIGEST: HeaderName = HeaderName::from_static("want-repr-digest");
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// An answer that has a body.
pub(super) struct Opened {
    pub(super) head: Head,
    pub(super) url: Url,
    pub(super) validator: Option<HeaderValue>,
    pub(super) skip: u64,
    pub(super) answer: Option<(Incoming, Lease)>,
}

/// Why there is no answer.
pub(super) struct Trouble {
    pub(super) code: ErrorCode,
    pub(super) text: String,
}

impl Trouble {
    pub(super) fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { code, text }
    }

    pub(super) fn unavailable(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, text)
    }
}

pub(super) fn interpret(
    response: Response<Incoming>,
    lease: Lease,
    url: Url,
    range: Range,
    validated: bool,
) -> Result<Opened, Trouble> {
    let headers = response.headers();
    let validator = validator(headers);
    let head = Head {
        validator: validator
            .as_ref()
            .and_then(|value| spell(value.to_str().ok()?)),
        digest: digest(headers),
        ..Head::default()
    };
    let length: Option<u64> = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    let part = content_range(headers);
    let opened = |head, skip, has_body: bool, response: Response<Incoming>| Opened {
        head,
        url,
        validator,
        skip,
        answer: has_body.then(|| (response.into_body(), lease)),
    };
    match (response.status(), part) {
        (StatusCode::PARTIAL_CONTENT, Some((Some((first, last)), whole)))
            if first == range.first && range.last.is_none_or(|most| last <= most) =>
        {
            let head = Head {
                first,
                length: Some(last - first + 1),
                whole,
                ..head
            };
            Ok(opened(head, 0, true, response))
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, Some((None, Some(whole)))) if range.first <= whole => {
            let head = Head {
                first: whole,
                length: Some(0),
                whole: Some(whole),
                ..head
            };
            Ok(opened(head, 0, false, response))
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, Some((None, Some(_)))) => Err(Trouble::new(
            ErrorCode::Malformed,
            "the range begins beyond the file",
        )),
        // Another file than the client has a part of: all of it.
        (StatusCode::OK, _) if validated || range == Range::default() => {
            let head = Head {
                first: 0,
                length,
                whole: length,
                ..head
            };
            Ok(opened(head, 0, true, response))
        }
        // The origin knows no ranges.
        (StatusCode::OK, _) => {
            let wanted = length.map(|whole| {
                let end = range
                    .last
                    .map_or(whole, |last| whole.min(last.saturating_add(1)));
                end.checked_sub(range.first)
            });
            if wanted == Some(None) && length.is_some_and(|whole| range.first > whole) {
                let text = "the range begins beyond the file";
                return Err(Trouble::new(ErrorCode::Malformed, text));
            }
            let head = Head {
                first: range.first,
                length: wanted.map(Option::unwrap_or_default),
                whole: length,
                ..head
            };
            Ok(opened(head, range.first, true, response))
        }
        _ => Err(Trouble::unavailable("the origin contradicts itself")),
    }
}

/// What tells this state of the file from others, byte for byte (RFC 9110 section 13.1.5).
fn validator(headers: &HeaderMap) -> Option<HeaderValue> {
    let strong = headers
        .get(ETAG)
        .filter(|etag| !etag.as_bytes().starts_with(b"W/"));
    strong.or_else(|| headers.get(LAST_MODIFIED)).cloned()
}

/// The SHA-256 of the whole file (RFC 9530).
fn digest(headers: &HeaderMap) -> Option<[u8; 32]> {
    headers
        .get_all(REPR_DIGEST)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|member| {
            let value = member.trim().strip_prefix("sha-256=:")?;
            let encoded = value.split(':').next()?;
            BASE64_STANDARD.decode(encoded).ok()?.try_into().ok()
        })
}

/// First and last byte, if the field names them, and the whole length, if it is known.
type Part = (Option<(u64, u64)>, Option<u64>);

/// `Content-Range: bytes 200-1000/67589`, `bytes 200-1000/*`, `bytes */67589`.
fn content_range(headers: &HeaderMap) -> Option<Part> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, whole) = value.strip_prefix("bytes ")?.split_once('/')?;
    let whole = match whole {
        "*" => None,
        whole => Some(whole.parse().ok()?),
    };
    if range == "*" {
        return Some((None, whole));
    }
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let sound = first <= last && last < u64::MAX && whole.is_none_or(|whole| last < whole);
    sound.then_some((Some((first, last)), whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &str) -> Option<Part> {
        let value = HeaderValue::from_str(text).expect("visible");
        content_range(&HeaderMap::from_iter([(CONTENT_RANGE, value)]))
    }

    #[test]
    fn a_part_is_read_and_an_impossible_one_is_not() {
        assert_eq!(part("bytes 2-5/10"), Some((Some((2, 5)), Some(10))));
        assert_eq!(part("bytes 2-5/*"), Some((Some((2, 5)), None)));
        assert_eq!(part("bytes */10"), Some((None, Some(10))));
        let max = u64::MAX;
        for wrong in [
            "bytes 5-2/10",
            "bytes 2-10/10",
            "2-5/10",
            &format!("bytes 0-{max}/*"),
        ] {
            assert_eq!(part(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_weak_etag_is_no_validator() {
        let mut headers = HeaderMap::new();
        headers.insert(ETAG, HeaderValue::from_static("W/\"1\""));
        assert_eq!(validator(&headers), None);
        let date = HeaderValue::from_static("Tue, 24 Nov 2026 10:00:00 GMT");
        headers.insert(LAST_MODIFIED, date.clone());
        assert_eq!(validator(&headers), Some(date));
        headers.insert(ETAG, HeaderValue::from_static("\"1\""));
        assert_eq!(validator(&headers), Some(HeaderValue::from_static("\"1\"")));
    }
}

//! What an HTTP origin's answer says of a file.

use http::{HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use url::Url;

use super::kept_connections::BorrowedConnection;
use crate::net::representation::{ContentRange, content_length, content_range, sha256, validator};
use crate::rudp::exchange::{ErrorCode, Head, Range, spell};

/// An answer that has a body.
pub(super) struct Opened {
    pub(super) head: Head,
    pub(super) url: Url,
    pub(super) validator: Option<HeaderValue>,
    pub(super) skip: u64,
    pub(super) answer: Option<(Incoming, BorrowedConnection)>,
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
    connection: BorrowedConnection,
    url: Url,
    range: Range,
    validated: bool,
) -> Result<Opened, Trouble> {
    let headers = response.headers();
    let validator = validator(headers).cloned();
    let head = Head {
        validator: validator
            .as_ref()
            .and_then(|value| spell(value.to_str().ok()?)),
        digest: sha256(headers),
        ..Head::default()
    };
    let length = content_length(headers);
    let range_sent = content_range(headers).unwrap_or(ContentRange {
        part: None,
        whole: None,
    });
    let opened = |head, skip, has_body: bool, response: Response<Incoming>| Opened {
        head,
        url,
        validator,
        skip,
        answer: has_body.then(|| (response.into_body(), connection)),
    };
    match (response.status(), range_sent.part, range_sent.whole) {
        (StatusCode::PARTIAL_CONTENT, Some((first, last)), whole)
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
        (StatusCode::RANGE_NOT_SATISFIABLE, None, Some(whole)) if range.first <= whole => {
            let head = Head {
                first: whole,
                length: Some(0),
                whole: Some(whole),
                ..head
            };
            Ok(opened(head, 0, false, response))
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, None, Some(_)) => Err(Trouble::new(
            ErrorCode::Malformed,
            "the range begins beyond the file",
        )),
        // Another file than the client has a part of: all of it.
        (StatusCode::OK, ..) if validated || range == Range::default() => {
            let head = Head {
                first: 0,
                length,
                whole: length,
                ..head
            };
            Ok(opened(head, 0, true, response))
        }
        // The origin knows no ranges.
        (StatusCode::OK, ..) => {
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

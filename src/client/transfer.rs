//! What a download makes of an answer, an HTTP server's (RFC 9110 sections 8.8 and 14, RFC 9530) or
//! the proxy's: decisions only.

use std::fmt;

use hyper::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use crate::{
    net::representation,
    rudp::exchange::{ErrorCode, Head},
};

/// A SHA-256 digest.
pub type Sha256 = [u8; 32];

/// What has to be known of a partial file to go on with it: kept beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Where it comes from.
    pub url: String,
    /// A strong validator of the version that the part is of: the value for `If-Range`.
    pub validator: String,
    /// The whole file's length in bytes.
    pub length: u64,
}

impl Origin {
    /// From which byte to go on with a part of `length` bytes. At least one byte is asked for, so
    /// that a whole part needs no case of its own.
    pub fn resume_at(&self, length: u64) -> u64 {
        length.min(self.length.saturating_sub(1))
    }
}

/// What to do with the body of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Where in the file its first byte belongs.
    pub starts_at: u64,
    /// The whole file's length, if the server tells.
    pub length: Option<u64>,
    /// What to keep beside the part, if it can be resumed at all.
    pub validator: Option<String>,
    /// The whole file's digest, if the server tells.
    pub digest: Option<Sha256>,
}

/// What an answer means for the download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Take the body.
    Take(Body),
    /// The part is of no use: ask for the whole file.
    StartOver,
    /// Ask there instead.
    Redirect(String),
    /// The server has trouble that may pass.
    Later(Refusal),
    /// There is no such file, or another final no.
    Refused(Refusal),
}

/// A server's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// An HTTP origin's.
    Http(StatusCode),
    /// The proxy's.
    Rudp {
        /// Its code.
        code: ErrorCode,
        /// Its words.
        text: String,
    },
}

impl Refusal {
    /// Whose no it is.
    pub fn whose(&self) -> &'static str {
        match self {
            Self::Http(_) => "the origin",
            Self::Rudp { .. } => "the proxy",
        }
    }

    /// Whether it says that there is no such file.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Http(status) => [StatusCode::NOT_FOUND, StatusCode::GONE].contains(status),
            Self::Rudp { code, .. } => *code == ErrorCode::NotFound,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(status) => status.fmt(f),
            Self::Rudp { code, text } if text.is_empty() => code.fmt(f),
            Self::Rudp { code, text } => write!(f, "{code}: {text}"),
        }
    }
}

/// Judges the head of an answer to a request for the bytes from `asked_from` on (0: for the whole
/// file), `origin` being what is known of the part.
pub fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    asked_from: u64,
    origin: Option<&Origin>,
) -> Verdict {
    match status {
        StatusCode::OK => Verdict::Take(Body {
            starts_at: 0,
            length: representation::content_length(headers),
            validator: validator(headers),
            digest: representation::sha256(headers),
        }),
        StatusCode::PARTIAL_CONTENT => {
            let fits = representation::content_range(headers).filter(|range| {
                range.part.is_some_and(|(first, last)| {
                    first == asked_from && range.whole.is_none_or(|whole| last + 1 == whole)
                })
            });
            let (Some(range), Some(origin)) = (fits, origin) else {
                return Verdict::StartOver;
            };
            let validator = validator(headers);
            let same = validator.as_ref().is_none_or(|it| *it == origin.validator)
                && range.whole.is_none_or(|whole| whole == origin.length);
            if !same {
                return Verdict::StartOver;
            }
            Verdict::Take(Body {
                starts_at: asked_from,
                length: Some(origin.length),
                validator: Some(origin.validator.clone()),
                digest: representation::sha256(headers),
            })
        }
        StatusCode::RANGE_NOT_SATISFIABLE if asked_from > 0 => Verdict::StartOver,
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => {
            let location = headers.get(hyper::header::LOCATION);
            match location.and_then(|location| location.to_str().ok()) {
                Some(location) => Verdict::Redirect(location.to_owned()),
                None => Verdict::Refused(Refusal::Http(status)),
            }
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Verdict::Later(Refusal::Http(status))
        }
        status if status.is_server_error() => Verdict::Later(Refusal::Http(status)),
        status => Verdict::Refused(Refusal::Http(status)),
    }
}

/// Judges the head of the proxy's answer to a question for all bytes from `asked_from` on.
pub fn judge_head(head: &Head, asked_from: u64, origin: Option<&Origin>) -> Verdict {
    let to_the_end = match (head.length, head.whole) {
        (Some(length), Some(whole)) => head.first + length == whole,
        _ => true,
    };
    let continues = head.first == asked_from
        && origin.is_some_and(|origin| {
            head.whole == Some(origin.length) && head.validator.as_ref() == Some(&origin.validator)
        });
    if !to_the_end || head.first > 0 && !continues {
        return Verdict::StartOver;
    }
    Verdict::Take(Body {
        starts_at: head.first,
        length: head.whole,
        validator: head.validator.clone(),
        digest: head.digest,
    })
}

/// What to keep of a file's state, as text.
fn validator(headers: &HeaderMap) -> Option<String> {
    let validator = representation::validator(headers)?;
    validator.to_str().ok().map(str::to_owned)
}

/// A digest as `sha256sum` prints it.
pub fn hex(digest: &Sha256) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                hyper::header::HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                value.parse().expect("a value"),
            );
        }
        headers
    }

    fn origin() -> Origin {
        Origin {
            url: "http://h/f".to_owned(),
            validator: "\"v1\"".to_owned(),
            length: 1000,
        }
    }

    fn take(verdict: Verdict) -> Body {
        match verdict {
            Verdict::Take(body) => body,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_whole_answer_is_taken_from_the_start() {
        let fields = headers(&[
            ("content-length", "1000"),
            ("etag", "\"v2\""),
            ("last-modified", "Sun, 22 Nov 2026 08:00:00 GMT"),
        ]);
        let body = take(judge(StatusCode::OK, &fields, 400, Some(&origin())));
        assert_eq!((body.starts_at, body.length), (0, Some(1000)));
        assert_eq!(body.validator.as_deref(), Some("\"v2\""));
    }

    #[test]
    fn a_partial_answer_is_taken_only_if_it_continues_the_part() {
        let judge = |fields: &[(&str, &str)]| {
            judge(
                StatusCode::PARTIAL_CONTENT,
                &headers(fields),
                400,
                Some(&origin()),
            )
        };
        for good in ["bytes 400-999/1000", "bytes 400-999/*"] {
            let body = take(judge(&[("content-range", good), ("etag", "\"v1\"")]));
            assert_eq!((body.starts_at, body.length), (400, Some(1000)));
        }
        for bad in [
            "bytes 0-999/1000",
            "bytes 401-999/1000",
            "bytes 400-998/1000",
            "bytes 400-1999/2000",
            "bytes 400-399/1000",
            "bytes 400-18446744073709551615/*",
            "bytes */1000",
            "octets 400-999/1000",
            "",
        ] {
            assert_eq!(
                judge(&[("content-range", bad)]),
                Verdict::StartOver,
                "{bad:?}"
            );
        }
        let changed = [("content-range", "bytes 400-999/1000"), ("etag", "\"v2\"")];
        assert_eq!(judge(&changed), Verdict::StartOver);
        assert_eq!(judge(&[]), Verdict::StartOver);
    }

    #[test]
    fn refusals_are_final_and_troubles_are_not() {
        let judge = |status, from| judge(status, &HeaderMap::new(), from, None);
        let refused = |status| Verdict::Refused(Refusal::Http(status));
        let none = StatusCode::NOT_FOUND;
        assert_eq!(judge(none, 0), refused(none));
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(judge(busy, 0), Verdict::Later(Refusal::Http(busy)));
        let range = StatusCode::RANGE_NOT_SATISFIABLE;
        assert_eq!(judge(range, 9), Verdict::StartOver);
        assert_eq!(judge(range, 0), refused(range));
        let moved = StatusCode::FOUND;
        assert_eq!(judge(moved, 0), refused(moved));
    }

    #[test]
    fn the_proxy_s_answer_is_taken_whole_or_where_it_continues_the_part() {
        let head = |first, length, whole, validator: &str| Head {
            first,
            length,
            whole,
            validator: Some(validator.to_owned()),
            digest: None,
        };
        let origin = origin();
        let whole = head(0, Some(900), Some(900), "\"v2\"");
        let body = take(judge_head(&whole, 400, Some(&origin)));
        assert_eq!((body.starts_at, body.length), (0, Some(900)));
        let body = take(judge_head(&head(0, None, None, "v"), 0, None));
        assert_eq!((body.starts_at, body.length), (0, None));
        let rest = head(400, Some(600), Some(1000), "\"v1\"");
        let body = take(judge_head(&rest, 400, Some(&origin)));
        assert_eq!((body.starts_at, body.length), (400, Some(1000)));
        for (bad, from) in [
            (head(400, Some(600), Some(1000), "\"v2\""), 400),
            (head(400, Some(700), Some(1100), "\"v1\""), 400),
            (head(400, Some(500), Some(1000), "\"v1\""), 400),
            (head(400, Some(600), None, "\"v1\""), 400),
            (head(300, Some(700), Some(1000), "\"v1\""), 400),
            (head(0, Some(600), Some(1000), "\"v1\""), 0),
        ] {
            assert_eq!(
                judge_head(&bad, from, Some(&origin)),
                Verdict::StartOver,
                "{bad:?}"
            );
        }
        assert_eq!(judge_head(&rest, 0, None), Verdict::StartOver);
    }

    #[test]
    fn a_digest_is_printed_as_sha256sum_prints_it() {
        assert_eq!(hex(&[0xab; 32]), "ab".repeat(32));
    }

    #[test]
    fn a_whole_part_is_resumed_at_its_last_byte() {
        assert_eq!(origin().resume_at(400), 400);
        assert_eq!(origin().resume_at(1000), 999);
        assert_eq!(origin().resume_at(5000), 999);
        let empty = Origin {
            length: 0,
            ..origin()
        };
        assert_eq!(empty.resume_at(7), 0);
    }
}

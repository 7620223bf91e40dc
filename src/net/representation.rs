//! What the header fields of an HTTP answer say of a file: which state of it, which part, which
//! digest.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED},
};

/// By which of its kernel's congestion controls a server is to send the answer, or has sent it: labnet's
/// own header field. A request names one of those that everybody may have; the answer says what ran.
pub const CONGESTION: HeaderName = HeaderName::from_static("labnet-congestion");

/// The answer's field with the digest of the whole file (RFC 9530 section 3).
pub const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
/// The request's field that asks for it (RFC 9530 section 4).
pub const WANT_REPR_DIGEST: HeaderName = HeaderName::from_static("want-repr-digest");

/// The request's field that asks for a SHA-256.
pub fn want_sha256() -> (HeaderName, HeaderValue) {
    (WANT_REPR_DIGEST, HeaderValue::from_static("sha-256=10"))
}

/// The SHA-256 among the members of `Repr-Digest`.
pub fn sha256(headers: &HeaderMap) -> Option<[u8; 32]> {
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

/// What tells this state of the file from others byte for byte, and may stand in `If-Range`: a strong
/// entity tag, or else the date (RFC 9110 section 13.1.5).
pub fn validator(headers: &HeaderMap) -> Option<&HeaderValue> {
    let strong = headers
        .get(ETAG)
        .filter(|tag| tag.as_bytes().starts_with(b"\""));
    strong.or_else(|| headers.get(LAST_MODIFIED))
}

/// The body's length in bytes.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What `Content-Range` says (RFC 9110 section 14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// The first and the last byte of the part, the latter below 2^64 - 1; `None`: there is no such
    /// part.
    pub part: Option<(u64, u64)>,
    /// The whole file's length, if it is known: beyond the part's last byte.
    pub whole: Option<u64>,
}

/// Reads `bytes 200-1000/67589`, `bytes 200-1000/*` and `bytes */67589`.
pub fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, whole) = value.strip_prefix("bytes ")?.split_once('/')?;
    let whole: Option<u64> = match whole {
        "*" => None,
        whole => Some(whole.parse().ok()?),
    };
    if range == "*" {
        return Some(ContentRange { part: None, whole });
    }
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let sound = first <= last && last < u64::MAX && whole.is_none_or(|whole| last < whole);
    let part = Some((first, last));
    sound.then_some(ContentRange { part, whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn a_part_is_read_and_an_impossible_one_is_not() {
        let read = |text| content_range(&headers(&[("content-range", text)]));
        let range = |part, whole| Some(ContentRange { part, whole });
        assert_eq!(read("bytes 2-5/10"), range(Some((2, 5)), Some(10)));
        assert_eq!(read("bytes 2-5/*"), range(Some((2, 5)), None));
        assert_eq!(read("bytes */10"), range(None, Some(10)));
        let max = u64::MAX;
        for wrong in [
            "bytes 5-2/10",
            "bytes 2-10/10",
            "2-5/10",
            &format!("bytes 0-{max}/*"),
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_weak_tag_is_no_validator_but_the_date_is() {
        let weak = ("etag", "W/\"1\"");
        assert_eq!(validator(&headers(&[weak])), None);
        let date = ("last-modified", "Tue, 24 Nov 2026 10:00:00 GMT");
        assert_eq!(
            validator(&headers(&[weak, date])),
            Some(&HeaderValue::from_static(date.1))
        );
        assert_eq!(
            validator(&headers(&[("etag", "\"1\""), date])),
            Some(&HeaderValue::from_static("\"1\""))
        );
    }

    #[test]
    fn the_digest_is_found_among_others() {
        let zeros = format!("sha-256=:{}:", BASE64_STANDARD.encode([0_u8; 32]));
        for value in [
            zeros.clone(),
            format!("sha-512=:AAAA:, {zeros}"),
            format!("{zeros};a=1,unixsum=30637"),
        ] {
            let found = sha256(&headers(&[("repr-digest", &value)]));
            assert_eq!(found, Some([0; 32]), "{value}");
        }
        let two = headers(&[("repr-digest", "sha-512=:AAAA:"), ("repr-digest", &zeros)]);
        assert_eq!(sha256(&two), Some([0; 32]));
        for bad in ["sha-256=:AAAA:", "sha-256=AAAA", "sha-256=:!:", ""] {
            assert_eq!(sha256(&headers(&[("repr-digest", bad)])), None, "{bad}");
        }
    }
}

//! What a request is answered.

use std::{ops::Range, time::SystemTime};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{
        ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED,
        RANGE, X_CONTENT_TYPE_OPTIONS,
    },
};
use percent_encoding::percent_decode_str;

use crate::text::printable;

use super::{
    number::grouped,
    precondition::{Validators, Verdict, weigh},
    range::{Requested, requested},
};

/// RFC 9530 section 3.
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
/// RFC 9530 section 4.
const WANT_REPR_DIGEST: HeaderName = HeaderName::from_static("want-repr-digest");

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// `/`: the index page.
    Page,
    /// `/name`: a file; its name, decoded.
    File(Vec<u8>),
}

/// Reads a request's path. A name may hold any byte: what it leads to, the folder decides.
pub(super) fn target(path: &str) -> Target {
    match path.strip_prefix('/').unwrap_or(path) {
        "" => Target::Page,
        name => Target::File(percent_decode_str(name).collect()),
    }
}

/// What is known of the file or the page that is asked for.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    /// Its name as people read it.
    pub(super) shown: String,
    /// Its media type.
    pub(super) kind: &'static str,
    /// Its size in bytes.
    pub(super) length: u64,
    /// A strong entity tag, quotes included.
    pub(super) etag: String,
    /// When it was last modified.
    pub(super) modified: Option<SystemTime>,
    /// Its SHA-256, if known.
    pub(super) digest: Option<[u8; 32]>,
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// Status code.
    pub(super) status: StatusCode,
    /// Header fields; `Content-Length` is there unless the status forbids it.
    pub(super) headers: HeaderMap,
    /// What follows the header.
    pub(super) body: Body,
}

/// What follows an answer's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// Nothing.
    Empty,
    /// These bytes of the file.
    Part(Range<u64>),
    /// A line of text.
    Text(String),
}

/// Whether the method is one that files answer.
pub(super) fn is_read(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

/// Whether the request asks for the file's SHA-256 (RFC 9530 section 4: a preference of 0 means
/// that it is not wanted).
pub(super) fn wants_digest(headers: &HeaderMap) -> bool {
    let values = headers.get_all(WANT_REPR_DIGEST).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|wish| wish.split_once('='))
        .any(|(name, preference)| name.trim() == "sha-256" && preference.trim() != "0")
}

/// Answers a GET or a HEAD of something that exists.
pub(super) fn answer(method: &Method, request: &HeaderMap, file: &Meta, now: SystemTime) -> Answer {
    let Meta { shown, length, .. } = file;
    let validators = Validators {
        etag: &file.etag,
        modified: file.modified,
    };
    let range = match weigh(request, validators, now) {
        Verdict::Failed => {
            let meaning = format!("412 Precondition Failed: {shown} is not what you have");
            return plain(StatusCode::PRECONDITION_FAILED, meaning);
        }
        Verdict::NotModified => {
            let mut answer = bare(StatusCode::NOT_MODIFIED);
            validate(&mut answer.headers, file, now);
            return answer;
        }
        // RFC 9110 section 14.2: a range is defined for GET alone.
        Verdict::Proceed { range } => range && *method == Method::GET,
    };
    let field = request.get(RANGE).filter(|_| range);
    let part = match requested(field.and_then(|field| field.to_str().ok()), *length) {
        Requested::Unsatisfiable => {
            let size = grouped(*length);
            let meaning = format!("416 Range Not Satisfiable: {shown} has {size} bytes");
            let mut answer = plain(StatusCode::RANGE_NOT_SATISFIABLE, meaning);
            set(
                &mut answer.headers,
                CONTENT_RANGE,
                &format!("bytes */{length}"),
            );
            return answer;
        }
        Requested::Part(part) => Some(part),
        Requested::Whole => None,
    };
    let mut answer = match &part {
        None => bare(StatusCode::OK),
        Some(part) => {
            let (first, last) = (part.start, part.end - 1);
            let mut answer = bare(StatusCode::PARTIAL_CONTENT);
            let value = format!("bytes {first}-{last}/{length}");
            set(&mut answer.headers, CONTENT_RANGE, &value);
            answer
        }
    };
    let part = part.unwrap_or(0..*length);
    let headers = &mut answer.headers;
    set(headers, CONTENT_TYPE, file.kind);
    set(
        headers,
        CONTENT_LENGTH,
        &(part.end - part.start).to_string(),
    );
    set(headers, ACCEPT_RANGES, "bytes");
    set(headers, X_CONTENT_TYPE_OPTIONS, "nosniff");
    validate(headers, file, now);
    if let Some(digest) = file.digest {
        let value = format!("sha-256=:{}:", BASE64_STANDARD.encode(digest));
        set(headers, REPR_DIGEST, &value);
    }
    if *method == Method::GET && !part.is_empty() {
        answer.body = Body::Part(part);
    }
    answer
}

/// Answers a request for what is not there.
pub(super) fn not_found(shown: &str) -> Answer {
    let meaning = format!("404 Not Found: there is no {shown} here");
    plain(StatusCode::NOT_FOUND, meaning)
}

/// Answers a method that files do not have.
pub(super) fn not_allowed(method: &Method) -> Answer {
    let method: String = method.as_str().chars().take(16).collect();
    let meaning = format!("405 Method Not Allowed: files can be read, not {method}");
    let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, meaning);
    set(&mut answer.headers, ALLOW, "GET, HEAD");
    answer
}

/// Answers a request with no `Host` field, or with several.
pub(super) fn bad_host(fields: usize) -> Answer {
    let meaning = format!("400 Bad Request: {fields} Host fields; one is needed");
    plain(StatusCode::BAD_REQUEST, meaning)
}

/// Answers when the disk does not.
pub(super) fn failed() -> Answer {
    let meaning = "500 Internal Server Error: the files cannot be read";
    plain(StatusCode::INTERNAL_SERVER_ERROR, meaning.into())
}

fn bare(status: StatusCode) -> Answer {
    Answer {
        status,
        headers: HeaderMap::new(),
        body: Body::Empty,
    }
}

/// An answer that says to people what it means.
fn plain(status: StatusCode, meaning: String) -> Answer {
    let text = format!("{meaning}\n");
    let mut answer = bare(status);
    set(
        &mut answer.headers,
        CONTENT_TYPE,
        "text/plain; charset=utf-8",
    );
    set(&mut answer.headers, CONTENT_LENGTH, &text.len().to_string());
    set(&mut answer.headers, X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer.body = Body::Text(text);
    answer
}

fn validate(headers: &mut HeaderMap, file: &Meta, now: SystemTime) {
    set(headers, ETAG, &file.etag);
    if let Some(modified) = file.modified {
        // RFC 9110 section 8.8.2.1: never a date in the future.
        set(
            headers,
            LAST_MODIFIED,
            &httpdate::fmt_http_date(modified.min(now)),
        );
    }
}

/// All values here are printable ASCII; one that is not would be left out.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A name for people: no control characters, not long.
pub(super) fn shown(name: &[u8]) -> String {
    printable(&String::from_utf8_lossy(name), 33)
}

/// The media type that a name's extension stands for.
pub(super) fn media_type(name: &[u8]) -> &'static str {
    let extension = name.rsplit(|&byte| byte == b'.').next().unwrap_or_default();
    match &*extension.to_ascii_lowercase() {
        b"zip" => "application/zip",
        b"pdf" => "application/pdf",
        b"gz" | b"tgz" => "application/gzip",
        b"tar" => "application/x-tar",
        b"json" => "application/json",
        b"png" => "image/png",
        b"jpg" | b"jpeg" => "image/jpeg",
        b"gif" => "image/gif",
        b"svg" => "image/svg+xml",
        b"webp" => "image/webp",
        b"mp3" => "audio/mpeg",
        b"mp4" => "video/mp4",
        b"html" | b"htm" => "text/html; charset=utf-8",
        b"css" => "text/css; charset=utf-8",
        b"csv" => "text/csv; charset=utf-8",
        b"txt" | b"md" | b"log" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header::{IF_NONE_MATCH, IF_RANGE};

    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn file() -> Meta {
        Meta {
            shown: "50MB.zip".into(),
            kind: "application/zip",
            length: 50_000_000,
            etag: "\"a\"".into(),
            modified: Some(now() - Duration::from_secs(3600)),
            digest: Some([0; 32]),
        }
    }

    fn ask(method: Method, fields: &[(HeaderName, &str)]) -> Answer {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        answer(&method, &headers, &file(), now())
    }

    fn field(answer: &Answer, name: HeaderName) -> Option<&str> {
        answer
            .headers
            .get(name)
            .map(|value| value.to_str().unwrap())
    }

    #[test]
    fn paths_are_decoded() {
        assert_eq!(target("/"), Target::Page);
        assert_eq!(target("/50MB.zip"), Target::File(b"50MB.zip".into()));
        assert_eq!(target("/a%3Bb%FF"), Target::File(b"a;b\xff".into()));
        assert_eq!(target("/%2e%2e/x"), Target::File(b"../x".into()));
    }

    #[test]
    fn a_whole_file() {
        let whole = ask(Method::GET, &[]);
        assert_eq!(whole.status, StatusCode::OK);
        assert_eq!(whole.body, Body::Part(0..50_000_000));
        assert_eq!(field(&whole, CONTENT_LENGTH), Some("50000000"));
        assert_eq!(field(&whole, CONTENT_TYPE), Some("application/zip"));
        assert_eq!(field(&whole, ACCEPT_RANGES), Some("bytes"));
        assert_eq!(field(&whole, ETAG), Some("\"a\""));
        assert_eq!(
            field(&whole, LAST_MODIFIED),
            Some("Tue, 14 Nov 2023 21:13:20 GMT")
        );
        assert_eq!(
            field(&whole, REPR_DIGEST),
            Some("sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:")
        );
        let head = ask(Method::HEAD, &[(RANGE, "bytes=0-1")]);
        assert_eq!(head.headers, whole.headers);
        assert_eq!((head.status, head.body), (StatusCode::OK, Body::Empty));
    }

    #[test]
    fn a_part_of_a_file() {
        let part = ask(Method::GET, &[(RANGE, "bytes=1000-1999")]);
        assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.body, Body::Part(1000..2000));
        assert_eq!(
            field(&part, CONTENT_RANGE),
            Some("bytes 1000-1999/50000000")
        );
        assert_eq!(field(&part, CONTENT_LENGTH), Some("1000"));
        let other = ask(Method::GET, &[(RANGE, "bytes=1000-"), (IF_RANGE, "\"b\"")]);
        assert_eq!(other.status, StatusCode::OK);
        let behind = ask(Method::GET, &[(RANGE, "bytes=50000000-")]);
        assert_eq!(behind.status, StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(field(&behind, CONTENT_RANGE), Some("bytes */50000000"));
    }

    #[test]
    fn a_file_that_the_client_has() {
        let answer = ask(Method::GET, &[(IF_NONE_MATCH, "\"a\"")]);
        assert_eq!(answer.status, StatusCode::NOT_MODIFIED);
        assert_eq!(answer.body, Body::Empty);
        assert_eq!(field(&answer, ETAG), Some("\"a\""));
        assert_eq!(field(&answer, CONTENT_LENGTH), None);
    }

    #[test]
    fn an_empty_file_has_no_body() {
        let empty = Meta {
            length: 0,
            ..file()
        };
        let answer = answer(&Method::GET, &HeaderMap::new(), &empty, now());
        assert_eq!(
            (answer.status, &answer.body),
            (StatusCode::OK, &Body::Empty)
        );
        assert_eq!(field(&answer, CONTENT_LENGTH), Some("0"));
    }

    #[test]
    fn a_date_in_the_future_is_not_told() {
        let file = Meta {
            modified: Some(now() + Duration::from_secs(3600)),
            ..file()
        };
        let answer = answer(&Method::GET, &HeaderMap::new(), &file, now());
        assert_eq!(
            field(&answer, LAST_MODIFIED),
            Some("Tue, 14 Nov 2023 22:13:20 GMT")
        );
    }

    #[test]
    fn digests_are_given_to_who_wants_them() {
        let wants = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(WANT_REPR_DIGEST, HeaderValue::from_static(value));
            wants_digest(&headers)
        };
        assert!(wants("sha-256=10"));
        assert!(wants("sha-512=3, sha-256=10"));
        assert!(!wants("sha-256=0"));
        assert!(!wants("sha-512=3"));
        assert!(!wants("nonsense"));
        assert!(!wants_digest(&HeaderMap::new()));
    }

    #[test]
    fn names_for_people_are_short_and_harmless() {
        assert_eq!(shown(b"a\x1b[31m\xff"), "a\u{fffd}[31m\u{fffd}");
        assert_eq!(shown(&[b'x'; 32]), "x".repeat(32));
        assert_eq!(shown(&[b'x'; 300]), "x".repeat(32) + "…");
    }
}

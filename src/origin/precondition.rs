//! Requests that depend on what the client already has (RFC 9110 section 13).

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName,
    header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE},
};

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validators<'a> {
    /// A strong entity tag, quotes included.
    pub(super) etag: &'a str,
    /// When it was last modified.
    pub(super) modified: Option<SystemTime>,
}

/// What a request's conditions come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// To be answered as if there were none; `range`: its `Range` counts.
    Proceed { range: bool },
    /// The client has it: 304.
    NotModified,
    /// The client means another state of the file: 412.
    Failed,
}

/// Weighs a GET's or HEAD's conditions in the order of RFC 9110 section 13.2.2.
pub(super) fn weigh(headers: &HeaderMap, file: Validators<'_>, now: SystemTime) -> Verdict {
    if let Some(tags) = tags(headers, IF_MATCH) {
        if !tags.strong(file.etag) {
            return Verdict::Failed;
        }
    } else if let Some(date) = date(headers, IF_UNMODIFIED_SINCE)
        && file
            .modified
            .is_some_and(|modified| seconds(modified) > date)
    {
        return Verdict::Failed;
    }
    if let Some(tags) = tags(headers, IF_NONE_MATCH) {
        if tags.weak(file.etag) {
            return Verdict::NotModified;
        }
    } else if let Some(date) = date(headers, IF_MODIFIED_SINCE)
        && file
            .modified
            .is_some_and(|modified| seconds(modified) <= date)
    {
        return Verdict::NotModified;
    }
    Verdict::Proceed {
        range: headers.contains_key(RANGE) && if_range(headers, file, now),
    }
}

fn if_range(headers: &HeaderMap, file: Validators<'_>, now: SystemTime) -> bool {
    let Some(condition) = text(headers, IF_RANGE) else {
        return !headers.contains_key(IF_RANGE);
    };
    if condition.starts_with(['"', 'W']) && !condition.starts_with("Wed") {
        return condition == file.etag;
    }
    // A date counts only if the file cannot have changed again within its second.
    match (httpdate::parse_http_date(condition), file.modified) {
        (Ok(date), Some(modified)) => {
            seconds(modified) == date && date + Duration::from_secs(1) <= now
        }
        _ => false,
    }
}

/// HTTP's dates know no fractions.
fn seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.unwrap_or_default().as_secs())
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    Some(headers.get(name)?.to_str().ok()?.trim())
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(text(headers, name)?).ok()
}

/// The entity tags of a field, or `*`.
struct Tags(Vec<String>);

fn tags(headers: &HeaderMap, name: HeaderName) -> Option<Tags> {
    if !headers.contains_key(&name) {
        return None;
    }
    let values = headers.get_all(name).iter();
    // A comma inside of a tag would split it into two that match nothing: ours have none.
    let tags = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().to_owned());
    Some(Tags(tags.collect()))
}

impl Tags {
    fn strong(&self, etag: &str) -> bool {
        self.0.iter().any(|tag| tag == "*" || tag == etag)
    }

    fn weak(&self, etag: &str) -> bool {
        let mut tags = self.0.iter();
        tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const DATE: &str = "Fri, 28 Apr 2023 08:59:02 GMT";
    const BEFORE: &str = "Fri, 28 Apr 2023 08:59:01 GMT";
    const AFTER: &str = "Fri, 28 Apr 2023 08:59:03 GMT";

    fn verdict(fields: &[(HeaderName, &str)]) -> Verdict {
        let modified = httpdate::parse_http_date(DATE).unwrap() + Duration::from_millis(500);
        let file = Validators {
            etag: "\"a\"",
            modified: Some(modified),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        weigh(&headers, file, modified + Duration::from_secs(60))
    }

    const WHOLE: Verdict = Verdict::Proceed { range: false };
    const PART: Verdict = Verdict::Proceed { range: true };

    #[test]
    fn conditions_on_the_tag() {
        assert_eq!(verdict(&[]), WHOLE);
        assert_eq!(verdict(&[(IF_NONE_MATCH, "\"a\"")]), Verdict::NotModified);
        assert_eq!(verdict(&[(IF_NONE_MATCH, "W/\"a\"")]), Verdict::NotModified);
        assert_eq!(verdict(&[(IF_NONE_MATCH, "*")]), Verdict::NotModified);
        assert_eq!(
            verdict(&[(IF_NONE_MATCH, "\"b\", \"a\"")]),
            Verdict::NotModified
        );
        assert_eq!(
            verdict(&[(IF_NONE_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")]),
            Verdict::NotModified
        );
        assert_eq!(verdict(&[(IF_NONE_MATCH, "\"b\"")]), WHOLE);
        assert_eq!(verdict(&[(IF_MATCH, "\"a\"")]), WHOLE);
        assert_eq!(verdict(&[(IF_MATCH, "*")]), WHOLE);
        assert_eq!(verdict(&[(IF_MATCH, "W/\"a\"")]), Verdict::Failed);
        assert_eq!(verdict(&[(IF_MATCH, "\"b\"")]), Verdict::Failed);
    }

    #[test]
    fn conditions_on_the_date() {
        assert_eq!(verdict(&[(IF_MODIFIED_SINCE, DATE)]), Verdict::NotModified);
        assert_eq!(verdict(&[(IF_MODIFIED_SINCE, AFTER)]), Verdict::NotModified);
        assert_eq!(verdict(&[(IF_MODIFIED_SINCE, BEFORE)]), WHOLE);
        assert_eq!(verdict(&[(IF_MODIFIED_SINCE, "yesterday")]), WHOLE);
        assert_eq!(verdict(&[(IF_UNMODIFIED_SINCE, DATE)]), WHOLE);
        assert_eq!(verdict(&[(IF_UNMODIFIED_SINCE, BEFORE)]), Verdict::Failed);
    }

    #[test]
    fn the_tag_outranks_the_date() {
        assert_eq!(
            verdict(&[(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, AFTER)]),
            WHOLE
        );
        assert_eq!(
            verdict(&[(IF_MATCH, "\"a\""), (IF_UNMODIFIED_SINCE, BEFORE)]),
            WHOLE
        );
        assert_eq!(
            verdict(&[(IF_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")]),
            Verdict::Failed
        );
    }

    #[test]
    fn a_range_counts_only_for_the_state_that_it_means() {
        let range = (RANGE, "bytes=0-1");
        assert_eq!(verdict(std::slice::from_ref(&range)), PART);
        for (condition, expected) in [
            ("\"a\"", PART),
            ("\"b\"", WHOLE),
            ("W/\"a\"", WHOLE),
            (DATE, PART),
            (BEFORE, WHOLE),
            (AFTER, WHOLE),
            ("Wed, 26 Apr 2023 08:59:02 GMT", WHOLE),
            ("nonsense", WHOLE),
        ] {
            assert_eq!(
                verdict(&[range.clone(), (IF_RANGE, condition)]),
                expected,
                "{condition}"
            );
        }
    }

    #[test]
    fn a_date_of_this_second_proves_nothing() {
        let modified = httpdate::parse_http_date(DATE).unwrap();
        let file = Validators {
            etag: "\"a\"",
            modified: Some(modified),
        };
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_static("bytes=0-1"));
        headers.insert(IF_RANGE, HeaderValue::from_static(DATE));
        assert_eq!(weigh(&headers, file, modified), WHOLE);
    }
}

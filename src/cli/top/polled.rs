//! What the service answers to one poll.

use std::{collections::BTreeMap, time::Duration};

use hyper::{Method, StatusCode, body::Bytes};
use serde::{Deserialize, de::DeserializeOwned};
use url::form_urlencoded::Serializer;

use super::{meter::Totals, sort::Sort};
use crate::{
    cli::{
        api::{Target, complaint},
        why,
    },
    role::api::{SessionEntry, Status},
    watch::{samples::Samples, why::Why},
};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) sort: Sort,
    /// Empty: all.
    pub(super) filter: String,
    /// So many sessions at most.
    pub(super) limit: usize,
    /// Also why this connection's window is what it is, with its samples.
    pub(super) detail: Option<String>,
}

/// The answers, which were asked for one after another.
#[derive(Debug)]
pub(super) struct Polled {
    pub(super) status: Status,
    /// How many sessions fit the filter.
    pub(super) fit: usize,
    /// How many there are.
    pub(super) open: usize,
    pub(super) sessions: Vec<SessionEntry>,
    pub(super) totals: Totals,
    /// `None`: there is no proxy.
    pub(super) link: Option<Link>,
    /// Of the connection that was asked for, if it is remembered.
    pub(super) detail: Option<Detail>,
}

/// Why a connection's window is what it is, and how it got there.
#[derive(Debug, Clone)]
pub(super) struct Detail {
    pub(super) why: Why,
    pub(super) samples: Option<Samples>,
}

/// The network before the proxy, as much as is shown of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Link {
    counters: Counters,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Counters {
    up: Way,
    down: Way,
}

/// One direction.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Way {
    pub(super) sent: u64,
    pub(super) queued_bytes: u64,
    /// By reason.
    lost: BTreeMap<String, u64>,
}

impl Link {
    /// To the clients.
    pub(super) fn down(&self) -> &Way {
        &self.counters.down
    }

    /// From the clients.
    pub(super) fn up(&self) -> &Way {
        &self.counters.up
    }
}

impl Way {
    pub(super) fn lost(&self) -> u64 {
        self.lost.values().sum()
    }
}

/// So long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl Question {
    fn path(&self) -> String {
        let mut query = Serializer::new(String::new());
        query.append_pair("sort", self.sort.key());
        query.append_pair("limit", &self.limit.to_string());
        if !self.filter.is_empty() {
            query.append_pair("filter", &self.filter);
        }
        format!("/api/v1/sessions?{}", query.finish())
    }

    /// Asks it.
    ///
    /// # Errors
    /// The service is not there, or refuses: in words for a person.
    pub(super) async fn ask(&self, target: &Target) -> Result<Polled, String> {
        let status = parsed(get(target, "/api/v1/status").await?.1)?;
        let (sessions, fit) = self.sessions(target).await?;
        let metrics = get(target, "/metrics").await?.1;
        let link: Option<Link> = found(target, "/api/v1/link").await?;
        let link_lost = link
            .as_ref()
            .map_or([0, 0], |link| [link.down().lost(), link.up().lost()]);
        let metrics = Metrics(&metrics);
        let totals = Totals {
            rudp_out: metrics.value("labnet_rudp_stream_bytes_total{direction=\"acknowledged\"}"),
            rudp_in: metrics.value("labnet_rudp_stream_bytes_total{direction=\"received\"}"),
            http_out: metrics.value("labnet_origin_sent_bytes_total"),
            link_lost,
        };
        let open = metrics.value("labnet_rudp_sessions") + metrics.sum("labnet_origin_transfers{");
        let detail = match &self.detail {
            Some(connection) => detail(target, connection).await?,
            None => None,
        };
        Ok(Polled {
            status,
            fit,
            open: open as usize,
            sessions,
            totals,
            link,
            detail,
        })
    }

    /// The sessions, and how many fit. There are none where there is no proxy.
    async fn sessions(&self, target: &Target) -> Result<(Vec<SessionEntry>, usize), String> {
        let path = self.path();
        let answer = target.answer(Method::GET, &path, PATIENCE).await;
        let answer = answer.map_err(|error| error.to_string())?;
        // A field that no session has now is none to sort by.
        if answer.status() == StatusCode::BAD_REQUEST && self.sort != Sort::Client {
            let plain = Self {
                sort: Sort::Client,
                ..self.clone()
            };
            return Box::pin(plain.sessions(target)).await;
        }
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok((Vec::new(), 0));
        }
        let fit = answer.headers().get("x-total-count");
        let fit = fit.and_then(|fit| fit.to_str().ok()?.parse().ok());
        let sessions: Vec<SessionEntry> = parsed(succeeded(answer.status(), answer.into_body())?)?;
        Ok((sessions.len(), sessions)).map(|(told, sessions)| (sessions, fit.unwrap_or(told)))
    }
}

async fn detail(target: &Target, connection: &str) -> Result<Option<Detail>, String> {
    let whys: Option<Vec<Why>> = found(target, &why::path(connection, CUTS)).await?;
    let Some(why) = whys.into_iter().flatten().next() else {
        return Ok(None);
    };
    let since = (why.seconds - super::spark::SPAN).max(-1.0);
    let path = why::path(connection, CUTS).replace(
        &format!("/why?changes={CUTS}"),
        &format!("/samples?since={since}&points=600"),
    );
    let samples: Option<Vec<Samples>> = found(target, &path).await?;
    let samples = samples.into_iter().flatten().next();
    Ok(Some(Detail { why, samples }))
}

/// So many of the last changes of the window are told of one session.
const CUTS: usize = 20;

async fn get(target: &Target, path: &str) -> Result<(StatusCode, Bytes), String> {
    let answer = target.answer(Method::GET, path, PATIENCE).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let status = answer.status();
    Ok((status, succeeded(status, answer.into_body())?))
}

/// What is there; `None`: nothing is.
async fn found<T: DeserializeOwned>(target: &Target, path: &str) -> Result<Option<T>, String> {
    let answer = target.answer(Method::GET, path, PATIENCE).await;
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    parsed(succeeded(answer.status(), answer.into_body())?).map(Some)
}

fn succeeded(status: StatusCode, body: Bytes) -> Result<Bytes, String> {
    if status.is_success() {
        Ok(body)
    } else {
        Err(complaint(status, &body))
    }
}

fn parsed<T: DeserializeOwned>(body: Bytes) -> Result<T, String> {
    serde_json::from_slice(&body)
        .map_err(|error| format!("it answers something else than labnet would: {error}"))
}

/// The text format of Prometheus.
struct Metrics<'a>(&'a [u8]);

impl Metrics<'_> {
    fn values<'s>(&'s self, fits: impl Fn(&str) -> bool + 's) -> impl Iterator<Item = f64> + 's {
        let lines = self.0.split(|byte| *byte == b'\n');
        let lines = lines.filter_map(|line| str::from_utf8(line).ok()?.rsplit_once(' '));
        lines.filter_map(move |(series, value)| fits(series).then(|| value.parse().ok()).flatten())
    }

    /// 0 where there is none.
    fn value(&self, series: &str) -> f64 {
        self.values(|it| it == series).next().unwrap_or(0.0)
    }

    fn sum(&self, prefix: &str) -> f64 {
        self.values(|it| it.starts_with(prefix)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_path() {
        let question = Question {
            sort: Sort::Goodput,
            filter: "a b&c".to_owned(),
            limit: 20,
            detail: None,
        };
        assert_eq!(
            question.path(),
            "/api/v1/sessions?sort=-in_flight_bytes&limit=20&filter=a+b%26c"
        );
    }

    #[test]
    fn metrics_are_read_by_their_series() {
        let text = b"# TYPE a counter\na{x=\"1 2\"} 5\na{x=\"3\"} 7e2\nab 1\nb 2\n";
        let metrics = Metrics(text);
        assert_eq!(metrics.value("a{x=\"1 2\"}"), 5.0);
        assert_eq!(metrics.sum("a{"), 705.0);
        assert_eq!(metrics.value("absent"), 0.0);
    }

    #[test]
    fn a_link_is_as_the_api_tells_it() {
        let way = r#"{"sent": 9, "sent_bytes": 1, "delivered": 1, "delivered_bytes": 1, "duplicated": 0,
            "lost": {"random": 1, "queue": 2, "blackout": 0, "memory": 0}, "queued_bytes": 77}"#;
        let text = format!(
            r#"{{"options": {{}}, "counters": {{"undelivered": 0, "up": {way}, "down": {way}}}}}"#
        );
        let link: Link = serde_json::from_str(&text).expect("a link");
        assert_eq!((link.down().lost(), link.up().queued_bytes), (3, 77));
    }
}

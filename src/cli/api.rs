//! Asks a running lab over its HTTP endpoints.

use std::{fmt, iter, net::SocketAddr, path::PathBuf, pin::pin, process::ExitCode, time::Duration};

use console::measure_text_width;
use http::header::{AUTHORIZATION, HOST};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use url::Url;

use super::output;
use crate::{
    http::{MISSING, read_token},
    telemetry::complain,
    text::{LONG, printable},
};

/// Where a lab's HTTP endpoints are unless it is told otherwise.
const USUAL: &str = "http://127.0.0.1:9167/";

/// How to reach a running lab.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// The lab's HTTP endpoints
    #[arg(
        long,
        value_name = "URL",
        env = "LABNET_URL",
        default_value = USUAL
    )]
    url: Url,
    /// The lab's bearer token is in this file: changes need it if `token_file` is set in [http]
    #[arg(long, value_name = "FILE", env = "LABNET_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Unreachable(String);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 256 << 20;

impl Target {
    /// The lab at `LABNET_URL`, or where one usually is.
    pub(super) fn usual() -> Result<Self, url::ParseError> {
        let url = std::env::var("LABNET_URL");
        Ok(Self {
            url: Url::parse(url.as_deref().unwrap_or(USUAL))?,
            token_file: std::env::var_os("LABNET_TOKEN_FILE").map(PathBuf::from),
            json: false,
        })
    }

    /// The lab whose HTTP endpoints are at `address`; `None` if that makes no URL.
    pub(super) fn of(address: SocketAddr, token_file: Option<PathBuf>) -> Option<Self> {
        Some(Self {
            url: Url::parse(&format!("http://{address}/")).ok()?,
            token_file,
            json: false,
        })
    }

    /// Sends one request and takes the whole answer.
    pub(super) fn ask(
        &self,
        method: Method,
        path: &str,
    ) -> Result<(StatusCode, Bytes), Unreachable> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Unreachable(format!("no runtime: {error}")))?;
        let answer = runtime.block_on(self.answer(method, path, TIMEOUT))?;
        if let Some(missing) = answer.headers().get(MISSING) {
            let missing = String::from_utf8_lossy(missing.as_bytes());
            complain(format_args!("missing here: {}", printable(&missing, LONG)));
        }
        Ok((answer.status(), answer.into_body()))
    }

    /// Sends one request and takes the whole answer, if it is there within `patience`.
    pub(super) async fn answer(
        &self,
        method: Method,
        path: &str,
        patience: Duration,
    ) -> Result<Response<Bytes>, Unreachable> {
        let url = &self.url;
        let token = self.token_file.as_deref().map(read_token).transpose();
        let token = token.map_err(|problem| Unreachable(format!("--token-file: {problem}")))?;
        match timeout(patience, self.exchange(method, path, token)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Unreachable(format!(
                "no answer from {url}: {error}\nIs `labnet serve` running, and its [http] listening there? --url names another address."
            ))),
            Err(_) => Err(Unreachable(format!(
                "no answer from {url} within {patience:?}"
            ))),
        }
    }

    /// Where it is asked, `127.0.0.1:9167`.
    pub(super) fn authority(&self) -> &str {
        self.url.authority()
    }

    /// Sends a POST and hands each piece of the answer to `take`, until that wants no more, the answer
    /// ends, or Ctrl-C.
    pub(super) fn stream(
        &self,
        path: &str,
        mut take: impl FnMut(&[u8]) -> Result<bool, String>,
    ) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("no runtime: {error}"))?;
        let token = self.token_file.as_deref().map(read_token).transpose();
        let token = token.map_err(|problem| format!("--token-file: {problem}"))?;
        runtime.block_on(async {
            tokio::select! {
                streamed = self.receive(path, token, &mut take) => streamed,
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted.map_err(|error| error.to_string())
                }
            }
        })
    }

    async fn receive(
        &self,
        path: &str,
        token: Option<String>,
        take: &mut impl FnMut(&[u8]) -> Result<bool, String>,
    ) -> Result<(), String> {
        let url = &self.url;
        let unreachable = |error: &dyn fmt::Display| {
            format!(
                "no answer from {url}: {error}\nIs `labnet serve` running, and its [http] listening there? --url names another address."
            )
        };
        let opened = self.open(Method::POST, path, token).await;
        let (mut sender, connection, request) = opened.map_err(|error| unreachable(&error))?;
        // It ends with the answer.
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            return Err(complaint(status, &body));
        }
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("the lab has ended the capture: {error}"))?;
            if let Ok(piece) = frame.into_data()
                && !take(&piece)?
            {
                break;
            }
        }
        connection.abort();
        Ok(())
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        token: Option<String>,
    ) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
        let (mut sender, connection, request) = self.open(method, path, token).await?;
        let exchange = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        // The connection may end together with the answer, or before that is read: an answer that
        // has come counts. Without one, how the connection ended tells why.
        let mut exchange = pin!(exchange);
        let ended = tokio::select! {
            answer = exchange.as_mut() => return answer,
            ended = connection => ended,
        };
        exchange
            .await
            .map_err(|error| ended.err().map_or(error, Into::into))
    }

    /// A connection, and the request to be sent over it.
    async fn open(
        &self,
        method: Method,
        path: &str,
        token: Option<String>,
    ) -> Result<Opened, Box<dyn std::error::Error + Send + Sync>> {
        if self.url.scheme() != "http" {
            return Err("only http:// is spoken".into());
        }
        let host = self.url.host_str().ok_or("no host in the URL")?;
        let port = self.url.port_or_known_default().unwrap_or(80);
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, format!("{host}:{port}"));
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::<Bytes>::new())?;
        Ok((sender, connection, request))
    }

    /// Gets `path` and hands the parsed answer to `show`, or prints it as it came with `--json`.
    pub(super) fn show<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        show: impl FnOnce(T) -> String,
    ) -> ExitCode {
        let answer = self.ask(Method::GET, path);
        let (status, body) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                complain(error);
                return ExitCode::FAILURE;
            }
        };
        if !status.is_success() {
            complain(complaint(status, &body));
            return ExitCode::FAILURE;
        }
        if self.json {
            return output(&[&body[..], b"\n"].concat());
        }
        match serde_json::from_slice(&body) {
            Ok(value) => output(format!("{}\n", show(value)).as_bytes()),
            Err(error) => {
                complain(format_args!(
                    "{} answers something else than labnet would: {error}",
                    self.url
                ));
                ExitCode::FAILURE
            }
        }
    }
}

type Opened = (
    http1::SendRequest<Empty<Bytes>>,
    http1::Connection<TokioIo<TcpStream>, Empty<Bytes>>,
    Request<Empty<Bytes>>,
);

/// What a refusal says.
pub(super) fn complaint(status: StatusCode, body: &[u8]) -> String {
    serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|value| Some(printable(value.get("error")?.as_str()?, WHOLE)))
        .unwrap_or_else(|| status.to_string())
}

/// What may stand in one place of what is printed: a list of addresses is long.
const WHOLE: usize = 4 * LONG;

/// A table for people: headers, then rows, in columns. What the cells hold was said by outsiders, and
/// by whatever answers at the URL. A row has as many cells as there are headers; it lacks those that
/// it is too short for.
pub(super) fn table<Row: AsRef<[String]>>(
    headers: impl AsRef<[&'static str]>,
    rows: impl IntoIterator<Item = Row>,
) -> String {
    let shown = |cell: &String| printable(cell, WHOLE);
    let headers = headers
        .as_ref()
        .iter()
        .map(|header| (*header).to_owned())
        .collect();
    let rows = rows.into_iter();
    let rows = rows.map(|row| row.as_ref().iter().map(shown).collect());
    let rows: Vec<Vec<String>> = iter::once(headers).chain(rows).collect();
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| measure_text_width(cell))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, width)| {
                let padding = width.saturating_sub(measure_text_width(cell)) + 2;
                format!("{cell}{:padding$}", "")
            })
            .collect();
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Seconds as people say them: `42s`, `3m 20s`, `23h 59m`, `4d 2h`.
pub(super) fn ago(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        (_, _, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_two_units() {
        for (seconds, said) in [
            (0.4, "0s"),
            (59.0, "59s"),
            (200.0, "3m 20s"),
            (86_340.0, "23h 59m"),
            (352_800.0, "4d 2h"),
            (-1.0, "0s"),
        ] {
            assert_eq!(ago(seconds), said);
        }
    }

    #[test]
    fn a_stranger_s_name_steers_no_terminal() {
        let text = table(["NAME"], [["a\x1b]0;b\x07\nc\u{202e}d".to_owned()]]);
        assert_eq!(text, "NAME\na\u{fffd}]0;b\u{fffd}\u{fffd}c\u{fffd}d");
        let body = br#"{"error": "no\u001b[2J"}"#;
        assert_eq!(complaint(StatusCode::FORBIDDEN, body), "no\u{fffd}[2J");
    }

    #[test]
    fn a_table_has_aligned_columns_and_no_trailing_blanks() {
        let text = table(["a", "bb"], [["long one".to_owned(), "x".to_owned()]]);
        assert_eq!(text, "a         bb\nlong one  x");
        let wide = table(["a", "bb"], [["學生".to_owned(), "x".to_owned()]]);
        assert_eq!(wide, "a     bb\n學生  x");
    }
}

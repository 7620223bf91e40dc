//! Asks the scraper over TCP.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::{Instant, sleep, timeout},
};

use super::{session::Query, signal::fitting};
use crate::{
    net::{Purpose, WatchedStream},
    watch::event::packet::{Label, Protocol, Role},
};

/// How long a scraper that can't be reached is tried: it may be restarting.
const REACH: Duration = Duration::from_secs(3);
/// The pause after the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How long a scraper that says nothing is asked again: its connections end with it when it is
/// restarted, and that looks the same.
const EMPTY: Duration = Duration::from_secs(1);
/// A scraper's answer for a file that its page does not link to.
const NONE: &str = "SIGNNONE";
/// How long a scraper that was reached may take: it may have to fetch the page first.
const ANSWER: Duration = Duration::from_secs(10);

/// The scraper's answer: a list of files as it came, cut at a whole name if it is longer than
/// `most` bytes, or a file's URL, empty if there is no such file. `None` if it can't be reached in time.
///
/// The connection leaves from `source` if that is possible, so that whoever watches sees the proxy
/// ask.
pub(super) async fn ask(
    scraper: SocketAddr,
    source: IpAddr,
    query: &Query,
    most: usize,
) -> Option<String> {
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let asked = timeout(ANSWER, exchange(scraper, source, query, most)).await;
        match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(answer) if !answer.is_empty() || start.elapsed() + pause > EMPTY => {
                return Some(text(&answer, query, most));
            }
            Ok(_) => tracing::debug!(%scraper, "the scraper says nothing"),
            Err(error) if start.elapsed() + pause > REACH => {
                tracing::warn!(%scraper, %error, "the scraper can't be asked, given up");
                return None;
            }
            Err(error) => tracing::debug!(%scraper, %error, "the scraper can't be asked yet"),
        }
        sleep(pause).await;
        pause *= 2;
    }
}

async fn exchange(
    scraper: SocketAddr,
    source: IpAddr,
    query: &Query,
    most: usize,
) -> io::Result<Vec<u8>> {
    let mut stream = connect(scraper, source, Protocol::List).await?;
    let question = match query {
        Query::List => "SIGNGET".to_owned(),
        Query::File(file) => format!("SIGNURL:{file}\n"),
    };
    stream.write_all(question.as_bytes()).await?;
    let mut answer = Vec::new();
    // One byte more tells a list that is cut from one that fits.
    stream
        .take(most as u64 + 1)
        .read_to_end(&mut answer)
        .await?;
    Ok(answer)
}

pub(super) async fn connect(
    scraper: SocketAddr,
    source: IpAddr,
    protocol: Protocol,
) -> io::Result<WatchedStream> {
    let socket = match scraper {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    Purpose::Peer.can_spare(&socket)?;
    // Any address of the loopback reaches any other; in general only the kernel knows.
    if source.is_loopback() && scraper.ip().is_loopback() && source.is_ipv4() == scraper.is_ipv4() {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(scraper).await?;
    WatchedStream::new(stream, Label::new(Role::Rudp, protocol))
}

fn text(answer: &[u8], query: &Query, most: usize) -> String {
    let text = String::from_utf8_lossy(answer);
    let text = text.trim_end();
    match query {
        Query::List => {
            let list = fitting(text, most);
            if list.len() < text.len() {
                tracing::warn!(most, "the list of files is cut: it is too long");
            }
            list.to_owned()
        }
        Query::File(_) if text == NONE => String::new(),
        Query::File(_) => text.to_owned(),
    }
}

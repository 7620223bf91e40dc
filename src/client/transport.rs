//! A connection of the binary transport over a UDP socket: runs a
//! [`Carrier`](super::carrier::Carrier) in a task of its own, so that several files can be fetched
//! over it at once.

mod driver;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};

use self::driver::{Driver, Ended};
use super::{carrier::AnswerError, udp::SocketError};
use crate::config::BadLink;
use crate::{
    rudp::{
        congestion::Algorithm,
        connection::{CloseReason, Config, HANDSHAKE},
        exchange::{ErrorCode, Head, Malformed, Question, Range, Statistics, decode_list},
        packet::{Cid, Protection},
        signal::Name,
        statistics::Standing,
    },
    watch::fates::Fates,
    watch::qlog::Qlog,
    watch::ring::Rings,
};

/// Why there is no connection, or no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The handshake.
    #[error(
        "no answer within {} s: nobody there, no binary transport there, or not the same --protection and secret ({protection} here; a wrong secret is met with silence)",
        HANDSHAKE.as_secs()
    )]
    Silence {
        /// How packets are protected on this side.
        protection: &'static str,
    },
    /// The handshake: the server's kernel says so.
    #[error("nothing listens there (connection refused)")]
    Refused,
    /// The answer, or the connection with it.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// Nothing came for so long.
    #[error("nothing came for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The connection was over before the question was asked.
    #[error("the connection is over")]
    Over,
}

impl TransportError {
    /// Whether another try may succeed, over a new connection if need be.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Socket(SocketError::Bind { .. }) => false,
            Self::Answer(AnswerError::Refused { code, .. }) => *code == ErrorCode::Unavailable,
            Self::Answer(AnswerError::Malformed(_) | AnswerError::TooLong(_)) => false,
            Self::Answer(AnswerError::Lost(reason)) => !matches!(
                reason,
                CloseReason::Violation { .. } | CloseReason::Version | CloseReason::Local { .. }
            ),
            Self::Socket(_)
            | Self::Silence { .. }
            | Self::Refused
            | Self::Answer(AnswerError::TooShort(_) | AnswerError::BrokenOff(_))
            | Self::Stalled(_)
            | Self::Over => true,
        }
    }
}

impl From<Malformed> for TransportError {
    fn from(malformed: Malformed) -> Self {
        Self::Answer(malformed.into())
    }
}

/// How a connection is held.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address to send from.
    pub local: Option<IpAddr>,
    /// The proxy.
    pub server: SocketAddr,
    /// The client's name.
    pub name: Name,
    /// What shall control the proxy's sending; `None`: what the proxy likes.
    pub congestion: Option<Algorithm>,
    /// How packets are protected.
    pub protection: Protection,
    /// The largest datagram that is tried, UDP payload bytes; `None`: what an Ethernet carries.
    pub max_datagram: Option<u16>,
    /// How bad the network is.
    pub link: BadLink,
    /// Who keeps what that network does to packets.
    pub fates: Option<Fates>,
    /// Who remembers what this side's sending went through.
    pub rings: Option<Rings>,
    /// Where the connection's trace goes, if that is wanted.
    pub qlog: Option<Qlog>,
}

impl Settings {
    fn config(&self) -> Config {
        let ethernet = if self.server.is_ipv4() {
            Config::ETHERNET_IPV4
        } else {
            Config::ETHERNET_IPV6
        };
        Config {
            // Before the first PING is missed a restarted server has had the time to say so.
            idle_timeout: Duration::from_secs(30),
            // A client that only receives would never show its new address behind a NAT.
            keep_alive: Some(Duration::from_secs(2)),
            stream_window: STREAM_WINDOW,
            connection_window: 2 * STREAM_WINDOW,
            max_datagram: self.max_datagram.unwrap_or(ethernet),
            protection: self.protection.clone(),
            ..Config::default()
        }
    }
}

/// What may be under way of one file: the bandwidth-delay product of 1 Gbit/s over 60 ms.
const STREAM_WINDOW: u64 = 8 << 20;
/// The longest wait for the next bytes of an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pieces of one answer between the connection and who reads it.
const QUEUE: usize = 16;

/// A connection. Clones share it; with the last one it ends.
#[derive(Debug, Clone)]
pub struct Transport {
    commands: mpsc::UnboundedSender<Command>,
    keys: Arc<AtomicU64>,
    room: Arc<Notify>,
    local: Arc<Local>,
    over: Arc<OnceLock<CloseReason>>,
    server: SocketAddr,
    connected: Connected,
}

/// What is known once the handshake is done.
#[derive(Debug, Clone, Copy)]
struct Connected {
    /// The proxy's connection id.
    id: Cid,
    /// How long it took.
    handshake: Duration,
}

#[derive(Debug)]
enum Command {
    Ask(Box<Asking>),
    GiveUp(u64),
    Standing(oneshot::Sender<Standing>),
    /// Something about the machine's addresses has changed.
    News,
    /// Say goodbye, and tell when that is done.
    Close(oneshot::Sender<()>),
}

/// From where a connection sends: that may change.
#[derive(Debug)]
struct Local(Mutex<SocketAddr>);

impl Local {
    fn new(address: SocketAddr) -> Self {
        Self(Mutex::new(address))
    }

    fn get(&self) -> SocketAddr {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the one before.
    fn set(&self, address: SocketAddr) -> SocketAddr {
        let mut local = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut local, address)
    }
}

/// A question as it goes to the task.
#[derive(Debug)]
struct Asking {
    key: u64,
    question: Owned,
    head: oneshot::Sender<Result<Head, AnswerError>>,
    ended: oneshot::Sender<Result<(), AnswerError>>,
    chunks: mpsc::Sender<Bytes>,
}

#[derive(Debug)]
enum Owned {
    List,
    Stat,
    Echo(String),
    Get {
        name: String,
        from: u64,
        validator: Option<String>,
    },
}

impl Owned {
    fn question(&self) -> Question<'_> {
        match self {
            Self::List => Question::List,
            Self::Stat => Question::Stat,
            Self::Echo(timestamp) => Question::Echo(timestamp),
            Self::Get {
                name,
                from,
                validator,
            } => Question::Get {
                name,
                range: Range::from(*from),
                validator: validator.as_deref(),
            },
        }
    }
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub struct Reply {
    /// Its head.
    pub head: Head,
    body: Body,
}

#[derive(Debug)]
struct Body {
    key: u64,
    chunks: mpsc::Receiver<Bytes>,
    ended: Option<oneshot::Receiver<Result<(), AnswerError>>>,
    room: Arc<Notify>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Drop for Body {
    fn drop(&mut self) {
        if self.ended.is_some() {
            // A task that has ended has given it up, too.
            let _ = self.commands.send(Command::GiveUp(self.key));
        }
    }
}

impl Reply {
    /// The next bytes of the body; `None`: it is whole.
    ///
    /// # Errors
    /// It never will be.
    pub async fn next(&mut self) -> Result<Option<Bytes>, TransportError> {
        let body = &mut self.body;
        let next = timeout(PATIENCE, body.chunks.recv());
        if let Some(bytes) = next.await.map_err(|_| TransportError::Stalled(PATIENCE))? {
            // A queue that was full comes by here; who fills it is woken for more than one piece.
            if body.chunks.len() == body.chunks.max_capacity() / 2 {
                body.room.notify_one();
            }
            return Ok(Some(bytes));
        }
        match body.ended.take() {
            Some(ended) => Ok(ended
                .await
                .map_err(|_| TransportError::Over)?
                .map(|()| None)?),
            None => Ok(None),
        }
    }

    /// The whole body, of a question whose answer is short.
    async fn whole(mut self) -> Result<Vec<u8>, TransportError> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.next().await? {
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }
}

impl Transport {
    /// Opens a connection.
    ///
    /// # Errors
    /// Without a socket, or an answer within [`HANDSHAKE`]; at once if nothing listens there.
    pub async fn connect(settings: &Settings) -> Result<Self, TransportError> {
        let (driver, connected, commands) = Driver::new(settings).await?;
        let (local, room) = (Arc::clone(&driver.local), Arc::clone(&driver.room));
        let over = Arc::clone(&driver.over);
        tokio::spawn(driver.run());
        let connected = connected.await.map_err(|_| TransportError::Over)?;
        let connected = connected.map_err(|reason| match reason {
            Ended::Closed(CloseReason::Handshake) => TransportError::Silence {
                protection: settings.protection.name(),
            },
            Ended::Closed(reason) => AnswerError::Lost(reason).into(),
            Ended::Refused => TransportError::Refused,
            Ended::Socket(error) => error.into(),
        })?;
        Ok(Self {
            commands,
            keys: Arc::default(),
            room,
            local,
            over,
            server: settings.server,
            connected,
        })
    }

    /// The client's end, where it is now.
    pub fn local(&self) -> SocketAddr {
        self.local.get()
    }

    /// The proxy's end.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// From the first HELLO to the handshake's end.
    pub fn handshake(&self) -> Duration {
        self.connected.handshake
    }

    /// The proxy's id of the connection: it is known there by it.
    pub fn id(&self) -> Cid {
        self.connected.id
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.commands.is_closed()
    }

    /// It is over, and why if that is known.
    fn why_over(&self) -> TransportError {
        let reason = self.over.get().cloned();
        reason.map_or(TransportError::Over, |reason| {
            AnswerError::Lost(reason).into()
        })
    }

    async fn ask(&self, question: Owned) -> Result<Reply, TransportError> {
        // Before anything is sent: whether it can be.
        question.question().encode()?;
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        let (head, heard) = oneshot::channel();
        let (ended, end) = oneshot::channel();
        let (chunks, queue) = mpsc::channel(QUEUE);
        let body = Body {
            key,
            chunks: queue,
            ended: Some(end),
            room: Arc::clone(&self.room),
            commands: self.commands.clone(),
        };
        let asking = Asking {
            key,
            question,
            head,
            ended,
            chunks,
        };
        let asked = self.commands.send(Command::Ask(Box::new(asking)));
        asked.map_err(|_| self.why_over())?;
        let head = timeout(PATIENCE, heard)
            .await
            .map_err(|_| TransportError::Stalled(PATIENCE))?
            .map_err(|_| self.why_over())??;
        Ok(Reply { head, body })
    }

    /// The names of the files, as the proxy spells them.
    ///
    /// # Errors
    /// Without a good answer.
    pub async fn list(&self) -> Result<Vec<String>, TransportError> {
        let body = self.ask(Owned::List).await?.whole().await?;
        let names = decode_list(&body)?;
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    /// What the proxy has counted of this connection.
    ///
    /// # Errors
    /// Without a good answer.
    pub async fn stat(&self) -> Result<Statistics, TransportError> {
        let body = self.ask(Owned::Stat).await?.whole().await?;
        Ok(Statistics::decode(&body)?)
    }

    /// Sends a timestamp and takes it back.
    ///
    /// # Errors
    /// Without a good answer, which is the same timestamp.
    pub async fn echo(&self, timestamp: &str) -> Result<(), TransportError> {
        let body = self.ask(Owned::Echo(timestamp.to_owned())).await?.whole();
        match body.await? == timestamp.as_bytes() {
            true => Ok(()),
            false => Err(Malformed::Text.into()),
        }
    }

    /// A file from the byte `from` on, as long as it is in the state that `validator` names.
    ///
    /// # Errors
    /// Without a good answer.
    pub async fn get(
        &self,
        name: &str,
        from: u64,
        validator: Option<&str>,
    ) -> Result<Reply, TransportError> {
        self.ask(Owned::Get {
            name: name.to_owned(),
            from,
            validator: validator.map(str::to_owned),
        })
        .await
    }

    /// How this side stands, and what it has counted; `None`: it is over.
    pub async fn standing(&self) -> Option<Standing> {
        let (tell, told) = oneshot::channel();
        self.commands.send(Command::Standing(tell)).ok()?;
        told.await.ok()
    }

    /// Says goodbye.
    pub async fn close(&self) {
        let (tell, told) = oneshot::channel();
        if self.commands.send(Command::Close(tell)).is_ok() {
            // The task drops it unanswered if it has failed.
            let _ = told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue that fills in one go, while its reader waits, must not stand still: flow control
    /// holds up the server until the task reads on.
    #[tokio::test]
    async fn whoever_empties_a_full_queue_wakes_the_one_who_fills_it() {
        let (filled, chunks) = mpsc::channel(QUEUE);
        let (ended, end) = oneshot::channel();
        let (commands, _task) = mpsc::unbounded_channel();
        let room = Arc::new(Notify::new());
        let body = Body {
            key: 0,
            chunks,
            ended: Some(end),
            room: Arc::clone(&room),
            commands,
        };
        let head = Head::default();
        let reading = tokio::spawn(async move {
            let mut reply = Reply { head, body };
            while reply.next().await.expect("whole").is_some() {}
        });
        // It waits for the first piece now.
        tokio::task::yield_now().await;
        while filled.try_send(Bytes::from_static(b"piece")).is_ok() {}
        timeout(PATIENCE, room.notified()).await.expect("woken");
        drop(filled);
        ended.send(Ok(())).expect("it reads");
        reading.await.expect("no panic");
    }
}

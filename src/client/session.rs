//! A RUDP session over a UDP socket: runs a [`Requester`], and loses its own signals if asked to.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{pending, poll_fn},
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::time::timeout_at;

use super::udp::{self, SocketError, is_the_network};
use crate::{
    config::BadLink,
    link::{LinkOptions, LinkedSocket, Side, SignalLoss, SocketLink},
    net::{ReceiveBatch, UdpSocket},
    rudp::{
        Requester, Why,
        requester::{Event, Failure, Reply, Request, SubmitError, Ticket},
        signal::Name,
    },
    watch::event::packet::{Again, Fate, Label, Protocol, Role},
};

/// Why a session, or a question in it, failed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The server.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The server's kernel, when the session was to be opened.
    #[error("nothing listens there (connection refused)")]
    Refused,
    /// The question can't be asked.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The server answers, but not this.
    #[error("no answer within {} s: the server only keeps the client waiting", ANSWER_PATIENCE.as_secs())]
    Waiting,
}

impl From<io::Error> for SessionError {
    fn from(error: io::Error) -> Self {
        Self::Socket(error.into())
    }
}

/// An answered question.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The signal's id.
    pub id: u64,
    /// The answer.
    pub reply: Reply,
    /// The round trip; `None` where nobody can tell which copy was answered.
    pub rtt: Option<Duration>,
    /// From the first copy to the answer.
    pub took: Duration,
    /// How often the signal was sent.
    pub attempts: u32,
}

/// What happens while a session waits for answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A signal was lost on purpose; `None`: SIGNEW.
    Dropped(Option<u64>),
    /// Something that the requester tells.
    Event(Event),
}

/// What a client counted, in one session or several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Signals sent, resends and those lost on purpose included.
    pub sent: u64,
    /// Signals lost on purpose.
    pub dropped: u64,
    /// Signals sent again.
    pub resent: u64,
    /// Questions answered.
    pub answered: u64,
    /// SIGNLOST heard.
    pub lost: u64,
    /// SIGNFULL heard.
    pub full: u64,
    /// The shortest round trip of the last session.
    pub rtt_min: Option<Duration>,
    /// Its mean.
    pub rtt_avg: Option<Duration>,
    /// Its longest.
    pub rtt_max: Option<Duration>,
}

impl Counts {
    /// Both together, `self` being the earlier.
    pub fn and(self, later: Self) -> Self {
        Self {
            sent: self.sent + later.sent,
            dropped: self.dropped + later.dropped,
            resent: self.resent + later.resent,
            answered: self.answered + later.answered,
            lost: self.lost + later.lost,
            full: self.full + later.full,
            rtt_min: later.rtt_min.or(self.rtt_min),
            rtt_avg: later.rtt_avg.or(self.rtt_avg),
            rtt_max: later.rtt_max.or(self.rtt_max),
        }
    }
}

/// How a session is held.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address to send from.
    pub local: Option<IpAddr>,
    /// The proxy.
    pub server: SocketAddr,
    /// The client's name.
    pub name: Name,
    /// What is lost on purpose.
    pub loss: SignalLoss,
    /// How bad the network is otherwise.
    pub link: BadLink,
    /// Spreads resends.
    pub seed: u64,
}

/// An open session.
pub struct Session {
    socket: LinkedSocket,
    requester: Requester,
    loss: SignalLoss,
    dropped: u64,
    batch: ReceiveBatch,
    local: SocketAddr,
    server: SocketAddr,
    last_sent: Instant,
    /// The server has said something.
    heard: bool,
    failed: Option<Failure>,
}

/// Signals under way at once: enough to see a gap noticed, far from what any server calls full.
const WINDOW: u32 = 32;
/// A server may keep a client waiting (SIGNFULL), but not for longer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// A quiet session says so often that it is still there: a third of the time after which servers
/// forget it.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// The same before the first numbered signal: a server has little patience with clients that only
/// say hello.
const FIRST_KEEP_ALIVE: Duration = Duration::from_secs(4);

impl Session {
    /// Opens a session: SIGNEW, SIGNACK. Tells the round trip, if it is known.
    pub async fn open(
        settings: &Settings,
        notice: &mut dyn FnMut(&Notice),
    ) -> Result<(Self, Option<Duration>), SessionError> {
        let socket = udp::connect(settings.local, settings.server).await?;
        let socket = UdpSocket::adopt(&socket.into_std()?)?.hearing_refusals();
        let BadLink { up, down, seed } = settings.link;
        let nothing = LinkOptions::default();
        let socket = if (up, down) == (nothing, nothing) {
            LinkedSocket::from(socket)
        } else {
            LinkedSocket::behind(socket, &SocketLink::new(Side::Client, up, down, seed), 0)
        };
        let label = Label::new(Role::Client, Protocol::Rudp);
        let socket = socket.watched_as(label)?;
        let now = Instant::now();
        let mut session = Self {
            local: socket.local_addr()?,
            server: settings.server,
            socket,
            requester: Requester::new(settings.name.clone(), WINDOW, settings.seed, now),
            loss: settings.loss,
            dropped: 0,
            batch: ReceiveBatch::new(),
            last_sent: now,
            heard: false,
            failed: None,
        };
        let mut rtt = None;
        session
            .run_until(notice, |event| match event {
                Event::Connected { rtt: measured, .. } => {
                    rtt = *measured;
                    true
                }
                _ => false,
            })
            .await?;
        Ok((session, rtt))
    }

    /// Asks several questions at once and gives the answers in the questions' order.
    pub async fn ask(
        &mut self,
        requests: Vec<Request>,
        notice: &mut dyn FnMut(&Notice),
    ) -> Result<Vec<Answered>, SessionError> {
        if let Some(failure) = self.failed.clone() {
            return Err(failure.into());
        }
        let now = Instant::now();
        let tickets = requests
            .into_iter()
            .map(|request| self.requester.submit(request, now))
            .collect::<Result<Vec<Ticket>, _>>()?;
        let mut answers = HashMap::new();
        let mut missing = tickets.len();
        if missing > 0 {
            self.run_until(notice, |event| {
                if let Event::Answered {
                    ticket,
                    id,
                    reply,
                    rtt,
                    took,
                    attempts,
                } = event
                    && tickets.contains(ticket)
                {
                    missing -= 1;
                    let answered = Answered {
                        id: *id,
                        reply: reply.clone(),
                        rtt: *rtt,
                        took: *took,
                        attempts: *attempts,
                    };
                    answers.insert(*ticket, answered);
                }
                missing == 0
            })
            .await?;
        }
        Ok(tickets
            .iter()
            .filter_map(|ticket| answers.remove(ticket))
            .collect())
    }

    /// Holds the session open while nothing is asked. Never returns; may be dropped at any time.
    pub async fn stay(&mut self) -> Infallible {
        while self.failed.is_none() {
            let quiet = match self.requester.stats().answered {
                0 => FIRST_KEEP_ALIVE,
                _ => KEEP_ALIVE,
            };
            let quiet_until = self.last_sent + quiet;
            if quiet_until <= Instant::now() {
                let request = Request::Echo {
                    timestamp: "keep-alive".to_owned(),
                };
                if self.requester.submit(request, Instant::now()).is_err() {
                    break;
                }
            }
            let wake = quiet_until.max(Instant::now());
            if let Err(error) = self.turn(wake, &mut |_| {}).await {
                tracing::debug!(%error, "the session failed while nothing was asked");
                break;
            }
            while let Some(event) = self.requester.poll_event() {
                if let Event::Failed(failure) = event {
                    self.failed = Some(failure.clone());
                }
            }
        }
        pending().await
    }

    /// Changes what is lost on purpose from now on.
    pub fn set_loss(&mut self, loss: SignalLoss) {
        self.loss = loss;
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        let stats = self.requester.stats();
        Counts {
            sent: stats.sent,
            dropped: self.dropped,
            resent: stats.resent,
            answered: stats.answered,
            lost: stats.lost,
            full: stats.full,
            rtt_min: stats.rtt_min,
            rtt_avg: stats.rtt_avg(),
            rtt_max: stats.rtt_max,
        }
    }

    /// The client's end.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Runs until `done` says so of an event.
    async fn run_until(
        &mut self,
        notice: &mut dyn FnMut(&Notice),
        mut done: impl FnMut(&Event) -> bool,
    ) -> Result<(), SessionError> {
        let give_up = Instant::now() + ANSWER_PATIENCE;
        let mut finished = false;
        while !finished {
            if give_up <= Instant::now() {
                return Err(SessionError::Waiting);
            }
            self.turn(give_up, notice).await?;
            while let Some(event) = self.requester.poll_event() {
                finished |= done(&event);
                let failure = match &event {
                    Event::Failed(failure) => Some(failure.clone()),
                    _ => None,
                };
                notice(&Notice::Event(event));
                if let Some(failure) = failure {
                    self.failed = Some(failure.clone());
                    return Err(failure.into());
                }
            }
        }
        Ok(())
    }

    /// Whether the session can go on in spite of an error. Where nobody ever was, nobody will be; a
    /// server that was there may be back in a moment.
    fn check(&self, error: io::Error) -> Result<(), SessionError> {
        match error.kind() {
            io::ErrorKind::ConnectionRefused if !self.heard => Err(SessionError::Refused),
            // As good as lost: it will be sent again.
            _ if is_the_network(&error) => Ok(()),
            _ => Err(error.into()),
        }
    }

    /// Sends what is to be sent, then waits for datagrams or a timeout, until `wake` at most,
    /// unless events wait already.
    async fn turn(
        &mut self,
        wake: Instant,
        notice: &mut dyn FnMut(&Notice),
    ) -> Result<(), SessionError> {
        while let Some(outgoing) = self.requester.poll_transmit(Instant::now()) {
            let copy = outgoing.attempt.saturating_sub(1);
            let lost = self.loss.takes(outgoing.id.unwrap_or(0), copy);
            let fate = match outgoing.why {
                None => Fate::Sent,
                Some(Why::Timeout) => Fate::SentAgain(Again::Unanswered),
                Some(Why::Lost) => Fate::SentAgain(Again::Missing),
                Some(Why::Full) => Fate::SentAgain(Again::WindowFull),
            };
            self.last_sent = Instant::now();
            if lost {
                self.socket
                    .tap()
                    .lost_on_purpose(&outgoing.bytes, self.server);
                self.dropped += 1;
                notice(&Notice::Dropped(outgoing.id));
                continue;
            }
            match self
                .socket
                .try_send_as(fate, &outgoing.bytes, self.server, None)
            {
                Ok(()) => {}
                Err(error) => self.check(error)?,
            }
        }
        let due = self.requester.poll_timeout();
        let deadline = due.map_or(wake, |due| due.min(wake));
        let received = poll_fn(|task| self.socket.poll_receive(task, &mut self.batch));
        match timeout_at(deadline.into(), received).await {
            Ok(Ok(())) => {
                self.heard |= !self.batch.is_empty();
                let now = Instant::now();
                for datagram in self.batch.iter() {
                    self.requester.handle(datagram.payload, now);
                }
            }
            Ok(Err(error)) => self.check(error)?,
            Err(_) => self.requester.handle_timeout(Instant::now()),
        }
        Ok(())
    }
}

/// A SIGNECHO with the time of now, as the original writes it.
pub fn echo_now() -> Request {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Request::Echo {
        timestamp: format!("{}.{:07}", now.as_secs(), now.subsec_nanos() / 100),
    }
}

//! One client's session as an actor: hands it datagrams, sends its answers, keeps its one timer.

use std::{
    cell::RefCell,
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    rc::Rc,
    sync::{Arc, Weak},
    task::{self, Poll},
    time::Instant,
};

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message,
    MessageResult, WrapFuture,
};
use bytes::Bytes;
use tokio::time::{Sleep, sleep_until};

use super::{
    counters::{Dropped, Shown},
    ended::Life,
    message::{ABANDONED, Describe, Stop},
    shared::Shared,
};
use crate::rudp::{
    endpoint::{HalfOpen, Serial},
    output::{Change, Output, Reply},
    session::{Description, Query, Session, SessionLimits},
    signal::{Answer, AnswerKind, MAX_LIST},
    statistics,
};
use crate::{
    net::drive,
    role::{Crash, Guarded, api},
    statistic::fields,
    watch::event::packet::{Again, Fate},
};

/// What is told instead of an answer that is too long for an address that is not known.
const TOO_LONG: &str = "the answer is too long for an address that is not known here: take a lease by \
                        DHCP, or ask over the transport (--via rudp)";

/// Their kind, where they are told beside connections.
pub(super) const SIGNALS: &str = "signals";

/// Messages that wait for a session at most; each holds what one receive brought for it.
const MAILBOX: usize = 16;

/// One session. It ends by itself, alone: nobody restarts it.
pub struct RudpSession {
    client: SocketAddr,
    serial: Serial,
    session: Session,
    /// Our address that the client wrote to last.
    local: Option<IpAddr>,
    shared: Rc<Shared>,
    timer: Pin<Box<Sleep>>,
    shown: Option<Shown<Description>>,
    life: Rc<RefCell<Life>>,
}

/// What one receive brought for one session.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Deliver {
    pub(super) first: Bytes,
    pub(super) more: Vec<Bytes>,
    /// The local address that the last one was sent to.
    pub(super) local: Option<IpAddr>,
}

impl RudpSession {
    /// Starts a session on the current thread. When it ends, however, the table hears of it.
    pub(super) fn start(
        client: SocketAddr,
        serial: Serial,
        session: Session,
        shown: Option<Shown<Description>>,
        shared: Rc<Shared>,
    ) -> Addr<Self> {
        let registry = Weak::clone(&shared.registry);
        let timer = Box::pin(sleep_until(session.poll_timeout().into()));
        let life = Life::new(SIGNALS, client, session.name().as_str());
        let life = Rc::new(RefCell::new(life));
        let ended = shared.ended.clone();
        let actor = Self {
            client,
            serial,
            session,
            local: None,
            shared,
            timer,
            shown,
            life: Rc::clone(&life),
        };
        let context = Context::new();
        let address = context.address();
        let running = Guarded::new(context, actor).run();
        actix_rt::spawn(async move {
            let outcome = running.await;
            let mut life = life.borrow_mut();
            if let Err(failure) = outcome {
                life.how("crash", Some(&failure.cause));
            }
            if let Some(registry) = registry.upgrade() {
                registry.gone(client, serial, &life.told().how);
            }
            life.end(&ended);
        });
        address
    }

    /// Calls the session and acts on what it wants.
    fn act(&mut self, ctx: &mut Context<Self>, call: impl FnOnce(&mut Session, &mut Output)) {
        let shared = Rc::clone(&self.shared);
        let mut output = shared.output.borrow_mut();
        output.clear();
        call(&mut self.session, &mut output);
        // Before the answers leave: who has one, finds it counted.
        shared.counters.add(&output);
        let renewed = output.changes.iter().any(|change| *change != Change::Ended);
        let bytes: usize = output.replies().map(|reply| reply.bytes.len()).sum();
        if !renewed {
            self.note(bytes);
        }
        for change in output.changes.drain(..) {
            self.turn(change);
        }
        if renewed {
            self.note(bytes);
        }
        for reply in output.replies() {
            if !shared.answer(&reply, self.client, self.local) {
                let mut life = self.life.borrow_mut();
                life.told().bytes_sent -= reply.bytes.len() as u64;
            }
        }
        drop(output);
        if let Some(shown) = &self.shown {
            shown.set(&self.session.describe(Instant::now()));
        }
        if let Some(query) = self.session.poll_query() {
            self.ask(query, ctx);
        }
        let deadline = self.session.poll_timeout().into();
        if deadline < self.timer.deadline() {
            self.timer.as_mut().reset(deadline);
        }
    }

    /// Notes what it has done, and that it answers with so many bytes.
    fn note(&self, bytes: usize) {
        let done = self.session.describe(Instant::now());
        let mut life = self.life.borrow_mut();
        let told = life.told();
        told.bytes_sent += bytes as u64;
        (told.lost, told.sent_again) = (done.lost, done.repeated);
    }

    fn turn(&mut self, change: Change) {
        let mut life = self.life.borrow_mut();
        match change {
            Change::Ended => life.how("end", None),
            Change::Replaced => life.how("replaced", None),
            Change::Reopened => {}
        }
        life.end(&self.shared.ended);
        if change != Change::Ended {
            *life = Life::new(SIGNALS, self.client, self.session.name().as_str());
        }
        drop(life);
        if let Some(registry) = self.shared.registry.upgrade() {
            registry.turned(self.client, self.serial, change);
        }
        // First the old name's place, then the new one's.
        self.shown = None;
        if change != Change::Ended {
            let counters = &self.shared.counters;
            self.shown = counters.show_signals(self.session.name(), self.client);
        }
    }

    fn ask(&mut self, query: Query, ctx: &mut Context<Self>) {
        let shared = Rc::clone(&self.shared);
        let source = self.local.unwrap_or(shared.local.ip());
        let client = self.client.ip();
        let asked = async move {
            let answer = shared.ask_scraper(source, client, &query, MAX_LIST).await;
            (query, answer)
        };
        let told = asked.into_actor(self).map(|(query, answer), actor, ctx| {
            let answer = answer.map(|answer| actor.shared.one_copy(answer));
            actor.act(ctx, |session, output| {
                session.handle_scraper(&query, answer.as_ref(), output);
            });
        });
        ctx.spawn(told);
    }

    /// Waits for the session's deadline, which mostly has moved on meanwhile.
    fn poll_timer(&mut self, ctx: &mut Context<Self>, task: &mut task::Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(task).is_ready() {
            let deadline = self.session.poll_timeout();
            if deadline <= Instant::now() {
                ctx.stop();
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(deadline.into());
        }
        Poll::Pending
    }
}

impl Shared {
    /// Sends an answer, if so much may go to its client: says whether.
    pub(super) fn answer(
        &self,
        reply: &Reply<'_>,
        client: SocketAddr,
        local: Option<IpAddr>,
    ) -> bool {
        let now = Instant::now();
        let may = |bytes: &[u8]| self.allowance().send(client.ip(), bytes.len(), now);
        if may(reply.bytes) {
            self.send(reply, client, local);
            return true;
        }
        tracing::debug!(%client, bytes = reply.bytes.len(), "too much for an unknown address");
        let reason = Dropped::Amplification;
        self.counters.dropped(reason).inc();
        let tap = self.socket.tap();
        tap.withheld(reply.bytes, client, local, reason.label());
        // A list that is too long is so each time it is asked for.
        if let Ok(Answer::Get { id, .. }) = Answer::parse(reply.bytes) {
            let mut bytes = Vec::new();
            let (id, why) = (Some(id), TOO_LONG);
            Answer::Refused { id, why }.encode(&mut bytes);
            if may(&bytes) {
                let kind = AnswerKind::Refused;
                let bytes = &bytes;
                self.send(
                    &Reply {
                        bytes,
                        kind,
                        ..*reply
                    },
                    client,
                    local,
                );
            }
        }
        false
    }

    fn send(&self, reply: &Reply<'_>, client: SocketAddr, local: Option<IpAddr>) {
        let fate = if reply.again {
            Fate::SentAgain(Again::AskedAgain)
        } else {
            Fate::Sent
        };
        match self.socket.try_send_as(fate, reply.bytes, client, local) {
            Ok(()) => self.counters.sent(reply),
            Err(error) => {
                tracing::debug!(%client, %error, "an answer could not be sent");
                self.counters.lost_send.inc();
            }
        }
    }

    fn one_copy(&self, text: String) -> Arc<str> {
        let mut last = self.list.borrow_mut();
        if **last != *text {
            *last = text.into();
        }
        Arc::clone(&last)
    }
}

impl Actor for RudpSession {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.spawn(drive(Self::poll_timer));
    }
}

impl Handler<Deliver> for RudpSession {
    type Result = ();

    fn handle(&mut self, Deliver { first, more, local }: Deliver, ctx: &mut Self::Context) {
        self.local = local;
        let bytes = first.len() + more.iter().map(Bytes::len).sum::<usize>();
        self.life.borrow_mut().told().bytes_received += bytes as u64;
        let now = Instant::now();
        let (shared, client) = (Rc::clone(&self.shared), self.client);
        self.act(ctx, |session, output| {
            for datagram in std::iter::once(first).chain(more) {
                let before = output.untaken();
                session.handle(&datagram, now, output);
                let told = [before, output.untaken()];
                shared.tell_untaken(told, &datagram, client, local);
            }
        });
    }
}

impl Handler<Describe> for RudpSession {
    type Result = MessageResult<Describe>;

    fn handle(&mut self, _: Describe, _: &mut Self::Context) -> Self::Result {
        let (session, now) = (&self.session, Instant::now());
        MessageResult(describe(self.client, session, now))
    }
}

/// How a session stands that no numbered signal has come for.
pub(super) fn describe_half_open(
    client: SocketAddr,
    half_open: &HalfOpen,
    limits: SessionLimits,
    now: Instant,
) -> api::SessionEntry {
    let session = Session::new(half_open.clone(), limits);
    describe(client, &session, now)
}

fn describe(client: SocketAddr, session: &Session, now: Instant) -> api::SessionEntry {
    api::SessionEntry {
        kind: SIGNALS.to_owned(),
        client,
        name: session.name().to_string(),
        connection_id: None,
        statistics: fields(statistics::SIGNALS, &session.describe(now)),
    }
}

impl Handler<Stop> for RudpSession {
    type Result = ();

    fn handle(&mut self, stop: Stop, ctx: &mut Self::Context) {
        let (how, cause) = match stop {
            Stop::Shutdown => ("shutdown", None),
            Stop::Abandoned => ("crash", Some(ABANDONED)),
        };
        self.life.borrow_mut().how(how, cause);
        ctx.stop();
    }
}

impl Handler<Crash> for RudpSession {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        panic!("fault injection");
    }
}

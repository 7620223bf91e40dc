//! One actor under supervision: a failure of it becomes a restart, with its address and its queued
//! messages kept. actix itself restarts nothing after a panic.

#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    sync::mpsc,
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use actix::{Addr, AsyncContext, Context, fut, fut::ActorFutureExt, prelude::ActorContext};
use tokio::{
    sync::{mpsc as async_mpsc, oneshot},
    time::{sleep, timeout},
};

use super::policy::{Policy, RestartLimits, Verdict};
use crate::{
    http::connections_here,
    role::{Failure, Guarded, Keep, Lack, Role, children_here},
    watch::event::FailureKind,
};

/// How long a child may take to stop before it is dropped (OTP's worker default).
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long its thread may take to give it an address.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// A thread that has not beaten for so long does not hold up the shutdown.
const SILENT: Duration = Duration::from_secs(3);
/// How often a thread that shall end looks whether the sessions in it have ended.
const LOOK: Duration = Duration::from_millis(100);
/// Of what [`Role::missing`] tells.
const LISTENING: &str = "listen";

/// What a child's supervisor hears of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    /// It runs, for the first time or again.
    Up,
    /// It lacks something, or has it again.
    Lack(Lack),
    /// It failed and will be restarted after the pause.
    Down { failure: Failure, pause: Duration },
    /// It was stopped.
    Ended,
    /// It fails too often; its supervisor has to fail with it.
    GaveUp { failure: Failure },
}

/// What came of a change.
pub(super) type Changed = Result<Going, Failure>;

/// How a child works by what is kept now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Going {
    /// It went on.
    On,
    /// It was made anew, as it did not run just then.
    Anew,
}

enum Control {
    /// Go on with what is kept now.
    Change(oneshot::Sender<Changed>),
    SetLimits(RestartLimits),
    Stop(oneshot::Sender<()>),
}

/// A running child. Dropping the handle ends it, sooner or later: [`Child::stop`] waits for it.
pub(super) struct Child<R: Role> {
    pub(super) address: Addr<R>,
    pub(super) keep: Keep<R::Kept>,
    control: async_mpsc::UnboundedSender<Control>,
}

/// Receives the reports of all children, each with its name.
pub(super) type Reports = async_mpsc::UnboundedSender<(&'static str, Report)>;

impl<R: Role> Child<R> {
    /// Starts the role in a thread of its own, so that one that blocks stalls nobody else. What comes
    /// with it hears when it has begun to work.
    ///
    /// # Errors
    /// If there is no thread to be had, or the actor's `new` panicked.
    pub(super) fn start(
        kept: R::Kept,
        limits: RestartLimits,
        reports: Reports,
    ) -> Result<(Self, oneshot::Receiver<Changed>), Failure> {
        let (begun, begins) = oneshot::channel();
        let (control, controlled) = async_mpsc::unbounded_channel();
        let (give_address, take_address) = mpsc::channel();
        let tell = reports.clone();
        let keep = Keep::told(kept, move |lack| {
            let _ = tell.send((R::NAME, Report::Lack(lack)));
        });
        let keep_inside = keep.clone();
        let inside = move || {
            let runtime = match actix_rt::Runtime::new() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let tried = format_args!("starting a thread's executor: {error}");
                    let _ = give_address.send(Err(Failure::new(FailureKind::Ended, tried)));
                    return;
                }
            };
            runtime.block_on(async move {
                actix_rt::spawn(keep_inside.beats().beat(R::NAME));
                let made = catch_unwind(AssertUnwindSafe(|| R::new(keep_inside.clone())));
                let actor = match made {
                    Ok(actor) => actor,
                    Err(panic) => {
                        let _ = give_address.send(Err(Failure::panic(panic.as_ref())));
                        return;
                    }
                };
                let context = Context::<R>::new();
                let _ = give_address.send(Ok(context.address()));
                let runner = Runner {
                    actor: Guarded::new(context, actor),
                    keep: keep_inside,
                    policy: Policy::new(limits, Instant::now(), rand::random()),
                    controlled,
                    reports,
                    waiting: vec![begun],
                    starting: true,
                    changed: Rc::default(),
                };
                runner.run().await;
            });
        };
        let thread = thread::Builder::new().name(R::NAME.to_owned());
        if let Err(error) = thread.spawn(inside) {
            let tried = format_args!("starting a thread: {error}");
            return Err(Failure::new(FailureKind::Ended, tried));
        }
        match take_address.recv_timeout(START_TIMEOUT) {
            Ok(Ok(address)) => {
                let child = Self {
                    address,
                    keep,
                    control,
                };
                Ok((child, begins))
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) => {
                keep.supersede();
                let cause = format_args!("its thread was not ready within {START_TIMEOUT:?}");
                Err(Failure::new(FailureKind::Stuck, cause))
            }
        }
    }

    /// Goes on with `kept`: a reload. The answer comes when it does.
    pub(super) fn change(&self, kept: R::Kept) -> oneshot::Receiver<Changed> {
        self.keep.set(kept);
        let (done, changed) = oneshot::channel();
        // To one that has ended, the answer is the channel's end.
        let _ = self.control.send(Control::Change(done));
        changed
    }

    pub(super) fn set_limits(&self, limits: RestartLimits) {
        let _ = self.control.send(Control::SetLimits(limits));
    }

    /// Stops the actor and its thread. Ends after [`STOP_TIMEOUT`] at the latest; a thread that does
    /// nothing is not waited for.
    pub(super) async fn stop(self) {
        let (done, stopped) = oneshot::channel();
        let told = self.control.send(Control::Stop(done)).is_ok();
        let silent = self.keep.beats().silent(SILENT, Instant::now());
        if told && silent.is_none() {
            let _ = timeout(STOP_TIMEOUT + Duration::from_secs(1), stopped).await;
        }
    }
}

/// Tells what of `kept` is missing now.
pub(super) fn tell_missing<R: Role>(keep: &Keep<R::Kept>, kept: &R::Kept) {
    let missing = R::missing(kept);
    if missing.is_empty() {
        keep.recovered(LISTENING);
    } else {
        keep.degraded(LISTENING, missing.join("; "));
    }
}

enum Woken {
    /// It has started and runs.
    Up,
    /// It has taken a change while it runs.
    Changed,
    Failed(Failure),
    Control(Option<Control>),
}

/// What runs in a child's thread.
struct Runner<R: Role> {
    actor: Guarded<R>,
    keep: Keep<R::Kept>,
    policy: Policy,
    controlled: async_mpsc::UnboundedReceiver<Control>,
    reports: Reports,
    /// Who wants to know what came of a change.
    waiting: Vec<oneshot::Sender<Changed>>,
    /// It has not yet been polled since it was made.
    starting: bool,
    /// Set by the actor when it has taken a change.
    changed: Rc<Cell<bool>>,
}

impl<R: Role> Runner<R> {
    async fn run(mut self) {
        let stopped = loop {
            let mut woken = self.wake().await;
            if self.keep.is_superseded() {
                break None;
            }
            if let Woken::Failed(failure) = woken {
                let pause = match self.policy.on_failure(Instant::now()) {
                    Verdict::RestartAfter(pause) => pause,
                    Verdict::Escalate => {
                        self.give_up(failure);
                        break None;
                    }
                };
                self.answer(&Err(failure.clone()));
                self.report(Report::Down { failure, pause });
                let Some(next) = self.rest(pause).await else {
                    continue;
                };
                woken = Woken::Control(next);
            }
            match woken {
                Woken::Up => {
                    self.starting = false;
                    self.policy.on_started(Instant::now());
                    tell_missing::<R>(&self.keep, &self.keep.get());
                    self.report(Report::Up);
                    self.answer(&Ok(Going::Anew));
                }
                Woken::Changed => {
                    tell_missing::<R>(&self.keep, &self.keep.get());
                    self.answer(&Ok(Going::On));
                }
                Woken::Control(Some(Control::Change(done))) => {
                    self.waiting.push(done);
                    let changed = Rc::clone(&self.changed);
                    let change =
                        fut::ready(()).map(move |(), role: &mut R, ctx| match role.change(ctx) {
                            Ok(()) => changed.set(true),
                            Err(failure) => role.fail(ctx, failure),
                        });
                    self.actor.context().spawn(change);
                }
                Woken::Control(Some(Control::SetLimits(limits))) => self.policy.set_limits(limits),
                Woken::Control(Some(Control::Stop(done))) => break Some(done),
                Woken::Control(None) => break None,
                // Its pause is over, or something came meanwhile.
                Woken::Failed(_) => {}
            }
        };
        if stopped.is_some() {
            self.actor.context().stop();
            let stopping = poll_fn(|task| self.actor.poll(task).map(drop));
            let _ = timeout(STOP_TIMEOUT, stopping).await;
            self.report(Report::Ended);
        }
        let Self {
            actor,
            keep,
            controlled,
            waiting,
            ..
        } = self;
        let _ = actor.discard();
        drop(waiting);
        leave::<R>(keep, controlled, stopped).await;
    }

    async fn wake(&mut self) -> Woken {
        poll_fn(|task| {
            if let Poll::Ready(control) = self.controlled.poll_recv(task) {
                return Poll::Ready(Woken::Control(control));
            }
            match self.actor.poll(task) {
                Poll::Pending if self.changed.take() => Poll::Ready(Woken::Changed),
                Poll::Pending if self.starting => Poll::Ready(Woken::Up),
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(())) => {
                    let failure = self.keep.take_failure();
                    Poll::Ready(Woken::Failed(failure.unwrap_or_else(|| {
                        Failure::new(FailureKind::Ended, "it stopped without a reason")
                    })))
                }
                Poll::Ready(Err(failure)) => Poll::Ready(Woken::Failed(failure)),
            }
        })
        .await
    }

    /// Waits before the restart, and makes it anew then; messages queue up meanwhile, up to the
    /// mailbox's bound. Something else to do comes first, if there is.
    async fn rest(&mut self, pause: Duration) -> Option<Option<Control>> {
        let mut rested = pin!(sleep(pause));
        loop {
            tokio::select! {
                () = rested.as_mut() => break,
                control = self.controlled.recv() => match control {
                    Some(Control::SetLimits(limits)) => self.policy.set_limits(limits),
                    // What is kept has changed: no need to wait.
                    Some(Control::Change(done)) => {
                        self.waiting.push(done);
                        break;
                    }
                    control => return Some(control),
                },
            }
        }
        match self.renew() {
            Ok(()) => None,
            Err(failure) => {
                self.give_up(failure);
                Some(None)
            }
        }
    }

    fn renew(&mut self) -> Result<(), Failure> {
        self.keep.forget_lacks();
        self.keep.take_failure();
        self.changed.take();
        self.starting = true;
        self.actor.restart()
    }

    fn report(&self, report: Report) {
        if !self.keep.is_superseded() {
            let _ = self.reports.send((R::NAME, report));
        }
    }

    fn give_up(&mut self, failure: Failure) {
        self.answer(&Err(failure.clone()));
        self.report(Report::GaveUp { failure });
    }

    fn answer(&mut self, changed: &Changed) {
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(changed.clone());
        }
    }
}

/// Lets the thread end: for one that was stopped within [`STOP_TIMEOUT`]; one that was superseded
/// remains as long as sessions live in it; one that gave up waits to be stopped. Transfers under way
/// are not waited for by whoever stops the role, but finish if the process goes on.
async fn leave<R: Role>(
    keep: Keep<R::Kept>,
    mut controlled: async_mpsc::UnboundedReceiver<Control>,
    stopped: Option<oneshot::Sender<()>>,
) {
    let mut done = stopped;
    while done.is_none() && !keep.is_superseded() {
        match controlled.recv().await {
            Some(Control::Stop(stop)) => done = Some(stop),
            Some(_) => {}
            None => break,
        }
    }
    // Its listeners are free for others, and its sessions end; a superseded one's are its
    // successor's, too.
    if !keep.is_superseded() {
        let mut kept = keep.get();
        R::unbind(&mut kept);
        keep.set(kept);
    }
    let vacant = async {
        while children_here() > 0 {
            sleep(LOOK).await;
        }
    };
    if keep.is_superseded() {
        vacant.await;
    } else {
        let _ = timeout(STOP_TIMEOUT, vacant).await;
    }
    drop(keep);
    if let Some(done) = done {
        let _ = done.send(());
    }
    // A download under way is finished, and so is the answer to the very request that has stopped
    // the role.
    while connections_here() > 0 {
        sleep(LOOK).await;
    }
}

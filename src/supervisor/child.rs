//! One actor under supervision: a panic in it becomes a restart, with its address and its queued
//! messages kept. actix itself restarts nothing after a panic.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::mpsc,
    task::Poll,
    time::{Duration, Instant},
};

use actix::{Addr, Arbiter, AsyncContext, Context, dev::ContextFut, prelude::ActorContext};
use tokio::{
    sync::{mpsc as async_mpsc, oneshot},
    time::{sleep, timeout},
};

use super::policy::{Exit, Limits, Policy, Restart, Verdict};
use crate::role::{Keep, Role};

/// How long a child may take to stop before it is dropped (OTP's worker default).
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What a child's supervisor hears of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    /// It runs, for the first time or again.
    Up,
    /// It ended and will be restarted after the pause.
    Down {
        exit: Exit,
        cause: String,
        pause: Duration,
    },
    /// It ended and stays so.
    Ended,
    /// It fails too often; its supervisor has to fail with it.
    GaveUp { cause: String },
}

enum Control {
    /// Make the actor anew from what is kept now.
    Renew,
    SetLimits(Limits),
    Stop(oneshot::Sender<()>),
}

/// A running child. Dropping the handle does not stop it: [`Child::stop`] does.
pub(super) struct Child<R: Role> {
    pub(super) address: Addr<R>,
    pub(super) keep: Keep<R::Kept>,
    control: async_mpsc::UnboundedSender<Control>,
    arbiter: Arbiter,
}

/// Receives the reports of all children, each with its name.
pub(super) type Reports = async_mpsc::UnboundedSender<(&'static str, Report)>;

impl<R: Role> Child<R> {
    /// Starts the role in a thread of its own, so that one that blocks stalls nobody else.
    ///
    /// # Errors
    /// If the thread ended before the actor had an address: its `new` panicked.
    pub(super) fn start(
        kept: R::Kept,
        restart: Restart,
        limits: Limits,
        reports: Reports,
    ) -> Result<Self, String> {
        let arbiter = Arbiter::new();
        let keep = Keep::new(kept);
        let (control, controlled) = async_mpsc::unbounded_channel();
        let (give_address, take_address) = mpsc::channel();
        let kept = keep.clone();
        arbiter.spawn_fn(move || {
            let made = catch_unwind(AssertUnwindSafe(|| R::new(kept)));
            let actor = match made {
                Ok(actor) => actor,
                Err(panic) => {
                    let _ = give_address.send(Err(words(panic.as_ref())));
                    return;
                }
            };
            let context = Context::<R>::new();
            let _ = give_address.send(Ok(context.address()));
            actix_rt::spawn(run(
                context.into_future(actor),
                Policy::new(restart, limits, Instant::now(), rand::random()),
                controlled,
                reports,
            ));
        });
        match take_address.recv() {
            Ok(Ok(address)) => Ok(Self {
                address,
                keep,
                control,
                arbiter,
            }),
            Ok(Err(cause)) => Err(cause),
            Err(_) => Err("its thread ended before it started".to_owned()),
        }
    }

    /// Makes the actor anew from what is kept: a reload.
    pub(super) fn renew(&self, kept: R::Kept) {
        self.keep.set(kept);
        let _ = self.control.send(Control::Renew);
    }

    pub(super) fn set_limits(&self, limits: Limits) {
        let _ = self.control.send(Control::SetLimits(limits));
    }

    /// Stops the actor and its thread. Ends after [`STOP_TIMEOUT`] at the latest.
    pub(super) async fn stop(self) {
        let (done, stopped) = oneshot::channel();
        if self.control.send(Control::Stop(done)).is_ok() {
            let _ = timeout(STOP_TIMEOUT + Duration::from_secs(1), stopped).await;
        }
        self.arbiter.stop();
        // The thread leaves when its loop sees the stop; a blocked one must not hold up the rest.
    }
}

enum Woken {
    Exit(Exit, String),
    Control(Option<Control>),
}

async fn run<R: Role>(
    mut actor: ContextFut<R, Context<R>>,
    mut policy: Policy,
    mut controlled: async_mpsc::UnboundedReceiver<Control>,
    reports: Reports,
) {
    let report = |report| {
        let _ = reports.send((R::NAME, report));
    };
    report(Report::Up);
    loop {
        let mut woken = poll_fn(|task| {
            if let Poll::Ready(control) = controlled.poll_recv(task) {
                return Poll::Ready(Woken::Control(control));
            }
            let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut actor).poll(task)));
            match polled {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(())) => {
                    Poll::Ready(Woken::Exit(Exit::Normal, "it stopped".to_owned()))
                }
                Err(panic) => Poll::Ready(Woken::Exit(Exit::Panic, words(panic.as_ref()))),
            }
        })
        .await;
        if let Woken::Exit(exit, cause) = woken {
            let pause = match policy.on_exit(exit, Instant::now()) {
                Verdict::RestartAfter(pause) => pause,
                Verdict::Leave => {
                    report(Report::Ended);
                    break;
                }
                Verdict::Escalate => {
                    report(Report::GaveUp { cause });
                    break;
                }
            };
            report(Report::Down { exit, cause, pause });
            // Messages queue up meanwhile, up to the mailbox's bound.
            let mut rested = pin!(sleep(pause));
            woken = loop {
                tokio::select! {
                    () = rested.as_mut() => break Woken::Control(Some(Control::Renew)),
                    control = controlled.recv() => match control {
                        Some(Control::SetLimits(limits)) => policy.set_limits(limits),
                        control => break Woken::Control(control),
                    },
                }
            };
        }
        match woken {
            Woken::Control(Some(Control::Renew)) => {
                policy.on_started(Instant::now());
                match catch_unwind(AssertUnwindSafe(|| actor.restart())) {
                    Ok(_) => report(Report::Up),
                    // Not made anew, so never to be polled again: as bad as failing too often.
                    Err(panic) => {
                        report(Report::GaveUp {
                            cause: words(panic.as_ref()),
                        });
                        break;
                    }
                }
            }
            Woken::Control(Some(Control::SetLimits(limits))) => policy.set_limits(limits),
            Woken::Control(Some(Control::Stop(done))) => {
                actor.ctx().stop();
                let stopping = poll_fn(|task| {
                    let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut actor).poll(task)));
                    match polled {
                        Ok(Poll::Pending) => Poll::Pending,
                        Ok(Poll::Ready(())) | Err(_) => Poll::Ready(()),
                    }
                });
                let _ = timeout(STOP_TIMEOUT, stopping).await;
                report(Report::Ended);
                let _ = catch_unwind(AssertUnwindSafe(move || drop(actor)));
                let _ = done.send(());
                return;
            }
            Woken::Control(None) => break,
            Woken::Exit(..) => {}
        }
    }
    // Dropping a context polls its actor once more: that may panic, too.
    let _ = catch_unwind(AssertUnwindSafe(move || drop(actor)));
    // A stop may still be asked for, and must be answered.
    while let Some(control) = controlled.recv().await {
        if let Control::Stop(done) = control {
            let _ = done.send(());
            return;
        }
    }
}

/// A panic's message.
fn words(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    };

    use actix::{Actor, Handler, Message, Supervised};

    use super::*;
    use crate::role::{Crash, PrepareError, Resources};

    /// Counts in memory (lost with the actor) and in what is kept.
    struct Counter {
        keep: Keep<Kept>,
        kept: Kept,
        count: u32,
        timer_ran: bool,
    }

    #[derive(Clone, Default)]
    struct Kept {
        total: Arc<AtomicU32>,
        timers: Arc<AtomicU32>,
        step: u32,
        panic_in_stopping: bool,
    }

    #[derive(Message)]
    #[rtype(result = "(u32, u32)")]
    struct Count;

    #[derive(Message)]
    #[rtype(result = "()")]
    struct CrashInTimer;

    impl Role for Counter {
        const NAME: &'static str = "counter";
        type Config = ();
        type Kept = Kept;

        fn prepare((): &(), _: Option<&Kept>, _: &Resources) -> Result<Kept, PrepareError> {
            Ok(Kept::default())
        }

        fn listens(_: &Kept) -> Vec<String> {
            Vec::new()
        }

        fn new(keep: Keep<Kept>) -> Self {
            let kept = keep.get();
            Self {
                keep,
                kept,
                count: 0,
                timer_ran: false,
            }
        }
    }

    impl Actor for Counter {
        type Context = Context<Self>;

        fn started(&mut self, ctx: &mut Self::Context) {
            self.kept.timers.fetch_add(1, SeqCst);
            ctx.run_later(Duration::ZERO, |counter, _| counter.timer_ran = true);
        }

        fn stopped(&mut self, _: &mut Self::Context) {
            assert!(!self.kept.panic_in_stopping, "in stopped()");
        }
    }

    impl Supervised for Counter {
        fn restarting(&mut self, _: &mut Self::Context) {
            *self = Self::new(self.keep.clone());
        }
    }

    impl Handler<Crash> for Counter {
        type Result = ();

        fn handle(&mut self, _: Crash, _: &mut Self::Context) {
            panic!("on purpose");
        }
    }

    impl Handler<CrashInTimer> for Counter {
        type Result = ();

        fn handle(&mut self, _: CrashInTimer, ctx: &mut Self::Context) {
            ctx.run_later(Duration::ZERO, |_, _| panic!("in a timer"));
        }
    }

    impl Handler<Count> for Counter {
        type Result = actix::MessageResult<Count>;

        fn handle(&mut self, _: Count, _: &mut Self::Context) -> Self::Result {
            self.count += 1;
            let step = self.kept.step.max(1);
            let total = self.kept.total.fetch_add(step, SeqCst) + step;
            actix::MessageResult((self.count, total))
        }
    }

    type Heard = async_mpsc::UnboundedReceiver<(&'static str, Report)>;

    fn start(kept: Kept, limits: Limits) -> (Child<Counter>, Heard) {
        let (reports, heard) = async_mpsc::unbounded_channel();
        let child = Child::start(kept, Restart::Permanent, limits, reports).expect("start");
        (child, heard)
    }

    fn limits(max_restarts: u32) -> Limits {
        Limits {
            backoff_first: Duration::from_millis(1),
            backoff_max: Duration::from_millis(1),
            ..Limits::new(max_restarts, Duration::from_secs(3600))
        }
    }

    async fn heard(reports: &mut Heard) -> Report {
        reports.recv().await.expect("a report").1
    }

    #[actix::test]
    async fn a_panic_in_a_handler_keeps_the_address_and_the_queued_messages() {
        let (child, mut reports) = start(Kept::default(), limits(5));
        assert_eq!(heard(&mut reports).await, Report::Up);
        assert_eq!(child.address.send(Count).await, Ok((1, 1)));
        child.address.do_send(Crash);
        // Queued behind the crash; answered by the actor made anew, from what is kept.
        assert_eq!(child.address.send(Count).await, Ok((1, 2)));
        assert!(matches!(
            heard(&mut reports).await,
            Report::Down { exit: Exit::Panic, cause, .. } if cause == "on purpose"
        ));
        assert_eq!(heard(&mut reports).await, Report::Up);
        assert_eq!(
            child.keep.get().timers.load(SeqCst),
            2,
            "started() ran again"
        );
        child.stop().await;
    }

    #[actix::test]
    async fn a_panic_in_a_timer_is_a_panic_too() {
        let (child, mut reports) = start(Kept::default(), limits(5));
        assert_eq!(heard(&mut reports).await, Report::Up);
        child.address.send(CrashInTimer).await.expect("alive");
        assert!(matches!(heard(&mut reports).await, Report::Down { .. }));
        assert_eq!(heard(&mut reports).await, Report::Up);
        assert_eq!(child.address.send(Count).await, Ok((1, 1)));
        child.stop().await;
    }

    #[actix::test]
    async fn too_many_panics_are_given_up_and_it_can_still_be_stopped() {
        let (child, mut reports) = start(Kept::default(), limits(2));
        for _ in 0..2 {
            assert_eq!(heard(&mut reports).await, Report::Up);
            child.address.do_send(Crash);
            assert!(matches!(heard(&mut reports).await, Report::Down { .. }));
        }
        assert_eq!(heard(&mut reports).await, Report::Up);
        child.address.do_send(Crash);
        assert_eq!(
            heard(&mut reports).await,
            Report::GaveUp {
                cause: "on purpose".to_owned()
            }
        );
        child.stop().await;
    }

    #[actix::test]
    async fn a_reload_makes_it_anew_without_counting_a_restart() {
        let (child, mut reports) = start(Kept::default(), limits(0));
        assert_eq!(heard(&mut reports).await, Report::Up);
        assert_eq!(child.address.send(Count).await, Ok((1, 1)));
        child.renew(Kept {
            step: 10,
            ..child.keep.get()
        });
        assert_eq!(heard(&mut reports).await, Report::Up);
        assert_eq!(child.address.send(Count).await, Ok((1, 11)));
        child.stop().await;
    }

    #[actix::test]
    async fn a_panic_while_stopping_ends_only_itself() {
        let kept = Kept {
            panic_in_stopping: true,
            ..Kept::default()
        };
        let (child, mut reports) = start(kept, limits(5));
        assert_eq!(heard(&mut reports).await, Report::Up);
        child.stop().await;
        assert_eq!(heard(&mut reports).await, Report::Ended);
    }
}

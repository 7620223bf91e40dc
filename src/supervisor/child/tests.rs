use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use actix::{Handler, Message};

use super::*;
use crate::role::{Crash, PrepareError, Resources, role_actor};

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
    cannot_start: bool,
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

    fn keep(&self) -> &Keep<Kept> {
        &self.keep
    }

    fn start(&mut self, ctx: &mut Context<Self>) -> Result<(), Failure> {
        self.kept.timers.fetch_add(1, SeqCst);
        if self.kept.cannot_start {
            return Err(Failure::socket("binding", "no such address"));
        }
        ctx.run_later(Duration::ZERO, |counter, _| counter.timer_ran = true);
        Ok(())
    }

    fn change(&mut self, _: &mut Context<Self>) -> Result<(), Failure> {
        self.kept = self.keep.get();
        if self.kept.cannot_start {
            return Err(Failure::socket("binding", "no such address"));
        }
        Ok(())
    }
}

role_actor!(Counter);

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

fn start(kept: Kept, limits: RestartLimits) -> (Child<Counter>, Heard) {
    let (reports, heard) = async_mpsc::unbounded_channel();
    let (child, _) = Child::start(kept, limits, reports).expect("start");
    (child, heard)
}

fn limits(max_restarts: u32) -> RestartLimits {
    RestartLimits {
        backoff_first: Duration::from_millis(1),
        backoff_max: Duration::from_millis(1),
        ..RestartLimits::new(max_restarts, Duration::from_secs(3600))
    }
}

fn on_purpose() -> Failure {
    Failure::new(FailureKind::Panic, "fault injection")
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
        Report::Down { failure, .. } if failure == on_purpose()
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
            failure: on_purpose()
        }
    );
    child.stop().await;
}

#[actix::test]
async fn a_change_ends_the_pause_of_one_that_has_failed() {
    let hour = Duration::from_secs(3600);
    let patient = RestartLimits {
        backoff_first: hour,
        backoff_max: hour,
        ..limits(1)
    };
    let (child, mut reports) = start(Kept::default(), patient);
    assert_eq!(heard(&mut reports).await, Report::Up);
    child.address.do_send(Crash);
    assert!(matches!(heard(&mut reports).await, Report::Down { .. }));
    let changed = child.change(Kept {
        step: 10,
        ..child.keep.get()
    });
    assert_eq!(changed.await, Ok(Ok(Going::Anew)));
    assert_eq!(heard(&mut reports).await, Report::Up);
    assert_eq!(child.address.send(Count).await, Ok((1, 10)));
    child.stop().await;
}

#[actix::test]
async fn a_live_change_leaves_the_actor_s_own_state() {
    let (child, mut reports) = start(Kept::default(), limits(0));
    assert_eq!(heard(&mut reports).await, Report::Up);
    assert_eq!(child.address.send(Count).await, Ok((1, 1)));
    let changed = child.change(Kept {
        step: 10,
        ..child.keep.get()
    });
    assert_eq!(changed.await, Ok(Ok(Going::On)));
    assert_eq!(child.address.send(Count).await, Ok((2, 11)));
    child.stop().await;
    assert_eq!(heard(&mut reports).await, Report::Ended);
}

#[actix::test]
async fn a_failure_at_the_start_is_told_with_its_cause() {
    let kept = Kept {
        cannot_start: true,
        ..Kept::default()
    };
    let (child, mut reports) = start(kept, limits(1));
    let failure = Failure::socket("binding", "no such address");
    assert!(matches!(
        heard(&mut reports).await,
        Report::Down { failure: told, .. } if told == failure
    ));
    assert_eq!(heard(&mut reports).await, Report::GaveUp { failure });
    child.stop().await;
}

#[actix::test]
async fn a_change_that_fails_is_answered_with_the_cause() {
    let (child, mut reports) = start(Kept::default(), limits(5));
    assert_eq!(heard(&mut reports).await, Report::Up);
    let changed = child.change(Kept {
        cannot_start: true,
        ..child.keep.get()
    });
    let failure = Failure::socket("binding", "no such address");
    assert_eq!(changed.await, Ok(Err(failure)));
    child.stop().await;
}

#[actix::test]
async fn one_that_is_superseded_ends_and_says_nothing() {
    let (child, mut reports) = start(Kept::default(), limits(5));
    assert_eq!(heard(&mut reports).await, Report::Up);
    child.keep.supersede();
    child.address.do_send(Crash);
    let Child { address, keep, .. } = child;
    while address.connected() {
        sleep(Duration::from_millis(5)).await;
    }
    while keep
        .beats()
        .silent(Duration::ZERO, Instant::now())
        .is_some()
    {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(reports.try_recv().is_err());
}

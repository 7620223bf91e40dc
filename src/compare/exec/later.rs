//! The controller in real time: the connection goes on with the last window until an answer comes.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    NOTHING, Shared,
    message::{Answer, Message, Teller},
    process::Process,
    waiting::answer,
};
use crate::{
    congestion::{Ack, Congestion, Loss, Lost, Rate, Sent, Start},
    watch::event::transport::{Reaction, Told},
};

/// So many questions may wait for a program: one that gets further behind does not keep up.
const WAITING: usize = 16_384;
/// How often its thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// A connection's controller, whose program decides in a thread of its own.
#[derive(Debug)]
pub(super) struct Later {
    shared: Arc<Shared>,
    /// `None`: it has failed.
    questions: Option<SyncSender<Question>>,
    answered: Arc<Mutex<Vec<Answered>>>,
    teller: Teller,
    mtu: u64,
    /// The smoothed round trip, once there is one.
    round_trip: Option<Duration>,
    answer: Answer,
    /// Lines that are not answered wait for one that is.
    lines: Vec<u8>,
    reaction: Option<Reaction>,
}

#[derive(Debug)]
struct Question {
    lines: Vec<u8>,
    told: Told,
    mtu: u64,
    asked: Instant,
    /// Its answer is late after so long, if it can be.
    late: Option<Duration>,
}

#[derive(Debug)]
enum Answered {
    /// To what, and how long after that.
    With(Answer, Told, Duration),
    Failed,
}

impl Later {
    pub(super) fn new(shared: Arc<Shared>, process: Option<Process>, start: &Start) -> Self {
        let before = Answer::before_the_first(start);
        let answered = Arc::default();
        let questions = process.and_then(|process| {
            let (questions, asked) = mpsc::sync_channel(WAITING);
            let worker = Worker {
                shared: Arc::clone(&shared),
                process,
                answered: Arc::clone(&answered),
                answer: before,
            };
            let thread = thread::Builder::new().name("controller".to_owned());
            let thread = thread.spawn(move || worker.run(&asked)).ok()?;
            shared.lock().threads.push(thread);
            Some(questions)
        });
        let mut this = Self {
            shared,
            questions,
            answered,
            teller: Teller::new(start),
            mtu: start.mtu,
            round_trip: None,
            answer: before,
            lines: Vec::new(),
            reaction: None,
        };
        if this.questions.is_none() {
            this.give_up();
        }
        this.ask(&Teller::hello(start, false), start.now);
        this
    }

    /// Tells it something that is answered: some time.
    fn ask(&mut self, message: &Message, now: Instant) {
        let Some(questions) = &self.questions else {
            return;
        };
        message.write(&mut self.lines);
        let told = message.told();
        let question = Question {
            lines: std::mem::take(&mut self.lines),
            told,
            mtu: self.mtu,
            asked: now,
            // An interpreter takes its time to begin.
            late: self.round_trip.filter(|_| told != Told::Hello),
        };
        match questions.try_send(question) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.shared.fail_words(format!(
                    "it does not keep up: {WAITING} messages wait for its answers"
                ));
                self.give_up();
            }
            // Its thread has ended, and said why.
            Err(TrySendError::Disconnected(_)) => self.questions = None,
        }
    }

    fn tell(&mut self, message: &Message) {
        if self.questions.is_some() {
            message.write(&mut self.lines);
        }
    }

    /// Takes what was answered since.
    fn take(&mut self) {
        // Whole between any two calls.
        let all =
            std::mem::take(&mut *self.answered.lock().unwrap_or_else(PoisonError::into_inner));
        for answered in all {
            match answered {
                Answered::With(answer, told, after) => {
                    if answer.window < self.answer.window || told == Told::Spurious {
                        self.reaction = Some(Reaction::Program {
                            later: Some((told, after)),
                        });
                    }
                    self.answer = answer;
                }
                Answered::Failed => self.give_up(),
            }
        }
    }

    /// Sends nothing more.
    fn give_up(&mut self) {
        self.questions = None;
        self.answer.window = NOTHING;
        self.answer.phase = "failed";
        self.reaction = Some(Reaction::ProgramFailed);
    }
}

/// Asks the program one question after another.
struct Worker {
    shared: Arc<Shared>,
    process: Process,
    answered: Arc<Mutex<Vec<Answered>>>,
    answer: Answer,
}

impl Worker {
    fn run(mut self, asked: &Receiver<Question>) {
        while !self.shared.is_stopped() {
            let question = match asked.recv_timeout(LOOK) {
                Ok(question) => question,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let came = answer(
                &mut self.process,
                &question.lines,
                question.told,
                question.mtu,
                (&self.answer, &self.shared),
            );
            let answered = match came {
                Ok(Some(answer)) => {
                    let after = question.asked.elapsed();
                    self.shared
                        .answered(question.late.is_some_and(|late| after > late));
                    self.answer = answer;
                    Answered::With(answer, question.told, after)
                }
                Ok(None) => return,
                Err(failure) => {
                    self.shared.fail(failure);
                    Answered::Failed
                }
            };
            let over = matches!(answered, Answered::Failed);
            let mut all = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(answered);
            if over {
                return;
            }
        }
    }
}

impl Congestion for Later {
    fn on_sent(&mut self, sent: &Sent) {
        if self.answer.wants_sent {
            self.tell(&self.teller.sent(sent));
        }
        if sent.in_flight == 0 && sent.app_limited {
            self.ask(&self.teller.idle(sent), sent.now);
        }
    }

    fn on_ack(&mut self, ack: &Ack) {
        self.round_trip = Some(ack.smoothed_rtt);
        self.ask(&self.teller.ack(ack), ack.now);
        // Nowhere else: a change that is seen then is not taken for an answer to a loss that the program
        // has not heard of.
        self.take();
    }

    fn on_packet_lost(&mut self, lost: &Lost) {
        if self.answer.wants_lost {
            self.tell(&self.teller.lost(lost));
        }
    }

    fn on_congestion(&mut self, loss: &Loss) {
        self.ask(&self.teller.congestion(loss), loss.now);
    }

    fn on_spurious_loss(&mut self, now: Instant) {
        self.ask(&self.teller.spurious(now), now);
    }

    fn on_mtu(&mut self, mtu: u64) {
        self.mtu = mtu;
        self.ask(&Message::Mtu { mtu }, Instant::now());
    }

    fn window(&self) -> u64 {
        self.answer.window
    }

    fn ssthresh(&self) -> Option<u64> {
        self.answer.ssthresh
    }

    fn pacing_rate(&self) -> Option<Rate> {
        self.answer.pacing_rate
    }

    fn in_slow_start(&self) -> bool {
        self.answer.slow_start
    }

    fn take_reaction(&mut self) -> Option<Reaction> {
        self.reaction.take()
    }

    fn phase(&self) -> &'static str {
        self.answer.phase
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compare::exec::{Exec, Program, Time},
        congestion::{Controllers, Delivery},
    };

    #[test]
    fn who_gets_too_far_behind_has_failed() {
        let script = "read -r line; echo '{\\\"window\\\": 30000}'; sleep 1000";
        let exec = Exec::parse(&format!("sh -c \"{script}\"")).expect("a command");
        let program = Program::new(&exec, Time::Real, Arc::default());
        let now = Instant::now();
        let mut controller = program.start(&Start {
            now,
            mtu: 1200,
            rtt: None,
            initial_window: None,
            seed: 1,
        });
        let rtt = Duration::from_millis(50);
        let ack = Ack {
            now,
            bytes: 1200,
            largest: 1,
            largest_sent_at: now,
            next_packet: 2,
            prior_in_flight: 1200,
            in_flight: 0,
            lost: 0,
            app_limited: false,
            rtt: Some(rtt),
            smoothed_rtt: rtt,
            min_rtt: rtt,
            delivery: Delivery::default(),
        };
        for _ in 0..WAITING + 2 {
            controller.on_ack(&ack);
        }
        let failure = program.failure().expect("it is too slow");
        assert!(failure.contains("does not keep up"), "{failure}");
        assert_eq!(controller.window(), NOTHING);
        assert!(program.has_failed());
        program.end();
    }
}

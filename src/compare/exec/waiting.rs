//! The controller in virtual time: it waits for each answer.

use std::{sync::Arc, time::Instant};

use super::{
    Failure, NOTHING, PATIENCE, Shared,
    message::{Answer, Message, Teller, quoted},
    process::Process,
};
use crate::{
    congestion::{Ack, Congestion, Loss, Lost, Rate, Sent, Start},
    watch::event::transport::{Reaction, Told},
};

/// A connection's controller, and the program that decides for it.
#[derive(Debug)]
pub(super) struct Waiting {
    shared: Arc<Shared>,
    /// `None`: it has failed.
    process: Option<Process>,
    teller: Teller,
    mtu: u64,
    answer: Answer,
    /// Lines that are not answered wait for one that is.
    lines: Vec<u8>,
    reaction: Option<Reaction>,
}

impl Waiting {
    pub(super) fn new(shared: Arc<Shared>, process: Option<Process>, start: &Start) -> Self {
        let mut this = Self {
            shared,
            teller: Teller::new(start),
            mtu: start.mtu,
            answer: Answer::before_the_first(start),
            lines: Vec::new(),
            reaction: None,
            process,
        };
        if this.process.is_none() {
            this.give_up();
        }
        this.ask(&Teller::hello(start, true));
        this
    }

    /// Tells it something that is answered, and takes the answer.
    fn ask(&mut self, message: &Message) {
        let Some(process) = &mut self.process else {
            return;
        };
        message.write(&mut self.lines);
        let (told, mtu) = (message.told(), self.mtu);
        let answered = answer(
            process,
            &self.lines,
            told,
            mtu,
            (&self.answer, &self.shared),
        );
        self.lines.clear();
        match answered {
            Ok(Some(answer)) => {
                self.shared.answered(false);
                // What it told of is the cause: no time passed since.
                if answer.window < self.answer.window || told == Told::Spurious {
                    self.reaction = Some(Reaction::Program { later: None });
                }
                self.answer = answer;
            }
            // Somebody has stopped it all: so it stays.
            Ok(None) => self.process = None,
            Err(failure) => {
                self.shared.fail(failure);
                self.give_up();
            }
        }
    }

    /// Sends nothing more.
    fn give_up(&mut self) {
        self.process = None;
        self.answer.window = NOTHING;
        self.answer.phase = "failed";
        self.reaction = Some(Reaction::ProgramFailed);
    }

    /// Tells it something that is not answered.
    fn tell(&mut self, message: &Message) {
        if self.process.is_some() {
            message.write(&mut self.lines);
        }
    }
}

/// Asks a program and reads its answer; `None`: nobody wants it any more.
pub(super) fn answer(
    process: &mut Process,
    lines: &[u8],
    told: Told,
    mtu: u64,
    (before, shared): (&Answer, &Shared),
) -> Result<Option<Answer>, Failure> {
    let line = process.ask(lines, PATIENCE, || shared.is_stopped())?;
    let Some(line) = line else {
        return Ok(None);
    };
    let read = Answer::read(&line, told, mtu, before);
    read.map(Some).map_err(|problem| {
        let told = told.name();
        process.failure(format!(
            "it answered {} to `{told}`: {problem}",
            quoted(&line)
        ))
    })
}

impl Congestion for Waiting {
    fn on_sent(&mut self, sent: &Sent) {
        if self.answer.wants_sent {
            self.tell(&self.teller.sent(sent));
        }
        if sent.in_flight == 0 && sent.app_limited {
            self.ask(&self.teller.idle(sent));
        }
    }

    fn on_ack(&mut self, ack: &Ack) {
        self.ask(&self.teller.ack(ack));
    }

    fn on_packet_lost(&mut self, lost: &Lost) {
        if self.answer.wants_lost {
            self.tell(&self.teller.lost(lost));
        }
    }

    fn on_congestion(&mut self, loss: &Loss) {
        self.ask(&self.teller.congestion(loss));
    }

    fn on_spurious_loss(&mut self, now: Instant) {
        self.ask(&self.teller.spurious(now));
    }

    fn on_mtu(&mut self, mtu: u64) {
        self.mtu = mtu;
        self.ask(&Message::Mtu { mtu });
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

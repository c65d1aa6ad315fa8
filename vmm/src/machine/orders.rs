//! What clients of the control socket ask for, and what they are answered.
//!
//! Duty: from a request to the step of a life that it is, or to its answer. Not its duty: what a step leads to
//! (`life.rs`), frames (`crate::control`).

use std::time::Instant;

use hearth_wire::control::{self, Answer, Order, Phase, Refusal};

use super::conductor::Conductor;
use super::life::Event;
use super::snapshots;
use super::{statistics, template};
use crate::control::Ticket;
use crate::logger::chain;

/// Bytes of an explanation to a client; longer ones are in the log.
const MAX_TEXT: usize = 512;

impl Conductor<'_> {
    /// What becomes of a request.
    pub(super) fn order(&mut self, ticket: Ticket, order: Order) {
        let unsupported = Answer::Refused { code: Refusal::Unsupported, text: "the machine has none" };
        match order {
            Order::Status => {
                let status = self.status();
                self.answer(ticket, Answer::Status(status));
            }
            Order::Pause => self.step(Event::Pause(ticket)),
            Order::Resume => self.step(Event::Resume(ticket)),
            Order::Stop { now: false } => self.step(Event::Stop(ticket)),
            Order::Stop { now: true } => self.step(Event::StopNow(ticket)),
            Order::Statistics => {
                if let Some(mut control) = self.control() {
                    let machine = statistics::Whole {
                        status: self.status(),
                        memory_in_use: self.snapshots.memory_in_use(&self.memory).ok(),
                        identified_ns: self.identified_ns,
                        last_pause: self.rested.last,
                    };
                    statistics::tell(&mut control, ticket, &machine, &self.crew, &self.inspected);
                }
            }
            Order::SetLogLevel(level) => {
                log::set_max_level(statistics::filter_of(level));
                self.answer(ticket, Answer::Done);
            }
            Order::Subscribe => {
                let present = match (self.life.phase(), self.life.stopping()) {
                    (_, Some(step)) => control::Event::Stopping { step },
                    (Phase::Paused, _) => control::Event::Paused,
                    // Also on the way to a pause: that is told when it has come about.
                    _ => control::Event::Started,
                };
                if let Some(mut control) = self.control() {
                    control.subscribe(ticket, present);
                }
            }
            Order::PowerButton => {
                let answer = if self.press_button() { Answer::Done } else { unsupported };
                self.answer(ticket, answer);
            }
            Order::Snapshot { name, kind } => {
                match self.snapshots.wish(ticket, snapshots::Order { name, kind }) {
                    Ok(()) => self.step(Event::Snapshot(ticket)),
                    Err((code, text)) => self.answer(ticket, Answer::Refused { code, text }),
                }
            }
            Order::BalloonTarget { mib } => match self.pump.as_ref().map(|pump| pump.set_target(mib)) {
                Some(Ok(())) => self.answer(ticket, Answer::Done),
                Some(Err(error)) => {
                    self.answer(
                        ticket,
                        Answer::Refused { code: Refusal::BadValue, text: &error.to_string() },
                    );
                }
                None => self.answer(ticket, unsupported),
            },
            Order::BalloonStatistics => {
                // A machine that rests has nobody who could answer, and its rings are left alone.
                let awake = self.duty.is_whole();
                match self.pump.as_mut().map(|pump| awake && pump.ask(ticket, Instant::now())) {
                    // The answer follows, with the guest's.
                    Some(true) => {}
                    Some(false) => self.tell_balloon(&[ticket]),
                    None => self.answer(ticket, unsupported),
                }
            }
        }
    }

    /// Answers whoever asked for a snapshot.
    pub(super) fn tell_snapshot(&mut self, (ticket, result): snapshots::Finished) {
        if let Some(template) = self.template.as_mut().filter(|_| ticket == template::TICKET) {
            template.written(result.map_err(|error| chain(&error)));
            return;
        }
        match result {
            Ok(folder) => {
                log::info!("snapshot: {}", folder.display());
                self.answer(ticket, Answer::Done);
            }
            Err(error) => {
                let (code, text) = (snapshots::refusal(&error), chain(&error));
                log::warn!("snapshot: {text}");
                self.answer(ticket, Answer::Refused { code, text: text.get(..MAX_TEXT).unwrap_or(&text) });
            }
        }
    }

    /// Answers with what is known of the balloon.
    pub(super) fn tell_balloon(&self, tickets: &[Ticket]) {
        if let (Some(pump), Some(mut control)) = (&self.pump, self.control()) {
            for ticket in tickets {
                statistics::tell_balloon(&mut control, *ticket, pump);
            }
        }
    }

    fn status(&self) -> control::Status {
        control::Status {
            protocol: control::CONTROL_PROTOCOL,
            phase: self.life.phase(),
            vcpus: self.make.vcpus,
            memory_mib: self.make.memory_mib,
            uptime_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            reboots: self.surroundings.reboots,
            log_level: statistics::log_level(),
        }
    }
}

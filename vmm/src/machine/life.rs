//! What may happen to a running machine, and in which order.
//!
//! Duty: pause, resume, stop and end, and an answer to everyone who asked for one. Not its duty: carrying any
//! of it out, or reading a clock; the time is an argument.
//!
//! ```text
//!             Pause                     AtRest
//!   Running ─────────▶ Pausing ────────────────────▶ Paused
//!     ▲  │                │ Resume, too late           │ Resume
//!     │  │    ◀───────────┘                            │
//!     │  │ Stop, Signal   │ Stop, Signal               │ Stop, Signal
//!     │  ▼                ▼                            ▼
//!     │  Stopping(Agent) ─▶ Stopping(Button) ─▶ Stopping(Kill)
//!     │              no way, or too late      ▲
//!     └── Resume                              └── StopNow, a second Signal, from anywhere
//!
//!   any ── Ended ──▶ Ended      (no way back)
//! ```
//!
//! A snapshot of a machine that runs is a visit: on the way to a pause and, once everything rests, written down and on
//! its way back, unless somebody asked for the pause itself meanwhile.
//!
//! Invariants, which a property test holds up against all orders of events: every ticket gets exactly one
//! answer; a stop comes to its kill when the deadlines have passed, whatever else happens; and nothing but an
//! end follows a kill. A machine that is asked to stop while it is paused goes on first: a guest can only
//! say goodbye if it runs.

use std::time::{Duration, Instant};

use hearth_wire::control::{Phase, Refusal, Step};

use crate::Outcome;
use crate::control::Ticket;

/// From a pause's request until every vCPU waits and every device is done with what it began. Past it the
/// host's disks or memory are stuck, and a machine that goes on beats one that hangs in between.
const PAUSE_LIMIT: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Pause(Ticket),
    Resume(Ticket),
    /// Write the machine down.
    Snapshot(Ticket),
    /// Gracefully, as fast as the guest likes within the limits.
    Stop(Ticket),
    StopNow(Ticket),
    /// SIGTERM or one of its like: the first is a stop, the second one at once.
    Signal,
    /// No vCPU runs and no device works.
    AtRest,
    /// This step of a stop cannot work here. It may be found out when the stop has come further.
    NoWay(Step),
    /// A deadline may have passed.
    Tick,
    /// The machine has come to its end.
    Ended(Outcome),
}

/// What is to be done now, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Bring vCPUs and devices to rest; `AtRest` is to follow.
    Rest,
    /// Write the machine down, and answer when that is done. Everything rests.
    Save(Ticket),
    /// Let them go on, from wherever they are.
    Work,
    /// Ask the guest's agent to stop; the workload gets so long. `NoWay` where it cannot be asked.
    AskAgent {
        grace: Duration,
    },
    /// Press the power button. `NoWay` where there is none.
    PressButton,
    /// End the machine, with [`Outcome::HostStop`].
    Kill,
    Answer(Ticket, Verdict),
    /// Tell whoever listens.
    Tell(News),
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    Refused(Refusal),
    Ended(End),
}

/// Something that subscribers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Paused,
    Resumed,
    Stopping(Step),
}

/// How the machine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) outcome: Outcome,
    /// By which means, if the host wanted it.
    pub(super) how: Option<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Pausing { until: Instant },
    Paused,
    Stopping { step: Step, until: Option<Instant> },
    Ended(End),
}

/// How long the guest is asked, by each means; zero leaves it out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) agent: Duration,
    pub(super) button: Duration,
}

/// The life of one machine, from its first instruction.
#[derive(Debug)]
pub(super) struct Life {
    state: State,
    patience: Patience,
    /// Who waits for the pause or the stop that is going on.
    waiting: Vec<Ticket>,
    /// Who waits for everything to rest, for a snapshot's sake.
    visit: Option<Ticket>,
}

/// Answers and deeds, in order.
type Actions = Vec<Action>;

impl Life {
    pub(super) const fn new(patience: Patience) -> Self {
        Self { state: State::Running, patience, waiting: Vec::new(), visit: None }
    }

    pub(super) const fn phase(&self) -> Phase {
        match self.state {
            State::Running => Phase::Running,
            State::Pausing { .. } => Phase::Pausing,
            State::Paused => Phase::Paused,
            State::Stopping { .. } => Phase::Stopping,
            State::Ended(_) => Phase::Ended,
        }
    }

    /// How far a stop has come, if one goes on.
    pub(super) const fn stopping(&self) -> Option<Step> {
        match self.state {
            State::Stopping { step, .. } => Some(step),
            _ => None,
        }
    }

    /// When a `Tick` is due.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Pausing { until } => Some(until),
            State::Stopping { until, .. } => until,
            State::Running | State::Paused | State::Ended(_) => None,
        }
    }

    /// How it ended, if it did.
    pub(super) const fn end(&self) -> Option<End> {
        match self.state {
            State::Ended(end) => Some(end),
            _ => None,
        }
    }

    #[must_use = "an action that is not carried out leaves the machine hanging"]
    pub(super) fn step(&mut self, now: Instant, event: Event) -> Actions {
        let mut actions = Actions::new();
        let out = &mut actions;
        match (self.state, event) {
            (State::Ended(_), Event::Pause(ticket) | Event::Resume(ticket) | Event::Snapshot(ticket)) => {
                refuse(out, ticket, Refusal::Ended);
            }
            (State::Ended(end), Event::Stop(ticket) | Event::StopNow(ticket)) => {
                out.push(Action::Answer(ticket, Verdict::Ended(end)));
            }
            (State::Ended(_), _) => {}
            (_, Event::Ended(outcome)) => self.end_with(out, outcome),

            (State::Running, Event::Pause(ticket)) => {
                self.waiting.push(ticket);
                self.state = State::Pausing { until: later(now, PAUSE_LIMIT) };
                out.push(Action::Rest);
            }
            (State::Pausing { .. }, Event::Pause(ticket)) => self.waiting.push(ticket),
            (State::Running, Event::Snapshot(ticket)) => {
                self.visit = Some(ticket);
                self.state = State::Pausing { until: later(now, PAUSE_LIMIT) };
                out.push(Action::Rest);
            }
            (State::Pausing { .. }, Event::Snapshot(ticket)) if self.visit.is_some() => {
                refuse(out, ticket, Refusal::Busy);
            }
            (State::Pausing { .. }, Event::Snapshot(ticket)) => self.visit = Some(ticket),
            (State::Paused, Event::Snapshot(ticket)) => out.push(Action::Save(ticket)),
            (State::Pausing { .. }, Event::AtRest) => {
                let visit = self.visit.take();
                out.extend(visit.map(Action::Save));
                if visit.is_some() && self.waiting.is_empty() {
                    self.state = State::Running;
                    out.push(Action::Work);
                    return actions;
                }
                self.state = State::Paused;
                self.answer_all(out, Verdict::Done);
                out.push(Action::Tell(News::Paused));
            }
            (State::Pausing { until }, Event::Tick) if now >= until => {
                self.go_on(out, Refusal::TooLate);
            }
            (State::Pausing { .. }, Event::Resume(ticket)) if self.visit.is_some() => {
                self.answer_all(out, Verdict::Refused(Refusal::Overtaken));
                out.push(Action::Answer(ticket, Verdict::Done));
            }
            (State::Pausing { .. }, Event::Resume(ticket)) => {
                self.go_on(out, Refusal::Overtaken);
                out.push(Action::Answer(ticket, Verdict::Done));
            }
            (State::Paused, Event::Pause(ticket)) | (State::Running, Event::Resume(ticket)) => {
                out.push(Action::Answer(ticket, Verdict::Done));
            }
            (State::Paused, Event::Resume(ticket)) => {
                self.go_on(out, Refusal::Overtaken);
                out.push(Action::Answer(ticket, Verdict::Done));
                out.push(Action::Tell(News::Resumed));
            }

            (
                State::Stopping { .. },
                Event::Pause(ticket) | Event::Resume(ticket) | Event::Snapshot(ticket),
            ) => {
                refuse(out, ticket, Refusal::Stopping);
            }
            (State::Stopping { .. }, Event::Stop(ticket)) => self.waiting.push(ticket),
            (State::Stopping { step: Step::Kill, .. }, Event::StopNow(ticket)) => self.waiting.push(ticket),
            (State::Stopping { step: Step::Kill, .. }, Event::Signal) => {}
            (State::Stopping { .. }, Event::StopNow(ticket)) => {
                self.waiting.push(ticket);
                self.enter(now, out, Step::Kill);
            }
            (State::Stopping { .. }, Event::Signal) => self.enter(now, out, Step::Kill),
            (State::Stopping { step, .. }, Event::NoWay(which)) if step == which => {
                self.enter_after(now, out, step);
            }
            (State::Stopping { step, until: Some(until) }, Event::Tick) if now >= until => {
                self.enter_after(now, out, step);
            }

            (_, Event::Stop(ticket)) => self.begin_stop(now, out, Some(ticket), Step::Agent),
            (_, Event::StopNow(ticket)) => self.begin_stop(now, out, Some(ticket), Step::Kill),
            (_, Event::Signal) => self.begin_stop(now, out, None, Step::Agent),
            (_, Event::Tick | Event::AtRest | Event::NoWay(_)) => {}
        }
        actions
    }

    /// Out of a pause, or out of the way to one: whoever waited for it is refused.
    fn go_on(&mut self, out: &mut Actions, refusal: Refusal) {
        self.state = State::Running;
        out.push(Action::Work);
        self.waiting.extend(self.visit.take());
        self.answer_all(out, Verdict::Refused(refusal));
    }

    fn begin_stop(&mut self, now: Instant, out: &mut Actions, ticket: Option<Ticket>, first: Step) {
        if self.state != State::Running {
            self.go_on(out, Refusal::Stopping);
        }
        self.waiting.extend(ticket);
        self.enter(now, out, first);
    }

    fn enter_after(&mut self, now: Instant, out: &mut Actions, step: Step) {
        match step {
            Step::Agent => self.enter(now, out, Step::Button),
            Step::Button => self.enter(now, out, Step::Kill),
            Step::Kill => {}
        }
    }

    /// Takes a step, or the next one where the configuration leaves it out.
    fn enter(&mut self, now: Instant, out: &mut Actions, step: Step) {
        let (limit, action) = match step {
            Step::Agent => (self.patience.agent, Action::AskAgent { grace: grace(self.patience.agent) }),
            Step::Button => (self.patience.button, Action::PressButton),
            Step::Kill => (Duration::ZERO, Action::Kill),
        };
        if step != Step::Kill && limit.is_zero() {
            return self.enter_after(now, out, step);
        }
        let until = (step != Step::Kill).then(|| later(now, limit));
        self.state = State::Stopping { step, until };
        out.push(Action::Tell(News::Stopping(step)));
        out.push(action);
    }

    fn end_with(&mut self, out: &mut Actions, outcome: Outcome) {
        let how = self.stopping();
        // A guest that goes in peace because it was asked to was stopped by the host.
        let outcome = match (how, outcome) {
            (Some(_), Outcome::PowerOff | Outcome::Reboot | Outcome::Halt) => Outcome::HostStop,
            (_, other) => other,
        };
        let end = End { outcome, how };
        let verdict = match (how, outcome) {
            (Some(_), _) => Verdict::Ended(end),
            // Whether the machine is started again is decided elsewhere.
            (None, Outcome::Reboot) => Verdict::Refused(Refusal::Overtaken),
            (None, _) => Verdict::Refused(Refusal::Ended),
        };
        if let Some(visit) = self.visit.take() {
            let refusal = if outcome == Outcome::Reboot { Refusal::Overtaken } else { Refusal::Ended };
            refuse(out, visit, refusal);
        }
        self.answer_all(out, verdict);
        self.state = State::Ended(end);
    }

    fn answer_all(&mut self, out: &mut Actions, verdict: Verdict) {
        out.extend(self.waiting.drain(..).map(|ticket| Action::Answer(ticket, verdict)));
    }
}

fn refuse(out: &mut Actions, ticket: Ticket, refusal: Refusal) {
    out.push(Action::Answer(ticket, Verdict::Refused(refusal)));
}

/// What the workload gets of the agent's time; the rest is for the guest to power off.
fn grace(agent: Duration) -> Duration {
    agent * 2 / 3
}

fn later(now: Instant, span: Duration) -> Instant {
    now.checked_add(span).unwrap_or(now)
}

#[cfg(test)]
mod tests;

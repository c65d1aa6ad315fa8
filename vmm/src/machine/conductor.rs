//! The event loop of one machine, from its first instruction to its end.
//!
//! Duty: turn what happens (signals, requests, vCPUs that came to rest, deadlines) into events of [`Life`], and
//! carry out what it decides. Not its duty: deciding.
//!
//! While the machine is paused, its devices are not in the loop ([`Duty`]). Signals, the control socket and the watch
//! for the end stay.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_manager::SubscriberOps;
use hearth_wire::ToAgent;
use hearth_wire::control::{self, Answer, Phase, Refusal, Step};

use super::agent_call::AgentCall;
use super::alarm::Alarm;
use super::bell::{Bell, BellOf};
use super::board::Inspect;
use super::clock::MachineClock;
use super::crew::Crew;
use super::duty::Duty;
use super::ending::Ending;
use super::halt::{HaltWatch, Verdict as HaltVerdict};
use super::introduction::{Introduction, Progress};
use super::life::{Action, End, Event, Life, News, Verdict};
use super::pump::Pump;
use super::signals::StopSignals;
use super::snapshots::Snapshots;
use super::suspicion::Suspicion;
use super::tally::{self, Tally};
use super::template::{self, Next, Template};
use super::{EventsError, Loop};
use crate::Outcome;
use crate::control::{Server, Ticket};
use crate::devices::power_button::PowerButton;
use crate::jail::outside;
use crate::memory::GuestRam;

/// What outlives a reboot.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) signals: Arc<Mutex<StopSignals>>,
    pub(super) control: Option<Arc<Mutex<Server>>>,
    pub(super) reboots: u32,
    /// Walls of the jail that this host lacks; nothing where there is no jail.
    pub(super) lacks: Option<String>,
}

impl Surroundings {
    /// Tells subscribers, between two lives of the machine.
    pub(super) fn tell(&self, events: &[control::Event<'_>]) {
        if let Some(mut control) = self.control.as_deref().map(lock) {
            for event in events {
                control.tell(*event);
            }
            control.flush();
        }
    }
}

/// What the machine is made of, as far as answers tell it.
#[derive(Debug)]
pub(super) struct Make {
    pub(super) vcpus: u8,
    pub(super) memory_mib: u32,
    /// The host's end of the vsock device.
    pub(super) vsock: Option<PathBuf>,
}

/// The machine's rests.
#[derive(Debug, Default)]
pub(super) struct Rested {
    since: Option<Instant>,
    pub(super) last: Option<Duration>,
}

/// One machine that runs.
pub(super) struct Conductor<'a> {
    pub(super) surroundings: &'a Surroundings,
    pub(super) make: Make,
    pub(super) life: Life,
    pub(super) crew: Crew,
    pub(super) events: Loop,
    pub(super) duty: Duty,
    pub(super) inspected: Vec<Arc<dyn Inspect>>,
    pub(super) ending: Arc<Ending>,
    pub(super) alarm: Arc<Alarm>,
    pub(super) clock: Arc<MachineClock>,
    pub(super) halt: HaltWatch,
    pub(super) suspicion: Suspicion,
    pub(super) power_button: PowerButton,
    pub(super) pump: Option<Pump>,
    pub(super) snapshots: Snapshots,
    pub(super) memory: GuestRam,
    pub(super) agent: Option<Arc<Mutex<AgentCall>>>,
    /// When the machine was brought to rest, and for how long it was when it last went on.
    pub(super) rested: Rested,
    /// Until the guest knows who it is.
    pub(super) introduction: Option<Introduction>,
    /// When it did, in nanoseconds of the host's monotonic clock.
    pub(super) identified_ns: Option<u64>,
    /// What the machine is to become, if it is to become one.
    pub(super) template: Option<&'a mut Template>,
    pub(super) began: Instant,
}

impl Conductor<'_> {
    /// Until the machine has ended. Whoever asked for the end has its answer then, before anything is torn down.
    pub(super) fn run(&mut self) -> Result<End, EventsError> {
        self.events.add_subscriber(Box::new(Bell(BellOf::Gate(self.crew.gate().clone()))));
        self.events.add_subscriber(Box::new(Bell(BellOf::Alarm(self.alarm.clone()))));
        if let Some(pump) = &self.pump {
            self.events.add_subscriber(Box::new(Bell(BellOf::Pump(pump.doings().clone()))));
        }
        self.events.add_subscriber(Box::new(Bell(BellOf::Snapshots(self.snapshots.done().clone()))));
        self.events.add_subscriber(Box::new(self.surroundings.signals.clone()));
        if let Some(control) = &self.surroundings.control {
            self.events.add_subscriber(Box::new(control.clone()));
        }
        self.tell(control::Event::Started);
        if let Some(lacks) = &self.surroundings.lacks {
            self.tell(control::Event::Jailed { lacks });
        }
        self.introduce();
        loop {
            if let Some(outcome) = self.ending.outcome() {
                self.step(Event::Ended(outcome));
            }
            if let Some(end) = self.life.end() {
                let waiting = self.pump.as_mut().map(Pump::give_up);
                self.tell_balloon(&waiting.unwrap_or_default());
                if let Some(finished) = self.snapshots.wait() {
                    self.tell_snapshot(finished);
                }
                if let Some(mut control) = self.control() {
                    control.flush();
                }
                return Ok(end);
            }
            self.events.run_with_timeout(self.patience_ms()).map_err(EventsError)?;
            self.attend();
        }
    }

    /// Milliseconds to the next deadline, as epoll takes them; rounded up, or it would wake just before.
    fn patience_ms(&self) -> i32 {
        let now = Instant::now();
        let deadlines = [
            self.life.deadline(),
            self.may_run().then(|| self.halt.due()),
            self.pump.as_ref().and_then(|pump| pump.deadline(now)),
            self.alarm.due(now),
            self.suspicion.due(),
            self.template.as_ref().and_then(|template| template.due()),
            self.introduction.as_ref().and_then(Introduction::due),
        ];
        match deadlines.into_iter().flatten().min() {
            None => -1,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(now);
                i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
            }
        }
    }

    /// Whether vCPUs are let into the guest.
    fn may_run(&self) -> bool {
        !matches!(self.life.phase(), Phase::Pausing | Phase::Paused)
    }

    /// Whether the guest halted for good; see [`halt`](super::halt).
    fn look_for_halt(&mut self) {
        let now = Instant::now();
        if !self.may_run() {
            self.halt.excuse(now);
        } else if self.halt.due() <= now {
            let times = self.crew.tallies().map(Tally::cpu_time).collect();
            match self.halt.look(now, times, self.crew.all_sleep_for_good()) {
                HaltVerdict::Lives => {}
                HaltVerdict::Ask => self.crew.ask_who_sleeps(),
                HaltVerdict::Halted => self.ending.end(Outcome::Halt),
            }
        }
    }

    /// Looks at everything that may have happened.
    fn attend(&mut self) {
        let signals = lock(&self.surroundings.signals).take();
        for _ in 0..signals {
            self.step(Event::Signal);
        }
        while let Some((ticket, order)) = self.control().and_then(|mut control| control.take()) {
            self.order(ticket, order);
        }
        for device in self.alarm.take(Instant::now()) {
            self.tell(control::Event::DeviceNeedsReset { device: &device });
        }
        if let Some(told) = self.pump.as_mut().map(|pump| pump.attend(Instant::now())) {
            self.tell_balloon(&told.answered);
            if let Some(mib) = told.size_mib {
                self.tell(control::Event::BalloonChanged { mib });
            }
        }
        if let Some(finished) = self.snapshots.finished() {
            self.tell_snapshot(finished);
        }
        if self.life.phase() == Phase::Pausing && self.is_quiet() {
            self.duty.rest(&mut self.events);
            self.inspected.iter().for_each(|device| device.quiesce());
            self.step(Event::AtRest);
        }
        self.introduce();
        self.become_template();
        if self.agent.as_ref().is_some_and(|agent| lock(agent).is_refused()) {
            self.agent = None;
            self.step(Event::NoWay(Step::Agent));
        }
        if self.life.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
            self.step(Event::Tick);
        }
        self.look_for_halt();
        let computed = || self.crew.tallies().next().and_then(Tally::cpu_time);
        if self.suspicion.look(Instant::now(), computed)
            && let Some(mips) = outside::emulating_mips()
        {
            log::warn!(
                "this KVM interprets: a guest kernel runs at about {mips} million instructions/s, and Linux guests \
                 do not come up; see hearth-vmm doctor"
            );
        }
        if let Some(mut control) = self.control() {
            control.flush();
        }
    }

    /// Brings a guest from a snapshot who it is now.
    fn introduce(&mut self) {
        let Some(introduction) = self.introduction.as_mut().filter(|_| self.life.phase() == Phase::Running)
        else {
            return;
        };
        match introduction.attend(Instant::now(), &mut self.events) {
            Progress::Waiting => return,
            Progress::Identified => {
                self.identified_ns = Some(tally::monotonic_ns());
                self.tell(control::Event::Identified);
                return self.introduce();
            }
            Progress::Over => {}
            Progress::GivenUp(why) => {
                log::warn!("the guest is not told that it goes on as another machine: {why}");
            }
        }
        self.introduction = None;
    }

    /// Takes the next step to a template.
    fn become_template(&mut self) {
        let Some(template) = &mut self.template else { return };
        match template.attend(Instant::now()) {
            Next::Wait => {}
            Next::Pause => self.step(Event::Pause(template::TICKET)),
            Next::Save => {
                self.snapshots.wish_template(template::TICKET, &template.place);
                self.step(Event::Snapshot(template::TICKET));
            }
            Next::End => self.step(Event::StopNow(template::TICKET)),
        }
    }

    /// Whether no vCPU is in the guest and no device waits for the host to finish something. What the rings
    /// still hold waits like the guest that put it there.
    fn is_quiet(&self) -> bool {
        self.crew.gate().all_held() && self.inspected.iter().all(|device| device.under_way() == 0)
    }

    pub(super) fn step(&mut self, event: Event) {
        if let Event::NoWay(step) = event {
            log::info!("stopping: there is no way of {} here", described(step));
        }
        for action in self.life.step(Instant::now(), event) {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Rest => {
                self.rested.since = Some(Instant::now());
                self.crew.hold();
                self.duty.leave_rings(&mut self.events);
                self.clock.stop(Instant::now());
            }
            Action::Work => {
                // First: what comes back to the loop may look at it.
                self.clock.start(Instant::now());
                self.duty.work(&mut self.events);
                self.crew.release();
                self.rested.last = self.rested.since.take().map(|since| since.elapsed());
            }
            Action::Save(ticket) => {
                let ran = self.clock.at(Instant::now());
                if let Err(error) = self.snapshots.take(ticket, &self.crew, ran, &self.memory) {
                    self.tell_snapshot((ticket, Err(error)));
                }
            }
            Action::AskAgent { grace } => {
                let call = self.make.vsock.as_deref().map(|socket| {
                    let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
                    AgentCall::tell(socket, &ToAgent::Shutdown { grace_ms })
                });
                match call {
                    Some(Ok(call)) => {
                        let call = Arc::new(Mutex::new(call));
                        self.events.add_subscriber(Box::new(call.clone()));
                        self.agent = Some(call);
                    }
                    Some(Err(error)) => {
                        log::debug!("the guest's agent cannot be reached: {error}");
                        self.step(Event::NoWay(Step::Agent));
                    }
                    None => self.step(Event::NoWay(Step::Agent)),
                }
            }
            Action::PressButton => {
                if !self.press_button() {
                    self.step(Event::NoWay(Step::Button));
                }
            }
            Action::Kill => self.ending.end(Outcome::HostStop),
            Action::Answer(template::TICKET, verdict) => {
                if let Some(template) = &mut self.template {
                    template.answered(verdict);
                }
            }
            Action::Answer(ticket, verdict) => {
                let answer = match verdict {
                    Verdict::Done => Answer::Done,
                    Verdict::Refused(code) => Answer::Refused { code, text: reason(code) },
                    Verdict::Ended(end) => Answer::Ended(to_wire(end)),
                };
                self.snapshots.forget(ticket);
                self.answer(ticket, answer);
            }
            Action::Tell(News::Paused) => self.tell(control::Event::Paused),
            Action::Tell(News::Resumed) => self.tell(control::Event::Resumed),
            Action::Tell(News::Stopping(step)) => {
                // What becomes of the call is of no interest any more; the loop keeps it open for the guest.
                self.agent = None;
                log::info!("stopping: {}", described(step));
                self.tell(control::Event::Stopping { step });
            }
        }
    }

    /// Whether it could be pressed; whether anybody listens is not known.
    pub(super) fn press_button(&self) -> bool {
        let pressed = self.power_button.press();
        if let Err(error) = &pressed {
            log::error!("the power button cannot be pressed: {error}");
        }
        pressed.is_ok()
    }

    pub(super) fn answer(&self, ticket: Ticket, answer: Answer<'_>) {
        if let Some(mut control) = self.control() {
            control.answer(ticket, answer);
        }
    }

    pub(super) fn tell(&self, event: control::Event<'_>) {
        if let Some(mut control) = self.control() {
            control.tell(event);
        }
    }

    pub(super) fn control(&self) -> Option<MutexGuard<'_, Server>> {
        self.surroundings.control.as_deref().map(lock)
    }
}

pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An end as clients are told.
pub(super) const fn to_wire(end: End) -> control::End {
    control::End { status: end.outcome.status(), how: end.how }
}

const fn reason(code: Refusal) -> &'static str {
    match code {
        Refusal::Stopping => "the machine is about to end",
        Refusal::Ended => "the machine has ended",
        Refusal::Overtaken => "another request or a reboot undid it",
        Refusal::TooLate => "vCPUs or devices did not come to rest in time; the machine goes on",
        Refusal::Busy => "another one is being done",
        Refusal::Malformed | Refusal::Unsupported | Refusal::BadValue | Refusal::Failed => "refused",
    }
}

const fn described(step: Step) -> &'static str {
    match step {
        Step::Agent => "asking the guest's agent",
        Step::Button => "pressing the power button",
        Step::Kill => "not asking the guest any more",
    }
}

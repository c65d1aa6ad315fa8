//! The state machine of the whole box.
//!
//! Duty: every move of every workload. Not here: what the moves are called (`lifecycle`), how long waits are
//! (`deadlines`, `backoff`).
//! Invariant: between two steps no timer is due, nothing that may start waits, and during a shutdown nothing that
//! may stop runs on.

use alloc::vec::Vec;

use crate::backoff;
use crate::deadlines::{self, StopTimes};
use crate::event::{Action, Announcement, Event, Failure, WorkloadEnd};
use crate::lifecycle::{End, Lifecycle, Rung, StopReason};
use crate::moment::Moment;
use crate::plan::{Kind, Plan, Planned, RestartPolicy, WorkloadId};

/// Counts the starts of one workload; the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run(pub u32);

/// All that the box knows and wants.
#[derive(Clone, Debug)]
pub struct State {
    workloads: Vec<Workload>,
    stop_times: StopTimes,
    phase: Phase,
    /// What was last said about all of them.
    standing: Standing,
}

/// `Up --Stop--> Stopping --all down--> Down`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Up,
    Stopping,
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Unsettled,
    Ready,
    Short { ready: usize },
}

#[derive(Clone, Debug)]
struct Workload {
    plan: Planned,
    lifecycle: Lifecycle,
    run: Run,
    agent_connected: bool,
    /// Since when this run's workload runs.
    running_since: Option<Moment>,
    /// Restarts in a row without a steady run.
    attempts: u32,
    told_blocked: bool,
}

/// One step in the making: the time, the dice, and what to do.
struct Step {
    now: Moment,
    dice: u32,
    actions: Vec<Action>,
}

impl Step {
    fn tell(&mut self, announcement: Announcement) {
        self.actions.push(Action::Announce(announcement));
    }
}

impl State {
    pub fn new(plan: Plan, stop_times: StopTimes) -> State {
        let workload = |plan| Workload {
            plan,
            lifecycle: Lifecycle::Waiting,
            run: Run(0),
            agent_connected: false,
            running_since: None,
            attempts: 0,
            told_blocked: false,
        };
        State {
            workloads: plan.workloads.into_iter().map(workload).collect(),
            stop_times,
            phase: Phase::Up,
            standing: Standing::Unsettled,
        }
    }

    /// Takes one event in. `dice` is fresh and uniform. The actions are to be carried out in their order.
    #[must_use = "actions that nobody carries out leave the state behind the world"]
    pub fn step(&mut self, now: Moment, dice: u32, event: Event) -> Vec<Action> {
        let mut step = Step { now, dice, actions: Vec::new() };
        self.take(&mut step, event);
        for id in self.ids() {
            self.timer(&mut step, id);
        }
        self.progress(&mut step);
        self.assess(&mut step);
        step.actions
    }

    /// When the next [`Event::Tick`] is due, if no other event comes before.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.workloads.iter().filter_map(Workload::deadline).min()
    }

    pub fn lifecycle(&self, id: WorkloadId) -> Option<&Lifecycle> {
        self.workloads.get(id.0).map(|workload| &workload.lifecycle)
    }

    pub fn ids(&self) -> impl Iterator<Item = WorkloadId> + use<> {
        (0..self.workloads.len()).map(WorkloadId)
    }

    /// The workload that an event is about, unless the event is about an earlier run.
    fn current(&mut self, id: WorkloadId, run: Run) -> Option<&mut Workload> {
        self.workloads.get_mut(id.0).filter(|workload| workload.run == run && workload.lifecycle.is_alive())
    }

    fn take(&mut self, step: &mut Step, event: Event) {
        match event {
            Event::Tick => {}
            Event::AgentConnected { id, run } => {
                if let Some(workload) = self.current(id, run) {
                    workload.agent_connected = true;
                    workload.hear(step.now);
                }
            }
            Event::AgentLost { id, run } => {
                if let Some(workload) = self.current(id, run) {
                    workload.agent_connected = false;
                }
            }
            Event::Heartbeat { id, run } => {
                if let Some(workload) = self.current(id, run) {
                    workload.hear(step.now);
                }
            }
            Event::WorkloadStarted { id, run } => self.workload_started(step, id, run),
            Event::WorkloadEnded { id, run, end } => {
                if let Some(workload) = self.current(id, run)
                    && !matches!(workload.lifecycle, Lifecycle::Stopping { .. })
                {
                    let deadline = step.now.after(deadlines::ENDING);
                    workload.lifecycle = Lifecycle::Ending { end, deadline };
                }
            }
            Event::NotSpawned { id, run, why } => self.vm_gone(step, id, run, Failure::NotSpawned(why)),
            Event::VmEnded { id, run, end } => self.vm_gone(step, id, run, Failure::Vm(end)),
            Event::Stop => self.begin_shutdown(step),
            Event::StopNow => {
                self.begin_shutdown(step);
                for id in self.ids() {
                    self.stop(step, id, Rung::Kill, StopReason::Shutdown);
                }
            }
        }
    }

    fn begin_shutdown(&mut self, step: &mut Step) {
        if self.phase == Phase::Up {
            self.phase = Phase::Stopping;
            step.tell(Announcement::Stopping);
        }
    }

    fn workload_started(&mut self, step: &mut Step, id: WorkloadId, run: Run) {
        let Some(workload) = self.current(id, run) else { return };
        match workload.lifecycle {
            // From Ending: the guest's own policy started it again.
            Lifecycle::Starting { .. } | Lifecycle::Ending { .. } => {
                workload.lifecycle = Lifecycle::Running { heard: step.now };
                workload.running_since = Some(step.now);
                step.tell(Announcement::Running { id });
            }
            _ => workload.hear(step.now),
        }
    }

    /// The machine is no more; `failure` tells why, should nothing better be known.
    fn vm_gone(&mut self, step: &mut Step, id: WorkloadId, run: Run, failure: Failure) {
        let Some(workload) = self.current(id, run) else { return };
        workload.agent_connected = false;
        let outcome = match &workload.lifecycle {
            Lifecycle::Ending { end, .. } => outcome(*end),
            Lifecycle::Stopping { because, .. } => match because {
                StopReason::Overstayed(end) => outcome(*end),
                StopReason::Failed(first) => Err(first.clone()),
                StopReason::Shutdown => {
                    workload.lifecycle = Lifecycle::Ended(End::Stopped);
                    return;
                }
            },
            _ => Err(failure),
        };
        self.conclude(step, id, outcome);
    }

    fn conclude(&mut self, step: &mut Step, id: WorkloadId, outcome: Result<(), Failure>) {
        let going_up = self.phase == Phase::Up;
        let workload = &mut self.workloads[id.0];
        step.tell(match &outcome {
            Ok(()) => Announcement::Done { id },
            Err(failure) => Announcement::Failed { id, failure: failure.clone() },
        });
        let again = match workload.plan.restart {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => outcome.is_err(),
            RestartPolicy::Never => false,
        };
        if going_up && again {
            let steady = workload.running_since.is_some_and(|since| step.now.since(since) >= backoff::STEADY);
            workload.attempts = if steady { 1 } else { workload.attempts.saturating_add(1) };
            let delay = backoff::delay(workload.attempts, step.dice);
            workload.lifecycle = Lifecycle::BackingOff { until: step.now.after(delay) };
            step.tell(Announcement::RestartIn { id, attempt: workload.attempts, delay });
        } else {
            workload.lifecycle = Lifecycle::Ended(outcome.map_or_else(End::Failed, |()| End::Done));
        }
    }

    /// Brings the machine down, beginning at `rung` or, if it is being brought down already, not below it.
    fn stop(&mut self, step: &mut Step, id: WorkloadId, rung: Rung, because: StopReason) {
        let times = self.stop_times;
        let workload = &mut self.workloads[id.0];
        if !workload.lifecycle.is_alive() {
            return;
        }
        let because = match &workload.lifecycle {
            Lifecycle::Stopping { rung: at, .. } if *at >= rung => return,
            Lifecycle::Stopping { because, .. } => because.clone(),
            _ => because,
        };
        let run = workload.run;
        let (action, wait) = match rung {
            Rung::Agent => (Action::AskAgent { id, run, grace: times.grace() }, times.agent),
            Rung::Terminate => (Action::Terminate { id, run }, times.terminate),
            Rung::Kill => (Action::Kill { id, run }, deadlines::KILL_STOP),
        };
        workload.lifecycle = Lifecycle::Stopping { rung, deadline: step.now.after(wait), because };
        step.actions.push(action);
    }

    /// Does what is due for one workload.
    fn timer(&mut self, step: &mut Step, id: WorkloadId) {
        let workload = &mut self.workloads[id.0];
        if workload.deadline().is_none_or(|deadline| deadline > step.now) {
            return;
        }
        match workload.lifecycle.clone() {
            Lifecycle::Waiting | Lifecycle::Ended(_) => {}
            Lifecycle::BackingOff { .. } => workload.lifecycle = Lifecycle::Waiting,
            // An agent that did not answer in time, or fell silent, is not asked.
            Lifecycle::Starting { .. } => {
                self.stop(step, id, Rung::Terminate, StopReason::Failed(Failure::NotReadyInTime));
            }
            Lifecycle::Running { .. } => {
                self.stop(step, id, Rung::Terminate, StopReason::Failed(Failure::HeartbeatLost));
            }
            Lifecycle::Ending { end, .. } => {
                self.stop(step, id, Rung::Terminate, StopReason::Overstayed(end));
            }
            Lifecycle::Stopping { rung: Rung::Agent, because, .. } => {
                step.tell(Announcement::Stubborn { id, means: "SIGTERM" });
                self.stop(step, id, Rung::Terminate, because);
            }
            Lifecycle::Stopping { rung: Rung::Terminate, because, .. } => {
                step.tell(Announcement::Stubborn { id, means: "SIGKILL" });
                self.stop(step, id, Rung::Kill, because);
            }
            Lifecycle::Stopping { rung: Rung::Kill, .. } => {
                workload.lifecycle = Lifecycle::Ended(End::Lost);
                step.tell(Announcement::Lost { id });
            }
        }
    }

    /// Starts what may start; in a shutdown, stops what may stop.
    fn progress(&mut self, step: &mut Step) {
        match self.phase {
            Phase::Up => {
                for id in self.ids() {
                    self.start_if_possible(step, id);
                }
            }
            Phase::Stopping => {
                for id in self.ids() {
                    self.stop_if_possible(step, id);
                }
                if self.workloads.iter().all(|workload| matches!(workload.lifecycle, Lifecycle::Ended(_))) {
                    self.phase = Phase::Down;
                    step.tell(Announcement::Stopped);
                    step.actions.push(Action::Finish);
                }
            }
            Phase::Down => {}
        }
    }

    fn start_if_possible(&mut self, step: &mut Step, id: WorkloadId) {
        let workload = &self.workloads[id.0];
        if workload.lifecycle != Lifecycle::Waiting
            || !workload.plan.after.iter().all(|other| self.workloads[other.0].is_ready())
        {
            return;
        }
        let workload = &mut self.workloads[id.0];
        workload.run = Run(workload.run.0.wrapping_add(1));
        workload.agent_connected = false;
        workload.running_since = None;
        workload.told_blocked = false;
        workload.lifecycle = Lifecycle::Starting { deadline: step.now.after(deadlines::START) };
        step.actions.push(Action::Start { id, run: workload.run });
    }

    fn stop_if_possible(&mut self, step: &mut Step, id: WorkloadId) {
        let depended_upon =
            self.workloads.iter().any(|other| other.lifecycle.is_alive() && other.plan.after.contains(&id));
        let workload = &mut self.workloads[id.0];
        let rung = if workload.agent_connected { Rung::Agent } else { Rung::Terminate };
        match workload.lifecycle {
            Lifecycle::Waiting | Lifecycle::BackingOff { .. } => {
                workload.lifecycle = Lifecycle::Ended(End::Stopped);
            }
            Lifecycle::Starting { .. } | Lifecycle::Running { .. } if !depended_upon => {
                self.stop(step, id, rung, StopReason::Shutdown);
            }
            // Most likely it powers off just now, and then the question does no harm.
            Lifecycle::Ending { end, .. } if !depended_upon => {
                self.stop(step, id, rung, StopReason::Overstayed(end));
            }
            _ => {}
        }
    }

    /// Tells when the whole got where it will get.
    fn assess(&mut self, step: &mut Step) {
        if self.phase != Phase::Up {
            return;
        }
        let blocked = self.blocked();
        for (id, on) in self.ids().zip(&blocked) {
            if let Some(on) = *on
                && !self.workloads[id.0].told_blocked
            {
                self.workloads[id.0].told_blocked = true;
                step.tell(Announcement::Blocked { id, on });
            }
        }
        let of = self.workloads.len();
        let ready = self.workloads.iter().filter(|workload| workload.is_ready()).count();
        let settled = self.workloads.iter().zip(&blocked).all(|(workload, blocked)| {
            workload.is_ready() || blocked.is_some() || matches!(workload.lifecycle, Lifecycle::Ended(_))
        });
        let standing = match settled {
            false => Standing::Unsettled,
            true if ready == of => Standing::Ready,
            true => Standing::Short { ready },
        };
        if standing != self.standing {
            self.standing = standing;
            match standing {
                Standing::Unsettled => {}
                Standing::Ready => step.tell(Announcement::Ready { ready, of }),
                Standing::Short { ready } => step.tell(Announcement::NotReady { ready, of }),
            }
        }
    }

    /// For each workload, what it waits for in vain.
    fn blocked(&self) -> Vec<Option<WorkloadId>> {
        let mut blocked = alloc::vec![None; self.workloads.len()];
        // Spreads one `after` further in each round: not by recursion, whose paths may be exponentially many.
        loop {
            let mut spread = false;
            for (index, workload) in self.workloads.iter().enumerate() {
                if blocked[index].is_some() || workload.lifecycle != Lifecycle::Waiting {
                    continue;
                }
                blocked[index] = workload.plan.after.iter().copied().find(|on| {
                    let other = &self.workloads[on.0];
                    let ended = matches!(other.lifecycle, Lifecycle::Ended(_));
                    (ended && !other.is_ready()) || blocked[on.0].is_some()
                });
                spread |= blocked[index].is_some();
            }
            if !spread {
                return blocked;
            }
        }
    }
}

impl Workload {
    fn hear(&mut self, now: Moment) {
        if let Lifecycle::Running { heard } = &mut self.lifecycle {
            *heard = now;
        }
    }

    fn deadline(&self) -> Option<Moment> {
        match &self.lifecycle {
            Lifecycle::Waiting | Lifecycle::Ended(_) => None,
            Lifecycle::Running { heard } => Some(heard.after(deadlines::HEARTBEAT_LOST)),
            Lifecycle::BackingOff { until } => Some(*until),
            Lifecycle::Starting { deadline }
            | Lifecycle::Ending { deadline, .. }
            | Lifecycle::Stopping { deadline, .. } => Some(*deadline),
        }
    }

    /// What it is for is there: a service runs, a job is done. One rule for what comes after it and for the box as
    /// a whole: a job that still runs may yet fail.
    fn is_ready(&self) -> bool {
        match self.plan.kind {
            Kind::Service => matches!(self.lifecycle, Lifecycle::Running { .. }),
            Kind::Job => self.lifecycle == Lifecycle::Ended(End::Done),
        }
    }
}

fn outcome(end: WorkloadEnd) -> Result<(), Failure> {
    match end {
        WorkloadEnd::Code(0) => Ok(()),
        WorkloadEnd::Code(_) | WorkloadEnd::Signal(_) | WorkloadEnd::NotStarted(_) => {
            Err(Failure::Workload(end))
        }
    }
}

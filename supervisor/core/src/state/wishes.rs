//! What people and the fleet want.
//!
//! Duty: a configuration as the difference to the last one; requests; what is foreseen. Not here: reading files.
//! Invariant: a configuration with a fault changes nothing; one that equals the last changes nothing; a workload that
//! a configuration does not change is not touched.

use alloc::string::String;
use alloc::vec::Vec;

use crate::action::{Action, Announcement};
use crate::boot::{BootReason, Phase};
use crate::event::Request;
use crate::id::WorkloadId;
use crate::insight::Insight;
use crate::maintenance::Window;
use crate::spec::{Config, MAX_BUDGET, Spec};
use crate::turn::Turn;
use crate::workload::Workload;

use super::State;

impl State {
    pub(super) fn configure(&mut self, turn: &mut Turn<'_>, config: Config) {
        if let Err(faults) = config.check() {
            return turn.tell(Announcement::ConfigRefused { faults });
        }
        let first = self.next_id == 0;
        self.device = config.device;
        turn.stop = self.device.stop;
        self.watchdog.configure(&self.device.watchdog, turn.now);
        let (mut added, mut changed, mut removed) = (0, 0, 0);
        for workload in &mut self.workloads {
            let stays = config.workloads.iter().any(|spec| spec.name == workload.spec.name);
            if workload.wanted && !stays {
                workload.wanted = false;
                removed += 1;
            }
        }
        for mut spec in config.workloads {
            spec.restart.budget = spec.restart.budget.min(MAX_BUDGET);
            match self.workloads.iter().position(|workload| workload.spec.name == spec.name) {
                None => {
                    self.admit(turn, spec);
                    added += 1;
                }
                Some(place) => {
                    let workload = &mut self.workloads[place];
                    if workload.wanted && workload.spec == spec {
                        continue;
                    }
                    let known = core::mem::replace(&mut workload.wanted, true);
                    *(if known { &mut changed } else { &mut added }) += 1;
                    adapt(workload, turn, spec);
                }
            }
        }
        self.resolve();
        if !first || removed > 0 {
            turn.tell(Announcement::ConfigApplied { added, changed, removed });
        }
        turn.moved = true;
    }

    /// Names to ids. A name that leads nowhere cannot be in a checked configuration, other than in that of a workload
    /// on its way out, which waits for nobody.
    fn resolve(&mut self) {
        for place in 0..self.workloads.len() {
            let ids = |names: &[String]| -> Vec<WorkloadId> {
                names.iter().filter_map(|name| self.id_of(name)).collect()
            };
            let workload = &self.workloads[place];
            let (after, requires) = (ids(&workload.spec.after), ids(&workload.spec.requires));
            let workload = &mut self.workloads[place];
            (workload.after, workload.requires) = (after, requires);
        }
    }

    pub(super) fn request(&mut self, turn: &mut Turn<'_>, request: Request) {
        turn.moved = true;
        match request {
            Request::Start(id) => self.on(id, |workload| workload.stopped = false),
            Request::Stop(id) => self.on(id, |workload| workload.stopped = true),
            Request::Scale { workload, replicas } => self.on(workload, |workload| workload.scale = replicas),
            Request::Restart(id) => self.on(id, |workload| workload.restart(turn)),
            Request::Retry(id) => self.on(id, |workload| workload.retry(turn)),
            Request::Heal(id) => self.on(id, |workload| workload.agree(turn)),
            Request::UndoRollout(id) => self.on(id, |workload| workload.undo(turn)),
            Request::LeaveSafeMode if self.phase == Phase::Safe => self.leave_safe_mode(turn),
            Request::LeaveSafeMode => {}
            Request::ReExec => turn.actions.push(Action::ReExec),
            Request::Reboot => self.begin_shutdown(turn, Some(BootReason::Asked)),
        }
    }

    /// Told once it counts: advice that changes no number is no news.
    pub(super) fn foresee(&mut self, turn: &mut Turn<'_>, insight: Insight) {
        let (id, advised, why) = match insight {
            Insight::Odd { workload, what } => return turn.tell(Announcement::Odd { workload, what }),
            Insight::Ranked { workload, source, order } => {
                return self.on(workload, |workload| workload.learn(turn, source, &order));
            }
            Insight::Suspected { workload, whom } => {
                return self.on(workload, |workload| workload.suspect(turn, whom));
            }
            Insight::Judged { workload, judged } => {
                return self.on(workload, |workload| workload.judged(turn, judged));
            }
            Insight::Replicas { workload, replicas, why } => (workload, replicas, why),
            Insight::Memory { workload, mib, why } => {
                if let Some(workload) = self.workload_mut(workload) {
                    workload.have_enough(turn, mib, why);
                }
                return;
            }
            Insight::Warm { workload, idle, lasts, why } => {
                if let Some(workload) = self.workload_mut(workload) {
                    workload.keep_warm(turn, idle, lasts, why);
                }
                return;
            }
        };
        let Some(workload) = self.workload_mut(id).filter(|workload| workload.spec.scaling.is_some()) else {
            return;
        };
        let from = workload.wanted_count(turn.now);
        workload.advised = Some(advised);
        let to = workload.wanted_count(turn.now);
        if from != to {
            turn.tell(Announcement::Scaled { workload: id, from, to, why });
            turn.moved = true;
        }
    }

    /// A window of maintenance begins or ends.
    pub(super) fn maintain(&mut self, turn: &mut Turn<'_>, window: Window) {
        self.window = window;
        turn.window = window;
        turn.moved = true;
        for workload in self.workloads.iter_mut().filter(|_| !window.is_shut()) {
            if let Some(build) = workload.held.take() {
                workload.offer(turn, build);
            }
        }
    }

    fn on(&mut self, id: WorkloadId, wish: impl FnOnce(&mut Workload)) {
        if let Some(workload) = self.workload_mut(id) {
            wish(workload);
        }
    }

    pub(super) fn begin_shutdown(&mut self, turn: &mut Turn<'_>, reboot: Option<BootReason>) {
        if matches!(self.phase, Phase::Opening | Phase::Up | Phase::Safe) {
            self.phase = Phase::Stopping;
            self.reboot = reboot;
            turn.phase = Phase::Stopping;
            turn.tell(Announcement::Stopping);
            turn.moved = true;
        }
    }
}

/// Takes over what the new text says; machines are replaced only for another build.
fn adapt(workload: &mut Workload, turn: &mut Turn<'_>, spec: Spec) {
    let build = spec.build;
    let other_probes = workload.spec.probes != spec.probes;
    if workload.spec.kind.ends() != spec.kind.ends() {
        // What was meant to run for ever does not end as a job has to, nor the other way round.
        workload.replace_all();
    }
    if workload.spec.build.needs != build.needs {
        // It was said of machines with another memory.
        workload.enough = None;
    }
    workload.spec = spec;
    if other_probes {
        workload.reprobe(turn);
    }
    workload.offer(turn, build);
    workload.ask_less(turn);
}

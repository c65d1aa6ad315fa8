//! The state machine of the whole box.
//!
//! | file | what |
//! |---|---|
//! | `opening.rs` | a daemon begins: records, machines that are found |
//! | `wishes.rs` | configurations as differences, requests |
//! | `progress.rs` | who starts, who stops, in which order |
//! | `assessing.rs` | what is told of the whole, what is remembered |
//! | `caring.rs` | the box itself: watchdog, pressure, settling |
//!
//! Duty: one step after the other. Not here: moves of a single workload (`workload`).
//! Invariants: between two steps no timer is due, nothing that may start waits, and during a shutdown nothing that
//! may stop runs on. A heartbeat allocates nothing. The same events at the same moments lead to the same state.

mod assessing;
mod caring;
mod opening;
mod progress;
mod wishes;

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::action::{Action, Actions, Announcement};
use crate::boot::{Boot, BootReason, Phase, Settling};
use crate::breaker::Breaker;
use crate::deadlines::STALL;
use crate::dice::Dice;
use crate::event::Event;
use crate::explain::{Explanation, explain};
use crate::id::{ReplicaId, Run, WorkloadId};
use crate::lifecycle::Lifecycle;
use crate::maintenance::Window;
use crate::moment::Moment;
use crate::policy::{FixedLadder, RecoveryPolicy};
use crate::pressure::Pressure;
use crate::record::{DeviceRecord, Record};
use crate::spec::DeviceSpec;
use crate::turn::Turn;
use crate::watchdog::Watchdog;
use crate::workload::Workload;

/// All that the box knows and wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The latest moment that was seen: time does not go back, whatever a clock says.
    clock: Moment,
    /// When something is due, or earlier.
    wake: Option<Moment>,
    dice: Dice,
    phase: Phase,
    boot: Boot,
    settling: Settling,
    /// When the box leaves safe mode by itself.
    safe_until: Option<Moment>,
    up_since: Option<Moment>,
    /// What follows when all is down.
    reboot: Option<BootReason>,
    device: DeviceSpec,
    device_record: DeviceRecord,
    /// Of workloads that no configuration has named yet.
    records: Vec<Record>,
    /// In the order of their ids.
    workloads: Vec<Workload>,
    next_id: u32,
    adopted: usize,
    watchdog: Watchdog,
    pressure: Pressure,
    window: Window,
    /// What was last said about all of them.
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Standing {
    Unsettled,
    Ready,
    Short { ready: usize },
}

impl State {
    /// Before anything is known. All randomness comes from `seed`.
    pub fn new(seed: u64) -> State {
        State {
            clock: Moment::START,
            wake: None,
            dice: Dice::new(seed),
            phase: Phase::Opening,
            boot: Boot::default(),
            settling: Settling::Not,
            safe_until: None,
            up_since: None,
            reboot: None,
            device: DeviceSpec::default(),
            device_record: DeviceRecord::default(),
            records: Vec::new(),
            workloads: Vec::new(),
            next_id: 0,
            adopted: 0,
            watchdog: Watchdog::default(),
            pressure: Pressure::CALM,
            window: Window::Always,
            standing: Standing::Unsettled,
        }
    }

    /// Takes one event in. The actions are to be carried out in their order.
    #[must_use = "actions that nobody carries out leave the state behind the world"]
    pub fn step(&mut self, now: Moment, event: Event) -> Actions {
        self.step_by(&FixedLadder, now, event)
    }

    /// Likewise, with another policy of healing.
    #[must_use = "actions that nobody carries out leave the state behind the world"]
    pub fn step_by(&mut self, policy: &dyn RecoveryPolicy, now: Moment, event: Event) -> Actions {
        let now = now.max(self.clock);
        if let Some(wake) = self.wake
            && now.since(wake) >= STALL
        {
            // And a little more: what waits in sockets comes after this step.
            let late = now.since(wake).saturating_add(STALL);
            for workload in &mut self.workloads {
                workload.excuse(late);
            }
        }
        self.clock = now;
        let mut dice = self.dice.clone();
        let mut turn = Turn {
            now,
            phase: self.phase,
            stop: self.device.stop,
            disk_has_room: self.pressure.disk_has_room(),
            window: self.window,
            room_to_snap: None,
            dice: &mut dice,
            policy,
            actions: Actions::new(),
            moved: false,
        };
        let touched = self.take(&mut turn, event);
        let due = self.wake.is_some_and(|wake| wake <= now);
        if touched || due || turn.moved {
            self.settle(&mut turn);
            self.wake = self.deadline();
        }
        let actions = turn.actions;
        self.dice = dice;
        actions
    }

    /// When the next [`Event::Tick`] is due at the latest, if no other event comes before.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.wake
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether new versions and reboots wait.
    pub fn window(&self) -> Window {
        self.window
    }

    /// How the box came up.
    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// The workloads that are known, those included that are on their way out.
    pub fn ids(&self) -> impl Iterator<Item = WorkloadId> {
        self.workloads.iter().map(|workload| workload.id)
    }

    pub fn id_of(&self, name: &str) -> Option<WorkloadId> {
        self.workloads.iter().find(|workload| workload.spec.name == name).map(|workload| workload.id)
    }

    pub fn name(&self, id: WorkloadId) -> Option<&str> {
        self.workload(id).map(|workload| workload.spec.name.as_str())
    }

    pub fn lifecycle(&self, id: ReplicaId) -> Option<&Lifecycle> {
        Some(&self.workload(id.workload)?.replica(id.slot)?.lifecycle)
    }

    /// Of a replica's machine, or its last one.
    pub fn run(&self, id: ReplicaId) -> Option<Run> {
        Some(self.workload(id.workload)?.replica(id.slot)?.run)
    }

    /// Whether restarts of a workload are cut off.
    pub fn breaker(&self, id: WorkloadId) -> Option<Breaker> {
        self.workload(id).map(|workload| workload.breaker)
    }

    /// Why a workload is in the state that it is in.
    pub fn explain(&self, id: WorkloadId) -> Option<Explanation> {
        let workload = self.workload(id)?;
        Some(explain(workload, self.clock))
    }

    pub(crate) fn workload(&self, id: WorkloadId) -> Option<&Workload> {
        self.place(id).and_then(|place| self.workloads.get(place))
    }

    fn workload_mut(&mut self, id: WorkloadId) -> Option<&mut Workload> {
        let place = self.place(id)?;
        self.workloads.get_mut(place)
    }

    fn place(&self, id: WorkloadId) -> Option<usize> {
        self.workloads.binary_search_by_key(&id, |workload| workload.id).ok()
    }

    /// Says whether anything but a sign of life came in.
    fn take(&mut self, turn: &mut Turn<'_>, event: Event) -> bool {
        match event {
            Event::Vm { vm, said } => {
                return self
                    .workload_mut(vm.replica.workload)
                    .is_some_and(|workload| workload.hear(turn, vm, said));
            }
            Event::Alive(subsystem) => return self.subsystem_alive(turn, subsystem),
            Event::Tick => {}
            Event::Begin { boot, device, records } => self.begin(turn, boot, device, records),
            Event::Configured(config) => self.configure(turn, *config),
            Event::Found(found) => self.adopt(turn, &found),
            Event::Surveyed => self.surveyed(turn),
            Event::Demand { workload, replicas } => {
                if let Some(workload) = self.workload_mut(workload) {
                    workload.demand(turn, replicas);
                    turn.moved = true;
                }
            }
            Event::Logged { workload, bytes } => self.logged(turn, workload, bytes),
            Event::Pressure { resource, level } => self.pressure_is(turn, resource, level),
            Event::Ask(request) => self.request(turn, request),
            Event::Foresaw(insight) => self.foresee(turn, insight),
            Event::Maintenance(window) => self.maintain(turn, window),
            Event::Stop => self.begin_shutdown(turn, None),
            Event::StopNow => {
                self.begin_shutdown(turn, None);
                self.kill_all(turn);
            }
        }
        true
    }

    /// Does what is due, and what follows from it, until nothing follows any more.
    fn settle(&mut self, turn: &mut Turn<'_>) {
        self.care(turn);
        let mut due = self.wake.is_some_and(|wake| wake <= turn.now);
        // Each round moves somebody on; the bound is for a mistake in that reasoning.
        for _ in 0..8 + 4 * self.workloads.len() {
            if due || turn.moved {
                turn.room_to_snap = self.room_to_snap();
                for workload in &mut self.workloads {
                    workload.timers(turn);
                }
            }
            if !core::mem::take(&mut turn.moved) && !due {
                break;
            }
            due = false;
            self.progress(turn);
        }
        self.assess(turn);
        self.remember(turn);
    }

    fn deadline(&self) -> Option<Moment> {
        let workloads =
            self.workloads.iter().filter_map(|workload| workload.deadline(self.phase, self.clock));
        workloads.chain(self.care_deadline()).min()
    }

    fn finish(&mut self, turn: &mut Turn<'_>) {
        self.phase = Phase::Down;
        turn.phase = Phase::Down;
        turn.tell(Announcement::Stopped);
        turn.actions.push(match self.reboot {
            Some(reason) => Action::Reboot { reason },
            None => Action::Finish,
        });
    }
}

//! The invariants, looked at with the world's own eyes.
//!
//! | file | promises about |
//! |---|---|
//! | `machines.rs` | identities, restarts, room, healthy machines |
//! | `care.rs` | timers, the watchdog, alarms |
//! | `wanted.rs` | what is there in the end |
//!
//! Duty: what has to be known for that. Not here: what promises there are (`trouble`).
//! Invariant: what the core says of itself is evidence only where the world cannot know better, and each such place
//! says so.

mod care;
mod healing;
mod machines;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hearth_core::{Build, Event, Kind, Moment, Request, Vm, WorkloadId};

use crate::daemon::Daemon;
use crate::wishes::{NAMES, SUBSYSTEMS};

/// After a person's request, machines may be taken for it for so long.
const REQUEST_LASTS: Duration = Duration::from_secs(20 * 60);

/// How the last machine of an identity went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    /// Nothing was heard of its end.
    Unheard,
    /// It was well, or had to go for a good reason.
    Rightly,
    /// It failed.
    Failed,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    build: Build,
    run: u32,
    went: Went,
    /// There was a reason to take it away that is not its health.
    rightly: bool,
    /// When its end was heard of.
    ended: Moment,
}

#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// By name's place and slot.
    last: BTreeMap<(usize, u16), Last>,
    /// When the failures were heard of that restarts answered.
    restarts: BTreeMap<usize, Vec<Moment>>,
    /// Alarms that were given and not lifted.
    alarms: BTreeSet<usize>,
    /// Until when a person's request explains what happens to a workload's machines.
    asked: BTreeMap<usize, Moment>,
    /// Until when a person's word explains what is done to heal it.
    agreed: BTreeMap<usize, Moment>,
    /// Ids of this life whose ends were heard.
    ends: Vec<Vm>,
}

impl Checks {
    /// What the daemon now knows of people's wishes.
    pub(crate) fn note(daemon: &mut Daemon, at: Moment, event: &Event) {
        let place = |id: WorkloadId| {
            let name = daemon.core.name(id)?;
            NAMES.iter().position(|known| *known == name)
        };
        match event {
            Event::Configured(config) if config.check().is_ok() => {
                daemon.known.config = (**config).clone();
                for place in 0..NAMES.len() {
                    // Nobody asks for what is gone; should it come back, it is asked for anew.
                    let gone = daemon.known.spec(place).is_none();
                    daemon.known.demand[place] = if gone { 0 } else { daemon.known.demand[place] };
                }
            }
            Event::Ask(Request::Stop(id)) => {
                if let Some(place) = place(*id) {
                    daemon.known.stopped[place] = true;
                }
            }
            Event::Ask(Request::Start(id)) => {
                if let Some(place) = place(*id) {
                    daemon.known.stopped[place] = false;
                }
            }
            Event::Ask(Request::Scale { workload, replicas }) => {
                if let Some(place) = place(*workload) {
                    daemon.known.scale[place] = *replicas;
                }
            }
            Event::Demand { workload, replicas } => {
                let is_function = |place: &usize| {
                    let kind = daemon.known.spec(*place).map(|spec| spec.kind);
                    matches!(kind, Some(Kind::Function { .. }))
                };
                if let Some(place) = place(*workload).filter(is_function) {
                    daemon.known.demand[place] = *replicas;
                }
            }
            Event::Alive(subsystem) => {
                let now = daemon.clock.max(at);
                let Some(place) = SUBSYSTEMS.iter().position(|(known, ..)| known == subsystem) else {
                    return;
                };
                daemon.alive[place] = now;
            }
            _ => {}
        }
    }

    pub(crate) fn heard_end(&mut self, vm: Vm) {
        self.ends.push(vm);
    }

    pub(crate) fn person_asked(&mut self, place: usize, now: Moment) {
        self.asked.insert(place, now.after(REQUEST_LASTS));
    }

    pub(crate) fn person_agreed(&mut self, place: usize, now: Moment) {
        self.agreed.insert(place, now.after(REQUEST_LASTS));
    }

    pub(crate) fn life_ended(&mut self) {
        self.ends.clear();
        // Whoever listens to the next daemon has not heard them.
        self.alarms.clear();
        for last in self.last.values_mut() {
            // Whoever comes next knows only what it finds.
            if last.went == Went::Unheard {
                last.rightly = true;
            }
        }
    }

    pub(crate) fn box_rebooted(&mut self) {
        self.last.clear();
        self.restarts.clear();
    }

    pub(crate) fn forget(&mut self, name: &str) {
        if let Some(place) = NAMES.iter().position(|known| *known == name) {
            self.restarts.remove(&place);
            for ((name, _), last) in &mut self.last {
                last.rightly |= *name == place;
                if *name == place && last.went == Went::Failed {
                    last.went = Went::Rightly;
                }
            }
        }
    }
}

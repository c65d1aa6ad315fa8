//! One replica of a workload, and its machine if it has one.
//!
//! Duty: what is known of it, and when its clock runs out. Not here: its moves (`workload`).
//! Invariant: at most one machine has the identity, apart from ghosts: those are found, not made, and are ended
//! before anything else starts under it.

use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::action::{Hold, StartHow};
use crate::id::{Run, Slot};
use crate::incident::Incident;
use crate::lifecycle::{End, Health, Lifecycle, Means};
use crate::moment::Moment;
use crate::probe::{Check, ProbeSpec, Probing, Role};
use crate::rollout::Tally;
use crate::spec::Build;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replica {
    pub(crate) slot: Slot,
    /// Of its machine, or its last one.
    pub(crate) run: Run,
    pub(crate) build: Build,
    pub(crate) lifecycle: Lifecycle,
    /// How its next machine has to be made. None: whichever way is quickest.
    pub(crate) how: Option<StartHow>,
    /// How its machine was made.
    pub(crate) made: StartHow,
    pub(crate) agent: bool,
    /// Its last sign of life.
    pub(crate) heard: Moment,
    /// Since when this run's workload runs.
    pub(crate) running_since: Option<Moment>,
    /// Restarts in a row without a steady run.
    pub(crate) attempts: u32,
    pub(crate) probes: Vec<Probing>,
    pub(crate) incident: Option<Incident>,
    pub(crate) hold: Option<Hold>,
    /// What its balloon is to hold; none: another daemon may have ordered something.
    pub(crate) balloon_mib: Option<u32>,
    pub(crate) tally: Tally,
    /// A person wants a new machine for it, and is asked nothing about that.
    pub(crate) replace: bool,
    pub(crate) ghosts: Vec<Ghost>,
}

/// An older machine of the same identity, on its way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ghost {
    pub(crate) run: Run,
    pub(crate) build: Build,
    pub(crate) means: Means,
    /// None: it outlived a kill and is only waited for.
    pub(crate) deadline: Option<Moment>,
}

impl Replica {
    pub(crate) fn new(slot: Slot, build: Build, now: Moment) -> Replica {
        Replica {
            slot,
            run: Run(0),
            build,
            lifecycle: Lifecycle::Waiting,
            how: None,
            made: StartHow::Cold,
            agent: false,
            heard: now,
            running_since: None,
            attempts: 0,
            probes: Vec::new(),
            incident: None,
            hold: None,
            balloon_mib: Some(0),
            tally: Tally::default(),
            replace: false,
            ghosts: Vec::new(),
        }
    }

    /// Whether its memory and processors are promised to it: it has a machine, or is about to have one again.
    pub(crate) fn is_reserved(&self) -> bool {
        self.lifecycle.is_taken() || matches!(self.lifecycle, Lifecycle::BackingOff { .. })
    }

    /// Nothing holds its slot any more.
    pub(crate) fn is_vacant(&self) -> bool {
        !self.lifecycle.is_taken() && self.ghosts.is_empty()
    }

    /// What would heal it waits for somebody's word.
    pub(crate) fn is_proposed(&self) -> bool {
        self.incident.as_ref().is_some_and(|incident| incident.proposed.is_some())
    }

    /// Likewise, and it has no machine meanwhile.
    pub(crate) fn is_asked_without_machine(&self) -> bool {
        self.lifecycle == Lifecycle::Waiting && self.is_proposed()
    }

    /// Likewise, and the machine is there, but its workload did not start again within it.
    pub(crate) fn is_asked_amid_restart(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Restarting { .. }) && self.is_proposed()
    }

    /// It ended, and is not begun again by itself.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Ended(End::Done | End::Failed(_)))
    }

    /// The strongest polite means there is.
    pub(crate) fn polite(&self) -> Means {
        if self.agent { Means::Agent } else { Means::Terminate }
    }

    /// When something about it has to happen, if nothing else does.
    pub(crate) fn deadline(&self, probes: &[ProbeSpec]) -> Option<Moment> {
        // Who is asked about already is not late once more.
        let mut least = if self.is_asked_amid_restart() { None } else { self.lifecycle.deadline() };
        let mut consider = |at: Option<Moment>| least = [least, at].into_iter().flatten().min();
        if let Lifecycle::Running { health } = self.lifecycle {
            for (spec, probing) in probes.iter().zip(&self.probes) {
                if spec.check == Check::Heartbeat && self.is_proposed() {
                    // Who is asked already is not asked again.
                } else if spec.check == Check::Heartbeat {
                    consider(Some(self.heard.after(spec.patience())));
                } else if is_active(spec, health) {
                    consider(Some(probing.deadline()));
                }
            }
        }
        consider(self.incident.as_ref().and_then(Incident::deadline));
        for ghost in &self.ghosts {
            consider(ghost.deadline);
        }
        least
    }

    /// The daemon was away for `late`: nobody is blamed for that time.
    pub(crate) fn excuse(&mut self, late: Duration) {
        match &mut self.lifecycle {
            Lifecycle::Running { .. } => self.heard = self.heard.after(late),
            Lifecycle::Starting { deadline }
            | Lifecycle::Restarting { deadline, .. }
            | Lifecycle::Ending { deadline, .. }
            | Lifecycle::Stopping { deadline, .. } => *deadline = deadline.after(late),
            Lifecycle::Waiting | Lifecycle::BackingOff { .. } | Lifecycle::Ended(_) => {}
        }
        for probing in &mut self.probes {
            probing.excuse(late);
        }
    }
}

/// Whether a probe is asked in this state of health.
pub(crate) fn is_active(spec: &ProbeSpec, health: Health) -> bool {
    let starting = health == Health::StartingUp;
    spec.check.is_asked() && (spec.role == Role::Startup) == starting
}

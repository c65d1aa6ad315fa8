//! Promises about means of healing, whatever somebody thinks to have learnt, and about windows of maintenance.
//!
//! Duty: each choice that is told, and each outcome. Not here: budgets (`machines`).
//! Invariant: what is allowed is what the daemon was told last.

use hearth_core::{Announcement, Choice, HealingOrder, Moment, Outcome, Reason, ReplicaId, Rung};

use std::collections::BTreeMap;

use crate::trouble::Trouble;
use crate::wishes::NAMES;
use crate::world::World;

impl World {
    /// No means but those that the workload's file has, and no advice that costs data.
    pub(super) fn check_choice(&mut self, replica: ReplicaId, choice: Choice) {
        let Choice { rung, reason } = choice;
        let learnt = matches!(reason, Reason::Expected { .. });
        self.stats.learnt_choices += u64::from(learnt);
        let Some(place) = self.place_by_id(replica.workload) else { return };
        let Some(spec) = self.daemon.as_ref().and_then(|daemon| daemon.known.spec(place)) else { return };
        let allowed = match rung {
            Rung::RestartProcess => spec.allowed.process_restart,
            Rung::Restore => spec.allowed.restore,
            Rung::FreshDisk => spec.allowed.fresh_disk,
            Rung::Retry | Rung::ColdRestart | Rung::RollBack | Rung::Quarantine => true,
            Rung::ReExec | Rung::Reboot | Rung::StopPetting => false,
        };
        let lasts = |of: &BTreeMap<usize, Moment>| of.get(&place).is_some_and(|until| *until > self.now);
        // What ended well and is to run again is not healed.
        let agreed = lasts(&self.checks.agreed) || lasts(&self.checks.asked) || !self.is_in_trouble(replica);
        let why = match (allowed, learnt) {
            _ if !spec.healing.automatic.has(rung) && !agreed => "nobody agreed to it",
            (false, _) => "its file does not allow it",
            (true, true) if spec.healing.order != HealingOrder::Learnt => "its file wants another order",
            (true, true) if !rung.loses_nothing() => "what was learnt is no reason to lose something",
            _ => return,
        };
        self.found(Trouble::NotAllowed { name: NAMES[place].to_owned(), rung, why });
    }

    fn is_in_trouble(&self, id: ReplicaId) -> bool {
        let story = self.daemon.as_ref().and_then(|daemon| daemon.core.explain(id.workload));
        let replica =
            story.into_iter().flat_map(|story| story.replicas).find(|replica| replica.slot == id.slot);
        replica.is_some_and(|replica| replica.incident.is_some())
    }

    /// A new version takes over in a window of maintenance, in place of one in quarantine, or because a person asked.
    pub(super) fn check_window(&mut self, place: usize, announcement: &Announcement) {
        let began = matches!(announcement, Announcement::RolloutBegan { .. });
        let shut = self.daemon.as_ref().is_some_and(|daemon| daemon.core.window().is_shut());
        let asked = self.checks.asked.get(&place).is_some_and(|until| *until > self.now);
        if began && shut && !asked && !self.checks.alarms.contains(&place) {
            self.found(Trouble::OutOfWindow { name: NAMES[place].to_owned() });
        }
    }

    /// Nothing is to be learnt of what was not used, nor of what the box does for itself.
    pub(crate) fn check_outcome(&mut self, outcome: &Outcome) {
        self.stats.outcomes += 1;
        let Some(place) = self.place_by_id(outcome.workload) else { return };
        if matches!(outcome.rung, Rung::Quarantine | Rung::ReExec | Rung::Reboot | Rung::StopPetting) {
            let (name, rung) = (NAMES[place].to_owned(), outcome.rung);
            self.found(Trouble::NotAllowed { name, rung, why: "it heals no replica" });
        }
    }
}

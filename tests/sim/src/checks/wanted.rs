//! The promise that what is wanted is there in the end.
//!
//! Duty: two looks, one after the box could heal itself, one after the person did what only a person can.
//! Not here: how long either may take (`weather`).
//! Invariant: machines count as the world sees them; what the core says of itself only tells why one may be missing.

use hearth_core::{Breaker, End, Kind, Lifecycle, Phase, ReplicaStory};

use crate::guest::{Quality, Stage};
use crate::trouble::Trouble;
use crate::wishes::{NAMES, Wishes};
use crate::world::World;

/// Somebody has to agree.
fn is_proposed(replica: &ReplicaStory) -> bool {
    replica.incident.as_ref().is_some_and(|incident| incident.proposed.is_some())
}

impl World {
    /// What the box could heal by itself, it has healed.
    pub(crate) fn check_healed(&mut self) {
        let phase = self.daemon.as_ref().map(|daemon| daemon.core.phase());
        let what = match phase {
            Some(Phase::Safe) => Some("the box does not leave safe mode by itself".to_owned()),
            _ => (0..NAMES.len()).find_map(|place| self.unhealed(place)),
        };
        let Some(what) = what else { return };
        self.found(Trouble::NotConverged { what });
    }

    fn unhealed(&self, place: usize) -> Option<String> {
        let daemon = self.daemon.as_ref().filter(|daemon| daemon.core.phase() == Phase::Up)?;
        let spec = daemon.known.spec(place)?;
        let explained = daemon.core.explain(daemon.core.id_of(NAMES[place])?)?;
        // Bad versions, alarms, rejected versions, want of room and what waits for such: a person has to help.
        let bad = self.person.quality(spec.build.version) != Quality::Good
            || explained.breaker != Breaker::Closed
            || explained.rejected.is_some()
            || explained.held.is_some()
            || explained.orphaned
            || explained.stopped
            // A workload that was removed and added again may have forgotten a person's wishes, or not yet.
            || daemon.known.stopped[place]
            || explained.scale != daemon.known.scale[place]
            || explained.replicas.iter().any(|replica| replica.hold.is_some() || is_proposed(replica))
            || explained
                .replicas
                .iter()
                .any(|replica| matches!(replica.lifecycle, Lifecycle::Ended(End::Failed(_))));
        if bad { None } else { self.unlike_wanted(place, &daemon.known) }
    }

    /// All that is wanted is there, and nothing else.
    pub(crate) fn check_converged(&mut self) {
        let phase = self.daemon.as_ref().map(|daemon| daemon.core.phase());
        let what = if phase == Some(Phase::Up) {
            (0..NAMES.len()).find_map(|place| self.unlike_wanted(place, &self.person.wishes))
        } else {
            Some(format!("the box is in phase {phase:?}"))
        };
        if let Some(what) = what {
            self.found(Trouble::NotConverged { what });
        }
    }

    fn unlike_wanted(&self, place: usize, wishes: &Wishes) -> Option<String> {
        let daemon = self.daemon.as_ref()?;
        let name = NAMES[place];
        let wants = usize::from(wishes.wants(place));
        let there = self.guests.values().filter(|guest| guest.key.name == place);
        let Some(spec) = wishes.spec(place) else {
            let left = there.count();
            return (left > 0).then(|| format!("{name} is not wanted, and {left} machines are there"));
        };
        let explained = daemon.core.explain(daemon.core.id_of(name)?)?;
        if spec.kind == Kind::Job {
            let done = explained.replicas.iter().any(|replica| {
                replica.lifecycle == Lifecycle::Ended(End::Done) && replica.version == spec.build.version
            });
            return (!done).then(|| format!("{name} is not done: {:?}", explained.replicas));
        }
        let right = there
            .clone()
            .filter(|guest| {
                guest.build == spec.build && guest.stage == Stage::Up && usize::from(guest.key.slot) < wants
            })
            .count();
        let ready = explained.replicas.iter().filter(|replica| replica.lifecycle.is_ready()).count();
        let all = there.count();
        (right != wants || all != wants || ready != wants).then(|| {
            format!(
                "{name}: {wants} wanted, {all} there, {right} of them right, {ready} ready; {:?}, scale {:?}, orphaned: {}, requires {:?}, \
                 {:?}, {:?}, {:?}",
                spec.kind, explained.scale, explained.orphaned, spec.requires, explained.rollout, explained.breaker, explained.replicas
            )
        })
    }
}

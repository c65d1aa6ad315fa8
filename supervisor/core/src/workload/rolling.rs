//! New versions, and other reasons to replace machines that are well.
//!
//! Duty: which replica is replaced when, and what is made of a comparison. Not here: the comparison (`rollout`).
//! Invariant: beyond canaries, one replica is replaced at a time, and the next only when the last is ready again; a
//! rejected version is not tried again before somebody says so.

use crate::action::{Announcement, Hold};
use crate::breaker::Breaker;
use crate::id::Slot;
use crate::lifecycle::{Lifecycle, StopReason};
use crate::moment::Moment;
use crate::replica::Replica;
use crate::rollout::{
    Advice, Compared, Grounds, Group, Judged, Rollout, Tally, Trials, Verdict, canaries, judge,
};
use crate::spec::{Build, Kind};
use crate::turn::Turn;

use super::Workload;

impl Workload {
    pub(crate) fn is_candidate(&self, slot: Slot) -> bool {
        let candidate = self.rollout.candidate();
        candidate.is_some() && self.replica(slot).map(|replica| replica.build) == candidate
    }

    /// Whether it is to run the candidate.
    pub(crate) fn is_canary(&self, slot: Slot) -> bool {
        self.rollout.candidate().is_some() && slot.0 < self.rollout.moved()
    }

    /// Whether what it serves is the candidate's doing. One that only waits may still name the candidate as what it ran
    /// last.
    fn speaks_for_candidate(&self, replica: &Replica) -> bool {
        self.is_canary(replica.slot) && self.is_candidate(replica.slot)
    }

    /// Somebody wants this version.
    pub(crate) fn offer(&mut self, turn: &mut Turn<'_>, build: Build) {
        let candidate = self.rollout.candidate();
        let before = self.held.take();
        if candidate == Some(build) || self.rejected == Some(build.version) {
            return;
        }
        turn.moved = true;
        if build == self.current {
            if candidate.is_some() {
                self.reject(turn, Grounds::Undone);
                self.rejected = None;
            }
            return;
        }
        let direct = self.spec.kind == Kind::Job || !self.good || self.count == 0;
        if turn.window.is_shut() && !direct && !self.breaker.is_open() {
            if before != Some(build) {
                turn.tell(Announcement::RolloutWaits { workload: self.id, to: build.version });
            }
            self.held = Some(build);
            return;
        }
        // What is offered anew has not failed yet; and whoever offers it has seen the alarm.
        self.rejected = None;
        self.breaker.retry();
        if direct {
            if self.good {
                self.previous = Some(self.current);
            }
            self.current = build;
            self.good = false;
            self.rollout = Rollout::Steady;
        } else {
            self.judged = None;
            let canaries = canaries(&self.spec.rollout, self.count);
            let (from, to) = (self.current.version, build.version);
            self.rollout =
                Rollout::Canary { candidate: build, canaries, failures: 0, old_failures: 0, since: None };
            turn.tell(Announcement::RolloutBegan { workload: self.id, from, to, canaries });
        }
    }

    /// The candidate is not good enough.
    pub(crate) fn reject(&mut self, turn: &mut Turn<'_>, grounds: Grounds) {
        let Some(candidate) = self.rollout.candidate() else { return };
        self.rejected = Some(candidate.version);
        self.rejected_for = Some(grounds);
        self.rollout = Rollout::Reverting { bad: candidate.version };
        let (from, to) = (candidate.version, self.current.version);
        turn.tell(Announcement::RollingBack { workload: self.id, from, to, grounds });
        turn.moved = true;
    }

    /// Back from a version that had taken over.
    pub(crate) fn roll_back(&mut self, turn: &mut Turn<'_>, grounds: Grounds) {
        let Some(previous) = self.previous.take() else { return };
        let (from, to) = (self.current.version, previous.version);
        self.rejected = Some(from);
        self.rejected_for = Some(grounds);
        self.current = previous;
        self.good = true;
        self.rollout = Rollout::Reverting { bad: from };
        self.breaker.retry();
        turn.tell(Announcement::RollingBack { workload: self.id, from, to, grounds });
        turn.moved = true;
    }

    /// A person wants the version before, whatever the new one does.
    pub(crate) fn undo(&mut self, turn: &mut Turn<'_>) {
        if self.rollout.candidate().is_some() {
            self.reject(turn, Grounds::Undone);
        } else {
            self.roll_back(turn, Grounds::Undone);
        }
    }

    /// Goes on with whatever is being rolled out or replaced.
    pub(crate) fn roll(&mut self, turn: &mut Turn<'_>) {
        match self.rollout {
            Rollout::Steady => {}
            Rollout::Canary { canaries, since, .. } => self.canary_turn(turn, canaries, since),
            Rollout::Spreading { moved, .. } => {
                self.spreading_turn(turn, moved);
            }
            Rollout::Reverting { .. } => self.reverting_turn(turn),
        }
        self.replace_next(turn);
    }

    fn canary_turn(&mut self, turn: &mut Turn<'_>, canaries: u16, since: Option<Moment>) {
        if self.count == 0 {
            return self.complete(turn);
        }
        if self.never_got_ready(turn.now) {
            return self.reject(turn, Grounds::NotReadyInTime);
        }
        match since {
            None if self.all_ready(canaries) => {
                if let Rollout::Canary { since, .. } = &mut self.rollout {
                    *since = Some(turn.now);
                }
                for replica in &mut self.replicas {
                    replica.tally = Tally::fresh(turn.now, replica.lifecycle.is_ready());
                }
            }
            Some(since) if turn.now.since(since) >= self.spec.rollout.window => {
                match self.compare(turn.now, since) {
                    Verdict::Reject(grounds) => self.reject(turn, grounds),
                    Verdict::Promote => self.promote(turn, canaries),
                }
            }
            _ => {}
        }
    }

    fn compare(&self, now: Moment, since: Moment) -> Verdict {
        let (mut old, mut new) = (Group::default(), Group::default());
        for replica in self.replicas.iter().take(self.count) {
            let group = if self.speaks_for_candidate(replica) { &mut new } else { &mut old };
            group.add(replica.tally, now);
        }
        let advice = self.judged_of_candidate().map(|judged| judged.advice);
        judge(&self.spec.rollout, &old, &new, now.since(since), advice)
    }

    fn judged_of_candidate(&self) -> Option<Judged> {
        let version = self.rollout.candidate()?.version;
        self.judged.filter(|judged| judged.compared.version == version)
    }

    /// What both versions served since they are watched together.
    pub(crate) fn compared(&self) -> Option<Compared> {
        let version = self.rollout.candidate()?.version;
        if matches!(self.rollout, Rollout::Canary { since: None, .. }) {
            return None;
        }
        let old = match self.rollout {
            Rollout::Spreading { replaced, .. } => replaced,
            _ => Trials::default(),
        };
        let mut compared = Compared { version, old, new: Trials::default() };
        for replica in self.replicas.iter().take(self.count) {
            let speaks = self.speaks_for_candidate(replica);
            (if speaks { &mut compared.new } else { &mut compared.old }).add(replica.tally);
        }
        Some(compared)
    }

    /// Somebody weighed it. What is too little by the file is too little whoever weighs it, of either version: what is worse
    /// is worse than something that was seen.
    pub(crate) fn judged(&mut self, turn: &mut Turn<'_>, judged: Judged) {
        if self.rollout.candidate().is_none_or(|candidate| candidate.version != judged.compared.version) {
            return;
        }
        self.judged = Some(judged);
        let Compared { old, new, .. } = judged.compared;
        let is_enough = old.requests.min(new.requests) >= self.spec.rollout.requests;
        if judged.advice == Advice::RollBack && is_enough {
            self.reject(turn, judged.grounds());
        }
    }

    fn promote(&mut self, turn: &mut Turn<'_>, moved: u16) {
        let Rollout::Canary { candidate, failures, old_failures, .. } = self.rollout else { return };
        let replaced = Trials::default();
        self.rollout = Rollout::Spreading { candidate, moved, failures, old_failures, replaced };
        let judged = self.judged_of_candidate().filter(|judged| judged.advice == Advice::GoOn);
        turn.tell(Announcement::Promoted { workload: self.id, to: candidate.version, judged });
        turn.moved = true;
    }

    fn spreading_turn(&mut self, turn: &mut Turn<'_>, moved: u16) {
        if self.never_got_ready(turn.now) {
            return self.reject(turn, Grounds::NotReadyInTime);
        }
        if !self.all_ready(moved) {
            return;
        }
        if usize::from(moved) >= self.count {
            return self.complete(turn);
        }
        if let Rollout::Spreading { moved, .. } = &mut self.rollout {
            *moved += 1;
        }
        turn.moved = true;
    }

    fn complete(&mut self, turn: &mut Turn<'_>) {
        let Some(candidate) = self.rollout.candidate() else { return };
        self.previous = Some(self.current);
        self.current = candidate;
        // With no replica wanted, nobody has seen it work.
        self.good = self.count > 0;
        self.rollout = Rollout::Steady;
        turn.tell(Announcement::RolledOut { workload: self.id, to: candidate.version });
        turn.moved = true;
    }

    fn reverting_turn(&mut self, turn: &mut Turn<'_>) {
        let mut left = false;
        for slot in self.slots() {
            let Some(replica) = self.replica(slot) else { continue };
            if !replica.lifecycle.is_alive() || replica.build == self.target(slot) {
                continue;
            }
            left = true;
            if !matches!(replica.lifecycle, Lifecycle::Stopping { .. }) {
                self.stop(turn, slot, replica.polite(), StopReason::Replace);
            }
        }
        if !left {
            self.rollout = Rollout::Steady;
            turn.moved = true;
        }
    }

    /// Whether the first `moved` replicas run the candidate and are ready.
    fn all_ready(&self, moved: u16) -> bool {
        let candidate = self.rollout.candidate();
        let moved = usize::from(moved).min(self.count);
        self.replicas.len() >= moved
            && self
                .replicas
                .iter()
                .take(moved)
                .all(|replica| replica.lifecycle.is_ready() && Some(replica.build) == candidate)
    }

    /// A candidate that runs, and was not ready in all the time that it may take to start and be watched.
    fn never_got_ready(&self, now: Moment) -> bool {
        self.unready_until().is_some_and(|until| until <= now)
    }

    fn unready_until(&self) -> Option<Moment> {
        let patience = self.spec.start_within.saturating_add(self.spec.rollout.window);
        let candidates = self.replicas.iter().filter(|replica| {
            matches!(replica.lifecycle, Lifecycle::Running { .. })
                && !replica.lifecycle.is_ready()
                && self.is_candidate(replica.slot)
        });
        candidates.filter_map(|replica| Some(replica.running_since?.after(patience))).min()
    }

    pub(crate) fn rollout_deadline(&self) -> Option<Moment> {
        let window = match self.rollout {
            Rollout::Canary { since: Some(since), .. } => Some(since.after(self.spec.rollout.window)),
            _ => None,
        };
        window.into_iter().chain(self.rollout.candidate().and_then(|_| self.unready_until())).min()
    }

    /// Takes the next machine away that has to make room for another one, if all others are settled.
    fn replace_next(&mut self, turn: &mut Turn<'_>) {
        if let Some(slot) = self.outdated_trial()
            && let Some(replica) = self.replica(slot)
        {
            return self.stop(turn, slot, replica.polite(), StopReason::Replace);
        }
        if self.replicas.iter().take(self.count).any(|replica| self.is_in_motion(replica.slot)) {
            return;
        }
        let next = self.slots().take(self.count).find(|slot| {
            self.replica(*slot).is_some_and(|replica| {
                (matches!(replica.lifecycle, Lifecycle::Running { .. }) || replica.is_asked_amid_restart())
                    // A job is let end before its next version begins.
                    && (replica.replace || (!self.spec.kind.ends() && replica.build != self.target(*slot)))
            })
        });
        if let Some(slot) = next
            && let Some(replica) = self.replica(slot)
        {
            self.stop(turn, slot, replica.polite(), StopReason::Replace);
        }
    }

    /// All others wait for the one on trial, and it runs what is not wanted any more and will not get there.
    fn outdated_trial(&self) -> Option<Slot> {
        let Breaker::HalfOpen { trial: Some(trial) } = self.breaker else { return None };
        let replica = self.replica(trial.slot)?;
        let stuck = matches!(replica.lifecycle, Lifecycle::Running { .. }) && !replica.lifecycle.is_ready();
        (stuck && !self.spec.kind.ends() && replica.build != self.target(trial.slot)).then_some(trial.slot)
    }

    fn is_in_motion(&self, slot: Slot) -> bool {
        let Some(replica) = self.replica(slot) else { return false };
        match replica.lifecycle {
            Lifecycle::Restarting { .. } => !replica.is_asked_amid_restart(),
            Lifecycle::Starting { .. } | Lifecycle::Stopping { .. } => true,
            // Held for want of room: another version may be just what gives it room.
            Lifecycle::Waiting => !replica.hold.is_some_and(|hold| hold.is_room() || hold == Hold::Consent),
            Lifecycle::Running { .. } => !replica.lifecycle.is_ready() && self.is_candidate(slot),
            Lifecycle::Ending { .. } | Lifecycle::BackingOff { .. } | Lifecycle::Ended(_) => false,
        }
    }

    pub(crate) fn replace_all(&mut self) {
        for replica in self.replicas.iter_mut().filter(|replica| replica.lifecycle.is_alive()) {
            replica.replace = true;
        }
    }

    /// A person wants new machines.
    pub(crate) fn restart(&mut self, turn: &mut Turn<'_>) {
        self.replace_all();
        for replica in self.replicas.iter_mut().filter(|replica| replica.is_asked_without_machine()) {
            // That answers what would be done about the last one.
            replica.replace = true;
            replica.hold = None;
        }
        if self.breaker == (Breaker::HalfOpen { trial: None }) || self.breaker.is_open() {
            return self.retry(turn);
        }
        turn.moved = true;
    }
}

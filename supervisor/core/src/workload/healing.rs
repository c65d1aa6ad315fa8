//! Ends and failures, and what is done about them.
//!
//! ```text
//! unhealthy, machine there --> the ladder: within the guest?  --yes--> Restarting
//!                                                              --no---> Stopping --> machine gone
//! machine gone --> again? --no--> Ended        --yes--> the ladder: budget left? --yes--> BackingOff
//!                                                                                --no---> quarantined, announced
//! ```
//!
//! What the file does not let happen without a word is told when nothing else is left, and waits for that word: a machine
//! that is there stays as it is, one that is gone stays gone.
//!
//! Duty: classify, choose, use, verify, escalate. Not here: the ladder itself (`policy`), the proof that something is
//! healed (`incident`).
//! Invariant: no start after a failure without a grant from the budget; every opening of the breaker is announced.

use alloc::string::String;
use core::time::Duration;

use crate::action::{Action, Announcement, Order, StartHow};
use crate::backoff;
use crate::boot::Phase;
use crate::breaker::Breaker;
use crate::deadlines;
use crate::failure::Failure;
use crate::fault::{FaultClass, Source};
use crate::history::Cause;
use crate::id::Slot;
use crate::incident::Incident;
use crate::lifecycle::{End, Lifecycle, Means, StopReason};
use crate::policy::{Case, Choice, Reason, Rung, Rungs, StrengthLadder, Tried, choose};
use crate::ranking::{Expectation, Ranking};
use crate::replica::Replica;
use crate::rollout::{Grounds, Rollout};
use crate::spec::{HealingOrder, Kind, RestartPolicy};
use crate::turn::Turn;

use super::Workload;

/// A choice, and whether somebody has to agree to it.
enum Decision {
    Do(Choice),
    Propose(Choice),
}

impl Workload {
    /// Something is wrong in a machine that is there.
    pub(crate) fn unhealthy(&mut self, turn: &mut Turn<'_>, slot: Slot, failure: Failure) {
        if self.replica(slot).is_some_and(Replica::is_proposed) {
            // It goes on as it is until somebody agrees.
            return;
        }
        match self.with_its_machine(turn, slot, &failure) {
            Some(Decision::Do(choice)) => self.restart_process(turn, slot, failure, choice),
            Some(Decision::Propose(choice)) => self.propose(turn, slot, failure, choice),
            // A guest that does not answer is not asked.
            None => self.stop(turn, slot, Means::Terminate, StopReason::Failed(failure)),
        }
    }

    /// What is done while its machine is there: the workload is started again within it, or somebody is asked first. None:
    /// the machine goes.
    fn with_its_machine(&mut self, turn: &mut Turn<'_>, slot: Slot, failure: &Failure) -> Option<Decision> {
        let is_tried = turn.phase == Phase::Up
            && self.spec.restart.policy != RestartPolicy::Never
            && self.spec.kind != Kind::Job
            && !self.is_candidate(slot)
            && !self.breaker.is_on_trial(slot);
        let replica = self.replicas.get(slot.index())?;
        let in_guest = self.spec.allowed.process_restart
            && replica.agent
            && matches!(replica.lifecycle, Lifecycle::Running { .. });
        let asks = Rungs::of(&Rung::ALL) != self.spec.healing.automatic
            && matches!(replica.lifecycle, Lifecycle::Running { .. } | Lifecycle::Restarting { .. });
        if !is_tried || !(in_guest || asks) {
            return None;
        }
        let budget = self.spec.restart;
        // Beside what could be done with a new machine, which may be the better choice.
        let possible = self.possible(turn.disk_has_room, slot, failure);
        let possible = if in_guest { possible.with(Rung::RestartProcess) } else { possible };
        let budget_left = self.restarts.left(turn.now, budget.budget, budget.window);
        let (class, tried) = self.blame(turn, slot, failure)?;
        if let Some(choice) = self.agreed(slot, possible) {
            return (choice.rung == Rung::RestartProcess).then_some(Decision::Do(choice));
        }
        let case = Case { class, possible, tried, budget_left };
        let mut decision = self.decide(turn, &case);
        if matches!(decision, Decision::Do(choice) if choice.rung == Rung::RestartProcess) {
            if self.restarts.grant(turn.now, budget.budget, budget.window) {
                return Some(decision);
            }
            // What the budget refuses is one way less, and no leave to take the machine.
            decision = self.decide(turn, &Case { possible: possible.without(Rung::RestartProcess), ..case });
        }
        match decision {
            Decision::Do(_) => None,
            propose => Some(propose),
        }
    }

    /// Of what may be done without asking as long as that is worth a try; then of all.
    fn decide(&self, turn: &Turn<'_>, case: &Case) -> Decision {
        let automatic = self.spec.healing.automatic.with(Rung::Quarantine);
        let within = case.possible.and(automatic);
        let choice = self.choose(turn, &Case { possible: within, ..*case });
        // What loses something does not come sooner because somebody wants to be asked about what does not.
        let is_harmless = choice.rung.loses_nothing() && !choice.is_last_resort();
        if within == case.possible || is_harmless {
            return Decision::Do(choice);
        }
        let wanted = self.choose(turn, case);
        if automatic.has(wanted.rung) { Decision::Do(wanted) } else { Decision::Propose(wanted) }
    }

    /// Tells what would be done, and waits: with the machine as it is, or without one.
    fn propose(&mut self, turn: &mut Turn<'_>, slot: Slot, failure: Failure, choice: Choice) {
        let id = self.id_of(slot);
        if let Some(incident) = self.replica_mut(slot).and_then(|replica| replica.incident.as_mut()) {
            incident.proposed = Some(choice);
        }
        turn.tell(Announcement::Proposed { replica: id, failure, choice });
        turn.moved = true;
    }

    /// An earlier daemon asked, and whoever listens to this one has not heard it. What it asked about is not kept, nor what
    /// it had tried: it is decided anew, by the file of now.
    pub(crate) fn ask_again(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        self.heal(turn, slot, &Failure::Earlier);
    }

    /// The file lets more be done without asking: nobody is asked about that any more.
    pub(crate) fn ask_less(&mut self, turn: &mut Turn<'_>) {
        for slot in self.slots() {
            let proposed = self.proposed(slot);
            if proposed.is_some_and(|choice| self.spec.healing.automatic.has(choice.rung)) {
                self.answer(turn, slot, None);
            }
        }
    }

    /// What somebody agreed to, and was not done yet. No budget holds up a person's word. What is not possible any more is
    /// forgotten: who agreed to it did not agree to what is left.
    fn agreed(&mut self, slot: Slot, possible: Rungs) -> Option<Choice> {
        let consent = &mut self.replica_mut(slot)?.incident.as_mut()?.consent;
        *consent = consent.filter(|choice| possible.has(choice.rung));
        *consent
    }

    fn consent(&self, slot: Slot) -> Option<Choice> {
        self.replica(slot)?.incident.as_ref()?.consent
    }

    fn proposed(&self, slot: Slot) -> Option<Choice> {
        self.replica(slot)?.incident.as_ref()?.proposed
    }

    /// Somebody agrees to what is proposed.
    pub(crate) fn agree(&mut self, turn: &mut Turn<'_>) {
        for slot in self.slots() {
            if let Some(choice) = self.proposed(slot) {
                self.answer(turn, slot, Some(choice));
            }
        }
    }

    /// The question is answered, and what is wrong is looked at again.
    fn answer(&mut self, turn: &mut Turn<'_>, slot: Slot, consent: Option<Choice>) {
        let Some(replica) = self.replica_mut(slot) else { return };
        let Some(incident) = &mut replica.incident else { return };
        (incident.proposed, incident.consent) = (None, consent);
        let failure = incident.failure.clone();
        match replica.lifecycle {
            Lifecycle::Running { .. } | Lifecycle::Restarting { .. } => self.unhealthy(turn, slot, failure),
            Lifecycle::Waiting => self.heal(turn, slot, &failure),
            // It goes another way by now.
            _ => {}
        }
    }

    /// A guest that was silent is heard again: nobody has to agree to anything.
    pub(crate) fn beats_again(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        self.withdraw(turn, slot, |failure| *failure == Failure::HeartbeatLost);
    }

    /// Likewise of one whose workload came late.
    pub(crate) fn restarts_after_all(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        self.withdraw(turn, slot, |failure| *failure == Failure::ProcessNotRestarted);
    }

    /// Likewise of one whose answers were bad and are good.
    pub(crate) fn answers_again(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        self.withdraw(turn, slot, |failure| matches!(failure, Failure::Probe(_)));
    }

    fn withdraw(&mut self, turn: &mut Turn<'_>, slot: Slot, is_over: impl Fn(&Failure) -> bool) {
        let Some(replica) = self.replica_mut(slot) else { return };
        let is_ready = replica.lifecycle.is_ready();
        if let Some(incident) = &mut replica.incident
            && incident.proposed.is_some()
            && is_over(&incident.failure)
        {
            incident.proposed = None;
            if is_ready {
                incident.ready(turn.now);
            }
            // Something else may be wrong that nobody looked at meanwhile.
            turn.moved = true;
        }
    }

    fn restart_process(&mut self, turn: &mut Turn<'_>, slot: Slot, failure: Failure, choice: Choice) {
        let vm = self.vm(slot);
        if let Some(incident) = self.replica_mut(slot).and_then(|replica| replica.incident.as_mut()) {
            incident.use_rung(choice, turn.now, Duration::ZERO);
        }
        turn.tell(Announcement::ProcessRestart { replica: vm.replica, failure: failure.clone(), choice });
        let deadline = turn.now.after(deadlines::PROCESS_RESTART);
        self.go(turn, slot, Lifecycle::Restarting { deadline, failure }, Cause::Healing(choice));
        turn.order(vm, Order::RestartProcess);
    }

    /// The machine is gone, and this came of it.
    pub(crate) fn conclude(&mut self, turn: &mut Turn<'_>, slot: Slot, outcome: Result<(), Failure>) {
        let id = self.id_of(slot);
        if outcome.is_err() {
            let of_snapshot = self.doubt_snapshot(turn, slot);
            if !of_snapshot && !self.is_candidate(slot) {
                self.rollout.old_failed();
            }
        }
        turn.tell(match &outcome {
            Ok(()) => Announcement::Done { replica: id },
            Err(failure) => Announcement::Failed { replica: id, failure: failure.clone() },
        });
        let again = turn.phase == Phase::Up
            && match self.spec.restart.policy {
                RestartPolicy::Always => true,
                RestartPolicy::OnFailure => outcome.is_err(),
                RestartPolicy::Never => false,
            };
        match outcome {
            Err(failure) if turn.phase == Phase::Up && self.is_candidate(slot) => {
                self.candidate_failed(turn, slot, failure, again);
            }
            Err(failure) if again => self.heal(turn, slot, &failure),
            Err(failure) => self.end(turn, slot, End::Failed(failure.clone()), Cause::Failed(failure)),
            Ok(()) if again => {
                let kept = self.is_kept(self.target(slot));
                let rung = if kept { Rung::Restore } else { Rung::ColdRestart };
                let choice = Choice { rung, reason: Reason::Cheapest };
                self.schedule(turn, slot, choice, None);
            }
            Ok(()) => {
                self.good |= self.replicas[slot.index()].build == self.current;
                self.breaker.proven(slot);
                self.end(turn, slot, End::Done, Cause::MachineGone);
            }
        }
    }

    fn end(&mut self, turn: &mut Turn<'_>, slot: Slot, end: End, why: Cause) {
        if let Some(replica) = self.replica_mut(slot) {
            replica.incident = None;
            replica.attempts = 0;
        }
        self.breaker.withdrawn(slot);
        self.go(turn, slot, Lifecycle::Ended(end), why);
    }

    /// A new version's failure is first of all a word about the version.
    fn candidate_failed(&mut self, turn: &mut Turn<'_>, slot: Slot, failure: Failure, again: bool) {
        let count = self.rollout.failed();
        if count > self.rollout.forgiven(self.spec.rollout.failures, self.count) {
            // The replica itself is not to blame: it starts at once with what was good.
            if let Some(replica) = self.replica_mut(slot) {
                replica.incident = None;
                replica.attempts = 0;
            }
            self.reject(turn, Grounds::Failures { count });
            self.go(turn, slot, Lifecycle::Waiting, Cause::Failed(failure));
        } else if again {
            self.heal(turn, slot, &failure);
        } else {
            self.end(turn, slot, End::Failed(failure.clone()), Cause::Failed(failure));
        }
    }

    fn heal(&mut self, turn: &mut Turn<'_>, slot: Slot, failure: &Failure) {
        let budget = self.spec.restart;
        let budget_left = self.restarts.left(turn.now, budget.budget, budget.window);
        let possible = self.possible(turn.disk_has_room, slot, failure);
        // A version that nobody wants any more says nothing about the one that takes its place.
        let is_wanted = self.replica(slot).is_some_and(|replica| replica.build == self.target(slot));
        let on_trial = self.breaker.is_on_trial(slot) && is_wanted;
        let Some(replica) = self.replica(slot) else { return };
        let spent = self.spec.kind == Kind::Job
            && budget.retries.is_some_and(|retries| replica.attempts >= u32::from(retries));
        if spent {
            return self.end(turn, slot, End::Failed(failure.clone()), Cause::Failed(failure.clone()));
        }
        let Some((class, tried)) = self.blame(turn, slot, failure) else { return };
        if on_trial {
            return self.quarantine(turn, slot, failure);
        }
        if let Some(choice) = self.agreed(slot, possible) {
            return self.use_means(turn, slot, choice, failure);
        }
        match self.decide(turn, &Case { class, possible, tried, budget_left }) {
            Decision::Do(choice) => self.use_means(turn, slot, choice, failure),
            Decision::Propose(choice) => {
                if !self.replica(slot).is_some_and(|replica| replica.replace) {
                    self.propose(turn, slot, failure.clone(), choice);
                }
                self.go(turn, slot, Lifecycle::Waiting, Cause::Failed(failure.clone()));
            }
        }
    }

    /// Its machine is gone.
    fn use_means(&mut self, turn: &mut Turn<'_>, slot: Slot, choice: Choice, failure: &Failure) {
        match choice.rung {
            Rung::RollBack => {
                self.roll_back(turn, Grounds::LastResort);
                if let Some(replica) = self.replica_mut(slot) {
                    replica.incident = None;
                    replica.attempts = 0;
                }
                self.go(turn, slot, Lifecycle::Waiting, Cause::Healing(choice));
            }
            Rung::Quarantine => self.quarantine(turn, slot, failure),
            _ => self.schedule(turn, slot, choice, Some(failure)),
        }
    }

    /// Notes the failure, and what it says of the means that was to help.
    fn blame(&mut self, turn: &mut Turn<'_>, slot: Slot, failure: &Failure) -> Option<(FaultClass, Tried)> {
        let id = self.id;
        let incident = &mut self.replicas.get_mut(slot.index())?.incident;
        let incident = incident.get_or_insert_with(|| Incident::open(turn.now, failure));
        turn.actions.extend(incident.outcome(id, turn.now).map(Action::Learn));
        incident.again(failure);
        Some((incident.class, incident.tried))
    }

    fn choose(&self, turn: &Turn<'_>, case: &Case) -> Choice {
        match self.spec.healing.order {
            HealingOrder::Learnt => {
                let learnt = self.learnt.iter().find(|ranking| ranking.source() == case.class.source);
                choose(turn.policy, learnt, case)
            }
            HealingOrder::Cost => choose(turn.policy, None, case),
            HealingOrder::Strength => choose(&StrengthLadder, None, case),
        }
    }

    /// What could be done for a replica whose machine is gone.
    fn possible(&self, disk_has_room: bool, slot: Slot, failure: &Failure) -> Rungs {
        let allowed = self.spec.allowed;
        let build = self.target(slot);
        let mut possible = Rungs::of(&[Rung::ColdRestart, Rung::Quarantine]);
        if matches!(failure, Failure::NotSpawned(_)) {
            possible = possible.with(Rung::Retry);
        }
        if self.is_kept(build) {
            possible = possible.with(Rung::Restore);
        }
        if allowed.fresh_disk && disk_has_room {
            possible = possible.with(Rung::FreshDisk);
        }
        // A version that serves elsewhere is not what is wrong.
        let serves =
            self.replicas.iter().any(|other| other.lifecycle.is_ready() && other.build == self.current);
        if self.previous.is_some() && self.rollout == Rollout::Steady && !serves {
            possible = possible.with(Rung::RollBack);
        }
        possible
    }

    /// Starts it again after a while, if the budget allows.
    fn schedule(&mut self, turn: &mut Turn<'_>, slot: Slot, choice: Choice, failure: Option<&Failure>) {
        let budget = self.spec.restart;
        let agreed = self.consent(slot) == Some(choice);
        if !agreed && !self.restarts.grant(turn.now, budget.budget, budget.window) {
            let last = failure.cloned();
            return self.open_breaker(turn, slot, last);
        }
        let id = self.id_of(slot);
        if choice.rung == Rung::FreshDisk {
            // Its guest believes in the old disk.
            self.snapshot = None;
        }
        let roll = turn.dice.roll();
        let Some(replica) = self.replicas.get_mut(slot.index()) else { return };
        let steady = replica.running_since.is_some_and(|since| turn.now.since(since) >= backoff::STEADY);
        replica.attempts = if steady { 1 } else { replica.attempts.saturating_add(1) };
        let attempt = replica.attempts;
        // A first restore is over before a delay would be.
        let at_once = choice.rung == Rung::Restore && attempt == 1;
        let delay = if at_once { Duration::ZERO } else { backoff::delay(attempt, roll) };
        replica.how = Some(match choice.rung {
            Rung::Restore => StartHow::Restore,
            Rung::FreshDisk => StartHow::FreshDisk,
            _ => StartHow::Cold,
        });
        let until = turn.now.after(delay);
        if let Some(incident) = &mut replica.incident {
            // A first restore is spared it.
            let own =
                if choice.rung == Rung::Restore { Duration::ZERO } else { delay.min(backoff::FIRST_DELAY) };
            incident.use_rung(choice, until, own);
        }
        self.go(turn, slot, Lifecycle::BackingOff { until }, Cause::Healing(choice));
        turn.tell(Announcement::RestartIn { replica: id, attempt, delay, choice });
    }

    fn quarantine(&mut self, turn: &mut Turn<'_>, slot: Slot, failure: &Failure) {
        self.open_breaker(turn, slot, Some(failure.clone()));
    }

    fn open_breaker(&mut self, turn: &mut Turn<'_>, slot: Slot, failure: Option<Failure>) {
        if !self.breaker.is_open() {
            self.breaker = Breaker::Open { since: turn.now };
            let restarts = self.restarts.count();
            turn.tell(Announcement::Quarantined { workload: self.id, failure, restarts });
        }
        self.go(turn, slot, Lifecycle::Ended(End::Quarantined), Cause::Quarantine);
    }

    /// It stayed ready for long enough: what was wrong is gone.
    pub(crate) fn healed(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        let id = self.id_of(slot);
        let Some(replica) = self.replica_mut(slot) else { return };
        let Some(mut incident) = replica.incident.take() else { return };
        replica.attempts = 0;
        let lifecycle = replica.lifecycle.clone();
        turn.actions.extend(incident.outcome(self.id, turn.now).map(Action::Learn));
        let took = turn.now.since(incident.opened);
        turn.tell(Announcement::Healed { replica: id, rung: incident.last_rung(), took });
        self.go(turn, slot, lifecycle, Cause::Healed);
    }

    /// Somebody else most likely began what is wrong now; nothing, if nothing is.
    pub(crate) fn suspect(&mut self, turn: &mut Turn<'_>, whom: String) {
        let mut news = false;
        for incident in self.replicas.iter_mut().filter_map(|replica| replica.incident.as_mut()) {
            news |= incident.suspect.as_ref() != Some(&whom);
            incident.suspect = Some(whom.clone());
        }
        if news {
            turn.tell(Announcement::Suspected { workload: self.id, whom });
        }
    }

    /// What cured such faults of it before. Told when it changes what would be tried, not when it only counts better.
    pub(crate) fn learn(&mut self, turn: &mut Turn<'_>, source: Source, said: &[Expectation]) {
        let ranking = Ranking::new(source, said);
        let known = self.learnt.iter().position(|known| known.source() == source);
        let before = known.map(|place| self.learnt.remove(place).rungs()).unwrap_or_default();
        let order = ranking.as_ref().map(Ranking::rungs).unwrap_or_default();
        self.learnt.extend(ranking);
        if before != order && self.spec.healing.order == HealingOrder::Learnt {
            turn.tell(Announcement::Ranked { workload: self.id, source, order });
        }
    }
}

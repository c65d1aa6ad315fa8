//! How the workload as a whole stands.
//!
//! Duty: how many replicas are wanted, whether others may rely on it, what the next daemon has to know of it.
//! Not here: what follows (`state`). Invariant: nothing here moves anything.

use crate::breaker::Breaker;
use crate::id::Version;
use crate::lifecycle::{End, Lifecycle};
use crate::moment::Moment;
use crate::record::{Durable, Slots, Tripped};
use crate::replica::Replica;
use crate::spec::{Kind, MAX_REPLICAS};

use super::Workload;

impl Workload {
    /// How many replicas are wanted now.
    pub(crate) fn wanted_count(&self, now: Moment) -> usize {
        if !self.wanted || self.stopped || self.orphaned {
            return 0;
        }
        let count = match self.spec.kind {
            Kind::Service { replicas } => self.scale.unwrap_or_else(|| self.foreseen(replicas)),
            Kind::Job => 1,
            Kind::Function { most, .. } => self.called_for(most, now),
        };
        usize::from(count.min(MAX_REPLICAS))
    }

    /// What a service is to have if nobody scaled it.
    fn foreseen(&self, replicas: u16) -> u16 {
        self.spec.scaling.map_or(replicas, |bounds| bounds.hold(self.advised.unwrap_or(replicas)))
    }

    pub(crate) fn has_ready(&self) -> bool {
        self.replicas.iter().any(|replica| replica.lifecycle.is_ready())
    }

    pub(crate) fn has_machine(&self) -> bool {
        self.replicas.iter().any(|replica| replica.lifecycle.is_alive())
    }

    /// What it is for is there, as far as the box as a whole is concerned: all of a service is ready, a job is done.
    /// One that still runs may yet fail.
    pub(crate) fn is_complete(&self) -> bool {
        let wanted = || self.replicas.iter().take(self.count);
        match self.spec.kind {
            Kind::Service { .. } | Kind::Function { .. } => {
                !self.stopped
                    && !self.orphaned
                    && self.replicas.len() >= self.count
                    && wanted().all(|replica| replica.lifecycle.is_ready())
            }
            Kind::Job => wanted().any(|replica| replica.lifecycle == Lifecycle::Ended(End::Done)),
        }
    }

    /// Whether who waits for it may start.
    pub(crate) fn serves(&self) -> bool {
        match self.spec.kind {
            Kind::Service { .. } => self.replicas.iter().any(|replica| replica.lifecycle.is_ready()),
            Kind::Job => self.is_complete(),
            Kind::Function { .. } => self.wanted && !self.stopped && !self.breaker.is_open(),
        }
    }

    /// A function comes when it is called: that none of it runs is no reason for anybody.
    pub(crate) fn idles(&self) -> bool {
        matches!(self.spec.kind, Kind::Function { .. }) && self.wanted && !self.stopped && !self.orphaned
    }

    /// Nothing of it is wanted, or all of it has ended, and that stays so before somebody does something.
    pub(crate) fn is_given_up(&self, now: Moment) -> bool {
        let count = self.wanted_count(now);
        if count == 0 {
            return !self.idles();
        }
        let mut wanted = self.replicas.iter().take(count);
        !self.serves()
            && self.replicas.len() >= count
            && wanted.all(|replica| matches!(replica.lifecycle, Lifecycle::Ended(_)))
            && !self.has_machine()
    }

    /// Versions that its machines run, or may have to run.
    pub(crate) fn versions(&self) -> impl Iterator<Item = Version> {
        let ghosts = self.replicas.iter().flat_map(|replica| &replica.ghosts).map(|ghost| ghost.build);
        let machines = self.replicas.iter().map(|replica| replica.build).chain(ghosts);
        // The last good one above all: it is what a new one falls back to.
        let wanted = [self.current, self.spec.build].into_iter();
        let others = wanted.chain(self.previous).chain(self.rollout.candidate());
        others.chain(machines).map(|build| build.version).chain(self.snapshot)
    }

    /// What the next daemon has to know.
    pub(crate) fn durable(&self) -> Durable {
        Durable {
            last_run: self.last_run,
            kind: self.spec.kind,
            current: self.current,
            good: self.good,
            previous: self.previous,
            rejected: self.rejected,
            breaker: match self.breaker {
                Breaker::Closed => Tripped::Not,
                Breaker::Open { .. } => Tripped::Quarantined,
                Breaker::HalfOpen { .. } => Tripped::OnTrial,
            },
            stopped: self.stopped,
            scale: self.scale,
            done: self.ended(|end| *end == End::Done),
            failed: self.ended(|end| matches!(end, End::Failed(_))),
            asked: self.slots_of(|replica| replica.is_asked_without_machine() && !replica.replace),
            snapshot: self.snapshot,
        }
    }

    fn ended(&self, how: impl Fn(&End) -> bool) -> Slots {
        self.slots_of(|replica| matches!(&replica.lifecycle, Lifecycle::Ended(end) if how(end)))
    }

    fn slots_of(&self, is_such: impl Fn(&Replica) -> bool) -> Slots {
        let mut slots = Slots::default();
        for replica in self.replicas.iter().filter(|replica| replica.build == self.current) {
            if is_such(replica) {
                slots.add(replica.slot);
            }
        }
        slots
    }
}

//! A function: who calls it, who finds a warm machine, and how many wait for the next call.
//!
//! ```text
//!   called --fewer calls--> all are kept for `idle`
//!                             |  advice: so many more than are in use, for so long
//!                             v
//!                           kept by advice --its time and ADVICE_LATE--> none is kept
//! ```
//!
//! Duty: counting calls, what is kept and until when. Not here: starting and stopping (`state`), what is worth keeping
//! (`hearth-foresight`).
//! Invariants: what is in use and what is kept are together never more than the file allows; where nobody foresees, what
//! `idle` says holds.

use alloc::string::String;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::action::Announcement;
use crate::explain::CallStory;
use crate::id::Slot;
use crate::moment::Moment;
use crate::spec::Kind;
use crate::turn::Turn;

use super::Workload;

/// Advice whose time is over is renewed by whoever gave it; it may come so much late before it counts no more.
const ADVICE_LATE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Calling {
    /// Replicas that are asked for, as somebody said it.
    asked: u16,
    kept: Option<Kept>,
    /// Since the daemon began, and those of them that found no machine ready.
    calls: u64,
    cold: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// Together with those in use.
    replicas: u16,
    until: Moment,
    /// What is foreseen; none: `idle` of the file.
    why: Option<String>,
}

impl Kept {
    fn over(&self) -> Moment {
        if self.why.is_some() { self.until.after(ADVICE_LATE) } else { self.until }
    }
}

impl Calling {
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.kept.as_ref().map(Kept::over)
    }

    /// Whether something is not kept any more.
    pub(super) fn turn(&mut self, now: Moment) -> bool {
        let over = self.deadline().is_some_and(|over| over <= now);
        if over {
            self.kept = None;
        }
        over
    }

    fn kept(&self, now: Moment) -> Option<&Kept> {
        self.kept.as_ref().filter(|kept| kept.over() > now)
    }
}

impl Workload {
    /// How many machines of a function are wanted.
    pub(super) fn called_for(&self, most: u16, now: Moment) -> u16 {
        let least = self.spec.keep_warm.map_or(0, |bounds| bounds.hold(0));
        let kept = self.calling.kept(now).map_or(0, |kept| kept.replicas);
        self.calling.asked.saturating_add(least).max(kept).min(most)
    }

    pub(crate) fn demand(&mut self, turn: &mut Turn<'_>, replicas: u16) {
        let Kind::Function { most, idle } = self.spec.kind else { return };
        let (before, after) = (self.calling.asked.min(most), replicas.min(most));
        let ready = self.replicas.iter().filter(|replica| replica.lifecycle.is_ready()).count();
        let ready = u16::try_from(ready).unwrap_or(u16::MAX);
        self.calling.asked = replicas;
        if after < before {
            // Advice follows; until then nothing is ended that it might keep.
            let kept = self.calling.kept(turn.now).filter(|kept| kept.why.is_some());
            let replicas = kept.map_or(before, |kept| kept.replicas.max(before));
            self.calling.kept = Some(Kept { replicas, until: turn.now.after(idle), why: None });
        }
        let came = after.saturating_sub(before);
        let met = came - ready.min(after).saturating_sub(before).min(came);
        let Calling { calls, cold, .. } = &mut self.calling;
        (*calls, *cold) = (calls.saturating_add(came.into()), cold.saturating_add(met.into()));
        if met > 0 {
            let (workload, calls, cold) = (self.id, *calls, *cold);
            turn.tell(Announcement::ColdStart { workload, met, calls, cold });
        }
    }

    /// A machine of an earlier daemon is kept as if its call were over: whoever still uses it says so again.
    pub(crate) fn keep_found(&mut self, slot: Slot, now: Moment) {
        let Kind::Function { idle, .. } = self.spec.kind else { return };
        let before = self.calling.kept.as_ref().map_or(0, |kept| kept.replicas);
        let replicas = before.max(slot.0.saturating_add(1));
        self.calling.kept = Some(Kept { replicas, until: now.after(idle), why: None });
    }

    /// Told once it counts: advice that changes no number is no news.
    pub(crate) fn keep_warm(&mut self, turn: &mut Turn<'_>, idle: u16, lasts: Duration, why: String) {
        let (Kind::Function { most, .. }, Some(bounds)) = (self.spec.kind, self.spec.keep_warm) else {
            return;
        };
        let from = self.wanted_count(turn.now);
        let idle = bounds.hold(idle);
        let replicas = self.calling.asked.min(most).saturating_add(idle);
        let until = turn.now.after(lasts);
        self.calling.kept = Some(Kept { replicas, until, why: Some(why.clone()) });
        if self.wanted_count(turn.now) != from {
            turn.tell(Announcement::KeptWarm { workload: self.id, idle, lasts, why });
            turn.moved = true;
        }
    }

    pub(crate) fn calls(&self, now: Moment) -> Option<CallStory> {
        let Kind::Function { most, .. } = self.spec.kind else { return None };
        let in_use = self.calling.asked.min(most);
        let kept = self.calling.kept(now);
        Some(CallStory {
            in_use,
            idle: self.called_for(most, now).saturating_sub(in_use),
            until: kept.map(|kept| kept.until),
            why: kept.and_then(|kept| kept.why.clone()),
            calls: self.calling.calls,
            cold: self.calling.cold,
        })
    }
}

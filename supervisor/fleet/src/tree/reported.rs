//! What the box says of itself: one retained document.
//!
//! ```text
//! { "version": 7, "state": "accepted" | "converged" | "failed", "rejected": { "version": 8, "reason": "..." },
//!   "workloads": { "web": { "from": "fleet", "state": "ready", "converged": true } }, "precedence": "local-wins",
//!   "conflicts": ["web"], "counts": { ... } }
//! ```
//!
//! Duty: the document, and how often it is said. Not here: how workloads stand.
//! Invariant: it says what is, not what was wished; at most one in a while.

use std::time::Duration;

use hearth_core::Moment;
use serde_json::{Map, Value, json};

use super::stream::Remote;
use super::{Message, Tree};

/// Between two reports: a workload that comes and goes fills nobody's link.
const PAUSE: Duration = Duration::from_secs(2);
/// Faults of a document that are told; a person mends the first ones first.
const MAX_FAULTS: usize = 8;
/// Bytes of one.
const MAX_FAULT: usize = 300;

/// How a workload stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub name: String,
    pub state: String,
    /// It is what somebody wants of it.
    pub good: bool,
    /// It will not get there by itself.
    pub failed: bool,
    /// Why it is not.
    pub reason: Option<String>,
    /// The fleet's document says what it is, not a file of the box.
    pub from_fleet: bool,
    /// Who may ask it for what over the fleet's broker.
    pub remote: Remote,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) rejected_desired: u64,
    pub(super) rejected_commands: u64,
    /// On topics that are none.
    pub(super) foreign: u64,
    /// Desired states that were never looked at, because too many came.
    pub(super) passed_over: u64,
    /// Messages that a connection could not bring.
    pub(super) oversized: u64,
}

/// When the next report may go.
#[derive(Debug, Default)]
pub(super) struct Pace {
    changed: bool,
    not_before: Option<Moment>,
}

impl Pace {
    pub(super) fn touch(&mut self) {
        self.changed = true;
    }

    pub(super) fn due(&self) -> Option<Moment> {
        self.changed.then_some(self.not_before.unwrap_or(Moment::START))
    }

    pub(super) fn take(&mut self, now: Moment) -> bool {
        let may = self.changed && self.not_before.is_none_or(|at| at <= now);
        if may {
            self.changed = false;
            self.not_before = Some(now.after(PAUSE));
        }
        may
    }
}

pub(super) fn faults(faults: &[String]) -> String {
    let told = faults.iter().take(MAX_FAULTS).map(|fault| fault.chars().take(MAX_FAULT).collect::<String>());
    let mut told: Vec<String> = told.collect();
    if faults.len() > MAX_FAULTS {
        told.push(format!("{} more", faults.len() - MAX_FAULTS));
    }
    told.join("; ")
}

impl Tree {
    pub(super) fn reported(&self) -> Message {
        let mut workloads = Map::new();
        for standing in &self.standings {
            let from = if standing.from_fleet { "fleet" } else { "local" };
            let mut told = json!({ "from": from, "state": standing.state, "converged": standing.good });
            if let (Some(reason), Some(told)) = (&standing.reason, told.as_object_mut()) {
                told.insert("reason".to_owned(), Value::from(reason.as_str()));
            }
            workloads.insert(standing.name.clone(), told);
        }
        let rejected = self.rejected.as_ref();
        let report = json!({
            "version": self.current.as_ref().map_or(0, super::Desired::version),
            "state": self.state(),
            "rejected": rejected.map(|(version, reason)| json!({ "version": version, "reason": reason })),
            "workloads": workloads,
            "precedence": if self.rules.fleet_wins { "fleet-wins" } else { "local-wins" },
            "conflicts": self.conflicts,
            "keys": self.keyring.version,
            "counts": {
                "rejected_desired": self.counts.rejected_desired,
                "rejected_commands": self.counts.rejected_commands,
                "foreign": self.counts.foreign,
                "passed_over": self.counts.passed_over,
                "oversized": self.counts.oversized,
            },
        });
        Message { place: "reported".to_owned(), payload: report.to_string() }
    }

    /// Of the desired state: that its workloads are what it wants, as far as it is theirs to say.
    fn state(&self) -> &'static str {
        let Some(current) = &self.current else { return "none" };
        let wanted = current.workloads().filter(|(name, _)| current.names(name));
        let mut state = "converged";
        for (name, _) in wanted {
            match self.standings.iter().find(|standing| standing.name == name) {
                Some(standing) if standing.failed => return "failed",
                Some(standing) if standing.good => {}
                _ => state = "accepted",
            }
        }
        state
    }
}

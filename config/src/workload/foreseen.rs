//! What a workload lets the box do by what it foresees, its number of replicas aside.
//!
//! Duty: keys, defaults and contradictions of those tables. Not here: what is foreseen (`hearth-foresight`).

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::quantity::Mebibytes;
use crate::reader::Table;

use super::{Kind, SECONDS};

/// Machines of a function that wait for its next call: of so many the box learns when they are needed.
pub const KEPT_WARM: RangeInclusive<u64> = 1..=8;

/// MiB that a balloon leaves to a machine: no guest comes up with fewer, none has more.
const LEAST_MIB: RangeInclusive<u64> = 32..=65_536;

/// How many machines of a function wait for its next call, and what that is to weigh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepWarm {
    /// So many wait in any case.
    pub least: u16,
    pub most: u16,
    /// Of a machine that waits: so long is as bad as one call that finds none.
    pub worth: Duration,
    /// Otherwise it is shown what would be done, and `idle_s` holds.
    pub automatic: bool,
}

pub(super) fn keep_warm(table: &mut Table<'_>, kind: Kind) -> KeepWarm {
    let (fewest, largest) = (table.entry("least"), table.required("most", "a number of machines"));
    let least = fewest.small(0..=*KEPT_WARM.end(), "").unwrap_or(0);
    let most = largest.small(KEPT_WARM, "");
    if !matches!(kind, Kind::Function { .. }) {
        largest.fault("expected only for a function, which alone waits for calls");
    }
    if let Some(most) = most.filter(|most| *most < least) {
        largest.fault(format!("expected at least the {least} of keep_warm.least, found {most}"));
    }
    let worth = table.entry("cold_start_worth_s").number(SECONDS, " s").unwrap_or(600);
    KeepWarm {
        least,
        most: most.unwrap_or(least),
        worth: Duration::from_secs(worth),
        automatic: table.entry("automatic").flag().unwrap_or(true),
    }
}

/// How little its balloons may leave to its machines by what is foreseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ballooning {
    pub least: Mebibytes,
    /// Otherwise it is shown what would be done, and only a box that is short of memory asks for any.
    pub automatic: bool,
}

pub(super) fn ballooning(table: &mut Table<'_>, memory: Mebibytes, balloon: bool) -> Ballooning {
    let entry = table.required("least_mib", "MiB that are left to a machine");
    let least = entry.small(LEAST_MIB, " MiB");
    if !balloon {
        entry.fault("expected resources.balloon = true beside it, without a balloon nothing is taken");
    }
    if let Some(least) = least.filter(|least| *least > memory.0) {
        entry.fault(format!("expected at most the {} of resources.memory_mib, found {least}", memory.0));
    }
    Ballooning {
        least: least.map_or(memory, Mebibytes),
        automatic: table.entry("automatic").flag().unwrap_or(false),
    }
}

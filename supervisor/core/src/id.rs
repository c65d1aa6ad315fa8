//! Names of things that run.
//!
//! Duty: numbers that cannot be mixed up. Not here: who hands them out (`state`).
//! Invariant: a [`WorkloadId`] is never used for a second workload, a [`Run`] never for a second machine of one
//! workload, so a late word about something gone cannot be taken for one about what came after it.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A workload of the box, as long as the core knows it. Handed out in the order of the first configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkloadId(pub(crate) u32);

/// The place of a replica within its workload, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(pub u16);

/// An identity: at no time do two machines have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId {
    pub workload: WorkloadId,
    pub slot: Slot,
}

/// Counts the machines of one workload; the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Run(pub u32);

/// One machine in its one life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vm {
    pub replica: ReplicaId,
    pub run: Run,
}

/// What is inside a machine: a digest that its owner makes of image, command, the workload's kind and everything else
/// that takes a new machine to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version(pub u64);

impl WorkloadId {
    pub const fn replica(self, slot: Slot) -> ReplicaId {
        ReplicaId { workload: self, slot }
    }

    pub const fn number(self) -> u32 {
        self.0
    }

    /// For who has it in writing.
    pub const fn from_number(number: u32) -> WorkloadId {
        WorkloadId(number)
    }
}

impl Slot {
    pub const FIRST: Slot = Slot(0);

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Slots beyond the last one there can be count as the last.
    pub(crate) fn at(index: usize) -> Slot {
        Slot(u16::try_from(index).unwrap_or(u16::MAX))
    }
}

impl ReplicaId {
    pub const fn run(self, run: Run) -> Vm {
        Vm { replica: self, run }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 32)
    }
}

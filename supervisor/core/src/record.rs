//! What outlives the daemon.
//!
//! Duty: the little that cannot be seen in the running machines and the files. Not here: writing it (the shell's
//! store), taking it up again (`state::opening`).
//! Invariant: a record alone never makes anything run: a workload that is in no configuration stays a record.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::budget::Restarts;
use crate::id::{Run, Version};
use crate::moment::Moment;
use crate::policy::Tried;
use crate::spec::Build;

/// One workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub name: String,
    pub durable: Durable,
    /// Their moments count within one boot of the box.
    pub restarts: Restarts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    pub last_run: Run,
    /// What its replicas run, apart from a rollout that is under way.
    pub current: Build,
    /// Whether a replica of it ever was ready.
    pub good: bool,
    /// The good one before.
    pub previous: Option<Build>,
    /// Not to be tried again.
    pub rejected: Option<Version>,
    pub breaker: Tripped,
    /// A person stopped it.
    pub stopped: bool,
    /// A person's number of replicas.
    pub scale: Option<u16>,
    /// The job is done in this version.
    pub done: Option<Version>,
    /// The version that a warm snapshot is there of.
    pub snapshot: Option<Version>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tripped {
    Not,
    Quarantined,
    OnTrial,
}

/// The box itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// What was done about the daemon's own late parts.
    pub tried: Tried,
    /// When it was last done.
    pub healed: Option<Moment>,
}

impl Record {
    /// Every version that must stay on disk for this workload.
    pub fn versions(&self) -> Vec<Version> {
        [Some(self.durable.current), self.durable.previous]
            .into_iter()
            .flatten()
            .map(|build| build.version)
            .collect()
    }
}

//! What outlives the daemon.
//!
//! Duty: the little that cannot be seen in the running machines and the files. Not here: writing it (the shell's
//! store), taking it up again (`state::opening`).
//! Invariant: a record alone never makes anything run: a workload that is in no configuration stays a record.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::budget::Restarts;
use crate::id::{Run, Slot, Version};
use crate::moment::Moment;
use crate::policy::Tried;
use crate::spec::{Build, Kind, MAX_REPLICAS};

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
    pub kind: Kind,
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
    /// Replicas of the current version that ended well, and that is that.
    pub done: Slots,
    /// Replicas of the current version that failed, and are not tried again.
    pub failed: Slots,
    /// Replicas of the current version that wait for somebody to agree to what is to heal them.
    pub asked: Slots,
    /// The version that a warm snapshot is there of.
    pub snapshot: Option<Version>,
}

/// Some of a workload's replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots(u64);

// Each replica has a bit.
const _: () = assert!(MAX_REPLICAS as u32 <= u64::BITS);

impl Slots {
    pub(crate) fn add(&mut self, slot: Slot) {
        self.0 |= 1_u64.checked_shl(u32::from(slot.0)).unwrap_or_default();
    }

    pub fn has(self, slot: Slot) -> bool {
        self.0 & 1_u64.checked_shl(u32::from(slot.0)).unwrap_or_default() != 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Slot> {
        (0..MAX_REPLICAS).map(Slot).filter(move |slot| self.has(*slot))
    }
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
    /// Reboots that were to heal the box, over all boots, and are not forgiven yet.
    pub reboots: u8,
    /// Somebody has ended this boot's safe mode.
    pub left_safe_mode: bool,
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

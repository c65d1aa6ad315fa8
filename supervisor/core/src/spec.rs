//! What a person or the fleet wants of the box.
//!
//! Duty: the types of the desired state, and their defaults. Not here: orders that cannot be kept (`order`), what a
//! change of it leads to (`state`).
//! Invariant: a [`Spec`] holds nothing that happened, only what is wanted; two equal ones change nothing.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::deadlines::{self, StopTimes};
use crate::id::Version;
use crate::insight::{Ballooning, KeepWarm, Scaling};
use crate::policy::{Rung, Rungs};
use crate::probe::ProbeSpec;
use crate::watchdog::WatchdogSpec;

/// Replicas of one workload: more than a gateway has memory for.
pub const MAX_REPLICAS: u16 = 64;
/// Restarts within a window, at most: each is remembered.
pub const MAX_BUDGET: u16 = 64;

/// All that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub device: DeviceSpec,
    pub workloads: Vec<Spec>,
}

/// What is wanted of the box as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    pub capacity: Capacity,
    pub stop: StopTimes,
    pub watchdog: WatchdogSpec,
    /// Boots in a row that failed early, after which the box starts no workloads.
    pub safe_mode_after: u8,
    /// After this the box tries its workloads again by itself; none: it waits for somebody.
    pub safe_mode_for: Option<Duration>,
}

impl Default for DeviceSpec {
    fn default() -> DeviceSpec {
        DeviceSpec {
            capacity: Capacity::UNLIMITED,
            stop: StopTimes::default(),
            watchdog: WatchdogSpec::default(),
            safe_mode_after: 3,
            safe_mode_for: Some(Duration::from_secs(900)),
        }
    }
}

/// What machines may take together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    pub memory_mib: u32,
    /// Thousandths of a processor.
    pub cpu_milli: u32,
    /// 100 promises nothing twice; more is the owner's decision.
    pub memory_percent: u16,
    pub cpu_percent: u16,
}

impl Capacity {
    pub const UNLIMITED: Capacity =
        Capacity { memory_mib: u32::MAX, cpu_milli: u32::MAX, memory_percent: 100, cpu_percent: 100 };

    /// What may be promised.
    pub fn promise(&self) -> Needs {
        let of = |value: u32, percent: u16| {
            u32::try_from(u64::from(value) * u64::from(percent) / 100).unwrap_or(u32::MAX)
        };
        Needs {
            memory_mib: of(self.memory_mib, self.memory_percent),
            cpu_milli: of(self.cpu_milli, self.cpu_percent),
        }
    }
}

/// What one machine takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    pub memory_mib: u32,
    /// Thousandths of a processor.
    pub cpu_milli: u32,
}

impl Needs {
    pub(crate) fn plus(self, more: Needs) -> Needs {
        Needs {
            memory_mib: self.memory_mib.saturating_add(more.memory_mib),
            cpu_milli: self.cpu_milli.saturating_add(more.cpu_milli),
        }
    }

    pub(crate) fn fits(self, within: Needs) -> bool {
        self.memory_mib <= within.memory_mib && self.cpu_milli <= within.cpu_milli
    }
}

/// What is inside the machines of a workload, and what they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    pub version: Version,
    pub needs: Needs,
}

/// What it means that a workload ends, and how many of it there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Meant to run for ever; others may start once one replica is ready.
    Service { replicas: u16 },
    /// Meant to end; others may start once it has ended with success.
    Job,
    /// Runs while somebody wants it; others need not wait for it.
    Function { most: u16, idle: Duration },
}

impl Kind {
    /// Meant to end.
    pub(crate) fn ends(self) -> bool {
        self == Kind::Job
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartSpec {
    pub policy: RestartPolicy,
    /// How often a job may fail and be tried again; none is: as often as the budget lets it.
    pub retries: Option<u16>,
    /// Restarts within `window`, of all replicas together. The next one quarantines.
    pub budget: u16,
    pub window: Duration,
}

impl RestartSpec {
    pub const fn new(policy: RestartPolicy) -> RestartSpec {
        RestartSpec { policy, retries: None, budget: 10, window: Duration::from_secs(600) }
    }
}

/// How a new version takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutSpec {
    /// Replicas that go first, in percent; at least one.
    pub canary_percent: u8,
    /// How long they are watched, once all of them are ready.
    pub window: Duration,
    /// Failures of the new version that are forgiven.
    pub failures: u16,
    /// How much worse than the old version's the new one's rate of errors may be, in thousandths.
    pub error_margin_milli: u16,
    /// How much less of the window than the old ones the new replicas may be ready, in thousandths.
    pub readiness_margin_milli: u16,
    /// Fewer requests than this say nothing about errors.
    pub requests: u32,
}

impl Default for RolloutSpec {
    fn default() -> RolloutSpec {
        RolloutSpec {
            canary_percent: 10,
            window: Duration::from_secs(120),
            failures: 0,
            error_margin_milli: 20,
            readiness_margin_milli: 50,
            requests: 20,
        }
    }
}

/// What may be done to heal or squeeze a workload's machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// Its agent can start the workload again within the guest.
    pub process_restart: bool,
    /// A warm snapshot is kept for it.
    pub restore: bool,
    /// Its disk holds nothing that cannot be made again.
    pub fresh_disk: bool,
    /// Its machines have a balloon.
    pub balloon: bool,
}

/// Which means of healing come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealingOrder {
    /// What cured such faults before, once enough is known; until then as [`HealingOrder::Cost`].
    #[default]
    Learnt,
    /// The cheapest.
    Cost,
    /// What undoes least.
    Strength,
}

/// How a workload is healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealingSpec {
    pub order: HealingOrder,
    /// What is done without asking anybody.
    pub automatic: Rungs,
}

impl Default for HealingSpec {
    fn default() -> HealingSpec {
        HealingSpec { order: HealingOrder::default(), automatic: Rungs::of(&Rung::ALL) }
    }
}

/// One workload as somebody wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    pub name: String,
    pub kind: Kind,
    pub build: Build,
    /// Starts once these are ready.
    pub after: Vec<String>,
    /// Likewise, and stops before one of these is stopped or given up.
    pub requires: Vec<String>,
    pub probes: Vec<ProbeSpec>,
    /// From the start of a machine until its workload runs.
    pub start_within: Duration,
    pub restart: RestartSpec,
    pub rollout: RolloutSpec,
    pub allowed: Allowed,
    pub healing: HealingSpec,
    /// What all its replicas may take together; none is: what the box has.
    pub ceiling: Option<Needs>,
    /// What it may log in a minute; none is: no limit.
    pub log_bytes_per_minute: Option<u32>,
    /// Between which numbers of replicas a service follows what is foreseen; none is: it is what its file says.
    pub scaling: Option<Scaling>,
    /// How many machines of a function are kept by what is foreseen; none is: all of them, for as long as `idle` says.
    pub keep_warm: Option<KeepWarm>,
    /// Whether balloons follow what is foreseen; none is: only pressure.
    pub ballooning: Option<Ballooning>,
}

impl Spec {
    /// A workload that beats, and with nothing special about it.
    pub fn new(name: &str, kind: Kind, build: Build) -> Spec {
        let policy = match kind {
            Kind::Service { .. } => RestartPolicy::Always,
            Kind::Job => RestartPolicy::Never,
            Kind::Function { .. } => RestartPolicy::OnFailure,
        };
        Spec {
            name: name.into(),
            kind,
            build,
            after: Vec::new(),
            requires: Vec::new(),
            probes: alloc::vec![ProbeSpec::heartbeat(deadlines::HEARTBEAT, deadlines::HEARTBEAT_LOST)],
            start_within: deadlines::START,
            restart: RestartSpec::new(policy),
            rollout: RolloutSpec::default(),
            allowed: Allowed::default(),
            healing: HealingSpec::default(),
            ceiling: None,
            log_bytes_per_minute: None,
            scaling: None,
            keep_warm: None,
            ballooning: None,
        }
    }

    /// Whom it waits for.
    pub(crate) fn predecessors(&self) -> impl Iterator<Item = &String> {
        self.after.iter().chain(&self.requires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_is_what_there_is_unless_the_owner_says_more() {
        let capacity = Capacity { memory_mib: 1000, cpu_milli: 4000, memory_percent: 100, cpu_percent: 250 };
        assert_eq!(capacity.promise(), Needs { memory_mib: 1000, cpu_milli: 10_000 });
        assert_eq!(Capacity::UNLIMITED.promise().memory_mib, u32::MAX);
    }
}

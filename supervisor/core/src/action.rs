//! What the core wants done, and what it wants told.
//!
//! Duty: the words of the core for the shell. Not here: carrying them out, text for people.
//! Invariant: actions are carried out in their order; a [`Record`] comes before what it makes true.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::boot::BootReason;
use crate::failure::Failure;
use crate::fault::Source;
use crate::id::{ReplicaId, Run, Version, Vm, WorkloadId};
use crate::incident::Outcome;
use crate::lifecycle::Means;
use crate::moment::Moment;
use crate::order::ConfigFault;
use crate::policy::{Choice, Rung};
use crate::pressure::{Level, Resource};
use crate::record::{DeviceRecord, Record};
use crate::rollout::{Grounds, Judged};
use crate::spec::Build;
use crate::watchdog::Subsystem;

/// In their order.
pub type Actions = Vec<Action>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    Vm {
        vm: Vm,
        order: Order,
    },
    /// Tell people.
    Announce(Announcement),
    /// Keep this for the next daemon, in place of the workload's earlier record.
    Remember(Box<Record>),
    RememberDevice(DeviceRecord),
    /// The workload is gone, and so may be its record and files.
    Forget {
        workload: WorkloadId,
        name: String,
    },
    /// The hardware's watchdog has earned one pet.
    Pet,
    /// This boot came up well: failed ones before it count no more.
    BootSettled,
    /// Cut the logs of all workloads to what their files may hold at least.
    TrimLogs,
    /// Remove what was stored of versions that are not in this list. What the files of the configuration name stays,
    /// too: the person may have written them just now.
    CollectImages {
        keep: Vec<Version>,
    },
    /// Drop what the workload logs, and count it.
    LimitLogs {
        workload: WorkloadId,
        until: Moment,
    },
    /// Begin again as a new daemon; machines stay.
    ReExec,
    /// All is down: boot again, and keep the reason.
    Reboot {
        reason: BootReason,
    },
    /// All is down: leave.
    Finish,
    /// What came of a means of healing, for whoever learns from it.
    Learn(Outcome),
}

/// What is to be done with one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Make and start it.
    Start { build: Build, how: StartHow },
    /// Ask its agent to stop the workload and power off.
    AskAgent { grace: Duration },
    /// SIGTERM to the monitor.
    Terminate,
    /// SIGKILL to the monitor.
    Kill,
    /// Have its agent start the workload again in the same guest.
    RestartProcess,
    /// Ask a question of the workload's list, and report the answer.
    Probe { probe: u8, timeout: Duration },
    /// Whether it gets traffic.
    Traffic { open: bool },
    /// Keep a warm snapshot of it, for its version and in place of an earlier one of its workload; it goes on running.
    Snapshot,
    /// How much its balloon is to hold.
    Balloon { mib: u32 },
}

/// From what a machine is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartHow {
    Cold,
    /// From the warm snapshot of its version.
    Restore,
    /// With a disk made anew.
    FreshDisk,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Announcement {
    Running {
        replica: ReplicaId,
    },
    /// It ended with success.
    Done {
        replica: ReplicaId,
    },
    Failed {
        replica: ReplicaId,
        failure: Failure,
    },
    /// It will start again.
    RestartIn {
        replica: ReplicaId,
        attempt: u32,
        delay: Duration,
        choice: Choice,
    },
    /// Its workload is started again within the guest.
    ProcessRestart {
        replica: ReplicaId,
        failure: Failure,
        choice: Choice,
    },
    /// An alarm: this would be done next, if somebody agreed.
    Proposed {
        replica: ReplicaId,
        failure: Failure,
        choice: Choice,
    },
    /// It stayed ready after this.
    Healed {
        replica: ReplicaId,
        rung: Option<Rung>,
        took: Duration,
    },
    /// It waits for a workload that will not get there.
    Blocked {
        workload: WorkloadId,
        on: WorkloadId,
    },
    /// There is no room for it at present.
    NoRoom {
        replica: ReplicaId,
        hold: Hold,
    },
    /// It does not stop when asked; a stronger means follows.
    Stubborn {
        replica: ReplicaId,
        means: Means,
    },
    /// Its monitor does not even die when killed.
    Lost {
        replica: ReplicaId,
    },
    /// A second machine of one identity was found; the older one is ended.
    Duplicate {
        replica: ReplicaId,
        run: Run,
    },
    /// An alarm: nothing more is tried until somebody says so.
    Quarantined {
        workload: WorkloadId,
        failure: Option<Failure>,
        restarts: u16,
    },
    Retried {
        workload: WorkloadId,
    },
    RolloutBegan {
        workload: WorkloadId,
        from: Version,
        to: Version,
        canaries: u16,
    },
    /// The canaries did well: the others follow.
    Promoted {
        workload: WorkloadId,
        to: Version,
        /// What was made of how it serves, if anything.
        judged: Option<Judged>,
    },
    RolledOut {
        workload: WorkloadId,
        to: Version,
    },
    RollingBack {
        workload: WorkloadId,
        from: Version,
        to: Version,
        grounds: Grounds,
    },
    LogsLimited {
        workload: WorkloadId,
        until: Moment,
    },
    ConfigApplied {
        added: usize,
        changed: usize,
        removed: usize,
    },
    ConfigRefused {
        faults: Vec<ConfigFault>,
    },
    /// Machines of an earlier daemon were taken over.
    Adopted {
        machines: usize,
    },
    /// Other than by plain power-on after a good boot.
    Booted {
        reason: BootReason,
        failed_boots: u8,
    },
    /// Too many boots failed: no workload starts.
    SafeMode {
        failed_boots: u8,
        /// For how long, if it ends by itself.
        held: Option<Duration>,
    },
    /// The box tries its workloads again, by itself.
    SafeModeOver,
    /// A critical part of the daemon does not meet its deadline; the watchdog is not petted.
    Late {
        subsystem: Subsystem,
    },
    Timely {
        subsystem: Subsystem,
    },
    HealingBox {
        subsystem: Subsystem,
        choice: Choice,
    },
    DiskFull,
    /// Every service runs, every job is done.
    Ready {
        ready: usize,
        of: usize,
    },
    /// Nothing is on the way any more, and some did not get there.
    NotReady {
        ready: usize,
        of: usize,
    },
    Stopping,
    Stopped,
    /// Memory or disk is short, or is not any more.
    Pressure {
        resource: Resource,
        level: Level,
    },
    /// What is foreseen wants another number of replicas.
    Scaled {
        workload: WorkloadId,
        from: usize,
        to: usize,
        why: String,
    },
    /// Something is as it never was; none: about the box itself.
    Odd {
        workload: Option<WorkloadId>,
        what: String,
    },
    /// So many calls of a function found no machine ready; and of all calls since the daemon began, so many.
    ColdStart {
        workload: WorkloadId,
        met: u16,
        calls: u64,
        cold: u64,
    },
    /// What is foreseen wants another number of machines to wait for the next call.
    KeptWarm {
        workload: WorkloadId,
        idle: u16,
        lasts: Duration,
        why: String,
    },
    /// What is foreseen leaves another share of its memory to each machine.
    Ballooned {
        workload: WorkloadId,
        left_mib: u32,
        of_mib: u32,
        why: String,
    },
    /// What cured before wants another order of means for faults from there; empty: cheapest first again.
    Ranked {
        workload: WorkloadId,
        source: Source,
        order: Vec<Rung>,
    },
    /// Somebody else most likely began what is wrong with it.
    Suspected {
        workload: WorkloadId,
        whom: String,
    },
    /// A new version is there, and waits for the next window of maintenance.
    RolloutWaits {
        workload: WorkloadId,
        to: Version,
    },
}

/// Why a replica that is wanted does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Hold {
    /// That one is not ready.
    Dependency(WorkloadId),
    /// The box's memory is promised to others.
    Memory,
    /// Likewise its processors.
    Cpu,
    /// The workload's own ceiling.
    Ceiling,
    /// Memory is short.
    Pressure,
    /// Another replica is on trial after a quarantine.
    Trial,
    /// An older machine still has its identity.
    Identity,
    /// Somebody has to agree to what is to heal it.
    Consent,
}

impl Hold {
    /// Whether it is for want of room, which people have to know.
    pub fn is_room(self) -> bool {
        matches!(self, Hold::Memory | Hold::Cpu | Hold::Ceiling | Hold::Pressure)
    }
}

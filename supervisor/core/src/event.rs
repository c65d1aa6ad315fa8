//! What happens to the box.
//!
//! Duty: the words of the shell for the core; with their moments they are the journal.
//! Not here: how events are come by, what the core answers (`action`).
//! Invariant: everything about a machine carries its run, so what an earlier one still says changes nothing.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::boot::Boot;
use crate::failure::{VmEnd, WorkloadEnd};
use crate::id::{Run, Slot, Vm, WorkloadId};
use crate::insight::Insight;
use crate::maintenance::Window;
use crate::pressure::{Level, Resource};
use crate::record::{DeviceRecord, Record};
use crate::spec::{Build, Config};
use crate::watchdog::Subsystem;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Time passed.
    Tick,
    /// A daemon begins, with what earlier ones left in the store.
    Begin {
        boot: Boot,
        device: DeviceRecord,
        records: Vec<Record>,
    },
    /// What is wanted from now on. Nothing changes if it has a fault.
    Configured(Box<Config>),
    /// A machine of an earlier daemon runs.
    Found(Box<Found>),
    /// There are no more of them: the box is up.
    Surveyed,
    /// Something about a machine.
    Vm {
        vm: Vm,
        said: Said,
    },
    /// So many replicas of a function are asked for.
    Demand {
        workload: WorkloadId,
        replicas: u16,
    },
    /// A workload's logs grew.
    Logged {
        workload: WorkloadId,
        bytes: u64,
    },
    Pressure {
        resource: Resource,
        level: Level,
    },
    /// A critical part of the daemon met its deadline.
    Alive(Subsystem),
    /// A person or the fleet wants something.
    Ask(Request),
    /// Somebody wants the box to stop.
    Stop,
    /// Somebody wants it at once.
    StopNow,
    /// What is foreseen, or found odd.
    Foresaw(Insight),
    /// A window of maintenance begins or ends; before the first such word there are none.
    Maintenance(Window),
}

/// What is said of, or by, one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// The monitor could not be started.
    NotSpawned(String),
    /// The agent in the guest is connected.
    AgentConnected,
    /// The agent started the workload.
    WorkloadStarted,
    /// The agent beats.
    Heartbeat,
    /// A question was answered; the number is the probe's place in its workload.
    Probed { probe: u8, good: bool },
    /// Its guest's kernel or watchdog gave up, and the monitor still stands.
    Alarm(VmEnd),
    /// Requests that it was given since the last such word, and those that went wrong.
    Served { requests: u32, errors: u32 },
    /// The agent saw the workload end.
    WorkloadEnded(WorkloadEnd),
    /// The agent's connection ended.
    AgentLost,
    /// A warm snapshot of its version is there.
    SnapshotTaken,
    /// It could not be taken.
    SnapshotFailed,
    /// The monitor's process ended.
    Ended(VmEnd),
    /// The snapshot that it was to come from is not there any more, or of another kernel: it was started from nothing.
    SnapshotGone,
}

/// A machine that an earlier daemon started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub name: String,
    pub slot: Slot,
    pub run: Run,
    pub build: Build,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Lifts a [`Request::Stop`].
    Start(WorkloadId),
    /// Until somebody starts it again, over restarts of daemon and box.
    Stop(WorkloadId),
    /// New machines, one replica after the other.
    Restart(WorkloadId),
    /// Another number of replicas than its file says; none: what it says.
    Scale {
        workload: WorkloadId,
        replicas: Option<u16>,
    },
    /// Lifts a quarantine, lets a rejected version try again, and one go ahead that waits for its window.
    Retry(WorkloadId),
    /// Somebody agrees to what is proposed to heal it.
    Heal(WorkloadId),
    /// Back to the last good version.
    UndoRollout(WorkloadId),
    LeaveSafeMode,
    /// The daemon itself, in place; machines stay.
    ReExec,
    Reboot,
}

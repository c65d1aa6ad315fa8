//! What happens to the box, and what it does about it.
//!
//! Duty: the vocabulary between the core and its shell, and the reasons in words.
//! Not here: how events are come by or actions carried out.

use alloc::string::String;
use core::fmt;
use core::time::Duration;

use crate::plan::WorkloadId;
use crate::state::Run;

/// Everything about a virtual machine carries its run: what an earlier one still says changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time passed. The first one starts what can start.
    Tick,
    /// The monitor could not be started.
    NotSpawned { id: WorkloadId, run: Run, why: String },
    /// The agent in the guest is connected.
    AgentConnected { id: WorkloadId, run: Run },
    /// The agent started the workload.
    WorkloadStarted { id: WorkloadId, run: Run },
    /// The agent beats.
    Heartbeat { id: WorkloadId, run: Run },
    /// The agent saw the workload end.
    WorkloadEnded { id: WorkloadId, run: Run, end: WorkloadEnd },
    /// The agent's connection ended.
    AgentLost { id: WorkloadId, run: Run },
    /// The monitor's process ended.
    VmEnded { id: WorkloadId, run: Run, end: VmEnd },
    /// Somebody wants the box to stop.
    Stop,
    /// Somebody wants it at once.
    StopNow,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make and start the workload's virtual machine.
    Start { id: WorkloadId, run: Run },
    /// Ask the agent to stop the workload and power off.
    AskAgent { id: WorkloadId, run: Run, grace: Duration },
    /// SIGTERM to the monitor.
    Terminate { id: WorkloadId, run: Run },
    /// SIGKILL to the monitor.
    Kill { id: WorkloadId, run: Run },
    /// Tell people.
    Announce(Announcement),
    /// All is down: leave.
    Finish,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    Running {
        id: WorkloadId,
    },
    /// It ended with success.
    Done {
        id: WorkloadId,
    },
    Failed {
        id: WorkloadId,
        failure: Failure,
    },
    /// It will start again.
    RestartIn {
        id: WorkloadId,
        attempt: u32,
        delay: Duration,
    },
    /// It waits for a workload that will not get there.
    Blocked {
        id: WorkloadId,
        on: WorkloadId,
    },
    /// It does not stop when asked; a stronger means follows.
    Stubborn {
        id: WorkloadId,
        means: &'static str,
    },
    /// Its monitor does not even die when killed.
    Lost {
        id: WorkloadId,
    },
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
}

/// How a workload ended inside its guest, told by the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadEnd {
    Code(i32),
    Signal(i32),
    /// It never ran: the errno of the attempt.
    NotStarted(i32),
}

/// How a monitor's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmEnd {
    PoweredOff,
    MonitorFailed,
    BadConfiguration,
    KvmUnusable,
    Reboot,
    Halted,
    Panicked,
    WatchdogExpired,
    TripleFault,
    KvmInternalError,
    StoppedByHost,
    /// An exit status that the monitor does not document.
    Unknown(i32),
    KilledBy(i32),
}

/// Why a workload does not do what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    Workload(WorkloadEnd),
    Vm(VmEnd),
    NotSpawned(String),
    NotReadyInTime,
    HeartbeatLost,
}

impl fmt::Display for WorkloadEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkloadEnd::Code(code) => write!(f, "exit {code}"),
            WorkloadEnd::Signal(signal) => write!(f, "killed by signal {signal}"),
            WorkloadEnd::NotStarted(errno) => write!(f, "the program could not be started, errno {errno}"),
        }
    }
}

impl fmt::Display for VmEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            VmEnd::PoweredOff => "the guest powered off by itself",
            VmEnd::MonitorFailed => "the monitor failed",
            VmEnd::BadConfiguration => "the monitor refused its configuration",
            VmEnd::KvmUnusable => "KVM is not usable",
            VmEnd::Reboot => "the guest asked for a reboot",
            VmEnd::Halted => "the guest halted for good",
            VmEnd::Panicked => "the guest panicked",
            VmEnd::WatchdogExpired => "the guest's watchdog expired",
            VmEnd::TripleFault => "the guest's CPU gave up (triple fault)",
            VmEnd::KvmInternalError => "KVM could not go on (internal error)",
            VmEnd::StoppedByHost => "stopped by the host",
            VmEnd::Unknown(status) => return write!(f, "the monitor ended with status {status}"),
            VmEnd::KilledBy(signal) => return write!(f, "the monitor was killed by signal {signal}"),
        };
        f.write_str(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Workload(end) => end.fmt(f),
            Failure::Vm(end) => end.fmt(f),
            Failure::NotSpawned(why) => f.write_str(why),
            Failure::NotReadyInTime => f.write_str("the guest did not get ready in time"),
            Failure::HeartbeatLost => f.write_str("the guest fell silent"),
        }
    }
}

//! How things end that should not, and how those end that may.
//!
//! Duty: the ends of workloads and machines as their watchers tell them, and short reasons in words.
//! Not here: what kind of fault an end is (`fault`), what follows from it (`state`).

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::probe::Check;

/// How a workload ended inside its guest, told by the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkloadEnd {
    Code(i32),
    Signal(i32),
    /// It never ran: the errno of the attempt.
    NotStarted(i32),
}

/// How a monitor's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    Workload(WorkloadEnd),
    Vm(VmEnd),
    NotSpawned(String),
    NotReadyInTime,
    HeartbeatLost,
    /// A startup or liveness probe failed as often as it may.
    Probe(Check),
    /// The agent was asked to start the workload again, and it does not run.
    ProcessNotRestarted,
    /// Its monitor outlived SIGKILL, and ended at last.
    Lost,
    /// An earlier daemon gave it up.
    Earlier,
}

impl WorkloadEnd {
    /// What the end means for somebody who wanted the workload to succeed.
    pub(crate) fn outcome(self) -> Result<(), Failure> {
        match self {
            WorkloadEnd::Code(0) => Ok(()),
            WorkloadEnd::Code(_) | WorkloadEnd::Signal(_) | WorkloadEnd::NotStarted(_) => {
                Err(Failure::Workload(self))
            }
        }
    }
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
            Failure::Probe(check) => write!(f, "its {check} probe failed"),
            Failure::ProcessNotRestarted => f.write_str("the workload did not start again in its guest"),
            Failure::Lost => f.write_str("the monitor outlived SIGKILL"),
            Failure::Earlier => f.write_str("it was given up before the daemon began"),
        }
    }
}

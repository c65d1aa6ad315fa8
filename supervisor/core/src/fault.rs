//! What kind of trouble a failure is.
//!
//! Duty: from a failure to where it comes from and how bad it is. Not here: what helps (`policy`).
//! Invariant: every failure has exactly one class; what nobody can tell apart counts as the workload's own, the one
//! source that restarts are made for.

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, VmEnd, WorkloadEnd};
use crate::probe::Check;

/// Where a fault comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Source {
    Hardware,
    GuestKernel,
    Workload,
    Network,
    Storage,
    /// What the workload works with: its data, or a model that it loads.
    Data,
    Supervisor,
}

impl Source {
    pub const ALL: [Source; 7] = [
        Source::Hardware,
        Source::GuestKernel,
        Source::Workload,
        Source::Network,
        Source::Storage,
        Source::Data,
        Source::Supervisor,
    ];
}

/// How bad it is for what the replica is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// It works, less well.
    Low,
    /// One try did not work.
    Medium,
    /// It does not work.
    High,
    /// It does not work, and what keeps it from working is not its own.
    Critical,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FaultClass {
    pub source: Source,
    pub severity: Severity,
}

/// ENOSPC and EIO and EROFS, as agents report why a program could not be started.
const STORAGE_ERRNOS: [i32; 3] = [5, 28, 30];
/// EX_DATAERR of sysexits: programs say with it that their input is bad.
const EX_DATAERR: i32 = 65;

impl FaultClass {
    pub fn of(failure: &Failure) -> FaultClass {
        let (source, severity) = match failure {
            Failure::Workload(WorkloadEnd::Code(EX_DATAERR)) => (Source::Data, Severity::High),
            Failure::Workload(WorkloadEnd::NotStarted(errno)) if STORAGE_ERRNOS.contains(errno) => {
                (Source::Storage, Severity::High)
            }
            Failure::Workload(_) => (Source::Workload, Severity::High),
            Failure::Vm(end) => of_machine(*end),
            Failure::NotSpawned(_) | Failure::Lost | Failure::Earlier => {
                (Source::Supervisor, Severity::Critical)
            }
            Failure::NotReadyInTime | Failure::HeartbeatLost => (Source::GuestKernel, Severity::High),
            Failure::Probe(Check::Tcp { .. }) => (Source::Network, Severity::High),
            Failure::Probe(Check::VcpuProgress | Check::Watchdog | Check::Pvpanic | Check::Heartbeat) => {
                (Source::GuestKernel, Severity::High)
            }
            Failure::Probe(Check::Exec { .. } | Check::Http { .. }) | Failure::ProcessNotRestarted => {
                (Source::Workload, Severity::High)
            }
        };
        FaultClass { source, severity }
    }
}

fn of_machine(end: VmEnd) -> (Source, Severity) {
    match end {
        VmEnd::KvmUnusable | VmEnd::KvmInternalError => (Source::Hardware, Severity::Critical),
        VmEnd::BadConfiguration | VmEnd::MonitorFailed | VmEnd::Unknown(_) => {
            (Source::Supervisor, Severity::High)
        }
        VmEnd::Panicked | VmEnd::TripleFault | VmEnd::Halted | VmEnd::WatchdogExpired => {
            (Source::GuestKernel, Severity::High)
        }
        VmEnd::PoweredOff | VmEnd::Reboot => (Source::Workload, Severity::Medium),
        // Somebody else stopped or killed it, the kernel's OOM killer among them.
        VmEnd::StoppedByHost | VmEnd::KilledBy(_) => (Source::Supervisor, Severity::Medium),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_classed_by_what_can_have_caused_it() {
        let source = |failure| FaultClass::of(&failure).source;
        assert_eq!(source(Failure::Workload(WorkloadEnd::Code(1))), Source::Workload);
        assert_eq!(source(Failure::Workload(WorkloadEnd::Code(65))), Source::Data);
        assert_eq!(source(Failure::Workload(WorkloadEnd::NotStarted(28))), Source::Storage);
        assert_eq!(source(Failure::Vm(VmEnd::Panicked)), Source::GuestKernel);
        assert_eq!(source(Failure::Vm(VmEnd::KvmInternalError)), Source::Hardware);
        assert_eq!(source(Failure::Probe(Check::Tcp { port: 80 })), Source::Network);
        assert!(FaultClass::of(&Failure::Vm(VmEnd::KvmUnusable)).severity > Severity::High);
    }
}

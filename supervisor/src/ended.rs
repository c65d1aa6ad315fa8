//! What the exit status of `hearth-vmm` means.
//!
//! Duty: the one table from status to reason, the mirror of the monitor's own. Not here: what follows from it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use hearth_core::VmEnd;

/// The reason behind the status that the kernel reports.
pub fn vm_end(status: ExitStatus) -> VmEnd {
    match (status.code(), status.signal()) {
        (Some(code), _) => from_code(code),
        (None, Some(signal)) => VmEnd::KilledBy(signal),
        (None, None) => VmEnd::Unknown(status.into_raw()),
    }
}

/// The reason behind the status that the monitor announces.
pub(crate) fn from_code(code: i32) -> VmEnd {
    match code {
        0 => VmEnd::PoweredOff,
        1 => VmEnd::MonitorFailed,
        2 => VmEnd::BadConfiguration,
        3 => VmEnd::KvmUnusable,
        10 => VmEnd::Reboot,
        11 => VmEnd::Halted,
        12 => VmEnd::Panicked,
        13 => VmEnd::WatchdogExpired,
        14 => VmEnd::TripleFault,
        15 => VmEnd::KvmInternalError,
        16 => VmEnd::StoppedByHost,
        other => VmEnd::Unknown(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_the_monitor_has_its_reason() {
        let exited = |code: i32| vm_end(ExitStatus::from_raw(code << 8));
        assert_eq!(exited(0), VmEnd::PoweredOff);
        assert_eq!(exited(3), VmEnd::KvmUnusable);
        assert_eq!(exited(16), VmEnd::StoppedByHost);
        assert_eq!(exited(101), VmEnd::Unknown(101));
        assert_eq!(vm_end(ExitStatus::from_raw(9)), VmEnd::KilledBy(9));
        let reasons: Vec<VmEnd> = [0, 1, 2, 3, 10, 11, 12, 13, 14, 15, 16].map(exited).to_vec();
        for (index, reason) in reasons.iter().enumerate() {
            assert!(!reasons[..index].contains(reason), "{reason:?} twice");
        }
    }
}

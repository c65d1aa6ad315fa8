//! How a microVM ends, and the exit status that tells it.
//!
//! Invariant: every way to end is one variant with one status, and no status has two meanings. The table is
//! part of the program's interface (`hearth-vmm --help`, README); a number is never reused.

use std::fmt;
use std::process::ExitCode;

/// How the guest's life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The guest powered itself off.
    PowerOff,
    /// The guest asked for a reboot.
    Reboot,
    /// All vCPUs stopped for good, with nothing that could wake one (`machine/halt.rs`).
    Halt,
    /// The guest kernel reported a crash.
    Panic,
    /// The guest stopped petting its watchdog.
    WatchdogExpired,
    /// A vCPU met a fault while handling a fault: on x86 also the last resort of a kernel that reboots.
    TripleFault,
    /// KVM could not go on with the vCPU.
    InternalError,
    /// The host asked for the end.
    HostStop,
}

impl Outcome {
    /// Every outcome, for tables.
    pub const ALL: [Self; 8] = [
        Self::PowerOff,
        Self::Reboot,
        Self::Halt,
        Self::Panic,
        Self::WatchdogExpired,
        Self::TripleFault,
        Self::InternalError,
        Self::HostStop,
    ];

    /// The exit status of `hearth-vmm`.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self {
            Self::PowerOff => 0,
            Self::Reboot => 10,
            Self::Halt => 11,
            Self::Panic => 12,
            Self::WatchdogExpired => 13,
            Self::TripleFault => 14,
            Self::InternalError => 15,
            Self::HostStop => 16,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PowerOff => "guest powered off",
            Self::Reboot => "guest asked for a reboot",
            Self::Halt => "guest halted with nothing to wake it",
            Self::Panic => "guest kernel crashed",
            Self::WatchdogExpired => "guest watchdog expired",
            Self::TripleFault => "vCPU shut down by a triple fault",
            Self::InternalError => "KVM could not go on with a vCPU",
            Self::HostStop => "stopped by the host",
        })
    }
}

/// Why no guest ran: the statuses that are not an [`Outcome`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Something on the host failed: a file, a descriptor, memory.
    Failure,
    /// The command line or the configuration is wrong.
    Usage,
    /// KVM is missing, forbidden or too little.
    Kvm,
}

impl Refusal {
    /// The exit status of `hearth-vmm`.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self {
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Kvm => 3,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.status())
    }
}

impl From<Refusal> for ExitCode {
    fn from(refusal: Refusal) -> Self {
        Self::from(refusal.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_a_status_of_its_own() {
        let mut statuses: Vec<u8> = Outcome::ALL.iter().map(|o| o.status()).collect();
        statuses.extend([Refusal::Failure, Refusal::Usage, Refusal::Kvm].map(Refusal::status));
        let count = statuses.len();
        statuses.sort_unstable();
        statuses.dedup();
        assert_eq!(statuses.len(), count);
    }
}

//! The boards by name.
//!
//! Duty: the list, and which of them suits what `doctor` measured. Not here: how a board is built or run.
//! Invariant: a name that the command line accepts is in this list.

pub(crate) mod box_config;
pub(crate) mod boxlines;
pub(crate) mod broker;
pub(crate) mod door;
pub(crate) mod guest_files;
pub(crate) mod image;
pub(crate) mod image_file;
mod modules;
pub(crate) mod monitor;
pub(crate) mod nudge;
pub(crate) mod operator;
pub(crate) mod probe;
pub(crate) mod qemu;
pub(crate) mod session;
pub(crate) mod state_disk;

use std::fmt;

use clap::ValueEnum;

use crate::arch::Arch;

/// A machine that Hearth's image boots on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Board {
    /// A PC as QEMU's q35 machine, with a hardware watchdog.
    #[value(name = "qemu-x86_64")]
    QemuX86_64,
    /// An ARM64 server-class machine: GICv3, virtualization extensions.
    #[value(name = "qemu-aarch64")]
    QemuAarch64,
    /// An ARM64 machine like a Raspberry Pi 4: Cortex-A72, GICv2.
    #[value(name = "qemu-aarch64-gicv2")]
    QemuAarch64Gicv2,
}

impl Board {
    pub(crate) fn arch(self) -> Arch {
        match self {
            Board::QemuX86_64 => Arch::X86_64,
            Board::QemuAarch64 | Board::QemuAarch64Gicv2 => Arch::Aarch64,
        }
    }

    /// The board with this machine's own architecture.
    pub(crate) fn of_host() -> Self {
        match Arch::HOST {
            Arch::X86_64 => Board::QemuX86_64,
            Arch::Aarch64 => Board::QemuAarch64,
        }
    }
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Board::QemuX86_64 => "qemu-x86_64",
            Board::QemuAarch64 => "qemu-aarch64",
            Board::QemuAarch64Gicv2 => "qemu-aarch64-gicv2",
        })
    }
}

/// What KVM is on this machine, in the words of `hearth-vmm doctor --json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kvm {
    Absent,
    NoPermission,
    /// It answers like KVM and interprets what guests run: no Linux boots on it.
    Emulating,
    Complete,
}

impl Kvm {
    /// Finds the verdict in the doctor's JSON object.
    pub(crate) fn from_doctor(json: &str) -> Option<Self> {
        // One field of an object that this project itself prints: no reason for a JSON parser.
        let (_, rest) = json.split_once("\"kvm\"")?;
        let word = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
        match word.split('"').next()? {
            "absent" => Some(Kvm::Absent),
            "no-permission" => Some(Kvm::NoPermission),
            "emulating" => Some(Kvm::Emulating),
            "complete" => Some(Kvm::Complete),
            _ => None,
        }
    }
}

/// Where `up` runs the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On this machine itself, whose KVM runs guests.
    Host,
    Board(Board),
}

impl Place {
    pub(crate) fn suited_to(kvm: Kvm) -> Self {
        match kvm {
            Kvm::Complete => Place::Host,
            Kvm::Absent | Kvm::NoPermission | Kvm::Emulating => Place::Board(Board::of_host()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Host => f.write_str("this machine itself"),
            Place::Board(board) => write!(f, "the board {board} in QEMU"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_kvm_runs_on_the_host() {
        assert_eq!(Place::suited_to(Kvm::Complete), Place::Host);
        for kvm in [Kvm::Absent, Kvm::NoPermission, Kvm::Emulating] {
            assert_eq!(Place::suited_to(kvm), Place::Board(Board::of_host()));
        }
    }

    #[test]
    fn the_verdict_is_read_out_of_the_doctors_json() {
        let json = r#"{"kvm": "emulating", "kvm_note":"1.8 MIPS","guest_mips":2,"facts":[]}"#;
        assert_eq!(Kvm::from_doctor(json), Some(Kvm::Emulating));
        assert_eq!(Kvm::from_doctor(r#"{"kvm_note":"x","kvm":"complete"}"#), Some(Kvm::Complete));
        assert_eq!(Kvm::from_doctor(r#"{"kvm":"new-word"}"#), None);
        assert_eq!(Kvm::from_doctor(""), None);
    }
}

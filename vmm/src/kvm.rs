//! Opens KVM, and says plainly when it cannot be used and what to do about it.

use std::path::Path;

use kvm_ioctls::{Cap, Kvm};

/// The API that every kernel since 2.6.22 speaks.
const API_VERSION: i32 = 12;

/// Where KVM lives.
const DEVICE: &str = "/dev/kvm";

/// Why KVM cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// No device node.
    #[error("{DEVICE}: not there: load the kvm module, or turn virtualization on in the firmware")]
    Absent,
    /// A device node that this user may not open.
    #[error("{DEVICE}: permission denied: add this user to the group that owns it (often `kvm`)")]
    NoPermission,
    /// A device node that does not open.
    #[error("{DEVICE}: cannot be opened")]
    Open(#[source] kvm_ioctls::Error),
    /// Not the API we speak.
    #[error("{DEVICE}: speaks API version {0}, expected {API_VERSION}")]
    Version(i32),
    /// An extension that the machine is built on.
    #[error("{DEVICE}: lacks {0}, which a microVM needs")]
    Lacks(&'static str),
}

/// What a machine cannot do without.
const REQUIRED: &[(Cap, &str)] = &[
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    // Without it a kick is lost now and then (`machine/kick.rs`), and with it a pause or a stop.
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
    #[cfg(target_arch = "x86_64")]
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    #[cfg(target_arch = "x86_64")]
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    #[cfg(target_arch = "x86_64")]
    (Cap::Pit2, "KVM_CAP_PIT2"),
    #[cfg(target_arch = "aarch64")]
    (Cap::ArmPsci02, "KVM_CAP_ARM_PSCI_0_2"),
];

/// Opens `/dev/kvm` and checks that a machine can be built on it.
pub fn open() -> Result<Kvm, KvmError> {
    let kvm = Kvm::new().map_err(|error| match error.errno() {
        nix::libc::ENOENT | nix::libc::ENODEV | nix::libc::ENXIO => KvmError::Absent,
        nix::libc::EACCES | nix::libc::EPERM => {
            if Path::new(DEVICE).exists() {
                KvmError::NoPermission
            } else {
                KvmError::Absent
            }
        }
        _ => KvmError::Open(error),
    })?;
    let version = kvm.get_api_version();
    if version != API_VERSION {
        return Err(KvmError::Version(version));
    }
    match lacking(|cap| kvm.check_extension(cap)) {
        Some(name) => Err(KvmError::Lacks(name)),
        None => Ok(kvm),
    }
}

/// The first of [`REQUIRED`] that is not there.
fn lacking(there: impl Fn(Cap) -> bool) -> Option<&'static str> {
    REQUIRED.iter().find(|(cap, _)| !there(*cap)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_lacking_is_named() {
        assert_eq!(lacking(|_| true), None);
        for (number, name) in
            [(Cap::ImmediateExit as u32, "KVM_CAP_IMMEDIATE_EXIT"), (Cap::Irqfd as u32, "KVM_CAP_IRQFD")]
        {
            assert_eq!(lacking(|cap| cap as u32 != number), Some(name));
        }
    }
}

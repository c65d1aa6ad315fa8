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
const REQUIRED: [(Cap, &str); 4] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    #[cfg(target_arch = "x86_64")]
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
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
    for (cap, name) in REQUIRED {
        if !kvm.check_extension(cap) {
            return Err(KvmError::Lacks(name));
        }
    }
    Ok(kvm)
}

//! A vCPU's extended registers: KVM takes as many bytes as it thinks there are, so this is not safe without a look.
#![allow(unsafe_code, reason = "KVM reads a structure whose length it decides itself; it is asked first")]

use kvm_bindings::kvm_xsave;
use kvm_ioctls::{Cap, VcpuFd, VmFd};

use crate::arch::SavedError;

/// Bytes that the structure has without an extension, which AMX alone needs, and no guest is let to use that.
pub(super) const BYTES: usize = size_of::<kvm_xsave>();

/// Sets them.
pub(super) fn set(vm: &VmFd, vcpu: &VcpuFd, state: &kvm_xsave) -> Result<(), SavedError> {
    let wanted = usize::try_from(vm.check_extension_int(Cap::Xsave2)).unwrap_or(0);
    if wanted > BYTES {
        return Err(SavedError::Unlike(format!(
            "the host's extended registers take {wanted} bytes, expected at most {BYTES}"
        )));
    }
    // SAFETY: KVM has just said that it reads no more than the structure has.
    unsafe { vcpu.set_xsave(state) }.map_err(|error| SavedError::Kvm("set extended registers", error))
}

//! First state of an ARM64 vCPU: EL1, interrupts masked, X0 at the device tree (Linux `booting.rst`).

use kvm_bindings::{KVM_MP_STATE_STOPPED, KVM_REG_ARM_CORE, KVM_REG_ARM64, KVM_REG_SIZE_U64};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use super::boot::Entry;
use crate::arch::ChipsetError;

/// Offsets into `struct kvm_regs`, whose first part is `struct user_pt_regs`.
const X0: u64 = 0;
const PC: u64 = 32 * 8;
const PSTATE: u64 = 33 * 8;
/// EL1 with its own stack pointer; debug, SError, IRQ and FIQ masked.
const EL1H_MASKED: u64 = 0x3c5;

/// Gives vCPU 0 its first instruction; the others wait for PSCI.
pub fn configure(
    _kvm: &Kvm,
    _vm: &VmFd,
    vcpu: &VcpuFd,
    index: u8,
    _vcpus: u8,
    entry: Entry,
) -> Result<(), ChipsetError> {
    if index > 0 {
        return Ok(());
    }
    for (offset, value) in [(PSTATE, EL1H_MASKED), (PC, entry.address.0), (X0, entry.device_tree.0)] {
        // Register numbers of this group count 32-bit words.
        let id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | u64::from(KVM_REG_ARM_CORE) | (offset / 4);
        vcpu.set_one_reg(id, &value.to_le_bytes())
            .map_err(|error| ChipsetError::Kvm("set a register", error))?;
    }
    Ok(())
}

/// Nothing: KVM on ARM has no way to tell a guest of time that it did not run. Its counter went on.
pub const fn after_pause(_vcpu: &VcpuFd) {}

/// Whether nothing in the guest can wake this vCPU, now that it is out of the guest: it is off. Only another vCPU
/// can help it (by PSCI CPU_ON). One that waits for an interrupt can be woken even by one that it masks.
pub fn sleeps_for_good(vcpu: &VcpuFd) -> bool {
    vcpu.get_mp_state().is_ok_and(|state| state.mp_state == KVM_MP_STATE_STOPPED)
}

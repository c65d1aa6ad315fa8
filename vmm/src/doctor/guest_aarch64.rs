//! The counting guest at EL1 with the MMU off.

use kvm_bindings::{KVM_REG_ARM_CORE, KVM_REG_ARM64, KVM_REG_SIZE_U64, kvm_vcpu_init};
use kvm_ioctls::{VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress};

use super::probe::ProbeError;
use crate::memory::GuestRam;

pub(super) const RAM: u64 = 0x4000_0000;
/// A whole number of host pages, be they of 4, 16 or 64 KiB.
pub(super) const RAM_BYTES: usize = 0x1_0000;

const CODE: [u32; 3] = [
    0xf100_0400, // 1: subs x0, x0, #1
    0x54ff_ffe1, //    b.ne 1b
    0xf900_0020, //    str  x0, [x1]
];

/// No RAM there: the store leaves the guest.
const REPORT: u64 = 0x1000;

/// Byte offsets into `struct user_pt_regs`.
const X0: u64 = 0;
const X1: u64 = 8;
const PC: u64 = 32 * 8;
const PSTATE: u64 = 33 * 8;
/// EL1 with its own stack pointer, all interrupts masked.
const EL1H_MASKED: u64 = 0x3c5;

pub(super) fn prepare(vm: &VmFd, vcpu: &VcpuFd, ram: &GuestRam) -> Result<(), ProbeError> {
    for (offset, instruction) in (0u64..).step_by(4).zip(CODE) {
        ram.write_slice(&instruction.to_le_bytes(), GuestAddress(RAM + offset))?;
    }
    let mut target = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut target)?;
    Ok(vcpu.vcpu_init(&target)?)
}

pub(super) fn start(vcpu: &VcpuFd, rounds: u32) -> Result<(), ProbeError> {
    for (offset, value) in [(X0, rounds.into()), (X1, REPORT), (PC, RAM), (PSTATE, EL1H_MASKED)] {
        // Register numbers of this group count 32-bit words.
        let id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | u64::from(KVM_REG_ARM_CORE) | (offset / 4);
        vcpu.set_one_reg(id, &value.to_le_bytes())?;
    }
    Ok(())
}

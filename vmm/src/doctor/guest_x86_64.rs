//! The counting guest in 16-bit real mode, where a fresh vCPU starts anyway.

use kvm_bindings::kvm_regs;
use kvm_ioctls::{VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress};

use super::probe::ProbeError;
use crate::memory::GuestRam;

pub(super) const RAM: u64 = 0x1000;
pub(super) const RAM_BYTES: usize = 0x1000;

const CODE: [u8; 7] = [
    0x66, 0x49, // 1: dec ecx
    0x75, 0xfc, //    jnz 1b
    0xe6, 0x80, //    out 0x80, al
    0xf4, //          hlt
];

pub(super) fn prepare(_vm: &VmFd, vcpu: &VcpuFd, ram: &GuestRam) -> Result<(), ProbeError> {
    ram.write_slice(&CODE, GuestAddress(RAM))?;
    let mut sregs = vcpu.get_sregs()?;
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    Ok(vcpu.set_sregs(&sregs)?)
}

pub(super) fn start(vcpu: &VcpuFd, rounds: u32) -> Result<(), ProbeError> {
    // Bit 1 of the flags is always one.
    Ok(vcpu.set_regs(&kvm_regs { rip: RAM, rcx: rounds.into(), rflags: 2, ..Default::default() })?)
}

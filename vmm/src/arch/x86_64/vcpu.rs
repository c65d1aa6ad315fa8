//! First state of an x86_64 vCPU.
//!
//! PVH starts in 32-bit protected mode without paging, the 64-bit protocol in long mode with the first GiB
//! mapped one to one. Only vCPU 0 gets it: the others wait for the kernel's INIT and SIPI inside KVM.

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED,
    KVM_MP_STATE_UNINITIALIZED, Msrs, kvm_fpu, kvm_msr_entry, kvm_regs, kvm_segment,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use super::kernel::Entry;
use super::{cpuid, layout};
use crate::arch::ChipsetError;

const CR0_PROTECTED: u64 = 1;
/// x87 present: hard-wired to 1 on every processor that has long mode.
const CR0_EXTENSION: u64 = 1 << 4;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
/// IF of the flags.
const INTERRUPTS_ON: u64 = 1 << 9;
const EFER_LONG_MODE: u64 = (1 << 8) | (1 << 10);

const MSR_MISC_ENABLE: u32 = 0x1a0;
const MISC_ENABLE_FAST_STRING: u64 = 1;
const MSR_MTRR_DEF_TYPE: u32 = 0x2ff;
/// MTRRs on, write-back everywhere: without it a kernel may map its own RAM uncached.
const MTRR_WRITE_BACK: u64 = (1 << 11) | 6;

/// Gives vCPU number `index` of `vcpus` its identity and, to the first, its first instruction.
pub fn configure(
    kvm: &Kvm,
    _vm: &VmFd,
    vcpu: &VcpuFd,
    index: u8,
    vcpus: u8,
    entry: Entry,
) -> Result<(), ChipsetError> {
    let refused = |what| move |error| ChipsetError::Kvm(what, error);
    let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(refused("list CPU features"))?;
    // Not every KVM tells it; then guests measure, or ask kvm-clock.
    let tsc_khz = vcpu.get_tsc_khz().ok();
    let adapted = cpuid::adapt(supported.as_slice(), index, vcpus, tsc_khz);
    let cpuid = CpuId::from_entries(&adapted)
        .map_err(|_| ChipsetError::Lacks("no room for the guest's CPU features"))?;
    vcpu.set_cpuid2(&cpuid).map_err(refused("set CPU features"))?;
    set_msrs(vcpu)?;
    if index == 0 {
        vcpu.set_fpu(&kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() })
            .map_err(refused("set FPU state"))?;
        set_system_registers(vcpu, entry)?;
        vcpu.set_regs(&general_registers(entry)).map_err(refused("set registers"))?;
    }
    Ok(())
}

/// Tells the guest's watchdogs that it was not to blame for the time since it last ran (KVM_KVMCLOCK_CTRL): a
/// kernel with kvm-clock then reports no lockup. The clock itself went on.
pub fn after_pause(vcpu: &VcpuFd) {
    // Refused where the guest has not set up its kvm-clock: then there is nobody to tell.
    let _ = vcpu.kvmclock_ctrl();
}

/// Whether nothing in the guest can wake this vCPU, now that it is out of the guest: it halted with interrupts off,
/// or was never started. Only another vCPU can help it (by INIT, or an NMI).
pub fn sleeps_for_good(vcpu: &VcpuFd) -> bool {
    match vcpu.get_mp_state().map(|state| state.mp_state) {
        Ok(KVM_MP_STATE_HALTED) => {
            vcpu.get_regs().is_ok_and(|registers| registers.rflags & INTERRUPTS_ON == 0)
        }
        Ok(KVM_MP_STATE_UNINITIALIZED | KVM_MP_STATE_INIT_RECEIVED) => true,
        _ => false,
    }
}

fn set_msrs(vcpu: &VcpuFd) -> Result<(), ChipsetError> {
    let value = |index, data| kvm_msr_entry { index, data, ..Default::default() };
    let entries =
        [value(MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRING), value(MSR_MTRR_DEF_TYPE, MTRR_WRITE_BACK)];
    let Ok(msrs) = Msrs::from_entries(&entries) else {
        return Err(ChipsetError::Lacks("no room for two model-specific registers"));
    };
    let written = vcpu.set_msrs(&msrs).map_err(|error| ChipsetError::Kvm("set MSRs", error))?;
    if written < entries.len() {
        // Both only spare a kernel some time.
        log::debug!("KVM took {written} of {} model-specific registers", entries.len());
    }
    Ok(())
}

fn general_registers(entry: Entry) -> kvm_regs {
    // Bit 1 of the flags is always one; interrupts are off.
    let base = kvm_regs { rflags: 2, rsp: layout::BOOT_STACK, rbp: layout::BOOT_STACK, ..Default::default() };
    match entry {
        Entry::Pvh { address } => kvm_regs { rip: address.0, rbx: layout::PVH_START_INFO.0, ..base },
        Entry::Linux64 { address } => kvm_regs { rip: address.0, rsi: layout::BOOT_PARAMS.0, ..base },
    }
}

/// A flat segment from the descriptor's type byte. Its GDT entry exists for kernels that reload it.
fn flat_segment(index: u16, kind: u8, long: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector: index * 8,
        type_: kind,
        present: 1,
        s: 1,
        g: 1,
        l: u8::from(long),
        db: u8::from(!long),
        ..Default::default()
    }
}

/// Selectors that the 64-bit boot protocol names (`__BOOT_CS`, `__BOOT_DS`); PVH names none.
const BOOT_CODE: u16 = 2;
const BOOT_DATA: u16 = 3;
const BOOT_TASK: u16 = 4;

/// The GDT that matches [`flat_segment`]: code and data where the protocol wants them, a task segment for Intel's sake.
pub(super) fn gdt(long: bool) -> [u64; 5] {
    // Base 0, limit 4 GiB, present; 0xa0/0xc0: 64 or 32 bit code.
    let code = if long { 0x00af_9b00_0000_ffff } else { 0x00cf_9b00_0000_ffff };
    [0, 0, code, 0x00cf_9300_0000_ffff, 0x0000_8b00_0000_0067]
}

fn set_system_registers(vcpu: &VcpuFd, entry: Entry) -> Result<(), ChipsetError> {
    let mut sregs = vcpu.get_sregs().map_err(|error| ChipsetError::Kvm("read system registers", error))?;
    let long = matches!(entry, Entry::Linux64 { .. });
    const CODE: u8 = 0xb;
    const DATA: u8 = 0x3;
    const BUSY_TASK: u8 = 0xb;
    let data = flat_segment(BOOT_DATA, DATA, false);
    sregs.cs = flat_segment(BOOT_CODE, CODE, long);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = kvm_segment {
        limit: 0x67,
        selector: BOOT_TASK * 8,
        type_: BUSY_TASK,
        present: 1,
        ..Default::default()
    };
    sregs.gdt.base = layout::GDT.0;
    sregs.gdt.limit = u16::try_from(size_of_val(&gdt(long)) - 1).unwrap_or(u16::MAX);
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cr0 = CR0_PROTECTED | CR0_EXTENSION;
    if long {
        sregs.cr0 |= CR0_PAGING;
        sregs.cr3 = layout::PML4.0;
        sregs.cr4 = CR4_PAE;
        sregs.efer = EFER_LONG_MODE;
    }
    vcpu.set_sregs(&sregs).map_err(|error| ChipsetError::Kvm("set system registers", error))
}

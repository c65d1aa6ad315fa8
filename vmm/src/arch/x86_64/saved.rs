//! Processors, APICs and timers of an x86_64 machine across a snapshot.
//!
//! Duty: read what KVM keeps of them, and give it back in the order that KVM wants. Not its duty: which processor
//! features a state needs (`features.rs`), files.
//!
//! Order of reading: the run state first, as asking for it may still move an interrupt; the deadline of the local
//! timer, which is among the MSRs, before the local APIC, so that a timer that runs out in between is kept twice rather
//! than lost; pending events last. Order of writing: features before registers that depend on them, the local APIC
//! after the system registers, which place it, and before the MSRs, of which the timer's deadline needs its mode; the
//! clock last, when nothing but running is left to do.
//!
//! Time: the time stamp counter of every vCPU and the clock of kvm-clock go on from where they were, so a guest's
//! monotonic time does not jump, whatever time passed between. One value serves all vCPUs: it was read when none ran,
//! and KVM takes writes of one value as "these counters are one".

use kvm_bindings::{
    CpuId, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, Msrs, kvm_clock_data,
    kvm_irqchip, kvm_msr_entry,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{features, xsave};
use crate::arch::SavedError;
use crate::snapshot::Bytes;

const MSR_TSC: u32 = 0x10;
const MSR_TSC_DEADLINE: u32 = 0x6e0;
/// MTRRs, which KVM keeps and does not list: eight variable pairs, the fixed ones, the default type.
const MTRRS: [std::ops::RangeInclusive<u32>; 5] =
    [0x200..=0x20f, 0x250..=0x250, 0x258..=0x259, 0x268..=0x26f, 0x2ff..=0x2ff];
/// Hyper-V's, which are listed although no guest is told of them.
const HYPER_V: std::ops::Range<u32> = 0x4000_0000..0x4000_0200;
/// MSRs that are asked for at once: a page of them.
const BATCH: usize = 255;
/// MSRs of one vCPU, at most; KVM lists about two hundred.
const MAX_MSRS: usize = 1024;
/// How far the counters of two hosts may differ in speed before a guest's clock shows it: what KVM calls the same.
const TSC_TOLERANCE_PPM: u64 = 250;

/// One processor. Structures of KVM are bytes, checked for their length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VcpuState {
    /// Its features, as `kvm_cpuid_entry2` each.
    pub(super) cpuid: Bytes,
    mp_state: Bytes,
    registers: Bytes,
    system_registers: Bytes,
    xsave: Bytes,
    xcrs: Bytes,
    debug: Bytes,
    msrs: Vec<(u32, u64)>,
    local_apic: Bytes,
    events: Bytes,
}

/// What the processors share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChipsetState {
    /// Both PICs and the I/O APIC.
    irqchips: [Bytes; 3],
    pit: Bytes,
    /// Nanoseconds of kvm-clock.
    clock: u64,
    /// The time stamp counter, and its speed where KVM tells it.
    tsc: u64,
    tsc_khz: Option<u32>,
}

const IRQCHIPS: [u32; 3] = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];

/// A structure of KVM as a snapshot has it.
fn to_bytes(structure: &(impl IntoBytes + Immutable)) -> Bytes {
    structure.as_bytes().to_vec().into()
}

/// A structure of KVM out of a snapshot, if it is as long as it is here.
pub(super) fn exactly<T: FromBytes>(bytes: &[u8]) -> Result<T, SavedError> {
    T::read_from_bytes(bytes).map_err(|_| {
        let (expected, found) = (size_of::<T>(), bytes.len());
        SavedError::Unlike(format!("a structure of KVM has {found} bytes, expected {expected}"))
    })
}

fn refused(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> SavedError {
    move |error| SavedError::Kvm(what, error)
}

/// Every MSR that is worth keeping, as far as this KVM knows it.
fn listed_msrs(kvm: &Kvm) -> Result<Vec<u32>, SavedError> {
    let list = kvm.get_msr_index_list().map_err(refused("list MSRs"))?;
    let listed = list.as_slice().iter().copied().filter(|index| !HYPER_V.contains(index));
    let mut all: Vec<u32> = listed.chain(MTRRS.into_iter().flatten()).collect();
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Reads those of `indices` that can be read: some are listed for features that a vCPU does not have.
fn read_msrs(vcpu: &VcpuFd, indices: &[u32]) -> Result<Vec<(u32, u64)>, SavedError> {
    let mut found = Vec::with_capacity(indices.len());
    let mut left = indices;
    while !left.is_empty() {
        let batch: Vec<_> =
            left.iter().take(BATCH).map(|&index| kvm_msr_entry { index, ..Default::default() }).collect();
        let mut msrs =
            Msrs::from_entries(&batch).map_err(|_| SavedError::Unlike("too many MSRs at once".into()))?;
        let read = vcpu.get_msrs(&mut msrs).map_err(refused("read MSRs"))?;
        found.extend(msrs.as_slice().iter().take(read).map(|msr| (msr.index, msr.data)));
        // KVM stops at the first that it does not read: past it.
        let passed = if read < batch.len() { read + 1 } else { read };
        left = left.get(passed..).unwrap_or_default();
    }
    Ok(found)
}

/// Writes MSRs. One that KVM does not take must have its value already.
fn write_msrs(vcpu: &VcpuFd, values: &[(u32, u64)]) -> Result<(), SavedError> {
    let mut left = values;
    while !left.is_empty() {
        let batch: Vec<_> = left
            .iter()
            .take(BATCH)
            .map(|&(index, data)| kvm_msr_entry { index, data, ..Default::default() })
            .collect();
        let msrs =
            Msrs::from_entries(&batch).map_err(|_| SavedError::Unlike("too many MSRs at once".into()))?;
        let written = vcpu.set_msrs(&msrs).map_err(refused("write MSRs"))?;
        let passed = match left.get(written).filter(|_| written < batch.len()) {
            Some(&(index, data)) => {
                if !read_msrs(vcpu, &[index])?.contains(&(index, data)) {
                    return Err(SavedError::Unlike(format!(
                        "the host's KVM does not take {data:#x} for MSR {index:#x}"
                    )));
                }
                written + 1
            }
            None => written,
        };
        left = left.get(passed..).unwrap_or_default();
    }
    Ok(())
}

/// Reads one vCPU that rests.
pub fn save_vcpu(kvm: &Kvm, _vm: &VmFd, vcpu: &VcpuFd) -> Result<VcpuState, SavedError> {
    let cpuid = features::of_vcpu(kvm, vcpu)?;
    let mp_state = vcpu.get_mp_state().map_err(refused("read whether a vCPU runs"))?;
    let mut msrs = read_msrs(vcpu, &listed_msrs(kvm)?)?;
    // The counter is kept once for all.
    msrs.retain(|(index, _)| *index != MSR_TSC);
    Ok(VcpuState {
        cpuid: cpuid.iter().flat_map(|entry| entry.as_bytes().to_vec()).collect::<Vec<_>>().into(),
        mp_state: to_bytes(&mp_state),
        registers: to_bytes(&vcpu.get_regs().map_err(refused("read registers"))?),
        system_registers: to_bytes(&vcpu.get_sregs().map_err(refused("read system registers"))?),
        xsave: to_bytes(&vcpu.get_xsave().map_err(refused("read extended registers"))?),
        xcrs: to_bytes(&vcpu.get_xcrs().map_err(refused("read extended control registers"))?),
        debug: to_bytes(&vcpu.get_debug_regs().map_err(refused("read debug registers"))?),
        msrs,
        local_apic: to_bytes(&vcpu.get_lapic().map_err(refused("read a local APIC"))?),
        events: to_bytes(&vcpu.get_vcpu_events().map_err(refused("read pending events"))?),
    })
}

/// Makes a new vCPU what another one was. `shared` is the chipset that they had.
pub fn restore_vcpu(
    kvm: &Kvm,
    vm: &VmFd,
    vcpu: &VcpuFd,
    state: &VcpuState,
    shared: &ChipsetState,
) -> Result<(), SavedError> {
    if state.msrs.len() > MAX_MSRS {
        return Err(SavedError::Unlike("it has more MSRs than there are".into()));
    }
    let entries = features::entries(&state.cpuid)?;
    features::check(kvm, &entries)?;
    let cpuid = CpuId::from_entries(&entries)
        .map_err(|_| SavedError::Unlike("it has more CPU features than there are".into()))?;
    vcpu.set_cpuid2(&cpuid).map_err(refused("set CPU features"))?;
    if let Some(khz) = shared.tsc_khz {
        set_speed(vcpu, khz)?;
    }
    vcpu.set_mp_state(exactly(&state.mp_state)?).map_err(refused("set whether a vCPU runs"))?;
    vcpu.set_regs(&exactly(&state.registers)?).map_err(refused("set registers"))?;
    vcpu.set_sregs(&exactly(&state.system_registers)?).map_err(refused("set system registers"))?;
    vcpu.set_xcrs(&exactly(&state.xcrs)?).map_err(refused("set extended control registers"))?;
    xsave::set(vm, vcpu, &exactly(&state.xsave)?)?;
    vcpu.set_debug_regs(&exactly(&state.debug)?).map_err(refused("set debug registers"))?;
    vcpu.set_lapic(&exactly(&state.local_apic)?).map_err(refused("set a local APIC"))?;
    write_msrs(vcpu, &[(MSR_TSC, shared.tsc)])?;
    let (last, others): (Vec<_>, Vec<_>) = state
        .msrs
        .iter()
        .filter(|(index, _)| *index != MSR_TSC)
        .partition(|(index, _)| *index == MSR_TSC_DEADLINE);
    write_msrs(vcpu, &others)?;
    write_msrs(vcpu, &last)?;
    vcpu.set_vcpu_events(&exactly(&state.events)?).map_err(refused("set pending events"))
}

/// A guest's counter runs with the speed that its kernel measured once.
fn set_speed(vcpu: &VcpuFd, khz: u32) -> Result<(), SavedError> {
    let host = vcpu.get_tsc_khz().unwrap_or(0);
    let off = u64::from(host.abs_diff(khz)) * 1_000_000;
    if host == 0 || off <= u64::from(khz) * TSC_TOLERANCE_PPM {
        return Ok(());
    }
    vcpu.set_tsc_khz(khz).map_err(|_| {
        SavedError::Unlike(format!(
            "its time stamp counter runs with {khz} kHz and the host's with {host}, and the host cannot scale it"
        ))
    })
}

impl super::Chipset {
    /// Reads what the vCPUs share; none of them runs.
    pub fn save(&self, vm: &VmFd, vcpus: &[VcpuFd]) -> Result<ChipsetState, SavedError> {
        let irqchip = |chip_id| {
            let mut chip = kvm_irqchip { chip_id, ..Default::default() };
            vm.get_irqchip(&mut chip).map_err(refused("read an interrupt controller"))?;
            Ok(to_bytes(&chip))
        };
        let [first, second, third] = IRQCHIPS;
        let one = vcpus.first().ok_or_else(|| SavedError::Unlike("there is no vCPU".into()))?;
        let tsc = read_msrs(one, &[MSR_TSC])?.first().map_or(0, |(_, value)| *value);
        Ok(ChipsetState {
            irqchips: [irqchip(first)?, irqchip(second)?, irqchip(third)?],
            pit: to_bytes(&vm.get_pit2().map_err(refused("read the PIT"))?),
            clock: vm.get_clock().map_err(refused("read the clock"))?.clock,
            tsc,
            tsc_khz: one.get_tsc_khz().ok(),
        })
    }

    /// Makes a new machine's chipset what another one's was, when its vCPUs are what theirs were.
    pub fn restore(&self, vm: &VmFd, _vcpus: &[VcpuFd], state: &ChipsetState) -> Result<(), SavedError> {
        for (chip_id, bytes) in IRQCHIPS.into_iter().zip(&state.irqchips) {
            let chip = kvm_irqchip { chip_id, ..exactly(bytes)? };
            vm.set_irqchip(&chip).map_err(refused("set an interrupt controller"))?;
        }
        vm.set_pit2(&exactly(&state.pit)?).map_err(refused("set the PIT"))?;
        // Without KVM_CLOCK_REALTIME: the time between is not the guest's.
        let clock = kvm_clock_data { clock: state.clock, ..Default::default() };
        vm.set_clock(&clock).map_err(refused("set the clock"))
    }
}

/// Whether all of this host's extended registers fit what is saved of them.
pub fn can_be_saved(vm: &VmFd) -> Result<(), SavedError> {
    let bytes = vm.check_extension_int(Cap::Xsave2);
    if usize::try_from(bytes).unwrap_or(0) > xsave::BYTES {
        return Err(SavedError::Unlike(format!(
            "its extended registers take {bytes} bytes, expected at most {}",
            xsave::BYTES
        )));
    }
    Ok(())
}

#[cfg(test)]
impl VcpuState {
    /// For tests of what carries it.
    pub fn sample() -> Self {
        let bytes = |length: usize| Bytes::from(vec![3; length]);
        Self {
            cpuid: bytes(80),
            mp_state: bytes(4),
            registers: bytes(144),
            system_registers: bytes(312),
            xsave: bytes(4096),
            xcrs: bytes(392),
            debug: bytes(128),
            msrs: vec![(0x10, 7), (0x6e0, u64::MAX)],
            local_apic: bytes(1024),
            events: bytes(64),
        }
    }
}

#[cfg(test)]
impl ChipsetState {
    /// For tests of what carries it.
    pub fn sample() -> Self {
        Self {
            irqchips: [1, 2, 3].map(|byte| vec![byte; 520].into()),
            pit: vec![4; 112].into(),
            clock: 5,
            tsc: 6,
            tsc_khz: Some(7),
        }
    }
}

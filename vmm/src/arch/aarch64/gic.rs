//! A GIC across a snapshot: which registers make up its state, and in which order they go back.
//!
//! Duty: the lists, and reading and writing them. A saved GIC is the values alone; the lists are made here from the
//! number of vCPUs and interrupts, so nothing in a file says which register is written.
//!
//! Order of writing: the implementation's number first, as it decides what later writes mean; then the distributor's
//! switch, since KVM queues an interrupt for its vCPU when it becomes pending, and only if the distributor is on: one
//! that is made pending before would be forgotten. Configuration comes before what is enabled, pending and active, and
//! no vCPU runs meanwhile. Only set-registers are written: the GIC is new, so nothing has to be cleared. There are no
//! LPIs (no ITS), hence no tables in memory.

use kvm_bindings::{
    KVM_DEV_ARM_VGIC_GRP_CPU_REGS, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, KVM_DEV_ARM_VGIC_GRP_DIST_REGS,
    KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
};
use kvm_ioctls::DeviceFd;
use serde::{Deserialize, Serialize};

use super::attribute;
use super::chipset::{Gic, PRIVATE_INTERRUPTS};
use super::layout::SPI_COUNT;
use crate::arch::SavedError;

/// Values of every register, in the order of the lists below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GicState {
    /// 2 or 3.
    version: u8,
    values: Vec<u64>,
}

/// The place of a register: a group and an attribute of the device.
type Place = (u32, u64);

const INTERRUPTS: u32 = PRIVATE_INTERRUPTS + SPI_COUNT;

// Registers of a distributor, and of the second page of a redistributor.
const CTLR: u32 = 0x000;
const IIDR: u32 = 0x008;
const IGROUPR: u32 = 0x080;
const ISENABLER: u32 = 0x100;
const ISPENDR: u32 = 0x200;
const ISACTIVER: u32 = 0x300;
const IPRIORITYR: u32 = 0x400;
const ITARGETSR: u32 = 0x800;
const ICFGR: u32 = 0xc00;
const SPENDSGIR: u32 = 0xf20;
const IROUTER: u32 = 0x6000;
/// The second page of a redistributor, which is for private interrupts.
const SGI_PAGE: u32 = 0x1_0000;

/// Words of registers that have so many bits for each of the interrupts from `first` to `end`.
fn words(base: u32, bits: u32, first: u32, end: u32) -> impl Iterator<Item = u32> {
    (first * bits / 32..end * bits / 32).map(move |word| base + word * 4)
}

/// What both versions have for interrupts in a range, `more` among the configuration.
fn interrupts(first: u32, end: u32, more: impl Iterator<Item = u32>) -> impl Iterator<Item = u32> {
    words(IGROUPR, 1, first, end)
        .chain(words(ICFGR, 2, first, end))
        .chain(words(IPRIORITYR, 8, first, end))
        .chain(more)
        .chain(words(ISENABLER, 1, first, end))
        .chain(words(ISPENDR, 1, first, end))
        .chain(words(ISACTIVER, 1, first, end))
}

/// Every register of a GICv3 whose vCPUs have these affinities.
fn places_v3(affinities: &[u64], active_registers: u64) -> Vec<Place> {
    let routes = (PRIVATE_INTERRUPTS..INTERRUPTS).flat_map(|n| [IROUTER + n * 8, IROUTER + n * 8 + 4]);
    let distributor = [IIDR, CTLR]
        .into_iter()
        .chain(interrupts(PRIVATE_INTERRUPTS, INTERRUPTS, routes))
        .map(|offset| (KVM_DEV_ARM_VGIC_GRP_DIST_REGS, u64::from(offset)));
    let mut places: Vec<Place> = distributor.collect();
    for affinity in affinities {
        let own = |offset: u32| (KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, affinity | u64::from(offset));
        let page = interrupts(0, PRIVATE_INTERRUPTS, std::iter::empty()).map(|offset| SGI_PAGE + offset);
        places.push(own(CTLR));
        places.extend(page.map(own));
        let registers = cpu_registers(active_registers);
        places.extend(registers.map(|register| (KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, affinity | register)));
        places.push((KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, *affinity));
    }
    let one = affinities.first().copied().unwrap_or(0);
    let shared = (PRIVATE_INTERRUPTS..INTERRUPTS).step_by(32);
    places.extend(shared.map(|first| (KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, one | u64::from(first))));
    places
}

/// A system register as the attribute names it; all of them have op0 3 and op1 0.
const fn system(n: u64, m: u64, op2: u64) -> u64 {
    (3 << 14) | (n << 7) | (m << 3) | op2
}

const ICC_CTLR_EL1: u64 = system(12, 12, 4);

/// Registers of a CPU interface: SRE, CTLR, PMR, BPR0, BPR1, active priorities of both groups, group enables.
fn cpu_registers(active: u64) -> impl Iterator<Item = u64> {
    let active = (0..active).flat_map(|n| [system(12, 8, 4 + n), system(12, 9, n)]);
    [system(12, 12, 5), ICC_CTLR_EL1, system(4, 6, 0), system(12, 8, 3), system(12, 12, 3)]
        .into_iter()
        .chain(active)
        .chain([system(12, 12, 6), system(12, 12, 7)])
}

/// How many registers of active priorities a GICv3 has, by the number of its priority bits.
fn active_registers(device: &DeviceFd, affinity: u64) -> Result<u64, SavedError> {
    let control = get(device, (KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, affinity | ICC_CTLR_EL1))?;
    Ok(match (control >> 8) & 7 {
        6.. => 4,
        5 => 2,
        _ => 1,
    })
}

/// Every register of a GICv2 with so many vCPUs.
fn places_v2(vcpus: usize) -> Vec<Place> {
    let targets = words(ITARGETSR, 8, PRIVATE_INTERRUPTS, INTERRUPTS);
    let distributor = [IIDR, CTLR]
        .into_iter()
        .chain(interrupts(PRIVATE_INTERRUPTS, INTERRUPTS, targets))
        .map(|offset| (KVM_DEV_ARM_VGIC_GRP_DIST_REGS, u64::from(offset)));
    let mut places: Vec<Place> = distributor.collect();
    for vcpu in (0u64..).take(vcpus) {
        let of = |group: u32| move |offset: u32| (group, (vcpu << 32) | u64::from(offset));
        let software = words(SPENDSGIR, 8, 0, 16);
        let banked = interrupts(0, PRIVATE_INTERRUPTS, software);
        places.extend(banked.map(of(KVM_DEV_ARM_VGIC_GRP_DIST_REGS)));
        // CTLR, PMR, BPR, ABPR, and the active priorities.
        let interface = [0x00, 0x04, 0x08, 0x1c, 0xd0, 0xd4, 0xd8, 0xdc].into_iter();
        places.extend(interface.map(of(KVM_DEV_ARM_VGIC_GRP_CPU_REGS)));
    }
    places
}

fn get(device: &DeviceFd, (group, attr): Place) -> Result<u64, SavedError> {
    attribute::read(device, group, attr).map_err(|error| SavedError::Kvm("read the GIC", error))
}

fn places(gic: Gic, device: &DeviceFd, affinities: &[u64]) -> Result<Vec<Place>, SavedError> {
    match gic {
        Gic::V2 => Ok(places_v2(affinities.len())),
        Gic::V3 => {
            let active = active_registers(device, affinities.first().copied().unwrap_or(0))?;
            Ok(places_v3(affinities, active))
        }
    }
}

const fn version(gic: Gic) -> u8 {
    match gic {
        Gic::V2 => 2,
        Gic::V3 => 3,
    }
}

/// Reads all of a GIC whose vCPUs rest. `affinities` are theirs, as attributes have them.
pub(super) fn save(gic: Gic, device: &DeviceFd, affinities: &[u64]) -> Result<GicState, SavedError> {
    let places = places(gic, device, affinities)?;
    let values: Result<_, _> = places.into_iter().map(|place| get(device, place)).collect();
    Ok(GicState { version: version(gic), values: values? })
}

/// Makes a new GIC what another one was.
pub(super) fn restore(
    gic: Gic,
    device: &DeviceFd,
    affinities: &[u64],
    state: &GicState,
) -> Result<(), SavedError> {
    if state.version != version(gic) {
        return Err(SavedError::Unlike(format!(
            "it has a GICv{}, and the host a GICv{}",
            state.version,
            version(gic)
        )));
    }
    let places = places(gic, device, affinities)?;
    if places.len() != state.values.len() {
        return Err(SavedError::Unlike(format!(
            "its interrupt controller has {} registers, the host's {}",
            state.values.len(),
            places.len()
        )));
    }
    for ((group, attr), value) in places.into_iter().zip(&state.values) {
        attribute::write(device, group, attr, *value)
            .map_err(|error| SavedError::Kvm("write the GIC", error))?;
    }
    Ok(())
}

#[cfg(test)]
impl GicState {
    /// For tests of what carries it.
    pub(super) fn sample() -> Self {
        Self { version: 3, values: vec![1; 400] }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_register_is_listed_twice_and_the_switch_comes_before_interrupts() {
        for places in [places_v2(8), places_v3(&[0, 1 << 32, 2 << 32], 4)] {
            let all: HashSet<_> = places.iter().collect();
            assert_eq!(all.len(), places.len());
            let first = [IIDR, CTLR].map(|offset| (KVM_DEV_ARM_VGIC_GRP_DIST_REGS, offset.into()));
            assert!(places.starts_with(&first));
        }
    }

    #[test]
    fn words_cover_each_interrupt_once() {
        assert_eq!(words(0x100, 1, 32, 96).collect::<Vec<_>>(), [0x104, 0x108]);
        assert_eq!(words(0x400, 8, 0, 32).collect::<Vec<_>>().len(), 8);
        assert_eq!(words(0xc00, 2, 32, 96).collect::<Vec<_>>(), [0xc08, 0xc0c, 0xc10, 0xc14]);
    }
}

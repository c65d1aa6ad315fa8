//! Processors of an ARM64 machine across a snapshot.
//!
//! Duty: every register that KVM lists, the run state, and pending SErrors; the GIC with them (`gic.rs`).
//!
//! A processor that differs shows in its identification registers: KVM takes no other value for those than it has,
//! unless it can hide what is more. So a register that is refused, and has not the saved value already, is a host that
//! the guest cannot go on at.
//!
//! Time: the virtual counter is the same for all vCPUs of a machine. It is written once, last, so that a guest's
//! monotonic time goes on from where it was.

use kvm_bindings::{RegList, kvm_mp_state, kvm_vcpu_events};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use serde::{Deserialize, Serialize};

use super::Chipset;
use super::gic::{self, GicState};
use crate::arch::SavedError;
use crate::snapshot::Bytes;

/// Registers of a vCPU, at most: as many as the list of the bindings holds. KVM lists about three hundred without SVE.
const MAX_REGISTERS: usize = 500;
/// Bytes of the longest register, which is one of SVE.
const LONGEST: usize = 256;

/// The virtual counter. KVM's number for it, which is the encoding of another register.
const COUNTER: u64 = system(3, 14, 3, 2);
/// The physical counter, which is the host's.
const PHYSICAL_COUNTER: u64 = system(3, 14, 0, 1);
/// Which vCPU it is, as the GIC addresses it.
const MPIDR: u64 = system(0, 0, 0, 5);

/// KVM's number of a system register; all that matter here have op0 3.
const fn system(op1: u64, n: u64, m: u64, op2: u64) -> u64 {
    const ARM64_SYSTEM_U64: u64 = 0x6030_0000_0013_0000;
    ARM64_SYSTEM_U64 | (3 << 14) | (op1 << 11) | (n << 7) | (m << 3) | op2
}

/// Bytes of a register, which its number tells.
const fn size(id: u64) -> usize {
    1 << ((id >> 52) & 0xf)
}

/// One register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Register {
    pub(super) id: u64,
    pub(super) value: Bytes,
}

/// One processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VcpuState {
    pub(super) registers: Vec<Register>,
    run_state: u32,
    /// A pending SError, with its syndrome where it has one.
    serror: Option<Option<u64>>,
}

/// What the processors share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChipsetState {
    gic: GicState,
    counter: u64,
}

fn refused(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> SavedError {
    move |error| SavedError::Kvm(what, error)
}

fn list(vcpu: &VcpuFd) -> Result<RegList, SavedError> {
    let mut list = RegList::new(MAX_REGISTERS)
        .map_err(|_| SavedError::Unlike("no room for a list of registers".into()))?;
    vcpu.get_reg_list(&mut list).map_err(refused("list registers"))?;
    Ok(list)
}

fn read(vcpu: &VcpuFd, id: u64) -> Result<Vec<u8>, SavedError> {
    let mut value = vec![0; size(id)];
    vcpu.get_one_reg(id, &mut value).map_err(refused("read a register"))?;
    Ok(value)
}

fn read_u64(vcpu: &VcpuFd, id: u64) -> Result<u64, SavedError> {
    let mut value = [0; 8];
    vcpu.get_one_reg(id, &mut value).map_err(refused("read a register"))?;
    Ok(u64::from_le_bytes(value))
}

/// The affinity of a vCPU, as attributes of the GIC have it in their upper half.
fn affinity(vcpu: &VcpuFd) -> Result<u64, SavedError> {
    let mpidr = read_u64(vcpu, MPIDR)?;
    Ok(((mpidr & 0xff_ffff) << 32) | ((mpidr & 0xff_0000_0000) << 24))
}

/// Reads one vCPU that rests.
pub fn save_vcpu(_kvm: &Kvm, _vm: &VmFd, vcpu: &VcpuFd) -> Result<VcpuState, SavedError> {
    let run_state = vcpu.get_mp_state().map_err(refused("read whether a vCPU runs"))?.mp_state;
    let listed = list(vcpu)?;
    let registers = listed.as_slice().iter().filter(|id| !matches!(**id, COUNTER | PHYSICAL_COUNTER));
    let registers: Result<_, SavedError> =
        registers.map(|&id| Ok(Register { id, value: read(vcpu, id)?.into() })).collect();
    // Not every KVM knows them, and then there is none.
    let pending = vcpu.get_vcpu_events().map(|events| events.exception).unwrap_or_default();
    let serror =
        (pending.serror_pending != 0).then(|| (pending.serror_has_esr != 0).then_some(pending.serror_esr));
    Ok(VcpuState { registers: registers?, run_state, serror })
}

/// Makes a new vCPU what another one was.
pub fn restore_vcpu(
    _kvm: &Kvm,
    _vm: &VmFd,
    vcpu: &VcpuFd,
    state: &VcpuState,
    _shared: &ChipsetState,
) -> Result<(), SavedError> {
    let listed = list(vcpu)?;
    for Register { id, value } in &state.registers {
        let known = listed.as_slice().contains(id) && value.len() == size(*id) && value.len() <= LONGEST;
        if !known {
            return Err(SavedError::Unlike(format!("the host's processor has no register {id:#x}")));
        }
        if matches!(*id, COUNTER | PHYSICAL_COUNTER) || vcpu.set_one_reg(*id, value).is_ok() {
            continue;
        }
        let here = read(vcpu, *id)?;
        if here != **value {
            let number = |bytes: &[u8]| {
                bytes.iter().rev().fold(String::from("0x"), |text, byte| format!("{text}{byte:02x}"))
            };
            return Err(SavedError::Unlike(format!(
                "the host's processor is another one: register {id:#x} is {} here and {} there",
                number(&here),
                number(value)
            )));
        }
    }
    let run_state = kvm_mp_state { mp_state: state.run_state };
    vcpu.set_mp_state(run_state).map_err(refused("set whether a vCPU runs"))?;
    if let Some(syndrome) = state.serror {
        let mut events = kvm_vcpu_events::default();
        events.exception.serror_pending = 1;
        events.exception.serror_has_esr = syndrome.is_some().into();
        events.exception.serror_esr = syndrome.unwrap_or(0);
        vcpu.set_vcpu_events(&events).map_err(refused("set pending events"))?;
    }
    Ok(())
}

impl Chipset {
    /// Reads what the vCPUs share; none of them runs.
    pub fn save(&self, _vm: &VmFd, vcpus: &[VcpuFd]) -> Result<ChipsetState, SavedError> {
        let affinities: Result<Vec<_>, _> = vcpus.iter().map(affinity).collect();
        let one = vcpus.first().ok_or_else(|| SavedError::Unlike("there is no vCPU".into()))?;
        let gic = gic::save(self.gic(), self.gic_device()?, &affinities?)?;
        Ok(ChipsetState { gic, counter: read_u64(one, COUNTER)? })
    }

    /// Makes a new machine's chipset what another one's was, when its vCPUs are what theirs were.
    pub fn restore(&self, _vm: &VmFd, vcpus: &[VcpuFd], state: &ChipsetState) -> Result<(), SavedError> {
        let affinities: Result<Vec<_>, _> = vcpus.iter().map(affinity).collect();
        gic::restore(self.gic(), self.gic_device()?, &affinities?, &state.gic)?;
        let one = vcpus.first().ok_or_else(|| SavedError::Unlike("there is no vCPU".into()))?;
        one.set_one_reg(COUNTER, &state.counter.to_le_bytes()).map(drop).map_err(refused("set the counter"))
    }
}

/// Whether all of a vCPU can be saved: always, as KVM lists what there is.
pub const fn can_be_saved(_vm: &VmFd) -> Result<(), SavedError> {
    Ok(())
}

/// What identifies the processor, in one number: hosts with the same can take over each other's guests.
pub fn digest(state: &VcpuState) -> u64 {
    // ID_AA64PFR0_EL1 and those that follow it: op1 0, CRn 0, CRm 4 to 7.
    let identification = system(0, 0, 4, 0)..=system(0, 0, 7, 7);
    let words = state.registers.iter().filter(|register| identification.contains(&register.id));
    crate::snapshot::sum::of_words(
        words
            .map(|register| register.value.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte))),
    )
}

#[cfg(test)]
impl VcpuState {
    /// For tests of what carries it.
    pub fn sample() -> Self {
        let registers = vec![Register { id: COUNTER, value: vec![1; 8].into() }; 300];
        Self { registers, run_state: 0, serror: Some(None) }
    }
}

#[cfg(test)]
impl ChipsetState {
    /// For tests of what carries it.
    pub fn sample() -> Self {
        Self { gic: GicState::sample(), counter: 5 }
    }
}

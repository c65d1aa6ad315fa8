//! Interrupt controllers and timers, all emulated by KVM.

use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_ioctls::{VcpuFd, VmFd};

use super::layout;
use crate::arch::ChipsetError;

/// The APICs, the PIC and the PIT of one VM.
#[derive(Debug)]
pub struct Chipset;

impl Chipset {
    /// What must exist before the first vCPU: each vCPU gets its local APIC at birth.
    pub fn before_vcpus(vm: &VmFd, _vcpus: u8) -> Result<Self, ChipsetError> {
        let kvm = |what| move |error| ChipsetError::Kvm(what, error);
        vm.set_identity_map_address(layout::KVM_IDENTITY_MAP).map_err(kvm("place its identity map"))?;
        vm.set_tss_address(layout::KVM_TSS).map_err(kvm("place its task state"))?;
        vm.create_irq_chip().map_err(kvm("create the APICs"))?;
        // Kernels that find no better clock source calibrate against the PIT; port 0x61 comes with it.
        let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        vm.create_pit2(pit).map_err(kvm("create the PIT"))?;
        Ok(Self)
    }

    /// Nothing to do on x86.
    pub fn after_vcpus(&mut self, _vm: &VmFd, _vcpus: &[VcpuFd]) -> Result<(), ChipsetError> {
        Ok(())
    }
}

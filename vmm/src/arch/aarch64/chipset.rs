//! The interrupt controller: GICv3, or GICv2 where that is what the host has.

use kvm_bindings::{
    KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_PSCI_0_2, KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR,
    KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, KVM_VGIC_V2_ADDR_TYPE_CPU,
    KVM_VGIC_V2_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_REDIST, kvm_create_device,
    kvm_device_attr, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
    kvm_vcpu_init,
};
use kvm_ioctls::{Cap, DeviceFd, VcpuFd, VmFd};

use super::layout;
use crate::arch::{ChipsetError, SavedError};

/// Private interrupts come before the shared ones.
pub(super) const PRIVATE_INTERRUPTS: u32 = 32;

/// Which interrupt controller the guest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gic {
    /// On hosts of the Raspberry Pi 4's age.
    V2,
    /// Everywhere else.
    V3,
}

/// The interrupt controller of one VM. Its descriptor keeps it alive.
#[derive(Debug)]
pub struct Chipset {
    gic: Gic,
    device: Option<DeviceFd>,
}

impl Chipset {
    /// Nothing yet: a GIC is made for vCPUs that exist. But where the host has a GICv2 only, KVM refuses the ninth
    /// vCPU without saying why; it is said here.
    pub fn before_vcpus(vm: &VmFd, vcpus: u8) -> Result<Self, ChipsetError> {
        if i32::from(vcpus) > vm.check_extension_int(Cap::MaxVcpus) {
            return Err(ChipsetError::Lacks("only a GICv2, which serves at most 8 vCPUs"));
        }
        Ok(Self { gic: Gic::V3, device: None })
    }

    /// Initialises the vCPUs, then makes the GIC that connects them.
    pub fn after_vcpus(&mut self, vm: &VmFd, vcpus: &[VcpuFd]) -> Result<(), ChipsetError> {
        for (index, vcpu) in vcpus.iter().enumerate() {
            init(vm, vcpu, index)?;
        }
        let (gic, device) = create(vm)?;
        match gic {
            Gic::V2 => {
                set_address(&device, KVM_VGIC_V2_ADDR_TYPE_DIST, layout::GIC_DISTRIBUTOR)?;
                set_address(&device, KVM_VGIC_V2_ADDR_TYPE_CPU, layout::GICV2_CPU)?;
            }
            Gic::V3 => {
                set_address(&device, KVM_VGIC_V3_ADDR_TYPE_DIST, layout::GIC_DISTRIBUTOR)?;
                set_address(&device, KVM_VGIC_V3_ADDR_TYPE_REDIST, layout::GICV3_REDISTRIBUTORS)?;
            }
        }
        let interrupts = PRIVATE_INTERRUPTS + layout::SPI_COUNT;
        set_attribute(&device, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &raw const interrupts as u64)?;
        set_attribute(&device, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT.into(), 0)?;
        self.gic = gic;
        self.device = Some(device);
        Ok(())
    }

    /// Where its registers are asked for.
    pub(super) fn gic_device(&self) -> Result<&DeviceFd, SavedError> {
        self.device.as_ref().ok_or_else(|| SavedError::Unlike("there is no interrupt controller yet".into()))
    }

    /// What the device tree must describe.
    #[must_use]
    pub const fn gic(&self) -> Gic {
        self.gic
    }
}

/// The host's own CPU model, PSCI for power, and every vCPU but the first asleep until PSCI wakes it.
fn init(vm: &VmFd, vcpu: &VcpuFd, index: usize) -> Result<(), ChipsetError> {
    let mut target = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut target)
        .map_err(|error| ChipsetError::Kvm("name the host's CPU model", error))?;
    target.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
    if index > 0 {
        target.features[0] |= 1 << KVM_ARM_VCPU_POWER_OFF;
    }
    vcpu.vcpu_init(&target).map_err(|error| ChipsetError::Kvm("initialise a vCPU", error))
}

fn create(vm: &VmFd) -> Result<(Gic, DeviceFd), ChipsetError> {
    let kinds = [
        (Gic::V3, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3),
        (Gic::V2, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2),
    ];
    for (gic, kind) in kinds {
        let mut request = kvm_create_device { type_: kind, fd: 0, flags: 0 };
        if let Ok(device) = vm.create_device(&mut request) {
            return Ok((gic, device));
        }
    }
    Err(ChipsetError::Lacks("neither a GICv3 nor a GICv2"))
}

fn set_address(device: &DeviceFd, kind: u32, address: u64) -> Result<(), ChipsetError> {
    set_attribute(device, KVM_DEV_ARM_VGIC_GRP_ADDR, kind.into(), &raw const address as u64)
}

fn set_attribute(device: &DeviceFd, group: u32, attr: u64, addr: u64) -> Result<(), ChipsetError> {
    device
        .set_device_attr(&kvm_device_attr { group, attr, addr, flags: 0 })
        .map_err(|error| ChipsetError::Kvm("set up the GIC", error))
}

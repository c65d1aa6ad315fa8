//! One number of a device that KVM emulates, by its group and attribute.
//!
//! The kernel reads or writes as many bytes as it thinks the number has: 32 bits for registers of distributors and
//! redistributors and for line levels, 64 bits for system registers (Linux `virt/kvm/devices/arm-vgic-v3.rst`).
//! Every number here has room for 64, so that neither can be too few.
#![allow(
    unsafe_code,
    reason = "KVM writes to an address in a structure; the address is that of a number of ours"
)]

use kvm_bindings::kvm_device_attr;
use kvm_ioctls::DeviceFd;

type Result<T> = std::result::Result<T, kvm_ioctls::Error>;

pub(super) fn read(device: &DeviceFd, group: u32, attr: u64) -> Result<u64> {
    let mut number = 0u64;
    let addr = &raw mut number as u64;
    let mut request = kvm_device_attr { group, attr, addr, flags: 0 };
    // SAFETY: the address is that of `number`, which nobody else uses until the call is over and which is as large as
    // the largest that the kernel writes. A number of 32 bits comes to lie in its lower half: ARM64 is little endian.
    unsafe { device.get_device_attr(&mut request) }?;
    Ok(number)
}

pub(super) fn write(device: &DeviceFd, group: u32, attr: u64, number: u64) -> Result<()> {
    let addr = &raw const number as u64;
    device.set_device_attr(&kvm_device_attr { group, attr, addr, flags: 0 })
}

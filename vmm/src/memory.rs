//! Guest RAM: mapped here, shown to KVM here, nowhere else.
//!
//! Invariant: every region that KVM knows outlives the VM, because [`GuestRam`] is held by the machine for
//! as long as the VM descriptor lives. RAM is private, not reserved up front, and left out of core dumps:
//! a guest's secrets do not end in a crash file on the host.
#![allow(unsafe_code, reason = "maps memory and hands it to KVM; the machine keeps both alive together")]

use std::ptr::NonNull;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use nix::libc;
use nix::sys::mman::{MmapAdvise, madvise};
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{
    Address, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
};

/// All RAM of one guest.
pub type GuestRam = GuestMemoryMmap<()>;

/// Why guest RAM could not be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The host refused the mapping.
    #[error("cannot map {mib} MiB of guest memory")]
    Map {
        /// How much was asked for.
        mib: usize,
        /// What the host said.
        source: vm_memory::mmap::MmapRegionError,
    },
    /// Two ranges touch or the range leaves the address space: a fault of the layout tables.
    #[error("guest memory layout does not fit")]
    Layout,
    /// KVM refused the region.
    #[error("KVM refused the guest memory at {address:#x}")]
    Register {
        /// Where the guest would have seen it.
        address: u64,
        /// What KVM said.
        source: kvm_ioctls::Error,
    },
}

/// Maps RAM for the given guest-physical ranges.
pub fn allocate(ranges: &[(GuestAddress, usize)]) -> Result<GuestRam, MemoryError> {
    let mut regions = Vec::with_capacity(ranges.len());
    for &(start, size) in ranges {
        let mapping = MmapRegionBuilder::new(size)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE)
            .build()
            .map_err(|source| MemoryError::Map { mib: size >> 20, source })?;
        let start_of_mapping = NonNull::new(mapping.as_ptr()).ok_or(MemoryError::Layout)?;
        // SAFETY: the range is the mapping just made, and DONTDUMP changes no byte and no permission of it.
        let advised = unsafe { madvise(start_of_mapping.cast(), size, MmapAdvise::MADV_DONTDUMP) };
        if let Err(errno) = advised {
            log::warn!("guest memory will be part of core dumps: {errno}");
        }
        regions.push(GuestRegionMmap::new(mapping, start).ok_or(MemoryError::Layout)?);
    }
    GuestRam::from_regions(regions).map_err(|_| MemoryError::Layout)
}

/// Shows every region to KVM, one slot each, in address order.
pub fn register(vm: &VmFd, ram: &GuestRam) -> Result<(), MemoryError> {
    for (slot, region) in (0u32..).zip(ram.iter()) {
        let address = region.start_addr().raw_value();
        let description = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: address,
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
        };
        // SAFETY: the region is a mapping of exactly this length, and `Machine` drops it after the VM.
        unsafe { vm.set_user_memory_region(description) }
            .map_err(|source| MemoryError::Register { address, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use vm_memory::Bytes;

    use super::*;

    #[test]
    fn memory_is_zeroed_and_bounded_by_its_ranges() {
        let ram = allocate(&[(GuestAddress(0), 1 << 20), (GuestAddress(1 << 32), 1 << 20)]).unwrap();
        assert_eq!(ram.read_obj::<u64>(GuestAddress(0xffff8)).unwrap(), 0);
        assert!(ram.read_obj::<u64>(GuestAddress(0xffffc)).is_err());
        assert_eq!(ram.last_addr(), GuestAddress((1 << 32) + (1 << 20) - 1));
    }

    #[test]
    fn overlapping_ranges_are_refused() {
        assert!(allocate(&[(GuestAddress(0), 8192), (GuestAddress(4096), 8192)]).is_err());
    }
}

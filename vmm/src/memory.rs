//! Guest RAM: mapped here, shown to KVM here, given back to the host here, nowhere else.
//!
//! Duty: where RAM is from, how much of it is in use, and which of it the guest does without. Not its duty: who
//! lives where in it (`arch/*/layout.rs`), and which pages a guest lends back (`virtio/balloon/`).
//!
//! Invariant: every region that KVM knows outlives the VM, because [`GuestRam`] is held by the machine for
//! as long as the VM descriptor lives. RAM is private and left out of core dumps: a guest's secrets do not end in
//! a crash file on the host.
//!
//! Ordinary RAM is not reserved up front: a guest takes from the host what it has touched, and machines may promise
//! more than there is. Transparent huge pages are declined: with them a guest that touches one page takes 2 MiB, a
//! start clears megabytes that nobody reads (9 % of the time to READY where the host has them set to "always"), and
//! the host fills the holes again that a balloon has made. RAM of huge pages is reserved whole when it is mapped: a
//! pool that is too small is told before the guest starts, because later its first touch would end the monitor
//! (SIGBUS).
#![allow(unsafe_code, reason = "maps memory and hands it to KVM; the machine keeps both alive together")]

mod pagemap;

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::Arc;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use nix::libc;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap};
use nix::unistd::{SysconfVar, sysconf};
use vm_memory::mmap::{MmapRegionBuilder, MmapRegionError};
use vm_memory::{
    Address, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    GuestRegionMmap, MmapRegion,
};

pub use self::pagemap::{
    Backed, Content, Run, backed_by, check as check_runs, coarsened, content, data, keep_page_map, offset_of,
    written,
};

/// Bytes of the huge pages that a guest's RAM may be made of. Both architectures have them, whatever the size of
/// their ordinary pages.
const HUGE_PAGE: usize = 2 << 20;
/// Where the host keeps account of them.
const HUGE_PAGE_POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
/// The largest page that an ordinary Linux host has, in bytes.
const LARGEST_PAGE: usize = 64 << 10;
/// Pages that the host is asked about at a time: one byte of answer each.
const PAGES_PER_QUESTION: usize = 64 << 10;

/// All RAM of one guest.
pub type GuestRam = GuestMemoryMmap<()>;

/// What RAM is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// What the host has, when they are touched.
    Ordinary,
    /// 2 MiB each, out of the host's pool, reserved from the start.
    Huge,
}

/// Why guest RAM could not be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The host refused the mapping.
    #[error("cannot map {mib} MiB of guest memory")]
    Map {
        /// How much was asked for.
        mib: usize,
        /// What the host said.
        source: MmapRegionError,
    },
    /// The host's pool of huge pages is too small.
    #[error(
        "expected {wanted} free huge pages of 2 MiB on the host, found {free}: add {} to {HUGE_PAGE_POOL}/nr_hugepages",
        wanted.saturating_sub(*free)
    )]
    TooFewHugePages {
        /// How many it takes.
        wanted: usize,
        /// How many nobody has or is promised.
        free: usize,
    },
    /// Two ranges touch or the range leaves the address space: a fault of the layout tables.
    #[error("guest memory layout does not fit")]
    Layout,
    /// A range does not begin and end with a page of the host: a fault of the layout tables.
    #[error("guest memory at {address:#x} is not whole pages of {page} bytes")]
    PartOfAPage {
        /// Where it begins.
        address: u64,
        /// Bytes of the host's pages.
        page: usize,
    },
    /// KVM refused the region.
    #[error("KVM refused the guest memory at {address:#x}")]
    Register {
        /// Where the guest would have seen it.
        address: u64,
        /// What KVM said.
        source: kvm_ioctls::Error,
    },
}

impl MemoryError {
    /// The key of the configuration that is at fault, if one is.
    #[must_use]
    pub const fn key(&self) -> Option<&'static str> {
        match self {
            Self::Map { .. } => Some("machine.memory_mib"),
            Self::TooFewHugePages { .. } => Some("machine.huge_pages"),
            Self::Layout | Self::PartOfAPage { .. } | Self::Register { .. } => None,
        }
    }
}

/// Bytes of the host's pages: 4, 16 or 64 KiB.
#[must_use]
pub fn host_page() -> usize {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    page.and_then(|page| usize::try_from(page).ok()).unwrap_or(LARGEST_PAGE)
}

/// Whether the host has so much RAM to give; only huge pages can run out before they are touched.
pub fn examine(pages: Pages, bytes: usize) -> Result<(), MemoryError> {
    let (wanted, free) = (bytes / HUGE_PAGE, free_huge_pages());
    if pages == Pages::Huge && free < wanted {
        Err(MemoryError::TooFewHugePages { wanted, free })
    } else {
        Ok(())
    }
}

/// Maps ordinary RAM for the given guest-physical ranges.
pub fn allocate(ranges: &[(GuestAddress, usize)]) -> Result<GuestRam, MemoryError> {
    allocate_of(Pages::Ordinary, ranges)
}

/// Maps a file as RAM, privately, for the given guest-physical ranges: one after the other, from its first byte on.
/// Nothing is read before it is touched, and all machines that are mapped from one file share what none of them writes.
pub fn map_file(file: &File, ranges: &[(GuestAddress, usize)]) -> Result<GuestRam, MemoryError> {
    let total = ranges.iter().fold(0usize, |total, (_, size)| total.saturating_add(*size));
    let failed = |source| MemoryError::Map { mib: total >> 20, source };
    let file = Arc::new(file.try_clone().map_err(|error| failed(MmapRegionError::Mmap(error)))?);
    let mut offset = 0;
    let mut regions = Vec::with_capacity(ranges.len());
    for &(start, size) in ranges {
        check_whole_pages(start, size, host_page())?;
        let mapping = MmapRegionBuilder::new(size)
            .with_file_offset(FileOffset::from_arc(file.clone(), offset))
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_NORESERVE)
            .build()
            .map_err(failed)?;
        leave_out_of_dumps(&mapping)?;
        regions.push(GuestRegionMmap::new(mapping, start).ok_or(MemoryError::Layout)?);
        offset += size as u64;
    }
    GuestRam::from_regions(regions).map_err(|_| MemoryError::Layout)
}

/// Maps a file over RAM that holds the same bytes; see [`map_file`]. What was private of it is the host's again.
pub fn map_over(ram: &GuestRam, file: &File) -> io::Result<()> {
    let mut offset = 0;
    for region in ram.iter() {
        let length = usize::try_from(region.len()).map_err(io::Error::other)?;
        let (place, length) = (NonZeroUsize::new(region.as_ptr().addr()), NonZeroUsize::new(length));
        let length = length.ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED | MapFlags::MAP_NORESERVE;
        // SAFETY: the pages are all of a region of the guest's RAM, which stays mapped, readable and writable, as it
        // was; nothing but volatile accesses and KVM ever looks at its bytes.
        unsafe { mmap(place, length, protection, flags, file, offset) }?;
        // SAFETY: the range is the mapping just made, and DONTDUMP changes no byte and no permission of it.
        let advised = unsafe {
            madvise(
                NonNull::new(region.as_ptr()).ok_or(io::ErrorKind::InvalidInput)?.cast(),
                length.get(),
                MmapAdvise::MADV_DONTDUMP,
            )
        };
        advised?;
        offset += libc::off_t::try_from(length.get()).map_err(io::Error::other)?;
    }
    Ok(())
}

fn leave_out_of_dumps(mapping: &MmapRegion) -> Result<(), MemoryError> {
    let start = NonNull::new(mapping.as_ptr()).ok_or(MemoryError::Layout)?;
    // SAFETY: the range is a mapping just made, and DONTDUMP changes no byte and no permission of it.
    if let Err(errno) = unsafe { madvise(start.cast(), mapping.size(), MmapAdvise::MADV_DONTDUMP) } {
        log::warn!("guest memory will be part of core dumps: {errno}");
    }
    Ok(())
}

/// Maps RAM for the given guest-physical ranges.
pub fn allocate_of(pages: Pages, ranges: &[(GuestAddress, usize)]) -> Result<GuestRam, MemoryError> {
    let total = ranges.iter().fold(0usize, |total, (_, size)| total.saturating_add(*size));
    if pages == Pages::Ordinary {
        warn_of_more_than_there_is(total);
    }
    let page = match pages {
        Pages::Ordinary => host_page(),
        Pages::Huge => HUGE_PAGE,
    };
    let mut regions = Vec::with_capacity(ranges.len());
    for &(start, size) in ranges {
        check_whole_pages(start, size, page)?;
        let mapping = match map(pages, size) {
            Ok(mapping) => mapping,
            Err(source) => {
                // What the first ranges have reserved is free again when it is counted.
                drop(regions);
                return Err(why_not(pages, total, source));
            }
        };
        leave_out_of_dumps(&mapping)?;
        let start_of_mapping = NonNull::new(mapping.as_ptr()).ok_or(MemoryError::Layout)?;
        if pages == Pages::Ordinary {
            // SAFETY: as above; how the host backs the range is nothing that a program sees.
            let advised = unsafe { madvise(start_of_mapping.cast(), size, MmapAdvise::MADV_NOHUGEPAGE) };
            if let Err(errno) = advised {
                log::debug!("transparent huge pages are as the host has them set: {errno}");
            }
        }
        regions.push(GuestRegionMmap::new(mapping, start).ok_or(MemoryError::Layout)?);
    }
    GuestRam::from_regions(regions).map_err(|_| MemoryError::Layout)
}

fn map(pages: Pages, size: usize) -> Result<MmapRegion, MmapRegionError> {
    // Without NORESERVE, huge pages are set aside for this mapping or it fails.
    let kind = match pages {
        Pages::Ordinary => libc::MAP_NORESERVE,
        Pages::Huge => libc::MAP_HUGETLB | libc::MAP_HUGE_2MB,
    };
    MmapRegionBuilder::new(size)
        .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
        .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | kind)
        .build()
}

/// KVM takes whole pages of the host only, and so does the host when it gets them back.
fn check_whole_pages(start: GuestAddress, size: usize, page: usize) -> Result<(), MemoryError> {
    let whole = size > 0 && size.is_multiple_of(page) && start.raw_value().is_multiple_of(page as u64);
    whole.then_some(()).ok_or(MemoryError::PartOfAPage { address: start.raw_value(), page })
}

fn why_not(pages: Pages, total: usize, source: MmapRegionError) -> MemoryError {
    let wanted = total / HUGE_PAGE;
    match free_huge_pages() {
        free if pages == Pages::Huge && free < wanted => MemoryError::TooFewHugePages { wanted, free },
        _ => MemoryError::Map { mib: total >> 20, source },
    }
}

/// Huge pages that nobody has and that nobody is promised; none on a host that does not know them.
fn free_huge_pages() -> usize {
    let count = |name: &str| -> usize {
        let text = std::fs::read_to_string(format!("{HUGE_PAGE_POOL}/{name}")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    count("free_hugepages").saturating_sub(count("resv_hugepages"))
}

/// No fault: a guest may never touch all of it, or lend it back. But whoever mistyped a size hears of it.
fn warn_of_more_than_there_is(total: usize) {
    let pages = sysconf(SysconfVar::_PHYS_PAGES).ok().flatten().and_then(|pages| usize::try_from(pages).ok());
    let host = pages.and_then(|pages| pages.checked_mul(host_page()));
    if let Some(host) = host.filter(|&host| host < total) {
        let (mib, host) = (total >> 20, host >> 20);
        log::warn!("machine.memory_mib: {mib} MiB are more than the {host} MiB that the host has");
    }
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

/// Bytes of RAM that take room on the host at this moment.
///
/// The host is asked page by page (`mincore`), which it answers from the page tables: no text to make and to read as
/// `/proc/self/smaps` has it, an eighth of what `pagemap` copies, and no file to open in a jail. A GiB of 4 KiB pages
/// takes 256 Ki bytes of answers, in pieces of 64 KiB, and about half a millisecond.
///
/// A page that was only read counts, although all such pages are the host's one page of zeroes; a page of a file
/// that is mapped as RAM counts while the host has it in its cache, for whomever. Pages in swap do not count.
///
/// Of a file that the monitor neither owns nor may write, Linux since 5.2 says that every page is there, so as not to
/// tell what others read. That is the normal case of a kernel and initrd under an unprivileged monitor: both count whole,
/// also where the guest has given their memory back. Without them the figure is exact.
pub fn in_use(ram: &GuestRam) -> io::Result<u64> {
    let page = host_page();
    let mut answers = vec![0u8; PAGES_PER_QUESTION];
    let mut pages = 0u64;
    for region in ram.iter() {
        let length = usize::try_from(region.len()).unwrap_or(usize::MAX);
        for offset in (0..length).step_by(PAGES_PER_QUESTION * page) {
            let bytes = (length - offset).min(PAGES_PER_QUESTION * page);
            let start = region.as_ptr().wrapping_add(offset);
            // SAFETY: the range is within the region's mapping, and there is a byte of answer for each of its pages.
            let asked = unsafe { libc::mincore(start.cast(), bytes, answers.as_mut_ptr()) };
            nix::errno::Errno::result(asked)?;
            pages +=
                answers.iter().take(bytes.div_ceil(page)).map(|answer| u64::from(answer & 1)).sum::<u64>();
        }
    }
    Ok(pages * page as u64)
}

/// Gives RAM that the guest does without back to the host.
#[derive(Debug, Clone)]
pub struct Lender {
    ram: GuestRam,
    granule: Option<u64>,
}

impl Lender {
    /// For all of `ram`.
    #[must_use]
    pub fn new(ram: &GuestRam) -> Self {
        let huge = ram.iter().any(|region| region.flags() & libc::MAP_HUGETLB != 0);
        Self { ram: ram.clone(), granule: (!huge).then(|| host_page() as u64) }
    }

    /// RAM goes back in multiples of so many bytes, at such addresses.
    ///
    /// Huge pages do not go back at all. They would go to the host's pool, which nothing but huge pages is made of,
    /// and before Linux 6.10 this mapping's claim on them was lost on the way: another process could have taken
    /// them, and the guest's next touch would have ended the monitor.
    #[must_use]
    pub const fn granule(&self) -> Option<u64> {
        self.granule
    }

    /// The pages from `start` on take no room on the host until somebody touches them, and then hold zeroes, or what
    /// the file holds that is mapped there.
    ///
    /// `MADV_DONTNEED` does that because all RAM is private; what several processes share would take a hole in the
    /// file beneath (`MADV_REMOVE`).
    pub fn give_back(&self, start: GuestAddress, bytes: u64) -> io::Result<()> {
        let refused = || io::Error::from(io::ErrorKind::InvalidInput);
        let granule = self.granule.ok_or(io::ErrorKind::Unsupported)?;
        let (region, offset) = self.ram.to_region_addr(start).ok_or_else(refused)?;
        let offset = offset.raw_value();
        let fits = offset.checked_add(bytes).is_some_and(|end| end <= region.len());
        if !fits || bytes == 0 || !offset.is_multiple_of(granule) || !bytes.is_multiple_of(granule) {
            return Err(refused());
        }
        let place = region.as_ptr().wrapping_add(usize::try_from(offset).map_err(io::Error::other)?);
        let place = NonNull::new(place).ok_or_else(refused)?;
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        // SAFETY: the range is within the region's mapping, which stays mapped as it was; nothing but volatile
        // accesses and KVM ever looks at its bytes, so that they change under nobody's reference.
        unsafe { madvise(place.cast(), bytes, MmapAdvise::MADV_DONTNEED) }?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

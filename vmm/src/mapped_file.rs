//! Files that become guest RAM by being mapped: a kernel of many megabytes costs no copy, and all guests on a host
//! share its clean pages.
//!
//! Duty: behave as a reader of a file does, and map where it would have copied. Not here: which file goes where; the
//! loaders know, and see nothing but a reader.
//!
//! Invariant: only RAM of the guest is ever mapped over, privately, so nothing that a guest writes reaches the file.
//! A file that is cut short while a guest runs takes its pages along, and the guest's next access ends the monitor
//! (SIGBUS): files are replaced by renaming, as every package manager and image writer does.
#![allow(unsafe_code, reason = "maps files over pages of guest RAM")]

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::Arc;

use nix::libc;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap};
use nix::unistd::{SysconfVar, sysconf};
use vm_memory::bitmap::BitmapSlice;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, ReadVolatile, VolatileMemoryError, VolatileSlice};

use crate::memory::{self, Backed, GuestRam, Run};

/// Below this many bytes a copy is cheaper than a mapping of its own.
const LEAST_BYTES: usize = 64 * 1024;

/// What was mapped, and from where: pages that nobody has written to since can be read from there at any time.
#[derive(Debug, Default)]
pub struct Mapped(RefCell<Vec<Backed>>);

impl Mapped {
    /// All of it.
    #[must_use]
    pub fn into_inner(self) -> Vec<Backed> {
        self.0.into_inner()
    }
}

/// A reader of `file` whose whole pages are mapped where they land in `ram`.
#[derive(Debug)]
pub struct MappedFile<'a> {
    file: &'a File,
    ram: &'a GuestRam,
    length: u64,
    position: u64,
    page: usize,
    mapped: &'a Mapped,
}

impl<'a> MappedFile<'a> {
    /// From the file's first byte on.
    pub fn new(file: &'a File, ram: &'a GuestRam, mapped: &'a Mapped) -> io::Result<Self> {
        let page =
            sysconf(SysconfVar::PAGE_SIZE)?.and_then(|page| usize::try_from(page).ok()).unwrap_or(usize::MAX);
        Ok(Self { file, ram, length: file.metadata()?.len(), position: 0, page, mapped })
    }

    /// Maps as many whole pages as can be; how many bytes that were. None where file and RAM do not lie alike within
    /// their pages, or the host does not want to (RAM of huge pages): then there is a copy to be made.
    fn map(&self, slice: &VolatileSlice<'_, impl BitmapSlice>) -> Option<usize> {
        let left = usize::try_from(self.length.checked_sub(self.position)?).unwrap_or(usize::MAX);
        let bytes = slice.len().min(left) / self.page * self.page;
        let start = NonNull::new(slice.ptr_guard_mut().as_ptr())?;
        let offset = libc::off_t::try_from(self.position).ok()?;
        let aligned =
            start.addr().get().is_multiple_of(self.page) && self.position.is_multiple_of(self.page as u64);
        if bytes < LEAST_BYTES || !aligned || !self.is_ram(start, bytes) {
            return None;
        }
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED | MapFlags::MAP_NORESERVE;
        let (place, length) = (Some(start.addr()), NonZeroUsize::new(bytes)?);
        // SAFETY: the pages belong to the guest's RAM, which `is_ram` has checked; nothing but volatile accesses and
        // KVM ever looks at them, and what replaces them is as long, readable and writable as they were.
        let mapped = unsafe { mmap(place, length, protection, flags, self.file, offset) };
        let mapped = mapped.ok()?;
        // SAFETY: the range is the mapping just made, and DONTDUMP changes no byte and no permission of it.
        if let Err(errno) = unsafe { madvise(mapped, bytes, MmapAdvise::MADV_DONTDUMP) } {
            log::warn!("guest memory will be part of core dumps: {errno}");
        }
        self.remember(start.addr().get(), bytes);
        Some(bytes)
    }

    /// Where no second descriptor is to be had, a snapshot copies the pages as it copies any other.
    fn remember(&self, start: usize, bytes: usize) {
        if let (Ok(file), Some(offset)) = (self.file.try_clone(), memory::offset_of(self.ram, start)) {
            let run = Run { offset, bytes: bytes as u64 };
            self.mapped.0.borrow_mut().push(Backed { file: Arc::new(file), from: self.position, run });
        }
    }

    /// Whether `bytes` from `start` on are the guest's.
    fn is_ram(&self, start: NonNull<u8>, bytes: usize) -> bool {
        let first = start.addr().get();
        self.ram.iter().any(|region| {
            let base = region.as_ptr().addr();
            let length = usize::try_from(region.len()).unwrap_or(0);
            first >= base && first - base <= length && bytes <= length - (first - base)
        })
    }
}

impl ReadVolatile for MappedFile<'_> {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        slice: &mut VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        // Callers take less than they asked for as the end of the file: what is left of the last page comes along.
        let mut moved = self.map(slice).unwrap_or(0);
        if moved < slice.len() {
            let place = self.position + moved as u64;
            self.file.seek(SeekFrom::Start(place)).map_err(VolatileMemoryError::IOError)?;
            moved += self.file.read_volatile(&mut slice.offset(moved)?)?;
        }
        self.position += moved as u64;
        Ok(moved)
    }
}

impl Read for MappedFile<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.file.seek(SeekFrom::Start(self.position))?;
        let count = self.file.read(into)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for MappedFile<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(distance) => self.length.checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use vm_memory::{Bytes, GuestAddress};
    use vmm_sys_util::tempfile::TempFile;

    use super::*;

    const PAGE: usize = 4096;

    /// A file whose pages all differ, with a last one that is not whole.
    fn file(pages: usize) -> (TempFile, Vec<u8>) {
        let byte = |n: usize| u8::try_from((n / PAGE * 7 + n) % 256).unwrap();
        let content: Vec<u8> = (0..pages * PAGE + 100).map(byte).collect();
        let file = TempFile::new().unwrap();
        file.as_file().write_all(&content).unwrap();
        (file, content)
    }

    /// Mappings of `file` in this process.
    fn mappings(file: &TempFile) -> usize {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.ends_with(file.as_path().to_str().unwrap())).count()
    }

    fn place(ram: &GuestRam, file: &TempFile, at: u64, from: u64, bytes: usize) -> Vec<u8> {
        let mapped = Mapped::default();
        let mut reader = MappedFile::new(file.as_file(), ram, &mapped).unwrap();
        reader.seek(SeekFrom::Start(from)).unwrap();
        ram.read_exact_volatile_from(GuestAddress(at), &mut reader, bytes).unwrap();
        assert_eq!(reader.stream_position().unwrap(), from + bytes as u64);
        let mut found = vec![0; bytes];
        ram.read_slice(&mut found, GuestAddress(at)).unwrap();
        found
    }

    #[test]
    fn whole_pages_are_mapped_and_the_rest_is_copied() {
        let (file, content) = file(40);
        let ram = crate::memory::allocate(&[(GuestAddress(0), 1 << 20)]).unwrap();
        assert_eq!(place(&ram, &file, 0x1_0000, 0, content.len()), content);
        assert_eq!(mappings(&file), 1);
        assert_eq!(ram.read_obj::<u8>(GuestAddress(0x1_0000 + content.len() as u64)).unwrap(), 0);
    }

    #[test]
    fn what_a_guest_writes_does_not_reach_the_file() {
        let (file, content) = file(40);
        let ram = crate::memory::allocate(&[(GuestAddress(0), 1 << 20)]).unwrap();
        place(&ram, &file, 0, 0, content.len());
        ram.write_slice(&[0xee; 5 * PAGE], GuestAddress(0)).unwrap();
        assert_eq!(std::fs::read(file.as_path()).unwrap(), content);
    }

    #[test]
    fn what_lies_otherwise_within_its_pages_is_copied() {
        let (file, content) = file(40);
        let ram = crate::memory::allocate(&[(GuestAddress(0), 1 << 20)]).unwrap();
        assert_eq!(place(&ram, &file, 0x1_0000, 512, 30 * PAGE), content[512..512 + 30 * PAGE]);
        assert_eq!(place(&ram, &file, 0x8_0010, 0, 20 * PAGE), content[..20 * PAGE]);
        assert_eq!(mappings(&file), 0);
    }

    #[test]
    fn beyond_the_end_there_is_nothing() {
        let (file, content) = file(40);
        let ram = crate::memory::allocate(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let mapped = Mapped::default();
        let mut reader = MappedFile::new(file.as_file(), &ram, &mapped).unwrap();
        assert!(ram.read_exact_volatile_from(GuestAddress(0), &mut reader, content.len() + 1).is_err());
    }

    #[test]
    fn memory_that_is_not_the_guest_s_is_never_mapped_over() {
        let (file, content) = file(40);
        let ram = crate::memory::allocate(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let other = crate::memory::allocate(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let mapped = Mapped::default();
        let mut reader = MappedFile::new(file.as_file(), &ram, &mapped).unwrap();
        other.read_exact_volatile_from(GuestAddress(0), &mut reader, content.len()).unwrap();
        assert_eq!(mappings(&file), 0);
    }
}

//! Which pages of RAM somebody has touched, as the kernel's page tables have it.
//!
//! Duty: the runs of pages that a copy of RAM must hold, by what a page is. Not its duty: copying.
//!
//! The kernel tells it in `/proc/self/pagemap` without any privilege (Linux `admin-guide/mm/pagemap.rst`): a page that
//! is there and is no file's is one that was written, by a vCPU, by a device model or by the host's kernel on behalf
//! of either; all of them write through the same mapping. So nothing has to be logged while a machine runs, which
//! costs a fault per page, and no write of a device can be missed, as it would be by KVM's log of dirty pages, which
//! knows the vCPUs' alone. (The kernel's own bit for "written since" is missing on ARM64.)

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use serde::{Deserialize, Serialize};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::{GuestRam, host_page};

/// Bytes of an entry of the page map.
const ENTRY: usize = 8;
/// Entries that are read at once.
const ENTRIES: usize = 8192;
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// The page is a file's, or shared.
const OF_A_FILE: u64 = 1 << 61;

/// Pages, one after the other, of RAM as a file has it: all regions in address order, without the holes between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// First byte, in the file.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
}

impl Run {
    /// The first byte behind it.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes)
    }
}

/// Appends a run, or makes the last one longer.
fn add(runs: &mut Vec<Run>, offset: u64, bytes: u64) {
    match runs.last_mut() {
        Some(last) if last.end() == offset => last.bytes += bytes,
        _ => runs.push(Run { offset, bytes }),
    }
}

/// Every page that was written since `ram` was mapped, from a file or as zeroes.
pub fn written(ram: &GuestRam) -> io::Result<Vec<Run>> {
    pages(ram, |entry| entry & SWAPPED != 0 || entry & (PRESENT | OF_A_FILE) == PRESENT)
}

/// A part of RAM that was mapped from a file.
#[derive(Debug, Clone)]
pub struct Backed {
    /// The file.
    pub file: Arc<File>,
    /// Where in it the part begins.
    pub from: u64,
    /// The part.
    pub run: Run,
}

/// Every page that may hold something else than zeroes.
#[derive(Debug, Default)]
pub struct Content {
    /// Those that somebody wrote to: to be copied before anybody writes again.
    pub now: Vec<Run>,
    /// Those that are as they are in the files they were mapped from, which nobody writes to: to be copied at leisure.
    pub later: Vec<Backed>,
}

/// What `ram` holds, of which `backed` was mapped from files.
pub fn content(ram: &GuestRam, backed: &[Backed]) -> io::Result<Content> {
    let written = written(ram)?;
    // A file that nobody noted, or shared memory.
    let others = pages(ram, |entry| entry & (PRESENT | OF_A_FILE) == PRESENT | OF_A_FILE)?;
    let known = union(backed.iter().map(|part| part.run).collect(), Vec::new());
    let now = union(written.clone(), without(&others, &known));
    let part_of = |part: &Backed, run: Run| Backed {
        file: part.file.clone(),
        from: part.from + (run.offset - part.run.offset),
        run,
    };
    let later = backed
        .iter()
        .flat_map(|part| without(&[part.run], &now).into_iter().map(move |run| part_of(part, run)))
        .collect();
    Ok(Content { now, later })
}

/// A file that all of RAM is mapped from.
pub fn backed_by(file: &File) -> io::Result<Backed> {
    let run = Run { offset: 0, bytes: file.metadata()?.len() };
    Ok(Backed { file: Arc::new(file.try_clone()?), from: 0, run })
}

/// Where the byte at an address of this process stands in RAM as a file has it.
#[must_use]
pub fn offset_of(ram: &GuestRam, address: usize) -> Option<u64> {
    let mut offset = 0;
    for region in ram.iter() {
        let into = address.checked_sub(region.as_ptr().addr()).and_then(|into| u64::try_from(into).ok());
        if let Some(into) = into.filter(|into| *into < region.len()) {
            return Some(offset + into);
        }
        offset += region.len();
    }
    None
}

/// What is read by a process that has no `/proc` any more.
static PAGE_MAP: OnceLock<File> = OnceLock::new();

fn page_map() -> io::Result<File> {
    File::open("/proc/self/pagemap")
}

/// Opens the page map of this process for good: it is about to lose sight of it.
pub fn keep_page_map() {
    match page_map() {
        Ok(map) => drop(PAGE_MAP.set(map)),
        Err(error) => log::warn!("memory cannot be looked at from the jail: {error}"),
    }
}

fn pages(ram: &GuestRam, wanted: impl Fn(u64) -> bool) -> io::Result<Vec<Run>> {
    let mut opened = None;
    let map = match PAGE_MAP.get() {
        Some(map) => map,
        None => opened.insert(page_map()?),
    };
    let page = host_page();
    let mut runs = Vec::new();
    let mut entries = vec![0; ENTRIES * ENTRY];
    let mut offset = 0u64;
    for region in ram.iter() {
        let first = region.as_ptr().addr() / page;
        let count = usize::try_from(region.len()).unwrap_or(usize::MAX) / page;
        for done in (0..count).step_by(ENTRIES) {
            let bytes = (count - done).min(ENTRIES) * ENTRY;
            let batch = entries.get_mut(..bytes).unwrap_or_default();
            map.read_exact_at(batch, ((first + done) * ENTRY) as u64)?;
            for entry in batch.as_chunks::<ENTRY>().0 {
                if wanted(u64::from_le_bytes(*entry)) {
                    add(&mut runs, offset, page as u64);
                }
                offset += page as u64;
            }
        }
    }
    Ok(runs)
}

/// What of a file is no hole.
pub fn data(file: &File) -> io::Result<Vec<Run>> {
    let length = file.metadata()?.len();
    let mut runs = Vec::new();
    let mut at = 0;
    while at < length {
        let start = match seek(file, at, Whence::SeekData) {
            Ok(start) => start,
            // Nothing but a hole from here on.
            Err(Errno::ENXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let end = seek(file, start, Whence::SeekHole)?.min(length);
        add(&mut runs, start, end.saturating_sub(start));
        at = end.max(at + 1);
    }
    Ok(runs)
}

fn seek(file: &File, at: u64, whence: Whence) -> Result<u64, Errno> {
    let at = i64::try_from(at).map_err(|_| Errno::EINVAL)?;
    lseek(file.as_fd(), at, whence).map(i64::unsigned_abs)
}

fn union(mut one: Vec<Run>, other: Vec<Run>) -> Vec<Run> {
    one.extend(other);
    one.sort_unstable_by_key(|run| run.offset);
    one.dedup_by(|next, run| {
        let joined = next.offset <= run.end();
        if joined {
            run.bytes = run.bytes.max(next.end() - run.offset);
        }
        joined
    });
    one
}

/// What of `runs` is not in `holes`; both are in order.
fn without(runs: &[Run], holes: &[Run]) -> Vec<Run> {
    let mut left = Vec::new();
    for run in runs {
        let mut at = run.offset;
        let first = holes.partition_point(|hole| hole.end() <= at);
        for hole in holes.iter().skip(first).take_while(|hole| hole.offset < run.end()) {
            if hole.offset > at {
                add(&mut left, at, hole.offset - at);
            }
            at = at.max(hole.end());
        }
        if at < run.end() {
            add(&mut left, at, run.end() - at);
        }
    }
    left
}

/// No more than `max` runs: the narrowest gaps between them are filled in.
#[must_use]
pub fn coarsened(mut runs: Vec<Run>, max: usize) -> Vec<Run> {
    let mut gap = host_page() as u64;
    while runs.len() > max {
        runs.dedup_by(|next, run| {
            let near = next.offset - run.end() <= gap;
            if near {
                run.bytes = next.end() - run.offset;
            }
            near
        });
        gap *= 2;
    }
    runs
}

/// Whether `runs` are in order, apart from each other, whole pages, and within so many bytes.
pub fn check(runs: &[Run], bytes: u64) -> io::Result<()> {
    let page = host_page() as u64;
    let mut end = 0;
    for run in runs {
        let whole = run.bytes > 0 && run.offset.is_multiple_of(page) && run.bytes.is_multiple_of(page);
        let behind = run.offset.checked_add(run.bytes).filter(|behind| *behind <= bytes);
        match behind {
            Some(behind) if whole && run.offset >= end => end = behind,
            _ => return Err(ErrorKind::InvalidData.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::mapped_file::{Mapped, MappedFile};
    use crate::memory;

    const MIB: usize = 1 << 20;

    fn run(offset: u64, bytes: u64) -> Run {
        Run { offset, bytes }
    }

    fn page() -> u64 {
        host_page() as u64
    }

    #[test]
    fn pages_that_were_written_are_found_in_every_region() {
        let ram = memory::allocate(&[(GuestAddress(0), MIB), (GuestAddress(1 << 32), MIB)]).unwrap();
        assert_eq!(written(&ram).unwrap(), []);
        for place in [0x3000, 0x4000, (1 << 32) + 0x8000] {
            ram.write_obj(7u8, GuestAddress(place)).unwrap();
        }
        let second = MIB as u64 + 0x8000;
        let expected = if page() == 4096 {
            vec![run(0x3000, 0x2000), run(second, 0x1000)]
        } else {
            written(&ram).unwrap()
        };
        assert_eq!(written(&ram).unwrap(), expected);
        assert_eq!(content(&ram, &[]).unwrap().now, expected);
    }

    #[test]
    fn a_page_that_was_only_read_was_not_written_where_a_file_is_mapped() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![1; MIB]).unwrap();
        file.set_len(2 * MIB as u64).unwrap();
        let ram = memory::map_file(&file, &[(GuestAddress(0), 2 * MIB)]).unwrap();
        assert_eq!(ram.read_obj::<u8>(GuestAddress(0x1000)).unwrap(), 1);
        assert_eq!(ram.read_obj::<u8>(GuestAddress(MIB as u64)).unwrap(), 0);
        assert_eq!(written(&ram).unwrap(), []);
        ram.write_obj(7u8, GuestAddress(page())).unwrap();
        assert_eq!(written(&ram).unwrap(), [run(page(), page())]);
        let all = content(&ram, &[backed_by(&file).unwrap()]).unwrap();
        assert_eq!(all.now, [run(page(), page())]);
        let later: Vec<_> =
            all.later.iter().map(|part| (part.from, part.run.offset, part.run.end())).collect();
        let (first, second) = ((0, 0, page()), (2 * page(), 2 * page(), 2 * MIB as u64));
        assert_eq!(later, [first, second]);
    }

    #[test]
    fn a_kernel_that_nobody_looked_at_counts() {
        let mut kernel = tempfile::NamedTempFile::new().unwrap();
        kernel.write_all(&vec![1; 64 * 4096]).unwrap();
        let ram = memory::allocate(&[(GuestAddress(0), MIB)]).unwrap();
        let mapped = Mapped::default();
        let mut reader = MappedFile::new(kernel.as_file(), &ram, &mapped).unwrap();
        ram.read_exact_volatile_from(GuestAddress(0x4_0000), &mut reader, 64 * 4096).unwrap();
        assert_eq!(written(&ram).unwrap(), []);
        let mapped = mapped.into_inner();
        ram.write_obj(7u8, GuestAddress(0x4_0000)).unwrap();
        let all = content(&ram, &mapped).unwrap();
        assert_eq!(all.now, [run(0x4_0000, page())]);
        let later: Vec<_> = all.later.iter().map(|part| (part.from, part.run)).collect();
        assert_eq!(later, [(page(), run(0x4_0000 + page(), 64 * 4096 - page()))]);
        // One that nobody noted is copied as far as it was looked at.
        let unnoted = content(&ram, &[]).unwrap();
        assert!(unnoted.now.contains(&run(0x4_0000, page())) && unnoted.later.is_empty());
    }

    #[test]
    fn what_is_taken_out_of_runs_leaves_the_rest() {
        let left = without(&[run(0, 10), run(20, 10)], &[run(2, 3), run(8, 14), run(25, 1), run(29, 50)]);
        assert_eq!(left, [run(0, 2), run(5, 3), run(22, 3), run(26, 3)]);
        assert_eq!(without(&[run(5, 5)], &[]), [run(5, 5)]);
        assert_eq!(without(&[run(5, 5)], &[run(0, 100)]), []);
    }

    #[test]
    fn too_many_runs_become_fewer_that_cover_them() {
        let runs: Vec<_> = (0..100).map(|n| run(n * 4 * page(), page())).collect();
        let fewer = coarsened(runs.clone(), 10);
        assert!(fewer.len() <= 10);
        assert!(runs.iter().all(|run| fewer.iter().any(|f| f.offset <= run.offset && run.end() <= f.end())));
        assert_eq!(coarsened(runs.clone(), 100), runs);
    }

    #[test]
    fn runs_of_a_file_are_checked() {
        let whole = 10 * page();
        assert!(check(&[run(0, page()), run(4 * page(), 6 * page())], whole).is_ok());
        for bad in [
            vec![run(1, page())],
            vec![run(0, 1)],
            vec![run(0, 0)],
            vec![run(0, 11 * page())],
            vec![run(page(), page()), run(0, page())],
            vec![run(0, 2 * page()), run(page(), page())],
            vec![run(u64::MAX - page() + 1, page())],
        ] {
            assert!(check(&bad, whole).is_err(), "{bad:?}");
        }
    }
}

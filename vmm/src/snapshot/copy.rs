//! RAM into a sparse file.
//!
//! Duty: copy runs of RAM to their place in a file, and sum up what a file holds. Not its duty: which runs.
//! Pages of zeroes stay holes where nothing else is beneath them.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::sum;
use crate::memory::{self, Backed, GuestRam, Run, host_page};
use crate::virtio::rings::GuestSlice;
use crate::virtio::vectored::{self, Patience};

/// Bytes of one call; the kernel does not hold its own locks for longer than a few of them take.
const PIECE: u64 = 4 << 20;
/// Bytes of a page that are looked at first: most pages that are not empty show it here.
const GLANCE: usize = 64;
/// Bytes that are read at once for a sum.
const BUFFER: usize = 1 << 20;

/// What becomes of pages of zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zeroes {
    /// They stay holes.
    LeftOut,
    /// They are written: there is something else beneath.
    Written,
}

/// Copies `runs` of `ram` into `file`, which is as long as all of `ram`. How many bytes were written.
pub(super) fn copy(ram: &GuestRam, runs: &[Run], file: &File, zeroes: Zeroes) -> io::Result<u64> {
    let mut written = 0;
    let mut offset = 0;
    for region in ram.iter() {
        let end = offset + region.len();
        for run in runs {
            let (first, last) = (run.offset.max(offset), run.end().min(end));
            if first < last {
                let start = region.start_addr().unchecked_add(first - offset);
                written += copy_run(ram, start, Run { offset: first, bytes: last - first }, file, zeroes)?;
            }
        }
        offset = end;
    }
    Ok(written)
}

/// Copies what is as it is in the file that it was mapped from. Nobody has to rest for that.
pub(super) fn copy_backed(part: &Backed, file: &File) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let end = part.from.saturating_add(part.run.bytes);
    for run in memory::data(&part.file)? {
        let mut at = run.offset.max(part.from);
        while at < run.end().min(end) {
            let bytes = usize::try_from(run.end().min(end) - at).unwrap_or(BUFFER).min(BUFFER);
            let piece = buffer.get_mut(..bytes).unwrap_or_default();
            part.file.read_exact_at(piece, at)?;
            for (page, place) in piece.chunks(host_page()).zip((at..).step_by(host_page())) {
                if page.iter().any(|byte| *byte != 0) {
                    file.write_all_at(page, part.run.offset + (place - part.from))?;
                }
            }
            at += bytes as u64;
        }
    }
    Ok(())
}

/// Copies a run that lies in one region, from `start` on.
fn copy_run(ram: &GuestRam, start: GuestAddress, run: Run, file: &File, zeroes: Zeroes) -> io::Result<u64> {
    let page = host_page() as u64;
    let mut written = 0;
    // Where what is to be written begins, and how far it goes.
    let mut span: Option<(u64, u64)> = None;
    for at in (0..run.bytes).step_by(host_page()) {
        let empty = zeroes == Zeroes::LeftOut && is_empty(ram, start.unchecked_add(at))?;
        let full = span.is_some_and(|(from, to)| to - from >= PIECE);
        if (empty || full)
            && let Some((from, to)) = span.take()
        {
            written += write(ram, start.unchecked_add(from), run.offset + from, to - from, file)?;
        }
        if !empty {
            span = Some((span.map_or(at, |(from, _)| from), at + page));
        }
    }
    if let Some((from, to)) = span {
        written += write(ram, start.unchecked_add(from), run.offset + from, to - from, file)?;
    }
    Ok(written)
}

fn is_empty(ram: &GuestRam, page: GuestAddress) -> io::Result<bool> {
    let glance: [u64; GLANCE / 8] = ram.read_obj(page).map_err(io::Error::other)?;
    if glance != [0; GLANCE / 8] {
        return Ok(false);
    }
    for part in (0..host_page()).step_by(sum::PAGE) {
        let mut bytes = [0; sum::PAGE];
        ram.read_slice(&mut bytes, page.unchecked_add(part as u64)).map_err(io::Error::other)?;
        if bytes != [0; sum::PAGE] {
            return Ok(false);
        }
    }
    Ok(true)
}

fn write(ram: &GuestRam, start: GuestAddress, mut offset: u64, bytes: u64, file: &File) -> io::Result<u64> {
    let length = usize::try_from(bytes).map_err(io::Error::other)?;
    let slice = ram.get_slice(start, length).map_err(io::Error::other)?;
    let mut left: GuestSlice<'_> = slice;
    while !left.is_empty() {
        match vectored::write_at(file.as_fd(), offset, std::iter::once(left), Patience::Waits) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                offset += count as u64;
                left = left.offset(count).map_err(io::Error::other)?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// The sum of what `file` holds in `runs`.
pub(super) fn sum_of(file: &File, runs: &[Run]) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut sum = 0u64;
    for run in runs {
        let mut at = run.offset;
        while at < run.end() {
            let bytes = usize::try_from(run.end() - at).unwrap_or(BUFFER).min(BUFFER);
            let piece = buffer.get_mut(..bytes).unwrap_or_default();
            file.read_exact_at(piece, at)?;
            sum = sum.wrapping_add(sum::of_pages(at / sum::PAGE as u64, piece));
            at += bytes as u64;
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn ram() -> GuestRam {
        memory::allocate(&[(GuestAddress(0), MIB), (GuestAddress(1 << 32), MIB)]).unwrap()
    }

    #[test]
    fn a_copy_holds_what_was_written_and_nothing_for_pages_of_zeroes() {
        let ram = ram();
        let page = host_page() as u64;
        for (place, byte) in [(0, 1u8), (3 * page + 100, 2), (MIB as u64 - 1, 3), (1 << 32, 4)] {
            ram.write_obj(byte, GuestAddress(place)).unwrap();
        }
        ram.write_obj(0u8, GuestAddress(7 * page)).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(2 * MIB as u64).unwrap();
        let runs = memory::content(&ram, &[]).unwrap().now;
        assert_eq!(copy(&ram, &runs, &file, Zeroes::LeftOut).unwrap(), 4 * page);
        let copied =
            memory::map_file(&file, &[(GuestAddress(0), MIB), (GuestAddress(1 << 32), MIB)]).unwrap();
        for start in [0, 1 << 32] {
            let (mut before, mut after) = (vec![0; MIB], vec![0; MIB]);
            ram.read_slice(&mut before, GuestAddress(start)).unwrap();
            copied.read_slice(&mut after, GuestAddress(start)).unwrap();
            assert!(before == after);
        }
        let everything = [Run { offset: 0, bytes: 2 * MIB as u64 }];
        assert_eq!(sum_of(&file, &runs).unwrap(), sum_of(&file, &everything).unwrap());
        assert_eq!(
            sum_of(&file, &memory::data(&file).unwrap()).unwrap(),
            sum_of(&file, &everything).unwrap()
        );
    }

    #[test]
    fn zeroes_are_written_where_something_is_beneath_them() {
        let ram = ram();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![9; 2 * MIB], 0).unwrap();
        let page = host_page() as u64;
        let runs = [Run { offset: page, bytes: page }, Run { offset: MIB as u64 - page, bytes: 2 * page }];
        assert_eq!(copy(&ram, &runs, &file, Zeroes::Written).unwrap(), 3 * page);
        let mut byte = [0];
        for (place, expected) in
            [(0, 9), (page, 0), (2 * page, 9), (MIB as u64 - 1, 0), (MIB as u64 + page, 9)]
        {
            file.read_exact_at(&mut byte, place).unwrap();
            assert_eq!(byte, [expected], "{place:#x}");
        }
    }

    #[test]
    fn what_is_in_a_file_already_is_copied_from_there_but_for_its_zeroes() {
        let (source, file) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let page = host_page() as u64;
        let mut content = vec![5; 4 * host_page()];
        content[2 * host_page()..3 * host_page()].fill(0);
        source.write_all_at(&content, 0).unwrap();
        file.set_len(MIB as u64).unwrap();
        let part = Backed {
            file: std::sync::Arc::new(source),
            from: page,
            run: Run { offset: 8 * page, bytes: 3 * page },
        };
        copy_backed(&part, &file).unwrap();
        let mut copied = vec![9; 5 * host_page()];
        file.read_exact_at(&mut copied, 7 * page).unwrap();
        assert_eq!(copied[..host_page()], vec![0; host_page()]);
        assert_eq!(copied[host_page()..4 * host_page()], content[host_page()..]);
    }
}

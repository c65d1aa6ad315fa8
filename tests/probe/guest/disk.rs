//! A block device, used and checked.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Instant;

use nix::libc::O_DIRECT;

use super::{GuestError, io, say};
use crate::pattern::{self, Pattern};

/// Bytes of a request.
const BLOCK: usize = 4096;

/// The content of block number `index` of a disk that was filled with `seed`.
pub(crate) fn block(seed: u64, index: u64) -> [u8; BLOCK] {
    let mut bytes = [0; BLOCK];
    Pattern::new(seed.wrapping_add(index.wrapping_mul(0x1_0001))).fill(&mut bytes);
    bytes
}

const fn blocks_of(bytes: u64) -> u64 {
    bytes / BLOCK as u64
}

const fn offset_of(index: u64) -> u64 {
    index * BLOCK as u64
}

/// Every block once, in an order that jumps about: multiples of an odd number, modulo a power of two.
fn shuffled(blocks: u64) -> impl Iterator<Item = u64> {
    let size = blocks.next_power_of_two();
    (0..size).map(move |n| n.wrapping_mul(0x9e37_79b1) % size).filter(move |n| *n < blocks)
}

/// Writes every block in shuffled order, makes them durable, and reads them back past the page cache.
pub(super) fn fill_and_check(device: &str, bytes: u64, seed: u64) -> Result<(), GuestError> {
    let mut disk = open(device)?;
    for index in shuffled(blocks_of(bytes)) {
        disk.seek(SeekFrom::Start(offset_of(index))).map_err(io(device))?;
        disk.write_all(&block(seed, index)).map_err(io(device))?;
    }
    disk.sync_all().map_err(io(device))?;
    drop(disk);
    drop_caches()?;
    let mut disk = open(device)?;
    for index in shuffled(blocks_of(bytes)) {
        let mut found = [0; BLOCK];
        disk.seek(SeekFrom::Start(offset_of(index))).map_err(io(device))?;
        disk.read_exact(&mut found).map_err(io(device))?;
        if found != block(seed, index) {
            say(&format!("disk block {index} is not what was written"));
            return Ok(());
        }
    }
    say("disk holds what was written");
    Ok(())
}

/// Reads the device from its start and tells the checksum.
pub(super) fn read(device: &str, bytes: u64) -> Result<(), GuestError> {
    let mut disk = File::open(device).map_err(io(device))?;
    let sum = pattern::receive(&mut disk, bytes).map_err(io(device))?;
    say(&format!("read {sum:016x}"));
    Ok(())
}

/// How long reading `bytes` takes by the guest's clock.
pub(super) fn pace(device: &str, bytes: u64) -> Result<(), GuestError> {
    drop_caches()?;
    let mut disk = File::open(device).map_err(io(device))?;
    let began = Instant::now();
    pattern::receive(&mut disk, bytes).map_err(io(device))?;
    say(&format!("pace {bytes} {}", began.elapsed().as_nanos()));
    Ok(())
}

/// The same with reads of one block each, past the page cache.
pub(super) fn pace_direct(device: &str, bytes: u64) -> Result<(), GuestError> {
    let mut options = OpenOptions::new();
    let disk = options.read(true).custom_flags(O_DIRECT).open(device).map_err(io(device))?;
    let mut buffer = Aligned::new(BLOCK);
    let began = Instant::now();
    for index in 0..blocks_of(bytes) {
        disk.read_exact_at(buffer.slice(BLOCK), offset_of(index)).map_err(io(device))?;
    }
    say(&format!("pace {bytes} {}", began.elapsed().as_nanos()));
    Ok(())
}

/// A buffer as direct I/O wants it: at a multiple of the block size.
pub(super) struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    pub(super) fn new(length: usize) -> Self {
        let bytes = vec![0; length + BLOCK];
        let start = bytes.as_ptr().align_offset(BLOCK);
        Self { bytes, start }
    }

    pub(super) fn slice(&mut self, length: usize) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + length]
    }
}

fn open(device: &str) -> Result<File, GuestError> {
    OpenOptions::new().read(true).write(true).open(device).map_err(io(device))
}

fn drop_caches() -> Result<(), GuestError> {
    const DROP: &str = "/proc/sys/vm/drop_caches";
    std::fs::write(DROP, "3").map_err(io(DROP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_has_its_turn() {
        let mut seen: Vec<u64> = shuffled(1000).collect();
        assert!(!seen.is_sorted());
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..1000));
    }
}

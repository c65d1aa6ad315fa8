//! A driver's requests against the model, on a disk in memory and on a real file.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::memory::GuestRam;
use crate::virtio::device::{Activation, Backlog, VirtioDevice};
use crate::virtio::feature;
use crate::virtio::rings::{Reader, RingFault, Writer};
use crate::virtio::testing::{self, Buffer, GuestQueue, Interrupts};

const HEADER_AT: u64 = 0x2_0000;
const DATA_AT: u64 = 0x3_0000;
const STATUS_AT: u64 = 0x2_8000;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;
/// What the driver puts where the status will be.
const UNTOUCHED: u8 = 0xee;

/// Sectors in memory. Each call is counted; a fault can be planted.
struct MemoryDisk {
    content: Vec<u8>,
    flushes: u32,
    fails: bool,
}

impl Disk for MemoryDisk {
    fn bytes(&self) -> u64 {
        self.content.len() as u64
    }
    fn read(&mut self, offset: u64, into: &mut Writer<'_>, bytes: usize) -> io::Result<()> {
        if self.fails {
            return Err(io::ErrorKind::Other.into());
        }
        let start = usize::try_from(offset).unwrap();
        assert_eq!(into.write(&self.content[start..start + bytes]), bytes);
        Ok(())
    }
    fn write(&mut self, offset: u64, from: &mut Reader<'_>, bytes: usize) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        assert_eq!(from.read(&mut self.content[start..start + bytes]), bytes);
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.flushes += 1;
        Ok(())
    }
}

struct Rig<D> {
    ram: GuestRam,
    queue: GuestQueue,
    device: BlockDevice<D>,
    interrupts: Arc<Interrupts>,
}

impl<D: Disk> Rig<D> {
    fn new(disk: D, read_only: bool) -> Self {
        let ram = testing::ram();
        let queue = GuestQueue::new(&ram, GuestAddress(0x1_0000), 16);
        let interrupts = Arc::new(Interrupts::default());
        let mut device = BlockDevice::new(disk, "root", read_only);
        device.activate(Activation {
            memory: ram.clone(),
            rings: vec![Some(queue.ring(feature::VERSION_1).unwrap())],
            features: feature::VERSION_1,
            interrupt: interrupts.clone(),
        });
        Self { ram, queue, device, interrupts }
    }

    fn header(&self, kind: u32, sector: u64) {
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        self.ram.write_slice(&header, GuestAddress(HEADER_AT)).unwrap();
        self.ram.write_obj(UNTOUCHED, GuestAddress(STATUS_AT)).unwrap();
    }

    fn submit(&mut self, buffers: &[Buffer]) -> u8 {
        self.queue.offer(buffers);
        assert_eq!(self.device.notify(0, Instant::now()), Ok(Backlog::Done));
        assert_eq!(self.queue.used().len(), 1);
        self.ram.read_obj(GuestAddress(STATUS_AT)).unwrap()
    }

    /// A well-formed request with `bytes` of data at [`DATA_AT`].
    fn request(&mut self, kind: u32, sector: u64, bytes: u32) -> u8 {
        self.header(kind, sector);
        let data =
            if kind == OUT { Buffer::readable(DATA_AT, bytes) } else { Buffer::writable(DATA_AT, bytes) };
        let mut buffers = vec![Buffer::readable(HEADER_AT, 16)];
        buffers.extend((bytes > 0).then_some(data));
        buffers.push(Buffer::writable(STATUS_AT, 1));
        self.submit(&buffers)
    }
}

fn memory_disk(sectors: usize) -> MemoryDisk {
    let content = (0..sectors * 512).map(|i| u8::try_from(i / 512 % 251).unwrap()).collect();
    MemoryDisk { content, flushes: 0, fails: false }
}

#[test]
fn what_is_written_is_read_again() {
    let mut rig = Rig::new(memory_disk(16), false);
    rig.ram.write_slice(&[7; 1024], GuestAddress(DATA_AT)).unwrap();
    assert_eq!(rig.request(OUT, 3, 1024), OK);
    rig.ram.write_slice(&[0; 2048], GuestAddress(DATA_AT)).unwrap();
    assert_eq!(rig.request(IN, 2, 2048), OK);
    let mut data = vec![0; 2048];
    rig.ram.read_slice(&mut data, GuestAddress(DATA_AT)).unwrap();
    assert_eq!(data, [vec![2; 512], vec![7; 1024], vec![5; 512]].concat());
    assert_eq!(rig.interrupts.take(), [0, 0]);
    assert_eq!(rig.request(FLUSH, 0, 0), OK);
}

#[test]
fn requests_outside_the_disk_or_of_broken_sectors_fail() {
    let mut rig = Rig::new(memory_disk(16), false);
    for (kind, sector, bytes) in [
        (IN, 16, 512),
        (IN, 15, 1024),
        (OUT, 16, 512),
        (IN, u64::MAX, 512),
        (OUT, u64::MAX / 512, 512),
        (IN, 1 << 55, 512),
        (IN, 0, 511),
        (OUT, 0, 513),
    ] {
        assert_eq!(rig.request(kind, sector, bytes), IO_ERROR, "{kind} {sector} {bytes}");
    }
    assert_eq!(rig.request(IN, 15, 512), OK, "and the device goes on");
}

#[test]
fn a_read_only_disk_takes_no_write_whatever_the_driver_thinks() {
    let mut rig = Rig::new(memory_disk(16), true);
    assert_ne!(rig.device.features() & (1 << 5), 0);
    let before = rig.device.disk_for_tests().content.clone();
    rig.ram.write_slice(&[0xff; 512], GuestAddress(DATA_AT)).unwrap();
    assert_eq!(rig.request(OUT, 0, 512), IO_ERROR);
    assert_eq!(rig.device.disk_for_tests().content, before);
    assert_eq!(rig.request(IN, 0, 512), OK);
}

#[test]
fn types_without_a_feature_are_unsupported() {
    let mut rig = Rig::new(memory_disk(16), false);
    for kind in [DISCARD, 13, 2, 3, u32::MAX] {
        assert_eq!(rig.request(kind, 0, 512), UNSUPPORTED);
    }
}

#[test]
fn the_id_needs_its_twenty_bytes() {
    let mut rig = Rig::new(memory_disk(16), false);
    assert_eq!(rig.request(GET_ID, 0, 20), OK);
    let mut id = [0xff; 20];
    rig.ram.read_slice(&mut id, GuestAddress(DATA_AT)).unwrap();
    assert_eq!(&id, b"root\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(rig.request(GET_ID, 0, 19), IO_ERROR);
}

#[test]
fn chains_without_header_or_status_are_given_back() {
    let mut rig = Rig::new(memory_disk(16), false);
    rig.header(IN, 0);
    assert_eq!(rig.submit(&[Buffer::readable(HEADER_AT, 16)]), UNTOUCHED, "no room for a status");
    assert_eq!(rig.submit(&[Buffer::writable(STATUS_AT, 1)]), IO_ERROR, "no header");
    rig.header(IN, 0);
    assert_eq!(rig.submit(&[Buffer::readable(HEADER_AT, 15), Buffer::writable(STATUS_AT, 1)]), IO_ERROR);
    assert_eq!(rig.request(IN, 0, 512), OK);
}

#[test]
fn a_header_and_a_status_in_pieces_are_whole() {
    let mut rig = Rig::new(memory_disk(16), false);
    rig.header(IN, 4);
    let status = rig.submit(&[
        Buffer::readable(HEADER_AT, 5),
        Buffer::readable(HEADER_AT + 5, 11),
        Buffer::writable(DATA_AT, 100),
        Buffer::writable(DATA_AT + 100, 412),
        Buffer::writable(STATUS_AT, 1),
    ]);
    assert_eq!(status, OK);
    assert_eq!(rig.ram.read_obj::<[u8; 2]>(GuestAddress(DATA_AT + 510)).unwrap(), [4, 4]);
}

#[test]
fn a_disk_that_fails_fails_the_request_only() {
    let mut rig = Rig::new(MemoryDisk { fails: true, ..memory_disk(16) }, false);
    assert_eq!(rig.request(IN, 0, 512), IO_ERROR);
    assert_eq!(rig.request(FLUSH, 0, 0), OK);
    assert_eq!(rig.device.counters(), Counters { completed: 1, failed: 1 });
}

#[test]
fn a_ring_that_breaks_is_reported_and_gone() {
    let mut rig = Rig::new(memory_disk(16), false);
    rig.queue.make_available(99);
    assert_eq!(rig.device.notify(0, Instant::now()), Err(RingFault::HeadOutOfRange));
    assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::Done), "nothing left to work on");
}

#[test]
fn a_driver_that_never_stops_is_served_in_turns() {
    let mut rig = Rig::new(memory_disk(16), false);
    rig.header(FLUSH, 0);
    // One chain, offered again before each look: the model must stop by itself.
    for _ in 0..16 {
        rig.queue.offer(&[Buffer::readable(HEADER_AT, 16)]);
    }
    assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::More));
    assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::Done));
}

#[test]
fn buffers_that_overlap_do_not_lengthen_a_turn() {
    let mut rig = Rig::new(memory_disk(4096), true);
    rig.header(IN, 0);
    // Two times 1.9 MB into the same place are one turn's worth; the third waits for the next.
    let overlapping = [Buffer::writable(0x10_0000, 1_900_032), Buffer::writable(STATUS_AT, 1)];
    for _ in 0..4 {
        rig.queue.offer(&[&[Buffer::readable(HEADER_AT, 16)][..], &overlapping].concat());
    }
    assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::More));
    assert_eq!(rig.queue.used().len(), 3);
    assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::Done));
    assert_eq!(rig.queue.used().len(), 1);
}

#[test]
fn a_request_larger_than_any_driver_makes_is_refused() {
    let mut rig = Rig::new(memory_disk(64), false);
    rig.header(IN, 0);
    let mib = 1 << 20;
    let mut buffers = vec![Buffer::readable(HEADER_AT, 16)];
    buffers.extend((0..9).map(|_| Buffer::writable(0x10_0000, 2 * mib)));
    buffers.push(Buffer::writable(STATUS_AT, 1));
    rig.queue.offer(&buffers);
    let _ = rig.device.notify(0, Instant::now()).unwrap();
    assert_eq!(rig.queue.used().len(), 1);
    assert_eq!(rig.ram.read_obj::<u8>(GuestAddress(STATUS_AT)).unwrap(), IO_ERROR);
}

#[test]
fn the_configuration_space_ends_where_it_ends() {
    let rig = Rig::new(memory_disk(16), false);
    let mut all = [0xaa; 24];
    rig.device.read_config(0, &mut all);
    assert_eq!(all[..8], 16u64.to_le_bytes());
    assert_eq!(all[16..], [0xaa; 8]);
    for offset in [16, 1000, u64::MAX] {
        let mut byte = [0xaa];
        rig.device.read_config(offset, &mut byte);
        assert_eq!(byte, [0xaa]);
    }
}

#[test]
fn a_file_keeps_what_was_written_and_hides_a_torn_last_sector() {
    let file = vmm_sys_util::tempfile::TempFile::new().unwrap();
    std::fs::write(file.as_path(), vec![1; 4 * 512 + 100]).unwrap();
    let disk = FileDisk::open(file.as_path(), false).unwrap();
    assert_eq!(disk.bytes(), 4 * 512);
    let mut rig = Rig::new(disk, false);
    rig.ram.write_slice(&[9; 512], GuestAddress(DATA_AT)).unwrap();
    assert_eq!(rig.request(OUT, 3, 512), OK);
    assert_eq!(rig.request(OUT, 4, 512), IO_ERROR);
    assert_eq!(rig.request(FLUSH, 0, 0), OK);
    let content = std::fs::read(file.as_path()).unwrap();
    assert_eq!(content[3 * 512..], [vec![9; 512], vec![1; 100]].concat());
    assert_eq!(rig.request(IN, 3, 512), OK);
    assert_eq!(rig.ram.read_obj::<[u8; 2]>(GuestAddress(DATA_AT + 510)).unwrap(), [9, 9]);
}

#[test]
fn a_file_that_shrinks_under_the_guest_fails_reads_past_its_end() {
    let file = vmm_sys_util::tempfile::TempFile::new().unwrap();
    std::fs::write(file.as_path(), vec![1; 4 * 512]).unwrap();
    let mut rig = Rig::new(FileDisk::open(file.as_path(), true).unwrap(), true);
    std::fs::write(file.as_path(), vec![1; 512]).unwrap();
    assert_eq!(rig.request(IN, 2, 1024), IO_ERROR);
    assert_eq!(rig.request(IN, 0, 512), OK);
}

#[test]
fn what_is_no_disk_is_refused_in_one_line() {
    let refusal = FileDisk::open(Path::new("/nonexistent/disk.img"), true).unwrap_err();
    assert_eq!(refusal.to_string(), "/nonexistent/disk.img: cannot be opened");
    let refusal = FileDisk::open(Path::new("/dev/null"), true).unwrap_err();
    assert_eq!(refusal.to_string(), "/dev/null: not a disk image, expected a file or a block device");
    let pipe = std::env::temp_dir().join(format!("hearth-disk-{}.fifo", std::process::id()));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let refusal = FileDisk::open(&pipe, true).unwrap_err();
    std::fs::remove_file(&pipe).unwrap();
    assert!(refusal.to_string().ends_with("not a disk image, expected a file or a block device"));
    let file = vmm_sys_util::tempfile::TempFile::new().unwrap();
    let refusal = FileDisk::open(file.as_path(), true).unwrap_err();
    assert!(refusal.to_string().ends_with(": has 0 bytes, expected at least 512"));
}

proptest! {
    /// Whatever header and whatever chain: one answer, nothing outside the disk, no panic.
    #[test]
    fn any_request_gets_one_answer(
        kind in prop_oneof![0u32..16, any::<u32>()],
        sector in prop_oneof![0u64..20, any::<u64>()],
        buffers in proptest::collection::vec((0u64..0x1000, 1u32..3000, any::<bool>()), 1..8),
    ) {
        let mut rig = Rig::new(memory_disk(16), false);
        rig.header(kind, sector);
        let (mut readable, writable): (Vec<_>, Vec<_>) = buffers
            .iter()
            .map(|&(at, bytes, write)| if write { Buffer::writable(DATA_AT + at, bytes) } else { Buffer::readable(DATA_AT + at, bytes) })
            .partition(|buffer| !buffer.writable);
        readable.insert(0, Buffer::readable(HEADER_AT, 16));
        readable.extend(writable);
        rig.queue.offer(&readable);
        prop_assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::Done));
        prop_assert_eq!(rig.queue.used().len(), 1);
    }
}

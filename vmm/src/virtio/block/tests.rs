//! A driver's requests against the model, on a disk in memory and on real files.

mod files;
mod limits;
mod pending;
mod requests;
mod ring;
mod saved;
mod shell;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::memory::GuestRam;
use crate::rate::Limit;
use crate::virtio::device::{Activation, Backlog, Thread, VirtioDevice};
use crate::virtio::testing::{self, Buffer, GuestQueue, Interrupts, Used};

const HEADER_AT: u64 = 0x2_0000;
const DATA_AT: u64 = 0x3_0000;
const STATUS_AT: u64 = 0x2_8000;
const RANGE_AT: u64 = 0x2_9000;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;
const UNMAP: u32 = 1;

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;
/// What the driver puts where the status will be.
const UNTOUCHED: u8 = 0xee;

/// What a disk in memory was asked for, besides reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Write { sector: u64, durable: bool },
    Flush,
    Discard { sector: u64, sectors: u64 },
    Zero { sector: u64, sectors: u64, unmap: bool, durable: bool },
}

/// Sectors in memory. What it is asked for is done at once; when it is told depends.
#[derive(Debug)]
struct MemoryDisk {
    content: Vec<u8>,
    space: Space,
    asked: Vec<Asked>,
    fails: Option<io::ErrorKind>,
    /// Answers come when the test says so.
    later: bool,
    pending: Vec<(Tag, io::Result<()>)>,
    finished: VecDeque<(Tag, io::Result<()>)>,
}

impl MemoryDisk {
    fn new(sectors: usize) -> Self {
        Self {
            content: (0..sectors * 512).map(|i| u8::try_from(i / 512 % 251).unwrap()).collect(),
            space: Space { discard: Some(4096), zero: true },
            asked: Vec::new(),
            fails: None,
            later: false,
            pending: Vec::new(),
            finished: VecDeque::new(),
        }
    }

    fn later(sectors: usize) -> Self {
        Self { later: true, ..Self::new(sectors) }
    }

    /// One that is pending comes to its end.
    fn finish(&mut self, index: usize) {
        let finished = self.pending.remove(index);
        self.finished.push_back(finished);
    }

    fn carry_out(&mut self, work: Work<'_>) -> io::Result<()> {
        if let Some(kind) = self.fails {
            return Err(kind.into());
        }
        let place = |offset: u64, bytes: u64| {
            let start = usize::try_from(offset).unwrap();
            start..start + usize::try_from(bytes).unwrap()
        };
        match work {
            Work::Read { offset, mut into } => {
                let bytes = into.remaining();
                assert_eq!(into.write(&self.content[place(offset, bytes as u64)]), bytes);
            }
            Work::Write { offset, mut from, durable } => {
                let bytes = from.remaining();
                assert_eq!(from.read(&mut self.content[place(offset, bytes as u64)]), bytes);
                self.asked.push(Asked::Write { sector: offset / 512, durable });
            }
            Work::Flush => self.asked.push(Asked::Flush),
            Work::Discard { offset, bytes } => {
                self.content[place(offset, bytes)].fill(0xdd);
                self.asked.push(Asked::Discard { sector: offset / 512, sectors: bytes / 512 });
            }
            Work::Zero { offset, bytes, unmap, durable } => {
                self.content[place(offset, bytes)].fill(0);
                let (sector, sectors) = (offset / 512, bytes / 512);
                self.asked.push(Asked::Zero { sector, sectors, unmap, durable });
            }
        }
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn bytes(&self) -> u64 {
        self.content.len() as u64
    }
    fn space(&self) -> Space {
        self.space
    }
    fn start(&mut self, tag: Tag, work: Work<'_>) -> Started {
        let result = self.carry_out(work);
        if !self.later {
            return Started::Done(result);
        }
        self.pending.push((tag, result));
        Started::Pending
    }
    fn submit(&mut self) {}
    fn finished(&mut self) -> Option<(Tag, io::Result<()>)> {
        self.finished.pop_front()
    }
    fn pending(&self) -> usize {
        self.pending.len() + self.finished.len()
    }
    fn wait(&mut self) {
        if self.finished.is_empty() && !self.pending.is_empty() {
            self.finish(0);
        }
    }
    fn counters(&self, _report: &mut dyn FnMut(&'static str, u64)) {}
}

struct Rig<D> {
    ram: GuestRam,
    queue: GuestQueue,
    device: BlockDevice<D>,
    interrupts: Arc<Interrupts>,
}

impl<D: Disk> Rig<D> {
    fn new(disk: D, read_only: bool) -> Self {
        Self::limited(disk, read_only, Limit::default())
    }

    fn limited(disk: D, read_only: bool, limit: Limit) -> Self {
        let ram = testing::ram();
        let device = BlockDevice::new(disk, "root", read_only, limit);
        let queue = GuestQueue::new(&ram, GuestAddress(0x1_0000), 64);
        let mut rig = Self { ram, queue, device, interrupts: Arc::default() };
        rig.activate(u64::MAX);
        rig
    }

    /// The driver starts anew, and accepts those features of `wanted` that are offered.
    fn activate(&mut self, wanted: u64) {
        let features = self.device.features() & wanted;
        self.queue = GuestQueue::new(&self.ram, GuestAddress(0x1_0000), 64);
        self.device.activate(Activation {
            memory: self.ram.clone(),
            rings: vec![Some(self.queue.ring(features).unwrap())],
            features,
            interrupt: self.interrupts.clone(),
        });
    }

    fn header(&self, kind: u32, sector: u64) {
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        self.ram.write_slice(&header, GuestAddress(HEADER_AT)).unwrap();
        self.ram.write_obj(UNTOUCHED, GuestAddress(STATUS_AT)).unwrap();
    }

    fn notify(&mut self) -> Backlog {
        self.device.notify(0, Instant::now()).unwrap()
    }

    fn submit(&mut self, buffers: &[Buffer]) -> u8 {
        self.queue.offer(buffers);
        while self.notify() == Backlog::More {}
        self.device.quiesce().unwrap();
        assert_eq!(self.queue.used().len(), 1);
        self.status()
    }

    fn status(&self) -> u8 {
        self.ram.read_obj(GuestAddress(STATUS_AT)).unwrap()
    }

    /// The buffers of a well-formed request with `bytes` of data at [`DATA_AT`]; the header is in place.
    fn buffers(&self, kind: u32, sector: u64, bytes: u32) -> Vec<Buffer> {
        self.header(kind, sector);
        let data =
            if kind == OUT { Buffer::readable(DATA_AT, bytes) } else { Buffer::writable(DATA_AT, bytes) };
        let mut buffers = vec![Buffer::readable(HEADER_AT, 16)];
        buffers.extend((bytes > 0).then_some(data));
        buffers.push(Buffer::writable(STATUS_AT, 1));
        buffers
    }

    fn request(&mut self, kind: u32, sector: u64, bytes: u32) -> u8 {
        let buffers = self.buffers(kind, sector, bytes);
        self.submit(&buffers)
    }

    /// Offers a request and gives the device its turn, no more.
    fn begin(&mut self, kind: u32, sector: u64, bytes: u32) -> u16 {
        let buffers = self.buffers(kind, sector, bytes);
        let head = self.queue.offer(&buffers);
        assert_eq!(self.notify(), Backlog::Done);
        head
    }

    /// A request to discard or zero one range.
    fn range(&mut self, kind: u32, sector: u64, sectors: u32, flags: u32) -> u8 {
        self.header(kind, 0);
        let mut range = [0; 16];
        range[..8].copy_from_slice(&sector.to_le_bytes());
        range[8..12].copy_from_slice(&sectors.to_le_bytes());
        range[12..].copy_from_slice(&flags.to_le_bytes());
        self.ram.write_slice(&range, GuestAddress(RANGE_AT)).unwrap();
        self.submit(&[
            Buffer::readable(HEADER_AT, 16),
            Buffer::readable(RANGE_AT, 16),
            Buffer::writable(STATUS_AT, 1),
        ])
    }

    fn fill(&self, byte: u8, bytes: usize) {
        self.ram.write_slice(&vec![byte; bytes], GuestAddress(DATA_AT)).unwrap();
    }

    fn data(&self, bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        self.ram.read_slice(&mut data, GuestAddress(DATA_AT)).unwrap();
        data
    }

    fn heads(&mut self) -> Vec<u16> {
        self.queue.used().iter().map(|used: &Used| used.head).collect()
    }

    fn counter(&self, name: &str) -> u64 {
        let mut all = BTreeMap::new();
        self.device.counters(&mut |name, value| assert_eq!(all.insert(name, value), None, "{name}"));
        all[name]
    }
}

impl Rig<MemoryDisk> {
    fn disk(&self) -> &MemoryDisk {
        self.device.disk()
    }

    /// One pending request comes to its end, and the device hears of it.
    fn finish(&mut self, index: usize) {
        self.device.disk_mut().finish(index);
        let _ = self.device.settle().unwrap();
    }
}

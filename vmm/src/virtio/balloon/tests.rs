//! A driver that lends memory, honestly and not, to a host that writes down what it gets, and to the real one.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use vm_memory::{Bytes, GuestAddress};

use super::device::feature as bits;
use super::lanes::{CHAIN_PAGES, TURN_BYTES, TURN_PAGES};
use super::*;
use crate::memory::GuestRam;
use crate::virtio::device::{Activation, Backlog, VirtioDevice};
use crate::virtio::feature;
use crate::virtio::rings::RingFault;
use crate::virtio::testing::{self, Buffer, GuestQueue, HOLE, Interrupts, QUEUE_BYTES, SEAM, UPPER, Used};

mod hostile;
mod lending;
mod properties;
mod saved;
mod statistics;

const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const STATISTICS: usize = 2;
const REPORTING: usize = 3;

const ALL: u64 = feature::VERSION_1 | bits::STATISTICS | bits::DEFLATE_ON_OOM | bits::REPORTING;
const SETTINGS: Settings = Settings { memory_mib: 6, target_mib: 0, deflate_on_oom: true, reporting: true };

/// Where a driver keeps its lists.
const LIST_AT: u64 = 0x10_0000;
const PAGE: u64 = 4096;

/// A host that writes down what it gets, and whether the driver knew of it by then.
#[derive(Debug, Clone)]
struct Host {
    granule: Option<u64>,
    ram: GuestRam,
    /// From where to where.
    taken: Arc<Mutex<Vec<(u64, u64)>>>,
    /// The used index of each queue at the time.
    seen: Arc<Mutex<Vec<[u16; 4]>>>,
    fails: bool,
}

impl Lend for Host {
    fn granule(&self) -> Option<u64> {
        self.granule
    }

    fn give_back(&self, start: GuestAddress, bytes: u64) -> io::Result<()> {
        let index = |queue: u64| {
            let used = GuestAddress(queue_at(queue).0 + 0x5002);
            u16::from_le(self.ram.read_obj(used).unwrap())
        };
        self.seen.lock().unwrap().push([0, 1, 2, 3].map(index));
        self.taken.lock().unwrap().push((start.0, start.0 + bytes));
        if self.fails { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(()) }
    }
}

impl Host {
    fn new(ram: &GuestRam, granule: Option<u64>) -> Self {
        Self { granule, ram: ram.clone(), taken: Arc::default(), seen: Arc::default(), fails: false }
    }
}

const fn queue_at(queue: u64) -> GuestAddress {
    GuestAddress(0x1_0000 + queue * QUEUE_BYTES)
}

struct Rig<L> {
    ram: GuestRam,
    queues: [GuestQueue; 4],
    device: BalloonDevice<L>,
    interrupts: Arc<Interrupts>,
    features: u64,
}

impl Rig<Host> {
    fn new() -> Self {
        Self::with(Some(PAGE), ALL, 64)
    }

    fn with(granule: Option<u64>, features: u64, size: u16) -> Self {
        let ram = testing::ram();
        let host = Host::new(&ram, granule);
        Self::on(ram, host, features, size)
    }

    /// What the host got since the last call.
    fn taken(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *self.device.lender_for_tests().taken.lock().unwrap())
    }
}

impl<L: Lend> Rig<L> {
    fn on(ram: GuestRam, lender: L, features: u64, size: u16) -> Self {
        let queues = [0, 1, 2, 3].map(|queue| GuestQueue::new(&ram, queue_at(queue), size));
        let device = BalloonDevice::new(lender, SETTINGS).unwrap();
        let mut rig = Self { ram, queues, device, interrupts: Arc::default(), features };
        rig.activate();
        rig
    }

    fn activate(&mut self) {
        self.device.activate(Activation {
            memory: self.ram.clone(),
            rings: self.queues.iter().map(|queue| Some(queue.ring(self.features).unwrap())).collect(),
            features: self.features,
            interrupt: self.interrupts.clone(),
        });
    }

    fn notify(&mut self, queue: usize) -> Result<Backlog, RingFault> {
        self.device.notify(queue, Instant::now())
    }

    /// Turns until there is nothing left to do, and how many there were.
    fn work(&mut self, queue: usize) -> usize {
        (1..).find(|_| self.notify(queue).unwrap() == Backlog::Done).unwrap()
    }

    fn write_list(&self, at: u64, numbers: impl IntoIterator<Item = u32>) -> u32 {
        let bytes: Vec<u8> = numbers.into_iter().flat_map(u32::to_le_bytes).collect();
        self.ram.write_slice(&bytes, GuestAddress(at)).unwrap();
        u32::try_from(bytes.len()).unwrap()
    }

    /// Offers a list of pages to one of the first two queues.
    fn list(&mut self, queue: usize, numbers: impl IntoIterator<Item = u32>) -> u16 {
        let bytes = self.write_list(LIST_AT, numbers);
        self.queues[queue].offer(&[Buffer::readable(LIST_AT, bytes)])
    }

    /// Offers blocks that are free.
    fn report(&mut self, blocks: &[(u64, u64)]) -> u16 {
        let buffer = |&(at, bytes)| Buffer::writable(at, u32::try_from(bytes).unwrap());
        self.queues[REPORTING].offer(&blocks.iter().map(buffer).collect::<Vec<_>>())
    }

    fn count(&self, name: &str) -> u64 {
        let mut found = None;
        self.device.counters(&mut |counter, value| found = (counter == name).then_some(value).or(found));
        found.unwrap()
    }

    /// The configuration space: what the guest is to give, and what it says it gave.
    fn config(&self) -> [u32; 2] {
        let mut bytes = [0; 8];
        self.device.read_config(0, &mut bytes);
        let [target, actual] = *bytes.as_chunks::<4>().0 else { panic!("two words") };
        [u32::from_le_bytes(target), u32::from_le_bytes(actual)]
    }
}

/// The number of the page at an address.
fn number(at: u64) -> u32 {
    u32::try_from(at / PAGE).unwrap()
}

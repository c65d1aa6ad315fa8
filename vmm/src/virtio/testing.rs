//! The driver's side of a virtqueue in plain memory: honest by default, hostile on request.
//!
//! Duty: let a test build rings, offer chains, bend any descriptor or index, and read the used ring, with
//! no KVM and no file. Not its duty: any device's protocol; `vsock` and `block` build theirs on this.
//!
//! ```ignore
//! let ram = testing::ram();
//! let mut queue = GuestQueue::new(&ram, GuestAddress(0x1000), 16);
//! let mut ring = queue.ring(feature::EVENT_IDX).unwrap();       // the device's end
//! let head = queue.offer(&[Buffer::readable(0x10_0000, 44), Buffer::writable(0x10_1000, 512)]);
//! let chain = ring.pop().unwrap().unwrap();
//! ring.complete(chain, 512).unwrap();
//! assert_eq!(queue.used(), [Used { head, written: 512 }]);      // and the descriptors are free again
//! ```
//!
//! To be hostile: [`GuestQueue::set_descriptor`], [`GuestQueue::set_indirect`], [`GuestQueue::make_available`]
//! and [`GuestQueue::set_available_index`] write exactly what they are told.

use std::sync::Mutex;

use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::device::Interrupt;
use super::feature;
use super::rings::{Ring, RingFault};
use super::state::RingState;
use crate::memory::{self, GuestRam};

/// VIRTQ_DESC_F_NEXT.
pub const NEXT: u16 = 1;
/// VIRTQ_DESC_F_WRITE.
pub const WRITE: u16 = 2;
/// VIRTQ_DESC_F_INDIRECT.
pub const INDIRECT: u16 = 4;

/// Bytes that a [`GuestQueue`] takes at its base address, whatever its size.
pub const QUEUE_BYTES: u64 = 0x8000;
/// Where the first region of [`ram`] ends and its hole starts.
pub const HOLE: u64 = 4 << 20;
/// Where RAM goes on after the hole, in two regions that touch.
pub const UPPER: u64 = 8 << 20;
/// Where the second of those regions starts.
pub const SEAM: u64 = 9 << 20;
/// The first address after all RAM.
pub const END: u64 = 10 << 20;

/// RAM with a hole and with a seam: 0 to [`HOLE`], [`UPPER`] to [`SEAM`], [`SEAM`] to [`END`].
pub fn ram() -> GuestRam {
    let mib = 1 << 20;
    memory::allocate(&[(GuestAddress(0), 4 * mib), (GuestAddress(UPPER), mib), (GuestAddress(SEAM), mib)])
        .unwrap()
}

/// One buffer of a chain that a driver offers.
#[derive(Debug, Clone, Copy)]
pub struct Buffer {
    pub address: u64,
    pub bytes: u32,
    pub writable: bool,
}

impl Buffer {
    /// A buffer that the device may read.
    pub const fn readable(address: u64, bytes: u32) -> Self {
        Self { address, bytes, writable: false }
    }

    /// A buffer that the device may write.
    pub const fn writable(address: u64, bytes: u32) -> Self {
        Self { address, bytes, writable: true }
    }

    const fn flags(self) -> u16 {
        if self.writable { WRITE } else { 0 }
    }
}

/// An entry of the used ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Head of the chain.
    pub head: u16,
    /// Bytes that the device says it wrote.
    pub written: u32,
}

/// One queue as its driver sees it.
#[derive(Debug)]
pub struct GuestQueue {
    ram: GuestRam,
    base: GuestAddress,
    size: u16,
    next_available: u16,
    next_used: u16,
    free: Vec<u16>,
    /// The descriptors of each chain on its way, by head.
    under_way: Vec<Vec<u16>>,
}

impl GuestQueue {
    /// A queue of `size` descriptors whose parts lie from `base` on, in [`QUEUE_BYTES`]. `size` up to 512.
    pub fn new(ram: &GuestRam, base: GuestAddress, size: u16) -> Self {
        assert!(size <= 512, "the parts would not fit");
        let queue = Self {
            ram: ram.clone(),
            base,
            size,
            next_available: 0,
            next_used: 0,
            free: (0..size).rev().collect(),
            under_way: vec![Vec::new(); usize::from(size)],
        };
        ram.write_slice(&vec![0; usize::try_from(QUEUE_BYTES).unwrap()], base).unwrap();
        queue
    }

    /// Descriptor table.
    pub const fn descriptors(&self) -> GuestAddress {
        self.base
    }

    /// Available ring.
    pub const fn available(&self) -> GuestAddress {
        GuestAddress(self.base.0 + 0x4000)
    }

    /// Used ring.
    pub const fn used_ring(&self) -> GuestAddress {
        GuestAddress(self.base.0 + 0x5000)
    }

    /// The device's end of this queue, as the transport would make it.
    pub fn ring(&self, features: u64) -> Result<Ring, RingFault> {
        let mut queue = Queue::new(512).unwrap();
        queue.try_set_size(self.size).unwrap();
        queue.try_set_desc_table_address(self.descriptors()).unwrap();
        queue.try_set_avail_ring_address(self.available()).unwrap();
        queue.try_set_used_ring_address(self.used_ring()).unwrap();
        queue.set_event_idx(features & feature::EVENT_IDX != 0);
        queue.set_ready(true);
        Ring::new(queue, &self.ram, features)
    }

    /// The end of a device of another process, which goes on where one was saved.
    pub fn moved(&self, features: u64, state: Option<&RingState>) -> Ring {
        self.ring(features).unwrap().resumed(state.unwrap().position).unwrap()
    }

    /// How many descriptors are free.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// The descriptor that the next chain starts with.
    pub fn next_free(&self) -> u16 {
        *self.free.last().expect("the queue has a free descriptor")
    }

    /// Offers a well-formed chain and returns its head.
    pub fn offer(&mut self, buffers: &[Buffer]) -> u16 {
        let indices: Vec<u16> =
            buffers.iter().map(|_| self.free.pop().expect("the queue has a free descriptor")).collect();
        for (place, buffer) in buffers.iter().enumerate() {
            let (next, flag) = indices.get(place + 1).map_or((0, 0), |&next| (next, NEXT));
            self.set_descriptor(indices[place], buffer.address, buffer.bytes, buffer.flags() | flag, next);
        }
        let head = indices[0];
        self.under_way[usize::from(head)] = indices;
        self.make_available(head);
        head
    }

    /// Offers a chain that is one descriptor, which names an indirect table written at `table`.
    pub fn offer_indirect(&mut self, table: u64, buffers: &[Buffer]) -> u16 {
        for (place, buffer) in (0u16..).zip(buffers) {
            let last = usize::from(place) + 1 == buffers.len();
            let (next, flag) = if last { (0, 0) } else { (place + 1, NEXT) };
            self.set_indirect(table, place, buffer.address, buffer.bytes, buffer.flags() | flag, next);
        }
        let head = self.free.pop().expect("the queue has a free descriptor");
        let bytes = u32::try_from(buffers.len() * 16).unwrap();
        self.set_descriptor(head, table, bytes, INDIRECT, 0);
        self.under_way[usize::from(head)] = vec![head];
        self.make_available(head);
        head
    }

    /// Writes one descriptor, sensible or not.
    pub fn set_descriptor(&self, index: u16, address: u64, bytes: u32, flags: u16, next: u16) {
        self.set_indirect(self.descriptors().0, index, address, bytes, flags, next);
    }

    /// Writes one descriptor of an indirect table, sensible or not.
    pub fn set_indirect(&self, table: u64, index: u16, address: u64, bytes: u32, flags: u16, next: u16) {
        let place = GuestAddress(table + u64::from(index) * 16);
        self.ram.write_obj(Descriptor::new(address, bytes, flags, next), place).unwrap();
    }

    /// Puts `head` on the available ring, sensible or not.
    pub fn make_available(&mut self, head: u16) {
        let place = u64::from(self.next_available % self.size);
        self.ram.write_obj(head.to_le(), GuestAddress(self.available().0 + 4 + place * 2)).unwrap();
        self.set_available_index(self.next_available.wrapping_add(1));
    }

    /// Writes the available index, sensible or not.
    pub fn set_available_index(&mut self, index: u16) {
        self.next_available = index;
        self.ram.write_obj(index.to_le(), GuestAddress(self.available().0 + 2)).unwrap();
    }

    /// Writes the flags of the available ring; 1 asks for no interrupts.
    pub fn set_available_flags(&self, flags: u16) {
        self.ram.write_obj(flags.to_le(), self.available()).unwrap();
    }

    /// Asks, under EVENT_IDX, for an interrupt once the used index passes `index`.
    pub fn set_used_event(&self, index: u16) {
        let place = self.available().0 + 4 + u64::from(self.size) * 2;
        self.ram.write_obj(index.to_le(), GuestAddress(place)).unwrap();
    }

    /// Under EVENT_IDX, the available index whose passing the device wants to be notified of.
    pub fn available_event(&self) -> u16 {
        let place = self.used_ring().0 + 4 + u64::from(self.size) * 8;
        u16::from_le(self.ram.read_obj(GuestAddress(place)).unwrap())
    }

    /// What the device has completed since the last call; the descriptors are free again.
    pub fn used(&mut self) -> Vec<Used> {
        let index = u16::from_le(self.ram.read_obj(GuestAddress(self.used_ring().0 + 2)).unwrap());
        let mut all = Vec::new();
        while self.next_used != index {
            let place = self.used_ring().0 + 4 + u64::from(self.next_used % self.size) * 8;
            let entry: [u32; 2] = self.ram.read_obj(GuestAddress(place)).unwrap();
            let head = u16::try_from(u32::from_le(entry[0])).unwrap();
            self.free.append(&mut self.under_way[usize::from(head)]);
            all.push(Used { head, written: u32::from_le(entry[1]) });
            self.next_used = self.next_used.wrapping_add(1);
        }
        all
    }
}

/// Counts interrupts instead of raising them.
#[derive(Debug, Default)]
pub struct Interrupts {
    used: Mutex<Vec<usize>>,
    changes: Mutex<usize>,
}

impl Interrupts {
    /// The queues that raised an interrupt since the last call, in order.
    pub fn take(&self) -> Vec<usize> {
        std::mem::take(&mut self.used.lock().unwrap())
    }

    /// How often the configuration space changed since the last call.
    pub fn take_changes(&self) -> usize {
        std::mem::take(&mut self.changes.lock().unwrap())
    }
}

impl Interrupt for Interrupts {
    fn used(&self, queue: usize) {
        self.used.lock().unwrap().push(queue);
    }

    fn config_changed(&self) {
        *self.changes.lock().unwrap() += 1;
    }
}

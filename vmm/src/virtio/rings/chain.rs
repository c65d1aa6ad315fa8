//! One descriptor chain: walked once, checked as it is walked, then independent of the descriptor table.
//!
//! Invariant: every segment of a [`Chain`] is non-empty, in RAM and outside its ring; readable segments come
//! before writable ones; the number of segments is at most the queue's size and their bytes fit in 32 bits.

use virtio_queue::desc::split::Descriptor;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend};

use super::cursor::Cursor;
use super::{DESCRIPTOR_BYTES, Reader, RingFault, Writer};
use crate::memory::GuestRam;

/// A range of guest-physical addresses that does not wrap.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    start: GuestAddress,
    end: GuestAddress,
}

impl Span {
    pub(super) fn new(start: GuestAddress, bytes: u64) -> Option<Self> {
        Some(Self { start, end: start.checked_add(bytes)? })
    }

    pub(super) const fn start(self) -> GuestAddress {
        self.start
    }

    pub(super) const fn bytes(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// One buffer of a chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) address: GuestAddress,
    pub(super) bytes: u32,
}

/// A chain that the device holds. It comes from [`Ring::pop`](super::Ring::pop) and must go back to its ring.
#[derive(Debug)]
#[must_use = "a chain that is dropped is lost to the driver; complete it or put it back"]
pub struct Chain {
    head: u16,
    segments: Vec<Segment>,
    /// How many of the segments are for the device to read; the others are for it to write.
    readable: usize,
    readable_bytes: u32,
    writable_bytes: u32,
}

impl Chain {
    /// Index of the first descriptor, which names the chain on the used ring.
    #[must_use]
    pub fn head(&self) -> u16 {
        self.head
    }

    /// How many buffers it has: at most as many as its queue has descriptors.
    #[must_use]
    pub fn buffers(&self) -> usize {
        self.segments.len()
    }

    /// Bytes that the driver sent.
    #[must_use]
    pub fn readable_bytes(&self) -> usize {
        self.readable_bytes as usize
    }

    /// Room that the driver gave.
    #[must_use]
    pub fn writable_bytes(&self) -> usize {
        self.writable_bytes as usize
    }

    /// Reads what the driver sent, from its first byte.
    #[must_use]
    pub fn reader<'a>(&'a self, memory: &'a GuestRam) -> Reader<'a> {
        let (readable, _) = self.segments.split_at_checked(self.readable).unwrap_or_default();
        Reader::new(Cursor::new(memory, readable, self.readable_bytes()))
    }

    /// Writes what the driver gets, from its first byte.
    #[must_use]
    pub fn writer<'a>(&'a self, memory: &'a GuestRam) -> Writer<'a> {
        let (_, writable) = self.segments.split_at_checked(self.readable).unwrap_or_default();
        Writer::new(Cursor::new(memory, writable, self.writable_bytes()))
    }

    /// Where the buffers lie that are for the device to write, and their bytes.
    pub fn writable(&self) -> impl Iterator<Item = (GuestAddress, u32)> + '_ {
        let (_, writable) = self.segments.split_at_checked(self.readable).unwrap_or_default();
        writable.iter().map(|segment| (segment.address, segment.bytes))
    }

    pub(super) fn into_segments(self) -> Vec<Segment> {
        self.segments
    }
}

/// Where a chain is looked up, and what it must keep clear of.
pub(super) struct Walk<'a> {
    pub(super) memory: &'a GuestRam,
    pub(super) table: GuestAddress,
    pub(super) size: u16,
    pub(super) indirect: bool,
    pub(super) forbidden: &'a [Span],
}

impl Walk<'_> {
    /// Follows the chain from `head`. `segments` is an old list whose allocation serves again.
    pub(super) fn chain(&self, head: u16, mut segments: Vec<Segment>) -> Result<Chain, RingFault> {
        segments.clear();
        let mut chain = Chain { head, segments, readable: 0, readable_bytes: 0, writable_bytes: 0 };
        let mut table = self.table;
        let mut entries = u32::from(self.size);
        let mut index = head;
        let mut nested = false;
        // Ends: each round adds a segment, of which there may be `size`, or enters the one indirect table.
        loop {
            if u32::from(index) >= entries {
                return Err(RingFault::NextOutOfRange);
            }
            let descriptor = self.descriptor(table, index)?;
            if descriptor.refers_to_indirect_table() {
                if !self.indirect {
                    return Err(RingFault::IndirectRefused);
                }
                if nested {
                    return Err(RingFault::IndirectNested);
                }
                (table, entries) = self.indirect_table(&descriptor)?;
                (nested, index) = (true, 0);
                continue;
            }
            self.add(&mut chain, &descriptor)?;
            if !descriptor.has_next() {
                return Ok(chain);
            }
            index = descriptor.next();
        }
    }

    fn descriptor(&self, table: GuestAddress, index: u16) -> Result<Descriptor, RingFault> {
        let offset = u64::from(index).saturating_mul(DESCRIPTOR_BYTES);
        let address = table.checked_add(offset).ok_or(RingFault::NextOutOfRange)?;
        self.memory.read_obj(address).map_err(|_| RingFault::Unreachable)
    }

    fn indirect_table(&self, descriptor: &Descriptor) -> Result<(GuestAddress, u32), RingFault> {
        let bytes = u64::from(descriptor.len());
        if bytes == 0 || !bytes.is_multiple_of(DESCRIPTOR_BYTES) || descriptor.has_next() {
            return Err(RingFault::IndirectTable);
        }
        self.check_place(descriptor)?;
        let entries = bytes.checked_div(DESCRIPTOR_BYTES).and_then(|entries| u32::try_from(entries).ok());
        Ok((descriptor.addr(), entries.ok_or(RingFault::IndirectTable)?))
    }

    fn add(&self, chain: &mut Chain, descriptor: &Descriptor) -> Result<(), RingFault> {
        if chain.segments.len() >= usize::from(self.size) {
            return Err(RingFault::TooManyBuffers);
        }
        let bytes = descriptor.len();
        if bytes == 0 {
            return Err(RingFault::EmptyBuffer);
        }
        self.check_place(descriptor)?;
        let total = chain.readable_bytes.checked_add(chain.writable_bytes);
        if total.and_then(|total| total.checked_add(bytes)).is_none() {
            return Err(RingFault::TooManyBytes);
        }
        if descriptor.is_write_only() {
            chain.writable_bytes = chain.writable_bytes.saturating_add(bytes);
        } else if chain.writable_bytes > 0 {
            return Err(RingFault::WrongOrder);
        } else {
            chain.readable_bytes = chain.readable_bytes.saturating_add(bytes);
            chain.readable = chain.readable.saturating_add(1);
        }
        chain.segments.push(Segment { address: descriptor.addr(), bytes });
        Ok(())
    }

    fn check_place(&self, descriptor: &Descriptor) -> Result<(), RingFault> {
        let span = Span::new(descriptor.addr(), u64::from(descriptor.len())).ok_or(RingFault::OutsideRam)?;
        if self.forbidden.iter().any(|part| part.overlaps(span)) {
            return Err(RingFault::InsideRing);
        }
        if !GuestMemoryBackend::check_range(self.memory, span.start(), descriptor.len() as usize) {
            return Err(RingFault::OutsideRam);
        }
        Ok(())
    }
}

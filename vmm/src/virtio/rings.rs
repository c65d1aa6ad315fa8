//! Split virtqueues, seen from the device, with a driver that may lie about everything.
//!
//! Duty: take chains off the available ring, check every descriptor before a device model sees one, put
//! results on the used ring, and say when the driver wants an interrupt. Not its duty: what the bytes mean.
//!
//! `virtio-queue` keeps the indices, the memory ordering and EVENT_IDX. Its chain iterator is not used: it
//! ends silently on a loop, on an index or an address that cannot be, on an indirect table that is broken,
//! and it follows indirect tables whether or not the feature was accepted. Here each of them is a
//! [`RingFault`], which the transport turns into DEVICE_NEEDS_RESET. Its `is_valid` and
//! `pop_descriptor_chain` log an error per call, which would let a guest write the host's log.
//!
//! Indirect descriptors are supported, because Linux drivers do larger requests with them: only where the
//! driver accepted VIRTIO_F_INDIRECT_DESC, one level deep, last in its chain (virtio 1.2, 2.7.5.3), at most as
//! many buffers as the queue has descriptors. Such a table may lie at any address, as the specification
//! asks for no alignment.
//!
//! Invariant: a [`Chain`] was copied out of guest memory and checked once. What the driver rewrites after
//! that moment changes the bytes in the buffers, never the buffers' places, lengths or directions.

mod chain;
mod cursor;
#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering;

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

pub use self::chain::Chain;
use self::chain::{Segment, Span, Walk};
pub use self::cursor::{GuestSlice, Reader, Writer};
use super::feature;
use super::state::RingState;
use crate::memory::GuestRam;

/// Bytes of one descriptor (virtio 1.2, 2.7.5).
const DESCRIPTOR_BYTES: u64 = 16;
/// Bytes of the available ring besides its entries: flags, idx, used_event (2.7.6).
const AVAILABLE_FIXED_BYTES: u64 = 6;
/// Bytes of the available ring before its entries: flags and idx.
const AVAILABLE_HEADER_BYTES: u64 = 4;
/// Bytes of one entry of the available ring.
const AVAILABLE_ENTRY_BYTES: u64 = 2;
/// Bytes of the used ring besides its entries: flags, idx, avail_event (2.7.8).
const USED_FIXED_BYTES: u64 = 6;
/// Bytes of the used ring before its entries: flags and idx.
const USED_HEADER_BYTES: u64 = 4;
/// Bytes of one entry of the used ring.
const USED_ENTRY_BYTES: u64 = 8;
/// VIRTQ_AVAIL_F_NO_INTERRUPT: the driver polls (2.7.6).
const NO_INTERRUPT: u16 = 1;

/// How a driver broke a ring. The device stops until the driver resets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingFault {
    /// Size, alignment, place or overlap of the ring's parts.
    #[error("the queue's size or addresses cannot be")]
    Setup,
    /// The available index went backwards or ran ahead by more than the queue holds.
    #[error("the available index jumped")]
    AvailableIndex,
    /// The used index is not the one that the driver sees.
    #[error("the used index is another one")]
    UsedIndex,
    /// A chain starts outside the descriptor table.
    #[error("a chain's head is outside the descriptor table")]
    HeadOutOfRange,
    /// A chain goes on outside its table.
    #[error("a chain goes on outside its descriptor table")]
    NextOutOfRange,
    /// The driver offered a chain that the device still holds.
    #[error("a chain was offered while the device still holds it")]
    DuplicateHead,
    /// More buffers than the queue has descriptors, which includes every loop.
    #[error("a chain is longer than its queue, or loops")]
    TooManyBuffers,
    /// More bytes than a chain may have (2.7.5.2).
    #[error("a chain is longer than 2^32 bytes")]
    TooManyBytes,
    /// A buffer without bytes.
    #[error("a buffer has no bytes")]
    EmptyBuffer,
    /// A buffer or table that is not wholly RAM.
    #[error("a buffer is not in guest memory")]
    OutsideRam,
    /// A buffer or table on top of the ring itself.
    #[error("a buffer lies in the ring itself")]
    InsideRing,
    /// A buffer to read after one to write (2.7.4.2).
    #[error("a readable buffer follows a writable one")]
    WrongOrder,
    /// An indirect descriptor from a driver that did not accept the feature.
    #[error("an indirect descriptor without the feature")]
    IndirectRefused,
    /// An indirect descriptor in an indirect table.
    #[error("an indirect table within an indirect table")]
    IndirectNested,
    /// An indirect table without entries, with half of one, or with more chain after it.
    #[error("an indirect table is malformed")]
    IndirectTable,
    /// Guest memory that was checked could not be reached.
    #[error("the ring cannot be reached in guest memory")]
    Unreachable,
}

/// One queue after activation: its place and size have no setters.
#[derive(Debug)]
pub struct Ring {
    queue: Queue,
    memory: GuestRam,
    indirect: bool,
    /// Descriptor table, available ring, used ring.
    parts: [Span; 3],
    /// Which heads the device holds. As long as the queue.
    held: Vec<bool>,
    /// Buffer lists of completed chains, to be used again: no allocation per chain in steady state.
    /// As many as chains were ever held at once, which is bounded by the queue's size.
    spare: Vec<Vec<Segment>>,
    /// Entries that were put on the used ring and that the driver does not see yet.
    unseen: u16,
    /// How many were completed since the last look at whether to interrupt.
    completed: u16,
}

impl Ring {
    /// Checks a queue as the driver set it up and closes it to changes.
    ///
    /// `features` are those the driver accepted.
    pub fn new(queue: Queue, memory: &GuestRam, features: u64) -> Result<Self, RingFault> {
        let size = u64::from(queue.size());
        if !queue.ready() || size == 0 || !size.is_power_of_two() || queue.size() > queue.max_size() {
            return Err(RingFault::Setup);
        }
        // Alignment is not asked again: the queue's setters take no other address.
        let part = |address: u64, entry: u64, fixed: u64| {
            let bytes = size.checked_mul(entry)?.checked_add(fixed)?;
            Span::new(GuestAddress(address), bytes).filter(|&span| lies_in_one_region(memory, span))
        };
        let descriptors = part(queue.desc_table(), DESCRIPTOR_BYTES, 0).ok_or(RingFault::Setup)?;
        let available =
            part(queue.avail_ring(), AVAILABLE_ENTRY_BYTES, AVAILABLE_FIXED_BYTES).ok_or(RingFault::Setup)?;
        let used = part(queue.used_ring(), USED_ENTRY_BYTES, USED_FIXED_BYTES).ok_or(RingFault::Setup)?;
        let overlap =
            descriptors.overlaps(available) || descriptors.overlaps(used) || available.overlaps(used);
        // `virtio-queue` takes an available ring at 0 for one that was never set; no driver puts it there.
        if overlap || queue.avail_ring() == 0 {
            return Err(RingFault::Setup);
        }
        Ok(Self {
            held: vec![false; usize::from(queue.size())],
            queue,
            memory: memory.clone(),
            indirect: features & feature::INDIRECT_DESC != 0,
            parts: [descriptors, available, used],
            spare: Vec::new(),
            unseen: 0,
            completed: 0,
        })
    }

    /// The ring as it is between two turns. Chains that the device holds must be the last ones that it took: they
    /// count as not taken, so whoever goes on from here finds them offered. Every other one was completed, so one
    /// number says where both rings are.
    #[must_use]
    pub fn save(&self) -> RingState {
        RingState {
            size: self.queue.size(),
            parts: [self.queue.desc_table(), self.queue.avail_ring(), self.queue.used_ring()],
            position: self.queue.next_used(),
        }
    }

    /// Goes on where another ring in the same memory was saved.
    ///
    /// The position must be the one that the driver sees, and no more than the queue holds can be on offer: anything
    /// else would complete chains twice or run through old ones.
    pub fn resumed(mut self, position: u16) -> Result<Self, RingFault> {
        let shown = self.queue.used_idx(&self.memory, Ordering::Acquire);
        if shown.map_err(|_| RingFault::Unreachable)?.0 != position {
            return Err(RingFault::UsedIndex);
        }
        let offered = self.queue.avail_idx(&self.memory, Ordering::Acquire);
        if offered.map_err(|_| RingFault::Unreachable)?.0.wrapping_sub(position) > self.queue.size() {
            return Err(RingFault::AvailableIndex);
        }
        self.queue.set_next_avail(position);
        self.queue.set_next_used(position);
        Ok(self)
    }

    /// How many descriptors the queue has.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// The next chain, or `None` where the driver has offered no more; it will notify when it does.
    pub fn pop(&mut self) -> Result<Option<Chain>, RingFault> {
        let head = match self.next_head()? {
            Some(head) => head,
            None => {
                // Ask for a notification first and look once more after: an offer in between is not lost.
                if !self.queue.enable_notification(&self.memory).map_err(|_| RingFault::Unreachable)? {
                    return Ok(None);
                }
                match self.next_head()? {
                    Some(head) => head,
                    None => return Ok(None),
                }
            }
        };
        let held = self.held.get_mut(usize::from(head)).ok_or(RingFault::HeadOutOfRange)?;
        if std::mem::replace(held, true) {
            return Err(RingFault::DuplicateHead);
        }
        let segments = self.spare.pop().unwrap_or_default();
        let walk = Walk {
            memory: &self.memory,
            table: GuestAddress(self.queue.desc_table()),
            size: self.queue.size(),
            indirect: self.indirect,
            forbidden: &self.parts,
        };
        walk.chain(head, segments).map(Some)
    }

    fn next_head(&mut self) -> Result<Option<u16>, RingFault> {
        let at_hand = self.queue.avail_idx(&self.memory, Ordering::Acquire);
        if at_hand.map_err(|_| RingFault::Unreachable)?.0 == self.queue.next_avail() {
            return Ok(None);
        }
        // Of the two reasons to refuse an iterator, a ring that is not ready was excluded by `new`.
        let mut available = self.queue.iter(&self.memory).map_err(|_| RingFault::AvailableIndex)?;
        let chain = available.next().ok_or(RingFault::Unreachable)?;
        Ok(Some(chain.head_index()))
    }

    /// Undoes the last [`pop`](Self::pop), for a device that found nothing to put into the chain.
    ///
    /// Only the chain popped last may come back, as the position in the available ring is all that is kept.
    pub fn put_back(&mut self, chain: Chain) {
        self.queue.go_to_previous_position();
        self.let_go(chain);
    }

    /// Gives a chain back to the driver; `written` bytes of its writable part were filled.
    pub fn complete(&mut self, chain: Chain, written: usize) -> Result<(), RingFault> {
        let (head, written) = self.let_go_filled(chain, written);
        self.completed = self.completed.saturating_add(1);
        let unseen = std::mem::take(&mut self.unseen);
        self.queue.set_next_used(self.queue.next_used().wrapping_add(unseen));
        self.queue.add_used(&self.memory, head, written).map_err(|_| RingFault::Unreachable)
    }

    /// Gives a chain back like [`complete`](Self::complete), but the driver sees it no sooner than the next one
    /// that is completed: what belongs together reaches the driver at once (5.1.6.4 asks for it).
    pub fn complete_with_next(&mut self, chain: Chain, written: usize) -> Result<(), RingFault> {
        let (head, written) = self.let_go_filled(chain, written);
        self.completed = self.completed.saturating_add(1);
        // `virtio-queue` shows each entry as it is added; this one stands behind the last that it knows of.
        let slot =
            self.queue.next_used().wrapping_add(self.unseen).checked_rem(self.queue.size()).unwrap_or(0);
        self.unseen = self.unseen.wrapping_add(1);
        let offset = u64::from(slot).saturating_mul(USED_ENTRY_BYTES).saturating_add(USED_HEADER_BYTES);
        let place = GuestAddress(self.queue.used_ring()).checked_add(offset).ok_or(RingFault::Unreachable)?;
        let entry = [u32::from(head).to_le(), written.to_le()];
        self.memory.write_obj(entry, place).map_err(|_| RingFault::Unreachable)
    }

    fn let_go_filled(&mut self, chain: Chain, written: usize) -> (u16, u32) {
        let written = u32::try_from(written.min(chain.writable_bytes())).unwrap_or(u32::MAX);
        let head = chain.head();
        self.let_go(chain);
        (head, written)
    }

    fn let_go(&mut self, chain: Chain) {
        if let Some(held) = self.held.get_mut(usize::from(chain.head())) {
            *held = false;
        }
        self.spare.push(chain.into_segments());
    }

    /// Whether the driver wants to hear of what was completed since the last call.
    pub fn wants_interrupt(&mut self) -> Result<bool, RingFault> {
        let completed = std::mem::take(&mut self.completed);
        if completed == 0 {
            return Ok(false);
        }
        // Orders what the driver wishes after the used index (2.7.7.2).
        std::sync::atomic::fence(Ordering::SeqCst);
        // `virtio-queue` leaves the flag aside, and does not know of entries that were completed together.
        if !self.queue.event_idx_enabled() {
            return Ok(self.available_word(0)? & NO_INTERRUPT == 0);
        }
        let entries = u64::from(self.queue.size()).saturating_mul(AVAILABLE_ENTRY_BYTES);
        let wished = self.available_word(entries.saturating_add(AVAILABLE_HEADER_BYTES))?;
        // Whether the used index passed the wished one on its way here, around its end if need be.
        Ok(self.queue.next_used().wrapping_sub(wished).wrapping_sub(1) < completed)
    }

    fn available_word(&self, offset: u64) -> Result<u16, RingFault> {
        let place =
            GuestAddress(self.queue.avail_ring()).checked_add(offset).ok_or(RingFault::Unreachable)?;
        let word: u16 = self.memory.load(place, Ordering::Relaxed).map_err(|_| RingFault::Unreachable)?;
        Ok(u16::from_le(word))
    }
}

/// The ring's own parts are accessed atomically, which needs one mapping beneath.
fn lies_in_one_region(memory: &GuestRam, span: Span) -> bool {
    memory.to_region_addr(span.start()).is_some_and(|(region, offset)| {
        region.len().checked_sub(offset.0).is_some_and(|left| left >= span.bytes())
    })
}

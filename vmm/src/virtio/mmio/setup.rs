//! A queue while the driver sets it up: plain fields, checked once, when it becomes a ring.

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;

use super::super::feature;
use super::super::rings::{Ring, RingFault};
use super::super::state::{RingState, SetupState};
use crate::memory::GuestRam;

/// A guest-physical address that arrives in two halves.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct SplitAddress(u64);

#[derive(Debug, Clone, Copy)]
pub(super) enum AddressHalf {
    Low,
    High,
}

impl SplitAddress {
    pub(super) const fn set(&mut self, half: AddressHalf, value: u32) {
        let (mask, shift) = match half {
            AddressHalf::Low => (0xffff_ffff_0000_0000, 0),
            AddressHalf::High => (0x0000_0000_ffff_ffff, 32),
        };
        self.0 = (self.0 & mask) | ((value as u64) << shift);
    }

    const fn get(self) -> GuestAddress {
        GuestAddress(self.0)
    }
}

/// What the driver has said of one queue so far. Nothing in it is trusted.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueSetup {
    max_size: u16,
    size: u32,
    ready: bool,
    pub(super) descriptors: SplitAddress,
    pub(super) available: SplitAddress,
    pub(super) used: SplitAddress,
}

impl QueueSetup {
    pub(super) const fn new(max_size: u16) -> Self {
        let nowhere = SplitAddress(0);
        Self {
            max_size,
            size: max_size as u32,
            ready: false,
            descriptors: nowhere,
            available: nowhere,
            used: nowhere,
        }
    }

    /// A queue as it was saved; as little trusted as what a driver says.
    pub(super) const fn saved(max_size: u16, state: &SetupState) -> Self {
        let [descriptors, available, used] = state.parts;
        Self {
            max_size,
            size: state.size,
            ready: state.ready,
            descriptors: SplitAddress(descriptors),
            available: SplitAddress(available),
            used: SplitAddress(used),
        }
    }

    pub(super) const fn save(&self) -> SetupState {
        SetupState {
            size: self.size,
            ready: self.ready,
            parts: [self.descriptors.0, self.available.0, self.used.0],
        }
    }

    /// The ring that was saved, by way of the same checks as a driver's.
    pub(super) fn saved_ring(
        max_size: u16,
        state: &RingState,
        memory: &GuestRam,
        features: u64,
    ) -> Result<Ring, RingFault> {
        let setup = SetupState { size: state.size.into(), ready: true, parts: state.parts };
        let ring = Self::saved(max_size, &setup).into_ring(memory, features)?;
        ring.ok_or(RingFault::Setup)?.resumed(state.position)
    }

    pub(super) const fn is_ready(&self) -> bool {
        self.ready
    }

    /// A queue that is ready has its size fixed (virtio 1.2, 4.2.3.2, step 6).
    pub(super) const fn set_size(&mut self, size: u32) {
        if !self.ready {
            self.size = size;
        }
    }

    pub(super) const fn set_ready(&mut self, ready: bool) {
        self.ready = ready;
    }

    /// Checks everything and makes the ring; a queue that the driver left alone makes none.
    pub(super) fn into_ring(self, memory: &GuestRam, features: u64) -> Result<Option<Ring>, RingFault> {
        if !self.ready {
            return Ok(None);
        }
        let size = u16::try_from(self.size).map_err(|_| RingFault::Setup)?;
        let mut queue = Queue::new(self.max_size).map_err(|_| RingFault::Setup)?;
        queue.try_set_size(size).map_err(|_| RingFault::Setup)?;
        queue.try_set_desc_table_address(self.descriptors.get()).map_err(|_| RingFault::Setup)?;
        queue.try_set_avail_ring_address(self.available.get()).map_err(|_| RingFault::Setup)?;
        queue.try_set_used_ring_address(self.used.get()).map_err(|_| RingFault::Setup)?;
        queue.set_event_idx(features & feature::EVENT_IDX != 0);
        queue.set_ready(true);
        Ring::new(queue, memory, features).map(Some)
    }
}

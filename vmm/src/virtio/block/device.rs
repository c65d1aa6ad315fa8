//! The model of a block device: requests in, statuses out.
//!
//! Duty: carry out what [`Request`] admits, in the order of the queue, and answer everything else with a
//! status. Not its duty: host files ([`Disk`]), interrupts and doorbells (the transport).
//!
//! Invariant: a read-only device never calls [`Disk::write`], whatever features the driver claims.

use std::time::Instant;

use super::SECTOR;
use super::disk::Disk;
use super::request::{HEADER, Rejection, Request};
use crate::logger::Quota;
use crate::memory::GuestRam;
use crate::virtio::device::{Activation, Backlog, VirtioDevice};
use crate::virtio::device_id;
use crate::virtio::rings::{Chain, RingFault};

/// Descriptors of the one queue: sixty-four requests of four in flight.
const QUEUE_SIZE: u16 = 256;
/// Bytes that one turn may move. Buffers may overlap, so a bound on chains alone is none on work: the event
/// loop would not come back while a guest reads its whole disk into one page, over and over.
const TURN_BYTES: usize = 4 << 20;
/// Bytes of the answer to GET_ID (5.2.6).
const ID_BYTES: usize = 20;

const FEATURE_SEG_MAX: u64 = 1 << 2;
const FEATURE_READ_ONLY: u64 = 1 << 5;
const FEATURE_FLUSH: u64 = 1 << 9;

const STATUS_OK: u8 = 0;
const STATUS_IO_ERROR: u8 = 1;
const STATUS_UNSUPPORTED: u8 = 2;

/// Requests that were answered, for the monitor's statistics.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Answered with OK.
    pub completed: u64,
    /// Answered with an error.
    pub failed: u64,
}

/// The model.
#[derive(Debug)]
pub struct BlockDevice<D> {
    disk: D,
    id: [u8; ID_BYTES],
    read_only: bool,
    active: Option<Activation>,
    counters: Counters,
    complaints: Quota,
}

impl<D: Disk> BlockDevice<D> {
    /// A device on `disk`; `id` is cut to the 20 bytes that the protocol has.
    pub fn new(disk: D, id: &str, read_only: bool) -> Self {
        let mut padded = [0; ID_BYTES];
        for (to, from) in padded.iter_mut().zip(id.bytes()) {
            *to = from;
        }
        Self {
            disk,
            id: padded,
            read_only,
            active: None,
            counters: Counters::default(),
            complaints: Quota::default(),
        }
    }

    /// What it did so far.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    #[cfg(test)]
    pub(super) const fn disk_for_tests(&self) -> &D {
        &self.disk
    }

    /// Answers one chain; returns how many bytes of its writable part were filled: all of it, as the
    /// status is its last byte.
    fn answer(&mut self, chain: &Chain, memory: &GuestRam) -> usize {
        let mut writer = chain.writer(memory);
        let Some(room) = writer.remaining().checked_sub(1) else {
            // Not even a byte for the status: nothing can be said, the chain goes back as it came.
            return 0;
        };
        let (status, counter) = match self.carry_out(chain, memory) {
            Ok(()) => (STATUS_OK, &mut self.counters.completed),
            Err(status) => (status, &mut self.counters.failed),
        };
        *counter = counter.saturating_add(1);
        writer.skip(room);
        writer.write(&[status]);
        chain.writable_bytes()
    }

    fn carry_out(&mut self, chain: &Chain, memory: &GuestRam) -> Result<(), u8> {
        let mut reader = chain.reader(memory);
        let mut writer = chain.writer(memory);
        let header: [u8; HEADER] = reader.read_array().ok_or(STATUS_IO_ERROR)?;
        let request =
            Request::parse(header, chain, self.disk.bytes()).map_err(|rejection| match rejection {
                Rejection::Unsupported => STATUS_UNSUPPORTED,
                Rejection::Invalid => STATUS_IO_ERROR,
            })?;
        let done = match request {
            Request::Read { offset, bytes } => self.disk.read(offset, &mut writer, bytes),
            Request::Write { .. } if self.read_only => return Err(STATUS_IO_ERROR),
            Request::Write { offset, bytes } => self.disk.write(offset, &mut reader, bytes),
            Request::Flush => self.disk.flush(),
            Request::GetId if writer.remaining() > ID_BYTES => {
                writer.write(&self.id);
                Ok(())
            }
            Request::GetId => return Err(STATUS_IO_ERROR),
        };
        done.map_err(|error| {
            if self.complaints.allow() {
                log::warn!("block: {request:?} failed: {error}");
            }
            STATUS_IO_ERROR
        })
    }

    /// The configuration space (5.2.4): capacity in sectors, size_max (not offered), seg_max.
    fn config_space(&self) -> [u8; 16] {
        let mut space = [0; 16];
        let (capacity, rest) = space.split_at_mut(8);
        capacity.copy_from_slice(&self.disk.bytes().checked_div(SECTOR).unwrap_or(0).to_le_bytes());
        // Header and status take a descriptor each.
        let segments = u32::from(QUEUE_SIZE.saturating_sub(2)).to_le_bytes();
        rest.split_at_mut(4).1.copy_from_slice(&segments);
        space
    }
}

impl<D: Disk> VirtioDevice for BlockDevice<D> {
    fn device_type(&self) -> u32 {
        device_id::BLOCK
    }

    fn features(&self) -> u64 {
        FEATURE_SEG_MAX | FEATURE_FLUSH | if self.read_only { FEATURE_READ_ONLY } else { 0 }
    }

    fn queue_max_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let space = self.config_space();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (to, from) in data.iter_mut().zip(space.get(start..).unwrap_or_default()) {
            *to = *from;
        }
    }

    fn activate(&mut self, activation: Activation) {
        self.active = Some(activation);
    }

    fn notify(&mut self, queue: usize, _now: Instant) -> Result<Backlog, RingFault> {
        // Taken for the turn and put back at its end: a ring that broke stays gone.
        let Some(mut active) = self.active.take() else { return Ok(Backlog::Done) };
        let Some(ring) = active.rings.get_mut(queue).and_then(Option::as_mut) else {
            self.active = Some(active);
            return Ok(Backlog::Done);
        };
        let mut backlog = Backlog::More;
        let mut moved = 0usize;
        for _ in 0..ring.size() {
            if moved >= TURN_BYTES {
                break;
            }
            let Some(chain) = ring.pop()? else {
                backlog = Backlog::Done;
                break;
            };
            moved = moved.saturating_add(chain.readable_bytes()).saturating_add(chain.writable_bytes());
            let written = self.answer(&chain, &active.memory);
            ring.complete(chain, written)?;
        }
        if ring.wants_interrupt()? {
            active.interrupt.used(queue);
        }
        self.active = Some(active);
        Ok(backlog)
    }

    fn reset(&mut self) {
        self.active = None;
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        report("completed", self.counters.completed);
        report("failed", self.counters.failed);
    }
}

//! The model of an entropy device: buffers in, random bytes out.
//!
//! Duty: fill the chains of the one queue, each with at most [`CHAIN_BYTES`]. Not its duty: where the bytes are from
//! ([`Entropy`]), interrupts and doorbells (the transport).
//!
//! Invariant: a chain is completed with what was really written to it: a driver that asks for megabytes gets a
//! short answer, never stale memory counted as random.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use super::source::Entropy;
use crate::logger::Quota;
use crate::memory::GuestRam;
use crate::rate::{Limit, Verdict};
use crate::virtio::device::{Activation, Backlog, VirtioDevice};
use crate::virtio::device_id;
use crate::virtio::rings::{Chain, Ring, RingFault};
use crate::virtio::state::Rings;

/// Descriptors of the one queue. Linux has one request under way.
const QUEUE_SIZE: u16 = 8;
/// Bytes that one chain gets. Linux asks for a page at most; this is what a guest's megabytes are cut to.
pub(super) const CHAIN_BYTES: usize = 64 * 1024;
/// Bytes after which a turn ends: some hundred microseconds of the host's generator.
pub(super) const TURN_BYTES: usize = 2 * CHAIN_BYTES;
/// How long until the host is asked again, when it has no entropy itself yet.
pub const WAIT_FOR_SEED: Duration = Duration::from_millis(50);

/// Since the machine was made.
#[derive(Debug, Default, Clone, Copy)]
struct Counters {
    requests: u64,
    bytes: u64,
    failed: u64,
}

/// The model.
#[derive(Debug)]
pub struct RngDevice<E> {
    source: E,
    limit: Limit,
    active: Option<Activation>,
    counters: Counters,
    complaints: Quota,
}

impl<E: Entropy> RngDevice<E> {
    /// A device that gives what `source` has, as fast as `limit` lets it.
    pub fn new(source: E, limit: Limit) -> Self {
        Self { source, limit, active: None, counters: Counters::default(), complaints: Quota::default() }
    }

    #[cfg(test)]
    pub(super) const fn source_for_tests(&mut self) -> &mut E {
        &mut self.source
    }

    fn turn(&mut self, ring: &mut Ring, memory: &GuestRam, now: Instant) -> Result<Backlog, RingFault> {
        let mut moved = 0usize;
        for _ in 0..ring.size() {
            if moved >= TURN_BYTES {
                break;
            }
            let Some(chain) = ring.pop()? else { return Ok(Backlog::Done) };
            // What is longer than the burst would pass as a debt; shorter answers keep to the limit.
            let burst = self
                .limit
                .burst_bytes()
                .map_or(CHAIN_BYTES, |burst| usize::try_from(burst).unwrap_or(CHAIN_BYTES));
            let wanted = chain.writable_bytes().min(CHAIN_BYTES).min(burst);
            if let Verdict::Wait(time) = self.limit.take(wanted as u64, now) {
                ring.put_back(chain);
                return Ok(Backlog::Until(time));
            }
            let Some(written) = self.answer(&chain, memory, wanted) else {
                ring.put_back(chain);
                return Ok(Backlog::Until(now.checked_add(WAIT_FOR_SEED).unwrap_or(now)));
            };
            moved = moved.saturating_add(written);
            ring.complete(chain, written)?;
        }
        Ok(Backlog::More)
    }

    /// How many bytes the chain got; `None` where the host has none to give yet.
    fn answer(&mut self, chain: &Chain, memory: &GuestRam, wanted: usize) -> Option<usize> {
        let written = match self.source.fill(&mut chain.writer(memory), wanted) {
            Ok(written) => written,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return None;
            }
            Err(error) => {
                if self.complaints.allow() {
                    log::warn!("rng: the host gives no random numbers: {error}");
                }
                self.counters.failed = self.counters.failed.saturating_add(1);
                0
            }
        };
        self.counters.requests = self.counters.requests.saturating_add(1);
        self.counters.bytes = self.counters.bytes.saturating_add(written as u64);
        Some(written)
    }
}

impl<E: Entropy> VirtioDevice for RngDevice<E> {
    fn device_type(&self) -> u32 {
        device_id::ENTROPY
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_max_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE]
    }

    fn read_config(&self, _offset: u64, _data: &mut [u8]) {}

    fn activate(&mut self, activation: Activation) {
        self.active = Some(activation);
    }

    fn notify(&mut self, queue: usize, now: Instant) -> Result<Backlog, RingFault> {
        // Taken for the turn and put back at its end: a ring that broke stays gone.
        let Some(mut active) = self.active.take() else { return Ok(Backlog::Done) };
        let mut backlog = Backlog::Done;
        if let Some(ring) = active.rings.get_mut(queue).and_then(Option::as_mut) {
            backlog = self.turn(ring, &active.memory, now)?;
            if ring.wants_interrupt()? {
                active.interrupt.used(queue);
            }
        }
        self.active = Some(active);
        Ok(backlog)
    }

    fn rings(&self) -> Rings {
        self.active.as_ref().map(Activation::saved_rings).unwrap_or_default()
    }

    fn reset(&mut self) {
        self.active = None;
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        report("requests", self.counters.requests);
        report("bytes", self.counters.bytes);
        report("failed", self.counters.failed);
    }
}

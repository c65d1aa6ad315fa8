//! Which RAM goes back to the host, out of what a driver says it can spare.
//!
//! Duty: as few requests to the host as there are runs of pages, whatever the order a driver names them in, and
//! none for what is not RAM. Not its duty: where the names come from.
//!
//! Invariant: what reaches the host is RAM within one region, whole granules of the host, and no byte twice in one
//! settlement.

use std::ops::Range;

use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::lend::Lend;
use crate::logger::Quota;
use crate::memory::GuestRam;

/// Bytes of the unit that pages are named in (virtio 1.2, 5.5.6), whatever pages guest and host have.
pub(super) const PAGE: u64 = 4096;

/// Since the machine was made.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sums {
    /// Bytes that the host took.
    pub(super) given_back: u64,
    /// Requests to the host.
    pub(super) calls: u64,
    /// Bytes that were no RAM.
    pub(super) outside: u64,
    /// Bytes that would have been parts of larger pages.
    pub(super) kept: u64,
    /// Requests that the host refused.
    pub(super) failed: u64,
}

/// Collects what a driver can spare, and settles with the host.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Empty between turns; as long as a turn has names at most.
    runs: Vec<Range<u64>>,
    sums: Sums,
    complaints: Quota,
}

impl Ledger {
    pub(super) const fn sums(&self) -> &Sums {
        &self.sums
    }

    /// The driver can spare the page of this number.
    pub(super) fn add_page(&mut self, number: u32) {
        // 32 bits of number and 12 of offset: neither can overflow.
        let start = u64::from(number).saturating_mul(PAGE);
        self.add(start, PAGE);
    }

    /// The driver can spare this range, which does not wrap.
    pub(super) fn add(&mut self, start: u64, bytes: u64) {
        let end = start.saturating_add(bytes);
        match self.runs.last_mut() {
            // Allocators hand out neighbours, upwards or downwards: most of the work is done here.
            Some(last) if last.end == start => last.end = end,
            Some(last) if last.start == end => last.start = start,
            _ => self.runs.push(start..end),
        }
    }

    /// Gives the host all of it that can be given.
    pub(super) fn settle(&mut self, memory: &GuestRam, lender: &impl Lend) {
        self.runs.sort_unstable_by_key(|run| run.start);
        self.runs.dedup_by(|next, run| {
            let joined = next.start <= run.end;
            if joined {
                run.end = run.end.max(next.end);
            }
            joined
        });
        let mut runs = std::mem::take(&mut self.runs);
        for run in runs.drain(..) {
            let mut inside = 0u64;
            for region in memory.iter() {
                let base = region.start_addr().raw_value();
                let piece = run.start.max(base)..run.end.min(base.saturating_add(region.len()));
                if !piece.is_empty() {
                    inside = inside.saturating_add(length(&piece));
                    self.give(piece, lender);
                }
            }
            self.note_outside(length(&run).saturating_sub(inside));
        }
        // For its allocation.
        self.runs = runs;
    }

    fn give(&mut self, piece: Range<u64>, lender: &impl Lend) {
        let whole = lender.granule().map_or(0..0, |granule| inward(&piece, granule));
        let sums = &mut self.sums;
        sums.kept = sums.kept.saturating_add(length(&piece).saturating_sub(length(&whole)));
        if whole.is_empty() {
            return;
        }
        sums.calls = sums.calls.saturating_add(1);
        match lender.give_back(GuestAddress(whole.start), length(&whole)) {
            Ok(()) => sums.given_back = sums.given_back.saturating_add(length(&whole)),
            Err(error) => {
                sums.failed = sums.failed.saturating_add(1);
                if self.complaints.allow() {
                    log::warn!("balloon: the host does not take memory back: {error}");
                }
            }
        }
    }

    fn note_outside(&mut self, bytes: u64) {
        self.sums.outside = self.sums.outside.saturating_add(bytes);
        if bytes > 0 && self.complaints.allow() {
            log::warn!("balloon: the guest offers memory that it does not have; ignored");
        }
    }
}

const fn length(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

/// The whole granules in a range; may be empty.
fn inward(range: &Range<u64>, granule: u64) -> Range<u64> {
    let start = range.start.checked_next_multiple_of(granule).unwrap_or(u64::MAX);
    let past = range.end.checked_rem(granule).unwrap_or(0);
    start..range.end.saturating_sub(past)
}

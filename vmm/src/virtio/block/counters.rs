//! What a block device did, for the monitor's statistics. The names are interface.

use super::request::Request;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counters {
    reads: u64,
    read_bytes: u64,
    writes: u64,
    written_bytes: u64,
    flushes: u64,
    discards: u64,
    discarded_bytes: u64,
    zeroings: u64,
    zeroed_bytes: u64,
    failed: u64,
    limited: u64,
    in_flight_peak: u64,
}

impl Counters {
    /// A request was answered with OK.
    pub(super) const fn done(&mut self, request: Request) {
        let (count, sum, bytes) = match request {
            Request::Read { bytes, .. } => (&mut self.reads, Some(&mut self.read_bytes), bytes),
            Request::Write { bytes, .. } => (&mut self.writes, Some(&mut self.written_bytes), bytes),
            Request::Discard { bytes, .. } => (&mut self.discards, Some(&mut self.discarded_bytes), bytes),
            Request::Zero { bytes, .. } => (&mut self.zeroings, Some(&mut self.zeroed_bytes), bytes),
            Request::Flush => (&mut self.flushes, None, 0),
            Request::GetId => return,
        };
        *count = count.saturating_add(1);
        if let Some(sum) = sum {
            *sum = sum.saturating_add(bytes);
        }
    }

    /// A request was answered with another status.
    pub(super) const fn failed(&mut self) {
        self.failed = self.failed.saturating_add(1);
    }

    /// A request had to wait for the limit.
    pub(super) const fn limited(&mut self) {
        self.limited = self.limited.saturating_add(1);
    }

    /// So many requests are under way.
    pub(super) fn in_flight(&mut self, now: usize) {
        self.in_flight_peak = self.in_flight_peak.max(u64::try_from(now).unwrap_or(u64::MAX));
    }

    pub(super) fn report(&self, report: &mut dyn FnMut(&'static str, u64)) {
        report("reads", self.reads);
        report("read_bytes", self.read_bytes);
        report("writes", self.writes);
        report("written_bytes", self.written_bytes);
        report("flushes", self.flushes);
        report("discards", self.discards);
        report("discarded_bytes", self.discarded_bytes);
        report("zeroings", self.zeroings);
        report("zeroed_bytes", self.zeroed_bytes);
        report("failed", self.failed);
        report("limited", self.limited);
        report("in_flight_peak", self.in_flight_peak);
    }
}

//! How much one workload may say.
//!
//! Duty: a bucket of bytes that fills with time, a ban until a moment, and the count of what was dropped.
//! No clock: time comes in. Not here: who sets the limits.
//! Invariant: over any span, at most the bucket and what flowed into it passes; every line passes or is counted.

use std::time::Duration;

/// Bytes that may come at once: a workload's start, or a stack trace of every thread.
pub(super) const BURST_BYTES: u64 = 128 << 10;

#[derive(Debug)]
pub(super) struct Gate {
    bytes_per_s: u64,
    /// What may pass now.
    bucket: u64,
    filled: Duration,
    /// Everything is dropped until then: the budget that the core keeps is spent.
    shut_until: Duration,
    dropped: u64,
}

impl Gate {
    pub(super) fn new(bytes_per_s: u64, now: Duration) -> Gate {
        Gate { bytes_per_s, bucket: BURST_BYTES, filled: now, shut_until: Duration::ZERO, dropped: 0 }
    }

    /// Whether a line of so many bytes passes; if not, it is counted.
    #[must_use = "a line that does not pass was counted as dropped"]
    pub(super) fn passes(&mut self, now: Duration, bytes: usize) -> bool {
        let millis = u64::try_from(now.saturating_sub(self.filled).as_millis()).unwrap_or(u64::MAX);
        let flowed = self.bytes_per_s.saturating_mul(millis) / 1000;
        // What does not make a whole byte stays in time.
        if flowed > 0 {
            self.bucket = self.bucket.saturating_add(flowed).min(BURST_BYTES);
            self.filled = now;
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if now < self.shut_until || self.bucket < bytes {
            self.dropped += 1;
            return false;
        }
        self.bucket -= bytes;
        true
    }

    pub(super) fn shut(&mut self, until: Duration) {
        self.shut_until = until;
    }

    /// A line that passed found no room after all.
    pub(super) fn drop_one(&mut self) {
        self.dropped += 1;
    }

    /// Lines dropped since this was last asked.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    pub(super) fn has_dropped(&self) -> bool {
        self.dropped > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_passes_then_what_flows_in_and_the_rest_is_counted() {
        let mut gate = Gate::new(1000, at(0));
        let passed = (0..200).filter(|_| gate.passes(at(0), 1024)).count();
        assert_eq!(passed, 128);
        assert!(!gate.passes(at(1023), 1024));
        assert!(gate.passes(at(1024), 1024));
        assert_eq!(gate.take_dropped(), 73);
        assert_eq!(gate.take_dropped(), 0);
    }

    #[test]
    fn a_workload_whose_budget_is_spent_is_silent_until_it_has_a_new_one() {
        let mut gate = Gate::new(1000, at(0));
        gate.shut(at(5000));
        assert!(!gate.passes(at(4999), 1));
        assert!(gate.passes(at(5000), 1));
    }

    proptest! {
        #[test]
        fn never_more_than_the_bucket_and_what_flowed_in(steps in proptest::collection::vec((0_u64..50, 1_usize..2000), 1..400)) {
            let mut gate = Gate::new(10_000, at(0));
            let (mut now, mut passed, mut lines) = (0, 0, 0);
            for (millis, bytes) in &steps {
                now += millis;
                if gate.passes(at(now), *bytes) {
                    passed += *bytes as u64;
                    lines += 1;
                }
            }
            prop_assert!(passed <= BURST_BYTES + 10 * now);
            prop_assert_eq!(lines + gate.take_dropped(), steps.len() as u64);
        }
    }
}

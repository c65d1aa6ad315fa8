//! Token buckets: how much a guest may ask of the host per second.
//!
//! Duty: say whether an amount may pass now, and if not, when. Not here: clocks and timers; the time comes as
//! an argument, so a limit is proven without waiting for it.
//!
//! Invariant: over any span of `t` seconds, at most `burst + rate * t` plus the last amount passes, not counting the
//! credit at the start. An amount larger than the burst passes when the bucket is full and leaves a debt, so nothing
//! is ever refused for good.

use std::time::{Duration, Instant};

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// What a bucket says to an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It may pass, and is accounted for.
    Pass,
    /// Not before this time; nothing was taken.
    Wait(Instant),
}

/// One rate with its burst.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// Units per second; never zero.
    rate: u64,
    /// Units that may come at once; never zero.
    burst: u64,
    /// Nanoseconds that filling the whole bucket takes.
    depth: u128,
    /// The time at which the bucket was, or will be, full. Later than now by what is taken out.
    full_at: Option<Instant>,
    /// What may pass before the bucket counts; spent once.
    credit: u64,
}

impl Bucket {
    /// `rate` units per second (at least one), of which `burst` may come at once.
    #[must_use]
    pub fn new(rate: u64, burst: u64) -> Self {
        let (rate, burst) = (rate.max(1), burst.max(1));
        Self { rate, burst, depth: span(burst, rate), full_at: None, credit: 0 }
    }

    /// The same, but `credit` units pass uncounted before all others.
    #[must_use]
    pub fn with_credit(self, credit: u64) -> Self {
        Self { credit, ..self }
    }

    /// Takes `amount` out, if there is enough.
    pub fn take(&mut self, amount: u64, now: Instant) -> Verdict {
        match self.wait(amount, now) {
            Some(time) => Verdict::Wait(time),
            None => {
                self.charge(amount, now);
                Verdict::Pass
            }
        }
    }

    /// When `amount` may pass, if that is not now.
    fn wait(&self, amount: u64, now: Instant) -> Option<Instant> {
        let amount = amount.checked_sub(self.credit).filter(|rest| *rest > 0)?;
        let missing = self.full_at?.saturating_duration_since(now).as_nanos();
        // What is left may be less than a large amount ever gets: then a full bucket must do.
        let wanted = span(amount, self.rate).min(self.depth);
        let excess = missing.saturating_add(wanted).saturating_sub(self.depth);
        (excess > 0).then(|| now.checked_add(duration(excess)).unwrap_or(now))
    }

    /// Takes `amount` out, be it there or not.
    fn charge(&mut self, amount: u64, now: Instant) {
        let free = amount.min(self.credit);
        self.credit -= free;
        let amount = amount - free;
        let from = self.full_at.map_or(now, |full| full.max(now));
        self.full_at = Some(from.checked_add(duration(span(amount, self.rate))).unwrap_or(from));
    }
}

/// Nanoseconds in which `amount` flows at `rate`, rounded up.
const fn span(amount: u64, rate: u64) -> u128 {
    (amount as u128 * NANOS_PER_SECOND).div_ceil(rate as u128)
}

fn duration(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Bytes and operations of one direction of one device, either of them limited or not.
#[derive(Debug, Clone, Default)]
pub struct Limit {
    bytes: Option<Bucket>,
    operations: Option<Bucket>,
}

impl Limit {
    /// A limit of both, either or none.
    #[must_use]
    pub const fn new(bytes: Option<Bucket>, operations: Option<Bucket>) -> Self {
        Self { bytes, operations }
    }

    /// Whether there is anything that it could hold back.
    #[must_use]
    pub const fn is_limited(&self) -> bool {
        self.bytes.is_some() || self.operations.is_some()
    }

    /// The most bytes that pass without a debt, where bytes are limited.
    #[must_use]
    pub fn burst_bytes(&self) -> Option<u64> {
        self.bytes.as_ref().map(|bucket| bucket.burst)
    }

    /// One operation of `bytes` bytes: both buckets give, or neither does.
    pub fn take(&mut self, bytes: u64, now: Instant) -> Verdict {
        let waits = [
            self.bytes.as_ref().and_then(|bucket| bucket.wait(bytes, now)),
            self.operations.as_ref().and_then(|bucket| bucket.wait(1, now)),
        ];
        if let Some(time) = waits.into_iter().flatten().max() {
            return Verdict::Wait(time);
        }
        for (bucket, amount) in [(&mut self.bytes, bytes), (&mut self.operations, 1)] {
            if let Some(bucket) = bucket {
                bucket.charge(amount, now);
            }
        }
        Verdict::Pass
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_burst_comes_at_once_and_the_rest_at_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100, 10);
        for _ in 0..10 {
            assert_eq!(bucket.take(1, start), Verdict::Pass);
        }
        assert_eq!(bucket.take(1, start), Verdict::Wait(start + SECOND / 100));
        assert_eq!(bucket.take(1, start + SECOND / 100), Verdict::Pass);
    }

    #[test]
    fn what_is_larger_than_the_burst_passes_and_is_paid_for_afterwards() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100, 10);
        assert_eq!(bucket.take(50, start), Verdict::Pass);
        assert_eq!(bucket.take(10, start), Verdict::Wait(start + SECOND / 2));
    }

    #[test]
    fn neither_bucket_gives_when_one_cannot() {
        let start = Instant::now();
        let mut limit = Limit::new(Some(Bucket::new(1000, 1000)), Some(Bucket::new(1, 1)));
        assert_eq!(limit.take(400, start), Verdict::Pass);
        assert_eq!(limit.take(400, start), Verdict::Wait(start + SECOND));
        assert_eq!(
            limit.take(1000, start + SECOND),
            Verdict::Pass,
            "the bytes of the refusal were not taken"
        );
    }

    #[test]
    fn the_credit_comes_first_and_only_once() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100, 10).with_credit(1000);
        assert_eq!(bucket.take(995, start), Verdict::Pass);
        // Five of it are left, the other five come out of the burst.
        assert_eq!(bucket.take(10, start), Verdict::Pass);
        assert_eq!(bucket.take(5, start), Verdict::Pass);
        assert_eq!(bucket.take(1, start), Verdict::Wait(start + SECOND / 100));
        let later = start + 60 * SECOND;
        assert_eq!(bucket.take(10, later), Verdict::Pass);
        assert_eq!(
            bucket.take(1, later),
            Verdict::Wait(later + SECOND / 100),
            "the credit does not come back"
        );
    }

    #[test]
    fn what_passes_for_credit_pays_no_debt_of_the_bucket() {
        let start = Instant::now();
        let mut limit = Limit::new(Some(Bucket::new(1, 1).with_credit(5)), Some(Bucket::new(1, 1)));
        assert_eq!(limit.take(3, start), Verdict::Pass);
        // The operation has to wait; the bytes of it are not taken from the credit.
        assert_eq!(limit.take(2, start), Verdict::Wait(start + SECOND));
        assert_eq!(limit.take(2, start + SECOND), Verdict::Pass);
        assert_eq!(limit.take(1, start + 2 * SECOND), Verdict::Pass);
        assert_eq!(limit.take(1, start + 2 * SECOND), Verdict::Wait(start + 3 * SECOND));
    }

    proptest! {
        #[test]
        fn no_span_lets_more_pass_than_burst_and_rate_allow(
            rate in 1u64..1_000_000, burst in 1u64..10_000, amounts in prop::collection::vec((1u64..20_000, 0u64..50_000_000), 1..200)
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::new(rate, burst);
            let (mut now, mut passed, mut last) = (start, 0u128, 0);
            for (amount, pause) in amounts {
                now += Duration::from_nanos(pause);
                if let Verdict::Wait(time) = bucket.take(amount, now) {
                    prop_assert!(time > now);
                    now = time;
                    prop_assert_eq!(bucket.take(amount, now), Verdict::Pass, "it said when");
                }
                passed += u128::from(amount);
                last = last.max(amount);
                let allowed = u128::from(burst + last) + u128::from(rate) * now.duration_since(start).as_nanos() / NANOS_PER_SECOND + 1;
                prop_assert!(passed <= allowed, "{} of {} after {:?}", passed, allowed, now.duration_since(start));
            }
        }
    }
}

//! How much memory and processor a workload gets.
//!
//! Duty: quantiles of what was used, with old use fading, and advice from them. Not here: measuring, balloons, quotas.
//! Invariants: what is told as the quantile is never below it by more than the width of a bucket; advice lies within
//! the policy's bounds, and does not move for less than a tenth.

use serde::{Deserialize, Serialize};

use crate::{array, number, time::Seconds};

/// Buckets; each is a tenth wider than the one before, so sixty-four span a factor of four hundred.
const BUCKETS: usize = 64;
const GROWTH: f32 = 1.1;

/// A histogram whose newest samples weigh most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    #[serde(with = "array")]
    weights: [f32; BUCKETS],
    total: f32,
    /// What a sample weighs now: it grows, instead of all others fading.
    newest: f32,
    last: Option<Seconds>,
    half_life: f32,
    /// The upper edge of the first bucket.
    first: f32,
}

impl Usage {
    /// Half of a sample's weight is gone after `half_life` seconds; `largest` is the most that can be used.
    pub fn new(largest: f32, half_life: f32) -> Usage {
        let largest = if largest.is_finite() && largest > 0.0 { largest } else { 1.0 };
        let first = largest / libm::powf(GROWTH, number::real(number::count(BUCKETS).saturating_sub(1)));
        Usage {
            weights: [0.0; BUCKETS],
            total: 0.0,
            newest: 1.0,
            last: None,
            half_life: if half_life.is_finite() { half_life.max(1.0) } else { 86_400.0 },
            first,
        }
    }

    pub fn observe(&mut self, at: Seconds, used: f32) {
        let Some(used) = number::tame(used) else { return };
        let passed = self.last.map_or(0, |last| at.0.saturating_sub(last.0));
        self.last = Some(at);
        let passed = number::real(u32::try_from(passed).unwrap_or(u32::MAX));
        self.newest *= libm::exp2f((passed / self.half_life).min(60.0));
        if self.newest > RENEW {
            let shrink = 1.0 / self.newest;
            for weight in &mut self.weights {
                *weight *= shrink;
            }
            self.total = self.weights.iter().sum();
            self.newest = 1.0;
        }
        let steps = libm::ceilf(libm::logf((used / self.first).max(1.0)) / libm::logf(GROWTH) - 1e-3);
        let bucket = number::index(number::whole(steps, number::count(BUCKETS).saturating_sub(1)));
        if let Some(weight) = self.weights.get_mut(bucket) {
            *weight += self.newest;
            self.total += self.newest;
        }
    }

    /// Whether a restored histogram can be believed.
    pub(crate) fn is_sound(&self) -> bool {
        let weights = self.weights.iter().chain([&self.total, &self.newest]);
        weights.into_iter().all(|weight| weight.is_finite() && *weight >= 0.0)
            && self.half_life >= 1.0
            && self.half_life.is_finite()
            && self.first > 0.0
            && self.first.is_finite()
    }

    /// The upper edge of the bucket in which the quantile lies. `None` before the first sample.
    pub fn quantile(&self, share: f32) -> Option<f32> {
        if self.total <= 0.0 {
            return None;
        }
        let wanted = self.total * if share.is_nan() { 1.0 } else { share.clamp(0.0, 1.0) };
        let mut below = 0.0;
        let mut edge = self.first;
        for weight in &self.weights {
            below += weight;
            if below >= wanted * (1.0 - 1e-6) && below > 0.0 {
                return Some(edge);
            }
            edge *= GROWTH;
        }
        Some(edge / GROWTH)
    }
}

/// Weights are brought back to size here, long before they lose digits.
const RENEW: f32 = 1e12;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VerticalPolicy {
    pub least: f32,
    pub most: f32,
    /// Of all use, this share is to fit.
    pub share: f32,
    /// On top of it, as a factor.
    pub margin: f32,
}

/// How much a workload gets.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vertical {
    pub amount: f32,
    /// The quantile it comes from.
    pub used: f32,
    /// It moves by enough to be worth doing.
    pub moves: bool,
}

impl VerticalPolicy {
    /// `None` while nothing is known: what is stays as it is.
    pub fn advise(&self, usage: &Usage, now: f32) -> Option<Vertical> {
        let used = usage.quantile(self.share)?;
        let least = if self.least.is_nan() { 0.0 } else { self.least };
        let most = if self.most.is_nan() { least } else { self.most.max(least) };
        let margin = if self.margin.is_finite() { self.margin.max(1.0) } else { 1.0 };
        let amount = (used * margin).clamp(least, most);
        let moves = !now.is_finite() || (amount - now).abs() > DEAD_BAND * now.abs();
        Some(Vertical { amount, used, moves })
    }
}

/// Changes below this share of what is are not worth a balloon's work.
const DEAD_BAND: f32 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn old_use_fades() {
        let mut usage = Usage::new(1024.0, 3600.0);
        for second in 0..3600 {
            usage.observe(Seconds(second), 800.0);
        }
        for second in 0..3600 {
            usage.observe(Seconds(20 * 3600 + second), 100.0);
        }
        let quantile = usage.quantile(0.99).expect("samples");
        assert!((100.0..111.0).contains(&quantile), "{quantile}");
    }

    #[test]
    fn advice_keeps_bounds_and_does_not_twitch() {
        let mut usage = Usage::new(1024.0, 3600.0);
        assert_eq!(
            VerticalPolicy { least: 64.0, most: 512.0, share: 0.95, margin: 1.15 }.advise(&usage, 0.0),
            None
        );
        usage.observe(Seconds(0), 900.0);
        let policy = VerticalPolicy { least: 64.0, most: 512.0, share: 0.95, margin: 1.15 };
        let advice = policy.advise(&usage, 500.0).expect("a sample");
        assert_eq!(advice.amount, 512.0);
        assert!(!advice.moves);
        assert!(policy.advise(&usage, 256.0).is_some_and(|advice| advice.moves));
    }

    proptest! {
        #[test]
        fn a_quantile_is_at_most_a_bucket_above_the_exact_one(
            mut samples in proptest::collection::vec(3.0f32..1000.0, 1..200), share in 0.01f32..1.0,
        ) {
            let mut usage = Usage::new(1024.0, 1e9);
            for &sample in &samples {
                usage.observe(Seconds(0), sample);
            }
            samples.sort_by(f32::total_cmp);
            let rank = number::whole((share * number::real(number::count(samples.len()))).ceil(), u32::MAX);
            let exact = samples[number::index(rank).clamp(1, samples.len()) - 1];
            let told = usage.quantile(share).expect("samples");
            prop_assert!(told >= exact * 0.998 && told <= exact * 1.102, "{told} for {exact}");
        }

        #[test]
        fn any_numbers_leave_a_finite_quantile(
            largest in any::<f32>(), half_life in any::<f32>(),
            samples in proptest::collection::vec((any::<u64>(), any::<f32>()), 0..100), share in any::<f32>(),
        ) {
            let mut usage = Usage::new(largest, half_life);
            for (at, sample) in samples {
                usage.observe(Seconds(at), sample);
            }
            prop_assert!(usage.quantile(share).is_none_or(f32::is_finite));
        }
    }
}

//! Randomness that a seed gives again, to spread what many boxes would do at the same moment.

use core::time::Duration;

/// SplitMix64: a counter and a mixer, every seed is a good one. No secret may depend on it.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Evenly between nothing and `most`.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = u128::from(mixed ^ (mixed >> 31));
        let millis = (most.as_millis().min(u128::from(u32::MAX)) * share) >> 64;
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_times_again_spread_over_the_whole_span() {
        let most = Duration::from_secs(4);
        let times = |seed| {
            let mut dice = Dice::new(seed);
            [(); 64].map(|()| dice.up_to(most))
        };
        assert_eq!(times(7), times(7));
        assert_ne!(times(7), times(8));
        assert!(times(7).iter().all(|time| *time < most));
        assert!(times(7).iter().any(|time| *time < most / 8));
        assert!(times(7).iter().any(|time| *time > most / 8 * 7));
    }
}

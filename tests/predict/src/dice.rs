//! Numbers without a pattern, the same at every run.
//!
//! Duty: a small generator, and what is thrown with it. Not here: cryptography.
//! Invariant: a seed gives one sequence on every machine.

/// A counter with its bits well mixed.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A whole number below `below`.
    pub(crate) fn below(&mut self, below: usize) -> usize {
        usize::try_from(self.next() >> 11).unwrap_or(0) % below.max(1)
    }

    /// Even on `0..1`.
    pub(crate) fn even(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap_or(0)) / 4_294_967_296.0
    }

    /// The time to the next of many independent things.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.even()).ln()
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throws_are_even_and_the_same_every_time() {
        let throws = |seed| {
            let mut dice = Dice::new(seed);
            (0..10_000).map(|_| dice.below(10)).collect::<Vec<_>>()
        };
        for face in 0..10 {
            let times = throws(1).into_iter().filter(|&throw| throw == face).count();
            assert!((900..1100).contains(&times), "{face} came {times} times");
        }
        assert_eq!(throws(2), throws(2));
        assert_ne!(throws(2), throws(3));
    }

    #[test]
    fn a_shuffle_keeps_everything() {
        let mut items: Vec<usize> = (0..50).collect();
        Dice::new(5).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}

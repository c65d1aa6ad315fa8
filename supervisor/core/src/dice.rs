//! Randomness that replays.
//!
//! Duty: a stream of numbers that follows from its seed. Not here: where the seed comes from.
//! Invariant: the stream is part of the state, so a journal replays to the same jitter. Good for spreading restarts;
//! no secret may depend on it.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// SplitMix64: a counter and a mixer, no warm-up, every seed is a good one.
    pub(crate) fn roll(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [a, b, c, d, ..] = (mixed ^ (mixed >> 31)).to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_stream_again_and_another_seed_another_one() {
        let stream = |seed| {
            let mut dice = Dice::new(seed);
            [(); 8].map(|()| dice.roll())
        };
        assert_eq!(stream(7), stream(7));
        assert_ne!(stream(7), stream(8));
        assert!(stream(0).iter().any(|roll| *roll > u32::MAX / 2));
    }
}

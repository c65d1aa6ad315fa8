//! How long to wait before the next attempt to reach a broker.
//!
//! Duty: a span that doubles, of which a share is taken at random, so that a fleet whose broker comes back does not
//! come back as one. Not here: when it is forgotten (`session`).

use core::time::Duration;

use crate::dice::Dice;

/// Between which two spans pauses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// The first attempts of ten thousand boxes spread over this: some 2,500 a second, which one broker stands.
    pub first: Duration,
    /// A person who repaired the link should see the box within minutes.
    pub longest: Duration,
}

impl Default for Pauses {
    fn default() -> Pauses {
        Pauses { first: Duration::from_secs(4), longest: Duration::from_secs(180) }
    }
}

/// Even where nothing is wrong: a broker that cuts everybody off at once is asked a few times a second at most.
const LEAST: Duration = Duration::from_millis(250);

/// Before the attempt after so many failed ones (0: the connection was good and broke).
pub(super) fn before_attempt(failures: u32, pauses: Pauses, dice: &mut Dice) -> Duration {
    let span = pauses.first.saturating_mul(1 << failures.min(16)).min(pauses.longest);
    // Half of it for sure once there were failures, or luck alone would keep a box knocking.
    let sure = if failures == 0 { LEAST.min(span) } else { span / 2 };
    sure + dice.up_to(span - sure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_are_spread() {
        let mut dice = Dice::new(1);
        for (failures, from, to) in
            [(0, 250, 4_000), (1, 4_000, 8_000), (3, 16_000, 32_000), (40, 90_000, 180_000)]
        {
            let pauses: Vec<u128> = (0..200)
                .map(|_| before_attempt(failures, Pauses::default(), &mut dice).as_millis())
                .collect();
            assert!(pauses.iter().all(|pause| (from..=to).contains(pause)), "{failures}: {pauses:?}");
            let middle = u128::midpoint(from, to);
            assert!(pauses.iter().any(|pause| *pause < middle) && pauses.iter().any(|pause| *pause > middle));
        }
    }
}

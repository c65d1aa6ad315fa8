//! How long to wait before a workload starts again.
//!
//! Duty: a delay that doubles from half a second to five minutes. Not here: when it is forgotten ([`STEADY`] says
//! after how long, `state` does it).

use core::time::Duration;

/// Before the first restart.
pub const FIRST_DELAY: Duration = Duration::from_millis(500);
/// No restart waits longer: a person on site should see an attempt within minutes.
pub const LONGEST_DELAY: Duration = Duration::from_secs(300);
/// What ran this long is healed, and its next restart starts over with [`FIRST_DELAY`].
pub const STEADY: Duration = Duration::from_secs(60);

/// The delay before restart number `attempt` (the first is 1). `dice` is uniform; it takes up to a quarter off, so
/// that what failed together does not come back together.
pub fn delay(attempt: u32, dice: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    let full = FIRST_DELAY.saturating_mul(1 << doublings).min(LONGEST_DELAY);
    let quarter = u64::try_from(full.as_millis() / 4).unwrap_or(u64::MAX);
    let off = (u128::from(quarter) * u128::from(dice)) >> u32::BITS;
    full - Duration::from_millis(u64::try_from(off).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_doubles_up_to_its_limit() {
        let delays: Vec<u128> = (0..=12).map(|attempt| delay(attempt, 0).as_millis()).collect();
        let expected =
            [500, 500, 1000, 2000, 4000, 8000, 16000, 32000, 64000, 128_000, 256_000, 300_000, 300_000];
        assert_eq!(delays, expected);
        assert_eq!(delay(u32::MAX, 0), LONGEST_DELAY);
    }

    #[test]
    fn dice_take_up_to_a_quarter_off_and_never_add() {
        for attempt in [1, 5, 40] {
            let full = delay(attempt, 0);
            let least = delay(attempt, u32::MAX);
            assert!(delay(attempt, u32::MAX / 2) < full);
            assert!(least >= full * 3 / 4 && least < full * 4 / 5, "{least:?} of {full:?}");
        }
    }
}

//! The day of a shop: how many come, and when.
//!
//! Duty: requests per second at each time of the day, arrivals by it, the file that tells a box of earlier days. Not
//! here: what becomes of a request. Invariant: the same seed gives the same day.

use std::fmt;

/// A time of the day.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) struct Clock(pub(super) f64);

impl Clock {
    pub(super) const fn at(hour: u32, minute: u32) -> Clock {
        Clock((hour * 3600 + minute * 60) as f64)
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = whole(self.0);
        write!(f, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what counts has five digits")]
pub(super) fn whole(number: f64) -> u32 {
    number as u32
}

/// Requests per second when nobody is there, and when everybody is.
pub(super) const QUIET: f64 = 0.1;
pub(super) const BUSY: f64 = 3.0;
/// The doors open, the shop is full, it empties, it is empty.
pub(super) const OPENS: Clock = Clock::at(7, 55);
pub(super) const FULL: Clock = Clock::at(8, 5);
pub(super) const EMPTIES: Clock = Clock::at(8, 20);
pub(super) const EMPTY: Clock = Clock::at(8, 30);
/// Nobody comes any more, as far as this program is concerned.
pub(super) const ENDS: Clock = Clock::at(8, 45);

/// Requests per second.
pub(super) fn rate(at: Clock) -> f64 {
    let between = |from: Clock, to: Clock| ((at.0 - from.0) / (to.0 - from.0)).clamp(0.0, 1.0);
    QUIET + (BUSY - QUIET) * (between(OPENS, FULL) - between(EMPTIES, EMPTY))
}

/// Numbers that the same seed repeats; nothing depends on how good they are.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// From 0 to 1, never 0.
    fn roll(&mut self) -> f64 {
        // Knuth's multiplier for 64 bits.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f64 + 1.0) / (1_u64 << 24) as f64
    }

    /// Seconds until the next one comes, where so many come in a second.
    pub(super) fn next_arrival(&mut self, rate: f64) -> f64 {
        -self.roll().ln() / rate
    }
}

/// So many days before midnight at `midnight`, minute by minute, as `hearthctl forecast --teach` reads them.
pub(super) fn diary(midnight: u64, days: u64, dice: &mut Dice) -> String {
    let mut text = "time,requests per second\n".to_owned();
    for day in (1..=days).rev() {
        for minute in 0..1440_u32 {
            let rate = rate(Clock(f64::from(minute * 60 + 30)));
            let (mut passed, mut came) = (dice.next_arrival(rate), 0.0);
            while passed < 60.0 {
                (passed, came) = (passed + dice.next_arrival(rate), came + 1.0);
            }
            text.push_str(&format!(
                "{},{:.3}\n",
                midnight - day * 86_400 + u64::from(minute) * 60,
                came / 60.0
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_rises_holds_and_falls() {
        let rates =
            [Clock::at(7, 0), OPENS, Clock::at(8, 0), FULL, EMPTIES, Clock::at(8, 25), EMPTY, ENDS].map(rate);
        let half = (QUIET + BUSY) / 2.0;
        assert_eq!(rates, [QUIET, QUIET, half, BUSY, BUSY, half, QUIET, QUIET]);
    }

    #[test]
    fn as_many_come_as_should() {
        let (mut dice, mut at, mut came) = (Dice(7), 0.0, 0);
        while at < 10_000.0 {
            at += dice.next_arrival(2.0);
            came += 1;
        }
        assert!((19_000..21_000).contains(&came), "{came}");
    }

    #[test]
    fn a_diary_has_each_minute_of_each_day_before() {
        let text = diary(86_400 * 10, 2, &mut Dice(1));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1 + 2 * 1440);
        assert!(
            lines[1].starts_with("691200,") && lines[2880].starts_with("863940,"),
            "{} {}",
            lines[1],
            lines[2880]
        );
    }
}

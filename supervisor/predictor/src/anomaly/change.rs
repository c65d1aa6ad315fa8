//! When a level moved.
//!
//! Duty: cumulative sums of what a series does beyond its usual wobble, up and down, and the sample at which the
//! sum that crossed its limit began. Not here: whether the move matters. Invariant: the onset lies at or before
//! the sample that told of it, and after the change before.

use serde::{Deserialize, Serialize};

use crate::number;

/// Deviations that count as wobble and are not added up: half of the move that is looked for.
const WOBBLE: f32 = 0.5;
/// Deviations beyond the wobble, added up, that are a change. With the wobble above, a false one comes about once
/// in a thousand samples of plain noise.
const LIMIT: f32 = 6.0;
/// One sample adds no more deviations than this: one outlier is no change.
const MOST: f32 = 3.0;
/// Samples before a change is told: the level has to be known.
const WARM_UP: u32 = 20;
const SPAN: f32 = 200.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    Up,
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub direction: Direction,
    /// Samples ago that it began; 0 is the newest.
    pub age: u32,
    /// The level before.
    pub from: f32,
    /// The mean since.
    pub to: f32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sum {
    total: f32,
    /// Samples since it last was nothing, and their sum as they were.
    length: u32,
    values: f32,
}

impl Sum {
    fn add(&mut self, beyond: f32, value: f32) {
        let total = self.total + beyond;
        *self = if total > 0.0 {
            Sum { total, length: self.length.saturating_add(1), values: self.values + value }
        } else {
            Sum::default()
        };
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChangePoint {
    level: f32,
    wobble: f32,
    seen: u32,
    up: Sum,
    down: Sum,
}

impl ChangePoint {
    /// Takes a sample in; what is no number is none.
    pub fn observe(&mut self, value: f32) -> Option<Change> {
        let value = number::tame(value)?;
        let mut away = value - self.level;
        if self.seen >= WARM_UP {
            // Mean distance to standard deviation of a bell curve.
            let deviation = (self.wobble * 1.2533).max(self.level.abs() * 1e-4).max(f32::MIN_POSITIVE);
            let score = (away / deviation).clamp(-MOST, MOST);
            // One outlier moves the level no more than it moves the sums.
            away = score * deviation;
            self.up.add(score - WOBBLE, value);
            self.down.add(-score - WOBBLE, value);
            for (sum, direction) in [(self.up, Direction::Up), (self.down, Direction::Down)] {
                if sum.total > LIMIT {
                    let to = sum.values / number::real(sum.length.max(1));
                    let change =
                        Change { direction, age: sum.length.saturating_sub(1), from: self.level, to };
                    *self =
                        ChangePoint { level: to, wobble: self.wobble, seen: WARM_UP / 2, ..Self::default() };
                    return Some(change);
                }
            }
        }
        self.level += away * number::rate(self.seen, SPAN);
        self.wobble = number::blend(self.wobble, away.abs(), self.seen, SPAN);
        self.seen = self.seen.saturating_add(1);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wobbling(sample: u32) -> f32 {
        number::real((sample.wrapping_mul(2_654_435_761) >> 20) % 100) / 100.0
    }

    #[test]
    fn a_step_is_found_with_its_onset_and_its_size() {
        let mut watch = ChangePoint::default();
        for sample in 0..300 {
            assert_eq!(watch.observe(10.0 + wobbling(sample)), None, "at {sample}");
        }
        let found = (300..320).find_map(|sample| Some((sample, watch.observe(12.0 + wobbling(sample))?)));
        let (sample, change) = found.expect("a step of six deviations is seen within twenty samples");
        assert_eq!(change.direction, Direction::Up);
        assert_eq!(sample - change.age, 300);
        assert!((change.to - 12.5).abs() < 0.5 && (change.from - 10.5).abs() < 0.2, "{change:?}");
    }

    #[test]
    fn one_outlier_is_no_change() {
        let mut watch = ChangePoint::default();
        for sample in 0..600 {
            let value = if sample == 300 { 1e6 } else { 10.0 + wobbling(sample) };
            assert_eq!(watch.observe(value), None, "at {sample}");
        }
    }
}

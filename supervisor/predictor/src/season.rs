//! What a series usually is at this time of day and of the week.
//!
//! Duty: a mean per slot of the day and per hour of the week, each with a fading memory. Not here: what a
//! difference from them means. Invariant: a slot learns a visit when the visit is over, so what a forecast made in
//! a slot was told of that slot is what it will be told when it is scored.

use serde::{Deserialize, Serialize};

use crate::{
    array, number,
    time::{Cadence, DAY, Seconds, WEEK},
};

/// Slots of a day: ten minutes each. Series with fewer samples in a day use as many as they have.
const DAY_SLOTS: usize = 144;
/// Slots of a week: one hour each.
const WEEK_SLOTS: usize = 168;
/// [`DAY`], as positions are reckoned.
const SECONDS_OF_DAY: f32 = 86_400.0;
/// Weight of the newest day: about the last nine days count.
const DAY_RATE: f32 = 0.2;
/// Weight of the newest week.
const WEEK_RATE: f32 = 0.3;

/// Half of an `f32`, for means that need no more than three digits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Short(u16);

impl Short {
    /// No visit yet.
    const NONE: Short = Short(0x7fc0);

    fn from_full(value: f32) -> Short {
        // Rounded to nearest: the lower half's top bit carries.
        let bits = value.to_bits().saturating_add(0x8000);
        Short(u16::try_from(bits >> 16).unwrap_or(u16::MAX))
    }

    fn full(self) -> Option<f32> {
        let value = f32::from_bits(u32::from(self.0) << 16);
        value.is_finite().then_some(value)
    }
}

impl Default for Short {
    fn default() -> Self {
        Short::NONE
    }
}

/// The visit of a slot that is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Visit {
    slot: u16,
    count: u16,
    mean: f32,
}

impl Visit {
    /// Takes a sample in; gives the visit before, if this one begins another.
    fn take(&mut self, slot: u16, value: f32) -> Option<Visit> {
        let before = (self.count > 0 && self.slot != slot).then_some(*self);
        if before.is_some() || self.count == 0 {
            *self = Visit { slot, count: 0, mean: 0.0 };
        }
        self.mean = number::blend(self.mean, value, u32::from(self.count), f32::MAX);
        self.count = self.count.saturating_add(1);
        before
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Season {
    #[serde(with = "array")]
    day: [Short; DAY_SLOTS],
    #[serde(with = "array")]
    week: [Short; WEEK_SLOTS],
    /// Slots of the day that are used.
    slots: u16,
    day_visit: Visit,
    week_visit: Visit,
}

impl Season {
    pub(crate) fn new(cadence: Cadence) -> Season {
        let slots = u16::try_from(cadence.per_day()).unwrap_or(u16::MAX).min(144);
        Season {
            day: [Short::NONE; DAY_SLOTS],
            week: [Short::NONE; WEEK_SLOTS],
            slots,
            day_visit: Visit::default(),
            week_visit: Visit::default(),
        }
    }

    pub(crate) fn learn(&mut self, at: Seconds, value: f32) {
        if let Some(visit) = self.day_visit.take(self.day_slot(at), value) {
            learn(self.day.get_mut(usize::from(visit.slot)), visit.mean, DAY_RATE);
        }
        if let Some(visit) = self.week_visit.take(week_slot(at), value) {
            learn(self.week.get_mut(usize::from(visit.slot)), visit.mean, WEEK_RATE);
        }
    }

    /// The usual value at a time of day, between the middles of two slots where slots are longer than samples.
    pub(crate) fn usual(&self, at: Seconds, cadence: Cadence) -> Option<f32> {
        let slots = u32::from(self.slots);
        let middle = if cadence.per_day() > slots { 0.5 } else { 0.0 };
        // From the middle of the last slot of the day before.
        let position =
            number::real(at.of_day()) * f32::from(self.slots) * (1.0 / SECONDS_OF_DAY) + 1.0 - middle;
        let left = number::whole(position, slots);
        let share = position - number::real(left);
        let before = if left == 0 { slots } else { left }.saturating_sub(1);
        let after = if left >= slots { 0 } else { left };
        match (self.day_mean(before), self.day_mean(after)) {
            (Some(left), Some(right)) if share > 1e-3 => Some(left + (right - left) * share),
            (None, right) if share > 1e-3 => right,
            (left, _) => left,
        }
    }

    /// The mean of a sample's own slot of the day, and of the slots before and after it.
    pub(crate) fn around(&self, at: Seconds) -> [Option<f32>; 3] {
        let slot = u32::from(self.day_slot(at));
        let slots = u32::from(self.slots);
        let near = |ahead: u32| {
            let slot = slot.saturating_add(ahead).checked_rem(slots).unwrap_or(0);
            self.day_mean(slot)
        };
        [near(0), near(1), near(slots.saturating_sub(1))]
    }

    /// The mean of the hour of the week.
    pub(crate) fn weekly(&self, at: Seconds) -> Option<f32> {
        self.week.get(usize::from(week_slot(at))).and_then(|mean| mean.full())
    }

    fn day_mean(&self, slot: u32) -> Option<f32> {
        self.day.get(number::index(slot)).and_then(|mean| mean.full())
    }

    fn day_slot(&self, at: Seconds) -> u16 {
        let slot = at.of_day().saturating_mul(u32::from(self.slots)) / DAY;
        u16::try_from(slot).unwrap_or(0)
    }

    pub(crate) fn is_sound(&self, cadence: Cadence) -> bool {
        let within = |means: &[Short]| {
            means.iter().all(|mean| mean.full().is_none_or(|mean| mean.abs() <= number::LARGEST * 1.01))
        };
        self.slots == Season::new(cadence).slots
            && within(&self.day)
            && within(&self.week)
            && [self.day_visit, self.week_visit].iter().all(|visit| visit.mean.abs() <= number::LARGEST)
    }
}

fn week_slot(at: Seconds) -> u16 {
    let slot = at.of_week() / (WEEK / 168);
    u16::try_from(slot).unwrap_or(0)
}

fn learn(mean: Option<&mut Short>, value: f32, rate: f32) {
    if let Some(mean) = mean {
        *mean = Short::from_full(mean.full().map_or(value, |old| old + rate * (value - old)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(cadence: Cadence, days: u32, value: impl Fn(Seconds) -> f32) -> Season {
        let mut season = Season::new(cadence);
        for sample in 0..cadence.per_day() * days {
            let at = Seconds(cadence.times(sample));
            season.learn(at, value(at));
        }
        season
    }

    #[test]
    fn a_daily_pattern_is_learnt_and_read_between_slots() {
        let hour = |at: Seconds| number::real(at.of_day()) / 3600.0;
        let season = fed(Cadence::every(60), 3, hour);
        let usual = season.usual(Seconds(5 * 86_400 + 12 * 3600 + 180), Cadence::every(60)).expect("learnt");
        assert!((usual - 12.05).abs() < 0.06, "{usual}");
    }

    #[test]
    fn a_slow_series_has_a_slot_for_each_sample() {
        let season = fed(Cadence::every(3600), 2, |at| number::real(at.of_day() / 3600));
        for hour in 0..24 {
            let usual = season.usual(Seconds(hour * 3600), Cadence::every(3600)).expect("learnt");
            assert!((usual - number::real(u32::try_from(hour).unwrap())).abs() < 0.1);
        }
    }

    #[test]
    fn a_slot_does_not_know_its_own_visit_before_it_is_over() {
        let mut season = Season::new(Cadence::every(60));
        for minute in 0..10 {
            season.learn(Seconds(minute * 60), 5.0);
            assert_eq!(season.around(Seconds(0))[0], None);
        }
        season.learn(Seconds(600), 7.0);
        assert_eq!(season.around(Seconds(0))[0], Some(5.0));
    }

    #[test]
    fn weekends_are_their_own_hours() {
        let weekend = |at: Seconds| at.of_week() >= 5 * DAY;
        let season = fed(Cadence::every(600), 15, |at| if weekend(at) { 10.0 } else { 100.0 });
        assert!(season.weekly(Seconds(u64::from(WEEK) * 2 + 6 * 86_400)).expect("learnt") < 11.0);
        assert!(season.weekly(Seconds(u64::from(WEEK) * 2 + 86_400)).expect("learnt") > 99.0);
    }

    #[test]
    fn three_digits_survive_being_short() {
        for value in [0.0f32, 1.0, -3.17, 1234.5, 9.9e14] {
            let short = Short::from_full(value).full().expect("finite");
            assert!((short - value).abs() <= value.abs() * 0.004, "{value} became {short}");
        }
    }
}

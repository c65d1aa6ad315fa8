//! The newest samples of a series.
//!
//! Duty: keep the last [`SLOTS`] and give them by age. Not here: their times. Invariant: an age that is not there
//! is `None`, never an old slot's value.

use serde::{Deserialize, Serialize};

use crate::{array, number};

/// Samples that a series remembers: one day, one in five minutes, and the distances before it that
/// forecasts look from.
pub(crate) const SLOTS: usize = 304;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ring {
    #[serde(with = "array")]
    slots: [f32; SLOTS],
    /// Where the next one goes.
    next: u16,
    filled: u16,
}

impl Ring {
    pub(crate) const fn new() -> Ring {
        Ring { slots: [0.0; SLOTS], next: 0, filled: 0 }
    }

    pub(crate) fn push(&mut self, value: f32) {
        if let Some(slot) = self.slots.get_mut(usize::from(self.next)) {
            *slot = value;
        }
        self.next = self.next.saturating_add(1);
        if usize::from(self.next) >= SLOTS {
            self.next = 0;
        }
        if usize::from(self.filled) < SLOTS {
            self.filled = self.filled.saturating_add(1);
        }
    }

    /// The newest has age 0.
    pub(crate) fn aged(&self, age: u32) -> Option<f32> {
        if age >= self.len() {
            return None;
        }
        let age = number::index(age);
        let newest = usize::from(self.next).saturating_add(SLOTS).saturating_sub(1);
        let at = newest.saturating_sub(age);
        self.slots.get(if at >= SLOTS { at.saturating_sub(SLOTS) } else { at }).copied()
    }

    pub(crate) fn len(&self) -> u32 {
        u32::from(self.filled)
    }

    pub(crate) fn forget(&mut self) {
        self.filled = 0;
    }

    pub(crate) fn is_sound(&self) -> bool {
        usize::from(self.next) < SLOTS
            && usize::from(self.filled) <= SLOTS
            && self.slots.iter().all(|value| value.abs() <= number::LARGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_age_gives_the_sample_of_that_age_or_none(samples in proptest::collection::vec(-1e6f32..1e6, 0..700)) {
            let mut ring = Ring::new();
            for &sample in &samples {
                ring.push(sample);
            }
            for age in 0..800u32 {
                let age_index = number::index(age);
                let expected = (age_index < SLOTS.min(samples.len())).then(|| samples[samples.len() - 1 - age_index]);
                prop_assert_eq!(ring.aged(age), expected);
            }
        }
    }
}

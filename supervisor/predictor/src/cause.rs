//! Who began it.
//!
//! Duty: rank the parts of a box by how likely each is the cause of what is wrong now, from when each became strange,
//! how strange it is, and who depends on whom. Not here: noticing; [`robust_distance`] is offered for measuring.
//! Invariants: a part that is not strange is no cause; among strange parts, one whose own supports are strange since
//! before is an effect rather than a cause; ranks are total and the same for the same evidence.
//!
//! ```text
//!   process -> guest -> VM -> host      a part rests on the one to the right of it
//!   workload -> workload                and on workloads that it asks for something
//! ```

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{number, time::Seconds};

/// Parts that are looked at together, at most.
pub const MOST_PARTS: usize = 32;

/// A set of parts, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts(pub u32);

impl Parts {
    #[must_use]
    pub fn with(self, part: usize) -> Parts {
        Parts(self.0 | bit(part))
    }

    pub fn has(self, part: usize) -> bool {
        self.0 & bit(part) != 0
    }
}

fn bit(part: usize) -> u32 {
    u32::try_from(part).ok().and_then(|part| 1u32.checked_shl(part)).unwrap_or(0)
}

/// What is known of one part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Part {
    /// The parts that it rests on directly.
    pub rests_on: Parts,
    /// When it became strange; `None` if it is not.
    pub onset: Option<Seconds>,
    /// How far it is from its usual, by [`robust_distance`].
    pub distance: f32,
}

/// A part with what speaks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Suspect {
    pub part: usize,
    /// 0 to 1; all suspects' together are 1.
    pub share: f32,
    /// Strange parts that rest on it, directly or not, and became strange no earlier.
    pub explains: Parts,
    /// Strange parts that it rests on and that became strange before it.
    pub explained_by: Parts,
    /// Seconds from the first onset of all to its own.
    pub after_first: f32,
}

impl fmt::Display for Suspect {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Suspect { share, explains, explained_by, after_first, .. } = self;
        write!(formatter, "{:.0} %: strange {after_first:.1} s after the first", 100.0 * share)?;
        match explains.0.count_ones() {
            0 => {}
            count => write!(formatter, ", would explain {count} more")?,
        }
        match explained_by.0.count_ones() {
            0 => Ok(()),
            count => write!(formatter, ", but {count} that it rests on were strange before"),
        }
    }
}

/// Onsets that lie closer together than this are taken for simultaneous: samples are seconds apart.
const SAME_TIME: u64 = 2;
/// A part that is strange so much later than the first counts half as much.
const LATE: f32 = 20.0;
/// What is left of a suspicion for each strange part that it rests on.
const EXPLAINED: f32 = 0.25;
/// What each strange part that it would explain adds, in shares of what it has.
const EXPLAINS: f32 = 0.6;
/// Distances count by their logarithm up to here: far out is far out.
const FAR: f32 = 50.0;

/// Suspects in the order of suspicion, the strongest first; parts beyond [`MOST_PARTS`] are not looked at.
pub fn rank(parts: &[Part]) -> heapless::Vec<Suspect, MOST_PARTS> {
    let parts = parts.get(..MOST_PARTS).unwrap_or(parts);
    let first = parts.iter().filter_map(|part| part.onset).min().unwrap_or_default();
    let below = reach(parts);
    let mut suspects = heapless::Vec::<Suspect, MOST_PARTS>::new();
    for (index, part) in parts.iter().enumerate() {
        let Some(onset) = part.onset else { continue };
        let after_first = number::real(u32::try_from(onset.0.saturating_sub(first.0)).unwrap_or(u32::MAX));
        let mut suspect = Suspect { part: index, after_first, ..Suspect::default() };
        for (other_index, other) in parts.iter().enumerate() {
            let Some(other_onset) = other.onset else { continue };
            if other_index == index {
                continue;
            }
            let rests_on = |on: usize, of: usize| below.get(of).is_some_and(|below| below.has(on));
            if rests_on(index, other_index) && other_onset >= onset.before(SAME_TIME) {
                suspect.explains = suspect.explains.with(other_index);
            }
            if rests_on(other_index, index) && other_onset <= onset.after(SAME_TIME) {
                suspect.explained_by = suspect.explained_by.with(other_index);
            }
        }
        let distance = if part.distance.is_nan() { 0.0 } else { part.distance.clamp(0.0, FAR) };
        let promptness = LATE / (LATE + suspect.after_first);
        let count = |parts: Parts| number::real(parts.0.count_ones());
        // Two parts that rest on each other explain each other: neither loses by it.
        let explained = Parts(suspect.explained_by.0 & !suspect.explains.0);
        suspect.share = libm::log1pf(distance).max(0.1)
            * promptness
            * (1.0 + EXPLAINS * count(suspect.explains))
            * libm::powf(EXPLAINED, count(explained).min(4.0));
        if suspects.push(suspect).is_err() {
            break;
        }
    }
    let total: f32 = suspects.iter().map(|suspect| suspect.share).sum();
    for suspect in &mut suspects {
        suspect.share /= total.max(f32::MIN_POSITIVE);
    }
    suspects
        .sort_unstable_by(|left, right| right.share.total_cmp(&left.share).then(left.part.cmp(&right.part)));
    suspects
}

/// For each part, all that it rests on, directly or not.
fn reach(parts: &[Part]) -> [Parts; MOST_PARTS] {
    let mut below = [Parts::default(); MOST_PARTS];
    for (slot, part) in below.iter_mut().zip(parts) {
        *slot = part.rests_on;
    }
    // Each round doubles the length of the paths that are known: five rounds are all paths among thirty-two.
    for _ in 0..5 {
        let known = below;
        for slot in &mut below {
            for (index, further) in known.iter().enumerate() {
                if slot.has(index) {
                    slot.0 |= further.0;
                }
            }
        }
    }
    below
}

/// Samples that a distance is measured against, at most.
const MOST_USUAL: usize = 64;

/// How far a value is from what was usual, in quarters: distance from the median by the middle half's width. Neither
/// moves for a few outliers. Only the newest [`MOST_USUAL`] samples count.
pub fn robust_distance(usual: &[f32], value: f32) -> f32 {
    let newest = usual.len().saturating_sub(MOST_USUAL);
    let mut sorted = heapless::Vec::<f32, MOST_USUAL>::new();
    for &sample in usual.iter().skip(newest).filter(|sample| sample.is_finite()) {
        if sorted.push(sample).is_err() {
            break;
        }
    }
    sorted.sort_unstable_by(f32::total_cmp);
    let at = |quarters: usize| {
        let last = sorted.len().saturating_sub(1);
        sorted.get(last.saturating_mul(quarters) / 4).copied().unwrap_or(0.0)
    };
    if sorted.is_empty() || value.is_nan() {
        return 0.0;
    }
    let width = (at(3) - at(1)).max(at(2).abs() * 1e-3).max(1e-9);
    ((value - at(2)).abs() / width).min(1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(rests_on: &[usize], onset: Option<u64>, distance: f32) -> Part {
        let rests_on = rests_on.iter().fold(Parts::default(), |parts, &part| parts.with(part));
        Part { rests_on, onset: onset.map(Seconds), distance }
    }

    #[test]
    fn the_one_that_others_rest_on_is_the_cause_even_if_it_is_less_strange() {
        // 0 a database, 1 a service on it, 2 a gateway on the service, 3 somebody else.
        let parts = [
            part(&[], Some(101), 4.0),
            part(&[0], Some(102), 20.0),
            part(&[1], Some(103), 30.0),
            part(&[], None, 0.1),
        ];
        let suspects = rank(&parts);
        assert_eq!(suspects.iter().map(|suspect| suspect.part).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(suspects[0].explains, Parts::default().with(1).with(2));
        let text = suspects[1].to_string();
        assert!(text.contains("would explain 1 more, but 1 that it rests on were strange before"), "{text}");
    }

    #[test]
    fn a_part_that_became_strange_long_before_what_it_rests_on_is_no_effect() {
        let parts = [part(&[], Some(110), 5.0), part(&[0], Some(100), 5.0)];
        assert_eq!(rank(&parts)[0].part, 1);
    }

    #[test]
    fn nothing_strange_means_no_suspects() {
        assert!(rank(&[part(&[], None, 9.0); 3]).is_empty());
        assert!(rank(&[]).is_empty());
    }

    #[test]
    fn outliers_do_not_move_what_is_usual() {
        let mut usual: Vec<f32> = (0u16..60).map(|sample| 10.0 + f32::from(sample % 5)).collect();
        let before = robust_distance(&usual, 20.0);
        usual[5] = 1e9;
        usual[25] = f32::NAN;
        assert!((robust_distance(&usual, 20.0) - before).abs() < before * 0.51);
        assert!(before > 3.0);
    }

    proptest! {
        #[test]
        fn any_evidence_is_ranked(
            evidence in proptest::collection::vec((any::<u32>(), any::<Option<u64>>(), any::<f32>()), 0..40),
        ) {
            let parts: Vec<Part> = evidence
                .into_iter()
                .map(|(rests_on, onset, distance)| Part {
                    rests_on: Parts(rests_on),
                    onset: onset.map(Seconds),
                    distance,
                })
                .collect();
            let suspects = rank(&parts);
            prop_assert!(suspects.is_sorted_by(|left, right| left.share >= right.share));
            for suspect in &suspects {
                prop_assert!((0.0..=1.0).contains(&suspect.share), "{suspect:?}");
            }
        }
    }
}

//! The scoring rules of the Numenta Anomaly Benchmark.
//!
//! Duty: turn the rows that a detector called into a score. Not here: detectors.
//! Invariants: rows before the end of the probation cost and earn nothing; inside a window only the best call
//! counts; doing nothing scores 0, calling the first row of every window and nothing else scores 100.

use crate::dataset::Labelled;

/// What hits, false calls and misses weigh.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    pub(crate) false_call: f64,
    pub(crate) miss: f64,
}

/// The three profiles of the benchmark. A hit weighs one in each.
pub(crate) const PROFILES: [Profile; 3] = [
    Profile { name: "standard", false_call: 0.11, miss: 1.0 },
    Profile { name: "low FP", false_call: 0.22, miss: 1.0 },
    Profile { name: "low FN", false_call: 0.11, miss: 2.0 },
];

/// Rows at the start of a file that are not scored: this share of them, and no more than this many.
const PROBATION_SHARE: f64 = 0.15;
const PROBATION_MOST: usize = 750;

/// What the calls in one file came to, before weights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    /// Sum over windows that were hit of what the best call in each earned, up to 1.
    pub(crate) earned: f64,
    pub(crate) missed: f64,
    /// Sum over false calls of what each costs: up to 1, and less than nothing right behind a window.
    pub(crate) cost: f64,
    pub(crate) windows: f64,
    pub(crate) false_calls: usize,
}

/// `calls` are rows, in any order.
pub(crate) fn tally(series: &Labelled, calls: &[usize]) -> Tally {
    let rows = as_f64(series.rows.len());
    let probation = PROBATION_MOST.min(floor(rows * PROBATION_SHARE));
    let mut best: Vec<Option<f64>> = vec![None; series.windows.len()];
    let mut tally = Tally { windows: as_f64(series.windows.len()), ..Tally::default() };
    for &row in calls.iter().filter(|&&row| row >= probation) {
        let inside = |&(first, last): &(usize, usize)| (first..=last).contains(&row);
        if let Some(window) = series.windows.iter().position(inside) {
            let (first, last) = series.windows[window];
            let width = as_f64(last - first + 1);
            let earned = sigmoid(-as_f64(last + 1 - row) / width) / sigmoid(-1.0);
            best[window] = Some(best[window].map_or(earned, |best: f64| best.max(earned)));
        } else {
            tally.false_calls += 1;
            let before = series.windows.iter().rfind(|&&(_, last)| last < row);
            tally.cost += before.map_or(1.0, |&(first, last)| {
                let behind = as_f64(row - last) / as_f64((last - first).max(1));
                if behind > 3.0 { 1.0 } else { -sigmoid(behind) }
            });
        }
    }
    for best in best {
        match best {
            Some(earned) => tally.earned += earned,
            None => tally.missed += 1.0,
        }
    }
    tally
}

/// Score of several files together: 0 is silence, 100 perfection.
pub(crate) fn score<'a>(tallies: impl IntoIterator<Item = &'a Tally>, profile: Profile) -> f64 {
    let (mut raw, mut windows) = (0.0, 0.0);
    for tally in tallies {
        raw += tally.earned - profile.false_call * tally.cost - profile.miss * tally.missed;
        windows += tally.windows;
    }
    let (null, perfect) = (-profile.miss * windows, windows);
    100.0 * (raw - null) / (perfect - null)
}

/// 1 far left of 0, -1 far right of it.
fn sigmoid(position: f64) -> f64 {
    2.0 / (1.0 + (5.0 * position).exp()) - 1.0
}

fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a file's rows")]
fn floor(number: f64) -> usize {
    number as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Row;
    use hearth_predictor::Seconds;

    /// A thousand rows; windows of 101 rows from row 300 and from row 600.
    fn series() -> Labelled {
        let rows = (0..1000).map(|row| Row { at: Seconds(row), value: 0.0 }).collect();
        Labelled { name: "test".into(), rows, windows: vec![(300, 400), (600, 700)] }
    }

    fn near(left: f64, right: f64) {
        assert!((left - right).abs() < 1e-4, "{left} is not {right}");
    }

    #[test]
    fn silence_is_0_and_the_first_row_of_each_window_is_100() {
        let series = series();
        for profile in PROFILES {
            near(score(&[tally(&series, &[])], profile), 0.0);
            near(score(&[tally(&series, &[300, 600])], profile), 100.0);
        }
    }

    #[test]
    fn only_the_best_call_in_a_window_counts_and_later_calls_earn_less() {
        let series = series();
        // The middle: y = -51/101, S(y) = 0.85172, S(-1) = 0.98661.
        near(tally(&series, &[350]).earned, 0.86327);
        near(tally(&series, &[350, 351, 399]).earned, 0.86327);
        // The last row: y = -1/101, S(y) = 0.02475.
        near(tally(&series, &[400]).earned, 0.02508);
    }

    #[test]
    fn a_false_call_costs_1_far_from_windows_and_less_right_behind_one() {
        let series = series();
        near(tally(&series, &[200]).cost, 1.0);
        // Ten rows behind: y = 0.1, S(y) = -0.24492.
        near(tally(&series, &[410]).cost, 0.24492);
        // 300 rows behind the second: y = 3.0 still on the curve, S(y) = -1 + 6e-7.
        near(tally(&series, &[999]).cost, 1.0);
        assert_eq!(tally(&series, &[200, 410]).false_calls, 2);
    }

    #[test]
    fn the_probation_neither_costs_nor_earns() {
        let series = series();
        assert_eq!(tally(&series, &[0, 149]), tally(&series, &[]));
        near(tally(&series, &[150]).cost, 1.0);
    }

    #[test]
    fn weights_of_the_profiles_by_hand() {
        let tally = tally(&series(), &[200, 350]);
        // Two windows: one earned 0.86327, one missed, one false call at full cost.
        near(score(&[tally], PROFILES[0]), 100.0 * (0.86327 - 0.11 - 1.0 + 2.0) / 4.0);
        near(score(&[tally], PROFILES[1]), 100.0 * (0.86327 - 0.22 - 1.0 + 2.0) / 4.0);
        near(score(&[tally], PROFILES[2]), 100.0 * (0.86327 - 0.11 - 2.0 + 4.0) / 6.0);
    }
}

//! Keep-alive: cold starts against memory that is held for nothing.
//!
//! Duty: let policies hold clones over the same arrivals, and draw the curve from frugal to generous for each.
//! Not here: the policies' reasons. Invariants: a policy learns a rest when it is over; the time that a clone is warm
//! and unused is waste, whether a use follows or not; every policy sees the same arrivals.

use std::{collections::BTreeMap, fs, path::Path};

use hearth_predictor::pool::{Hold, KeepAlive};

use crate::{
    anomalies::narrow,
    dataset::DataError,
    dice::Dice,
    table::{self, Table, Wanted},
};

const DAY: f64 = 86_400.0;
const DAYS: f64 = 14.0;
/// Workloads of each kind.
const EACH: u64 = 12;
/// Time-to-live of the fixed policy, in seconds, from frugal to generous.
const FIXED: [f64; 14] =
    [5.0, 15.0, 30.0, 60.0, 120.0, 240.0, 420.0, 600.0, 900.0, 1500.0, 2400.0, 3600.0, 7200.0, 14_400.0];
/// What a cold start is worth to ours, in seconds of a warm clone.
const WORTH: [f64; 9] = [10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 2400.0, 4800.0];

/// Moments at which one workload is used.
type Arrivals = Vec<f64>;

/// One point of a curve.
#[derive(Clone, Copy, Debug, Default)]
struct Point {
    cold: f64,
    waste: f64,
}

pub(crate) fn run(traces: &[(String, Vec<Arrivals>)]) {
    let mix = mix();
    println!(
        "## Keep-alive: {} workloads over {DAYS} days\n",
        mix.iter().map(|(_, all)| all.len()).sum::<usize>()
    );
    for (name, workloads) in &mix {
        println!("{name}: {}", gains_line(workloads));
    }
    let all: Vec<Arrivals> = mix.into_iter().flat_map(|(_, workloads)| workloads).collect();
    let worst = curves("all together", &all);
    table::target(
        "cold starts beside fixed keep-alive at equal waste, worst point",
        worst,
        3,
        Wanted::AtMost(0.90),
    );
    for (name, workloads) in traces {
        let worst = curves(name, workloads);
        println!("{name}: cold starts beside fixed keep-alive at equal waste, worst point: {worst:.3}");
    }
    println!();
}

/// Both curves as a table. Gives the greatest of our cold starts divided by the fixed policy's at equal waste.
fn curves(name: &str, workloads: &[Arrivals]) -> f64 {
    let fixed = FIXED.map(|seconds| over(workloads, |arrivals| fixed(arrivals, seconds)));
    let ours = WORTH.map(|worth| over(workloads, |arrivals| learnt(arrivals, worth)));
    let mut table = Table::new(&[name, "cold starts", "waste, h", "fixed at equal waste", "ours/fixed"]);
    for (seconds, point) in FIXED.iter().zip(fixed) {
        table.row([
            format!("fixed, {seconds} s"),
            format!("{:.0}", point.cold),
            format!("{:.1}", point.waste / 3600.0),
        ]);
    }
    let mut worst = 0.0f64;
    for (worth, point) in WORTH.iter().zip(ours) {
        let mut cells = vec![
            format!("learnt, a cold start worth {worth} s"),
            format!("{:.0}", point.cold),
            format!("{:.1}", point.waste / 3600.0),
        ];
        if let Some(equal) = at_waste(&fixed, point.waste) {
            worst = worst.max(point.cold / equal);
            cells.extend([format!("{equal:.0}"), format!("{:.3}", point.cold / equal)]);
        }
        table.row(cells);
    }
    println!("\n{table}");
    worst
}

fn gains_line(workloads: &[Arrivals]) -> String {
    let fixed = FIXED.map(|seconds| over(workloads, |arrivals| fixed(arrivals, seconds)));
    let gain = |worth: f64| {
        let point = over(workloads, |arrivals| learnt(arrivals, worth));
        at_waste(&fixed, point.waste)
            .map_or("off the curve".to_owned(), |equal| format!("{:.3}", point.cold / equal.max(1.0)))
    };
    let gains: Vec<String> = WORTH.iter().map(|&worth| gain(worth)).collect();
    format!("ours/fixed at equal waste {}", gains.join(" "))
}

/// Cold starts of a curve at a waste between two of its points; on straight lines, as a mixture of two
/// times-to-live would have it.
fn at_waste(curve: &[Point], waste: f64) -> Option<f64> {
    curve.windows(2).find(|pair| pair[0].waste <= waste && waste <= pair[1].waste).map(|pair| {
        let share = (waste - pair[0].waste) / (pair[1].waste - pair[0].waste).max(1e-9);
        pair[0].cold + share * (pair[1].cold - pair[0].cold)
    })
}

fn over(workloads: &[Arrivals], policy: impl Fn(&Arrivals) -> Point) -> Point {
    workloads.iter().map(policy).fold(Point::default(), |sum, point| Point {
        cold: sum.cold + point.cold,
        waste: sum.waste + point.waste,
    })
}

fn fixed(arrivals: &Arrivals, seconds: f64) -> Point {
    let mut point = Point::default();
    for rest in arrivals.windows(2).map(|pair| pair[1] - pair[0]) {
        point.cold += f64::from(u8::from(rest > seconds));
        point.waste += rest.min(seconds);
    }
    point
}

fn learnt(arrivals: &Arrivals, worth: f64) -> Point {
    let mut keep = KeepAlive::new(narrow(worth));
    let mut point = Point::default();
    for rest in arrivals.windows(2).map(|pair| pair[1] - pair[0]) {
        let mut at = 0.0;
        loop {
            // A hair beyond the edge, so that the next question is about the next bucket.
            let step = |left: f32| f64::from(left) * 1.000_1 + 1e-3;
            match keep.hold(narrow(at)) {
                Hold::Warm(left) if at + step(left) >= rest => {
                    point.waste += rest - at;
                    break;
                }
                Hold::Warm(left) => {
                    point.waste += step(left);
                    at += step(left);
                }
                Hold::Return(left) if at + step(left) < rest => at += step(left),
                Hold::Return(_) | Hold::Cold => {
                    point.cold += 1.0;
                    break;
                }
            }
        }
        keep.rested(narrow(rest));
    }
    point
}

/// Timers, days, bursts and heavy tails.
fn mix() -> Vec<(&'static str, Vec<Arrivals>)> {
    let workloads = |make: &dyn Fn(u64, &mut Dice) -> Arrivals, seed: u64| {
        (0..EACH).map(|which| make(which, &mut Dice::new(seed + which))).collect()
    };
    let spread = |which: u64, low: f64, high: f64| {
        let share =
            f64::from(u32::try_from(which).unwrap_or(0)) / f64::from(u32::try_from(EACH - 1).unwrap_or(1));
        low * (high / low).powf(share)
    };
    vec![
        // A minute to two hours, each a few percent early or late.
        ("timers", workloads(&|which, dice| timer(spread(which, 60.0, 7200.0), dice), 100)),
        // Five minutes to an hour on average, by day; a tenth of it by night.
        ("diurnal", workloads(&|which, dice| diurnal(spread(which, 300.0, 3600.0), dice), 200)),
        // Bursts of some twenty uses seconds apart, hours apart.
        ("bursts", workloads(&|which, dice| bursts(spread(which, 1800.0, 28_800.0), dice), 300)),
        ("heavy tail", workloads(&|which, dice| heavy(spread(which, 20.0, 600.0), dice), 400)),
    ]
}

fn timer(period: f64, dice: &mut Dice) -> Arrivals {
    let mut all = Vec::new();
    let mut due = period * dice.even();
    while due < DAYS * DAY {
        all.push((due + period * 0.04 * (dice.even() - 0.5)).max(0.0));
        due += period;
    }
    all
}

fn diurnal(mean: f64, dice: &mut Dice) -> Arrivals {
    let mut all = Vec::new();
    let mut at = 0.0;
    while at < DAYS * DAY {
        at += dice.exponential(mean * 0.55);
        let phase = (at / DAY).fract() * std::f64::consts::TAU;
        if dice.even() < 0.55 - 0.45 * phase.cos() {
            all.push(at);
        }
    }
    all
}

fn bursts(apart: f64, dice: &mut Dice) -> Arrivals {
    let mut all = Vec::new();
    let mut at = 0.0;
    while at < DAYS * DAY {
        at += dice.exponential(apart);
        for _ in 0..5 + dice.below(30) {
            at += dice.exponential(8.0);
            all.push(at);
        }
    }
    all
}

fn heavy(least: f64, dice: &mut Dice) -> Arrivals {
    let mut all = Vec::new();
    let mut at = 0.0;
    while at < DAYS * DAY {
        // Pareto with a shape of 1.2: a mean that a few long rests make.
        at += (least / (1.0 - dice.even()).powf(1.0 / 1.2)).min(DAY);
        all.push(at);
    }
    all
}

/// Arrivals from a file: on each line a time in seconds and, after a comma, the workload's name.
pub(crate) fn read_trace(path: &Path) -> Result<Vec<Arrivals>, DataError> {
    let text =
        fs::read_to_string(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    let mut workloads: BTreeMap<&str, Arrivals> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let (time, name) = line.split_once(',').unwrap_or((line, ""));
        let expected = "SECONDS or SECONDS,WORKLOAD";
        let failed = || DataError::Row { path: path.to_owned(), line: index + 1, expected };
        let time: f64 = time.trim().parse().map_err(|_| failed())?;
        if !time.is_finite() {
            return Err(failed());
        }
        workloads.entry(name.trim()).or_default().push(time);
    }
    let mut workloads: Vec<Arrivals> = workloads.into_values().collect();
    for arrivals in &mut workloads {
        arrivals.sort_by(f64::total_cmp);
    }
    Ok(workloads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_time_to_live_by_hand() {
        let point = fixed(&vec![0.0, 5.0, 25.0, 30.0], 10.0);
        assert!((point.cold - 1.0).abs() < 1e-9 && (point.waste - 20.0).abs() < 1e-9);
    }

    #[test]
    fn equal_waste_lies_on_a_line_between_two_points() {
        let curve = [Point { cold: 100.0, waste: 0.0 }, Point { cold: 50.0, waste: 10.0 }];
        assert_eq!(at_waste(&curve, 5.0), Some(75.0));
        assert_eq!(at_waste(&curve, 11.0), None);
    }
}

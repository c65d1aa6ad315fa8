//! Root causes: faults injected into simulated boxes.
//!
//! Duty: draw boxes with workloads that rest on each other, break one part, let the harm spread, blur what is seen,
//! and ask who began it. Not here: the ranking. Invariants: what is asked of is only what a box would see (onsets by
//! its own detection, distances from samples); which part was broken is known to the score alone.

use hearth_predictor::{
    Seconds,
    anomaly::ChangePoint,
    cause::{self, Part, Parts, robust_distance},
};

use crate::{
    anomalies::narrow,
    dice::Dice,
    table::{self, Table, Wanted},
};

const CASES: u64 = 200;
/// Seconds between samples, samples before the fault and after it.
const TICK: u64 = 2;
const SECONDS: f64 = 2.0;
const BEFORE: usize = 90;
const AFTER: usize = 60;

/// A part of a simulated box.
#[derive(Clone, Debug, Default)]
struct Real {
    rests_on: Vec<usize>,
}

/// What a box sees of one case, and the truth.
struct Case {
    parts: Vec<Part>,
    cause: usize,
}

pub(crate) fn run() {
    println!("## Root cause: {CASES} injected faults in simulated boxes\n");
    let cases: Vec<Case> = (0..CASES).map(case).collect();
    let by = |score: fn(&Part) -> f32| {
        move |parts: &[Part]| {
            let mut order: Vec<usize> =
                (0..parts.len()).filter(|&part| parts[part].onset.is_some()).collect();
            order.sort_by(|&left, &right| score(&parts[right]).total_cmp(&score(&parts[left])));
            order
        }
    };
    let ranked = |parts: &[Part]| cause::rank(parts).iter().map(|suspect| suspect.part).collect();
    let mut table = Table::new(&["ranking", "AC@1", "AC@3", "AC@5"]);
    let (mut first, mut third) = (0.0, 0.0);
    type Ranking = Box<dyn Fn(&[Part]) -> Vec<usize>>;
    let rankings: [(&str, Ranking); 3] = [
        ("onset, graph and distance", Box::new(ranked)),
        ("greatest distance first", Box::new(by(|part| part.distance))),
        ("earliest onset first", Box::new(by(|part| -onset_of(part)))),
    ];
    for (index, (name, ranking)) in rankings.iter().enumerate() {
        let within = |most: usize| {
            let hit = |case: &&Case| ranking(&case.parts).iter().take(most).any(|&part| part == case.cause);
            let hits = cases.iter().filter(hit).count();
            real(hits) / real(cases.len())
        };
        table.row([
            name.to_string(),
            format!("{:.3}", within(1)),
            format!("{:.3}", within(3)),
            format!("{:.3}", within(5)),
        ]);
        if index == 0 {
            (first, third) = (within(1), within(3));
        }
    }
    println!("{table}");
    table::target("AC@1", first, 3, Wanted::AtLeast(0.5));
    table::target("AC@3", third, 3, Wanted::AtLeast(0.85));
    println!();
}

fn case(seed: u64) -> Case {
    let mut dice = Dice::new(40_000 + seed);
    let reals = draw_box(&mut dice);
    let cause = dice.below(reals.len());
    // Who is harmed, when, and how much: those who rest on a harmed part, mostly, a little later, and less or more.
    let mut harmed: Vec<Option<(f64, f64)>> = vec![None; reals.len()];
    let begin = real(BEFORE) * SECONDS;
    harmed[cause] = Some((begin, 4.0 + 10.0 * dice.even()));
    for _ in 0..reals.len() {
        for part in 0..reals.len() {
            if harmed[part].is_some() {
                continue;
            }
            let through = reals[part].rests_on.iter().find_map(|&on| harmed[on]);
            let Some((since, strength)) = through.filter(|_| dice.even() < 0.75) else { continue };
            harmed[part] = Some((since + dice.exponential(6.0), strength * (0.4 + 1.4 * dice.even())));
        }
    }
    let parts = (0..reals.len())
        .map(|part| {
            // One part in twelve has a trouble of its own that has nothing to do with it.
            let own =
                (dice.even() < 0.08).then(|| (begin + 60.0 * (dice.even() - 0.3), 2.0 + 4.0 * dice.even()));
            let harm = harmed[part].or(own);
            let (onset, distance) = look(harm, &mut dice);
            let rests_on = reals[part].rests_on.iter().fold(Parts::default(), |parts, &on| parts.with(on));
            Part { rests_on, onset, distance }
        })
        .collect();
    Case { parts, cause }
}

/// A host, virtual machines on it, a guest on each, a process in each; processes ask processes of other machines.
fn draw_box(dice: &mut Dice) -> Vec<Real> {
    let machines = 3 + dice.below(4);
    let mut reals = vec![Real::default()];
    let mut processes: Vec<usize> = Vec::new();
    for _ in 0..machines {
        let machine = reals.len();
        reals.push(Real { rests_on: vec![0] });
        reals.push(Real { rests_on: vec![machine] });
        let mut rests_on = vec![machine + 1];
        for &other in &processes {
            if dice.even() < 0.4 {
                rests_on.push(other);
            }
        }
        processes.push(reals.len());
        reals.push(Real { rests_on });
    }
    reals
}

/// What sampling sees of a harm: an onset by change detection and a distance by quarters, through noise.
fn look(harm: Option<(f64, f64)>, dice: &mut Dice) -> (Option<Seconds>, f32) {
    let mut watch = ChangePoint::default();
    let mut samples: Vec<f32> = Vec::new();
    let mut onset = None;
    for index in 0..BEFORE + AFTER {
        let at = real(index) * SECONDS;
        // About a bell curve around 100.
        let noise: f64 = (0..4).map(|_| dice.even() - 0.5).sum::<f64>() * 1.7;
        let harm = harm.filter(|(since, _)| at >= *since).map_or(0.0, |(_, strength)| strength);
        let sample = narrow(100.0 + noise + harm);
        if let Some(change) = watch.observe(sample) {
            let began = index - usize::try_from(change.age).unwrap_or(0).min(index);
            // What moved long before is no news.
            if onset.is_none() && began + 30 >= BEFORE {
                onset = u64::try_from(began).ok().map(|began| Seconds(began * TICK));
            }
        }
        samples.push(sample);
    }
    let (usual, now) = samples.split_at(BEFORE);
    let mut newest = now[AFTER - 15..].to_vec();
    newest.sort_by(f32::total_cmp);
    let distance = robust_distance(usual, newest[7]);
    (onset, distance)
}

fn real(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

/// In seconds from the first sample.
fn onset_of(part: &Part) -> f32 {
    part.onset.and_then(|onset| u16::try_from(onset.0).ok()).map_or(f32::MAX, f32::from)
}

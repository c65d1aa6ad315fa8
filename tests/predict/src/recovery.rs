//! Recovery: simulated faults, cured by different policies.
//!
//! Duty: throw the same incidents at each policy and measure the time until cured; incidents that nothing cures are
//! counted apart. Not here: policies. Invariants: whether a rung cures an incident is thrown once, before anybody
//! tries, so every policy meets the same incidents; a learning policy begins each run knowing nothing.

use std::time::Instant;

use hearth_predictor::recovery::{Choice, Cures, Ladder, Outcome, Rung};

use crate::{
    dice::Dice,
    table::{self, Table, Wanted},
};

const RUNGS: usize = 5;
const NAMES: [&str; RUNGS] = ["restart in guest", "cold start", "restore", "previous image", "reboot box"];
/// Seconds until a try is known to have worked or not. Their order is by strength: what is later undoes more.
const SECONDS: [f64; RUNGS] = [1.5, 3.0, 0.4, 9.0, 45.0];
const LADDER: Ladder<RUNGS> = Ladder {
    rungs: [
        Rung { seconds: 1.5, risk: 0.0 },
        Rung { seconds: 3.0, risk: 0.0 },
        Rung { seconds: 0.4, risk: 0.0 },
        Rung { seconds: 9.0, risk: 2.0 },
        Rung { seconds: 45.0, risk: 60.0 },
    ],
    escalation: 900.0,
};

/// A class of faults: how often each rung cures it. An incident that a rung does not cure may be cured by the next.
struct Fault {
    name: &'static str,
    cures: [f64; RUNGS],
}

const FAULTS: [Fault; 6] = [
    Fault { name: "process hangs", cures: [0.90, 0.97, 0.95, 0.95, 0.97] },
    Fault { name: "memory leaks", cures: [0.70, 0.97, 0.90, 0.95, 0.97] },
    Fault { name: "kernel of the guest stuck", cures: [0.03, 0.95, 0.95, 0.95, 0.97] },
    Fault { name: "bad state in the snapshot", cures: [0.10, 0.92, 0.02, 0.92, 0.92] },
    Fault { name: "bad image", cures: [0.02, 0.03, 0.02, 0.97, 0.10] },
    Fault { name: "host's driver stuck", cures: [0.02, 0.05, 0.03, 0.05, 0.95] },
];

/// Seeded runs of each fault, and incidents in each.
const RUNS: u64 = 60;
const INCIDENTS: usize = 25;

/// A policy says what to try, and hears what came of it.
trait Policy {
    fn next(&mut self, class: usize, tried: u8) -> Option<usize>;
    fn tried(&mut self, _class: usize, _rung: usize, _outcome: Outcome, _seconds: f64) {}
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    seconds: f64,
    cured: f64,
    escalated: f64,
}

impl Sum {
    fn mean(self) -> f64 {
        self.seconds / self.cured.max(1.0)
    }

    fn escalation_percent(self) -> f64 {
        100.0 * self.escalated / (self.cured + self.escalated).max(1.0)
    }
}

pub(crate) fn run() {
    println!(
        "## Recovery: {} faults, {RUNS} seeded runs of {INCIDENTS} incidents each, simulated\n",
        FAULTS.len()
    );
    let mut table = Table::new(&[
        "mean s to cure",
        "by strength",
        "by cost",
        "learnt",
        "learnt/strength",
        "learnt/cost",
        "escalated %: strength",
        "cost",
        "learnt",
    ]);
    let (mut total, mut worst) = ([Sum::default(); 3], 0.0f64);
    for (class, fault) in FAULTS.iter().enumerate() {
        let sums = [
            incidents(class, fault, || Box::new(Fixed([0, 1, 2, 3, 4]))),
            incidents(class, fault, || Box::new(Fixed([2, 0, 1, 3, 4]))),
            incidents(class, fault, || Box::new(Learning::default())),
        ];
        for (total, sum) in total.iter_mut().zip(sums) {
            total.seconds += sum.seconds;
            total.cured += sum.cured;
            total.escalated += sum.escalated;
        }
        worst = worst.max(sums[2].mean() / sums[1].mean());
        table.row(row(fault.name, sums));
    }
    table.row(row("all", total));
    println!("rungs by strength: {}\n{table}", NAMES.join(", "));
    let [strength, _, learnt] = total.map(Sum::mean);
    table::target("time to cure beside the ladder by strength", learnt / strength, 3, Wanted::AtMost(0.90));
    table::target("time to cure beside the ladder by cost, worst fault", worst, 3, Wanted::AtMost(1.02));
    println!("real VMs: `cargo xtask bench recovery`\n");
}

fn row(name: &str, sums: [Sum; 3]) -> Vec<String> {
    let mut cells = vec![name.to_owned()];
    let means = sums.map(Sum::mean);
    cells.extend(means.map(|mean| format!("{mean:.2}")));
    cells.push(format!("{:.3}", means[2] / means[0]));
    cells.push(format!("{:.3}", means[2] / means[1]));
    cells.extend(sums.map(|sum| format!("{:.2}", sum.escalation_percent())));
    cells
}

fn incidents(class: usize, fault: &Fault, policy: impl Fn() -> Box<dyn Policy>) -> Sum {
    let mut sum = Sum::default();
    for run in 0..RUNS {
        let mut dice = Dice::new(7000 + run);
        let mut policy = policy();
        for _ in 0..INCIDENTS {
            let works = fault.cures.map(|chance| dice.even() < chance);
            let takes = SECONDS.map(|seconds| seconds * (0.7 + 0.6 * dice.even()));
            let (mut tried, mut seconds, mut cured) = (0u8, 0.0, false);
            while let Some(rung) = policy.next(class, tried) {
                tried |= 1 << rung;
                seconds += takes[rung];
                cured = works[rung];
                let outcome = if cured { Outcome::Cured } else { Outcome::Failed };
                policy.tried(class, rung, outcome, takes[rung]);
                if cured {
                    break;
                }
            }
            if cured {
                sum.seconds += seconds;
                sum.cured += 1.0;
            } else {
                sum.escalated += 1.0;
            }
        }
    }
    sum
}

/// Always the same order.
struct Fixed([usize; RUNGS]);

impl Policy for Fixed {
    fn next(&mut self, _class: usize, tried: u8) -> Option<usize> {
        self.0.into_iter().find(|&rung| tried & (1 << rung) == 0)
    }
}

#[derive(Default)]
struct Learning(Cures<{ FAULTS.len() }, RUNGS>);

impl Policy for Learning {
    fn next(&mut self, class: usize, tried: u8) -> Option<usize> {
        self.0.choose(&LADDER, class, tried).rung
    }

    fn tried(&mut self, class: usize, rung: usize, outcome: Outcome, seconds: f64) {
        self.0.tried(class, rung, outcome, crate::anomalies::narrow(seconds));
    }
}

/// The least of many batches: what the machine does besides is not the decision's cost.
pub(crate) fn decision_micros() -> f64 {
    const BATCH: u32 = 200;
    let mut learning = Learning::default();
    let mut least = f64::MAX;
    for batch in 0..200u64 {
        learning.tried(0, usize::try_from(batch % 5).unwrap_or(0), Outcome::Cured, 1.0);
        let begin = Instant::now();
        for _ in 0..BATCH {
            let choice: Choice = std::hint::black_box(&learning.0).choose(&LADDER, 0, 0);
            let _ = std::hint::black_box(choice);
        }
        least = least.min(begin.elapsed().as_secs_f64() * 1e6 / f64::from(BATCH));
    }
    least
}

//! What a sample and a decision cost.
//!
//! Duty: time and memory of a series, and time of the decisions. Not here: instructions; they differ from machine to
//! machine, too. Invariant: the least of many short batches counts, as whatever else the machine does only ever adds.

use std::{hint::black_box, time::Instant};

use hearth_predictor::{
    Cadence, Seconds, Series,
    cause::{self, MOST_PARTS, Part, Parts},
    pool::KeepAlive,
};

use crate::{
    recovery,
    table::{self, Table, Wanted},
};

const BATCHES: u64 = 400;
const BATCH: u64 = 500;

pub(crate) fn run() {
    println!("## Cost: one series, one sample in five minutes; other work of the crate beside it\n");
    let (least, median) = series();
    let mut keep = KeepAlive::new(600.0);
    let mut parts = [Part { onset: Some(Seconds(5)), distance: 4.0, ..Part::default() }; MOST_PARTS];
    for (at, part) in parts.iter_mut().enumerate().skip(1) {
        part.rests_on = Parts::default().with(at - 1);
    }
    let mut table = Table::new(&["ns", "least batch", "median batch"]);
    let mut row = |what: &str, (least, median): (f64, f64)| {
        table.row([what.to_owned(), format!("{least:.0}"), format!("{median:.0}")]);
    };
    row("a sample, forecast 1, 3 and 12 ahead, detected", (least, median));
    row("a rest of a clone, plans included", batches(|turn| keep.rested(f32::from(wave(turn)))));
    row(
        "where a clone's plan leads",
        batches(|turn| {
            let _ = black_box(keep.hold(f32::from(wave(turn))));
        }),
    );
    row(
        "causes among 32 strange parts",
        batches(|_| {
            let _ = black_box(cause::rank(black_box(&parts)));
        }),
    );
    let decision = recovery::decision_micros();
    row("a choice of a cure: all states of five rungs", (decision * 1e3, decision * 1e3));
    println!("{table}");
    let what = format!("predict and detect, ns a sample, least batch (median batch {median:.0})");
    table::target(&what, least, 0, Wanted::AtMost(500.0));
    let bytes = u32::try_from(size_of::<Series<3>>()).unwrap_or(u32::MAX);
    table::target("memory of a series, bytes", f64::from(bytes), 0, Wanted::AtMost(4096.0));
    table::target("the policy solved anew, us", decision, 2, Wanted::AtMost(20.0));
    println!("no heap: the crate's test no_heap runs it on an allocator that aborts\n");
}

fn series() -> (f64, f64) {
    let mut series = Series::new(Cadence::every(300), [1, 3, 12]);
    batches(|turn| {
        black_box(series.observe(Seconds(turn * 300), f32::from(wave(turn))).forecasts);
    })
}

/// Something daily with something on top that repeats in no day.
fn wave(turn: u64) -> u16 {
    u16::try_from(turn * 7919 % 251 + turn % 288).unwrap_or(0)
}

/// Nanoseconds of one turn: in the least batch, and in the median one.
fn batches(mut work: impl FnMut(u64)) -> (f64, f64) {
    let mut nanoseconds: Vec<f64> = (0..BATCHES)
        .map(|batch| {
            let begin = Instant::now();
            (batch * BATCH..(batch + 1) * BATCH).for_each(&mut work);
            begin.elapsed().as_secs_f64() * 1e9 / 500.0
        })
        .collect();
    nanoseconds.sort_by(f64::total_cmp);
    let at = |index: usize| nanoseconds.get(index).copied().unwrap_or_default();
    (at(0), at(nanoseconds.len() / 2))
}

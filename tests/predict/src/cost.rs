//! What a sample costs.
//!
//! Duty: time and memory of a series. Not here: instructions; they differ from machine to machine, too.
//! Invariant: the least of many short batches counts, as whatever else the machine does only ever adds.

use std::time::Instant;

use hearth_predictor::{Cadence, Seconds, Series};

use crate::table::{self, Wanted};

const BATCHES: u64 = 1000;
const BATCH: u64 = 500;

pub(crate) fn run() {
    println!("## Cost: one series, one sample in five minutes, forecast 1, 3 and 12 samples ahead\n");
    let mut series = Series::new(Cadence::every(300), [1, 3, 12]);
    let mut nanoseconds = Vec::new();
    for batch in 0..BATCHES {
        let begin = Instant::now();
        for sample in batch * BATCH..(batch + 1) * BATCH {
            let wave = u16::try_from(sample * 7919 % 251 + sample % 288).unwrap_or(0);
            std::hint::black_box(series.observe(Seconds(sample * 300), f32::from(wave)).forecasts);
        }
        nanoseconds.push(begin.elapsed().as_secs_f64() * 1e9 / 500.0);
    }
    nanoseconds.sort_by(f64::total_cmp);
    let median = nanoseconds.get(nanoseconds.len() / 2).copied().unwrap_or_default();
    let what = format!("predict and detect, ns a sample, least batch (median batch {median:.0})");
    table::target(&what, nanoseconds.first().copied().unwrap_or_default(), 0, Wanted::AtMost(500.0));
    let bytes = u32::try_from(size_of::<Series<3>>()).unwrap_or(u32::MAX);
    table::target("memory of a series, bytes", f64::from(bytes), 0, Wanted::AtMost(4096.0));
    println!();
}

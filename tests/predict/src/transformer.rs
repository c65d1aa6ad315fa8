//! Forecasts of a transformer's oil temperature: the ETTh1 benchmark.
//!
//! Duty: the standard split and error. Not here: the models. Invariants: values are standardised by the mean and
//! deviation of the training rows; every origin of the test rows counts, with all its steps; models learn from
//! rows only after they were scored on them.

use hearth_predictor::{Cadence, Series};

use crate::{
    anomalies::narrow,
    dataset::Row,
    table::{self, Table, Wanted},
};

const TRAIN: usize = 12 * 30 * 24;
const VALIDATE: usize = 4 * 30 * 24;
const TEST: usize = 4 * 30 * 24;
const LONGEST: usize = 96;

pub(crate) fn run(rows: &[Row]) {
    println!("## ETTh1, oil temperature, {TEST} test rows\n");
    let end = (TRAIN + VALIDATE + TEST).min(rows.len());
    let values: Vec<f64> = rows[..end].iter().map(|row| row.value).collect();
    let train = &values[..TRAIN.min(end)];
    let count = f64::from(u32::try_from(train.len()).unwrap_or(1));
    let mean = train.iter().sum::<f64>() / count;
    let deviation = (train.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();

    // All distances at once: each is a model of its own, as in a series with three of them.
    let ahead = std::array::from_fn(|at| u16::try_from(at + 1).unwrap_or(1));
    let mut series = Box::new(Series::<LONGEST>::new(Cadence::every(3600), ahead));
    let first_origin = TRAIN + VALIDATE - 1;
    let mut sums = [[0.0; 3]; 2];
    let mut counts = [0.0; 2];
    for (origin, row) in rows[..end].iter().enumerate() {
        let forecasts = series.observe(row.at, narrow(row.value)).forecasts;
        for (which, distance) in [24, LONGEST].into_iter().enumerate() {
            if origin < first_origin || origin + distance >= end {
                continue;
            }
            for (step, forecast) in forecasts.iter().take(distance).enumerate() {
                let actual = values[origin + 1 + step];
                let yesterday = values[origin + 1 + step - 24 * (step / 24 + 1)];
                let ours = forecast.map_or(row.value, |forecast| f64::from(forecast.expected));
                for (sum, said) in sums[which].iter_mut().zip([row.value, yesterday, ours]) {
                    *sum += ((said - actual) / deviation).powi(2);
                }
                counts[which] += 1.0;
            }
        }
    }
    let mut table = Table::new(&["steps", "last", "seasonal", "ours"]);
    for (which, distance) in [24, LONGEST].into_iter().enumerate() {
        let mut cells = vec![distance.to_string()];
        cells.extend(sums[which].map(|sum| format!("{:.4}", sum / counts[which])));
        table.row(cells);
    }
    println!("mean squared error\n{table}");
    table::target("MSE, 24 steps", sums[0][2] / counts[0], 4, Wanted::AtMost(0.028));
    table::target("MSE, 96 steps", sums[1][2] / counts[1], 4, Wanted::AtMost(0.056));
    println!();
}

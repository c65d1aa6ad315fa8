//! Rivals with names: networks that were trained, and a library that chooses its model itself.
//!
//! Duty: the same origins for everybody, on rows that nobody was trained on. Not here: the rivals. Invariants: networks
//! learn from the first share of a series only and never after; the library fits anew at every origin, on the newest
//! samples; ours learns as it goes, as on a box.

use std::{fs, path::Path, path::PathBuf};

use augurs_core::{Fit, Predict};
use augurs_ets::AutoETS;
use hearth_predictor::{
    Cadence,
    forecast::{Forecaster, Foresees},
    neural::{self, Attention, DISTANCES, Lstm, Network, Neural, WeightsFault},
};

use crate::{
    anomalies::narrow,
    dataset::{DataError, Row},
    load,
    table::{self, Table, Wanted},
    training::{self, Trained},
};

/// Origins are so many samples apart: a prime, so they meet every time of the day.
const APART: usize = 13;
/// Samples that the library fits.
const FITTED: usize = 288;
const NAMES: [&str; 5] = ["last", "AutoETS", "LSTM-16", "attention", "ours"];
const OURS: usize = NAMES.len() - 1;

/// A series, how much of it networks learn, and from where on everybody is scored.
pub(crate) struct Task {
    pub(crate) name: &'static str,
    pub(crate) rows: Vec<Row>,
    pub(crate) cadence: Cadence,
    pub(crate) ahead: [u16; DISTANCES],
    pub(crate) trained: usize,
    pub(crate) scored: usize,
}

/// The tasks, from the web site's minutes and the transformer's hours.
pub(crate) fn tasks(minutes: &[Row], hours: &[Row]) -> Vec<Task> {
    let [one, five] = load::tasks_of(minutes);
    let half = |name, (cadence, rows): (Cadence, Vec<Row>), ahead| {
        let half = rows.len() / 2;
        Task { name, rows, cadence, ahead, trained: half, scored: half }
    };
    // The standard split: twelve months, four, four.
    let month = 30 * 24;
    let rows = hours[..hours.len().min(20 * month)].to_vec();
    let cadence = Cadence::every(3600);
    let trained = rows.len().min(12 * month);
    let scored = rows.len().min(16 * month);
    vec![
        half("wc98-1min", one, [1, 5, 15]),
        half("wc98-5min", five, [1, 3, 12]),
        Task { name: "etth1", rows, cadence, ahead: [1, 6, 24], trained, scored },
    ]
}

/// Weights come from `weights`, where it is given; else they are trained here.
pub(crate) fn run(tasks: &[Task], weights: Option<&Path>) -> Result<(), DataError> {
    println!("## Rivals: every {APART}th sample of rows that no network was trained on\n");
    let mut table = Table::new(&[
        "mean error in % of the mean",
        "last",
        "AutoETS",
        "LSTM-16",
        "attention",
        "ours",
        "best",
    ]);
    let (mut cells, mut behind, mut failed, mut fits) = (0.0, [0.0; OURS], 0, 0);
    for task in tasks {
        let lstm = network::<Lstm>(task, weights)?;
        let attention = network::<Attention>(task, weights)?;
        let outcome = measure(task, lstm, attention);
        failed += outcome.failed;
        fits += outcome.fits;
        for (ahead, errors) in task.ahead.iter().zip(outcome.errors) {
            let percent = errors.map(|error| 100.0 * error / outcome.actual.max(f64::MIN_POSITIVE));
            let least = percent.into_iter().fold(f64::MAX, f64::min);
            let best = percent.iter().position(|error| error.total_cmp(&least).is_le()).unwrap_or(0);
            cells += 1.0;
            for (count, error) in behind.iter_mut().zip(percent) {
                *count += f64::from(u8::from(percent[OURS] < error));
            }
            let mut row = vec![format!("{}, {ahead} ahead", task.name)];
            row.extend(percent.map(|error| format!("{error:.2}")));
            row.push(NAMES[best].to_owned());
            table.row(row);
        }
    }
    println!("{table}");
    println!(
        "AutoETS without a season (it has none), fitted to {FITTED} samples {fits} times, {failed} in vain"
    );
    for (name, count) in NAMES.iter().zip(behind) {
        table::target(
            &format!("share of cells in which ours is better than {name}"),
            count / cells,
            2,
            Wanted::AtLeast(0.51),
        );
    }
    println!();
    Ok(())
}

/// Trains a network on the rows of a task, for a file.
pub(crate) fn train<N: Trained>(task: &Task) -> Vec<u8> {
    training::train::<N>(&task.rows[..task.trained], task.cadence, task.ahead)
}

pub(crate) fn path_of<N: Trained>(folder: &Path, task: &Task) -> PathBuf {
    folder.join(format!("{}-{}.weights", task.name, N::NAME))
}

fn network<N: Trained>(task: &Task, folder: Option<&Path>) -> Result<N, DataError> {
    let Some(folder) = folder else {
        let path = PathBuf::from("trained in memory");
        return parse(&train::<N>(task)).map_err(|source| DataError::Weights { path, source });
    };
    let path = path_of::<N>(folder, task);
    let bytes = fs::read(&path).map_err(|source| DataError::Read { path: path.clone(), source })?;
    parse(&bytes).map_err(|source| DataError::Weights { path, source })
}

fn parse<N: Trained>(bytes: &[u8]) -> Result<N, WeightsFault> {
    let size = neural::file_size(N::WEIGHTS);
    let wrong = || WeightsFault::Length(bytes.len(), size);
    // Constants of a trait cannot be lengths of arrays: one of the two fits.
    let weights = match N::WEIGHTS {
        Lstm::WEIGHTS => neural::read::<{ Lstm::WEIGHTS }>(N::KIND, bytes)?.to_vec(),
        Attention::WEIGHTS => neural::read::<{ Attention::WEIGHTS }>(N::KIND, bytes)?.to_vec(),
        _ => return Err(wrong()),
    };
    N::with(&weights).ok_or_else(wrong)
}

struct Measured {
    errors: [[f64; NAMES.len()]; DISTANCES],
    /// Sum of the magnitudes that the errors are a share of.
    actual: f64,
    fits: usize,
    failed: usize,
}

fn measure(task: &Task, lstm: Lstm, attention: Attention) -> Measured {
    let mut lstm = Neural::new(lstm, task.cadence, task.ahead);
    let mut attention = Neural::new(attention, task.cadence, task.ahead);
    let mut ours = Forecaster::new(task.cadence, task.ahead);
    let furthest = usize::from(task.ahead.into_iter().max().unwrap_or(1));
    let mut measured = Measured { errors: [[0.0; NAMES.len()]; DISTANCES], actual: 0.0, fits: 0, failed: 0 };
    let last = task.rows.len().saturating_sub(furthest);
    for (origin, row) in task.rows.iter().enumerate().take(last) {
        let foreseers: [&mut dyn Foresees; 3] = [&mut lstm, &mut attention, &mut ours];
        for foreseer in foreseers {
            foreseer.observe(row.at, narrow(row.value));
        }
        if origin < task.scored || !origin.is_multiple_of(APART) {
            continue;
        }
        let library = fit(&task.rows[..=origin], furthest);
        measured.fits += 1;
        measured.failed += usize::from(library.is_none());
        measured.actual += row.value.abs();
        for (which, &ahead) in task.ahead.iter().enumerate() {
            let then = usize::from(ahead);
            let actual = task.rows[origin + then].value;
            let fitted = library.as_ref().and_then(|said| said.get(then - 1)).copied().unwrap_or(row.value);
            let foreseers: [&dyn Foresees; 3] = [&lstm, &attention, &ours];
            let [lstm, attention, ours] =
                foreseers.map(|foreseer| foreseer.expected(which).map_or(row.value, f64::from));
            let said = [row.value, fitted, lstm, attention, ours];
            for (sum, said) in measured.errors[which].iter_mut().zip(said) {
                *sum += (said - actual).abs();
            }
        }
    }
    measured
}

/// What the library says about the next samples; `None` where no model of it fits.
fn fit(rows: &[Row], ahead: usize) -> Option<Vec<f64>> {
    let newest: Vec<f64> = rows[rows.len().saturating_sub(FITTED)..].iter().map(|row| row.value).collect();
    let forecast = AutoETS::new(1, "ZZN").ok()?.fit(&newest).ok()?.predict(ahead, None).ok()?;
    forecast.point.iter().all(|value| value.is_finite()).then_some(forecast.point)
}

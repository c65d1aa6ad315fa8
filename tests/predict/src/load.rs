//! Forecasts of a public web site's requests.
//!
//! Duty: forecast one and five minutes' sums at three distances each, beside the simple forecasts. Not here: the
//! models. Invariants: a forecast is scored against the sample it was made for; the first week is not scored, for
//! nobody; the average among the rivals has whatever rate suits it best in hindsight.

use hearth_predictor::{Cadence, Series};

use crate::{
    anomalies::narrow,
    dataset::Row,
    table::{self, Table, Wanted},
};

/// Not scored, in days: the season has to be seen once.
const LEARNING_DAYS: usize = 7;
/// Rates of the exponentially weighted average, of which the best one competes.
const RATES: [f64; 5] = [0.1, 0.2, 0.3, 0.5, 0.7];
const RIVALS: usize = 2 + RATES.len();

/// A series and the distances it is forecast at, in its own steps.
struct Task {
    name: &'static str,
    cadence: Cadence,
    rows: Vec<Row>,
    ahead: [u16; 3],
}

/// Sums over all scored samples of one distance.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    rivals: [f64; RIVALS],
    ours: f64,
    actual: f64,
    below: f64,
    count: f64,
}

/// What was said about a sample before it came.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    rivals: [f64; RIVALS],
    ours: f64,
    upper: f64,
}

pub(crate) fn tasks_of(minutes: &[Row]) -> [(Cadence, Vec<Row>); 2] {
    let fives = minutes
        .chunks_exact(5)
        .map(|chunk| Row { at: chunk[0].at, value: chunk.iter().map(|row| row.value).sum() });
    [(Cadence::every(60), minutes.to_vec()), (Cadence::every(300), fives.collect())]
}

pub(crate) fn run(minutes: &[Row]) {
    println!("## Load: WC98, {} minutes\n", minutes.len());
    let [one, five] = tasks_of(minutes);
    let tasks = [
        Task { name: "1 min", cadence: one.0, rows: one.1, ahead: [1, 5, 15] },
        Task { name: "5 min", cadence: five.0, rows: five.1, ahead: [1, 3, 12] },
    ];
    let mut table = Table::new(&["cell", "last", "seasonal", "EWMA", "ours", "ours/best", "below P95 %"]);
    let (mut logs, mut worst, mut cover) = (Vec::new(), 0.0f64, Vec::new());
    for task in &tasks {
        for (cell, ahead) in measure(task).iter().zip(task.ahead) {
            let wape = |sum: f64| 100.0 * sum / cell.actual;
            let [last, season, averages @ ..] = cell.rivals;
            let average = averages.into_iter().fold(f64::MAX, f64::min);
            let best = last.min(season).min(average);
            let ratio = cell.ours / best;
            let below = 100.0 * cell.below / cell.count;
            logs.push(ratio.ln());
            worst = worst.max(ratio);
            cover.push(below);
            let mut cells = vec![format!("{}, {ahead} ahead", task.name)];
            cells.extend([last, season, average, cell.ours].map(|sum| format!("{:.2}", wape(sum))));
            cells.extend([format!("{ratio:.3}"), format!("{below:.1}")]);
            table.row(cells);
        }
    }
    println!("weighted absolute percentage error\n{table}");
    let mean = (logs.iter().sum::<f64>() / 6.0).exp();
    table::target("WAPE beside the best rival of each cell, geometric mean", mean, 3, Wanted::AtMost(0.90));
    table::target("the worst cell", worst, 3, Wanted::AtMost(1.02));
    let least = cover.iter().copied().fold(f64::MAX, f64::min);
    let most = cover.iter().copied().fold(0.0, f64::max);
    table::target("samples below the P95 bound, least of any cell, %", least, 1, Wanted::Within(93.0, 97.0));
    table::target("samples below the P95 bound, most of any cell, %", most, 1, Wanted::Within(93.0, 97.0));
    println!();
}

fn measure(task: &Task) -> [Cell; 3] {
    let per_day = 86_400 / usize::try_from(task.cadence.seconds()).unwrap_or(1);
    let mut series = Series::new(task.cadence, task.ahead);
    let ahead = task.ahead.map(usize::from);
    let mut said = ahead.map(|ahead| vec![Said::default(); ahead]);
    let mut cells = [Cell::default(); 3];
    let mut averages = [task.rows.first().map_or(0.0, |row| row.value); RATES.len()];
    for (index, row) in task.rows.iter().enumerate() {
        for ((cell, said), &ahead) in cells.iter_mut().zip(&said).zip(&ahead) {
            if index >= LEARNING_DAYS * per_day {
                cell.score(&said[index % ahead], row.value);
            }
        }
        for (average, rate) in averages.iter_mut().zip(RATES) {
            *average += rate * (row.value - *average);
        }
        let observation = series.observe(row.at, narrow(row.value));
        for ((forecast, said), &ahead) in observation.forecasts.iter().zip(&mut said).zip(&ahead) {
            let yesterday =
                (index + ahead).checked_sub(per_day).map_or(row.value, |then| task.rows[then].value);
            let mut rivals = [row.value; RIVALS];
            rivals[1] = yesterday;
            rivals[2..].copy_from_slice(&averages);
            let (ours, upper) = forecast.map_or((row.value, row.value), |forecast| {
                (f64::from(forecast.expected), f64::from(forecast.upper))
            });
            said[index % ahead] = Said { rivals, ours, upper };
        }
    }
    cells
}

impl Cell {
    fn score(&mut self, said: &Said, actual: f64) {
        for (sum, rival) in self.rivals.iter_mut().zip(said.rivals) {
            *sum += (rival - actual).abs();
        }
        self.ours += (said.ours - actual).abs();
        self.actual += actual.abs();
        self.below += f64::from(u8::from(actual <= said.upper));
        self.count += 1.0;
    }
}

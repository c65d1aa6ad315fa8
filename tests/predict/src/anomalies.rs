//! Labelled anomalies: the detector beside simple ones.
//!
//! Duty: run detectors over every labelled series, row by row, and score their calls; then choose settings on one
//! random half of the series and score them on the other. Not here: the scoring rules.
//! Invariant: a detector is told the distance of its rows and then one row at a time, and nothing else: neither
//! how many there are, nor their range, nor which file they are from.

use std::collections::BTreeMap;

use hearth_predictor::{
    Cadence, Seconds, Series,
    anomaly::{ControlLimits, Settings, Verdict},
};

use crate::{
    dataset::{Labelled, Row},
    dice::Dice,
    nab::{self, PROFILES, Tally},
    table::{self, Table, Wanted},
};

/// The margins among which one half of the files chooses for the other.
const MARGINS: [f32; 7] = [1.02, 1.03, 1.045, 1.06, 1.08, 1.12, 1.16];
/// And everything else that can be set: half of the usual, the usual, twice the usual.
const OF_USUAL: [f32; 3] = [0.5, 1.0, 2.0];
const SPLITS: u64 = 20;

pub(crate) fn run(all: &[Labelled]) {
    println!(
        "## Anomalies: {} series, {} windows\n",
        all.len(),
        all.iter().map(|one| one.windows.len()).sum::<usize>()
    );
    let tallies = |detector: &dyn Fn(&[Row]) -> Vec<usize>| -> Vec<Tally> {
        all.iter().map(|series| nab::tally(series, &detector(&series.rows))).collect()
    };
    let default = tallies(&|rows| records(rows, &Settings::USUAL));

    let mut table = Table::new(&["detector", "standard", "low FP", "low FN", "missed", "false calls"]);
    let mut row = |name: &str, tallies: &[Tally]| {
        let mut cells = vec![name.to_owned()];
        cells.extend(PROFILES.iter().map(|&profile| format!("{:.1}", nab::score(tallies, profile))));
        cells.push(format!("{:.0}", tallies.iter().map(|tally| tally.missed).sum::<f64>()));
        cells.push(tallies.iter().map(|tally| tally.false_calls).sum::<usize>().to_string());
        table.row(cells);
    };
    row("records (default)", &default);
    // The rivals get the width or pace that is best for them over all files: they are not to look bad by accident.
    let best = |candidates: Vec<(String, Vec<Tally>)>| {
        let standard = |tallies: &[Tally]| nab::score(tallies, PROFILES[0]);
        candidates.into_iter().max_by(|left, right| standard(&left.1).total_cmp(&standard(&right.1)))
    };
    let widths = [3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0];
    let limits = |width: f32, quiet: usize| tallies(&|rows| control_limits(rows, width, quiet));
    let plain = widths.map(|width| (format!("EWMA limits, L = {width}"), limits(width, 0)));
    let quiet =
        widths.map(|width| (format!("EWMA limits, L = {width}, silent for a day"), limits(width, 288)));
    let every = [200, 300, 400, 600, 800].map(|pace| {
        let paced = |rows: &[Row]| (0..rows.len()).step_by(pace).collect();
        (format!("a call every {pace} rows"), tallies(&paced))
    });
    for candidates in [plain.to_vec(), quiet.to_vec(), every.to_vec()] {
        if let Some((name, tallies)) = best(candidates) {
            row(&name, &tallies);
        }
    }
    println!("{table}");
    by_folder(all, &default);
    for (profile, wanted) in PROFILES.into_iter().zip([70.0, 62.0, 75.0]) {
        let figure = nab::score(&default, profile);
        table::target(&format!("score, {}", profile.name), figure, 1, Wanted::AtLeast(wanted));
    }
    let scored = |all: Vec<Settings>| -> Vec<Vec<Tally>> {
        all.iter().map(|settings| tallies(&|rows| records(rows, settings))).collect()
    };
    halves("margin", &scored(margins().collect()));
    halves("all settings", &scored(everything()));
    println!();
}

/// Where the score comes from. A folder without windows has none.
fn by_folder(all: &[Labelled], tallies: &[Tally]) {
    let mut folders: BTreeMap<&str, Vec<Tally>> = BTreeMap::new();
    for (series, tally) in all.iter().zip(tallies) {
        let folder = series.name.split('/').next().unwrap_or_default();
        folders.entry(folder).or_default().push(*tally);
    }
    let mut table = Table::new(&["records, by folder", "standard", "windows", "missed", "false calls"]);
    for (folder, tallies) in folders {
        let windows: f64 = tallies.iter().map(|tally| tally.windows).sum();
        let standard = nab::score(&tallies, PROFILES[0]);
        table.row([
            folder.to_owned(),
            if windows > 0.0 { format!("{standard:.1}") } else { "-".to_owned() },
            format!("{windows:.0}"),
            format!("{:.0}", tallies.iter().map(|tally| tally.missed).sum::<f64>()),
            tallies.iter().map(|tally| tally.false_calls).sum::<usize>().to_string(),
        ]);
    }
    println!("{table}");
}

fn margins() -> impl Iterator<Item = Settings> {
    MARGINS.into_iter().map(|margin| Settings { margin, ..Settings::USUAL })
}

/// Every margin with every other setting.
fn everything() -> Vec<Settings> {
    let mut all: Vec<Settings> = margins().collect();
    let each = |all: Vec<Settings>, set: fn(&mut Settings, f32)| -> Vec<Settings> {
        let with = |settings: Settings| {
            OF_USUAL.map(|share| {
                let mut settings = settings;
                set(&mut settings, share);
                settings
            })
        };
        all.into_iter().flat_map(with).collect()
    };
    all = each(all, |settings, share| settings.level_span *= share);
    all = each(all, |settings, share| settings.long_span *= share);
    all = each(all, |settings, share| settings.slack *= share);
    all = each(all, |settings, share| settings.silence *= share);
    all
}

/// What is best on one random half, scored on the other.
fn halves(what: &str, ours: &[Vec<Tally>]) {
    let files = ours.first().map_or(0, Vec::len);
    let mut scores = Vec::new();
    for split in 0..SPLITS {
        let mut order: Vec<usize> = (0..files).collect();
        Dice::new(1000 + split).shuffle(&mut order);
        let (known, unknown) = order.split_at(files / 2);
        let on = |tallies: &[Tally], half: &[usize]| {
            nab::score(half.iter().map(|&file| &tallies[file]), PROFILES[0])
        };
        let best = ours.iter().max_by(|left, right| on(left, known).total_cmp(&on(right, known)));
        scores.extend(best.map(|best| on(best, unknown)));
    }
    scores.sort_by(f64::total_cmp);
    let mean = scores.iter().sum::<f64>() / f64::from(u32::try_from(scores.len()).unwrap_or(1));
    let what = format!(
        "score, standard, {what} ({} choices) chosen on the other half, mean of {SPLITS} (least {:.1}, most {:.1})",
        ours.len(),
        scores.first().copied().unwrap_or_default(),
        scores.last().copied().unwrap_or_default()
    );
    table::target(&what, mean, 1, Wanted::AtLeast(66.0));
}

fn records(rows: &[Row], settings: &Settings) -> Vec<usize> {
    // No forecasts: the detector does not look at them.
    let mut series = Series::<0>::new(cadence(rows), []);
    let called = |row: &Row| {
        let observation = series.observe_with(settings, row.at, narrow(row.value));
        observation.finding.is_some_and(|finding| finding.verdict == Verdict::Anomaly)
    };
    rows.iter().map(called).enumerate().filter(|&(_, called)| called).map(|(row, _)| row).collect()
}

fn control_limits(rows: &[Row], width: f32, quiet: usize) -> Vec<usize> {
    let mut limits = ControlLimits::new(200.0, width);
    let mut calls: Vec<usize> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let outside = limits.observe(narrow(row.value)).is_some_and(|distance| distance > 1.0);
        if outside && calls.last().is_none_or(|last| index - last > quiet) {
            calls.push(index);
        }
    }
    calls
}

/// The distance of most rows. A box knows how often it samples; files do not say.
pub(crate) fn cadence(rows: &[Row]) -> Cadence {
    let mut steps: Vec<u64> =
        rows.windows(2).map(|pair| seconds(pair[1].at).saturating_sub(seconds(pair[0].at))).collect();
    steps.sort_unstable();
    let middle = steps.get(steps.len() / 2).copied().unwrap_or(1);
    Cadence::every(u32::try_from(middle).unwrap_or(u32::MAX))
}

fn seconds(at: Seconds) -> u64 {
    at.0
}

#[expect(clippy::cast_possible_truncation, reason = "models take single precision")]
pub(crate) fn narrow(value: f64) -> f32 {
    value as f32
}

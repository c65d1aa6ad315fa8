//! `hearthctl forecast`: the last hours and the next.
//!
//! | file | what |
//! |---|---|
//! | `lesson.rs` | what was measured before, from a file |
//! | `plot.rs` | one metric in a terminal |
//! | `picture.rs` | all of them as SVG |
//!
//! Duty: what is foreseen as text. Not here: foreseeing (`hearth-foresight`).
//! Invariant: a metric that was not measured yet is not drawn as zero.

mod lesson;
mod picture;
mod plot;

use std::path::{Path, PathBuf};

use clap::Args;
use hearth_foresight::{ForecastView, Metric, MetricView, View};

use self::lesson::LessonFault;
use super::text::table;
use super::{Door, FAILED, USAGE, path, print};
use crate::api::client::{Client, ClientError, read};
use crate::api::types::Lesson;

/// Lines of a plot.
const ROWS: u16 = 10;
/// Columns of it without a terminal that says how many it has.
const COLUMNS: u16 = 100;

#[derive(Debug, Args)]
pub struct Forecast {
    /// By default the host
    workload: Option<String>,
    /// Only this: cpu, memory, disk, network, requests, latency, restarts, balloon or temperature
    #[arg(long, value_parser = metric)]
    metric: Option<Metric>,
    /// Writes a picture there, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Forgets what was learnt of it first
    #[arg(long)]
    reset: bool,
    /// Teaches what was measured before, here or by another box of the kind: lines SECONDS_SINCE_1970,VALUE
    ///
    /// Of requests per second, unless --metric says something else. A day tells the shape of days, a week that of weeks.
    /// What the box has measured itself counts on; with --reset it begins with this.
    #[arg(long, value_name = "FILE", requires = "workload")]
    teach: Option<PathBuf>,
}

fn metric(name: &str) -> Result<Metric, String> {
    let expected = || {
        let names: Vec<&str> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        format!("expected one of {}", names.join(", "))
    };
    Metric::of_name(name).ok_or_else(expected)
}

pub(super) fn run(door: &Door, client: &mut Client, asked: &Forecast) -> Result<u8, ClientError> {
    let to = |deed: &str| match &asked.workload {
        Some(workload) => path(workload, deed),
        None => format!("/v1{deed}"),
    };
    let mut body =
        if asked.reset { client.post(&to("/forecast/reset"), b"")? } else { client.get(&to("/forecast"))? };
    let mut view: View = read(&body)?;
    if let Some(file) = &asked.teach {
        let metric = asked.metric.unwrap_or(Metric::Requests);
        let lessons = match lessons(file, metric, view.sample_s) {
            Ok(lessons) => lessons,
            Err(words) => {
                eprintln!("hearthctl: --teach: {}{words}", file.display());
                return Ok(USAGE);
            }
        };
        for lesson in &lessons {
            let lesson = serde_json::to_vec(lesson).unwrap_or_default();
            body = client.post(&to("/forecast/teach"), &lesson)?;
        }
        view = read(&body)?;
    }
    if let Some(wanted) = asked.metric {
        view.metrics.retain(|metric| metric.metric == wanted.name());
        if view.metrics.is_empty() && !door.json {
            eprintln!("hearthctl: {} of {} was not measured yet", wanted.name(), title(&view));
            return Ok(FAILED);
        }
    }
    if let Some(file) = &asked.svg
        && let Err(error) = std::fs::write(file, picture::of(&view))
    {
        eprintln!("hearthctl: --svg: {}: {error}", file.display());
        return Ok(USAGE);
    }
    let columns = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(COLUMNS, |size| size.ws_col);
    print(door, &body, || drawn(&view, if columns == 0 { COLUMNS } else { columns }));
    Ok(0)
}

fn lessons(file: &Path, metric: Metric, sample_s: u32) -> Result<Vec<Lesson>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!(": {error}"))?;
    lesson::read(&text, metric.name(), sample_s).map_err(|fault| match fault {
        LessonFault::Line { .. } | LessonFault::Order { .. } => format!(":{fault}"),
        LessonFault::Empty | LessonFault::Long { .. } => format!(": {fault}"),
    })
}

fn title(view: &View) -> &str {
    if view.name.is_empty() { "the host" } else { &view.name }
}

fn drawn(view: &View, columns: u16) -> String {
    let mut text = String::new();
    for metric in &view.metrics {
        text.push_str(&format!("{}, {} in {}\n", title(view), metric.metric, metric.unit));
        text.push_str(&plot::of(metric, view.sample_s, columns, ROWS));
    }
    text.push_str(&lines(view));
    text
}

/// What `explain` tells of it.
pub(super) fn lines(view: &View) -> String {
    let mut text = "Foreseen\n".to_owned();
    let mut row = |line: String| text.push_str(&format!("  {line}\n"));
    if view.metrics.is_empty() {
        row("nothing was measured yet".to_owned());
    }
    let rows: Vec<Vec<String>> = view.metrics.iter().map(cells).collect();
    table(&rows).lines().for_each(|line| row(line.to_owned()));
    if let Some(advice) = &view.advice {
        let follows = if advice.automatic { "which the box follows" } else { "which is only shown" };
        let (least, most) = (advice.least, advice.most);
        row(format!(
            "{} replicas would do, of {least} to {most}, {follows}: {}",
            advice.replicas, advice.why
        ));
    }
    if let Some(balloon) = &view.balloon {
        let follows = if balloon.automatic { "which the box follows" } else { "which is only shown" };
        row(format!(
            "a balloon may leave {} MiB to each machine, {follows}: {}",
            balloon.left_mib, balloon.why
        ));
    }
    if let Some(keep) = &view.keep_warm {
        let follows = if keep.automatic { "which the box follows" } else { "which is only shown" };
        let (idle, most, lasts) = (keep.idle, keep.most, span(keep.lasts_s));
        row(format!("{idle} of at most {most} are to be kept warm for {lasts}, {follows}: {}", keep.why));
    }
    if let Some(memory) = &view.memory {
        row(format!(
            "{:.0} MiB of memory would do for a machine, of {}; it uses {:.0}",
            memory.enough_mib, memory.has_mib, memory.used_mib
        ));
    }
    text
}

fn cells(metric: &MetricView) -> Vec<String> {
    let number = |value: f32| format!("{value:.1}");
    let now = metric.samples.last().map_or_else(|| "-".to_owned(), |value| number(*value));
    let next = |forecast: &ForecastView| {
        let (expected, upper) = (number(forecast.expected), number(forecast.upper));
        format!("in {} {expected}, at most {upper}", span(forecast.ahead_s))
    };
    let furthest = metric.forecasts.last().map_or_else(String::new, next);
    let by = metric.forecasts.last().map_or_else(String::new, |forecast| format!("by {}", forecast.by));
    vec![
        metric.metric.clone(),
        format!("{now} {}", metric.unit),
        furthest,
        by,
        metric.finding.clone().unwrap_or_default(),
    ]
}

fn span(seconds: u32) -> String {
    if seconds.is_multiple_of(60) { format!("{} min", seconds / 60) } else { format!("{seconds} s") }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use hearth_foresight::{AdviceView, BalloonView, KeepView, MemoryView};

    pub(in crate::ctl) fn view() -> View {
        let forecast = |ahead_s: u32, expected: f32| ForecastView {
            ahead_s,
            expected,
            upper: expected + 10.0,
            by: "trend and season".to_owned(),
        };
        let metric = MetricView {
            metric: "cpu".to_owned(),
            unit: "%".to_owned(),
            samples: (0..60_u8).map(f32::from).collect(),
            forecasts: vec![forecast(60, 60.0), forecast(300, 65.0), forecast(900, 75.0)],
            finding: Some("normal".to_owned()),
            health: "still learning".to_owned(),
        };
        View {
            name: "web".to_owned(),
            sample_s: 60,
            metrics: vec![metric],
            verdict: "normal".to_owned(),
            advice: Some(AdviceView {
                replicas: 3,
                why: "41.0 requests per second foreseen, 60.0 at most".to_owned(),
                least: 1,
                most: 4,
                automatic: true,
            }),
            memory: Some(MemoryView { has_mib: 256, used_mib: 80.2, enough_mib: 92.3 }),
            balloon: Some(BalloonView {
                left_mib: 96,
                why: "a machine needs 61 MiB now".to_owned(),
                automatic: true,
            }),
            keep_warm: Some(KeepView {
                idle: 1,
                lasts_s: 240,
                why: "a call comes within 4 min by 83 %".to_owned(),
                most: 2,
                automatic: false,
            }),
        }
    }

    #[test]
    fn forecast_bound_decision_and_reason_are_told() {
        let expected = "\
Foreseen
  cpu  59.0 %  in 15 min 75.0, at most 85.0  by trend and season  normal
  3 replicas would do, of 1 to 4, which the box follows: 41.0 requests per second foreseen, 60.0 at most
  a balloon may leave 96 MiB to each machine, which the box follows: a machine needs 61 MiB now
  1 of at most 2 are to be kept warm for 4 min, which is only shown: a call comes within 4 min by 83 %
  92 MiB of memory would do for a machine, of 256; it uses 80
";
        assert_eq!(lines(&view()), expected);
        assert_eq!(lines(&View::default()), "Foreseen\n  nothing was measured yet\n");
        assert!(drawn(&view(), 80).starts_with("web, cpu in %\n"));
    }
}

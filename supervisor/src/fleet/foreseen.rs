//! What is foreseen, as figures for the fleet.
//!
//! Duty: which forecasts are worth a place in a birth, their names and bands. Not here: foreseeing.
//! Invariants: a figure that was there once stays while its series is known, so that births are rare; a forecast that moves by
//! less than somebody would act on is not told.

use hearth_fleet::figures::{Figure, Value};
use hearth_foresight::{Metric, Outlook};

/// Of what is foreseen of each series, the one in the middle: the nearest is over before a fleet looks at it.
const WHICH: usize = 1;
const BYTES_PER_MIB: f32 = 1_048_576.0;

pub(super) fn figures(outlooks: &[Outlook]) -> Vec<Figure> {
    outlooks.iter().flat_map(of_one).collect()
}

fn of_one(outlook: &Outlook) -> Vec<Figure> {
    let name = |what: &str| match &outlook.workload {
        Some(workload) => format!("Workloads/{workload}/{what}"),
        None => format!("Host/{what}"),
    };
    let mut figures = Vec::new();
    for series in &outlook.series {
        let Some((called, factor, least)) = told(series.metric) else { continue };
        let Some(ahead) = series.ahead.get(WHICH) else { continue };
        let figure = |what: &str, value: f32| {
            Figure::wide(name(&format!("Forecast/{called}{what}")), Value::Real(value * factor), least, 20)
        };
        figures.extend([figure("", ahead.expected), figure(" upper", ahead.upper)]);
    }
    let advised = [("Advised replicas", outlook.replicas), ("Advised warm", outlook.idle)];
    let advised = advised.into_iter().filter_map(|(what, count)| Some((what, count?)));
    figures.extend(advised.map(|(what, count)| Figure::exact(name(what), Value::Whole(count.into()))));
    figures
}

/// What it is called, what makes the fleet's unit of the box's, and by how much it has to move: percent of a processor,
/// bytes, requests per second.
const fn told(metric: Metric) -> Option<(&'static str, f32, f64)> {
    match metric {
        Metric::Cpu => Some(("Cpu", 1.0, 10.0)),
        Metric::Memory => Some(("Memory", BYTES_PER_MIB, 16.0 * BYTES_PER_MIB as f64)),
        Metric::Requests => Some(("Requests", 1.0, 1.0)),
        Metric::Disk
        | Metric::Network
        | Metric::Latency
        | Metric::Restarts
        | Metric::Balloon
        | Metric::Temperature => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_foresight::{Ahead, SeriesOutlook};

    fn outlook(workload: Option<&str>, metric: Metric, distances: u32) -> Outlook {
        let ahead = |seconds| Ahead { seconds, expected: 2.0, upper: 4.0 };
        Outlook {
            workload: workload.map(str::to_owned),
            series: vec![SeriesOutlook {
                metric,
                now: Some(1.0),
                ahead: (1..=distances).map(ahead).collect(),
                score: None,
                benched: false,
            }],
            replicas: workload.map(|_| 2),
            idle: None,
        }
    }

    #[test]
    fn what_a_fleet_acts_on_has_forecast_and_bound_under_names_of_its_owner() {
        let outlooks = [
            outlook(None, Metric::Memory, 3),
            outlook(Some("web"), Metric::Requests, 3),
            outlook(Some("db"), Metric::Latency, 3),
            outlook(Some("new"), Metric::Cpu, 0),
        ];
        let told: Vec<(String, Value)> =
            figures(&outlooks).into_iter().map(|figure| (figure.name.into_owned(), figure.value)).collect();
        let real = |name: &str, value| (name.to_owned(), Value::Real(value));
        let whole = |name: &str| (name.to_owned(), Value::Whole(2));
        assert_eq!(
            told,
            [
                real("Host/Forecast/Memory", 2_097_152.0),
                real("Host/Forecast/Memory upper", 4_194_304.0),
                real("Workloads/web/Forecast/Requests", 2.0),
                real("Workloads/web/Forecast/Requests upper", 4.0),
                whole("Workloads/web/Advised replicas"),
                whole("Workloads/db/Advised replicas"),
                whole("Workloads/new/Advised replicas"),
            ]
        );
    }
}

//! One metric in a terminal.
//!
//! Duty: past, expectation and bound as dots, with their scale. Not here: which metrics.
//! Invariant: it is as wide and high as asked, whatever the numbers are.

use hearth_foresight::MetricView;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::symbols::Marker;
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget};

/// Below this there is no room for dots beside the scale.
const LEAST_COLUMNS: u16 = 30;
/// Hours are told above this, minutes below.
const SECONDS_OF_HOURS: f64 = 7200.0;

/// Now is where the line of the past ends; what is expected stands behind it as points, its bound as blocks. Labels of the
/// axis would be spread evenly, so none says where now is.
pub(super) fn of(metric: &MetricView, sample_s: u32, columns: u16, rows: u16) -> String {
    let curves = Curves::of(metric, sample_s);
    let area = Rect::new(0, 0, columns.max(LEAST_COLUMNS), rows);
    let mut buffer = Buffer::empty(area);
    let (left, right) = curves.time();
    let (low, high) = curves.range();
    let set = |data| Dataset::default().graph_type(GraphType::Line).data(data);
    let chart = Chart::new(vec![
        set(&curves.past).marker(Marker::Braille),
        set(&curves.expected).marker(Marker::Dot).graph_type(GraphType::Scatter),
        set(&curves.upper).marker(Marker::Block).graph_type(GraphType::Scatter),
    ]);
    let chart = chart
        .x_axis(Axis::default().bounds([left, right]).labels([ago(left), ahead(right)]))
        .y_axis(Axis::default().bounds([low, high]).labels([format!("{low:.0}"), format!("{high:.0}")]));
    chart.render(area, &mut buffer);
    let mut text = String::new();
    for row in 0..area.height {
        let line: String = (0..area.width).map(|column| buffer[(column, row)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Points of time, in seconds from now, and value.
pub(super) struct Curves {
    pub(super) past: Vec<(f64, f64)>,
    pub(super) expected: Vec<(f64, f64)>,
    pub(super) upper: Vec<(f64, f64)>,
}

impl Curves {
    pub(super) fn of(metric: &MetricView, sample_s: u32) -> Curves {
        let newest_first = metric.samples.iter().rev();
        let past = newest_first
            .zip(0_u32..)
            .map(|(value, age)| (-f64::from(age.saturating_mul(sample_s)), f64::from(*value)));
        let ahead = |value: fn(&hearth_foresight::ForecastView) -> f32| {
            let at = |one| (f64::from(one_ahead(one)), f64::from(value(one)));
            metric.forecasts.iter().map(at).collect()
        };
        Curves { past: past.collect(), expected: ahead(|one| one.expected), upper: ahead(|one| one.upper) }
    }

    /// From the oldest sample to the furthest forecast.
    pub(super) fn time(&self) -> (f64, f64) {
        let oldest = self.past.last().map_or(-1.0, |(at, _)| *at);
        let furthest = self.expected.last().map_or(0.0, |(at, _)| *at);
        (oldest.min(-1.0), furthest.max(1.0))
    }

    /// Zero is always in it: half of little is little.
    pub(super) fn range(&self) -> (f64, f64) {
        let values = self.past.iter().chain(&self.expected).chain(&self.upper).map(|(_, value)| *value);
        let (low, high) =
            values.fold((0.0_f64, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        if high > low { (low, high) } else { (low, low + 1.0) }
    }
}

fn one_ahead(forecast: &hearth_foresight::ForecastView) -> u32 {
    forecast.ahead_s
}

pub(super) fn ago(seconds: f64) -> String {
    format!("{} ago", span(-seconds))
}

pub(super) fn ahead(seconds: f64) -> String {
    format!("in {}", span(seconds))
}

fn span(seconds: f64) -> String {
    if seconds >= SECONDS_OF_HOURS {
        format!("{:.1} h", seconds / 3600.0)
    } else {
        format!("{:.0} min", seconds / 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::forecast::tests::view;

    #[test]
    fn a_plot_has_its_scale_and_the_past_rises_to_now() {
        let text = of(&view().metrics[0], 60, 60, 10);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 10, "{text}");
        assert!(lines[0].starts_with("85") && text.contains("59 min ago"), "{text}");
        assert!(lines[9].ends_with("in 15 min") && !text.contains("now"), "{text}");
        let dots = |line: &str| line.chars().filter(|one| ('\u{2801}'..='\u{28ff}').contains(one)).count();
        assert!(lines.iter().any(|line| dots(line) > 0), "{text}");
        assert!(text.contains('•') && text.contains('█'), "{text}");
    }

    #[test]
    fn nothing_and_strange_numbers_are_drawn_as_well() {
        let mut metric = view().metrics.remove(0);
        metric.samples.clear();
        metric.forecasts.clear();
        assert_eq!(of(&metric, 60, 10, 10).lines().count(), 10);
        metric.samples = vec![0.0, 0.0, f32::MAX];
        assert_eq!(of(&metric, u32::MAX, 500, 10).lines().count(), 10);
    }
}

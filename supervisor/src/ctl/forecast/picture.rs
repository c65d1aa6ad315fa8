//! All metrics as one SVG.
//!
//! Duty: the same curves as in a terminal. Not here: files.
//! Invariant: it is one file without references, and names in it are escaped.

use hearth_foresight::{MetricView, View};

use super::plot::{Curves, ago, ahead};
use super::title;

/// Of one panel, in pixels.
const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 160.0;
/// Around its curves.
const LEFT: f64 = 60.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 20.0;

pub(super) fn of(view: &View) -> String {
    let panels = u16::try_from(view.metrics.len().max(1)).map_or(1.0, f64::from);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        panels * HEIGHT
    );
    let mut top = 0.0;
    for metric in &view.metrics {
        panel(&mut svg, title(view), metric, view.sample_s, top);
        top += HEIGHT;
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, name: &str, metric: &MetricView, sample_s: u32, top: f64) {
    let curves = Curves::of(metric, sample_s);
    let ((begin, end), (low, high)) = (curves.time(), curves.range());
    let (width, height) = (WIDTH - 2.0 * LEFT, HEIGHT - TOP - BOTTOM);
    let x = |at: f64| LEFT + width * (at - begin) / (end - begin);
    let y = |value: f64| top + TOP + height * (high - value) / (high - low);
    let mut text = |left: f64, down: f64, anchor: &str, words: &str| {
        let words = escaped(words);
        svg.push_str(&format!(
            "<text x=\"{left:.1}\" y=\"{down:.1}\" text-anchor=\"{anchor}\">{words}</text>\n"
        ));
    };
    text(LEFT, top + 15.0, "start", &format!("{name}: {} in {}", metric.metric, metric.unit));
    text(LEFT - 6.0, y(high) + 8.0, "end", &format!("{high:.0}"));
    text(LEFT - 6.0, y(low), "end", &format!("{low:.0}"));
    text(LEFT, top + HEIGHT - 5.0, "start", &ago(begin));
    text(x(0.0), top + HEIGHT - 5.0, "middle", "now");
    text(WIDTH - LEFT, top + HEIGHT - 5.0, "end", &ahead(end));
    svg.push_str(&format!(
        "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{width}\" height=\"{height}\" fill=\"none\" stroke=\"#ccc\"/>\n",
        top + TOP
    ));
    for (points, style) in [
        (&curves.past, "stroke=\"#2a6\""),
        (&curves.expected, "stroke=\"#26c\" stroke-dasharray=\"5 3\""),
        (&curves.upper, "stroke=\"#c62\" stroke-dasharray=\"2 3\""),
    ] {
        let points: Vec<String> =
            points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
        svg.push_str(&format!("<polyline fill=\"none\" {style} points=\"{}\"/>\n", points.join(" ")));
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::forecast::tests::view;

    #[test]
    fn a_picture_has_three_curves_for_each_metric_within_its_panel() {
        let mut view = view();
        view.name = "a<b".to_owned();
        view.metrics.push(view.metrics[0].clone());
        let svg = of(&view);
        assert_eq!(svg.matches("<polyline").count(), 6);
        assert!(svg.contains("a&lt;b: cpu in %") && svg.contains("viewBox=\"0 0 800 320\""), "{svg}");
        let numbers = svg.lines().filter_map(|line| line.split_once("points=\"")).flat_map(|(_, rest)| {
            rest.trim_end_matches("\"/>").split([' ', ',']).map(|word| word.parse::<f64>().unwrap())
        });
        assert!(numbers.into_iter().all(|number| (0.0..=800.0).contains(&number)), "{svg}");
    }
}

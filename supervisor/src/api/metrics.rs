//! What Prometheus scrapes.
//!
//! Duty: the text format, with its conventional names: base units, `_total` for what only grows. Not here: counting.
//! Invariant: series are bounded by the workloads that there are and the kinds of events.

use std::fmt::Write;

use hearth_core::{CallStory, Explanation};
use hearth_foresight::{Metric, Outlook};

use super::types::{BoxStatus, WorkloadStatus};
use crate::logs::Counted;

pub(super) const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Families of one scrape, one after the other.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    fn family(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (String, String)>,
    ) {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in samples {
            let _ = writeln!(self.text, "{name}{labels} {value}");
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.text.into_bytes()
    }

    /// How the box stands.
    pub(super) fn status(&mut self, status: &BoxStatus) {
        let one = |value: usize| [(String::new(), value.to_string())];
        let version = labels(&[("version", &status.version)]);
        self.family("hearth_build_info", "gauge", "The daemon's version.", [(version, "1".to_owned())]);
        let phase = labels(&[("phase", &status.phase)]);
        self.family("hearth_box_phase", "gauge", "What the box is doing.", [(phase, "1".to_owned())]);
        self.family("hearth_workloads", "gauge", "Workloads that the box knows.", one(status.of));
        self.family("hearth_workloads_good", "gauge", "Those that are as they should be.", one(status.ready));
        let each = |value: &dyn Fn(&WorkloadStatus) -> usize| -> Vec<(String, String)> {
            let named = |name: &str| labels(&[("workload", name)]);
            status.workloads.iter().map(|one| (named(&one.name), value(one).to_string())).collect()
        };
        let wanted = each(&|workload| workload.replicas_wanted);
        self.family("hearth_workload_replicas_wanted", "gauge", "Replicas that are wanted.", wanted);
        let ready = each(&|workload| workload.replicas_ready);
        self.family("hearth_workload_replicas_ready", "gauge", "Replicas that are ready.", ready);
        let good = each(&|workload| usize::from(workload.good));
        self.family("hearth_workload_good", "gauge", "Whether it is as it should be.", good);
        let quarantined = each(&|workload| usize::from(workload.state == "quarantined"));
        self.family("hearth_workload_quarantined", "gauge", "Whether somebody has to retry it.", quarantined);
        let restarts = each(&|workload| usize::from(workload.restarts_in_window));
        self.family(
            "hearth_workload_restarts_in_window",
            "gauge",
            "Restarts that its budget counts.",
            restarts,
        );
    }

    /// Calls of functions, and what waits for more of them.
    pub(super) fn calls(&mut self, stories: &[Explanation]) {
        let functions =
            || stories.iter().filter_map(|story| Some((story.name.as_str(), story.calls.as_ref()?)));
        let calls = functions().flat_map(|(name, calls)| {
            let start = |how, count: u64| (labels(&[("workload", name), ("start", how)]), count.to_string());
            [start("cold", calls.cold), start("warm", calls.calls.saturating_sub(calls.cold))]
        });
        let calls: Vec<_> = calls.collect();
        self.family("hearth_function_calls_total", "counter", "Calls by whether a machine was ready.", calls);
        let each = |value: fn(&CallStory) -> u16| -> Vec<_> {
            functions()
                .map(|(name, calls)| (labels(&[("workload", name)]), value(calls).to_string()))
                .collect()
        };
        let in_use = each(|calls| calls.in_use);
        self.family("hearth_function_machines_in_use", "gauge", "Machines that are called for.", in_use);
        let idle = each(|calls| calls.idle);
        self.family("hearth_function_machines_idle", "gauge", "Machines kept for the next call.", idle);
    }

    /// What is foreseen: of workloads by name, of the box without one.
    pub(super) fn foreseen(&mut self, outlooks: &[Outlook]) {
        let mut families: [Vec<(String, String)>; 5] = Default::default();
        for outlook in outlooks {
            for series in &outlook.series {
                let (metric, factor) = base(series.metric);
                let workload = outlook.workload.as_deref().map(|name| ("workload", name));
                let with = |more: Option<(&str, &str)>| {
                    labels(&workload.into_iter().chain([("metric", metric)]).chain(more).collect::<Vec<_>>())
                };
                let value = |value: f32| rounded(f64::from(value) * factor);
                let [now, expected, upper, score, benched] = &mut families;
                now.extend(series.now.map(|now| (with(None), value(now))));
                for ahead in &series.ahead {
                    let named = with(Some(("ahead", &format!("{}s", ahead.seconds))));
                    expected.push((named.clone(), value(ahead.expected)));
                    upper.push((named, value(ahead.upper)));
                }
                score.extend(series.score.map(|score| (with(None), rounded(f64::from(score)))));
                benched.push((with(None), u8::from(series.benched).to_string()));
            }
        }
        let [now, expected, upper, score, benched] = families;
        self.family("hearth_measured", "gauge", "The newest sample that forecasts begin with.", now);
        self.family("hearth_forecast", "gauge", "What is expected so far ahead.", expected);
        self.family("hearth_forecast_upper", "gauge", "What 95 of 100 samples will not exceed.", upper);
        self.family(
            "hearth_odd_score",
            "gauge",
            "How odd the newest sample is, 0 to 1; from 0.5 on as never before.",
            score,
        );
        self.family(
            "hearth_forecast_benched",
            "gauge",
            "Whether the last value stands in for forecasts.",
            benched,
        );
        let each = |value: fn(&Outlook) -> Option<u16>| -> Vec<(String, String)> {
            let known = outlooks.iter().filter_map(|one| Some((one.workload.as_deref()?, value(one)?)));
            known.map(|(name, value)| (labels(&[("workload", name)]), value.to_string())).collect()
        };
        let replicas = each(|one| one.replicas);
        self.family("hearth_advised_replicas", "gauge", "Replicas that would do.", replicas);
        let idle = each(|one| one.idle);
        self.family("hearth_advised_machines_idle", "gauge", "Idle machines that are worth it.", idle);
    }

    /// What was announced, by kind and workload.
    pub(super) fn events<'e>(&mut self, counts: impl Iterator<Item = (&'e str, &'e str, u64)>) {
        let samples: Vec<(String, String)> = counts
            .map(|(kind, workload, count)| {
                let known = if workload.is_empty() {
                    &[("kind", kind)][..]
                } else {
                    &[("kind", kind), ("workload", workload)]
                };
                (labels(known), count.to_string())
            })
            .collect();
        self.family("hearth_events_total", "counter", "Announcements since the daemon began.", samples);
    }

    pub(super) fn logs(&mut self, counted: &[(String, Counted)]) {
        let each = |value: fn(&Counted) -> u64| -> Vec<(String, String)> {
            counted
                .iter()
                .map(|(name, one)| (labels(&[("workload", name)]), value(one).to_string()))
                .collect()
        };
        let bytes = each(|one| one.bytes);
        self.family("hearth_log_bytes_total", "counter", "Bytes taken into log files.", bytes);
        let dropped = each(|one| one.dropped_lines);
        self.family("hearth_log_dropped_lines_total", "counter", "Lines that were not kept.", dropped);
    }

    /// The daemon itself, from what the kernel says in `/proc/self/status` and `/proc/self/stat`.
    pub(super) fn process(&mut self, status: &str, stat: &str) {
        if let Some(kib) = resident_kib(status) {
            let bytes = [(String::new(), (kib * 1024).to_string())];
            self.family("process_resident_memory_bytes", "gauge", "Memory of the daemon.", bytes);
        }
        if let Some(ticks) = cpu_ticks(stat) {
            let seconds = [(String::new(), format!("{}.{:02}", ticks / TICKS_PER_S, ticks % TICKS_PER_S))];
            self.family("process_cpu_seconds_total", "counter", "Processor time of the daemon.", seconds);
        }
    }
}

/// Name with its unit, and what makes that unit of the box's own.
const fn base(metric: Metric) -> (&'static str, f64) {
    const MIB: f64 = 1_048_576.0;
    match metric {
        Metric::Cpu => ("cpu_ratio", 0.01),
        Metric::Memory => ("memory_bytes", MIB),
        Metric::Disk => ("disk_bytes_per_second", 1024.0),
        Metric::Network => ("network_bytes_per_second", 1024.0),
        Metric::Requests => ("requests_per_second", 1.0),
        Metric::Latency => ("latency_seconds", 0.001),
        Metric::Restarts => ("restarts_per_hour", 1.0),
        Metric::Balloon => ("balloon_bytes", MIB),
        Metric::Temperature => ("temperature_celsius", 1.0),
    }
}

/// Without the digits that only the change of units brought.
fn rounded(value: f64) -> String {
    ((value * 1e6).round() / 1e6).to_string()
}

/// Linux promises programs that its ticks are hundredths, whatever it counts in itself.
const TICKS_PER_S: u64 = 100;

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// User's and system's, the 14th and 15th field. The second is a name in parentheses that may hold spaces.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn labels(pairs: &[(&str, &str)]) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let inner: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", quoted(value))).collect();
    format!("{{{}}}", inner.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_foresight::{Ahead, SeriesOutlook};

    #[test]
    fn a_family_is_told_once_with_a_sample_for_each_workload() {
        let mut page = Page::default();
        page.events([("failed", "web", 3), ("stopping", "", 1)].into_iter());
        let counted = Counted { bytes: 10, dropped_lines: 2 };
        page.logs(&[("web".to_owned(), counted)]);
        let expected = "\
# HELP hearth_events_total Announcements since the daemon began.
# TYPE hearth_events_total counter
hearth_events_total{kind=\"failed\",workload=\"web\"} 3
hearth_events_total{kind=\"stopping\"} 1
# HELP hearth_log_bytes_total Bytes taken into log files.
# TYPE hearth_log_bytes_total counter
hearth_log_bytes_total{workload=\"web\"} 10
# HELP hearth_log_dropped_lines_total Lines that were not kept.
# TYPE hearth_log_dropped_lines_total counter
hearth_log_dropped_lines_total{workload=\"web\"} 2
";
        assert_eq!(String::from_utf8(page.into_bytes()).unwrap(), expected);
    }

    #[test]
    fn what_is_foreseen_has_base_units_and_the_boxs_own_has_no_workload() {
        let ahead = |seconds, expected| Ahead { seconds, expected, upper: expected * 2.0 };
        let series = |metric, now, ahead| SeriesOutlook {
            metric,
            now: Some(now),
            ahead: vec![ahead],
            score: Some(0.25),
            benched: metric == Metric::Memory,
        };
        let outlook = |workload: Option<&str>, series| Outlook {
            workload: workload.map(str::to_owned),
            series: vec![series],
            replicas: workload.map(|_| 3),
            idle: None,
        };
        let mut page = Page::default();
        page.foreseen(&[
            outlook(None, series(Metric::Memory, 2.0, ahead(60, 3.0))),
            outlook(Some("web"), series(Metric::Cpu, 42.0, ahead(900, 50.0))),
        ]);
        let text = String::from_utf8(page.into_bytes()).unwrap();
        let told: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            told,
            [
                "hearth_measured{metric=\"memory_bytes\"} 2097152",
                "hearth_measured{workload=\"web\",metric=\"cpu_ratio\"} 0.42",
                "hearth_forecast{metric=\"memory_bytes\",ahead=\"60s\"} 3145728",
                "hearth_forecast{workload=\"web\",metric=\"cpu_ratio\",ahead=\"900s\"} 0.5",
                "hearth_forecast_upper{metric=\"memory_bytes\",ahead=\"60s\"} 6291456",
                "hearth_forecast_upper{workload=\"web\",metric=\"cpu_ratio\",ahead=\"900s\"} 1",
                "hearth_odd_score{metric=\"memory_bytes\"} 0.25",
                "hearth_odd_score{workload=\"web\",metric=\"cpu_ratio\"} 0.25",
                "hearth_forecast_benched{metric=\"memory_bytes\"} 1",
                "hearth_forecast_benched{workload=\"web\",metric=\"cpu_ratio\"} 0",
                "hearth_advised_replicas{workload=\"web\"} 3",
            ]
        );
    }

    #[test]
    fn memory_and_time_are_read_from_what_the_kernel_says() {
        let mut page = Page::default();
        let stat = "42 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 75 0 0 20 0";
        page.process("Name:\tx\nVmRSS:\t    2048 kB\n", stat);
        let text = String::from_utf8(page.into_bytes()).unwrap();
        assert!(text.contains("\nprocess_resident_memory_bytes 2097152\n"), "{text}");
        assert!(text.contains("\nprocess_cpu_seconds_total 2.25\n"), "{text}");
    }

    #[test]
    fn labels_cannot_break_out_of_their_quotes() {
        assert_eq!(labels(&[("a", "x\"y\\z\n")]), "{a=\"x\\\"y\\\\z\\n\"}");
    }
}

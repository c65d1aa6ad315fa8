//! One workload, or the host.
//!
//! Duty: ticks into samples, samples into its series, and one verdict about all of them. Not here: how many replicas it
//! should have (`scaling`), who else is strange (`foresight`).
//! Invariant: a metric that was never measured takes no memory; one incident is one call, however many metrics show it.

use std::collections::BTreeMap;

use hearth_predictor::anomaly::{Ballot, Finding, Jury, Verdict, vote};
use hearth_predictor::forecast::Forecast;
use hearth_predictor::sizing::{Usage, Vertical, VerticalPolicy};
use hearth_predictor::{Cadence, Seconds, Series};

use crate::metric::{Metric, Reading};
use crate::scaling::{Requests, count};

/// How far ahead each series looks, in samples. The first covers the start of any replica.
pub(crate) const AHEAD: [u16; 3] = [1, 5, 15];
/// Samples after a call in which the same workload is not called again.
const QUIET: u32 = 10;
/// Samples without anything odd, after which what was odd is over.
const OVER: u32 = 3;
/// Half of what is known of memory is of the last day.
const MEMORY_HALF_LIFE_S: f32 = 86_400.0;
/// Memory that is used more than this share of the time is meant by "used"; with so much on top it is enough.
const MEMORY_SHARE: f32 = 0.98;
const MEMORY_MARGIN: f32 = 1.15;
/// MiB without which no guest comes up.
const LEAST_MIB: f32 = 32.0;

pub(crate) type Model = Series<{ AHEAD.len() }>;

#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) series: BTreeMap<Metric, Seen>,
    pub(crate) requests: Requests,
    /// MiB that one machine has; none: the host.
    pub(crate) memory_mib: Option<u32>,
    pub(crate) usage: Usage,
    /// When it became strange, and how strange it is.
    pub(crate) onset: Option<Seconds>,
    pub(crate) distance: f32,
    pub(crate) verdict: Verdict,
    /// Samples since the last call, and since the last oddity.
    since_call: u32,
    since_odd: u32,
    pub(crate) restarts: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) model: Box<Model>,
    sum: f32,
    ticks: u32,
    pub(crate) finding: Option<Finding>,
    /// When it became strange, and how strange it is.
    pub(crate) onset: Option<Seconds>,
    pub(crate) distance: f32,
    since_odd: u32,
}

impl Seen {
    pub(crate) fn new(model: Model) -> Seen {
        Seen {
            model: Box::new(model),
            sum: 0.0,
            ticks: 0,
            finding: None,
            onset: None,
            distance: 0.0,
            since_odd: OVER,
        }
    }

    fn note(&mut self, at: Seconds, verdict: Verdict, score: f32) {
        if verdict == Verdict::Odd || verdict == Verdict::Anomaly {
            self.since_odd = 0;
            self.onset = self.onset.or(Some(at));
            // A score of a half is as far as it ever was.
            self.distance = 2.0 * score;
        } else {
            self.since_odd = self.since_odd.saturating_add(1);
            if self.since_odd >= OVER {
                self.onset = None;
            }
        }
    }

    pub(crate) fn forecast(&self, which: usize) -> Option<Forecast> {
        self.model.forecaster().forecast(which)
    }
}

impl Watched {
    pub(crate) fn new(memory_mib: Option<u32>) -> Watched {
        Watched {
            series: BTreeMap::new(),
            requests: Requests::default(),
            memory_mib,
            usage: Usage::new(memory_mib.map_or(1.0, count), MEMORY_HALF_LIFE_S),
            onset: None,
            distance: 0.0,
            verdict: Verdict::Settling,
            since_call: QUIET,
            since_odd: OVER,
            restarts: 0,
        }
    }

    pub(crate) fn tick(&mut self, reading: &Reading, sample_s: u32) {
        for metric in Metric::ALL {
            let Some(value) = reading.get(metric) else { continue };
            let new = || Seen::new(Model::new(Cadence::every(sample_s), AHEAD));
            let seen = self.series.entry(metric).or_insert_with(new);
            seen.sum += value;
            seen.ticks += 1;
        }
    }

    /// The model alone learns: what was odd elsewhere, or long ago, is nobody's call.
    pub(crate) fn teach(&mut self, metric: Metric, from: Seconds, values: &[f32], sample_s: u32) {
        let new = || Seen::new(Model::new(Cadence::every(sample_s), AHEAD));
        let seen = self.series.entry(metric).or_insert_with(new);
        let mut at = from;
        for value in values {
            at = at.after(u64::from(sample_s));
            let _ = seen.model.observe(at, *value);
        }
    }

    /// All ticks since the last sample become one. What is to be called, if anything is.
    pub(crate) fn sample(&mut self, at: Seconds, machines: u16) -> Option<String> {
        let (mut ballots, mut odd, mut called) = (Vec::new(), Vec::new(), None);
        for (metric, seen) in &mut self.series {
            if seen.ticks == 0 {
                // A gap: the model knows what to do about those.
                seen.finding = None;
                continue;
            }
            let value = seen.sum / count(seen.ticks);
            (seen.sum, seen.ticks) = (0.0, 0);
            seen.finding = seen.model.observe(at, value).finding;
            let Some(Finding { score, verdict, reason }) = seen.finding else { continue };
            ballots.push(Ballot { verdict, score, weight: 1.0 });
            seen.note(at, verdict, score);
            if verdict == Verdict::Odd || verdict == Verdict::Anomaly {
                odd.push(metric.name());
            }
            if verdict == Verdict::Anomaly && called.is_none() {
                called = Some(format!("{} in {}: {reason}", metric.name(), metric.unit()));
            }
            if *metric == Metric::Memory && machines > 0 {
                self.usage.observe(at, value / f32::from(machines));
            }
        }
        let (verdict, score) = vote(Jury::default(), &ballots);
        self.verdict = verdict;
        self.since_call = self.since_call.saturating_add(1);
        if odd.is_empty() {
            self.since_odd = self.since_odd.saturating_add(1);
            if self.since_odd >= OVER {
                self.onset = None;
            }
        } else {
            self.since_odd = 0;
            self.onset = self.onset.or(Some(at));
            // A score of a half is as far as it ever was.
            self.distance = 2.0 * score;
        }
        if verdict != Verdict::Anomaly || self.since_call <= QUIET {
            return None;
        }
        self.since_call = 0;
        Some(called.unwrap_or_else(|| format!("{} are odd at the same time", odd.join(", "))))
    }

    /// Requests per second when a replica that is started now serves.
    pub(crate) fn requests_ahead(&self) -> Option<(f32, f32)> {
        let forecast = self.series.get(&Metric::Requests)?.forecast(0)?;
        Some((forecast.expected, forecast.upper))
    }

    /// How much memory would do for one of its machines.
    pub(crate) fn memory(&self) -> Option<Vertical> {
        let has = count(self.memory_mib?);
        let policy =
            VerticalPolicy { least: LEAST_MIB, most: has, share: MEMORY_SHARE, margin: MEMORY_MARGIN };
        policy.advise(&self.usage, has)
    }
}

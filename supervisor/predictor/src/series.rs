//! One metric of one workload: its forecasts and its anomalies.
//!
//! Duty: feed both models from one stream, and share between them what is usual at a time. Not here: what several
//! series say together. Invariant: a sample is judged before anything learns it.

use serde::{Deserialize, Serialize};

use crate::{
    anomaly::{Detector, Finding, Settings, Verdict},
    forecast::{Forecast, Forecaster},
    health::Health,
    number,
    time::{Cadence, Seconds},
};

/// Samples over which calls are counted.
const CALL_SPAN: f32 = 2000.0;

/// What a sample led to.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation<const H: usize> {
    /// `None` for a sample that is no number.
    pub finding: Option<Finding>,
    pub forecasts: [Option<Forecast>; H],
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series<const H: usize> {
    forecaster: Forecaster<H>,
    detector: Detector,
    /// The recent share of samples that were called.
    calls: f32,
    seen: u32,
}

impl<const H: usize> Series<H> {
    /// Forecasts so many samples ahead.
    pub fn new(cadence: Cadence, ahead: [u16; H]) -> Self {
        Series {
            forecaster: Forecaster::new(cadence, ahead),
            detector: Detector::default(),
            calls: 0.0,
            seen: 0,
        }
    }

    pub fn observe(&mut self, at: Seconds, value: f32) -> Observation<H> {
        self.observe_with(&Settings::USUAL, at, value)
    }

    /// With a policy's settings of the detector.
    pub fn observe_with(&mut self, settings: &Settings, at: Seconds, value: f32) -> Observation<H> {
        let finding = self.detector.observe(settings, self.forecaster.season(), at, value);
        self.forecaster.observe(at, value);
        if let Some(finding) = finding {
            let called = if finding.verdict == Verdict::Anomaly { 1.0 } else { 0.0 };
            self.calls = number::blend(self.calls, called, self.seen, CALL_SPAN);
            self.seen = self.seen.saturating_add(1);
        }
        Observation { finding, forecasts: self.forecaster.forecasts() }
    }

    /// How far its models can be trusted now.
    pub fn health(&self) -> Health {
        let nearest = self.forecaster.forecast(0);
        Health::of(nearest.as_ref(), self.calls, self.seen, self.forecaster.cadence())
    }

    pub fn forecaster(&self) -> &Forecaster<H> {
        &self.forecaster
    }

    /// Whether a restored series can be believed.
    pub(crate) fn is_sound(&self) -> bool {
        self.forecaster.is_sound() && self.detector.is_sound() && (0.0..=1.0).contains(&self.calls)
    }
}

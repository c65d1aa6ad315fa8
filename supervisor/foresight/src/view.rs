//! What is foreseen, for people and programs.
//!
//! Duty: the past, the next, the bounds and the reasons of one workload. Not here: text, pictures.
//! Invariant: it looks and changes nothing.

use hearth_predictor::anomaly::{Finding, Verdict};
use serde::{Deserialize, Serialize};

use crate::foresight::Foresight;
use crate::keeping::Keeping;
use crate::lending::Lending;
use crate::scaling::Scaling;
use crate::watched::{AHEAD, Seen, Watched};

/// Samples of the past that are told: with one a minute, five hours.
const SAMPLES: u32 = 300;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Empty: the host.
    pub name: String,
    pub sample_s: u32,
    pub metrics: Vec<MetricView>,
    /// What is odd about the whole of it: settling, normal, odd or anomaly.
    pub verdict: String,
    /// None: nobody asked, or requests are unknown.
    pub advice: Option<AdviceView>,
    pub memory: Option<MemoryView>,
    /// None: nobody asked, or nobody called.
    pub keep_warm: Option<KeepView>,
    /// None: nobody asked, or its guests do not tell.
    pub balloon: Option<BalloonView>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricView {
    pub metric: String,
    pub unit: String,
    /// Oldest first.
    pub samples: Vec<f32>,
    pub forecasts: Vec<ForecastView>,
    /// Against its own past.
    pub finding: Option<String>,
    /// Whether its forecasts can be trusted.
    pub health: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForecastView {
    pub ahead_s: u32,
    pub expected: f32,
    /// 95 of 100 samples lie at or below.
    pub upper: f32,
    /// What it mostly goes by.
    pub by: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdviceView {
    pub replicas: u16,
    pub why: String,
    pub least: u16,
    pub most: u16,
    /// Whether the box follows it.
    pub automatic: bool,
}

/// Machines of a function that should wait for the next call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeepView {
    pub idle: u16,
    /// Then it is asked again.
    pub lasts_s: u32,
    pub why: String,
    pub most: u16,
    /// Whether the box follows it.
    pub automatic: bool,
}

/// What a balloon should leave to each machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BalloonView {
    pub left_mib: u32,
    pub why: String,
    /// Whether the box follows it.
    pub automatic: bool,
}

/// Of one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryView {
    pub has_mib: u32,
    pub used_mib: f32,
    /// Would do.
    pub enough_mib: f32,
}

pub(crate) fn of(
    name: &str,
    all: &Foresight,
    watched: &Watched,
    scaling: Option<&Scaling>,
    keeping: Option<&Keeping>,
    lending: Option<&Lending>,
) -> View {
    let sample_s = all.sample_s();
    let metrics = watched.series.iter().map(|(metric, seen)| MetricView {
        metric: metric.name().to_owned(),
        unit: metric.unit().to_owned(),
        samples: samples(seen),
        forecasts: (0..AHEAD.len()).filter_map(|which| forecast(seen, which, sample_s)).collect(),
        finding: seen.finding.map(told),
        health: seen.model.health().to_string(),
    });
    let advice = scaling.and_then(|scaling| {
        let advice = scaling.advice?;
        Some(AdviceView {
            replicas: advice.replicas,
            why: advice.why.to_string(),
            least: scaling.wish.least,
            most: scaling.wish.most,
            automatic: scaling.wish.automatic,
        })
    });
    let memory = watched.memory().zip(watched.memory_mib).map(|(advice, has_mib)| MemoryView {
        has_mib,
        used_mib: advice.used,
        enough_mib: advice.amount,
    });
    let balloon = lending.and_then(|lending| {
        let told = lending.told.as_ref()?;
        let (left_mib, why, automatic) = (told.mib, told.why.clone(), lending.wish.automatic);
        Some(BalloonView { left_mib, why, automatic })
    });
    let keep_warm = keeping.and_then(|keeping| {
        let told = keeping.told.as_ref()?;
        Some(KeepView {
            idle: told.idle,
            lasts_s: told.lasts_s,
            why: told.why.clone(),
            most: keeping.wish.most,
            automatic: keeping.wish.automatic,
        })
    });
    View {
        name: name.to_owned(),
        sample_s,
        metrics: metrics.collect(),
        verdict: word(watched.verdict).to_owned(),
        advice,
        memory,
        keep_warm,
        balloon,
    }
}

fn samples(seen: &Seen) -> Vec<f32> {
    let newest_first = (0..SAMPLES).map_while(|age| seen.model.forecaster().sample(age));
    let mut samples: Vec<f32> = newest_first.collect();
    samples.reverse();
    samples
}

fn forecast(seen: &Seen, which: usize, sample_s: u32) -> Option<ForecastView> {
    let forecast = seen.forecast(which)?;
    Some(ForecastView {
        ahead_s: u32::from(forecast.ahead).saturating_mul(sample_s),
        expected: forecast.expected,
        upper: forecast.upper,
        by: forecast.leader.to_string(),
    })
}

fn told(finding: Finding) -> String {
    match finding.verdict {
        Verdict::Settling | Verdict::Normal => word(finding.verdict).to_owned(),
        Verdict::Odd | Verdict::Anomaly => format!("{}: {}", word(finding.verdict), finding.reason),
    }
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Settling => "settling",
        Verdict::Normal => "normal",
        Verdict::Odd => "odd",
        Verdict::Anomaly => "anomaly",
    }
}

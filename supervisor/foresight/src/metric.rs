//! What is measured.
//!
//! Duty: names, units, and one reading of all of it. Not here: where numbers come from.
//! Invariant: what was not measured is missing, not zero.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    Cpu,
    Memory,
    Disk,
    Network,
    Requests,
    Latency,
    Restarts,
    Balloon,
    Temperature,
}

impl Metric {
    pub const ALL: [Metric; 9] = [
        Metric::Cpu,
        Metric::Memory,
        Metric::Disk,
        Metric::Network,
        Metric::Requests,
        Metric::Latency,
        Metric::Restarts,
        Metric::Balloon,
        Metric::Temperature,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Metric::Cpu => "cpu",
            Metric::Memory => "memory",
            Metric::Disk => "disk",
            Metric::Network => "network",
            Metric::Requests => "requests",
            Metric::Latency => "latency",
            Metric::Restarts => "restarts",
            Metric::Balloon => "balloon",
            Metric::Temperature => "temperature",
        }
    }

    /// A processor that is busy all the time is 100 %.
    pub const fn unit(self) -> &'static str {
        match self {
            Metric::Cpu => "%",
            Metric::Memory | Metric::Balloon => "MiB",
            Metric::Disk | Metric::Network => "KiB/s",
            Metric::Requests => "/s",
            Metric::Latency => "ms",
            Metric::Restarts => "/h",
            Metric::Temperature => "°C",
        }
    }

    pub fn of_name(name: &str) -> Option<Metric> {
        Metric::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// In a file: new ones are appended.
    pub(crate) const fn number(self) -> u8 {
        self as u8
    }

    pub(crate) fn of_number(number: u8) -> Option<Metric> {
        Metric::ALL.into_iter().find(|metric| metric.number() == number)
    }
}

/// What was measured at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading([Option<f32>; Metric::ALL.len()]);

impl Reading {
    pub const NOTHING: Reading = Reading([None; Metric::ALL.len()]);

    #[must_use]
    pub fn with(mut self, metric: Metric, value: Option<f32>) -> Reading {
        self.0[metric as usize] = value.filter(|value| value.is_finite());
        self
    }

    pub fn get(&self, metric: Metric) -> Option<f32> {
        self.0[metric as usize]
    }
}

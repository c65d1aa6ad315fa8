//! Telemetry of a time when nobody could be told.
//!
//! Duty: its form while it waits, which knows names and no aliases, because those are a session's. Not here: where it
//! waits (`letters`). Invariant: what it holds is marked as historical.

use prost::Message;

use super::metric;
use super::payload::Metric;
use crate::figures::Value;
use crate::topics::Id;

/// What changed at one moment, of the box itself or of one device.
#[derive(Clone, PartialEq, Message)]
pub struct Kept {
    #[prost(string, optional, tag = "1")]
    pub device: Option<String>,
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
}

impl Kept {
    pub(super) fn of<'f>(
        device: Option<&Id>,
        figures: impl IntoIterator<Item = (&'f str, &'f Value)>,
        wall_ms: u64,
    ) -> Kept {
        let metrics = figures
            .into_iter()
            .map(|(name, value)| Metric {
                is_historical: Some(true),
                ..metric::named(name, None, value, wall_ms)
            })
            .collect();
        Kept { device: device.map(ToString::to_string), metrics }
    }
}

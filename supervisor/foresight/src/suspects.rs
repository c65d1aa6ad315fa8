//! Who most likely began what is wrong with a workload.
//!
//! ```text
//!   process -> guest -> machine -> host        each rests on the one to the right of it,
//!   process -> process                         and on the workloads that it asks for something
//! ```
//!
//! Duty: from what is strange in which layer, since when, to one suspect in words. Not here: the ranking
//! (`hearth-predictor`), what is strange (`watched`).
//! Invariants: nobody is suspected who is well; who failed is not its own suspect, though another layer of it may be.

use std::collections::BTreeMap;

use hearth_core::Source;
use hearth_predictor::Seconds;
use hearth_predictor::cause::{MOST_PARTS, Part, Parts, rank};

use crate::foresight::One;
use crate::metric::Metric;
use crate::watched::Watched;

/// How far from its usual what failed is: further than what was merely never seen.
const FAILED_DISTANCE: f32 = 10.0;
/// A failure is a symptom of others' for so long.
const FAILURE_LASTS_S: u64 = 600;

/// A workload is made of three parts; the host is one more, and the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Process,
    Guest,
    Machine,
}

const LAYERS: [Layer; 3] = [Layer::Process, Layer::Guest, Layer::Machine];
const MOST_WORKLOADS: usize = (MOST_PARTS - 1) / LAYERS.len();

impl Layer {
    fn of(metric: Metric) -> Layer {
        match metric {
            Metric::Requests | Metric::Latency | Metric::Restarts => Layer::Process,
            Metric::Memory | Metric::Balloon => Layer::Guest,
            Metric::Cpu | Metric::Disk | Metric::Network | Metric::Temperature => Layer::Machine,
        }
    }

    pub(crate) fn of_fault(source: Source) -> Layer {
        match source {
            Source::Workload | Source::Network | Source::Data => Layer::Process,
            Source::GuestKernel | Source::Storage => Layer::Guest,
            Source::Hardware | Source::Supervisor => Layer::Machine,
        }
    }

    fn words(self, name: &str) -> String {
        match self {
            Layer::Process => name.to_owned(),
            Layer::Guest => format!("the guest of {name}"),
            Layer::Machine => format!("the machine of {name}"),
        }
    }
}

/// That it failed, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    pub(crate) at: Seconds,
    pub(crate) layer: Layer,
}

/// Why `name`, which has just failed, most likely did, if that is somebody or something else.
pub(crate) fn of(host: &Watched, all: &BTreeMap<String, One>, name: &str, at: Seconds) -> Option<String> {
    let around = around(all, name);
    let own = around.first().and_then(|name| all.get(*name))?.failed?;
    let place = |index: usize, layer: Layer| 1 + LAYERS.len() * index + layer as usize;
    let mut parts = vec![Part { rests_on: Parts::default(), onset: host.onset, distance: host.distance }];
    for (index, name) in around.iter().enumerate() {
        let one = all.get(*name)?;
        let asks = one.rests_on.iter().filter_map(|on| around.iter().position(|known| known == on));
        for layer in LAYERS {
            let rests_on = match layer {
                Layer::Process => asks
                    .clone()
                    .map(|on| place(on, Layer::Process))
                    .fold(Parts::default().with(place(index, Layer::Guest)), Parts::with),
                Layer::Guest => Parts::default().with(place(index, Layer::Machine)),
                Layer::Machine => Parts::default().with(0),
            };
            parts.push(part(one, layer, at, rests_on));
        }
    }
    let suspects = rank(&parts);
    let first = suspects.first().filter(|first| first.part != place(0, own.layer))?;
    let whom = match first.part.checked_sub(1) {
        None => "the host".to_owned(),
        Some(place) => LAYERS.get(place % LAYERS.len())?.words(around.get(place / LAYERS.len())?),
    };
    Some(format!("{whom} ({first})"))
}

/// Itself, and those that it rests on, directly or not.
fn around<'a>(all: &'a BTreeMap<String, One>, name: &'a str) -> Vec<&'a str> {
    let mut around = vec![name];
    let mut next = 0;
    while let Some(one) = around.get(next).and_then(|name| all.get(*name)) {
        next += 1;
        for on in &one.rests_on {
            if around.len() < MOST_WORKLOADS && all.contains_key(on) && !around.contains(&on.as_str()) {
                around.push(on);
            }
        }
    }
    around
}

fn part(one: &One, layer: Layer, at: Seconds, rests_on: Parts) -> Part {
    let strange = one.watched.series.iter().filter(|(metric, _)| Layer::of(**metric) == layer);
    let strange = strange.filter_map(|(_, seen)| Some((seen.onset?, seen.distance)));
    let failed = one
        .failed
        .filter(|failed| failed.layer == layer && at.0.saturating_sub(failed.at.0) <= FAILURE_LASTS_S);
    let failed = failed.map(|failed| (failed.at, FAILED_DISTANCE));
    let mut part = Part { rests_on, onset: None, distance: 0.0 };
    for (onset, distance) in strange.chain(failed) {
        part.onset = Some(part.onset.map_or(onset, |before| before.min(onset)));
        part.distance = part.distance.max(distance);
    }
    part
}

//! What hosts know of the box: each figure with its alias and the value that was told last.
//!
//! Duty: what of a new snapshot is worth telling, and aliases. Not here: messages (`session`).
//! Invariant: no two figures of the box have the same alias (`tck-id-payloads-alias-uniqueness`). Aliases are given anew
//! with each birth of the node, and never again before the next one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::mem::discriminant;

use crate::figures::{Band, Device, Figure, Snapshot, Value};
use crate::topics::Id;

#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: Cow<'static, str>,
    pub(super) alias: u64,
    pub(super) value: Value,
    band: Band,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) node: Vec<Line>,
    pub(super) devices: BTreeMap<Id, Vec<Line>>,
    last_alias: u64,
}

/// What became of the figures of the node, or of one device.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// The places of those that left their band.
    Values(Vec<usize>),
    /// There are others than before, or of other types: only a birth can tell that.
    Shape,
}

#[derive(Debug, PartialEq)]
pub(super) struct Changes {
    pub(super) node: Change,
    pub(super) devices: Vec<(Id, Change)>,
    pub(super) gone: Vec<Id>,
}

impl Known {
    /// All of it anew: `tck-id-topics-nbirth-metric-reqs`, `tck-id-operational-behavior-data-publish-dbirth`.
    pub(super) fn of(snapshot: &Snapshot) -> Known {
        let mut known = Known::default();
        known.node = known.lines(&snapshot.node);
        for Device { id, figures } in &snapshot.devices {
            let lines = known.lines(figures);
            known.devices.insert(id.clone(), lines);
        }
        known
    }

    fn lines(&mut self, figures: &[Figure]) -> Vec<Line> {
        let line = |Figure { name, value, band }: &Figure| {
            self.last_alias += 1;
            Line { name: name.clone(), alias: self.last_alias, value: value.clone(), band: *band }
        };
        figures.iter().map(line).collect()
    }

    /// What is new in `snapshot`, which is what hosts know from now on.
    pub(super) fn learn(&mut self, snapshot: &Snapshot) -> Changes {
        let node = changes(&mut self.node, &snapshot.node);
        if node == Change::Shape {
            self.node = self.lines(&snapshot.node);
        }
        let mut devices = Vec::new();
        for Device { id, figures } in &snapshot.devices {
            let change = match self.devices.get_mut(id) {
                Some(lines) => changes(lines, figures),
                None => Change::Shape,
            };
            if change == Change::Shape {
                let lines = self.lines(figures);
                self.devices.insert(id.clone(), lines);
            }
            if change != Change::Values(Vec::new()) {
                devices.push((id.clone(), change));
            }
        }
        let gone: Vec<Id> = self.devices.keys().filter(|id| !has(snapshot, id)).cloned().collect();
        for id in &gone {
            self.devices.remove(id);
        }
        Changes { node, devices, gone }
    }
}

fn has(snapshot: &Snapshot, id: &Id) -> bool {
    snapshot.devices.iter().any(|device| device.id == *id)
}

fn changes(lines: &mut [Line], figures: &[Figure]) -> Change {
    let same = |(line, figure): (&Line, &Figure)| {
        line.name == figure.name && discriminant(&line.value) == discriminant(&figure.value)
    };
    if lines.len() != figures.len() || !lines.iter().zip(figures).all(same) {
        return Change::Shape;
    }
    let mut places = Vec::new();
    for (place, (line, figure)) in lines.iter_mut().zip(figures).enumerate() {
        line.band = figure.band;
        if line.value.is_left_by(&figure.value, line.band) {
            line.value = figure.value.clone();
            places.push(place);
        }
    }
    Change::Values(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(node: &[(&'static str, u64)], devices: &[(&str, u64)]) -> Snapshot {
        let figure = |(name, value): &(&'static str, u64)| Figure::exact(*name, Value::Whole(*value));
        let device = |(id, value): &(&str, u64)| Device {
            id: Id::new(id).unwrap(),
            figures: vec![figure(&("Memory", *value)), figure(&("Restarts", 0))],
        };
        Snapshot { node: node.iter().map(figure).collect(), devices: devices.iter().map(device).collect() }
    }

    fn id(name: &str) -> Id {
        Id::new(name).unwrap()
    }

    #[test]
    fn only_what_changed_is_worth_telling() {
        let mut known = Known::of(&snapshot(&[("Load", 1), ("Free", 2)], &[("a", 1), ("b", 1)]));
        let nothing = Changes { node: Change::Values(vec![]), devices: vec![], gone: vec![] };
        assert_eq!(known.learn(&snapshot(&[("Load", 1), ("Free", 2)], &[("a", 1), ("b", 1)])), nothing);
        let changes = known.learn(&snapshot(&[("Load", 1), ("Free", 3)], &[("a", 1), ("b", 7)]));
        let expected = Changes {
            node: Change::Values(vec![1]),
            devices: vec![(id("b"), Change::Values(vec![0]))],
            gone: vec![],
        };
        assert_eq!(changes, expected);
        assert_eq!(known.learn(&snapshot(&[("Load", 1), ("Free", 3)], &[("a", 1), ("b", 7)])), nothing);
    }

    #[test]
    fn devices_come_and_go_and_no_alias_is_given_twice() {
        let mut known = Known::of(&snapshot(&[("Load", 1)], &[("a", 1), ("b", 1)]));
        let changes = known.learn(&snapshot(&[("Load", 1)], &[("b", 1), ("c", 1)]));
        assert_eq!(changes.devices, [(id("c"), Change::Shape)]);
        assert_eq!(changes.gone, [id("a")]);
        let again = known.learn(&snapshot(&[("Load", 1)], &[("a", 1), ("b", 1), ("c", 1)]));
        assert_eq!(again.devices, [(id("a"), Change::Shape)]);
        let lines = known.node.iter().chain(known.devices.values().flatten());
        let mut aliases: Vec<u64> = lines.map(|line| line.alias).collect();
        aliases.sort_unstable();
        assert_eq!(aliases, [1, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn other_names_or_types_are_another_shape() {
        let mut known = Known::of(&snapshot(&[("Load", 1)], &[]));
        assert_eq!(known.learn(&snapshot(&[("Load", 1), ("Free", 1)], &[])).node, Change::Shape);
        assert_eq!(known.learn(&snapshot(&[("Load", 1), ("Idle", 1)], &[])).node, Change::Shape);
        let mut typed = snapshot(&[("Load", 1), ("Idle", 1)], &[]);
        typed.node[0].value = Value::Real(1.0);
        assert_eq!(known.learn(&typed).node, Change::Shape);
    }
}

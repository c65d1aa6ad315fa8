//! What a box tells of itself: figures with names, and how much one has to change to be told again.
//!
//! Duty: the form in which the daemon hands over how things stand. Not here: who is told when (`sparkplug`).
//! Invariant: a snapshot is bounded; what does not fit is left out and counted, never half of something.

use std::borrow::Cow;

use crate::topics::Id;

/// Figures of the box, or of one device.
pub const MAX_FIGURES: usize = 512;
/// Devices of one box: four for each of the 64 workloads that a box may have on average.
pub const MAX_DEVICES: usize = 256;
/// Bytes of one text; the rest is cut off.
pub const MAX_TEXT: usize = 256;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Whole(u64),
    Signed(i64),
    Real(f32),
    Flag(bool),
    Text(Cow<'static, str>),
}

/// How far from what was told last a figure may be before it is told again (`tck-id-principles-rbe-recommended`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Band {
    /// Nowhere: every change counts.
    Exact,
    /// Less than `least`, or less than `percent` of what was told, whichever is more.
    Wide { least: f64, percent: u8 },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub name: Cow<'static, str>,
    pub value: Value,
    pub band: Band,
}

impl Figure {
    pub fn exact(name: impl Into<Cow<'static, str>>, value: Value) -> Figure {
        Figure { name: name.into(), value, band: Band::Exact }
    }

    pub fn wide(name: impl Into<Cow<'static, str>>, value: Value, least: f64, percent: u8) -> Figure {
        Figure { name: name.into(), value, band: Band::Wide { least, percent } }
    }
}

/// Something of its own on the box, which comes and goes: a replica.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    pub id: Id,
    pub figures: Vec<Figure>,
}

/// How everything stands at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Of the box itself.
    pub node: Vec<Figure>,
    pub devices: Vec<Device>,
}

impl Snapshot {
    /// Cut to what may be told; how many devices and figures were left out.
    pub fn bound(&mut self) -> usize {
        let mut left_out = cut(&mut self.node, MAX_FIGURES);
        let mut seen = std::collections::BTreeSet::new();
        let before = self.devices.len();
        self.devices.retain(|device| seen.len() < MAX_DEVICES && seen.insert(device.id.folded()));
        left_out += before - self.devices.len();
        for device in &mut self.devices {
            left_out += cut(&mut device.figures, MAX_FIGURES);
        }
        let texts =
            self.node.iter_mut().chain(self.devices.iter_mut().flat_map(|device| &mut device.figures));
        texts.for_each(|figure| shorten(&mut figure.value));
        left_out
    }
}

fn cut(figures: &mut Vec<Figure>, most: usize) -> usize {
    let over = figures.len().saturating_sub(most);
    figures.truncate(most);
    over
}

fn shorten(value: &mut Value) {
    if let Value::Text(text) = value
        && text.len() > MAX_TEXT
    {
        let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        *text = Cow::Owned(text[..end].to_owned());
    }
}

impl Value {
    /// Whether somebody who knows `self` has to be told of `now`.
    pub fn is_left_by(&self, now: &Value, band: Band) -> bool {
        let Band::Wide { least, percent } = band else { return self != now };
        let (Some(old), Some(new)) = (self.number(), now.number()) else { return self != now };
        let width = (old.abs() * f64::from(percent) / 100.0).max(least);
        let inside = (old - new).abs() < width;
        // What is no number is never inside.
        !inside && self != now
    }

    #[expect(clippy::cast_precision_loss, reason = "a band is no finer than the mantissa of a double")]
    fn number(&self) -> Option<f64> {
        match self {
            Value::Whole(number) => Some(*number as f64),
            Value::Signed(number) => Some(*number as f64),
            Value::Real(number) => Some(f64::from(*number)),
            Value::Flag(_) | Value::Text(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_told_again_when_it_leaves_its_band() {
        let band = Band::Wide { least: 10.0, percent: 5 };
        let told = Value::Whole(100);
        assert!(!told.is_left_by(&Value::Whole(109), band));
        assert!(told.is_left_by(&Value::Whole(110), band) && told.is_left_by(&Value::Whole(90), band));
        let large = Value::Whole(1000);
        assert!(!large.is_left_by(&Value::Whole(1049), band) && large.is_left_by(&Value::Whole(1050), band));
        assert!(told.is_left_by(&Value::Whole(101), Band::Exact) && !told.is_left_by(&told, Band::Exact));
        assert!(Value::Real(1.0).is_left_by(&Value::Real(f32::NAN), band));
        assert!(Value::Flag(true).is_left_by(&Value::Flag(false), band));
        let text = |text: &'static str| Value::Text(text.into());
        assert!(text("ready").is_left_by(&text("failed"), band) && !text("a").is_left_by(&text("a"), band));
    }

    #[test]
    fn what_is_too_much_is_left_out_as_a_whole_and_counted() {
        let device = |name: &str| Device { id: Id::new(name).unwrap(), figures: Vec::new() };
        let mut snapshot = Snapshot {
            node: vec![Figure::exact("n", Value::Text("ü".repeat(MAX_TEXT).into())); MAX_FIGURES + 2],
            devices: (0..=MAX_DEVICES).map(|number| device(&format!("d{number}"))).collect(),
        };
        // Alike but for case: `tck-id-case-sensitivity-sparkplug-ids`.
        snapshot.devices.insert(1, device("D0"));
        assert_eq!(snapshot.bound(), 2 + 2);
        assert_eq!((snapshot.node.len(), snapshot.devices.len()), (MAX_FIGURES, MAX_DEVICES));
        assert_eq!(snapshot.node[0].value, Value::Text("ü".repeat(MAX_TEXT / 2).into()));
        assert_eq!(snapshot.bound(), 0);
    }
}

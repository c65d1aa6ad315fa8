//! What boxes say, as somebody hears it who looks on: the side of a host, as far as people need it.
//!
//! Duty: messages with the names that births gave to aliases. Pure. Not here: sessions, sequences, whether a box is well.
//! Invariant: what was not heard is not guessed: a figure whose birth nobody heard has its alias for a name.

use std::collections::BTreeMap;

use prost::Message;
use serde_json::{Number, Value, json};

use super::payload::{Metric, Payload, Scalar};

/// Boxes and devices whose births are remembered: those of ten thousand boxes.
const MAX_BIRTHS: usize = 50_000;
/// The datatypes whose values are signed: Int8 to Int64.
const SIGNED: std::ops::RangeInclusive<u32> = 1..=4;
/// Those that are as large as their field.
const INT64: u32 = 4;

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// Such as NBIRTH.
    pub kind: String,
    pub node: String,
    pub device: Option<String>,
    pub seq: Option<u64>,
    /// Milliseconds since 1970.
    pub at: Option<u64>,
    pub figures: Vec<HeardFigure>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HeardFigure {
    pub name: String,
    pub value: Value,
    pub at: Option<u64>,
    pub historical: bool,
    /// Of a birth that was heard, or it said its name itself.
    pub is_named: bool,
}

/// A box, or a device of it.
type Place = (String, Option<String>);
/// Name and datatype, by alias.
type Names = BTreeMap<u64, (String, Option<u32>)>;

/// Which alias is what, by box and device.
#[derive(Debug, Default)]
pub struct Ear {
    births: BTreeMap<Place, Names>,
}

impl Ear {
    /// `None`: it is no message of a box, or none that can be read.
    pub fn hear(&mut self, topic: &str, payload: &[u8]) -> Option<Heard> {
        let words: Vec<&str> = topic.split('/').collect();
        let (kind, node, device) = match words.as_slice() {
            ["spBv1.0", _, kind @ ("NBIRTH" | "NDATA" | "NDEATH"), node] => (*kind, *node, None),
            ["spBv1.0", _, kind @ ("DBIRTH" | "DDATA" | "DDEATH"), node, device] => {
                (*kind, *node, Some((*device).to_owned()))
            }
            _ => return None,
        };
        let payload = Payload::decode(payload).ok()?;
        let place = (node.to_owned(), device.clone());
        if kind.ends_with("BIRTH") {
            self.learn(place.clone(), &payload.metrics);
        }
        let names = self.births.get(&place);
        let figures = payload.metrics.iter().map(|metric| figure(metric, names)).collect();
        let (kind, node) = (kind.to_owned(), place.0);
        Some(Heard { kind, node, device, seq: payload.seq, at: payload.timestamp, figures })
    }

    fn learn(&mut self, place: Place, metrics: &[Metric]) {
        // Aliases are a node's own, over all its devices, and begin anew with its birth.
        if place.1.is_none() {
            let (first, last) = ((place.0.clone(), None), (place.0.clone(), Some(char::MAX.to_string())));
            let old: Vec<_> = self.births.range(first..=last).map(|(key, _)| key.clone()).collect();
            old.iter().for_each(|key| drop(self.births.remove(key)));
        }
        if self.births.len() < MAX_BIRTHS {
            let named = |metric: &Metric| Some((metric.alias?, (metric.name.clone()?, metric.datatype)));
            self.births.insert(place, metrics.iter().filter_map(named).collect());
        }
    }
}

fn figure(metric: &Metric, names: Option<&Names>) -> HeardFigure {
    let known = metric.alias.and_then(|alias| names?.get(&alias));
    let own = metric.name.clone().or_else(|| known.map(|(name, _)| name.clone()));
    let datatype = metric.datatype.or_else(|| known.and_then(|(_, datatype)| *datatype));
    HeardFigure {
        is_named: own.is_some(),
        name: own.unwrap_or_else(|| format!("#{}", metric.alias.unwrap_or_default())),
        value: value(metric.value.as_ref(), datatype),
        at: metric.timestamp,
        historical: metric.is_historical.unwrap_or(false),
    }
}

fn value(scalar: Option<&Scalar>, datatype: Option<u32>) -> Value {
    let signed = datatype.is_some_and(|datatype| SIGNED.contains(&datatype));
    match scalar {
        None => Value::Null,
        Some(Scalar::Int(number)) if signed => json!(number.cast_signed()),
        Some(Scalar::Int(number)) => json!(number),
        Some(Scalar::Long(number)) if datatype == Some(INT64) => json!(number.cast_signed()),
        Some(Scalar::Long(number)) => json!(number),
        // As it is written: 0.1 is not to become 0.10000000149.
        Some(Scalar::Float(number)) => {
            number.to_string().parse().ok().and_then(Number::from_f64).map_or(Value::Null, Value::Number)
        }
        Some(Scalar::Double(number)) => json!(number),
        Some(Scalar::Boolean(flag)) => json!(flag),
        Some(Scalar::Text(text)) => json!(text),
        Some(Scalar::Bytes(bytes)) => json!(format!("({} bytes)", bytes.len())),
    }
}

/// What asks a box for its births, on its NCMD topic: QoS 0, not retained.
pub fn rebirth() -> Vec<u8> {
    let ask = Metric {
        name: Some("Node Control/Rebirth".to_owned()),
        datatype: Some(BOOLEAN),
        value: Some(Scalar::Boolean(true)),
        ..Metric::default()
    };
    Payload { metrics: vec![ask], ..Payload::default() }.encode_to_vec()
}

const BOOLEAN: u32 = 11;

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: Option<&str>, alias: Option<u64>, datatype: Option<u32>, value: Scalar) -> Metric {
        Metric { name: name.map(str::to_owned), alias, datatype, value: Some(value), ..Metric::default() }
    }

    fn said(metrics: Vec<Metric>) -> Vec<u8> {
        Payload { timestamp: Some(7), metrics, seq: Some(3), ..Payload::default() }.encode_to_vec()
    }

    fn told(heard: Option<Heard>) -> Vec<(String, Value)> {
        heard.unwrap().figures.into_iter().map(|figure| (figure.name, figure.value)).collect()
    }

    #[test]
    fn figures_have_the_names_of_the_last_birth_and_without_one_their_aliases() {
        let mut ear = Ear::default();
        let data = said(vec![metric(None, Some(1), None, Scalar::Float(0.1))]);
        assert_eq!(told(ear.hear("spBv1.0/g/NDATA/box", &data)), [("#1".to_owned(), json!(0.1))]);
        let birth = said(vec![
            metric(Some("Load"), Some(1), Some(9), Scalar::Float(2.0)),
            metric(Some("bdSeq"), None, Some(4), Scalar::Long(u64::MAX)),
        ]);
        let heard = told(ear.hear("spBv1.0/g/NBIRTH/box", &birth));
        assert_eq!(heard, [("Load".to_owned(), json!(2.0)), ("bdSeq".to_owned(), json!(-1))]);
        let of_device =
            said(vec![metric(Some("State"), Some(2), Some(12), Scalar::Text("ready".to_owned()))]);
        ear.hear("spBv1.0/g/DBIRTH/box/web", &of_device);
        assert_eq!(told(ear.hear("spBv1.0/g/NDATA/box", &data)), [("Load".to_owned(), json!(0.1))]);
        let state = said(vec![metric(None, Some(2), None, Scalar::Text("x".to_owned()))]);
        let heard = ear.hear("spBv1.0/g/DDATA/box/web", &state).unwrap();
        assert_eq!((heard.device.as_deref(), heard.seq, heard.at), (Some("web"), Some(3), Some(7)));
        assert!(heard.figures[0].is_named && heard.figures[0].name == "State");
        let other = ear.hear("spBv1.0/g/DDATA/box-2/web", &state).unwrap();
        assert!(!other.figures[0].is_named, "another box's");
        ear.hear("spBv1.0/g/NBIRTH/box", &birth);
        let heard = ear.hear("spBv1.0/g/DDATA/box/web", &state).unwrap();
        assert!(!heard.figures[0].is_named, "of before");
    }

    #[test]
    fn history_is_marked_and_what_is_no_message_of_a_box_is_none() {
        let mut ear = Ear::default();
        let past = Metric {
            is_historical: Some(true),
            timestamp: Some(5),
            ..metric(Some("a"), None, Some(11), Scalar::Boolean(true))
        };
        let heard = ear.hear("spBv1.0/g/NDATA/box", &said(vec![past])).unwrap();
        assert!(heard.figures[0].historical && heard.figures[0].at == Some(5));
        for topic in
            ["spBv1.0/STATE/scada", "spBv1.0/g/NCMD/box", "hearth/v1/g/box/reported", "spBv1.0/g/NDATA/box/x"]
        {
            assert_eq!(ear.hear(topic, &said(Vec::new())), None, "{topic}");
        }
        assert_eq!(ear.hear("spBv1.0/g/NDATA/box", &[0xff; 9]), None);
    }
}

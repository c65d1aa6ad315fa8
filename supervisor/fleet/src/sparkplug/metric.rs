//! From a figure to a metric.
//!
//! Duty: datatypes, and which fields stand in a birth, in data, and in neither. Not here: which figures are told.

use super::payload::{Metric, Scalar};
use crate::figures::Value;

/// The numbers of the specification's datatypes (`tck-id-payloads-metric-datatype-value`).
pub(super) const INT64: u32 = 4;
pub(super) const UINT64: u32 = 8;
const FLOAT: u32 = 9;
const BOOLEAN: u32 = 11;
const STRING: u32 = 12;

pub(super) const fn datatype(value: &Value) -> u32 {
    match value {
        Value::Signed(_) => INT64,
        Value::Whole(_) => UINT64,
        Value::Real(_) => FLOAT,
        Value::Flag(_) => BOOLEAN,
        Value::Text(_) => STRING,
    }
}

fn scalar(value: &Value) -> Scalar {
    match value {
        Value::Signed(number) => Scalar::Long(number.cast_unsigned()),
        Value::Whole(number) => Scalar::Long(*number),
        Value::Real(number) => Scalar::Float(*number),
        Value::Flag(flag) => Scalar::Boolean(*flag),
        Value::Text(text) => Scalar::Text(text.as_ref().to_owned()),
    }
}

/// `tck-id-payloads-alias-birth-requirement`, `tck-id-payloads-metric-datatype-req`,
/// `tck-id-payloads-name-birth-data-requirement`, `tck-id-operational-behavior-data-publish-nbirth-values`.
pub(super) fn named(name: &str, alias: Option<u64>, value: &Value, wall_ms: u64) -> Metric {
    Metric {
        name: Some(name.to_owned()),
        alias,
        timestamp: Some(wall_ms),
        datatype: Some(datatype(value)),
        value: Some(scalar(value)),
        ..Metric::default()
    }
}

/// `tck-id-payloads-alias-data-cmd-requirement`, `tck-id-payloads-metric-datatype-not-req`.
pub(super) fn aliased(alias: u64, value: &Value, wall_ms: u64) -> Metric {
    Metric { alias: Some(alias), timestamp: Some(wall_ms), value: Some(scalar(value)), ..Metric::default() }
}

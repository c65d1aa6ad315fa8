//! The Protocol Buffers messages of Sparkplug B, as far as an Edge Node without data sets and templates needs them.
//!
//! Duty: field numbers and types of the specification's schema. Not here: what may stand in a message when.
//! Invariant: fields that are not known here are skipped, as the schema's extensions demand.

use prost::{Message, Oneof};

/// Everything that a Sparkplug topic carries, but for STATE.
#[derive(Clone, PartialEq, Message)]
pub struct Payload {
    /// Milliseconds since 1970, UTC, of when it was sent.
    #[prost(uint64, optional, tag = "1")]
    pub timestamp: Option<u64>,
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
    /// 0 to 255, round and round.
    #[prost(uint64, optional, tag = "3")]
    pub seq: Option<u64>,
    #[prost(string, optional, tag = "4")]
    pub uuid: Option<String>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub body: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(uint64, optional, tag = "2")]
    pub alias: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "4")]
    pub datatype: Option<u32>,
    #[prost(bool, optional, tag = "5")]
    pub is_historical: Option<bool>,
    #[prost(bool, optional, tag = "6")]
    pub is_transient: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub is_null: Option<bool>,
    #[prost(oneof = "Scalar", tags = "10, 11, 12, 13, 14, 15, 16")]
    pub value: Option<Scalar>,
}

/// A value as the schema has it. Signed integers are two's complement in the unsigned field of their size.
#[derive(Clone, PartialEq, Oneof)]
pub enum Scalar {
    #[prost(uint32, tag = "10")]
    Int(u32),
    #[prost(uint64, tag = "11")]
    Long(u64),
    #[prost(float, tag = "12")]
    Float(f32),
    #[prost(double, tag = "13")]
    Double(f64),
    #[prost(bool, tag = "14")]
    Boolean(bool),
    #[prost(string, tag = "15")]
    Text(String),
    #[prost(bytes, tag = "16")]
    Bytes(Vec<u8>),
}

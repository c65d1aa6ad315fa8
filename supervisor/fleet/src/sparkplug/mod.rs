//! Sparkplug B 3.0, the side of an Edge Node.

pub mod payload;

//! Sparkplug B 3.0, the side of an Edge Node: the box is the node, each replica a device.
//!
//! Duty: what the specification asks of such a node. Each rule is named by its id there (`tck-id-...`), in the code that
//! keeps it and in the test that shows it. Not here: data sets, templates, properties, and MQTT 5.

pub mod heard;
pub mod history;
mod host;
mod known;
mod metric;
mod pause;
pub mod payload;
pub mod session;

pub use host::HostState;
pub use pause::Pauses;

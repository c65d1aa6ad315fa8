//! Every configuration file of the project.
//!
//! Duty: the types, their defaults and limits, and faults that name file, line, column and key.
//! Not here: what the values lead to (order of workloads, boot, jails), nor whether a named file exists:
//! that is found where it is opened.
//! Invariant: a value that left this crate keeps every documented limit; nothing is corrected in silence.

#![forbid(unsafe_code)]

pub mod device;
mod fault;
pub mod guest;
mod json;
mod layers;
pub mod network;
mod quantity;
mod reader;
#[cfg(test)]
mod schema;
mod source;
mod tree;
pub mod vm;
pub mod workload;
mod writer;

/// What the daemon's control group is called where a service manager delegated the one around it; machines' groups are
/// beside it.
pub const DAEMON_GROUP: &str = "hearthd";

pub use fault::{Fault, Faults, Position};
pub use layers::drop_in_folder;
pub use quantity::Mebibytes;
pub use source::{Form, Source, Strictness};
pub use writer::string as quoted;

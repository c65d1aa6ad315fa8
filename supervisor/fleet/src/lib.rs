//! A box as a member of a fleet.
//!
//! | what | where |
//! |---|---|
//! | Sparkplug B: the session, births, telemetry | `sparkplug` |
//!
//! Duty: decide what is said to a broker, when, and what words from there mean. Not here: connections, files, clocks.
//! Invariant: with no broker a box is complete; nothing here is needed for a workload to run.

#![forbid(unsafe_code)]

pub mod sparkplug;

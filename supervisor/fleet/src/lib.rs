//! A box as a member of a fleet.
//!
//! | what | where |
//! |---|---|
//! | what must not be lost, until a broker has it | `outbox` |
//! | whose word counts | `sign` |
//! | Sparkplug B: the session, births, telemetry | `sparkplug` |
//! | what the fleet wants, and what the box says to that | `tree` |
//! | topics and the names in them | `topics` |
//! | what workloads tell and hear | `guest` |
//! | both of these and the daemon, put together | `desk` |
//! | what outlives a connection, as the session sees it | `letters` |
//! | the thread that speaks with brokers (feature `mqtt`) | `shell` |
//!
//! Duty: decide what is said to a broker, when, and what words from there mean. Not here: clocks and files; connections
//! but in `shell`.
//! Invariant: with no broker a box is complete; nothing here is needed for a workload to run.

#![forbid(unsafe_code)]

pub mod desk;
mod dice;
pub mod figures;
pub mod guest;
pub mod letters;
mod now;
pub mod outbox;
#[cfg(feature = "mqtt")]
pub mod shell;
pub mod sign;
pub mod sparkplug;
pub mod topics;
pub mod tree;

pub use now::{Now, PLAUSIBLE_MS};

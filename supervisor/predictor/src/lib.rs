//! What a box foresees: forecasts, anomalies, sizes, causes and cures.
//!
//! Duty: turn samples (a time and a number) into advice that says why. Not here: where samples come from, clocks,
//! and carrying advice out.
//! Invariants: no allocation and no panic, whatever comes in, NaN and infinities included; the cost of a sample is
//! constant, and so is the memory of a series; the same samples give the same advice.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable
    )
)]

pub mod anomaly;
mod array;
pub mod cause;
pub mod forecast;
pub mod health;
#[cfg(any(feature = "lstm", feature = "attention"))]
pub mod neural;
mod number;
pub mod pool;
pub mod recovery;
mod ring;
mod season;
mod series;
pub mod sizing;
pub mod state;
mod time;

pub use series::{Observation, Series};
pub use time::{Cadence, DAY, Seconds, WEEK};

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
pub mod forecast;
mod number;
pub mod pool;
pub mod recovery;
mod ring;
mod season;
mod series;
pub mod sizing;
mod state;
mod time;

pub use series::{Observation, Series};
pub use state::{StateFault, VERSION as STATE_VERSION};
pub use time::{Cadence, DAY, Seconds, WEEK};

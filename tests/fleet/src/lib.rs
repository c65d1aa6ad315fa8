//! Boxes, a real broker, and somebody between them who writes down what is said.
//!
//! Duty: what the tests of the fleet and its benchmark share. Not here: what should be said.
//! Invariant: whoever waits here waits for something that is said, with a deadline, and never for a time.

#![forbid(unsafe_code)]

pub mod authority;
pub mod broker;
pub mod member;
pub mod observer;
pub mod tap;
pub mod wire;

use std::time::Duration;

/// For anything that should happen: a machine that is busy with ten other things still gets there.
pub const PATIENCE: Duration = Duration::from_secs(60);

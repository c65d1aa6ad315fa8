//! How large a workload should be.
//!
//! Duty: replicas from arrivals ([`Scaler`], by the queue's formula in [`erlang`]), memory and processor shares from
//! what was used ([`Usage`]). Not here: starting and stopping anything. Invariant: no advice lies outside of the
//! policy's bounds.

pub mod erlang;
mod scaler;
mod usage;

pub use scaler::{Advice, Load, Objective, ScalePolicy, Scaler, Why};
pub use usage::{Usage, Vertical, VerticalPolicy};

//! Which cure to try next.
//!
//! Duty: learn what cures which faults ([`Cures`]) and choose by expected cost; the same for a rollout that may be
//! going wrong ([`rollout`]). Not here: noticing faults, and carrying cures out.

mod cures;
mod plan;
pub mod rollout;

pub use cures::{Cures, Outcome};
pub use plan::{Basis, Choice, Explained, Ladder, MOST_RUNGS, Rung};

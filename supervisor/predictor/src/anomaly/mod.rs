//! What is abnormal.
//!
//! Duty: say of a sample how strange it is, whether that is worth a call, and why. Not here: what is done then.
//! The parts: [`Detector`] is the default; [`ControlLimits`] the simple mode; [`ChangePoint`] finds when a level
//! moved; [`vote`] asks several series at once.

mod change;
mod detector;
mod limits;
mod records;
mod vote;

pub use change::{Change, ChangePoint, Direction};
pub use detector::{CALL, Detector, Finding, Reason, Verdict};
pub use limits::ControlLimits;
pub use records::Kind;
pub use vote::{Ballot, Jury, vote};

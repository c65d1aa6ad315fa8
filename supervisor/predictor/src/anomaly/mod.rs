//! What is abnormal.
//!
//! Duty: say of a sample how strange it is, whether that is worth a call, and why. Not here: what is done then.
//! The parts: the detector of records is the default, in every [`crate::Series`]; [`ControlLimits`] the simple mode; [`ChangePoint`] finds when a level
//! moved; [`vote`] asks several series at once.

mod change;
mod detector;
mod limits;
mod records;
mod vote;

pub use change::{Change, ChangePoint, Direction};
pub(crate) use detector::Detector;
pub use detector::{Finding, Reason, Settings, Verdict};
pub use limits::ControlLimits;
pub use records::Kind;
pub use vote::{Ballot, Jury, vote};

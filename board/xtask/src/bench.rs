//! Races between monitors, on a board whose clock counts instructions.

pub(crate) mod contenders;
pub(crate) mod promises;
pub(crate) mod results;
pub(crate) mod work;

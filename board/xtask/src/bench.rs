//! What is measured on a board whose clock counts instructions, and the tables of it.

pub(crate) mod contenders;
pub(crate) mod daemon;
pub(crate) mod figures;
pub(crate) mod promises;
pub(crate) mod recovery;
pub(crate) mod results;
pub(crate) mod snapshots;
pub(crate) mod work;

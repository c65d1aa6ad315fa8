//! What comes from Debian: packages that must be installed here, and packages that are only looked into.

pub(crate) mod archive;
pub(crate) mod packages;

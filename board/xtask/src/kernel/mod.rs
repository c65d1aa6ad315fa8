//! Kernels: the small one for guests, Debian's own for boards.

pub(crate) mod board;
pub(crate) mod fragment;
pub(crate) mod guest;
pub(crate) mod modules;
pub(crate) mod stock;

//! The daemon that keeps a box's workloads running: the shell around `hearth-core`.
//!
//! Duty: turn processes, sockets, signals and time into the core's events, and carry its actions out.
//! Not here: decisions (`hearth-core`), what a virtual machine is (`hearth-vmm`), guest-made bytes other than
//! through the `hearth-wire` codec and the line splitter.
//! Invariant: nothing that a guest or a monitor does ends the daemon, blocks it, or grows its memory without bound.

#![forbid(unsafe_code)]

pub mod agent;
pub mod api;
mod asking;
mod builds;
mod clock;
pub mod console;
mod contents;
pub mod ctl;
pub mod daemon;
pub mod empty_network;
pub mod ended;
mod fleet;
pub mod guest_boot;
mod guests;
pub mod kvm;
mod last_word;
pub mod lines;
mod log_line;
mod logs;
mod lookout;
pub mod machine;
mod monitor;
mod outlet;
pub mod own_group;
mod pressure;
mod process;
mod reload;
pub mod replay;
mod screens;
pub mod setup;
pub mod share;
pub mod state_dir;
pub mod store;
mod survivors;
mod versions;
mod vitals;
pub mod vm;
mod wall;
pub mod wanted;
mod warm;
mod watchdog;
pub mod wording;

//! What must never happen.
//!
//! Duty: the names of broken invariants. Not here: looking for them (`checks`).

use hearth_core::{Moment, Rung};
use thiserror::Error;

/// A broken promise of the core.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Trouble {
    #[error("identity: {replica} got run {new} while run {old} is there")]
    TwoOnOneIdentity { replica: String, old: u32, new: u32 },
    #[error("storm: {name} was restarted {restarts} times in a window that allows {budget}")]
    Storm { name: String, restarts: usize, budget: u16 },
    #[error("touched: {replica} was well, and {order}")]
    HealthyTouched { replica: String, order: String },
    #[error("not there: {what}")]
    NotConverged { what: String },
    #[error("replay: a daemon's journal of {entries} entries leads to {what}")]
    ReplayDiffers { entries: usize, what: &'static str },
    #[error("watchdog: petted although {subsystem} is late")]
    PettedWhileLate { subsystem: &'static str },
    #[error("watchdog: not petted for {millis} ms although nothing is late")]
    Starved { millis: u64 },
    #[error("quarantine: {name} is quarantined and nobody was told")]
    SilentQuarantine { name: String },
    #[error("timer: a deadline was left due")]
    TimerLeftDue,
    #[error("room: machines take {mib} MiB of {promised} MiB")]
    Overbooked { mib: u64, promised: u32 },
    #[error("room: machines take {milli} thousandths of a processor of {promised}")]
    OverbookedCpu { milli: u64, promised: u32 },
    #[error("order: {name} is started, and {on} does not serve")]
    StartedTooEarly { name: String, on: String },
    #[error("order: {name} is stopped before {dependent}, which needs it")]
    StoppedTooEarly { name: String, dependent: String },
    #[error("traffic: {replica} is {}ready, and its traffic is the other way", if *ready { "" } else { "not " })]
    Traffic { replica: String, ready: bool },
    #[error("disk: {replica} is started from an image that was collected")]
    ImageGone { replica: String },
    #[error("disk: {replica} is restored from a snapshot that is not there")]
    NoSnapshot { replica: String },
    #[error("reboots: {reboots} to heal the box, and none of them long ago")]
    RebootStorm { reboots: usize },
    #[error("stop: the box does not come down: {left} machines left")]
    DoesNotStop { left: usize },
    #[error("healing: {name} by {rung:?}, and {why}")]
    NotAllowed { name: String, rung: Rung, why: &'static str },
    #[error("window: a new version of {name} takes over outside of every window, and nobody asked")]
    OutOfWindow { name: String },
    #[error("order: {what}")]
    BadOrder { what: String },
}

/// A trouble, where and when it was found, and what led to it.
#[derive(Clone, Debug, Error)]
#[error("seed {seed}, {:.1} s: {trouble}\n  replay: cargo xtask test sim --seed {seed} --hours {hours}", at.as_millis() as f64 / 1000.0)]
pub struct Found {
    pub seed: u64,
    pub hours: u64,
    pub at: Moment,
    pub trouble: Trouble,
    /// The last words and actions, oldest first.
    pub trace: Vec<String>,
}

//! One fake machine: monitor, guest, agent and workload in one.
//!
//! ```text
//! Booting --up--> Up --workload ends--> Done --powers off--> gone
//!    |             | \--freezes--> Hung
//!    +--freezes--> Hung            (and from each: asked, ended or killed --> gone)
//! ```
//!
//! Duty: what a machine is, and how it takes orders. Not here: when things happen to it (`weather`), what the daemon
//! gets to hear of it (`world`).

use hearth_core::{Build, Moment};

/// Which machine: name's place, slot, run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) name: usize,
    pub(crate) slot: u16,
    pub(crate) run: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Booting,
    Up,
    /// Nothing in it does anything any more.
    Hung,
    /// Its workload ended.
    Done,
}

/// What ails a machine that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sickness {
    /// It beats less and less.
    SlowDeath { beats: u8 },
    /// It beats, and answers no question well.
    Broken,
    /// It answers every question with whatever comes to its mind.
    Lying,
    /// It is ready and not ready in turn.
    Flapping,
}

/// How good a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quality {
    Good,
    /// It ends soon after it started.
    Crashes,
    /// Half of what it serves goes wrong.
    Errs,
    /// It never says that it is ready.
    NeverReady,
}

#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) key: Key,
    pub(crate) build: Build,
    pub(crate) quality: Quality,
    pub(crate) stage: Stage,
    pub(crate) sickness: Option<Sickness>,
    /// The agent's connection stands.
    pub(crate) connected: bool,
    pub(crate) traffic: bool,
    /// Something that it said was lost, or came late: the daemon may rightly think ill of it.
    pub(crate) misheard: bool,
    pub(crate) obeys_agent: bool,
    pub(crate) obeys_signal: bool,
    /// SIGKILL finds it stuck in the kernel for a while.
    pub(crate) stuck: bool,
    /// It is on its way out, by whatever means.
    pub(crate) leaving: bool,
    /// An order to stop was given.
    pub(crate) told_to_stop: bool,
    pub(crate) up_since: Option<Moment>,
}

impl Guest {
    /// Whether nobody who hears it all could find fault with it.
    pub(crate) fn is_well(&self) -> bool {
        self.stage == Stage::Up
            && self.sickness.is_none()
            && self.quality == Quality::Good
            && self.connected
            && !self.misheard
            && !self.leaving
    }
}

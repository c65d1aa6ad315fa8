//! Signals that want the machine to end.
//!
//! SIGTERM and SIGINT, and what comes when a terminal or its connection goes away: SIGHUP and SIGQUIT, unless whoever
//! started the monitor has it ignore them (nohup, a shell's `&`).
//!
//! The signals are blocked before the first thread starts and read from a descriptor in the event loop, so
//! no handler ever runs and no system call is interrupted. Not its duty: what a signal leads to (see `life`).

use std::fs::File;
use std::io::Read;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Hears the signals.
#[derive(Debug)]
pub(super) struct StopSignals {
    descriptor: SignalFd,
    /// Where somebody else hears them and says so.
    told: Option<File>,
    heard: u32,
}

/// The signals that mean a stop here.
pub(super) fn that_stop() -> SigSet {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.add(Signal::SIGINT);
    // Once blocked, an ignored signal would come through.
    for signal in [Signal::SIGHUP, Signal::SIGQUIT] {
        if !is_ignored(&status, signal) {
            mask.add(signal);
        }
    }
    mask
}

impl StopSignals {
    /// Blocks the signals for this thread and every thread that it starts from now on.
    pub(super) fn block() -> nix::Result<Self> {
        Self::of(&that_stop(), None)
    }

    /// The same, where the porter hears most of them: each byte of `told`, which does not block, is one.
    pub(super) fn told_by(told: File) -> nix::Result<Self> {
        Self::of(&that_stop(), Some(told))
    }

    fn of(mask: &SigSet, told: Option<File>) -> nix::Result<Self> {
        mask.thread_block()?;
        let descriptor = SignalFd::with_flags(mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { descriptor, told, heard: 0 })
    }

    /// How many came since the last call.
    pub(super) fn take(&mut self) -> u32 {
        std::mem::take(&mut self.heard)
    }
}

/// As `/proc/<pid>/status` tells it: signal 1 is bit 0.
fn is_ignored(status: &str, signal: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal as u32 - 1) & 1 == 1
}

impl MutEventSubscriber for StopSignals {
    fn process(&mut self, _events: Events, _ops: &mut EventOps<'_>) {
        // The kernel keeps one of each kind, so this ends.
        while let Ok(Some(_)) = self.descriptor.read_signal() {
            self.heard = self.heard.saturating_add(1);
        }
        // Two are as good as many; what is left of more brings the next turn.
        let mut bytes = [0; 16];
        if let Some(Ok(count)) = self.told.as_ref().map(|mut told| told.read(&mut bytes)) {
            self.heard = self.heard.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(Events::new(&self.descriptor, EventSet::IN)) {
            log::error!("cannot watch for SIGTERM: {error}");
        }
        if let Some(told) = &self.told
            && let Err(error) = ops.add(Events::new(told, EventSet::IN))
        {
            log::error!("cannot watch for stops: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_has_ignored_stays_ignored() {
        let status =
            "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000006\n";
        let ignored = |signal| is_ignored(status, signal);
        assert!(ignored(Signal::SIGHUP) && ignored(Signal::SIGPIPE));
        assert!(!ignored(Signal::SIGQUIT) && !ignored(Signal::SIGINT));
        assert!(!is_ignored("", Signal::SIGHUP));
    }
}

//! SIGTERM and SIGINT: the host wants the machine to end.
//!
//! The signals are blocked before the first thread starts and read from a descriptor in the event loop, so
//! no handler ever runs and no system call is interrupted. Not its duty: what a signal leads to (see `life`).

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Hears the signals.
#[derive(Debug)]
pub(super) struct StopSignals {
    descriptor: SignalFd,
    heard: u32,
}

impl StopSignals {
    /// Blocks the signals for this thread and every thread that it starts from now on.
    pub(super) fn block() -> nix::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGTERM);
        mask.add(Signal::SIGINT);
        mask.thread_block()?;
        let descriptor = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { descriptor, heard: 0 })
    }

    /// How many came since the last call.
    pub(super) fn take(&mut self) -> u32 {
        std::mem::take(&mut self.heard)
    }
}

impl MutEventSubscriber for StopSignals {
    fn process(&mut self, _events: Events, _ops: &mut EventOps<'_>) {
        // The kernel keeps one of each kind, so this ends.
        while let Ok(Some(_)) = self.descriptor.read_signal() {
            self.heard = self.heard.saturating_add(1);
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(Events::new(&self.descriptor, EventSet::IN)) {
            log::error!("cannot watch for SIGTERM: {error}");
        }
    }
}

//! Signals to PID 1, as something to poll.
//!
//! Duty: which signals mean what.
//! Invariant: they stay blocked for the agent's whole life, so none is lost between two reads: the kernel
//! throws away a signal that its init process neither blocks nor handles. The workload is started with none
//! blocked.

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use std::os::fd::{AsFd, BorrowedFd};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Some child changed its state.
    Child,
    /// SIGTERM, or SIGINT, which is what the kernel makes of Ctrl-Alt-Del.
    Stop,
}

#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    pub(crate) fn block() -> nix::Result<Self> {
        let set: SigSet = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
        set.thread_block()?;
        SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map(Self)
    }

    /// The next one that waits.
    pub(crate) fn next(&self) -> Option<Told> {
        let signal = self.0.read_signal().ok().flatten()?;
        let child = i32::try_from(signal.ssi_signo) == Ok(Signal::SIGCHLD as i32);
        Some(if child { Told::Child } else { Told::Stop })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

//! Programs that somebody on the host runs by hand, beside the workload.
//!
//! Duty: take the host's calls, and bring each of them to its end. Not its duty: one of them (`errand`).
//! Invariant: never blocks, and holds at most [`MAX_ERRANDS`]; who calls beyond that is told so.

mod errand;
mod program;

use self::errand::Errand;
use crate::{child::Child, clock::Uptime, port::HostPort};
use hearth_config::guest::GuestConfig;
use hearth_wire::{ExitStatus, exec::EXEC_PORT};
use nix::poll::PollFlags;
use std::os::fd::BorrowedFd;

/// At once: some people. Each takes two buffers of four KiB.
const MAX_ERRANDS: usize = 4;
/// Those that are told that there is no place, beside them.
const MAX_REFUSED: usize = 4;
/// Callers accepted in one turn.
const ACCEPTS_PER_TURN: usize = 4;

#[derive(Debug, Default)]
pub(crate) struct Errands {
    port: HostPort,
    open: Vec<Errand>,
    refused: Vec<Errand>,
}

impl Errands {
    /// Listens, where the kernel has vsock sockets.
    pub(crate) fn open() -> Self {
        Self { port: HostPort::open(EXEC_PORT), ..Self::default() }
    }

    /// Does what can be done at once.
    pub(crate) fn turn(&mut self, now: Uptime, config: &GuestConfig) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.port.next() {
                Some(Some(stream)) => self.take(stream, now),
                Some(None) => {}
                None => break,
            }
        }
        for list in [&mut self.open, &mut self.refused] {
            list.iter_mut().for_each(|errand| errand.turn(now, config));
            list.retain(|errand| !errand.is_gone());
        }
    }

    fn take(&mut self, stream: socket2::Socket, now: Uptime) {
        if self.open.len() < MAX_ERRANDS {
            self.open.push(Errand::new(stream, now));
        } else if self.refused.len() < MAX_REFUSED {
            self.refused.push(Errand::refused(stream));
        }
    }

    /// The processes that are at work, for whoever reaps.
    pub(crate) fn children(&mut self) -> impl Iterator<Item = &mut Child> {
        self.open.iter_mut().filter_map(Errand::child)
    }

    /// How they ended, in the order of [`Errands::children`].
    pub(crate) fn ended(&mut self, ends: impl Iterator<Item = Option<ExitStatus>>) {
        let running = self.open.iter_mut().filter_map(|errand| errand.child().is_some().then_some(errand));
        for (errand, status) in running.zip(ends) {
            if let Some(status) = status {
                errand.ended(status);
            }
        }
    }

    /// Nobody calls any more, and what runs has to end.
    pub(crate) fn close(&mut self) {
        self.open.iter_mut().for_each(Errand::kill);
        *self = Self::default();
    }

    /// When something is due, if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Uptime> {
        self.open.iter().chain(&self.refused).filter_map(Errand::deadline).min()
    }

    /// What to wait for.
    pub(crate) fn interest(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let calls = self.port.fd().map(|fd| (fd, PollFlags::POLLIN));
        calls.into_iter().chain(self.open.iter().chain(&self.refused).flat_map(Errand::interest))
    }
}

#[cfg(test)]
mod tests;

//! The one place where a microVM's end is decided.
//!
//! Any thread may end the machine; the first cause wins and is what the exit status tells. The event loop
//! sleeps on [`Ending::event`], vCPU threads look at [`Ending::outcome`] between exits.

use std::sync::OnceLock;

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::Outcome;

/// Shared by every vCPU, device and signal that may end the machine.
#[derive(Debug)]
pub struct Ending {
    outcome: OnceLock<Outcome>,
    event: EventFd,
}

impl Ending {
    /// A machine that has not ended.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { outcome: OnceLock::new(), event: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)? })
    }

    /// Ends the machine, unless something else did already.
    pub fn end(&self, outcome: Outcome) {
        if self.outcome.set(outcome).is_ok()
            && let Err(error) = self.event.write(1)
        {
            log::error!("cannot wake the event loop for the end of the machine: {error}");
        }
    }

    /// The first cause, if the machine has ended.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome.get().copied()
    }

    /// Readable from the end on.
    #[must_use]
    pub const fn event(&self) -> &EventFd {
        &self.event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cause_wins() {
        let ending = Ending::new().unwrap();
        assert_eq!(ending.outcome(), None);
        ending.end(Outcome::Panic);
        ending.end(Outcome::HostStop);
        assert_eq!(ending.outcome(), Some(Outcome::Panic));
        assert_eq!(ending.event().read().unwrap(), 1);
    }
}

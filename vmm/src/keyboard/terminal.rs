//! A terminal that a person types to the guest on.
//!
//! Every key is the guest's, Ctrl-C included. Three times Ctrl-] in a row is the monitor's: it asks itself to stop,
//! as SIGTERM does, so that nobody sits before a guest that is beyond answering.
//!
//! Invariant: the terminal is as it was found when the monitor ends, also when it ends in a panic.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, Once, PoisonError};

use nix::sys::termios::{InputFlags, LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

/// Ctrl-].
const WAY_OUT: u8 = 0x1d;
/// How often in a row. Once is a key that programs use.
const TIMES: u8 = 3;

/// Counts [`WAY_OUT`] in what is typed.
#[derive(Debug, Default)]
pub(super) struct Escape {
    in_a_row: u8,
}

impl Escape {
    /// Whether the person wants out, now that `typed` was typed.
    pub(super) fn wanted(&mut self, typed: &[u8]) -> bool {
        let mut wanted = false;
        for &key in typed {
            self.in_a_row = if key == WAY_OUT { self.in_a_row.saturating_add(1) } else { 0 };
            wanted |= self.in_a_row == TIMES;
        }
        wanted
    }
}

/// How the terminal was found. Outside [`RawTerminal`], because a panic ends the process without dropping it.
static FOUND: Mutex<Option<Termios>> = Mutex::new(None);

/// Standard input as a terminal that hides no key from the guest; dropping it gives the terminal back.
#[derive(Debug)]
pub(super) struct RawTerminal(());

impl RawTerminal {
    /// Output stays as it is: the monitor's own lines end as usual, and a carriage return too many shows nothing.
    pub(super) fn enter() -> nix::Result<Self> {
        let found = tcgetattr(io::stdin())?;
        let mut raw = found.clone();
        raw.input_flags.remove(
            InputFlags::IGNBRK
                | InputFlags::BRKINT
                | InputFlags::PARMRK
                | InputFlags::ISTRIP
                | InputFlags::INLCR
                | InputFlags::IGNCR
                | InputFlags::ICRNL
                | InputFlags::IXON,
        );
        raw.local_flags.remove(
            LocalFlags::ECHO
                | LocalFlags::ECHONL
                | LocalFlags::ICANON
                | LocalFlags::ISIG
                | LocalFlags::IEXTEN,
        );
        // Never a mode of our own: a machine that reboots enters again.
        FOUND.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(found);
        restore_in_a_panic();
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the terminal back as it was found, if it is not yet.
pub fn give_back() {
    let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(found) = found {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &found);
    }
}

fn restore_in_a_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |what| {
            give_back();
            report(what);
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_are_the_way_out_however_they_arrive() {
        let mut escape = Escape::default();
        assert!(!escape.wanted(b"a\x1d\x1db\x1d"));
        assert!(!escape.wanted(b"\x1d"));
        assert!(escape.wanted(b"\x1dx"));
        assert!(!escape.wanted(b"\x1d\x1d"));
    }
}

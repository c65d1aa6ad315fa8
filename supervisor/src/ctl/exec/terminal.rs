//! The terminal that a person sits at.
//!
//! Duty: hide no key from the program, and give the terminal back as it was found. Not here: what is typed.
//! Invariant: the terminal is as it was found when this program ends, also by a signal that it catches, or in a panic.

use std::io;
use std::sync::{Mutex, Once, PoisonError};

use hearth_wire::exec::WindowSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Ctrl-].
const WAY_OUT: u8 = 0x1d;
/// How often in a row. Once is a key that programs use.
const TIMES: u8 = 3;
/// What a program gets to hear where nobody knows.
const ANY_SIZE: WindowSize = WindowSize { rows: 24, columns: 80 };

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

/// Standard input as a terminal that keeps no key to itself; dropping it gives the terminal back.
#[derive(Debug)]
pub(super) struct RawTerminal(());

impl RawTerminal {
    pub(super) fn enter() -> io::Result<RawTerminal> {
        let found = tcgetattr(io::stdin())?;
        let mut raw = found.clone();
        raw.make_raw();
        FOUND.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(found);
        restore_in_a_panic();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(RawTerminal(()))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(found) = found {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &found);
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

/// Of the terminal at standard input, or else at standard output.
pub(super) fn size() -> WindowSize {
    let size = tcgetwinsize(io::stdin()).or_else(|_| tcgetwinsize(io::stdout()));
    match size {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            WindowSize { rows: size.ws_row, columns: size.ws_col }
        }
        _ => ANY_SIZE,
    }
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

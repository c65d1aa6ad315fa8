//! The guest's console.
//!
//! Duty: lines of the agent, and the workload's output when no host takes it.
//! Not its duty: deciding what goes here.
//! Invariant: never blocks PID 1. A console can be as slow as a serial line, or stuck because nobody reads at
//! its other end; then the oldest text goes first, and is counted.

use nix::fcntl::OFlag;
use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::fd::{AsFd, BorrowedFd},
    os::unix::fs::OpenOptionsExt,
};

/// Bytes that wait for a slow console, at most.
const MAX_HELD: usize = 64 * 1024;

/// Output is taken only up to here; what is above is for the agent's own lines.
const OUTPUT_SHARE: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Console<W> {
    out: W,
    held: VecDeque<u8>,
    dropped: u64,
    /// The last text did not end its line.
    line_open: bool,
}

impl Console<File> {
    pub(crate) fn open() -> io::Result<Self> {
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let open = |path| OpenOptions::new().write(true).custom_flags(flags.bits()).open(path);
        // A kernel without any console is no fault: the host may listen.
        open("/dev/console").or_else(|_| open("/dev/null")).map(Self::new)
    }
}

impl<W: Write> Console<W> {
    const fn new(out: W) -> Self {
        Self { out, held: VecDeque::new(), dropped: 0, line_open: false }
    }

    /// One line of the agent's own. Starts a new line if the workload left one open.
    pub(crate) fn line(&mut self, text: &str) {
        if self.line_open {
            self.text(b"\n");
        }
        self.text(format!("hearth-agent: {text}\n").as_bytes());
    }

    pub(crate) fn text(&mut self, bytes: &[u8]) {
        self.line_open = bytes.last().map_or(self.line_open, |&last| last != b'\n');
        self.held.extend(bytes);
        let over = self.held.len().saturating_sub(MAX_HELD);
        self.held.drain(..over);
        self.dropped(over as u64);
    }

    /// So much text was lost on the way here.
    pub(crate) fn dropped(&mut self, bytes: u64) {
        self.dropped = self.dropped.saturating_add(bytes);
    }

    /// Gives up everything but the last line, which says what became of the workload.
    pub(crate) fn keep_last_line(&mut self) {
        let end = self.held.len().saturating_sub(1);
        let start = self.held.range(..end).rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        self.held.drain(..start);
        self.dropped(start as u64);
    }

    /// How much output it takes now without losing any.
    pub(crate) fn room(&self) -> usize {
        OUTPUT_SHARE.saturating_sub(self.held.len())
    }

    /// Bytes that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.dropped == 0
    }

    /// Writes what can be written at once.
    pub(crate) fn turn(&mut self) {
        while !self.is_empty() {
            if self.held.is_empty() {
                let dropped = std::mem::take(&mut self.dropped);
                self.line(&format!("{dropped} bytes of output lost"));
            }
            let (front, _) = self.held.as_slices();
            match self.out.write(front) {
                Ok(0) => break,
                Ok(len) => drop(self.held.drain(..len)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    // A console that is gone takes nothing any more; there is nobody to tell.
                    self.held.clear();
                    self.dropped = 0;
                }
            }
        }
    }
}

impl<W: AsFd> Console<W> {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.out.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then blocks until given more room.
    #[derive(Default)]
    struct Slow {
        room: usize,
        text: Vec<u8>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(self.room);
            if len == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.room -= len;
            self.text.extend_from_slice(&bytes[..len]);
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn console(room: usize) -> Console<Slow> {
        Console::new(Slow { room, text: Vec::new() })
    }

    #[test]
    fn lines_of_the_agent_stand_alone() {
        let mut console = console(1000);
        console.text(b"no newline");
        console.turn();
        console.line("ready in 5 ms");
        console.text(b"more\n");
        console.turn();
        assert_eq!(console.out.text, b"no newline\nhearth-agent: ready in 5 ms\nmore\n");
        assert!(console.is_empty());
    }

    #[test]
    fn a_stuck_console_costs_the_oldest_text_and_says_so_when_it_moves_again() {
        let mut console = console(3);
        console.text(b"abc");
        console.turn();
        for _ in 0..100 {
            console.text(&[b'x'; 1000]);
            console.turn();
        }
        assert!(console.held.len() <= MAX_HELD && !console.is_empty());
        console.out.room = usize::MAX;
        console.turn();
        let text = String::from_utf8(std::mem::take(&mut console.out.text)).expect("ASCII");
        let lost = 100 * 1000 - MAX_HELD;
        let note = format!("\nhearth-agent: {lost} bytes of output lost\n");
        assert!(text.ends_with(&note), "{}", &text[text.len() - 100..]);
        assert_eq!(text.len(), 3 + MAX_HELD + note.len());
    }

    #[test]
    fn the_last_line_outlives_what_nobody_took() {
        let mut console = console(0);
        console.text(b"one\ntwo\nthree");
        console.line("workload ended: exit 0");
        console.turn();
        console.keep_last_line();
        console.keep_last_line();
        console.out.room = usize::MAX;
        console.turn();
        let text = b"hearth-agent: workload ended: exit 0\nhearth-agent: 14 bytes of output lost\n";
        assert_eq!(console.out.text, text);
    }

    #[test]
    fn a_console_that_is_gone_holds_nothing() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut console = Console::new(Gone);
        console.text(b"x");
        console.turn();
        assert!(console.is_empty());
    }
}

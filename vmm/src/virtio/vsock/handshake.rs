//! The line by which a host program says which port of the guest it wants: `CONNECT <port>`.
//!
//! Duty: read that line, and not a byte more. Invariant: at most [`LONGEST_LINE`] bytes are ever taken from a
//! program that has not said what it wants.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;

/// Bytes of the longest CONNECT line: `CONNECT 4294967295` and its newline.
const LONGEST_LINE: usize = 19;

/// A host program that has yet to say which port it wants.
#[derive(Debug)]
pub(super) struct Handshake {
    token: u64,
    stream: UnixStream,
    line: [u8; LONGEST_LINE],
    length: usize,
}

/// How far a handshake has come.
pub(super) enum Progress {
    Waits,
    Wants(u32),
    Failed,
}

impl Handshake {
    pub(super) const fn new(token: u64, stream: UnixStream) -> Self {
        Self { token, stream, line: [0; LONGEST_LINE], length: 0 }
    }

    /// What the shell knows it by.
    pub(super) const fn token(&self) -> u64 {
        self.token
    }

    pub(super) fn into_stream(self) -> UnixStream {
        self.stream
    }

    /// Byte by byte, as what follows the line is payload and must stay in the socket.
    pub(super) fn advance(&mut self) -> Progress {
        while let Some(place) = self.line.get_mut(self.length..=self.length) {
            match self.stream.read(place) {
                Ok(1) if *place == [b'\n'] => return self.port().map_or(Progress::Failed, Progress::Wants),
                Ok(1) => self.length = self.length.saturating_add(1),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Waits,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return Progress::Failed,
            }
        }
        Progress::Failed
    }

    fn port(&self) -> Option<u32> {
        let number = self.line.get(..self.length)?.strip_prefix(b"CONNECT ")?;
        // Digits alone: `parse` would take a sign.
        let digits = number.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(number).ok().filter(|_| digits)?.parse().ok()
    }
}

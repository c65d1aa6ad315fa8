//! What a machine may ask of the process outside, and what it is told.
//!
//! Duty: the words. Invariant: no word holds a path. A machine that was taken over can ask for what any guest brings
//! about anyhow, and for nothing else: whatever is opened is named by the configuration.

use std::io;

use serde::{Deserialize, Serialize};

use super::outside::Printer;

/// Bytes of the longest word, in either direction.
pub(super) const LONGEST: usize = 512;

/// What a machine asks for. Those with a descriptor send it along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Errand {
    /// The jail is closed. Told: what of it the porter had to make and could not.
    Closed,
    /// A stream to the machine's own vsock socket.
    CallGuest,
    /// A stream to whoever listens for this port of the host.
    CallHost { port: u32 },
    /// A new file where this one prints, the full one beside it.
    PutAside(Printer),
    /// A new snapshot.
    Begin { name: String, replaced: bool },
    /// A file of it, by its number among the names that there are.
    File { name: u8 },
    /// Its file for memory once more, for reading: a machine goes on from there, and keeps no way to change it.
    Reread,
    /// All of it is written; its memory has this sum.
    Finish { sum: u64 },
    /// It will not be.
    Abandon,
    /// Whether this KVM interprets.
    Measure,
    /// The machine has ended; its process is to be gone within so many milliseconds.
    Ending { status: u8, within_ms: u32 },
    /// A client of the control socket that stays, with its stream.
    Client { subscribed: bool },
    /// The machine is to be started again.
    Again,
}

/// What it is told. Streams and files come along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Told {
    Done,
    Lacks(Vec<String>),
    Number(Option<u64>),
    /// The host's error.
    Refused(i32),
}

/// Bytes of all that a host lacks, with room for the rest of the word.
const LACKS_BYTES: usize = LONGEST / 2;
/// Controllers that there are groups for, and then some.
const MOST_LACKS: usize = 32;

impl Told {
    /// In place of an answer that is longer than a word.
    pub(super) const TOO_LONG: Self = Self::Refused(nix::libc::EMSGSIZE);

    /// As much of it as goes into a word; what is cut short says so.
    pub(super) fn lacking(mut texts: Vec<String>) -> Self {
        texts.truncate(MOST_LACKS);
        let each = LACKS_BYTES / texts.len().max(1);
        for text in texts.iter_mut().filter(|text| text.len() > each) {
            text.truncate(text.floor_char_boundary(each.saturating_sub(3)));
            text.push_str("...");
        }
        Self::Lacks(texts)
    }

    pub(super) fn refused(error: &io::Error) -> Self {
        let known = match error.kind() {
            io::ErrorKind::AlreadyExists => nix::libc::EEXIST,
            io::ErrorKind::NotFound => nix::libc::ENOENT,
            io::ErrorKind::PermissionDenied => nix::libc::EACCES,
            _ => nix::libc::EIO,
        };
        Self::Refused(error.raw_os_error().unwrap_or(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_lacks_is_told_in_a_word_however_much_it_is() {
        for (count, length) in [(0, 0), (1, 10), (1, 5000), (6, 300), (40, 40), (200, 1)] {
            let told = Told::lacking(vec!["\u{e4}".repeat(length); count]);
            let mut buffer = [0; LONGEST];
            assert!(postcard::to_slice(&told, &mut buffer).is_ok(), "{count} of {length}");
        }
        let Told::Lacks(short) = Told::lacking(vec!["pids: no such file".to_owned()]) else { panic!() };
        assert_eq!(short, ["pids: no such file"]);
    }
}

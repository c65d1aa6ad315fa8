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

impl Told {
    pub(super) fn refused(error: &io::Error) -> Self {
        let known = match error.kind() {
            io::ErrorKind::AlreadyExists => nix::libc::EEXIST,
            io::ErrorKind::NotFound => nix::libc::ENOENT,
            _ => nix::libc::EIO,
        };
        Self::Refused(error.raw_os_error().unwrap_or(known))
    }
}

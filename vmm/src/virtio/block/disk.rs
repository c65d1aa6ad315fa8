//! What the device asks of whatever holds its sectors.
//!
//! Duty: the contract between the model and a disk. A disk may answer at once or later; the model does not care
//! which. Not here: files ([`FileDisk`](super::FileDisk)).
//!
//! ```text
//!   start ──▶ Done(result)
//!     └─────▶ Pending ── submit ──▶ under way ──▶ finished() tells (tag, result)
//! ```

use std::io;

use crate::virtio::rings::{Reader, Writer};

/// Names one request of one driver initialisation. What comes late, after a reset, has another generation than
/// whatever is under way by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// Counts the driver's initialisations.
    pub generation: u32,
    /// Head of the request's chain, which no other request has for as long as this one is under way.
    pub head: u16,
}

/// What a disk is to do. Offsets and lengths are within [`Disk::bytes`]; none is zero long.
#[derive(Debug)]
pub enum Work<'a> {
    /// Fill `into` to its end from `offset` on.
    Read {
        /// Byte on the disk.
        offset: u64,
        /// Guest memory, as long as what is to be read.
        into: Writer<'a>,
    },
    /// Put all of `from` at `offset`.
    Write {
        /// Byte on the disk.
        offset: u64,
        /// Guest memory, as long as what is to be written.
        from: Reader<'a>,
        /// It must not be reported before it is on stable storage.
        durable: bool,
    },
    /// Make durable whatever was reported as written.
    Flush,
    /// Forget what is there; anything may be read afterwards.
    Discard {
        /// Byte on the disk.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// Zeroes are to be read from there.
    Zero {
        /// Byte on the disk.
        offset: u64,
        /// How many.
        bytes: u64,
        /// Its storage may be given back.
        unmap: bool,
        /// It must not be reported before it is on stable storage.
        durable: bool,
    },
}

/// How a disk took its work.
#[derive(Debug)]
#[must_use]
pub enum Started {
    /// It is over.
    Done(io::Result<()>),
    /// [`Disk::finished`] will tell.
    Pending,
}

/// What a disk can do with ranges besides reading and writing them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// It can discard, best in pieces of so many bytes.
    pub discard: Option<u64>,
    /// It can make zeroes without being sent them.
    pub zero: bool,
}

/// Sectors that can be read, written and made durable.
pub trait Disk: Send {
    /// Size of the disk, a multiple of [`SECTOR`](super::SECTOR). Does not change.
    fn bytes(&self) -> u64;

    /// What else it can do. Does not change.
    fn space(&self) -> Space;

    /// Starts `work`. While it is pending the disk keeps the guest memory in it mapped.
    fn start(&mut self, tag: Tag, work: Work<'_>) -> Started;

    /// Sends to the host what was started and is pending: once for all of a turn.
    fn submit(&mut self);

    /// As [`submit`](Self::submit), on the thread of a vCPU: what the host does not take is left for the event loop, which
    /// hears of it.
    fn offer(&mut self) {
        self.submit();
    }

    /// What is over, one at a time. Whatever it goes on with needs another [`submit`](Self::submit).
    fn finished(&mut self) -> Option<(Tag, io::Result<()>)>;

    /// How much is pending.
    fn pending(&self) -> usize;

    /// Blocks until [`finished`](Self::finished) has something to tell; returns at once where nothing is pending.
    fn wait(&mut self);

    /// What it did so far, by name, see [`counters`](crate::virtio::device::VirtioDevice::counters).
    fn counters(&self, report: &mut dyn FnMut(&'static str, u64));
}

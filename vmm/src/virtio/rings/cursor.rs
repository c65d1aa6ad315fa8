//! Readers and writers that walk over a chain's buffers as if they were one.
//!
//! Duty: bytes between guest memory and the device model, or straight between guest memory and a host
//! descriptor, without a copy in between. Invariant: a cursor never leaves its chain; running out is an
//! answer (a short count, `None`), not a fault.

use vm_memory::{
    Address, Bytes, GuestMemoryBackend, ReadVolatile, VolatileMemoryError, VolatileSlice, WriteVolatile,
};

use super::chain::Segment;
use crate::memory::GuestRam;

/// A piece of guest memory that is contiguous on the host too.
pub type GuestSlice<'a> = VolatileSlice<'a>;

/// A position in a list of segments.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    memory: &'a GuestRam,
    /// The segment the position is in, and those after it.
    segments: &'a [Segment],
    /// Bytes of the first segment that are behind the position.
    behind: usize,
    remaining: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(memory: &'a GuestRam, segments: &'a [Segment], bytes: usize) -> Self {
        Self { memory, segments, behind: 0, remaining: bytes }
    }

    /// The bytes from the position on that are contiguous on the host, at most `max`.
    fn slice(&self, max: usize) -> Option<GuestSlice<'a>> {
        let segment = self.segments.first()?;
        let left = (segment.bytes as usize).saturating_sub(self.behind);
        let bytes = left.min(self.remaining).min(max);
        if bytes == 0 {
            return None;
        }
        let address = segment.address.checked_add(self.behind as u64)?;
        // Checked when the chain was walked, and RAM does not go away: the error cannot come.
        GuestMemoryBackend::get_slices(self.memory, address, bytes).next()?.ok()
    }

    fn pieces(&self) -> impl Iterator<Item = GuestSlice<'a>> + use<'a> {
        let mut ahead = self.clone();
        std::iter::from_fn(move || {
            let piece = ahead.slice(usize::MAX)?;
            ahead.skip(piece.len());
            Some(piece)
        })
    }

    fn skip(&mut self, bytes: usize) -> usize {
        let bytes = bytes.min(self.remaining);
        let mut left = bytes;
        while let Some((first, rest)) = self.segments.split_first() {
            let here = (first.bytes as usize).saturating_sub(self.behind);
            if left < here {
                self.behind = self.behind.saturating_add(left);
                break;
            }
            left = left.saturating_sub(here);
            self.behind = 0;
            self.segments = rest;
        }
        self.remaining = self.remaining.saturating_sub(bytes);
        bytes
    }

    /// Moves over at most `max` bytes, piece by piece, for as long as `step` takes whole pieces.
    ///
    /// An error after some bytes is kept for the next call, as `read` and `write` do.
    fn stream<E>(
        &mut self,
        max: usize,
        mut step: impl FnMut(&mut GuestSlice<'a>) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let mut moved = 0usize;
        while let Some(mut slice) = self.slice(max.saturating_sub(moved)) {
            let whole = slice.len();
            let count = match step(&mut slice) {
                Ok(count) => self.skip(count),
                Err(error) if moved == 0 => return Err(error),
                Err(_) => break,
            };
            moved = moved.saturating_add(count);
            if count < whole {
                break;
            }
        }
        Ok(moved)
    }
}

/// Reads the device-readable part of a chain.
#[derive(Debug, Clone)]
pub struct Reader<'a>(Cursor<'a>);

impl<'a> Reader<'a> {
    pub(super) const fn new(cursor: Cursor<'a>) -> Self {
        Self(cursor)
    }

    /// Bytes from here to the end.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.0.remaining
    }

    /// Puts the end where `bytes` more are left, if it is not nearer already.
    pub fn limit(&mut self, bytes: usize) {
        self.0.remaining = self.0.remaining.min(bytes);
    }

    /// Passes over at most `bytes` and says how many there were.
    pub fn skip(&mut self, bytes: usize) -> usize {
        self.0.skip(bytes)
    }

    /// Copies to `into` as much as there is.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        let mut left = &mut *into;
        let max = left.len();
        // A slice of memory takes or gives all that fits: the error cannot come.
        self.0.stream(max, |slice| left.write_volatile(slice)).unwrap_or(0)
    }

    /// The next `N` bytes, or `None`, and nothing read, where there are fewer.
    pub fn read_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut array = [0; N];
        let mut ahead = self.clone();
        if ahead.read(&mut array) < N {
            return None;
        }
        *self = ahead;
        Some(array)
    }

    /// The next piece that is contiguous on the host, at most `max` bytes. [`skip`](Self::skip) passes it.
    #[must_use]
    pub fn slice(&self, max: usize) -> Option<GuestSlice<'a>> {
        self.0.slice(max)
    }

    /// All pieces from here to the end, see [`slice`](Self::slice). The position stays.
    pub fn pieces(&self) -> impl Iterator<Item = GuestSlice<'a>> + use<'a> {
        self.0.pieces()
    }

    /// The memory that the pieces are in.
    #[must_use]
    pub const fn memory(&self) -> &'a GuestRam {
        self.0.memory
    }

    /// Writes to `sink` straight from guest memory, at most `max` bytes, until it takes no more.
    pub fn write_to<W: WriteVolatile>(
        &mut self,
        sink: &mut W,
        max: usize,
    ) -> Result<usize, VolatileMemoryError> {
        self.0.stream(max, |slice| sink.write_volatile(slice))
    }
}

/// Writes the device-writable part of a chain.
#[derive(Debug, Clone)]
pub struct Writer<'a>(Cursor<'a>);

impl<'a> Writer<'a> {
    pub(super) const fn new(cursor: Cursor<'a>) -> Self {
        Self(cursor)
    }

    /// Room from here to the end.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.0.remaining
    }

    /// Puts the end where room for `bytes` is left, if it is not nearer already.
    pub fn limit(&mut self, bytes: usize) {
        self.0.remaining = self.0.remaining.min(bytes);
    }

    /// Passes over at most `bytes` and says how many there were.
    pub fn skip(&mut self, bytes: usize) -> usize {
        self.0.skip(bytes)
    }

    /// Copies from `from` as much as there is room for.
    pub fn write(&mut self, from: &[u8]) -> usize {
        let mut left = from;
        // See `Reader::read`.
        self.0.stream(from.len(), |slice| left.read_volatile(slice)).unwrap_or(0)
    }

    /// Writes `bytes` zeroes, or as many as there is room for.
    pub fn write_zeroes(&mut self, bytes: usize) -> usize {
        const ZEROES: [u8; 512] = [0; 512];
        let fill = |slice: &mut GuestSlice<'a>| slice.write(&ZEROES, 0).map(|count| count.min(slice.len()));
        let mut written = 0usize;
        // A piece of memory takes at most 512 at a time, so short counts here do not mean the end.
        while written < bytes {
            match self.0.stream(bytes.saturating_sub(written).min(ZEROES.len()), fill) {
                Ok(count) if count > 0 => written = written.saturating_add(count),
                Ok(_) | Err(_) => break,
            }
        }
        written
    }

    /// The next piece that is contiguous on the host, at most `max` bytes. [`skip`](Self::skip) passes it.
    #[must_use]
    pub fn slice(&self, max: usize) -> Option<GuestSlice<'a>> {
        self.0.slice(max)
    }

    /// All pieces from here to the end, see [`slice`](Self::slice). The position stays.
    pub fn pieces(&self) -> impl Iterator<Item = GuestSlice<'a>> + use<'a> {
        self.0.pieces()
    }

    /// The memory that the pieces are in.
    #[must_use]
    pub const fn memory(&self) -> &'a GuestRam {
        self.0.memory
    }

    /// Reads from `source` straight into guest memory, at most `max` bytes, until it gives no more.
    pub fn read_from<R: ReadVolatile>(
        &mut self,
        source: &mut R,
        max: usize,
    ) -> Result<usize, VolatileMemoryError> {
        self.0.stream(max, |slice| source.read_volatile(slice))
    }
}

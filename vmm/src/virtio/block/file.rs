//! Sectors in a file or a block device of the host.
//!
//! Duty: carry out each request in the cheapest way that does not hold up the event loop. What is in the host's
//! page cache is copied at once, with one call; what has to wait for storage goes through io_uring, where there is
//! one; and without it the event loop waits. With it, it does in one case: a host that throttles writers where the
//! file system cannot tell, and then rarely, see [`Ways`].
//!
//! Why not everything through io_uring: for what is in the page cache a completion costs as much as the call that
//! it replaces, and where the file system cannot start a request without waiting (writes on ext4, everything on
//! tmpfs), the kernel hands it to another thread, which costs ten times the copy. Measured, per 4 KiB: 1.6 us by a
//! call, 35 to 75 us by way of a thread.
//!
//! ```text
//!                 AtOnce: done                       the call took too long
//!   request ──┬───────────────▶ answered     waits ──────────────────────────▶ io_uring for a while
//!             ├─ not at hand ──▶ io_uring      ▲
//!             ├─ cannot tell ──────────────────┘ (and not asked again)
//!             └─ cannot tell, and is large or half a block ──▶ io_uring
//! ```

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::Once;
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use super::disk::{Disk, Space, Started, Tag, Work};
use super::image::{Image, OpenError};
use super::trim;
use super::trimmer::Trimmer;
use super::uring::{Unavailable, Uring};
use crate::snapshot::sum::of_pages;
use crate::virtio::rings::{GuestSlice, Reader, Writer};
use crate::virtio::vectored::{self, Patience};

/// Bytes that a call which may wait moves at most: 30 us of copying, less than the way through io_uring costs, and one
/// meeting with a host that throttles whoever writes too fast.
const AT_ONCE: usize = 128 << 10;
/// A call that takes longer than this held up the event loop. Well above a time slice: a busy processor is no reason to
/// go another way.
const TOO_LONG: Duration = Duration::from_millis(20);
/// How many requests go through io_uring after such a call, before another is tried; twice as many each time that this
/// one takes too long as well, one less for each that does not.
const DETOUR: u32 = 64;
/// The longest detour. A throttled call takes up to 200 ms, and so many requests some seconds at the least.
const LONGEST_DETOUR: u32 = 1 << 16;
/// Bytes of the zeroes that are written where nothing else makes them; with the pieces of one call, more than a
/// request may ask for.
const ZEROES: usize = 64 << 10;
/// Bytes at either end of a disk that are looked at to tell it from others.
const IDENTITY_BYTES: usize = 4096;

/// An image with its way to the host.
#[derive(Debug)]
pub struct FileDisk {
    /// Above the image, as it is dropped first: what is under way uses the file.
    ring: Option<Uring>,
    image: Image,
    /// Made by the first discard that needs it.
    trimmer: Option<Trimmer>,
    read_only: bool,
    ways: Ways,
    /// Results of a ring that is gone.
    left_over: Vec<(Tag, io::Result<()>)>,
    /// Requests that went through io_uring.
    carried: u64,
}

/// What is known about calls that must not wait.
#[derive(Debug)]
struct Ways {
    /// The file system says what is not at hand, for reads and for writes.
    reads_tell: bool,
    writes_tell: bool,
    /// Requests that go through io_uring whatever is at hand.
    detour: u32,
    /// The length of the next detour.
    next_detour: u32,
}

/// Guest memory on its way from or to the file.
enum Transfer<'a> {
    Read(Writer<'a>),
    Write { from: Reader<'a>, durable: bool },
}

impl FileDisk {
    /// Opens an image, see [`OpenError`] for what cannot be one. With io_uring, if the host has it.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, OpenError> {
        let mut disk = Self::without_ring(path, read_only)?;
        match Uring::new(disk.image.descriptor().as_raw_fd()) {
            Ok(ring) => disk.ring = Some(ring),
            Err(reason) => tell_once(&reason),
        }
        Ok(disk)
    }

    /// Opens an image that the event loop reads and writes by itself.
    pub fn without_ring(path: &Path, read_only: bool) -> Result<Self, OpenError> {
        Ok(Self {
            ring: None,
            image: Image::open(path, read_only)?,
            trimmer: None,
            read_only,
            ways: Ways { reads_tell: true, writes_tell: true, detour: 0, next_detour: DETOUR },
            left_over: Vec::new(),
            carried: 0,
        })
    }

    /// What tells it from other disks: its size, and a sum of its first and last pages, where file systems and tables
    /// of partitions keep what changes whenever they are written.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        let bytes = self.image.bytes();
        let last = bytes.saturating_sub(IDENTITY_BYTES as u64);
        let mut sum = 0u64;
        for at in [0, last] {
            let mut page = [0; IDENTITY_BYTES];
            let length = usize::try_from(bytes).unwrap_or(IDENTITY_BYTES).min(IDENTITY_BYTES);
            let page = page.get_mut(..length).unwrap_or_default();
            self.image.read_exact_at(page, at)?;
            sum = sum.wrapping_add(of_pages(at, page));
        }
        Ok((bytes, sum))
    }

    /// Signalled when something is over that was pending, if anything ever is.
    pub fn event(&self) -> Option<&EventFd> {
        self.ring.as_ref().map(Uring::event)
    }

    /// Sends everything through io_uring from now on.
    #[cfg(test)]
    pub(super) const fn take_a_detour(&mut self) {
        self.ways.detour = u32::MAX;
    }

    /// As if a call had taken so long.
    #[cfg(test)]
    pub(super) fn took(&mut self, time: Duration) {
        self.ways.took(time);
    }

    #[cfg(test)]
    pub(super) const fn detour(&self) -> u32 {
        self.ways.detour
    }

    /// As on a file system that does not say what is at hand.
    #[cfg(test)]
    pub(super) const fn cannot_tell(&mut self) {
        self.ways.reads_tell = false;
        self.ways.writes_tell = false;
    }

    /// Has the next call to io_uring fail.
    #[cfg(test)]
    pub(super) fn deny_io_uring(&mut self) {
        if let Some(ring) = &mut self.ring {
            ring.deny(io::ErrorKind::PermissionDenied, u32::MAX);
        }
    }

    fn transfer(&mut self, tag: Tag, mut offset: u64, mut what: Transfer<'_>) -> Started {
        let Some(ring) = &mut self.ring else { return Started::Done(what.whole(&self.image, offset)) };
        if !what.is_durable() && self.ways.detour == 0 {
            let tells = match what {
                Transfer::Read(_) => &mut self.ways.reads_tell,
                Transfer::Write { .. } => &mut self.ways.writes_tell,
            };
            if *tells {
                match what.once(self.image.descriptor(), offset, Patience::AtOnce) {
                    Ok(bytes) => offset = what.skip(offset, bytes),
                    Err(error) => *tells = error.kind() != io::ErrorKind::Unsupported,
                }
                if what.remaining() == 0 {
                    return Started::Done(Ok(()));
                }
            }
            if !*tells && what.is_brief(&self.image, offset) {
                let began = Instant::now();
                let result = what.whole(&self.image, offset);
                self.ways.took(began.elapsed());
                return Started::Done(result);
            }
        }
        self.ways.detour = self.ways.detour.saturating_sub(1);
        self.carried = self.carried.saturating_add(1);
        match what {
            Transfer::Read(into) => ring.read(tag, offset, into.pieces(), into.memory()),
            Transfer::Write { from, durable } => {
                ring.write(tag, offset, from.pieces(), from.memory(), durable);
            }
        }
        Started::Pending
    }

    /// Starts the thread that discards need on a device of the host, for where none can be started later.
    pub fn start_helper(&mut self) -> io::Result<()> {
        let needs_one = self.image.discards().is_some() && self.image.discarding().is_none();
        if let Some(ring) = self.ring.as_ref().filter(|_| needs_one && self.trimmer.is_none()) {
            let device = self.image.descriptor().try_clone_to_owned()?;
            self.trimmer = Some(Trimmer::start(device, ring.event().try_clone()?, trim::discard)?);
        }
        Ok(())
    }

    fn discard(&mut self, tag: Tag, offset: u64, bytes: u64) -> Started {
        let Some(ring) = &mut self.ring else { return Started::Done(self.image.discard(offset, bytes)) };
        if let Some(mode) = self.image.discarding() {
            self.carried = self.carried.saturating_add(1);
            ring.fallocate(tag, mode.bits(), offset, bytes);
            return Started::Pending;
        }
        let Some((offset, bytes)) = self.image.whole_blocks(offset, bytes) else {
            return Started::Done(Ok(()));
        };
        let trimmer = match self.trimmer.take() {
            None => self
                .image
                .descriptor()
                .try_clone_to_owned()
                .and_then(|device| Trimmer::start(device, ring.event().try_clone()?, trim::discard)),
            Some(trimmer) => Ok(trimmer),
        };
        match trimmer {
            Ok(mut trimmer) => {
                trimmer.discard(tag, offset, bytes);
                self.trimmer = Some(trimmer);
                Started::Pending
            }
            // No threads left: the driver hears that it is as it was.
            Err(error) => Started::Done(Err(error)),
        }
    }

    fn zero(&mut self, tag: Tag, offset: u64, bytes: u64, unmap: bool, durable: bool) -> Started {
        let call = self.image.zeroing(unmap);
        if let Some(ring) = &mut self.ring {
            self.carried = self.carried.saturating_add(1);
            ring.zero(tag, (!durable).then_some(call.bits()), offset, bytes);
            return Started::Pending;
        }
        let zeroed = match self.image.fallocate(call, offset, bytes) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) =>
            {
                self.write_zeroes(offset, bytes)
            }
            other => other,
        };
        if zeroed.is_ok() && durable { self.flush(tag) } else { Started::Done(zeroed) }
    }

    /// The last way: by hand. [`MAX_ZEROED`](super::request::MAX_ZEROED) bounds it to what a turn may move.
    fn write_zeroes(&self, mut offset: u64, bytes: u64) -> io::Result<()> {
        let mut zeroes = vec![0; ZEROES];
        let end = offset.saturating_add(bytes);
        while offset < end {
            let mut left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
            let zeroes = GuestSlice::from(zeroes.as_mut_slice());
            let pieces = std::iter::from_fn(|| {
                let piece = zeroes.subslice(0, left.min(ZEROES)).ok().filter(|piece| !piece.is_empty())?;
                left = left.saturating_sub(piece.len());
                Some(piece)
            });
            match vectored::write_at(self.image.descriptor(), offset, pieces, Patience::Waits) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => offset = offset.saturating_add(written as u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn flush(&mut self, tag: Tag) -> Started {
        match &mut self.ring {
            Some(ring) => {
                self.carried = self.carried.saturating_add(1);
                ring.sync(tag);
                Started::Pending
            }
            None => Started::Done(self.image.flush()),
        }
    }
}

impl Ways {
    /// A call that was free to wait has taken so long.
    fn took(&mut self, time: Duration) {
        if time > TOO_LONG {
            self.detour = self.next_detour;
            self.next_detour = self.next_detour.saturating_mul(2).min(LONGEST_DETOUR);
        } else {
            self.next_detour = self.next_detour.saturating_sub(1).max(DETOUR);
        }
    }
}

impl Transfer<'_> {
    const fn is_durable(&self) -> bool {
        matches!(self, Self::Write { durable: true, .. })
    }

    /// Whether a call that may wait has little to wait for.
    fn is_brief(&self, image: &Image, offset: u64) -> bool {
        let bytes = self.remaining();
        let is_write = matches!(self, Self::Write { .. });
        bytes <= AT_ONCE && (!is_write || image.is_whole(offset, bytes as u64))
    }

    const fn remaining(&self) -> usize {
        match self {
            Self::Read(into) => into.remaining(),
            Self::Write { from, .. } => from.remaining(),
        }
    }

    /// Passes over what was moved, and says where on the disk it goes on.
    fn skip(&mut self, offset: u64, bytes: usize) -> u64 {
        let passed = match self {
            Self::Read(into) => into.skip(bytes),
            Self::Write { from, .. } => from.skip(bytes),
        };
        offset.saturating_add(passed as u64)
    }

    /// One call.
    fn once(&self, file: BorrowedFd<'_>, offset: u64, patience: Patience) -> io::Result<usize> {
        match self {
            Self::Read(into) => vectored::read_at(file, offset, into.pieces(), patience),
            Self::Write { from, .. } => vectored::write_at(file, offset, from.pieces(), patience),
        }
    }

    /// As many calls as it takes, which is one.
    fn whole(&mut self, image: &Image, mut offset: u64) -> io::Result<()> {
        let patience = if self.is_durable() { Patience::Durable } else { Patience::Waits };
        while self.remaining() > 0 {
            match self.once(image.descriptor(), offset, patience) {
                // An end that came too early: the file shrank.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => offset = self.skip(offset, bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Every disk of a machine meets the same reason.
fn tell_once(reason: &Unavailable) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        log::info!("io_uring: {reason}; the event loop waits for disks itself");
    });
}

impl Disk for FileDisk {
    fn bytes(&self) -> u64 {
        self.image.bytes()
    }

    fn space(&self) -> Space {
        Space { discard: self.image.discards(), zero: !self.read_only }
    }

    fn start(&mut self, tag: Tag, work: Work<'_>) -> Started {
        match work {
            Work::Read { offset, into } => self.transfer(tag, offset, Transfer::Read(into)),
            Work::Write { offset, from, durable } => {
                self.transfer(tag, offset, Transfer::Write { from, durable })
            }
            Work::Flush => self.flush(tag),
            Work::Discard { offset, bytes } => self.discard(tag, offset, bytes),
            Work::Zero { offset, bytes, unmap, durable } => self.zero(tag, offset, bytes, unmap, durable),
        }
    }

    fn submit(&mut self) {
        if let Some(ring) = &mut self.ring
            && let Err(error) = ring.submit()
            && let Some(ring) = self.ring.take()
        {
            log::warn!("io_uring: {error}; from now on the event loop waits for this disk itself");
            self.left_over.append(&mut ring.without_kernel());
        }
    }

    fn offer(&mut self) {
        if let Some(ring) = &mut self.ring
            && ring.submit().is_err()
        {
            // To do it without io_uring takes calls that a vCPU's filter lacks. The next submission fails alike, there.
            // Ringing fails only when the counter is full, and then it is readable already.
            let _ = ring.event().write(1);
        }
    }

    fn finished(&mut self) -> Option<(Tag, io::Result<()>)> {
        let finished = self.left_over.pop().or_else(|| self.ring.as_mut()?.finished());
        finished.or_else(|| self.trimmer.as_mut()?.finished())
    }

    fn pending(&self) -> usize {
        let elsewhere = self.ring.as_ref().map_or(0, Uring::pending);
        let trimmed = self.trimmer.as_ref().map_or(0, Trimmer::pending);
        self.left_over.len().saturating_add(elsewhere).saturating_add(trimmed)
    }

    fn wait(&mut self) {
        match (&mut self.ring, &mut self.trimmer) {
            _ if !self.left_over.is_empty() => {}
            (Some(ring), _) if ring.pending() > 0 => ring.wait(),
            (_, Some(trimmer)) => trimmer.wait(),
            (_, None) => {}
        }
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        report("io_uring", u64::from(self.ring.is_some()));
        report("through_io_uring", self.carried);
    }
}

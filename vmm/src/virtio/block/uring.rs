//! Requests that have to wait, carried by io_uring: the event loop goes on meanwhile.
//!
//! Duty: one ring, a table of what is under way in it, and an event that tells when something is over. Not its
//! duty: which requests have to wait ([`FileDisk`](super::FileDisk)), and what order they are in (the model).
//!
//! ```text
//!   Free ─ read, write, sync, fallocate ... ─▶ Queued ── submit ──▶ in the kernel ── completion ──▶ Free
//!                                              ▲                                        │
//!                                              └──────── a part of it is left ──────────┘
//! ```
//!
//! Invariant: a [`Slot`] that is taken holds what the kernel may touch, the guest's memory and the list of its
//! pieces, and is freed by nothing but the completion of its request. A ring is dropped when all of them are.
//!
//! What a ring is asked to do passes no filter of system calls. So the kernel is told, before it takes the first
//! request, which kinds there are; it refuses every other, whoever puts it there.
#![allow(
    unsafe_code,
    reason = "the kernel works on memory after the call that asks it to; the slots keep that memory"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use io_uring::register::Restriction;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{EnterFlags, IoUring, Probe, opcode, squeue};
use nix::errno::Errno;
use nix::libc::{self, iovec};
use nix::poll::{PollFd, PollFlags, poll};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::device::QUEUE_SIZE;
use super::disk::Tag;
use super::request::MAX_ZEROED;
use crate::memory::GuestRam;
use crate::virtio::rings::GuestSlice;
use crate::virtio::vectored;

/// Entries of the ring, of 64 bytes each: as many as there can be requests under way, so it is never full.
const ENTRIES: u32 = QUEUE_SIZE as u32;
/// Kernel threads that may wait for storage on behalf of one disk: one for writes, which a file takes one by one,
/// and one for a flush or a discard beside it.
const WORKERS: u32 = 2;
/// How often in a row the kernel may say "not now" to one request before it counts as an error.
const ATTEMPTS: u8 = 16;

/// How often in a row the kernel may put off what is sent to it, for want of memory or because it wants completions
/// taken first, before the ring counts as lost. The event loop has a turn in between.
const REFUSALS: u32 = 1000;
/// Milliseconds between two looks at completions where the kernel cannot be asked to wait for one.
const LOOK_AGAIN: u16 = 10;

/// Why requests cannot be carried by io_uring on this host.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unavailable {
    #[error("the kernel has none, or does not let this process use it: {0}")]
    Refused(io::Error),
    #[error("the kernel's is too old, expected Linux 5.10 or later")]
    TooOld,
    #[error("no event for it: {0}")]
    Event(io::Error),
    #[error("the kernel does not bound what it may be asked to do: {0}")]
    Unbounded(io::Error),
}

/// What a slot asks of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    Read,
    Write {
        durable: bool,
    },
    Sync,
    Fallocate {
        mode: i32,
    },
    /// As `Fallocate`, and a write of zeroes where that does not work.
    Zero {
        mode: i32,
    },
}

/// What a ring may be asked to do.
const KINDS: [u8; 6] = [
    opcode::Read::CODE,
    opcode::Readv::CODE,
    opcode::Write::CODE,
    opcode::Writev::CODE,
    opcode::Fsync::CODE,
    opcode::Fallocate::CODE,
];

/// What is written where nothing else makes zeroes.
static ZEROES: [u8; 4096] = [0; 4096];
/// Pieces that one call takes (UIO_MAXIOV).
const MAX_PIECES: u64 = 1024;
const _: () =
    assert!(MAX_ZEROED <= MAX_PIECES * ZEROES.len() as u64, "one call zeroes what one request may ask for");

/// One request, from start to completion.
#[derive(Debug)]
struct Slot {
    tag: Tag,
    errand: Errand,
    offset: u64,
    /// Bytes that are still to be moved.
    left: u64,
    /// Where to, or from, which are zeroes that nobody changes or pieces of `memory`; kept for its allocation when the
    /// slot is free.
    pieces: Vec<iovec>,
    /// Keeps the pieces mapped. `None`: the slot is free, or its errand needs no memory of the guest.
    memory: Option<GuestRam>,
    attempts: u8,
}

/// A ring for one file.
pub(super) struct Uring {
    ring: IoUring,
    event: EventFd,
    file: RawFd,
    slots: Vec<Slot>,
    free: Vec<u16>,
    /// In a row, see [`REFUSALS`].
    refusals: u32,
    #[cfg(test)]
    denied: Option<(io::ErrorKind, u32)>,
}

// SAFETY: what keeps it from being `Send` are the pointers in `pieces`. They are addresses for the kernel, which
// this code never follows, and `memory` keeps them valid on whatever thread they are.
unsafe impl Send for Uring {}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring").field("pending", &self.pending()).finish_non_exhaustive()
    }
}

impl Uring {
    /// A ring for `file`, which the caller keeps open for as long as the ring lives.
    pub(super) fn new(file: RawFd) -> Result<Self, Unavailable> {
        let built = IoUring::builder().setup_r_disabled().build(ENTRIES);
        // Unknown flags are invalid, and so is nothing else here.
        let ring = built.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => Unavailable::TooOld,
            _ => Unavailable::Refused(error),
        })?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe).map_err(|_| Unavailable::TooOld)?;
        let complete = KINDS.into_iter().all(|code| probe.is_supported(code));
        if !(complete && ring.params().is_feature_nodrop() && ring.params().is_feature_submit_stable()) {
            return Err(Unavailable::TooOld);
        }
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(Unavailable::Event)?;
        ring.submitter().register_eventfd(event.as_raw_fd()).map_err(Unavailable::Event)?;
        // Kernels before 5.15 have no such bound, but one of their own.
        let _ = ring.submitter().register_iowq_max_workers(&mut [WORKERS, 1]);
        // From here on nothing else can be registered either.
        ring.submitter()
            .register_restrictions(&mut KINDS.map(Restriction::sqe_op))
            .and_then(|()| ring.submitter().register_enable_rings())
            .map_err(Unavailable::Unbounded)?;
        Ok(Self {
            ring,
            event,
            file,
            slots: Vec::new(),
            free: Vec::new(),
            refusals: 0,
            #[cfg(test)]
            denied: None,
        })
    }

    /// Signalled for each completion.
    pub(super) const fn event(&self) -> &EventFd {
        &self.event
    }

    pub(super) fn pending(&self) -> usize {
        self.slots.len().saturating_sub(self.free.len())
    }

    /// Reads into `pieces`, which lie in `memory`.
    pub(super) fn read<'a>(
        &mut self,
        tag: Tag,
        offset: u64,
        pieces: impl Iterator<Item = GuestSlice<'a>>,
        memory: &GuestRam,
    ) {
        self.transfer(tag, Errand::Read, offset, pieces, memory);
    }

    /// Writes from `pieces`, which lie in `memory`.
    pub(super) fn write<'a>(
        &mut self,
        tag: Tag,
        offset: u64,
        pieces: impl Iterator<Item = GuestSlice<'a>>,
        memory: &GuestRam,
        durable: bool,
    ) {
        self.transfer(tag, Errand::Write { durable }, offset, pieces, memory);
    }

    fn transfer<'a>(
        &mut self,
        tag: Tag,
        errand: Errand,
        offset: u64,
        pieces: impl Iterator<Item = GuestSlice<'a>>,
        memory: &GuestRam,
    ) {
        let index = self.take(tag, errand, offset, 0);
        if let Some(slot) = self.slots.get_mut(usize::from(index)) {
            slot.pieces.extend(pieces.map(|piece| vectored::vector(&piece)));
            slot.left = slot.pieces.iter().fold(0, |sum, piece| sum.saturating_add(piece.iov_len as u64));
            slot.memory = Some(memory.clone());
        }
        self.queue(index);
    }

    /// Makes durable what was written.
    pub(super) fn sync(&mut self, tag: Tag) {
        let index = self.take(tag, Errand::Sync, 0, 0);
        self.queue(index);
    }

    /// Gives storage back or zeroes it, as `mode` says.
    pub(super) fn fallocate(&mut self, tag: Tag, mode: i32, offset: u64, bytes: u64) {
        let index = self.take(tag, Errand::Fallocate { mode }, offset, bytes);
        self.queue(index);
    }

    /// Makes zeroes by the call that `mode` names, or by writing them: where that does not work, or where there is none
    /// as they must be durable.
    pub(super) fn zero(&mut self, tag: Tag, mode: Option<i32>, offset: u64, bytes: u64) {
        let errand = mode.map_or(Errand::Write { durable: true }, |mode| Errand::Zero { mode });
        let index = self.take(tag, errand, offset, bytes);
        if mode.is_none()
            && let Some(slot) = self.slots.get_mut(usize::from(index))
        {
            slot.write_zeroes(true);
        }
        self.queue(index);
    }

    /// A free slot, or a new one: there are as many as were ever pending at once.
    fn take(&mut self, tag: Tag, errand: Errand, offset: u64, left: u64) -> u16 {
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(usize::from(index))
        {
            slot.pieces.clear();
            let pieces = std::mem::take(&mut slot.pieces);
            *slot = Slot { tag, errand, offset, left, pieces, memory: None, attempts: 0 };
            return index;
        }
        let index = u16::try_from(self.slots.len()).unwrap_or(u16::MAX);
        self.slots.push(Slot { tag, errand, offset, left, pieces: Vec::new(), memory: None, attempts: 0 });
        index
    }

    /// Puts what a slot has left to do where the kernel finds it.
    fn queue(&mut self, index: u16) {
        let Some(slot) = self.slots.get(usize::from(index)) else { return };
        let entry = slot.entry(Fd(self.file)).user_data(index.into());
        // SAFETY: the slot owns the list of pieces and keeps their memory mapped until the completion that has
        // its number; a list that is moved with its slot stays where it is on the heap. Zeroes are static, and only
        // ever written from. The file is open. There is room: see `ENTRIES`.
        let _ = unsafe { self.ring.submission().push(&entry) };
    }

    /// Hands what is queued to the kernel: one call, unless it takes a part only, or nothing now; then
    /// [`event`](Self::event) asks for another try. After an error the ring is good for
    /// [`without_kernel`](Self::without_kernel) alone.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        while !self.ring.submission().is_empty() {
            match self.enter() {
                Ok(_) => self.refusals = 0,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::ResourceBusy if self.refusals < REFUSALS => {
                        self.refusals = self.refusals.saturating_add(1);
                        // Fails only when the counter is full, and then it is readable already.
                        let _ = self.event.write(1);
                        return Ok(());
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    fn enter(&mut self) -> io::Result<usize> {
        #[cfg(test)]
        if let Some((kind, times)) = &mut self.denied
            && let Some(left) = times.checked_sub(1)
        {
            *times = left;
            return Err((*kind).into());
        }
        self.ring.submit()
    }

    /// What the kernel answers to a request of another kind, and to a change of the ring.
    #[cfg(test)]
    pub(super) fn overreach(&mut self) -> (i32, io::Result<()>) {
        // SAFETY: it passes no memory.
        unsafe { self.ring.submission().push(&opcode::Nop::new().build()) }.unwrap();
        self.ring.submit_and_wait(1).unwrap();
        let answer = self.ring.completion().next().unwrap().result();
        (answer, self.ring.submitter().unregister_eventfd())
    }

    /// Has the next calls fail, so many times.
    #[cfg(test)]
    pub(super) const fn deny(&mut self, kind: io::ErrorKind, times: u32) {
        self.denied = Some((kind, times));
    }

    /// Blocks until a completion is there, if there is one to come.
    ///
    /// The kernel is asked, not the event: another thread may just have emptied that.
    pub(super) fn wait(&mut self) {
        if self.in_kernel() == 0 || !self.ring.completion().is_empty() {
            return;
        }
        let (nothing, one) = (None::<&libc::sigset_t>, EnterFlags::GETEVENTS.bits());
        // SAFETY: it submits nothing and passes no memory.
        let waited = unsafe { self.ring.submitter().enter(0, 1, one, nothing) };
        if waited.is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
            // A process that may no longer call io_uring_enter still gets its completions.
            // SAFETY: the event is open for longer than the call takes.
            let event = unsafe { BorrowedFd::borrow_raw(self.event.as_raw_fd()) };
            let mut event = [PollFd::new(event, PollFlags::POLLIN)];
            let _ = poll(&mut event, LOOK_AGAIN);
        }
    }

    fn in_kernel(&mut self) -> usize {
        self.pending().saturating_sub(self.ring.submission().len())
    }

    /// The next request that is over. One of which a part is left is queued again.
    pub(super) fn finished(&mut self) -> Option<(Tag, io::Result<()>)> {
        loop {
            let (index, result) = self.completion()?;
            match result {
                Some(result) => return self.release(index, result),
                None => self.queue(index),
            }
        }
    }

    /// The slot that the kernel is done with, and its result unless a part of it is left.
    fn completion(&mut self) -> Option<(u16, Option<io::Result<()>>)> {
        let completion = self.ring.completion().next()?;
        let index = u16::try_from(completion.user_data()).unwrap_or(u16::MAX);
        let slot = self.slots.get_mut(usize::from(index))?;
        Some((index, slot.moved(completion.result())))
    }

    fn release(&mut self, index: u16, result: io::Result<()>) -> Option<(Tag, io::Result<()>)> {
        let slot = self.slots.get_mut(usize::from(index))?;
        slot.memory = None;
        self.free.push(index);
        Some((slot.tag, result))
    }

    /// Brings everything to its end without io_uring, and tells how: what is in the kernel is waited for, what
    /// is not, is done here.
    pub(super) fn without_kernel(mut self) -> Vec<(Tag, io::Result<()>)> {
        let mut results = Vec::new();
        while self.in_kernel() > 0 {
            self.wait();
            while let Some((index, result)) = self.completion() {
                let result = result.unwrap_or_else(|| self.carry_out(index));
                results.extend(self.release(index, result));
            }
        }
        for index in 0..u16::try_from(self.slots.len()).unwrap_or(u16::MAX) {
            if !self.free.contains(&index) {
                let result = self.carry_out(index);
                results.extend(self.release(index, result));
            }
        }
        results
    }

    fn carry_out(&mut self, index: u16) -> io::Result<()> {
        let file = self.file;
        self.slots.get_mut(usize::from(index)).map_or(Ok(()), |slot| slot.carry_out(file))
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        while self.in_kernel() > 0 {
            self.wait();
            while self.completion().is_some_and(|(index, _)| self.release(index, Ok(())).is_some()) {}
        }
    }
}

impl Slot {
    /// What is left to do, for the kernel.
    fn entry(&self, file: Fd) -> squeue::Entry {
        let count = u32::try_from(self.pieces.len()).unwrap_or(0);
        // A list of one piece needs no list.
        let single = match self.pieces.as_slice() {
            [piece] => u32::try_from(piece.iov_len).ok().map(|bytes| (piece.iov_base.cast::<u8>(), bytes)),
            _ => None,
        };
        let write_flags = |durable| if durable { libc::RWF_DSYNC } else { 0 };
        match (self.errand, single) {
            (Errand::Read, Some((to, bytes))) => {
                opcode::Read::new(file, to, bytes).offset(self.offset).build()
            }
            (Errand::Read, None) => {
                opcode::Readv::new(file, self.pieces.as_ptr(), count).offset(self.offset).build()
            }
            (Errand::Write { durable }, Some((from, bytes))) => {
                let entry = opcode::Write::new(file, from.cast_const(), bytes).offset(self.offset);
                entry.rw_flags(write_flags(durable)).build()
            }
            (Errand::Write { durable }, None) => {
                let entry = opcode::Writev::new(file, self.pieces.as_ptr(), count).offset(self.offset);
                entry.rw_flags(write_flags(durable)).build()
            }
            (Errand::Sync, _) => opcode::Fsync::new(file).flags(FsyncFlags::DATASYNC).build(),
            (Errand::Fallocate { mode } | Errand::Zero { mode }, _) => {
                opcode::Fallocate::new(file, self.left).offset(self.offset).mode(mode).build()
            }
        }
    }

    /// Does one step of what is left, without io_uring; the answer is the kernel's, as a completion has it.
    fn step(&self, file: RawFd) -> i32 {
        let offset = i64::try_from(self.offset).unwrap_or(i64::MAX);
        let count = i32::try_from(self.pieces.len()).unwrap_or(0);
        let list = self.pieces.as_ptr();
        let answer = match self.errand {
            // SAFETY: as for `queue`: the slot keeps the pieces and their memory, and the file is open.
            Errand::Read => unsafe { libc::preadv2(file, list, count, offset, 0) },
            Errand::Write { durable } => {
                let flags = if durable { libc::RWF_DSYNC } else { 0 };
                // SAFETY: as above.
                unsafe { libc::pwritev2(file, list, count, offset, flags) }
            }
            // SAFETY: it takes no memory.
            Errand::Sync => (unsafe { libc::fdatasync(file) }) as isize,
            Errand::Fallocate { mode } | Errand::Zero { mode } => {
                let bytes = i64::try_from(self.left).unwrap_or(i64::MAX);
                // SAFETY: it takes no memory.
                (unsafe { libc::fallocate(file, mode, offset, bytes) }) as isize
            }
        };
        if answer < 0 {
            Errno::last_raw().saturating_neg()
        } else {
            i32::try_from(answer).unwrap_or(i32::MAX)
        }
    }

    fn carry_out(&mut self, file: RawFd) -> io::Result<()> {
        loop {
            if let Some(result) = self.moved(self.step(file)) {
                return result;
            }
        }
    }

    /// From now on this many zeroes are to be written.
    fn write_zeroes(&mut self, durable: bool) {
        self.errand = Errand::Write { durable };
        self.pieces.clear();
        let mut left = usize::try_from(self.left).unwrap_or(usize::MAX);
        while left > 0 {
            let bytes = left.min(ZEROES.len());
            self.pieces.push(iovec { iov_base: ZEROES.as_ptr().cast_mut().cast(), iov_len: bytes });
            left = left.saturating_sub(bytes);
        }
    }

    /// What the kernel's answer means: the end of the request, or that a part of it is left.
    fn moved(&mut self, answer: i32) -> Option<io::Result<()>> {
        let bytes = match u64::try_from(answer) {
            Ok(bytes) => bytes,
            Err(_) => {
                let error = io::Error::from_raw_os_error(answer.saturating_neg());
                let missing =
                    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput);
                if missing && matches!(self.errand, Errand::Zero { .. }) {
                    self.write_zeroes(false);
                    return None;
                }
                let again = matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock);
                if !again || self.attempts >= ATTEMPTS {
                    return Some(Err(error));
                }
                self.attempts = self.attempts.saturating_add(1);
                return None;
            }
        };
        match self.errand {
            Errand::Sync | Errand::Fallocate { .. } | Errand::Zero { .. } => return Some(Ok(())),
            Errand::Read if bytes == 0 => return Some(Err(io::ErrorKind::UnexpectedEof.into())),
            Errand::Write { .. } if bytes == 0 => return Some(Err(io::ErrorKind::WriteZero.into())),
            Errand::Read | Errand::Write { .. } => {}
        }
        self.attempts = 0;
        self.offset = self.offset.saturating_add(bytes);
        self.left = self.left.saturating_sub(bytes);
        if self.left == 0 {
            return Some(Ok(()));
        }
        self.pass(usize::try_from(bytes).unwrap_or(usize::MAX));
        None
    }

    /// Takes `bytes` off the front of the pieces.
    fn pass(&mut self, bytes: usize) {
        let mut behind = bytes;
        self.pieces.retain_mut(|piece| {
            let here = behind.min(piece.iov_len);
            behind = behind.saturating_sub(here);
            piece.iov_base = piece.iov_base.wrapping_byte_add(here);
            piece.iov_len = piece.iov_len.saturating_sub(here);
            piece.iov_len > 0
        });
    }
}

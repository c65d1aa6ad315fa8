//! Discards on a block device of the host, which io_uring has no call for: a thread waits for them.
//!
//! Duty: carry them out one after the other, and say which are over. Not its duty: which blocks.
//!
//! Invariant: the thread touches no memory of the guest, and ends with whoever started it: the lock on the device goes
//! with its last descriptor, and a machine that reboots takes it again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use vmm_sys_util::eventfd::EventFd;

use super::disk::Tag;
use crate::jail::filter::{self, Role};
use crate::mailbox::{Receiver, Sender, mailbox};

/// The call that discards so many bytes from an offset on.
pub(super) type Call = fn(BorrowedFd<'_>, u64, u64) -> io::Result<()>;

/// Blocks to forget.
#[derive(Debug)]
struct Errand {
    tag: Tag,
    offset: u64,
    bytes: u64,
}

/// The thread, from this side. There are never more errands than a queue has descriptors.
#[derive(Debug)]
pub(super) struct Trimmer {
    /// `None`: the thread is sent home.
    errands: Option<Sender<Errand>>,
    results: Receiver<(Tag, io::Result<()>)>,
    /// One that was waited for.
    waited_for: Option<(Tag, io::Result<()>)>,
    pending: usize,
    thread: Option<JoinHandle<()>>,
}

impl Trimmer {
    /// A thread that makes `call` on `device`, and rings `event` after each.
    pub(super) fn start(device: OwnedFd, event: EventFd, call: Call) -> io::Result<Self> {
        let (errands, todo) = mailbox::<Errand>();
        let (tell, results) = mailbox();
        let work = move || {
            filter::enter(Role::Discarder);
            while let Some(Errand { tag, offset, bytes }) = todo.take() {
                let told = tell.send((tag, call(device.as_fd(), offset, bytes)));
                // Fails only when the counter is full, and then it is readable already.
                let _ = event.write(1);
                if !told {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("discard".to_owned()).spawn(work)?;
        Ok(Self { errands: Some(errands), results, waited_for: None, pending: 0, thread: Some(thread) })
    }

    pub(super) fn discard(&mut self, tag: Tag, offset: u64, bytes: u64) {
        let sent = self.errands.as_ref().is_some_and(|to| to.send(Errand { tag, offset, bytes }));
        self.pending = self.pending.saturating_add(usize::from(sent));
    }

    pub(super) const fn pending(&self) -> usize {
        self.pending
    }

    pub(super) fn finished(&mut self) -> Option<(Tag, io::Result<()>)> {
        let finished = self.waited_for.take().or_else(|| self.results.try_take())?;
        self.pending = self.pending.saturating_sub(1);
        Some(finished)
    }

    /// Blocks until one is over, if any is to come.
    pub(super) fn wait(&mut self) {
        if self.pending > 0 && self.waited_for.is_none() {
            self.waited_for = self.results.take();
        }
    }
}

impl Trimmer {
    /// Sends the thread home. What it has not begun it does not begin: nobody waits for it any more.
    fn dismiss(&mut self) {
        if let Some(errands) = self.errands.take() {
            errands.take_back();
        }
    }
}

impl Drop for Trimmer {
    fn drop(&mut self) {
        self.dismiss();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread for discards ended by a panic");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    /// Reads as many bytes as it is to discard: it waits for whoever writes them, and fails at the end.
    fn slow(device: BorrowedFd<'_>, _offset: u64, bytes: u64) -> io::Result<()> {
        let mut file = File::from(device.try_clone_to_owned()?);
        io::Read::read_exact(&mut file, &mut vec![0; usize::try_from(bytes).unwrap()])
    }

    #[test]
    fn a_discard_is_waited_for_elsewhere_and_told() {
        let (reader, mut writer) = io::pipe().unwrap();
        let event = EventFd::new(EFD_NONBLOCK).unwrap();
        let mut trimmer = Trimmer::start(reader.into(), event.try_clone().unwrap(), slow).unwrap();
        let tag = |head| Tag { generation: 1, head };
        trimmer.discard(tag(5), 0, 3);
        trimmer.discard(tag(2), 512, 4);
        assert!(trimmer.finished().is_none());
        assert_eq!((trimmer.pending(), event.read().is_err()), (2, true));
        io::Write::write_all(&mut writer, b"abc").unwrap();
        trimmer.wait();
        trimmer.wait();
        let (told, result) = trimmer.finished().unwrap();
        assert_eq!((told, result.is_ok(), trimmer.pending()), (tag(5), true, 1));
        drop(writer);
        trimmer.wait();
        let (told, result) = trimmer.finished().unwrap();
        assert_eq!((told, result.is_err(), trimmer.pending()), (tag(2), true, 0));
        trimmer.wait();
    }

    #[test]
    fn what_the_thread_has_not_begun_when_its_disk_goes_is_not_begun() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut rest = reader.try_clone().unwrap();
        let event = EventFd::new(EFD_NONBLOCK).unwrap();
        let mut trimmer = Trimmer::start(reader.into(), event, slow).unwrap();
        for head in 0..3 {
            trimmer.discard(Tag { generation: 1, head }, 0, 4);
        }
        // One of them at most has begun, and waits for what there is to read.
        trimmer.dismiss();
        io::Write::write_all(&mut writer, b"onetwothree!").unwrap();
        drop((trimmer, writer));
        let mut left = Vec::new();
        io::Read::read_to_end(&mut rest, &mut left).unwrap();
        assert!(left.len() >= 8, "{} bytes are left", left.len());
    }

    #[test]
    fn the_thread_ends_with_its_disk_and_gives_the_device_back() {
        let (reader, mut writer) = io::pipe().unwrap();
        let event = EventFd::new(EFD_NONBLOCK).unwrap();
        drop(Trimmer::start(reader.into(), event, slow).unwrap());
        assert_eq!(io::Write::write_all(&mut writer, b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}

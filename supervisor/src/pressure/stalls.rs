//! A word from the kernel when work waits for memory.
//!
//! Duty: `/proc/pressure/memory`, where there is one. Not here: how short memory is.
//! Invariant: the thread sleeps until the kernel wakes it, and ends when nobody listens.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use smol::channel::{Receiver, Sender, TrySendError, bounded};

/// A tenth of two seconds lost to waiting for memory.
const TRIGGER: &[u8] = b"some 200000 2000000\0";
/// Bytes of a stack that holds a few calls.
const STACK: usize = 64 << 10;

/// None: this kernel does not say so, and whoever looks now and then notices later.
pub(super) fn listen() -> Option<Receiver<()>> {
    let file = open().ok()?;
    let (sender, words) = bounded(1);
    let thread = thread::Builder::new().name("stalls".to_owned()).stack_size(STACK);
    thread.spawn(move || relay(&file, &sender)).ok()?;
    Some(words)
}

fn open() -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).open("/proc/pressure/memory")?;
    file.write_all(TRIGGER)?;
    Ok(file)
}

fn relay(file: &File, words: &Sender<()>) {
    loop {
        let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        let told = fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLPRI));
        // Without that word the kernel has taken the trigger away. A full channel holds one already.
        if !told || matches!(words.try_send(()), Err(TrySendError::Closed(()))) {
            return;
        }
    }
}

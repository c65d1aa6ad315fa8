//! What a guest printed and the host has not taken yet.
//!
//! Duty: a bounded buffer between a device that the guest prints to (serial port, virtio console) and the sink
//! that writes it somewhere (`machine/sink/`). Not its duty: where the bytes go, and how fast.
//!
//! Invariant: a device only appends. What does not fit is dropped and counted, never waited for in here.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Bytes that may wait for the host: about a screenful of boot messages a hundred times over. It bounds
/// what a guest that floods its console costs the host.
pub const OUTPUT_BUFFER: usize = 64 * 1024;

#[derive(Debug, Default)]
struct Buffer {
    bytes: VecDeque<u8>,
    account: Account,
}

/// Bytes since the machine was made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Put into the buffer.
    pub accepted: u64,
    /// Printed in vain.
    pub dropped: u64,
}

/// One device's printed bytes. Cheap to clone: all clones are one buffer.
#[derive(Debug, Clone)]
pub struct Output {
    buffer: Arc<Mutex<Buffer>>,
    filled: Arc<EventFd>,
}

impl Output {
    /// An empty buffer.
    pub fn new() -> io::Result<Self> {
        let filled = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        Ok(Self { buffer: Arc::default(), filled })
    }

    /// Becomes readable when an empty buffer gets its first byte.
    #[must_use]
    pub fn filled(&self) -> &EventFd {
        &self.filled
    }

    /// Bytes that wait for the host.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Bytes that have left the buffer so far.
    #[must_use]
    pub fn taken(&self) -> u64 {
        let buffer = self.lock();
        buffer.account.accepted.saturating_sub(buffer.bytes.len() as u64)
    }

    /// Bytes that fit in now.
    #[must_use]
    pub fn room(&self) -> usize {
        OUTPUT_BUFFER.saturating_sub(self.waiting())
    }

    /// What went in and what did not.
    #[must_use]
    pub fn account(&self) -> Account {
        self.lock().account
    }

    /// Moves up to `limit` of the oldest bytes to the end of `into`. The caller writes them where it wants with
    /// the buffer free: a vCPU that prints never waits for the host.
    pub fn take(&self, limit: usize, into: &mut Vec<u8>) {
        let mut buffer = self.lock();
        let taken = buffer.bytes.len().min(limit);
        into.extend(buffer.bytes.drain(..taken));
    }

    /// Appends what fits.
    pub fn push(&self, bytes: &[u8]) {
        let mut buffer = self.lock();
        let was_empty = buffer.bytes.is_empty();
        let room = OUTPUT_BUFFER.saturating_sub(buffer.bytes.len());
        let (kept, lost) = bytes.split_at(bytes.len().min(room));
        buffer.bytes.extend(kept);
        let account = &mut buffer.account;
        account.accepted = account.accepted.saturating_add(kept.len() as u64);
        account.dropped = account.dropped.saturating_add(lost.len() as u64);
        if was_empty && !kept.is_empty() {
            self.ring();
        }
    }

    /// Counts bytes that never came near the buffer.
    pub fn lose(&self, bytes: usize) {
        let dropped = &mut self.lock().account.dropped;
        *dropped = dropped.saturating_add(bytes as u64);
    }

    /// Makes [`filled`](Self::filled) readable: for a sink that goes on later with what is there.
    pub fn ring(&self) {
        // Fails only when the counter is full, and then it is readable already.
        let _ = self.filled.write(1);
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_event_comes_once_per_filling() {
        let output = Output::new().unwrap();
        output.push(b"ab");
        output.push(b"c");
        assert_eq!(output.filled().read().unwrap(), 1);
        assert!(output.filled().read().is_err(), "no second event while bytes wait");
        let mut taken = Vec::new();
        output.take(2, &mut taken);
        assert_eq!(taken, b"ab");
        output.take(2, &mut taken);
        assert_eq!(taken, b"abc");
        output.push(b"d");
        assert_eq!(output.filled().read().unwrap(), 1, "empty in between");
    }

    proptest! {
        /// Against a plain vector: order is kept, the bound holds, and every byte is either there or counted.
        #[test]
        fn every_byte_is_kept_in_order_or_counted(
            steps in prop::collection::vec((0usize..40_000, 0usize..40_000), 0..20)
        ) {
            let output = Output::new().unwrap();
            let (mut model, mut next, mut offered) = (Vec::new(), 0u8, 0u64);
            for (pushed, taken) in steps {
                let bytes: Vec<u8> = std::iter::repeat_with(|| { next = next.wrapping_add(1); next }).take(pushed).collect();
                let fits = pushed.min(OUTPUT_BUFFER - model.len());
                prop_assert_eq!(output.room(), OUTPUT_BUFFER - model.len());
                output.push(&bytes);
                model.extend_from_slice(&bytes[..fits]);
                offered += pushed as u64;
                let mut seen = Vec::new();
                output.take(taken, &mut seen);
                let expected: Vec<u8> = model.drain(..taken.min(model.len())).collect();
                prop_assert_eq!(seen, expected);
                let account = output.account();
                prop_assert_eq!(account.accepted + account.dropped, offered);
                prop_assert_eq!(output.waiting(), model.len());
            }
        }
    }
}

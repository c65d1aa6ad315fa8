//! Bytes of the guest on their way to a host stream that is not ready for them.
//!
//! Duty: pass bytes straight from guest memory to the stream while it takes them, hold the rest. Invariant:
//! order is kept, and at most `BUFFER` bytes are held; the buffer is made once, on the first stall. Bytes are
//! held only for a stream that said it would block, so its next edge always finds them.

use std::collections::VecDeque;
use std::io::ErrorKind;

use vm_memory::VolatileMemoryError;

use super::HostStream;
use super::credit::BUFFER;
use crate::virtio::rings::Reader;

/// Bytes copied at a time into the buffer: small enough for the stack, large enough to be rare.
const CHUNK: usize = 2048;

/// The host reads no more; what was held is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    held: VecDeque<u8>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Sends `payload` or holds it; returns how many bytes the stream took.
    pub(super) fn send<S: HostStream>(
        &mut self,
        stream: &mut S,
        mut payload: Reader<'_>,
    ) -> Result<usize, Broken> {
        let mut taken = 0usize;
        if self.held.is_empty() {
            while payload.remaining() > 0 {
                match payload.write_to(stream, payload.remaining()) {
                    Ok(0) => return Err(self.broken()),
                    Ok(count) => taken = taken.saturating_add(count),
                    Err(VolatileMemoryError::IOError(error)) if error.kind() == ErrorKind::WouldBlock => {
                        break;
                    }
                    Err(VolatileMemoryError::IOError(error)) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return Err(self.broken()),
                }
            }
        }
        self.hold(payload);
        Ok(taken)
    }

    /// The sender's credit keeps this within the bound; the limit is there so that it need not be believed.
    fn hold(&mut self, mut payload: Reader<'_>) {
        let bound = BUFFER as usize;
        payload.limit(bound.saturating_sub(self.held.len()));
        if payload.remaining() > 0 && self.held.capacity() == 0 {
            self.held.reserve_exact(bound);
        }
        let mut chunk = [0; CHUNK];
        while payload.remaining() > 0 {
            let count = payload.read(&mut chunk);
            self.held.extend(chunk.iter().take(count));
        }
    }

    /// The stream has room again; returns how many bytes it took.
    pub(super) fn unblocked<S: HostStream>(&mut self, stream: &mut S) -> Result<usize, Broken> {
        let mut taken = 0usize;
        while !self.held.is_empty() {
            let (front, _) = self.held.as_slices();
            match stream.write(front) {
                Ok(0) => return Err(self.broken()),
                Ok(count) => {
                    self.held.drain(..count.min(self.held.len()));
                    taken = taken.saturating_add(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(self.broken()),
            }
        }
        Ok(taken)
    }

    fn broken(&mut self) -> Broken {
        self.held = VecDeque::new();
        Broken
    }
}

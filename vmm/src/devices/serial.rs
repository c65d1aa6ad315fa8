//! The 16550 serial port: `vm-superio`'s registers, a bounded buffer, and a sink that drains it.
//!
//! The guest writes a byte per exit; the vCPU only appends it to [`Output`], so a slow or stuck reader on
//! the host costs the guest nothing. What does not fit is dropped and counted, never waited for.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use vm_superio::Trigger;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::machine::BusDevice;

/// Bytes that may wait for the host: about a screenful of boot messages a hundred times over. It bounds
/// what a guest that floods its console costs the host.
pub const OUTPUT_BUFFER: usize = 64 * 1024;

#[derive(Debug, Default)]
struct Buffer {
    bytes: VecDeque<u8>,
    dropped: u64,
}

/// What the guest printed and the host has not taken yet. Cheap to clone: all clones are one buffer.
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

    /// Moves up to `limit` of the oldest bytes to the end of `into`. The caller writes them where it wants with
    /// the buffer free: a vCPU that prints never waits for the host.
    pub fn take(&self, limit: usize, into: &mut Vec<u8>) {
        let mut buffer = self.lock();
        let taken = buffer.bytes.len().min(limit);
        into.extend(buffer.bytes.drain(..taken));
    }

    /// Bytes that the guest printed in vain since the last call.
    #[must_use]
    pub fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.lock().dropped)
    }

    fn push(&self, bytes: &[u8]) {
        let mut buffer = self.lock();
        let was_empty = buffer.bytes.is_empty();
        let room = OUTPUT_BUFFER - buffer.bytes.len().min(OUTPUT_BUFFER);
        let (kept, lost) = bytes.split_at(bytes.len().min(room));
        buffer.bytes.extend(kept);
        buffer.dropped += lost.len() as u64;
        if was_empty && !kept.is_empty() {
            // Fails only when the counter is full, and then it is readable already.
            let _ = self.filled.write(1);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Buffer> {
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

/// The interrupt line of the port.
#[derive(Debug)]
struct Line(EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// The port on the bus: eight registers of one byte.
pub struct Serial {
    registers: Mutex<vm_superio::Serial<Line, vm_superio::serial::NoEvents, Output>>,
}

impl std::fmt::Debug for Serial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serial").finish_non_exhaustive()
    }
}

impl Serial {
    /// A port that prints into `output` and interrupts through `interrupt`.
    pub fn new(interrupt: EventFd, output: Output) -> Self {
        Self { registers: Mutex::new(vm_superio::Serial::new(Line(interrupt), output)) }
    }
}

impl BusDevice for Serial {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let ([byte], Ok(offset)) = (data, u8::try_from(offset)) {
            *byte = self.registers.lock().unwrap_or_else(PoisonError::into_inner).read(offset);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let (&[byte], Ok(offset)) = (data, u8::try_from(offset)) {
            let mut registers = self.registers.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = registers.write(offset, byte) {
                log::debug!("serial port: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let output = Output::new().unwrap();
        let serial = Serial::new(EventFd::new(EFD_NONBLOCK).unwrap(), output.clone());
        for _ in 0..OUTPUT_BUFFER + 10 {
            serial.write(0, b"x");
        }
        assert_eq!(output.take_dropped(), 10);
        assert_eq!(output.take_dropped(), 0);
        let mut seen = Vec::new();
        output.take(usize::MAX, &mut seen);
        assert_eq!(seen.len(), OUTPUT_BUFFER);
    }

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
    }

    #[test]
    fn wide_and_distant_accesses_do_nothing() {
        let output = Output::new().unwrap();
        let serial = Serial::new(EventFd::new(EFD_NONBLOCK).unwrap(), output.clone());
        serial.write(0, b"xy");
        serial.write(0x1_0000, b"x");
        let mut word = [0xff; 4];
        serial.read(0, &mut word);
        assert_eq!(word, [0; 4]);
        let mut printed = Vec::new();
        output.take(10, &mut printed);
        assert_eq!(printed, b"");
    }
}

//! The 16550 serial port: `vm-superio`'s registers in front of a bounded buffer.
//!
//! The guest writes a byte per exit; the vCPU only appends it to [`Output`], so a slow or stuck reader on
//! the host costs the guest nothing.

use std::io;
use std::sync::{Mutex, PoisonError};

use vm_superio::Trigger;
use vmm_sys_util::eventfd::EventFd;

use crate::machine::BusDevice;
use crate::output::Output;

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
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;
    use crate::output::OUTPUT_BUFFER;

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let output = Output::new().unwrap();
        let serial = Serial::new(EventFd::new(EFD_NONBLOCK).unwrap(), output.clone());
        for _ in 0..OUTPUT_BUFFER + 10 {
            serial.write(0, b"x");
        }
        assert_eq!(output.account().dropped, 10);
        let mut seen = Vec::new();
        output.take(usize::MAX, &mut seen);
        assert_eq!(seen.len(), OUTPUT_BUFFER);
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

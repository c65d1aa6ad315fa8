//! The 16550 serial port: `vm-superio`'s registers between a bounded buffer and what is typed.
//!
//! The guest writes a byte per exit; the vCPU only appends it to [`Output`], so a slow or stuck reader on
//! the host costs the guest nothing. What is typed waits outside until the port's FIFO has room.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use vm_superio::Trigger;
use vm_superio::serial::NoEvents;
use vmm_sys_util::eventfd::EventFd;

use crate::keyboard::{Stdin, Typed};
use crate::machine::BusDevice;
use crate::output::Output;
use crate::snapshot::{Part, PartState, Unfit};

/// Bytes of the FIFO to the guest.
const FIFO: usize = 64;
/// Received bytes are read there.
const RECEIVE: u64 = 0;
/// Modem control, and the bit of it that connects the port with itself.
const MODEM_CONTROL: u8 = 4;
const LOOPBACK: u8 = 0x10;

/// The interrupt line of the port.
#[derive(Debug)]
struct Line(EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// A port that was saved. Any value of a register is one that a guest can bring about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SerialState {
    /// Divisor latch, low and high; interrupt enable and identification; line control and status; modem control and
    /// status; scratch.
    registers: [u8; 9],
    /// What the guest has not read.
    input: Vec<u8>,
}

type Registers = vm_superio::Serial<Line, NoEvents, Output>;

/// What is typed to the port.
struct Typist {
    stdin: Stdin,
    /// There was no room for more: the guest makes some.
    waits: bool,
}

/// The port on the bus: eight registers of one byte.
pub struct Serial {
    registers: Mutex<Registers>,
    /// `None`: nobody types, or no more. Never locked before the registers.
    typist: Mutex<Option<Typist>>,
}

impl std::fmt::Debug for Serial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serial").finish_non_exhaustive()
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Serial {
    /// A port that prints into `output`, interrupts through `interrupt` and is typed to from `stdin`, if anybody types.
    pub fn new(interrupt: EventFd, output: Output, stdin: Option<Stdin>) -> Self {
        Self {
            registers: Mutex::new(vm_superio::Serial::new(Line(interrupt), output)),
            typist: Mutex::new(stdin.map(|stdin| Typist { stdin, waits: false })),
        }
    }

    /// The guest made room: who waits for it goes on.
    fn room(&self) {
        if let Some(typist) = &mut *lock(&self.typist)
            && std::mem::take(&mut typist.waits)
        {
            typist.stdin.wanted();
        }
    }
}

impl Typed for Arc<Serial> {
    fn name(&self) -> &'static str {
        "serial"
    }

    /// Fills the FIFO.
    fn take(&self) -> bool {
        let mut registers = lock(&self.registers);
        let mut typist = lock(&self.typist);
        let Some(Typist { stdin, waits }) = &mut *typist else { return false };
        let room = registers.fifo_capacity().min(FIFO);
        if room == 0 || registers.read(MODEM_CONTROL) & LOOPBACK != 0 {
            *waits = true;
            return false;
        }
        let mut keys = [0; FIFO];
        match stdin.read(keys.get_mut(..room).unwrap_or_default()) {
            Ok(count) if count > 0 => {
                if let Err(error) = registers.enqueue_raw_bytes(keys.get(..count).unwrap_or_default()) {
                    log::debug!("serial port: {error}");
                }
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            ended => {
                if let Err(error) = ended {
                    log::warn!("serial: its input is gone: {error}");
                }
                *typist = None;
                false
            }
        }
    }
}

impl BusDevice for Serial {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let ([byte], Ok(register)) = (data, u8::try_from(offset)) {
            let mut registers = lock(&self.registers);
            *byte = registers.read(register);
            if offset == RECEIVE && registers.fifo_capacity() == FIFO {
                self.room();
            }
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let (&[byte], Ok(offset)) = (data, u8::try_from(offset)) {
            let mut registers = lock(&self.registers);
            if let Err(error) = registers.write(offset, byte) {
                log::debug!("serial port: {error}");
            }
            if offset == MODEM_CONTROL {
                self.room();
            }
        }
    }
}

impl Part for Serial {
    fn name(&self) -> &'static str {
        "serial"
    }

    fn save(&self) -> PartState {
        let state = lock(&self.registers).state();
        PartState::Serial(SerialState {
            registers: [
                state.baud_divisor_low,
                state.baud_divisor_high,
                state.interrupt_enable,
                state.interrupt_identification,
                state.line_control,
                state.line_status,
                state.modem_control,
                state.modem_status,
                state.scratch,
            ],
            input: state.in_buffer,
        })
    }

    fn restore(&self, state: &PartState) -> Result<(), Unfit> {
        let PartState::Serial(SerialState { registers, input }) = state else { return Err(Unfit::KIND) };
        let [low, high, enable, identification, line, line_status, modem, modem_status, scratch] = *registers;
        let state = vm_superio::SerialState {
            baud_divisor_low: low,
            baud_divisor_high: high,
            interrupt_enable: enable,
            interrupt_identification: identification,
            line_control: line,
            line_status,
            modem_control: modem,
            modem_status,
            scratch,
            in_buffer: input.clone(),
        };
        let mut registers = lock(&self.registers);
        let line =
            registers.interrupt_evt().0.try_clone().map_err(|_| Unfit("its interrupt cannot be had"))?;
        let output = registers.writer().clone();
        // Interrupts that were on their way are told again.
        *registers = Registers::from_state(&state, Line(line), NoEvents, output)
            .map_err(|_| Unfit("it has more input than it has room for"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;
    use crate::output::OUTPUT_BUFFER;

    const LINE_STATUS: u64 = 5;
    const DATA_READY: u8 = 1;

    fn event() -> EventFd {
        EventFd::new(EFD_NONBLOCK).unwrap()
    }

    fn register(serial: &Serial, offset: u64) -> u8 {
        let mut byte = [0];
        serial.read(offset, &mut byte);
        byte[0]
    }

    /// What the guest finds in the FIFO.
    fn received(serial: &Serial) -> Vec<u8> {
        let ready = || register(serial, LINE_STATUS) & DATA_READY != 0;
        std::iter::from_fn(|| ready().then(|| register(serial, RECEIVE))).collect()
    }

    struct Typewriter {
        serial: Arc<Serial>,
        interrupt: EventFd,
        keys: io::PipeWriter,
        keyboard: crate::keyboard::Keyboard,
    }

    impl Typewriter {
        fn new() -> Self {
            let (reader, keys) = io::pipe().unwrap();
            let (stdin, keyboard) = Stdin::on(File::from(OwnedFd::from(reader)), false).unwrap();
            let interrupt = event();
            let line = interrupt.try_clone().unwrap();
            let serial = Arc::new(Serial::new(line, Output::new().unwrap(), Some(stdin)));
            // Received data interrupts.
            serial.write(1, &[1]);
            let typewriter = Self { serial, interrupt, keys, keyboard };
            assert!(typewriter.is_rung(), "the first turn comes by itself");
            typewriter
        }

        /// Whether the port asked for a turn since it was last looked at.
        fn is_rung(&self) -> bool {
            self.keyboard.is_rung()
        }
    }

    #[test]
    fn what_is_typed_is_received_with_an_interrupt() {
        let mut typewriter = Typewriter::new();
        assert!(!typewriter.serial.take(), "nothing yet");
        typewriter.keys.write_all(b"root\n").unwrap();
        assert!(typewriter.serial.take(), "and perhaps there is more");
        assert!(!typewriter.serial.take());
        assert_eq!(typewriter.interrupt.read().unwrap(), 1);
        assert_eq!(received(&typewriter.serial), b"root\n");
        assert!(!typewriter.is_rung(), "nobody waits for room");
    }

    #[test]
    fn what_the_fifo_has_no_room_for_stays_in_the_pipe_until_it_has() {
        let mut typewriter = Typewriter::new();
        let keys: Vec<u8> = (0..150).collect();
        typewriter.keys.write_all(&keys).unwrap();
        let mut arrived = Vec::new();
        for (bytes, waits) in [(64, true), (64, true), (22, false)] {
            while typewriter.serial.take() {}
            assert!(!typewriter.is_rung(), "a guest that reads nothing costs nothing");
            let piece = received(&typewriter.serial);
            assert_eq!((piece.len(), typewriter.is_rung()), (bytes, waits));
            arrived.extend(piece);
        }
        assert_eq!(arrived, keys);
    }

    #[test]
    fn a_port_that_tests_itself_is_not_typed_to() {
        let mut typewriter = Typewriter::new();
        typewriter.serial.write(MODEM_CONTROL.into(), &[LOOPBACK]);
        typewriter.keys.write_all(b"a").unwrap();
        assert!(!typewriter.serial.take());
        typewriter.serial.write(0, b"x");
        assert_eq!(received(&typewriter.serial), b"x");
        let _ = typewriter.is_rung();
        assert!(!typewriter.serial.take());
        typewriter.serial.write(MODEM_CONTROL.into(), &[0]);
        assert!(typewriter.is_rung());
        while typewriter.serial.take() {}
        assert_eq!(received(&typewriter.serial), b"a");
    }

    #[test]
    fn the_end_of_what_is_typed_is_no_end_of_the_port() {
        let Typewriter { serial, mut keys, .. } = Typewriter::new();
        keys.write_all(b"a").unwrap();
        drop(keys);
        while serial.take() {}
        assert_eq!(received(&serial), b"a");
        assert!(!serial.take());
        serial.write(0, b"x");
    }

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let output = Output::new().unwrap();
        let serial = Serial::new(event(), output.clone(), None);
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
        let serial = Serial::new(event(), output.clone(), None);
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

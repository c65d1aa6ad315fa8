//! The model of a console: two queues, and a register for emergencies.
//!
//! Duty: move what the guest prints into an [`Output`], and what the host types into the guest's buffers. Not its
//! duty: where output goes and how fast (`machine/sink/`), where input is from ([`Input`]).
//!
//! Invariant: no chain of the guest waits for the host without end, and input is read only when the guest has a
//! buffer for it: nothing of either direction piles up in here.

use std::io::{self, ErrorKind};
use std::time::Instant;

use super::patience::Patience;
use crate::memory::GuestRam;
use crate::output::{OUTPUT_BUFFER, Output};
use crate::virtio::device::{Activation, Backlog, VirtioDevice};
use crate::virtio::device_id;
use crate::virtio::rings::{Chain, Ring, RingFault, Writer};
use crate::virtio::state::Rings;

/// Queue 0, from the host (5.3.2).
pub(super) const RECEIVE: usize = 0;
/// Queue 1, to the host.
pub(super) const TRANSMIT: usize = 1;
/// Descriptors of each queue. Linux keeps one buffer for output on its way, and fills the other queue with pages.
const QUEUE_SIZE: u16 = 32;
/// Bytes that are copied at once.
const PIECE: usize = 1024;

/// VIRTIO_CONSOLE_F_EMERG_WRITE.
const FEATURE_EMERGENCY_WRITE: u64 = 1 << 2;
/// Where `emerg_wr` is in the configuration space (5.3.4).
const EMERGENCY_WRITE: u64 = 8;

/// What a person or program types to the guest.
pub trait Input: Send {
    /// Puts what there is, and what `into` has room for, into it. Nothing yet is `WouldBlock`; zero bytes are the
    /// end.
    fn read(&mut self, into: &mut Writer<'_>) -> io::Result<usize>;

    /// A driver is there: what was typed before is to be offered again.
    fn wanted(&self);
}

/// The model.
pub struct Console {
    output: Output,
    /// `None`: nobody types, or no more.
    input: Option<Box<dyn Input>>,
    active: Option<Activation>,
    patience: Patience,
    input_bytes: u64,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").finish_non_exhaustive()
    }
}

impl Console {
    /// A console that prints into `output` and is typed to from `input`, if anybody types.
    pub fn new(output: Output, input: Option<Box<dyn Input>>) -> Self {
        Self { output, input, active: None, patience: Patience::default(), input_bytes: 0 }
    }

    /// The host has something to type.
    pub fn input_ready(&mut self, now: Instant) -> Result<Backlog, RingFault> {
        self.notify(RECEIVE, now)
    }

    fn transmit(&mut self, ring: &mut Ring, memory: &GuestRam, now: Instant) -> Result<Backlog, RingFault> {
        for _ in 0..ring.size() {
            let Some(chain) = ring.pop()? else { return Ok(Backlog::Done) };
            // A chain that is longer than the buffer can at best have all of it.
            if self.output.room() < chain.readable_bytes().min(OUTPUT_BUFFER)
                && let Some(time) = self.patience.look_again(self.output.taken(), now)
            {
                ring.put_back(chain);
                return Ok(Backlog::Until(time));
            }
            self.print(&chain, memory);
            ring.complete(chain, 0)?;
        }
        Ok(Backlog::More)
    }

    /// Copies what there is room for, and counts the rest without looking at it: a chain may be gigabytes long.
    fn print(&self, chain: &Chain, memory: &GuestRam) {
        let mut reader = chain.reader(memory);
        let lost = reader.remaining().saturating_sub(self.output.room());
        reader.limit(self.output.room());
        let mut piece = [0; PIECE];
        loop {
            let count = reader.read(&mut piece);
            let Some(bytes) = piece.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            self.output.push(bytes);
        }
        self.output.lose(lost);
    }

    fn receive(&mut self, ring: &mut Ring, memory: &GuestRam) -> Result<Backlog, RingFault> {
        for _ in 0..ring.size() {
            let Some(input) = &mut self.input else { return Ok(Backlog::Done) };
            let Some(chain) = ring.pop()? else { return Ok(Backlog::Done) };
            if chain.writable_bytes() == 0 {
                ring.complete(chain, 0)?;
                continue;
            }
            match input.read(&mut chain.writer(memory)) {
                Ok(count) if count > 0 => {
                    self.input_bytes = self.input_bytes.saturating_add(count as u64);
                    ring.complete(chain, count)?;
                }
                refusal => {
                    ring.put_back(chain);
                    match refusal {
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Backlog::More),
                        Ok(_) => self.input = None,
                        Err(error) => {
                            log::warn!("console: its input is gone: {error}");
                            self.input = None;
                        }
                    }
                    return Ok(Backlog::Done);
                }
            }
        }
        Ok(Backlog::More)
    }
}

impl VirtioDevice for Console {
    fn device_type(&self) -> u32 {
        device_id::CONSOLE
    }

    fn features(&self) -> u64 {
        FEATURE_EMERGENCY_WRITE
    }

    fn queue_max_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE, QUEUE_SIZE]
    }

    /// Columns, rows and number of ports belong to features that are not offered, and `emerg_wr` is for writing.
    fn read_config(&self, _offset: u64, _data: &mut [u8]) {}

    /// The lowest byte of `emerg_wr` is printed, whatever state the device is in.
    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if let (EMERGENCY_WRITE, [byte, ..]) = (offset, data) {
            self.output.push(std::slice::from_ref(byte));
        }
    }

    fn activate(&mut self, activation: Activation) {
        self.active = Some(activation);
        if let Some(input) = &self.input {
            input.wanted();
        }
    }

    fn notify(&mut self, queue: usize, now: Instant) -> Result<Backlog, RingFault> {
        // Taken for the turn and put back at its end: a ring that broke stays gone.
        let Some(mut active) = self.active.take() else { return Ok(Backlog::Done) };
        let mut backlog = Backlog::Done;
        if let Some(ring) = active.rings.get_mut(queue).and_then(Option::as_mut) {
            backlog = match queue {
                TRANSMIT => self.transmit(ring, &active.memory, now)?,
                _ => self.receive(ring, &active.memory)?,
            };
            if ring.wants_interrupt()? {
                active.interrupt.used(queue);
            }
        }
        self.active = Some(active);
        Ok(backlog)
    }

    fn rings(&self) -> Rings {
        self.active.as_ref().map(Activation::saved_rings).unwrap_or_default()
    }

    fn reset(&mut self) {
        self.active = None;
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let account = self.output.account();
        report("output_bytes", account.accepted);
        report("output_dropped", account.dropped);
        report("input_bytes", self.input_bytes);
    }
}

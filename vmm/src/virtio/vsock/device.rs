//! The virtio socket device: three queues and one number of configuration.
//!
//! Duty: take packets off the transmit queue and put packets into the receive queue, a bounded number per
//! turn. Not its duty: what they mean. The event queue has one event, a transport reset: a guest that goes on in
//! another process has no connections any more, and perhaps another address (5.10.6.7).
//!
//! Invariant: between `reset` and `activate` there are no connections, no rings, and no way to get any.

use std::sync::Arc;
use std::time::Instant;

use super::incidents::Incidents;
use super::muxer::{Muxer, OfferError};
use super::packet::{HEADER_BYTES, Header};
use super::table::ConnectionId;
use super::{HostSide, Readiness};
use crate::memory::GuestRam;
use crate::snapshot::Unfit;
use crate::virtio::device::{Activation, Backlog, Interrupt, VirtioDevice};
use crate::virtio::device_id;
use crate::virtio::rings::{Ring, RingFault};
use crate::virtio::state::{ModelState, Rings};

/// Packets to the guest.
const RECEIVE_QUEUE: usize = 0;
/// Packets from the guest.
const TRANSMIT_QUEUE: usize = 1;
/// Events for the guest.
const EVENT_QUEUE: usize = 2;
/// VIRTIO_VSOCK_EVENT_TRANSPORT_RESET, as `struct virtio_vsock_event` (5.10.6.7).
const TRANSPORT_RESET: [u8; 4] = [0; 4];
/// Descriptors per queue: half a megabyte of Linux's receive buffers.
const QUEUE_SIZES: [u16; 3] = [128, 128, 8];

/// Chains that one turn takes from one queue. Keeps a busy guest from holding the event loop, where other
/// devices wait: at 64 KiB a packet, some milliseconds of copying.
const PACKETS_PER_TURN: usize = 64;

/// A receive buffer must hold a header and a byte, or no data could ever be delivered through it.
const LEAST_RECEIVE_BYTES: usize = HEADER_BYTES + 1;

#[derive(Debug)]
struct Active {
    memory: GuestRam,
    receive: Option<Ring>,
    transmit: Option<Ring>,
    events: Option<Ring>,
    interrupt: Interrupts,
}

/// The way to interrupt the driver; apart, so that `Active` can be printed.
struct Interrupts(Arc<dyn Interrupt>);

impl std::fmt::Debug for Interrupts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupts")
    }
}

/// What the driver knows of the end of its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reset {
    /// All there is to know.
    Known,
    /// It is to be told.
    Due,
    /// It was told, and has not given the buffer back: connections that it takes until then it takes for old ones.
    Told,
}

/// The device model.
#[derive(Debug)]
pub struct Vsock<H: HostSide> {
    muxer: Muxer<H>,
    active: Option<Active>,
    reset: Reset,
}

impl<H: HostSide> Vsock<H> {
    /// The device of the guest with context ID `cid`.
    pub fn new(cid: u32, host: H) -> Self {
        Self { muxer: Muxer::new(u64::from(cid), host), active: None, reset: Reset::Known }
    }

    /// A host program that wants to reach `port` of the guest. [`deliver`](Self::deliver) is to follow.
    pub fn offer(&mut self, stream: H::Stream, port: u32) -> Result<ConnectionId, OfferError> {
        if self.active.is_none() {
            return Err(OfferError::NotReady);
        }
        self.muxer.offer(stream, port)
    }

    /// A host stream has become something. [`deliver`](Self::deliver) is to follow.
    pub fn host_ready(&mut self, id: ConnectionId, readiness: Readiness) {
        self.muxer.host_ready(id, readiness);
    }

    /// How many connections there are, in whatever state.
    #[cfg(test)]
    pub fn connections(&self) -> usize {
        self.muxer.connections()
    }

    /// What the guest did wrong so far.
    #[must_use]
    pub const fn incidents(&self) -> &Incidents {
        self.muxer.incidents()
    }

    /// Whether the driver may still take a new connection for one of those that are gone.
    #[must_use]
    pub fn resets(&self) -> bool {
        self.reset != Reset::Known
    }

    /// Puts packets for the guest into its receive buffers, while there are both.
    pub fn deliver(&mut self) -> Result<Backlog, RingFault> {
        let Some(Active { memory, receive: Some(ring), interrupt, .. }) = &mut self.active else {
            return Ok(Backlog::Done);
        };
        let mut backlog = Backlog::More;
        for _ in 0..PACKETS_PER_TURN {
            let chain = match self.muxer.wants_to_speak().then(|| ring.pop()).transpose()?.flatten() {
                Some(chain) => chain,
                None => {
                    backlog = Backlog::Done;
                    break;
                }
            };
            if chain.writable_bytes() < LEAST_RECEIVE_BYTES {
                self.muxer.malformed();
                ring.complete(chain, 0)?;
                continue;
            }
            match self.muxer.speak(chain.writer(memory)) {
                Some(bytes) => ring.complete(chain, bytes)?,
                None => {
                    ring.put_back(chain);
                    backlog = Backlog::Done;
                    break;
                }
            }
        }
        if ring.wants_interrupt()? {
            interrupt.0.used(RECEIVE_QUEUE);
        }
        Ok(backlog)
    }

    /// Tells the driver that its connections are gone, as soon as it has a buffer for that.
    fn tell_of_reset(&mut self) -> Result<(), RingFault> {
        let Some(Active { memory, events: Some(ring), interrupt, .. }) = &mut self.active else {
            return Ok(());
        };
        match self.reset {
            Reset::Known => return Ok(()),
            Reset::Told => {
                self.reset = Reset::Known;
                return Ok(());
            }
            Reset::Due => {}
        }
        let Some(chain) = ring.pop()? else { return Ok(()) };
        let written = chain.writer(memory).write(&TRANSPORT_RESET);
        ring.complete(chain, written)?;
        self.reset = Reset::Told;
        // To the end and back, as a ring asks for a notification only where it found nothing more.
        let mut rest = Vec::new();
        while let Some(chain) = ring.pop()? {
            rest.push(chain);
        }
        rest.into_iter().rev().for_each(|chain| ring.put_back(chain));
        if ring.wants_interrupt()? {
            interrupt.0.used(EVENT_QUEUE);
        }
        Ok(())
    }

    /// Takes packets that the guest sent.
    fn collect(&mut self) -> Result<Backlog, RingFault> {
        let Some(Active { memory, transmit: Some(ring), interrupt, .. }) = &mut self.active else {
            return Ok(Backlog::Done);
        };
        let mut backlog = Backlog::More;
        for _ in 0..PACKETS_PER_TURN {
            let Some(chain) = ring.pop()? else {
                backlog = Backlog::Done;
                break;
            };
            let mut packet = chain.reader(memory);
            match packet.read_array().map(Header::parse) {
                Some(header) => self.muxer.packet(&header, packet),
                None => self.muxer.malformed(),
            }
            ring.complete(chain, 0)?;
        }
        if ring.wants_interrupt()? {
            interrupt.0.used(TRANSMIT_QUEUE);
        }
        Ok(backlog)
    }
}

impl<H: HostSide> VirtioDevice for Vsock<H> {
    fn device_type(&self) -> u32 {
        device_id::VSOCK
    }

    /// Streams need no feature bit (5.10.3); packets with boundaries are not offered.
    fn features(&self) -> u64 {
        0
    }

    fn queue_max_sizes(&self) -> &'static [u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let cid = self.muxer.cid().to_le_bytes();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (place, byte) in data.iter_mut().zip(cid.iter().skip(from)) {
            *place = *byte;
        }
    }

    fn activate(&mut self, activation: Activation) {
        let mut rings = activation.rings.into_iter();
        self.active = Some(Active {
            memory: activation.memory,
            receive: rings.next().flatten(),
            transmit: rings.next().flatten(),
            events: rings.next().flatten(),
            interrupt: Interrupts(activation.interrupt),
        });
    }

    fn notify(&mut self, queue: usize, _now: Instant) -> Result<Backlog, RingFault> {
        if queue == EVENT_QUEUE {
            self.tell_of_reset()?;
            return Ok(Backlog::Done);
        }
        let collected = if queue == TRANSMIT_QUEUE { self.collect()? } else { Backlog::Done };
        // What the guest sent may be answered; what it offered may be filled.
        let delivered = self.deliver()?;
        Ok(if collected == Backlog::More { collected } else { delivered })
    }

    fn rings(&self) -> Rings {
        let Some(active) = &self.active else { return Rings::new() };
        let rings = [&active.receive, &active.transmit, &active.events];
        rings.into_iter().map(|ring| ring.as_ref().map(Ring::save)).collect()
    }

    fn save(&self) -> ModelState {
        ModelState::Vsock { next_port: self.muxer.next_port() }
    }

    fn restore(&mut self, state: &ModelState) -> Result<(), Unfit> {
        let ModelState::Vsock { next_port } = state else {
            return Err(Unfit("what it keeps is another device's"));
        };
        self.muxer.go_on_from(*next_port);
        Ok(())
    }

    /// The driver looks for its address anew when it hears of the reset, too.
    fn relocated(&mut self) {
        self.reset = if self.active.is_some() { Reset::Due } else { Reset::Known };
    }

    fn reset(&mut self) {
        self.active = None;
        self.reset = Reset::Known;
        self.muxer.clear();
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        self.incidents().report(report);
    }
}

//! What a virtio device model owes the transport, and what it gets from it.
//!
//! Duty: the contract between the two, so that one transport serves every device and every device can be
//! driven in memory by a test. Not its duty: descriptors and time; a model holds neither.
//!
//! Invariant: a model sees its queues only through [`Activation`], which is handed over once per driver
//! initialisation. After that their addresses and sizes cannot change: the transport no longer has them.
//!
//! Wiring for the event loop: [`super::mmio::Transport`] is generic over the model, so a shell that owns
//! host descriptors holds `Arc<Transport<Model>>` and calls `transport.work(|model| ...)`; a `RingFault`
//! that comes back is turned into DEVICE_NEEDS_RESET there, once for all devices. A shell whose set of
//! descriptors varies keeps its own epoll instance and registers that one descriptor with the loop.

use std::sync::Arc;
use std::time::Instant;

use super::rings::{Ring, RingFault};
use super::state::{ModelState, Rings};
use crate::memory::GuestRam;
use crate::snapshot::Unfit;

/// Tells the driver that something happened. Cheap to clone, callable from the event loop only.
pub trait Interrupt: Send + Sync {
    /// Buffers of `queue` were used and the driver wants to hear of it.
    fn used(&self, queue: usize);
    /// The configuration space changed.
    fn config_changed(&self);
}

/// Everything that the driver's DRIVER_OK hands to the device.
pub struct Activation {
    /// All RAM of the guest.
    pub memory: GuestRam,
    /// One ring per queue the driver made ready, in queue order; `None` where it left one unused.
    pub rings: Vec<Option<Ring>>,
    /// The features that both sides agreed on.
    pub features: u64,
    /// The way to interrupt the driver.
    pub interrupt: Arc<dyn Interrupt>,
}

impl std::fmt::Debug for Activation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Activation")
            .field("rings", &self.rings.len())
            .field("features", &format_args!("{:#x}", self.features))
            .finish_non_exhaustive()
    }
}

impl Activation {
    /// The rings of a device that keeps its activation as it got it.
    #[must_use]
    pub fn saved_rings(&self) -> Rings {
        self.rings.iter().map(|ring| ring.as_ref().map(Ring::save)).collect()
    }
}

/// What a device left undone when its turn ended.
///
/// A turn is bounded so that a guest that keeps a ring full cannot hold the event loop for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Backlog {
    /// The ring was empty, or the device waits for something else than the driver.
    Done,
    /// The turn's bound was reached: ring the doorbell again.
    More,
    /// A rate limit holds the queue back: ring the doorbell again at this time.
    Until(Instant),
    /// The host's end is full: ring the doorbell again when it is not. For devices with a
    /// [`HostEnd`](super::mmio::HostEnd) at their doorbells only.
    HostFull,
}

/// Whose thread a model is called on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thread {
    /// Of a vCPU, whose driver wrote to a register.
    Vcpu,
    /// The event loop's.
    EventLoop,
}

/// A device model: registers and rings, nothing else.
pub trait VirtioDevice: Send {
    /// The device ID of virtio 1.2, section 5.
    fn device_type(&self) -> u32;

    /// Device-specific feature bits offered. The transport adds VERSION_1 and the ring features.
    fn features(&self) -> u64;

    /// The largest size of each queue; its length is the number of queues.
    fn queue_max_sizes(&self) -> &'static [u16];

    /// Reads the configuration space. Bytes past its end stay as they are (the transport passes zeroes).
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Writes the configuration space. Most devices have nothing to write there.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    /// The driver is ready; from here on the rings are the device's.
    fn activate(&mut self, activation: Activation);

    /// Works on queue number `queue`, on a bounded number of chains. Called from the event loop only; `now` is
    /// for rate limits.
    fn notify(&mut self, queue: usize, now: Instant) -> Result<Backlog, RingFault>;

    /// How much the host still does with guest memory. A pause waits for its end, with the device in the event
    /// loop, so that a disk that hangs does not hang the monitor.
    fn under_way(&self) -> usize {
        0
    }

    /// Waits for whatever the host still does with guest memory, and answers it: what a pause ends with.
    /// Most devices have nothing under way between two turns.
    fn quiesce(&mut self) -> Result<(), RingFault> {
        Ok(())
    }

    /// The rings as they are between two turns, in queue order; nothing is under way then ([`quiesce`](Self::quiesce)).
    /// Chains that the device holds all the same are the last that it took off their ring.
    fn rings(&self) -> Rings;

    /// What it keeps across a snapshot besides its rings. What it has of the host, limits, counters and debts is not
    /// kept: a restored device gets that from its configuration.
    fn save(&self) -> ModelState {
        ModelState::Plain
    }

    /// Takes over what [`save`](Self::save) gave, of another process. Rings came with [`activate`](Self::activate)
    /// before, where there were any.
    fn restore(&mut self, state: &ModelState) -> Result<(), Unfit> {
        match state {
            ModelState::Plain => Ok(()),
            _ => Err(Unfit("what it keeps is another device's")),
        }
    }

    /// The machine goes on somewhere else: what the driver has to hear of that. Every queue gets a turn after it.
    fn relocated(&mut self) {}

    /// Forgets everything since `activate`, rings included, and waits for nothing; on any thread. What the host still does with guest
    /// memory is [`under_way`](Self::under_way): the driver is told that the reset is over when there is no more.
    fn reset(&mut self);

    /// Takes back what the host has finished for a driver that is gone, without waiting for more. A vCPU may make few
    /// calls: what takes others is left to the event loop, which is to hear of it.
    fn drain(&mut self, _on: Thread) {}

    /// Names and values of what the device did so far. A name never changes its meaning: statistics are read by
    /// programs.
    fn counters(&self, report: &mut dyn FnMut(&'static str, u64));
}

//! What a virtio device keeps across a snapshot: plain numbers, none of them trusted when they come back.
//!
//! Duty: the shapes. Who checks them: the transport (features, phases, status) and the constructors that a driver's
//! own set-up goes through (`mmio/setup.rs`, `rings.rs`), so that nothing can be restored that could not be driven
//! there. Not here: what a device has of the host; it comes from the configuration, always.
//!
//! Invariant: numbers and short lists only, so that no state can make a monitor allocate more than the file it came
//! from is long.

use heapless::Vec;
use serde::{Deserialize, Serialize};

/// Queues of a device, at most: a balloon has four.
pub const MAX_QUEUES: usize = 4;
/// One for each queue.
pub type Rings = Vec<Option<RingState>, MAX_QUEUES>;
/// One for each queue.
pub type Setups = Vec<SetupState, MAX_QUEUES>;

/// A transport with its device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportState {
    /// The device ID of virtio 1.2, section 5.
    pub device_type: u32,
    /// The status register.
    pub status: u32,
    /// What the select registers hold: device features, driver features, queue.
    pub selected: [u32; 3],
    /// Reasons of interrupts that the driver has not acknowledged.
    pub reasons: u32,
    /// Generation of the configuration space.
    pub generation: u32,
    /// How far the driver has come.
    pub phase: PhaseState,
    /// What the device keeps for itself.
    pub model: ModelState,
}

/// The phases of a transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PhaseState {
    /// Features are being agreed on.
    Negotiating {
        /// What the driver accepted so far.
        accepted: u64,
    },
    /// Queues are being set up.
    Configuring {
        /// What the driver accepted.
        accepted: u64,
        /// Every queue of the device.
        queues: Setups,
    },
    /// The device works.
    Active {
        /// What the driver accepted.
        accepted: u64,
        /// Every queue of the device; those that the driver left alone are `None`.
        rings: Rings,
    },
    /// The driver broke it.
    NeedsReset,
}

/// A queue that is being set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupState {
    /// Descriptors.
    pub size: u32,
    /// The driver says that it is done with it.
    pub ready: bool,
    /// Addresses of descriptor table, available ring and used ring.
    pub parts: [u64; 3],
}

/// A ring between two turns of its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingState {
    /// Descriptors.
    pub size: u16,
    /// Addresses of descriptor table, available ring and used ring.
    pub parts: [u64; 3],
    /// Chains that were completed, modulo 2^16: the next entry of both rings. Chains that the device held count as
    /// not taken.
    pub position: u16,
}

/// What a device keeps besides its rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelState {
    /// Nothing.
    Plain,
    /// A balloon.
    Balloon {
        /// Pages that the driver says it has put aside.
        actual: u32,
    },
    /// A socket device.
    Vsock {
        /// The next port that a host program gets.
        next_port: u32,
    },
}

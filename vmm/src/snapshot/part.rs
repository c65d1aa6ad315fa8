//! What every part of a machine that has a state of its own owes a snapshot.
//!
//! Duty: the life of a part across a snapshot, written down once:
//!
//! ```text
//!   made from the configuration ──▶ restore(state of another process) ──▶ runs ──▶ rests ──▶ save ──▶ runs
//! ```
//!
//! Invariant: `save` changes nothing, as the machine may go on; `restore` takes nothing for granted, as the state is
//! a file that anybody may have written. A part that refused its state is not used, and neither is its machine.

use serde::{Deserialize, Serialize};

use crate::devices::pl031::Pl031State;
use crate::devices::serial::SerialState;
use crate::devices::watchdog::WatchdogState;
use crate::virtio::state::TransportState;

/// The state of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartState {
    /// A virtio device.
    Virtio(TransportState),
    /// The serial port.
    Serial(SerialState),
    /// A watchdog.
    Watchdog(WatchdogState),
    /// The real-time clock of ARM machines.
    Clock(Pl031State),
}

/// Why a state is none of this part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub &'static str);

impl Unfit {
    /// The state of some other kind of part.
    pub const KIND: Self = Self("it is another kind of device");
}

/// A part of a machine that has something to keep.
pub trait Part: Send + Sync {
    /// What the configuration calls it.
    fn name(&self) -> &str;

    /// Its state while the machine rests.
    fn save(&self) -> PartState;

    /// Goes on where a part like this one was saved; before the machine runs, and after its interrupt controllers
    /// and vCPUs are what they were.
    fn restore(&self, state: &PartState) -> Result<(), Unfit>;
}

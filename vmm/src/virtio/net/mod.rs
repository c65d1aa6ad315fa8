//! The network card (virtio 1.2, section 5.1): one pair of queues on a TAP interface of the host.
//!
//! | file | what |
//! |---|---|
//! | `device.rs` | the model: features, configuration space, frames that the guest sends |
//! | `receive.rs` | frames for the guest: into one chain, or over several (MRG_RXBUF) |
//! | `header.rs` | the header before every frame, and which lies of a guest are refused |
//! | `offload.rs` | checksums and the cutting of large packets: who does them |
//! | `mac.rs` | the card's address where none is configured |
//! | `tap.rs`, `tap/control.rs` | the shell: the TAP interface and its settings |
//!
//! All but the shell is pure: the host's interface is a [`Port`], so a test plays both guest and network.
//!
//! A frame costs one system call each way and is copied by the kernel only, between its own buffer and the
//! guest's: `writev` from the guest's buffers with a checked copy of the header before them, `readv` into as
//! many of the guest's buffers as the last frame took and a spill buffer behind them. Only what a frame is longer
//! than the last is copied once more, out of that spill buffer.
//!
//! Backpressure, both ways and without polling: a guest that gives no buffers leaves frames in the TAP's queue,
//! where the host drops them once it is full, and its next doorbell goes on; a TAP that takes no more leaves
//! frames in the guest's ring until it does.
//!
//! Deliberately absent: the control queue (a guest hears all that the interface hears, and filters itself), more
//! than one pair of queues, a link that goes down. What the interface is connected to is the host's business.

mod device;
mod header;
mod mac;
pub mod offload;
mod receive;
mod tap;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::io;

pub use self::device::{Card, NetDevice};
pub use self::header::Lie;
pub use self::mac::derived as derived_mac;
pub use self::offload::Offloads;
pub use self::tap::{Attached, Tap, TapError};
use super::vectored::Pieces;

/// The queue of frames for the guest (5.1.2).
pub const RECEIVE_QUEUE: usize = 0;
/// The queue of frames from the guest.
pub const SEND_QUEUE: usize = 1;

/// A network card on a TAP interface.
pub type Net = NetDevice<Tap>;

/// The host's interface. Nothing here may block: [`io::ErrorKind::WouldBlock`] is the answer.
pub trait Port: Debug + Send {
    /// The offloads that it can do, as feature bits.
    fn offers(&self) -> u64;

    /// The largest packet without its Ethernet header, if it says so.
    fn mtu(&self) -> Option<u16>;

    /// What frames may leave to the guest from now on; at first nothing. Takes a lock that all of the host's networks
    /// share.
    fn agree(&mut self, offloads: Offloads) -> io::Result<()>;

    /// Sends one frame with its header.
    fn send(&mut self, frame: &Pieces<'_>) -> io::Result<usize>;

    /// Takes one frame with its header. What does not fit is lost.
    fn receive(&mut self, room: &Pieces<'_>) -> io::Result<usize>;
}

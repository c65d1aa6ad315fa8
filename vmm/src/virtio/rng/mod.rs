//! The entropy device (virtio 1.2, section 5.4): the host's random numbers, one queue.
//!
//! | file | what |
//! |---|---|
//! | `device.rs` | the model: fills what the driver offers, within its bounds |
//! | `source.rs` | where the bytes are from: a trait, and the kernel's generator behind it |

mod device;
mod source;

pub use self::device::{RngDevice, WAIT_FOR_SEED};
pub use self::source::{Entropy, HostEntropy};

/// The entropy device of a machine.
pub type Rng = RngDevice<HostEntropy>;

#[cfg(test)]
mod tests;

//! The console device (virtio 1.2, section 5.3): hvc0, one port, no exit per byte.
//!
//! | file | what |
//! |---|---|
//! | `device.rs` | the model: what the guest prints goes to an [`Output`](crate::output::Output), what a person types to the guest |
//! | `patience.rs` | how long a guest waits for a reader before its output is dropped |
//! | `input.rs` | the shell: what is typed to the monitor |
//!
//! No MULTIPORT: what more a port of its own could carry, vsock carries. No SIZE: it would be told once, and a
//! terminal that was resized since is worse off than one that a program in the guest asks. EMERG_WRITE is offered: a guest that
//! panics before it has a driver, or in it, can still write a byte with one access.

mod device;
mod input;
mod patience;

pub use self::device::{Console, Input};

#[cfg(test)]
mod tests;

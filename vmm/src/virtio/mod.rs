//! Virtio 1.2 over MMIO: the transport, the rings and one folder per device.
//!
//! The models in here are pure: they see guest memory through [`rings`] and nothing of the host. Shells
//! that own descriptors stand beside them (`host.rs` of a device, `mmio/shell.rs` for the queues' doorbells).
//!
//! What a guest can reach must not panic or overflow: the lints below hold for everything in this folder.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod balloon;
pub mod block;
pub mod console;
pub mod device;
pub mod mmio;
pub mod net;
pub mod rings;
pub mod rng;
pub mod state;
#[cfg(test)]
pub mod testing;
pub mod vectored;
pub mod vsock;

/// Device IDs of virtio 1.2, section 5.
pub mod device_id {
    /// Section 5.1.
    pub const NET: u32 = 1;
    /// Section 5.2.
    pub const BLOCK: u32 = 2;
    /// Section 5.3.
    pub const CONSOLE: u32 = 3;
    /// Section 5.4.
    pub const ENTROPY: u32 = 4;
    /// Section 5.5.
    pub const BALLOON: u32 = 5;
    /// Section 5.10.
    pub const VSOCK: u32 = 19;
}

/// Feature bits that belong to no single device (virtio 1.2, section 6).
pub mod feature {
    /// VIRTIO_F_INDIRECT_DESC.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// VIRTIO_F_EVENT_IDX.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// VIRTIO_F_VERSION_1: the only revision we speak.
    pub const VERSION_1: u64 = 1 << 32;
}

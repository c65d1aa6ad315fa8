//! Platform devices: what a machine has besides virtio. Models are registers; they end the machine or fill
//! buffers through what they are given, and own no descriptors of the host.

pub mod power;
pub mod serial;

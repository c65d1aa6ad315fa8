//! The register map of virtio-mmio, version 2 (virtio 1.2, section 4.2.2).
//!
//! Every register is 32 bits wide; R is read-only, W write-only, RW both. Offsets that are not named read
//! as zero and ignore writes.

/// R: "virt".
pub const MAGIC: u64 = 0x000;
/// R: 2, the only version without legacy quirks.
pub const VERSION: u64 = 0x004;
/// R: device type.
pub const DEVICE_ID: u64 = 0x008;
/// R: vendor.
pub const VENDOR_ID: u64 = 0x00c;
/// R: the selected 32 bits of the offered features.
pub const DEVICE_FEATURES: u64 = 0x010;
/// W: which 32 bits `DEVICE_FEATURES` shows.
pub const DEVICE_FEATURES_SEL: u64 = 0x014;
/// W: the selected 32 bits of the accepted features.
pub const DRIVER_FEATURES: u64 = 0x020;
/// W: which 32 bits `DRIVER_FEATURES` takes.
pub const DRIVER_FEATURES_SEL: u64 = 0x024;
/// W: which queue the queue registers speak of.
pub const QUEUE_SEL: u64 = 0x030;
/// R: largest size of the selected queue, 0 where there is none.
pub const QUEUE_SIZE_MAX: u64 = 0x034;
/// W: size of the selected queue.
pub const QUEUE_SIZE: u64 = 0x038;
/// RW: 1 makes the selected queue ready.
pub const QUEUE_READY: u64 = 0x044;
/// W: the doorbell; KVM turns it into an event, so a write seen here is a queue that does not exist.
pub const QUEUE_NOTIFY: u64 = 0x050;
/// R: why the last interrupt came.
pub const INTERRUPT_STATUS: u64 = 0x060;
/// W: which of those are handled.
pub const INTERRUPT_ACK: u64 = 0x064;
/// RW: device status.
pub const STATUS: u64 = 0x070;
/// W: descriptor table address, low and high half.
pub const QUEUE_DESC: (u64, u64) = (0x080, 0x084);
/// W: available ring address, low and high half.
pub const QUEUE_DRIVER: (u64, u64) = (0x090, 0x094);
/// W: used ring address, low and high half.
pub const QUEUE_DEVICE: (u64, u64) = (0x0a0, 0x0a4);
/// R: length of the selected shared memory region: all ones where there is none.
pub const SHM_LEN: (u64, u64) = (0x0b0, 0x0b4);
/// R: changes whenever the configuration space changes.
pub const CONFIG_GENERATION: u64 = 0x0fc;
/// RW: the device's own configuration space starts here.
pub const CONFIG: u64 = 0x100;

/// Value of [`MAGIC`].
pub const MAGIC_VALUE: u32 = u32::from_le_bytes(*b"virt");
/// Value of [`VERSION`].
pub const VERSION_VALUE: u32 = 2;
/// Value of [`VENDOR_ID`].
pub const VENDOR_VALUE: u32 = u32::from_le_bytes(*b"HRTH");

/// Bits of [`STATUS`] (virtio 1.2, section 2.1).
pub mod status {
    /// The driver found the device.
    pub const ACKNOWLEDGE: u32 = 1;
    /// The driver knows how to drive it.
    pub const DRIVER: u32 = 2;
    /// The driver is ready.
    pub const DRIVER_OK: u32 = 4;
    /// Feature negotiation is over.
    pub const FEATURES_OK: u32 = 8;
    /// The device met something that it cannot go on from.
    pub const DEVICE_NEEDS_RESET: u32 = 64;
    /// The driver gave up.
    pub const FAILED: u32 = 128;
}

/// Bits of [`INTERRUPT_STATUS`].
pub mod interrupt {
    /// A used ring moved.
    pub const USED: u32 = 1;
    /// The configuration space changed.
    pub const CONFIG: u32 = 2;
}

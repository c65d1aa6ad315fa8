//! Platform devices: what a machine has besides virtio. Models are registers; they end the machine or fill
//! buffers through what they are given, take the time as an argument, and own no descriptors of the host.
//!
//! | module | x86_64 | ARM64 |
//! |---|---|---|
//! | [`serial`] | 16550 at port 0x3f8 | 16550 in memory |
//! | [`power`] | ACPI sleep and reset registers | PSCI, inside KVM |
//! | [`power_button`] | ACPI button by way of a Generic Event Device | `gpio-keys` on an interrupt |
//! | [`watchdog`] | ACPI's WDAT, and IB700 | SP805 |
//! | [`pvpanic`] | port, ACPI `QEMU0001` | memory, `qemu,pvpanic-mmio` |
//! | [`generation`] | ACPI `VM_Gen_Counter` | `microsoft,vmgenid` |
//! | [`pl031`] | none: kvm-clock tells the time | PL031 |
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

pub mod generation;
pub mod pl031;
pub mod power;
pub mod power_button;
pub mod primecell;
pub mod pvpanic;
pub mod serial;
pub mod watchdog;

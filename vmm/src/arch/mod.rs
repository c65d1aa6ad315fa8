//! What differs between architectures, behind one set of names.
//!
//! Each architecture has the same files:
//!
//! | file | what |
//! |---|---|
//! | `layout.rs` | who lives where in guest-physical memory |
//! | `chipset.rs` | interrupt controller and timers that KVM emulates |
//! | `boot.rs` | loads the kernel and what it needs to start |
//! | `vcpu.rs` | first state of the vCPUs |
//! | `saved.rs` and what it names | both of them across a snapshot |
//! | `acpi.rs` (with `wdat.rs`) or `fdt.rs` | the tables that tell the kernel what the machine has |
//!
//! The rest of the crate uses what this module re-exports and knows no architecture.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

mod files;
mod seed;

#[cfg(all(test, target_arch = "aarch64"))]
pub(crate) use aarch64::kernel_for_tests;
#[cfg(target_arch = "aarch64")]
pub use aarch64::*;
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) use x86_64::kernel_for_tests;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;

use std::path::PathBuf;
use std::sync::Arc;

use event_manager::MutEventSubscriber;
use vm_memory::GuestAddress;

use crate::machine::Overlap;
use crate::mapped_file::Mapped;
use crate::snapshot::Part;

/// One virtio-mmio device, as the firmware tables describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MmioSlot {
    /// First address of its registers.
    pub base: u64,
    /// Its interrupt: a GSI on x86, an SPI number (counted from 0) on ARM.
    pub interrupt: u32,
}

/// What the firmware tables say the machine has. Whoever plugs a device in says so here.
#[derive(Debug, Clone, Copy)]
pub struct Fittings<'a> {
    /// Processors.
    pub vcpus: u8,
    /// Virtio devices.
    pub slots: &'a [MmioSlot],
    /// Whether there is a serial port.
    pub serial: bool,
    /// Whether there is a watchdog.
    pub watchdog: bool,
}

/// A watchdog that is in its place.
pub struct Dog {
    /// What a snapshot keeps of it.
    pub part: Arc<dyn Part>,
    /// What the event loop must serve.
    pub timer: Box<dyn MutEventSubscriber>,
}

impl std::fmt::Debug for Dog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dog").field("part", &self.part.name()).finish_non_exhaustive()
    }
}

/// Why the devices of the platform cannot be put in their places.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The layout tables contradict themselves.
    #[error(transparent)]
    Layout(#[from] Overlap),
    /// The host gave no timer.
    #[error("no timer for the watchdog")]
    Timer(#[source] std::io::Error),
}

/// The files a guest starts from.
#[derive(Debug)]
pub struct BootFiles<'a> {
    /// The kernel: vmlinux or bzImage on x86, Image on ARM.
    pub kernel: &'a std::path::Path,
    /// The initial RAM file system.
    pub initrd: Option<&'a std::path::Path>,
    /// The command line, complete.
    pub cmdline: &'a str,
    /// Notes what of them is mapped instead of copied.
    pub mapped: &'a Mapped,
}

/// An address range in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First address.
    pub start: GuestAddress,
    /// Bytes.
    pub length: u64,
}

/// Why the guest cannot be started from its files.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file that cannot be opened or read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// Which file.
        file: BootFile,
        /// Where it should be.
        path: PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// Not what it should be.
    #[error("{}: not {expected}{detail}", path.display())]
    NotAKernel {
        /// Which file.
        path: PathBuf,
        /// What was expected.
        expected: &'static str,
        /// What the loader met, from `": "` on; may be empty.
        detail: String,
    },
    /// Something does not fit into guest memory.
    #[error("{what} does not fit into {mib} MiB of guest memory")]
    DoesNotFit {
        /// What.
        what: String,
        /// The guest's memory.
        mib: u64,
    },
    /// The command line is longer than the kernel takes.
    #[error("kernel command line has {length} bytes, expected at most {max}")]
    CommandLine {
        /// Its length.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// The firmware tables outgrow their region: a machine of more devices than the region was made for.
    #[error("the ACPI tables end at {end:#x}, expected at most {room:#x}")]
    Tables {
        /// Where they would end.
        end: u64,
        /// Where they must.
        room: u64,
    },
    /// Guest memory refused a write: the layout tables are wrong.
    #[error("cannot write boot data into guest memory")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

impl BootError {
    /// The key of the configuration that is at fault, if one is.
    #[must_use]
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Self::Read { file, .. } => Some(file.key()),
            Self::NotAKernel { .. } => Some(BootFile::Kernel.key()),
            Self::DoesNotFit { .. } => Some("machine.memory_mib"),
            Self::CommandLine { .. } => Some("boot.cmdline"),
            Self::Tables { .. } | Self::Memory(_) => None,
        }
    }
}

/// Which of the boot files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootFile {
    /// The kernel.
    Kernel,
    /// The initial RAM file system.
    Initrd,
}

impl BootFile {
    const fn key(self) -> &'static str {
        match self {
            Self::Kernel => "boot.kernel",
            Self::Initrd => "boot.initrd",
        }
    }
}

/// Why processors and interrupt controllers cannot be saved, or not be restored here.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// KVM refused.
    #[error("KVM refused to {0}")]
    Kvm(&'static str, #[source] kvm_ioctls::Error),
    /// What was saved is of another machine, or of none.
    #[error("{0}")]
    Unlike(String),
}

/// Why the virtual hardware that KVM emulates cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ChipsetError {
    /// KVM refused.
    #[error("KVM refused to {0}")]
    Kvm(&'static str, #[source] kvm_ioctls::Error),
    /// KVM cannot emulate an interrupt controller that guests know.
    #[error("KVM offers {0}")]
    Lacks(&'static str),
}

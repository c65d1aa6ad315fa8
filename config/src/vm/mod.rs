//! `vm.toml`: one virtual machine, read by `hearth-vmm`, written by `hearthd`.
//!
//! Duty: the types and their limits; `shape.rs` reads them from TOML and `firecracker.rs` from JSON,
//! `contradictions.rs` compares them with each other, `write.rs` writes them. Not here: opening what the paths name.
//! Invariant: what [`VmConfig::to_toml`] writes, [`VmConfig::parse`] reads as the same value.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::fault::{Fault, Faults};
use crate::quantity::Mebibytes;
use crate::reader;
use crate::source::{Form, Source, Strictness};
use crate::tree::locate;

mod contradictions;
mod firecracker;
mod shape;
mod write;

pub(crate) use shape::{machine, tap as interface_name};

/// Virtual CPUs. More than an edge gateway has cores; bounds the threads of one monitor.
pub const VCPUS: std::ops::RangeInclusive<u8> = 1..=16;
/// Guest memory in MiB. Below, a Linux guest does not boot; above is larger than any gateway.
pub const MEMORY_MIB: std::ops::RangeInclusive<u32> = 32..=65536;
/// Block devices. Each takes an MMIO window and an interrupt line.
pub const MAX_BLOCK_DEVICES: usize = 16;
/// Bytes of a device's id, as in Firecracker's form. Of a disk's, virtio-blk shows the guest 20 as its serial number.
pub const MAX_ID_BYTES: usize = 64;
/// Bytes of the kernel command line: x86 Linux takes 2048 with the final zero, and the monitor adds its devices.
pub const MAX_CMDLINE_BYTES: usize = 1536;
/// Bytes of a Unix socket's path: the kernel's 107, less the `_4294967295` that a guest's port may add.
pub const MAX_SOCKET_PATH_BYTES: usize = 96;
/// Bytes of the control socket's path: what the kernel takes.
pub const MAX_CONTROL_PATH_BYTES: usize = 107;
/// MiB of a huge page.
const HUGE_PAGE_MIB: u32 = 2;
/// Units per second: more than any device of a gateway moves, and far from overflowing anything.
pub const MAX_RATE: u64 = 1 << 40;
/// Guest addresses on vsock: 0 to 2 are taken (hypervisor, loopback, host), the last is "any".
pub const VSOCK_CIDS: std::ops::RangeInclusive<u32> = 3..=u32::MAX - 1;

/// Network cards. Each takes an MMIO window and an interrupt line.
pub const MAX_NETWORK_CARDS: usize = 8;
/// Bytes of a network interface's name on Linux (IFNAMSIZ, less the final zero).
pub const MAX_INTERFACE_BYTES: usize = 15;
/// Bytes of a host's name on Linux (HOST_NAME_MAX).
pub const MAX_HOSTNAME_BYTES: usize = 64;
/// Seconds that one step of a stop may take. An hour is more patience than any guest deserves.
pub const STOP_SECONDS: std::ops::RangeInclusive<u16> = 0..=3600;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmConfig {
    pub machine: Machine,
    pub boot: Boot,
    pub serial: Serial,
    pub console: Option<Console>,
    pub block: Vec<Block>,
    pub net: Vec<Net>,
    pub vsock: Option<Vsock>,
    pub rng: Option<Rng>,
    pub balloon: Option<Balloon>,
    pub watchdog: Option<Watchdog>,
    pub control: Option<Control>,
    pub stop: Stop,
    pub snapshot: Option<Snapshot>,
    pub identity: Identity,
    pub jail: Jail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    pub vcpus: u8,
    pub memory: Mebibytes,
    /// Guest memory from the host's pool of 2 MiB pages.
    pub huge_pages: bool,
    pub on_reboot: OnReboot,
}

impl Default for Machine {
    fn default() -> Machine {
        Machine { vcpus: 1, memory: Mebibytes(128), huge_pages: false, on_reboot: OnReboot::Report }
    }
}

/// What a reboot of the guest is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnReboot {
    /// An end, with an exit status of its own: whoever started the monitor decides.
    #[default]
    Report,
    /// A new start in the same process.
    Restart,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    pub kernel: PathBuf,
    pub initrd: Option<PathBuf>,
    pub cmdline: String,
}

/// Where what a guest prints goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Output {
    #[default]
    Stdout,
    Null,
    File(PathBuf),
}

/// The 16550 port, for early boot: each byte is an exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serial {
    /// `None`: the machine has no such port.
    pub output: Option<Output>,
    pub input: Input,
    pub limit: Limit,
}

impl Default for Serial {
    fn default() -> Serial {
        Serial { output: Some(Output::Stdout), input: Input::Null, limit: Limit::default() }
    }
}

/// What a guest is typed to from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Input {
    /// Nobody types.
    #[default]
    Null,
    /// The monitor's standard input; every key of a terminal is the guest's then.
    Stdin,
}

/// The virtio console, hvc0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Console {
    pub output: Output,
    pub input: Input,
    pub limit: Limit,
}

/// A token bucket: `per_second` units per second, of which `burst` may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u64,
    pub burst: u64,
    /// What may pass before the bucket counts, for a quick start; spent once.
    pub once: u64,
}

/// Bytes and operations, either of them limited or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    pub bytes: Option<Rate>,
    pub operations: Option<Rate>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub id: String,
    pub path: PathBuf,
    pub read_only: bool,
    pub limit: Limit,
}

/// A network card on a TAP interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    pub id: String,
    /// The TAP interface of the host.
    pub tap: String,
    /// `None`: one that follows from the name of the card and of the interface.
    pub mac: Option<Mac>,
    /// To the guest.
    pub receive: Limit,
    /// From the guest.
    pub send: Limit,
}

/// An Ethernet address of one station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, last] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{last:02x}")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vsock {
    pub cid: u32,
    pub socket: PathBuf,
}

/// Entropy from the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rng {
    pub limit: Limit,
}

/// Memory that the guest lends back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balloon {
    /// How much the guest is to give back from the start.
    pub target: Mebibytes,
    /// The guest takes memory back before it kills a process for lack of it.
    pub deflate_on_oom: bool,
    /// The guest tells of pages as they become free, and the host takes them.
    pub free_page_reporting: bool,
}

impl Default for Balloon {
    fn default() -> Balloon {
        Balloon { target: Mebibytes(0), deflate_on_oom: true, free_page_reporting: true }
    }
}

/// A watchdog that the guest may start; it has no settings, the guest's driver chooses the timeout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watchdog;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The Unix socket on which the monitor takes requests.
    pub socket: PathBuf,
}

/// How long each step of a stop may take, in seconds; zero leaves the step out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// For the agent in the guest.
    pub agent_s: u16,
    /// For the guest's answer to its power button.
    pub button_s: u16,
}

impl Default for Stop {
    fn default() -> Stop {
        Stop { agent_s: 10, button_s: 10 }
    }
}

/// What the monitor may write down of the machine while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Where snapshots go, each into a folder of its own.
    pub folder: PathBuf,
    /// After a full snapshot the machine's memory is mapped from it, so that differences to it can be taken.
    pub rebase: bool,
}

/// What its process may still do once the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jail {
    /// Off only to look for a fault.
    pub enabled: bool,
}

impl Default for Jail {
    fn default() -> Jail {
        Jail { enabled: true }
    }
}

/// Who a machine is that goes on from a snapshot; its agent is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `None`: the one of the snapshot, with some digits of a new machine ID behind it.
    pub hostname: Option<String>,
    pub machine_id: MachineId,
}

/// What `/etc/machine-id` says in the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MachineId {
    /// One that nobody had.
    #[default]
    New,
    /// The same guest goes on.
    Keep,
    Fixed([u8; 16]),
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("new"),
            Self::Keep => f.write_str("keep"),
            Self::Fixed(id) => id.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

/// Why a machine cannot be written down.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WriteError {
    #[error("the path {0:?} is not UTF-8, which TOML needs")]
    NotUtf8(PathBuf),
}

impl VmConfig {
    /// Reads either form; beside the machine, what `strictness` lets pass.
    pub fn read(source: &Source, strictness: Strictness) -> Result<(VmConfig, Vec<Fault>), Faults> {
        let shape = match source.form() {
            Form::Toml => shape::vm,
            Form::Json => firecracker::vm,
        };
        reader::read(source, strictness, shape)
    }

    /// The file at `path`, strictly. Relative paths in TOML become paths beside it.
    pub fn load(path: &Path) -> Result<VmConfig, Faults> {
        VmConfig::read(&Source::file(path)?, Strictness::Strict).map(|(vm, _)| vm)
    }

    /// `text`, strictly. Relative paths stay as they are.
    pub fn parse(name: &str, text: &str) -> Result<VmConfig, Faults> {
        VmConfig::read(&Source::text(name, text), Strictness::Strict).map(|(vm, _)| vm)
    }

    /// A fault that showed when the value of `key` (such as `boot.kernel` or `block[1].path`) was used, as the person
    /// who wrote `source` calls that key.
    pub fn fault_at(source: &Source, key: &str, message: &str) -> Fault {
        let fault = source.with_tree(|root| {
            let key = match source.form() {
                Form::Toml => key.to_owned(),
                Form::Json => firecracker::key_of(key, firecracker::root_device(root)),
            };
            source.fault(locate(root, &key), &key, message)
        });
        // It was read before, so this is a tree.
        fault.unwrap_or_else(|_| source.fault(None, key, message))
    }

    /// How many virtio devices the machine has: each takes an MMIO window and an interrupt line.
    pub fn virtio_devices(&self) -> usize {
        let single =
            [self.console.is_some(), self.vsock.is_some(), self.rng.is_some(), self.balloon.is_some()];
        self.block.len() + self.net.len() + single.into_iter().filter(|there| *there).count()
    }
}

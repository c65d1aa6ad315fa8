//! `vm.toml`: one virtual machine, read by `hearth-vmm`, written by `hearthd`.
//!
//! Duty: the shape, the limits, reading and writing. Not here: opening what the paths name.
//! Invariant: what [`VmConfig::to_toml`] writes, [`VmConfig::parse`] reads as the same value.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::fault::Faults;
use crate::quantity::Mebibytes;
use crate::reader::{self, Entry, Table};
use crate::writer;

/// Virtual CPUs. More than an edge gateway has cores; bounds the threads of one monitor.
pub const VCPUS: std::ops::RangeInclusive<u8> = 1..=16;
/// Guest memory in MiB. Below, a Linux guest does not boot; above is larger than any gateway.
pub const MEMORY_MIB: std::ops::RangeInclusive<u32> = 32..=65536;
/// Block devices. Each takes an MMIO window and an interrupt line.
pub const MAX_BLOCK_DEVICES: usize = 16;
/// Bytes of a block device's id: virtio-blk shows the guest a serial of 20 bytes.
pub const MAX_BLOCK_ID_BYTES: usize = 20;
/// Bytes of the kernel command line: x86 Linux takes 2048 with the final zero, and the monitor adds its devices.
pub const MAX_CMDLINE_BYTES: usize = 1536;
/// Bytes of a Unix socket's path: the kernel's 107, less the `_4294967295` that a guest's port may add.
pub const MAX_SOCKET_PATH_BYTES: usize = 96;
/// Guest addresses on vsock: 0 to 2 are taken (hypervisor, loopback, host), the last is "any".
pub const VSOCK_CIDS: std::ops::RangeInclusive<u32> = 3..=u32::MAX - 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmConfig {
    pub machine: Machine,
    pub boot: Boot,
    pub serial: Serial,
    pub block: Vec<Block>,
    pub vsock: Option<Vsock>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    pub vcpus: u8,
    pub memory: Mebibytes,
}

impl Default for Machine {
    fn default() -> Machine {
        Machine { vcpus: 1, memory: Mebibytes(128) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    pub kernel: PathBuf,
    pub initrd: Option<PathBuf>,
    pub cmdline: String,
}

/// Where the guest's serial output goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Serial {
    #[default]
    Stdout,
    Null,
    File(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub id: String,
    pub path: PathBuf,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vsock {
    pub cid: u32,
    pub socket: PathBuf,
}

/// Why a machine cannot be written down.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WriteError {
    #[error("the path {0:?} is not UTF-8, which TOML needs")]
    NotUtf8(PathBuf),
}

impl VmConfig {
    /// Relative paths in the file become paths beside it.
    pub fn load(path: &Path) -> Result<VmConfig, Faults> {
        reader::load(path, shape)
    }

    /// Relative paths stay as they are.
    pub fn parse(name: &str, text: &str) -> Result<VmConfig, Faults> {
        reader::read(name, text, Path::new(""), shape)
    }

    /// The text that reads back as this machine.
    pub fn to_toml(&self) -> Result<String, WriteError> {
        let Machine { vcpus, memory } = self.machine;
        let mut lines = vec![
            "[machine]".to_owned(),
            format!("vcpus = {vcpus}"),
            format!("memory_mib = {}", memory.0),
            "\n[boot]".to_owned(),
            format!("kernel = {}", path_string(&self.boot.kernel)?),
        ];
        if let Some(initrd) = &self.boot.initrd {
            lines.push(format!("initrd = {}", path_string(initrd)?));
        }
        lines.push(format!("cmdline = {}", writer::string(&self.boot.cmdline)));
        lines.push("\n[serial]".to_owned());
        lines.push(match &self.serial {
            Serial::Stdout => "output = \"stdout\"".to_owned(),
            Serial::Null => "output = \"null\"".to_owned(),
            Serial::File(path) => format!("output = {}", path_string(path)?),
        });
        for block in &self.block {
            lines.push("\n[[block]]".to_owned());
            lines.push(format!("id = {}", writer::string(&block.id)));
            lines.push(format!("path = {}", path_string(&block.path)?));
            lines.push(format!("read_only = {}", block.read_only));
        }
        if let Some(vsock) = &self.vsock {
            lines.push("\n[vsock]".to_owned());
            lines.push(format!("cid = {}", vsock.cid));
            lines.push(format!("socket = {}", path_string(&vsock.socket)?));
        }
        lines.push(String::new());
        Ok(lines.join("\n"))
    }
}

fn path_string(path: &Path) -> Result<String, WriteError> {
    path.to_str().map(writer::string).ok_or_else(|| WriteError::NotUtf8(path.to_owned()))
}

fn shape(table: &mut Table<'_>) -> VmConfig {
    VmConfig {
        machine: table.section("machine", |t| machine(t, Machine::default())),
        boot: table.section("boot", boot),
        serial: table.section("serial", serial),
        block: blocks(table),
        vsock: table.optional_section("vsock", vsock),
    }
}

/// `vcpus` and `memory_mib`, the same in `vm.toml` and in a workload.
pub(crate) fn machine(table: &mut Table<'_>, default: Machine) -> Machine {
    let vcpus = table.entry("vcpus").number(u64::from(*VCPUS.start())..=u64::from(*VCPUS.end()), "");
    let memory = table
        .entry("memory_mib")
        .number(u64::from(*MEMORY_MIB.start())..=u64::from(*MEMORY_MIB.end()), " MiB");
    Machine {
        vcpus: vcpus.and_then(|n| u8::try_from(n).ok()).unwrap_or(default.vcpus),
        memory: memory.and_then(|n| u32::try_from(n).ok()).map_or(default.memory, Mebibytes),
    }
}

fn boot(table: &mut Table<'_>) -> Boot {
    Boot {
        kernel: table.required("kernel", "the path of a kernel image").path().unwrap_or_default(),
        initrd: table.entry("initrd").path(),
        cmdline: cmdline(&table.entry("cmdline")),
    }
}

fn cmdline(entry: &Entry<'_>) -> String {
    let Some(text) = entry.text() else { return String::new() };
    if text.len() > MAX_CMDLINE_BYTES {
        entry.fault(format!("expected at most {MAX_CMDLINE_BYTES} bytes, found {}", text.len()));
    }
    if text.chars().any(char::is_control) {
        entry.fault("expected one line without control characters");
    }
    text.to_owned()
}

fn serial(table: &mut Table<'_>) -> Serial {
    let entry = table.entry("output");
    match entry.text_as("\"stdout\", \"null\" or a path", |text| (!text.is_empty()).then(|| text.to_owned()))
    {
        None => Serial::Stdout,
        Some(text) if text == "stdout" => Serial::Stdout,
        Some(text) if text == "null" => Serial::Null,
        Some(_) => entry.path().map_or(Serial::Stdout, Serial::File),
    }
}

fn blocks(table: &mut Table<'_>) -> Vec<Block> {
    let mut seen: Vec<String> = Vec::new();
    table.sections("block", MAX_BLOCK_DEVICES, |t| {
        let entry = t.required("id", "a name for the device");
        let id = entry.text_as(&format!("1 to {MAX_BLOCK_ID_BYTES} letters, digits, - or _"), |text| {
            is_block_id(text).then(|| text.to_owned())
        });
        let id = id.unwrap_or_default();
        if seen.contains(&id) && !id.is_empty() {
            entry.fault(format!("expected a name of its own, \"{id}\" is taken by a device above"));
        }
        seen.push(id.clone());
        Block {
            id,
            path: t.required("path", "the path of a disk image").path().unwrap_or_default(),
            read_only: t.entry("read_only").flag().unwrap_or(false),
        }
    })
}

fn is_block_id(text: &str) -> bool {
    (1..=MAX_BLOCK_ID_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn vsock(table: &mut Table<'_>) -> Vsock {
    let cids = u64::from(*VSOCK_CIDS.start())..=u64::from(*VSOCK_CIDS.end());
    let cid = table.required("cid", "the guest's address, 3 or more").number(cids, "");
    let entry = table.required("socket", "the path of a Unix socket");
    let socket = entry.path().unwrap_or_default();
    let bytes = socket.as_os_str().len();
    if bytes > MAX_SOCKET_PATH_BYTES {
        entry.fault(format!("expected a path of at most {MAX_SOCKET_PATH_BYTES} bytes, found {bytes}"));
    }
    Vsock { cid: cid.and_then(|n| u32::try_from(n).ok()).unwrap_or(*VSOCK_CIDS.start()), socket }
}

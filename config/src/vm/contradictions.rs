//! Values that are each in order and cannot stand beside each other.
//!
//! Duty: compare them. Not here: what a value is by itself (`shape`), nor what only the host knows: two names of one
//! file, an interface that another process has.
//! Invariant: a value that was at fault already is not compared; what stands in for it would tell tales.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

use super::{HUGE_PAGE_MIB, Input, Output, VmConfig};
use crate::reader::Table;

/// Tells `root` of every contradiction in `vm`; `name` is what the file calls a key of `vm.toml`.
pub(super) fn tell(root: &Table<'_>, vm: &VmConfig, name: &dyn Fn(&str) -> String) {
    let between = |key: &str, other: &str, message: String| {
        let (key, other) = (name(key), name(other));
        root.contradiction(&key, &other, message);
    };
    let memory = vm.machine.memory;
    if vm.machine.huge_pages && !memory.0.is_multiple_of(HUGE_PAGE_MIB) {
        let message = format!("expected a memory of a multiple of {HUGE_PAGE_MIB} MiB, found {}", memory.0);
        between("machine.huge_pages", "machine.memory_mib", message);
    }
    if vm.machine.huge_pages && vm.snapshot.as_ref().is_some_and(|snapshot| snapshot.rebase) {
        let message = "expected false where memory is of huge pages: it cannot be mapped from a snapshot";
        between("snapshot.rebase", "machine.huge_pages", message.to_owned());
    }
    if let Some(balloon) = vm.balloon
        && balloon.target >= memory
    {
        let message = format!("expected less than the machine's {memory}, found {}", balloon.target.0);
        between("balloon.target_mib", "machine.memory_mib", message);
    }
    for (index, card) in vm.net.iter().enumerate() {
        for (before, other) in vm.net.iter().enumerate().take(index) {
            if card.tap == other.tap {
                let taken = name(&format!("net[{before}]"));
                let message = format!("expected an interface of its own, {:?} is taken by {taken}", card.tap);
                between(&format!("net[{index}].tap"), &format!("net[{before}].tap"), message);
            }
            if card.mac.is_some() && card.mac == other.mac {
                let taken = name(&format!("net[{before}]"));
                let message = format!("expected an address of its own, {taken} has the same");
                between(&format!("net[{index}].mac"), &format!("net[{before}].mac"), message);
            }
        }
    }
    if vm.serial.input == Input::Stdin && vm.serial.output.is_none() {
        let message = "expected a port to type to, \"off\" leaves it out of the machine".to_owned();
        between("serial.input", "serial.output", message);
    }
    if vm.serial.input == Input::Stdin && vm.console.as_ref().is_some_and(|c| c.input == Input::Stdin) {
        let message = format!("expected \"null\", {} has standard input for itself", name("serial.input"));
        between("console.input", "serial.input", message);
    }
    files(vm, name, &between);
    if let (Some(control), Some(vsock)) = (&vm.control, &vm.vsock)
        && is_port_of(&control.socket, &vsock.socket)
    {
        let message =
            "expected a path that no guest reaches, a port of the host on vsock has this one".to_owned();
        between("control.socket", "vsock.socket", message);
    }
}

/// What becomes of the file at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    /// Written to by the guest, or made as a socket.
    Owned,
    /// Where a full file of output goes, in place of what is there.
    SetAside,
}

fn files(vm: &VmConfig, name: &dyn Fn(&str) -> String, between: &dyn Fn(&str, &str, String)) {
    let mut uses: Vec<(String, Cow<'_, Path>, Use)> = Vec::new();
    let mut add = |key: &str, path, what| uses.push((key.to_owned(), Cow::Borrowed(path), what));
    add("boot.kernel", &vm.boot.kernel, Use::Read);
    if let Some(initrd) = &vm.boot.initrd {
        add("boot.initrd", initrd, Use::Read);
    }
    for (index, disk) in vm.block.iter().enumerate() {
        let what = if disk.read_only { Use::Read } else { Use::Owned };
        add(&format!("block[{index}].path"), &disk.path, what);
    }
    let outputs = [
        ("serial.output", vm.serial.output.as_ref()),
        ("console.output", vm.console.as_ref().map(|console| &console.output)),
    ];
    for (key, output) in outputs {
        if let Some(Output::File(path)) = output {
            add(key, path, Use::Owned);
        }
    }
    if let Some(vsock) = &vm.vsock {
        add("vsock.socket", &vsock.socket, Use::Owned);
    }
    if let Some(control) = &vm.control {
        add("control.socket", &control.socket, Use::Owned);
    }
    // Compared last, so that a fault is told of the file that would be replaced, and once.
    for (key, output) in outputs {
        if let Some(Output::File(path)) = output {
            uses.push((key.to_owned(), Cow::Owned(set_aside(path)), Use::SetAside));
        }
    }
    for (index, (key, path, what)) in uses.iter().enumerate() {
        let clashes = |with: &Use| *what != Use::Read || *with != Use::Read;
        let other = uses.iter().take(index).find(|(_, other, with)| clashes(with) && same(path, other));
        let Some((other, _, with)) = other else { continue };
        let message = match (what, with) {
            (Use::SetAside, Use::SetAside) => continue,
            (Use::SetAside, _) => format!(
                "expected a file of its own, when full it takes the place of {}: {}",
                name(other),
                path.display()
            ),
            _ => format!("expected a file of its own, {} names the same", name(other)),
        };
        between(key, other, message);
    }
}

/// Where a file of output goes when it is full.
fn set_aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// By name only: the files need not be there yet.
fn same(a: &Path, b: &Path) -> bool {
    let parts = |path| Path::components(path).filter(|part| *part != Component::CurDir);
    parts(a).eq(parts(b))
}

/// Whether `path` is where the monitor connects for a guest that calls a port of the host: `<socket>_<port>`.
fn is_port_of(path: &Path, socket: &Path) -> bool {
    let (Some(name), Some(start)) = (path.file_name(), socket.file_name()) else { return false };
    let port = name
        .as_encoded_bytes()
        .strip_prefix(start.as_encoded_bytes())
        .and_then(|rest| rest.strip_prefix(b"_"))
        .and_then(|digits| str::from_utf8(digits).ok());
    let folder = |path: &Path| path.parent().unwrap_or(Path::new("")).to_owned();
    port.is_some_and(|port| port.parse::<u32>().is_ok()) && same(&folder(path), &folder(socket))
}

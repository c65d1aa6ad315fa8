//! What can be known of a machine before KVM is asked for anything.
//!
//! Duty: the faults that only this host, or this architecture, knows: files that are not there or no kernel, disks
//! that others use, sockets and files that cannot be made, interfaces that cannot be had, more devices than
//! interrupts; all at once.
//! Not here: the limits of values, `hearth_config` has them.
//! Invariant: nothing is changed, made or locked, and nothing is kept open. What is found in order may be gone a moment
//! later: whoever uses it looks again.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use hearth_config::vm::{Output, VmConfig};
use nix::fcntl::OFlag;
use nix::sys::stat::{major, minor};

use crate::arch;
use crate::listener::{ListenError, Listener};
use crate::logger::chain;
use crate::machine::examine_output;
use crate::memory::{self, Pages};
use crate::places;
use crate::virtio::block::{OpenError, SECTOR};
use crate::virtio::net::{Tap, TapError};

/// What is wrong with the value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// As in `boot.kernel` or `block[1].path`.
    pub key: String,
    /// What is wrong, in one line.
    pub message: String,
    /// Somebody else has it, and may be about to let go.
    pub in_use: bool,
}

/// What the machine is to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Its kernel.
    Boot,
    /// A snapshot, which has all that a kernel brought: those files may be gone.
    Snapshot,
}

/// How long a machine that was killed may take to let go of its sockets, disks and interfaces: its process ends a moment
/// after the one that was killed, and first gives back its memory.
const LETTING_GO: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// All that is wrong, and still is when a machine that was killed just now has had its time to go.
#[must_use]
pub fn examine_patiently(config: &VmConfig, start: Start) -> Vec<Finding> {
    let until = Instant::now() + LETTING_GO;
    loop {
        let findings = examine(config, start);
        if findings.is_empty() || !findings.iter().all(|found| found.in_use) || Instant::now() >= until {
            return findings;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// All that is wrong.
#[must_use]
pub fn examine(config: &VmConfig, start: Start) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |key: &str, message: String, in_use| {
        findings.push(Finding { key: key.to_owned(), message, in_use });
    };
    let mut say = |key: &str, message: String| add(key, message, false);
    let asked = config.virtio_devices();
    if asked > arch::MAX_MMIO_SLOTS as usize {
        let key = if config.net.len() > config.block.len() { "net" } else { "block" };
        say(key, format!("expected at most {} virtio devices in all, found {asked}", arch::MAX_MMIO_SLOTS));
    }
    if start == Start::Boot
        && let Err(error) = arch::examine_kernel(&config.boot.kernel)
    {
        say("boot.kernel", chain(&error));
    }
    if let Some(path) = config.boot.initrd.as_ref().filter(|_| start == Start::Boot)
        && let Err(error) = readable(path)
    {
        say("boot.initrd", format!("{}: cannot be read: {error}", path.display()));
    }
    let pages = if config.machine.huge_pages { Pages::Huge } else { Pages::Ordinary };
    let bytes = usize::try_from(config.machine.memory.bytes()).unwrap_or(usize::MAX);
    if let Err(error) = memory::examine(pages, bytes) {
        say("machine.huge_pages", chain(&error));
    }
    let outputs = [
        ("serial.output", config.serial.output.as_ref()),
        ("console.output", config.console.as_ref().map(|console| &console.output)),
    ];
    for (key, output) in outputs {
        if let Some(output @ Output::File(path)) = output
            && let Err(error) = examine_output(output)
        {
            say(key, format!("{}: cannot be written: {error}", path.display()));
        }
    }
    let sockets = [
        ("vsock.socket", config.vsock.as_ref().map(|vsock| &vsock.socket)),
        ("control.socket", config.control.as_ref().map(|control| &control.socket)),
    ];
    for (key, socket) in sockets {
        if let Some(Err(error)) = socket.map(|path| Listener::examine(path)) {
            add(key, chain(&error), matches!(error, ListenError::InUse { .. }));
        }
    }
    for (index, card) in config.net.iter().enumerate() {
        if let Err(error) = Tap::examine(&card.tap) {
            let message = format!("cannot be used as a network card: {}", chain(&error));
            add(&format!("net[{index}].tap"), message, matches!(error, TapError::Busy { .. }));
        }
    }
    let locks = if config.block.is_empty() { String::new() } else { host_locks() };
    let mut images: Vec<(usize, u64, u64)> = Vec::new();
    for (index, disk) in config.block.iter().enumerate() {
        let key = format!("block[{index}].path");
        let (device, inode) = match image(&disk.path, disk.read_only, &locks) {
            Ok(identity) => identity,
            Err(error) => {
                let message = format!("cannot be used as a disk: {}", chain(&error));
                add(&key, message, matches!(error, OpenError::InUse { .. }));
                continue;
            }
        };
        let same = images.iter().filter(|(_, d, i)| (*d, *i) == (device, inode)).map(|(other, ..)| other);
        let mut others = same.filter_map(|other| config.block.get(*other));
        if let Some(other) = others.rfind(|other| !(other.read_only && disk.read_only)) {
            let message =
                format!("expected an image of its own, disk `{}` has the same and one is written", other.id);
            add(&key, message, false);
        }
        images.push((index, device, inode));
    }
    findings
}

fn readable(path: &Path) -> io::Result<()> {
    // A pipe would keep the open waiting for its other end.
    let file = places::open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
    if file.metadata()?.is_file() { Ok(()) } else { Err(io::Error::other("not a regular file")) }
}

/// What tells an image from others, if it can be opened as it has to be.
fn image(path: &Path, read_only: bool, locks: &str) -> Result<(u64, u64), OpenError> {
    let failed = |source| OpenError::Open { path: path.to_owned(), source };
    let way = if read_only { OFlag::O_RDONLY } else { OFlag::O_RDWR };
    let opened = places::open(path, way | OFlag::O_NONBLOCK);
    let data = opened.and_then(|file| file.metadata()).map_err(failed)?;
    let kind = data.file_type();
    if kind.is_block_device() {
        // The same under any node that leads to it; no file system has this number.
        Ok((u64::MAX, data.rdev()))
    } else if kind.is_file() {
        let (path, bytes) = (path.to_owned(), data.len());
        if is_locked(locks, &data, read_only) {
            Err(OpenError::InUse { path, read_only })
        } else if bytes < SECTOR {
            Err(OpenError::TooSmall { path, bytes })
        } else {
            Ok((data.dev(), data.ino()))
        }
    } else {
        Err(OpenError::NotADisk { path: path.to_owned() })
    }
}

/// The locks that programs hold. To try one would be to hold it, beside a machine that may just be starting.
fn host_locks() -> String {
    std::fs::read_to_string("/proc/locks").unwrap_or_default()
}

/// Whether the file is locked so that a machine could not use it: `1: FLOCK  ADVISORY  WRITE 77 08:01:4711 0 EOF`.
fn is_locked(locks: &str, data: &Metadata, read_only: bool) -> bool {
    let place = format!("{:02x}:{:02x}:{}", major(data.dev()), minor(data.dev()), data.ino());
    locks.lines().any(|line| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        // Not those that wait, which have an arrow in front.
        [_, "FLOCK", _, kind, _, file, ..] => *file == place && !(read_only && *kind == "READ"),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examined(config: &str, folder: &Path) -> Vec<String> {
        let file = folder.join("vm.toml");
        std::fs::write(&file, config).unwrap();
        let root = format!("{}/", folder.display());
        let shown = |found: Finding| format!("{}: {}", found.key, found.message.replace(&root, ""));
        examine(&VmConfig::load(&file).unwrap(), Start::Boot).into_iter().map(shown).collect()
    }

    #[test]
    fn every_file_that_is_not_there_is_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let config = "[boot]\nkernel = \"k\"\ninitrd = \".\"\n[[block]]\nid = \"a\"\npath = \"none\"\n\
                      [[block]]\nid = \"b\"\npath = \"/dev/null\"\n";
        assert_eq!(
            examined(config, folder.path()),
            [
                "boot.kernel: k: cannot be read: No such file or directory (os error 2)",
                "boot.initrd: .: cannot be read: not a regular file",
                "block[0].path: cannot be used as a disk: none: cannot be opened: No such file or directory (os error 2)",
                "block[1].path: cannot be used as a disk: /dev/null: not a disk image, expected a file or a block device",
            ]
        );
    }

    #[test]
    fn one_image_under_two_names_is_found_unless_nobody_writes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("k"), arch::kernel_for_tests()).unwrap();
        std::fs::write(folder.path().join("disk"), [0; 512]).unwrap();
        std::fs::hard_link(folder.path().join("disk"), folder.path().join("hard")).unwrap();
        std::os::unix::fs::symlink("disk", folder.path().join("soft")).unwrap();
        let with = |read_only: [bool; 3]| {
            let disk = |(name, read_only): (&str, bool)| {
                format!("[[block]]\nid = \"{name}\"\npath = \"{name}\"\nread_only = {read_only}\n")
            };
            let disks: String = ["disk", "hard", "soft"].into_iter().zip(read_only).map(disk).collect();
            examined(&format!("[boot]\nkernel = \"k\"\n{disks}"), folder.path())
        };
        let clash = |key: &str, other: &str| {
            format!("{key}: expected an image of its own, disk `{other}` has the same and one is written")
        };
        assert_eq!(with([true, true, true]), [""; 0]);
        assert_eq!(
            with([true, false, true]),
            [clash("block[1].path", "disk"), clash("block[2].path", "hard")]
        );
        assert_eq!(with([true, true, false]), [clash("block[2].path", "hard")]);
    }

    #[test]
    fn a_link_of_another_user_is_a_fault_of_the_key_that_leads_over_it() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root makes a link of another user, and only to root it matters");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("k"), arch::kernel_for_tests()).unwrap();
        std::fs::write(folder.path().join("disk"), [0; 512]).unwrap();
        for (to, link) in [("disk", "theirs"), ("print", "printed"), (".", "way")] {
            let link = folder.path().join(link);
            std::os::unix::fs::symlink(to, &link).unwrap();
            std::os::unix::fs::lchown(&link, Some(1000), Some(1000)).unwrap();
        }
        let config = "[boot]\nkernel = \"k\"\n[serial]\noutput = \"printed\"\n\
                      [vsock]\ncid = 3\nsocket = \"way/v\"\n[control]\nsocket = \"way/c\"\n\
                      [[block]]\nid = \"a\"\npath = \"theirs\"\n";
        let why = "on the way is a symbolic link of user 1000, which root does not follow";
        assert_eq!(
            examined(config, folder.path()),
            [
                format!("serial.output: printed: cannot be written: `printed` {why}"),
                format!("vsock.socket: cannot listen on \"way/v\": `way` {why}"),
                format!("control.socket: cannot listen on \"way/c\": `way` {why}"),
                format!("block[0].path: cannot be used as a disk: theirs: cannot be opened: `theirs` {why}"),
            ]
        );
        assert!(!folder.path().join("print").exists());
    }

    #[test]
    fn more_devices_than_interrupts_are_refused_at_the_longer_list() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = VmConfig::parse("vm.toml", "boot.kernel = \"vm.toml\"").unwrap();
        let card = hearth_config::vm::Net {
            id: "n".to_owned(),
            tap: "t".to_owned(),
            mac: None,
            receive: hearth_config::vm::Limit::default(),
            send: hearth_config::vm::Limit::default(),
        };
        let too_many = arch::MAX_MMIO_SLOTS as usize + 1;
        config.boot.kernel = folder.path().join("k");
        std::fs::write(&config.boot.kernel, arch::kernel_for_tests()).unwrap();
        config.net = vec![card; too_many - 1];
        // Whether the host has such an interface is another question.
        let found = |config: &VmConfig| {
            let mut findings = examine(config, Start::Boot);
            findings.retain(|finding| !finding.key.ends_with(".tap"));
            findings
        };
        assert_eq!(found(&config), []);
        config.rng = Some(hearth_config::vm::Rng::default());
        let message = format!("expected at most {} virtio devices in all, found {too_many}", too_many - 1);
        assert_eq!(found(&config), [Finding { key: "net".to_owned(), message, in_use: false }]);
    }

    #[test]
    fn what_cannot_be_made_is_told_and_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("k"), "#!/bin/sh").unwrap();
        std::fs::write(folder.path().join("precious"), "").unwrap();
        std::fs::write(folder.path().join("empty"), "").unwrap();
        let _living = std::os::unix::net::UnixListener::bind(folder.path().join("living")).unwrap();
        let head = "boot.kernel = \"k\"\n";
        let config = format!(
            "{head}serial.output = \"no/where\"\nconsole.output = \".\"\n[vsock]\ncid = 3\nsocket = \"living\"\n\
             [control]\nsocket = \"precious\"\n[[net]]\nid = \"n\"\ntap = \"lo\"\n\
             [[block]]\nid = \"a\"\npath = \"empty\"\nread_only = true\n"
        );
        let found = examined(&config, folder.path());
        let expected = [
            "boot.kernel: k: not ",
            "serial.output: no/where: cannot be written: No such file or directory",
            "console.output: .: cannot be written: Is a directory",
            "vsock.socket: another program listens on \"living\"",
            "control.socket: another program listens on \"precious\"",
            "net[0].tap: cannot be used as a network card: ",
            "block[0].path: cannot be used as a disk: empty: has 0 bytes, expected at least 512",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found} should start with {expected}");
        }
        let free = format!("{head}serial.output = \"out\"\n[vsock]\ncid = 3\nsocket = \"sock\"\n");
        std::fs::write(folder.path().join("k"), arch::kernel_for_tests()).unwrap();
        assert_eq!(examined(&free, folder.path()), [""; 0]);
        assert!(!folder.path().join("out").exists() && !folder.path().join("sock").exists());
    }

    #[test]
    fn a_disk_that_another_machine_has_is_told_and_left_to_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("k"), arch::kernel_for_tests()).unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, [0; 512]).unwrap();
        let disk = |read_only: bool| {
            let config = format!(
                "[boot]\nkernel = \"k\"\n[[block]]\nid = \"a\"\npath = \"disk\"\nread_only = {read_only}\n"
            );
            examined(&config, folder.path()).len()
        };
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        assert_eq!((disk(true), disk(false)), (0, 0));
        file.lock_shared().unwrap();
        assert_eq!((disk(true), disk(false)), (0, 1), "one that reads");
        file.lock().unwrap();
        assert_eq!((disk(true), disk(false)), (1, 1), "one that writes");
    }
}

//! What can be known of a machine before KVM is asked for anything.
//!
//! Duty: the faults that only this host, or this architecture, knows: files that are not there, one image under two
//! names, more devices than interrupts; all at once.
//! Not here: the limits of values, `hearth_config` has them; whether a kernel is one.
//! Invariant: nothing is changed or made, and nothing is kept open.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use hearth_config::vm::VmConfig;
use nix::libc;

use crate::arch;
use crate::logger::chain;
use crate::virtio::block::OpenError;

/// What is wrong with the value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// As in `boot.kernel` or `block[1].path`.
    pub key: String,
    /// What is wrong, in one line.
    pub message: String,
}

/// All that is wrong.
#[must_use]
pub fn examine(config: &VmConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |key: &str, message: String| findings.push(Finding { key: key.to_owned(), message });
    let asked = config.virtio_devices();
    if asked > arch::MAX_MMIO_SLOTS as usize {
        let key = if config.net.len() > config.block.len() { "net" } else { "block" };
        say(key, format!("expected at most {} virtio devices in all, found {asked}", arch::MAX_MMIO_SLOTS));
    }
    for (key, path) in
        [("boot.kernel", Some(&config.boot.kernel)), ("boot.initrd", config.boot.initrd.as_ref())]
    {
        if let Some(path) = path
            && let Err(error) = readable(path)
        {
            say(key, format!("{}: cannot be read: {error}", path.display()));
        }
    }
    let mut images: Vec<(usize, u64, u64)> = Vec::new();
    for (index, disk) in config.block.iter().enumerate() {
        let key = format!("block[{index}].path");
        let (device, inode) = match image(&disk.path, disk.read_only) {
            Ok(identity) => identity,
            Err(error) => {
                say(&key, format!("cannot be used as a disk: {}", chain(&error)));
                continue;
            }
        };
        let same = images.iter().filter(|(_, d, i)| (*d, *i) == (device, inode)).map(|(other, ..)| other);
        let mut others = same.filter_map(|other| config.block.get(*other));
        if let Some(other) = others.rfind(|other| !(other.read_only && disk.read_only)) {
            let message =
                format!("expected an image of its own, disk `{}` has the same and one is written", other.id);
            say(&key, message);
        }
        images.push((index, device, inode));
    }
    findings
}

fn readable(path: &Path) -> io::Result<()> {
    // A pipe would keep the open waiting for its other end.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(()) } else { Err(io::Error::other("not a regular file")) }
}

/// What tells an image from others, if it can be opened as it has to be.
fn image(path: &Path, read_only: bool) -> Result<(u64, u64), OpenError> {
    let failed = |source| OpenError::Open { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    options.read(true).write(!read_only).custom_flags(libc::O_NONBLOCK);
    let data = options.open(path).and_then(|file| file.metadata()).map_err(failed)?;
    let kind = data.file_type();
    if kind.is_block_device() {
        // The same under any node that leads to it; no file system has this number.
        Ok((u64::MAX, data.rdev()))
    } else if kind.is_file() {
        Ok((data.dev(), data.ino()))
    } else {
        Err(OpenError::NotADisk { path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examined(config: &str, folder: &Path) -> Vec<String> {
        let file = folder.join("vm.toml");
        std::fs::write(&file, config).unwrap();
        let root = format!("{}/", folder.display());
        let shown = |found: Finding| format!("{}: {}", found.key, found.message.replace(&root, ""));
        examine(&VmConfig::load(&file).unwrap()).into_iter().map(shown).collect()
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
        for name in ["k", "disk"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
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
        std::fs::write(&config.boot.kernel, "x").unwrap();
        config.net = vec![card; too_many - 1];
        assert_eq!(examine(&config), []);
        config.rng = Some(hearth_config::vm::Rng::default());
        let message = format!("expected at most {} virtio devices in all, found {too_many}", too_many - 1);
        assert_eq!(examine(&config), [Finding { key: "net".to_owned(), message }]);
    }
}

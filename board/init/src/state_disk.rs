//! The disk that keeps what a box must not forget: `/var`.
//!
//! Duty: find it by its name and mount it. Not here: making one, what lies in it.
//! Invariant: a box without one, or with one that cannot be used, comes up as well; its memory then holds what `/var`
//! holds, until the next boot.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};

/// What the disk calls itself, or its table calls the partition.
const NAME: &str = "hearth-state";
const PLACE: &str = "/var";
const DISKS: &str = "/sys/class/block";
/// On the kernel's command line of a box whose disk comes some time after its driver, such as a memory card.
const WAIT: &str = "hearth.state=wait";
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Mounts it if there is one; what there is to say about it.
pub(crate) fn mount_it() -> Option<String> {
    let disk = look()?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
    // A write that fails must not go on as if nothing were; the supervisor is told of it and says so.
    let mounted = mount(Some(&disk), PLACE, Some("ext4"), flags, Some("errors=remount-ro"));
    let disk = disk.display();
    Some(match mounted {
        Ok(()) => format!("{PLACE} is on {disk}"),
        Err(error) => {
            format!("{PLACE} is lost at the next boot: cannot mount ext4 from {disk}: {}", error.desc())
        }
    })
}

fn look() -> Option<PathBuf> {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let patience = if line.split_whitespace().any(|word| word == WAIT) { PATIENCE } else { Duration::ZERO };
    let end = Instant::now() + patience;
    loop {
        let found = named(Path::new(DISKS));
        if found.is_some() || Instant::now() >= end {
            return found;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

fn named(disks: &Path) -> Option<PathBuf> {
    let disks = disks.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let mut disks = disks.filter(|disk| {
        let serial = fs::read_to_string(disk.join("serial")).is_ok_and(|serial| serial.trim() == NAME);
        let partition = || {
            let facts = fs::read_to_string(disk.join("uevent")).unwrap_or_default();
            facts.lines().any(|line| line.strip_prefix("PARTNAME=") == Some(NAME))
        };
        serial || partition()
    });
    Some(Path::new("/dev").join(disks.next()?.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disks(files: &[(&str, &str)]) -> Option<PathBuf> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        named(folder.path())
    }

    #[test]
    fn a_disk_is_known_by_its_serial_number_and_a_partition_by_its_name() {
        let other = ("vda/serial", "other\n");
        assert_eq!(disks(&[other]), None);
        assert_eq!(disks(&[other, ("vdb/serial", "hearth-state\n")]), Some("/dev/vdb".into()));
        let partition = ("mmcblk0p3/uevent", "DEVTYPE=partition\nPARTN=3\nPARTNAME=hearth-state\n");
        assert_eq!(disks(&[other, partition]), Some("/dev/mmcblk0p3".into()));
        assert_eq!(disks(&[("sda1/uevent", "PARTNAME=hearth-state-2\n")]), None);
    }
}

//! From the initramfs into the workload's own root.
//!
//! Duty: mount the root device read-only, lay a writable layer over it, make it `/`.
//! Not its duty: what is mounted inside (`mounts`), except that `/dev` and `/proc` move along.
//! Invariant: nothing is ever written to the device. Without overlayfs in the kernel the root stays read-only,
//! which is told.

use crate::{
    clock::Uptime,
    mounts::{errno, make_folder},
};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    unistd::{chdir, chroot},
};
use std::{io, path::Path, time::Duration};

/// In this order: the two made for images first, as a wrong guess is cheap but prints a kernel warning.
const KINDS: [&str; 3] = ["squashfs", "erofs", "ext4"];

/// For the device to show up; drivers look for their devices while init starts already.
const DEVICE_PATIENCE: Duration = Duration::from_secs(5);
const DEVICE_POLL: Duration = Duration::from_millis(2);

const LOWER: &str = "/mnt/lower";
const LAYER: &str = "/mnt/layer";
const UPPER: &str = "/mnt/layer/upper";
const WORK: &str = "/mnt/layer/work";
const MERGED: &str = "/mnt/root";

/// Why the root could not be changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootFault {
    #[error("hearth.root={0}: expected a device such as /dev/vda")]
    NotADevice(String),
    #[error("hearth.root={0}: no such device after {patience} s", patience = DEVICE_PATIENCE.as_secs())]
    NoDevice(String),
    #[error("hearth.root={0}: expected a squashfs, erofs or ext4 image, found none of them")]
    NoImage(String),
    #[error("hearth.root={0}: cannot read it")]
    Unreadable(String, #[source] Errno),
    #[error("cannot {step} for the new root")]
    Step { step: &'static str, source: Errno },
}

/// Whether the workload may write to its root.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Writable,
    /// And why.
    ReadOnly(Errno),
}

/// Makes the image on `device` the root of this process and all that come after it.
pub(crate) fn change_to(device: &str) -> Result<Layer, RootFault> {
    wait_for(device)?;
    folder(LOWER)?;
    mount_image(device)?;
    let (layer, root) = match lay_over() {
        Ok(()) => (Layer::Writable, MERGED),
        Err(source) => (Layer::ReadOnly(source), LOWER),
    };
    for place in ["/dev", "/proc"] {
        let target = format!("{root}{place}");
        let target = Path::new(&target);
        make_folder(target).map_err(|error| step("make a mount point", errno(&error)))?;
        move_mount(Path::new(place), target)?;
    }
    // The first root cannot be pivoted away from: the new one is moved over it.
    chdir(root).map_err(|source| step("enter it", source))?;
    move_mount(Path::new("."), Path::new("/"))?;
    chroot(".").map_err(|source| step("change", source))?;
    chdir("/").map_err(|source| step("enter it", source))?;
    Ok(layer)
}

fn wait_for(device: &str) -> Result<(), RootFault> {
    if !device.starts_with("/dev/") {
        return Err(RootFault::NotADevice(device.to_owned()));
    }
    let deadline = Uptime::now().after(DEVICE_PATIENCE);
    while let Err(error) = std::fs::metadata(device) {
        if error.kind() != io::ErrorKind::NotFound || Uptime::now() >= deadline {
            return Err(RootFault::NoDevice(device.to_owned()));
        }
        std::thread::sleep(DEVICE_POLL);
    }
    Ok(())
}

fn mount_image(device: &str) -> Result<(), RootFault> {
    for kind in KINDS {
        match mount(Some(device), LOWER, Some(kind), MsFlags::MS_RDONLY, None::<&str>) {
            Ok(()) => return Ok(()),
            // Another format, or a kernel without this one.
            Err(Errno::EINVAL | Errno::ENODEV | Errno::EUCLEAN | Errno::ENOTBLK) => {}
            Err(source) => return Err(RootFault::Unreadable(device.to_owned(), source)),
        }
    }
    Err(RootFault::NoImage(device.to_owned()))
}

fn lay_over() -> Result<(), Errno> {
    for path in [LAYER, MERGED] {
        make_folder(Path::new(path)).map_err(|error| errno(&error))?;
    }
    mount(Some("tmpfs"), LAYER, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))?;
    for path in [UPPER, WORK] {
        make_folder(Path::new(path)).map_err(|error| errno(&error))?;
    }
    let data = format!("lowerdir={LOWER},upperdir={UPPER},workdir={WORK}");
    mount(Some("overlay"), MERGED, Some("overlay"), MsFlags::empty(), Some(data.as_str()))
}

fn folder(path: &str) -> Result<(), RootFault> {
    make_folder(Path::new(path)).map_err(|error| step("make a mount point", errno(&error)))
}

fn move_mount(from: &Path, to: &Path) -> Result<(), RootFault> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .map_err(|source| step("move a mount", source))
}

fn step(step: &'static str, source: Errno) -> RootFault {
    RootFault::Step { step, source }
}

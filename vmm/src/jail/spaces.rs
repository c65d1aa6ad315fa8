//! Namespaces, and a root folder with nothing in it.
//!
//! Duty: leave the host's mounts, interfaces, queues, names and control groups, and what was the root. Not here: users
//! and processes (`privileges.rs`, `clone.rs`).
//!
//! The old root goes by `pivot_root`; where it is the kernel's first one, which cannot be left so, the empty folder is
//! moved over it. No descriptor of a folder is open by then, and none can be opened after.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{chdir, chroot, pivot_root};

use super::{Lacks, Layer};

/// A folder that every system has; in the new mount namespace the empty file system is mounted on it first.
const PLACES: [&str; 3] = ["/proc", "/tmp", "/dev"];
const EMPTY: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
/// One inode, which is the folder itself, and no byte.
const NOTHING: &str = "size=4096,nr_inodes=1,mode=0555";

/// Leaves all of it, as far as the host lets us: its interfaces for those of `network`, where that is another
/// namespace, and of which nothing stays open.
pub(super) fn leave(network: Option<File>, lacks: &mut Lacks) {
    let mut spaces = vec![
        (Layer::MountNamespace, CloneFlags::CLONE_NEWNS),
        (Layer::IpcNamespace, CloneFlags::CLONE_NEWIPC),
        (Layer::UtsNamespace, CloneFlags::CLONE_NEWUTS),
        (Layer::CgroupNamespace, CloneFlags::CLONE_NEWCGROUP),
    ];
    let gone_into = network.is_some_and(|network| {
        let joined = join(&network);
        joined
            .inspect_err(|error| log::info!("a network namespace of its own, not the one given: {error}"))
            .is_ok()
    });
    if !gone_into {
        spaces.push((Layer::NetworkNamespace, CloneFlags::CLONE_NEWNET));
    }
    let all = spaces.iter().fold(CloneFlags::empty(), |all, (_, one)| all | *one);
    if unshare(all).is_err() {
        // One by one, to have those that there are.
        for (layer, one) in spaces {
            lacks.unless(layer, unshare(one));
        }
    }
    if lacks.has(Layer::MountNamespace) {
        lacks.note(Layer::EmptyRoot, "needs a mount namespace");
    } else {
        lacks.unless(Layer::EmptyRoot, empty_root());
    }
}

/// Goes into a network namespace, if that leads out of the one that this process is in.
fn join(network: &File) -> io::Result<()> {
    let there = network.metadata()?;
    let here = std::fs::metadata("/proc/self/ns/net")?;
    if (there.dev(), there.ino()) == (here.dev(), here.ino()) {
        return Err(io::Error::other("it is the host's"));
    }
    Ok(setns(network, CloneFlags::CLONE_NEWNET)?)
}

fn empty_root() -> nix::Result<()> {
    const NONE: Option<&str> = None;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    let place = PLACES.into_iter().find(|place| std::path::Path::new(place).is_dir()).unwrap_or("/");
    mount(Some("none"), place, Some("tmpfs"), EMPTY, Some(NOTHING))?;
    chdir(place)?;
    match pivot_root(".", ".") {
        Ok(()) => umount2(".", MntFlags::MNT_DETACH)?,
        // The root is the kernel's first.
        Err(_) => {
            mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE)?;
            chroot(".")?;
        }
    }
    chdir("/")?;
    mount(NONE, "/", NONE, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | EMPTY, NONE)
}

//! What programs expect to find mounted.
//!
//! Duty: one table, mounted top to bottom. Not here: disks.
//! Invariant: a mount that fails is told and the rest is still tried.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

struct Mount {
    target: &'static str,
    kind: &'static str,
    flags: MsFlags,
    options: &'static str,
}

const SAFE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Parents first.
const MOUNTS: [Mount; 7] = [
    Mount { target: "/proc", kind: "proc", flags: SAFE, options: "" },
    Mount { target: "/sys", kind: "sysfs", flags: SAFE, options: "" },
    Mount { target: "/dev", kind: "devtmpfs", flags: MsFlags::MS_NOSUID, options: "mode=0755" },
    Mount {
        target: "/dev/pts",
        kind: "devpts",
        flags: MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        options: "mode=0620,ptmxmode=0666",
    },
    Mount { target: "/run", kind: "tmpfs", flags: SAFE, options: "mode=0755" },
    Mount {
        target: "/tmp",
        kind: "tmpfs",
        flags: MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV),
        options: "mode=1777",
    },
    // Every new VM moves a thread of KVM into its maker's group, and would wait for a quiet state of the whole kernel
    // first: KVM_CREATE_VM then takes ten times as long (at 250 Hz 10 ms more). So the kernel is told to expect moves.
    Mount { target: "/sys/fs/cgroup", kind: "cgroup2", flags: SAFE, options: "favordynmods" },
];

/// Mounts all and tells what failed.
pub(crate) fn mount_all() -> Vec<String> {
    MOUNTS.iter().filter_map(|one| attempt(one).err()).collect()
}

fn attempt(one: &Mount) -> Result<(), String> {
    let Mount { target, kind, flags, options } = *one;
    // Where sysfs makes the folder itself this does nothing.
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(target)
        .map_err(|error| format!("cannot make {target}: {error}"))?;
    let with = |options: &str| mount(Some(kind), target, Some(kind), flags, Some(options));
    let mounted = match with(options) {
        // An option that came with a later kernel (favordynmods: 6.0) costs the option, not the mount.
        Err(Errno::EINVAL) if !options.is_empty() => with(""),
        done => done,
    };
    match mounted {
        // The kernel may have mounted /dev by itself.
        Ok(()) | Err(Errno::EBUSY) => Ok(()),
        Err(error) => Err(format!("cannot mount {kind} on {target}: {}", error.desc())),
    }
}

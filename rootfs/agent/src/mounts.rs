//! The file systems that every program expects.
//!
//! Duty: which, where, and with what options.
//! Invariant: only `/proc` and `/dev` are needed to go on; what else a kernel lacks is named and left out.

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
};
use std::{fs, io, path::Path};

/// One that could not be mounted.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {kind} on {at}")]
pub(crate) struct MountFault {
    kind: &'static str,
    at: &'static str,
    source: Errno,
}

impl MountFault {
    pub(crate) fn errno(&self) -> Errno {
        self.source
    }
}

#[derive(Debug)]
pub(crate) struct Mount {
    kind: &'static str,
    at: &'static str,
    flags: MsFlags,
    data: &'static str,
}

const NO_SUID: MsFlags = MsFlags::MS_NOSUID;
const NO_DEV: MsFlags = NO_SUID.union(MsFlags::MS_NODEV);
const NO_EXEC: MsFlags = NO_DEV.union(MsFlags::MS_NOEXEC);

/// Needed before anything else: the kernel command line and the root device.
pub(crate) const FIRST: [Mount; 2] = [
    Mount { kind: "proc", at: "/proc", flags: NO_EXEC, data: "" },
    Mount { kind: "devtmpfs", at: "/dev", flags: NO_SUID, data: "mode=0755" },
];

/// For the workload's sake, in the root where it will run.
pub(crate) const REST: [Mount; 6] = [
    Mount { kind: "sysfs", at: "/sys", flags: NO_EXEC, data: "" },
    Mount {
        kind: "devpts",
        at: "/dev/pts",
        flags: NO_SUID.union(MsFlags::MS_NOEXEC),
        data: "mode=0620,ptmxmode=0666",
    },
    Mount { kind: "tmpfs", at: "/dev/shm", flags: NO_DEV, data: "mode=1777" },
    Mount { kind: "tmpfs", at: "/run", flags: NO_DEV, data: "mode=0755" },
    Mount { kind: "tmpfs", at: "/tmp", flags: NO_DEV, data: "mode=1777" },
    Mount { kind: "cgroup2", at: "/sys/fs/cgroup", flags: NO_EXEC, data: "" },
];

impl Mount {
    pub(crate) fn make(&self) -> Result<(), MountFault> {
        let Self { kind, at, flags, data } = *self;
        let fault = |source| MountFault { kind, at, source };
        make_folder(Path::new(at)).map_err(|error| fault(errno(&error)))?;
        match mount(Some(kind), at, Some(kind), flags, Some(data)) {
            // The kernel may have mounted devtmpfs itself.
            Ok(()) | Err(Errno::EBUSY) => Ok(()),
            Err(source) => Err(fault(source)),
        }
    }
}

/// Makes a mount point, unless an image that cannot be written to has it already.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() { Ok(()) } else { fs::create_dir_all(path) }
}

pub(crate) fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

//! Who the machine's process is in the host's eyes: nobody.
//!
//! Duty: for root, a user that nobody else is, in a user namespace of its own; no capability in any set, none to come
//! by; Landlock without a single rule. Not here: namespaces that root makes before that (`spaces.rs`).
//!
//! Written by hand and not with the `caps` and `landlock` crates: two structures and four system calls, all of which
//! take everything away; what the crates are good at, naming what stays, has no use here.
#![allow(unsafe_code, reason = "capset, prctl and landlock have no safe wrapper in nix")]

use std::ffi::{c_int, c_long, c_ulong};
use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

use super::{Lacks, Layer};

/// Where numbers of users begin that nobody gives to anybody, less than half of them as many as there are processes:
/// behind those of containers (systemd's `UIDS-GIDS`), before those that tools take for negative.
const FIRST_NOBODY: u32 = 1_879_048_192;

/// Who starts machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Root,
    /// A user of the group that may use KVM.
    Ordinary,
}

impl Who {
    /// This process.
    pub(super) fn ami() -> Self {
        // In a user namespace of its own an ordinary user has no number.
        if geteuid().is_root() { Self::Root } else { Self::Ordinary }
    }
}

/// Gives up all that this process is.
pub(super) fn become_nobody(who: Who, lacks: &mut Lacks) -> io::Result<()> {
    if who == Who::Root {
        // As many as there are processes: two machines share none, and the bound of processes is each one's own.
        let number = FIRST_NOBODY.saturating_add(super::outside::porter());
        let (user, group) = (Uid::from_raw(number), Gid::from_raw(number));
        // While that is permitted; there may be no user namespace.
        lacks.unless(Layer::Capabilities, empty_bounding_set());
        setgroups(&[])?;
        setresgid(group, group, group)?;
        setresuid(user, user, user)?;
        if lacks.unless(Layer::UserNamespace, unshare(CloneFlags::CLONE_NEWUSER)).is_some() {
            // It begins with all of them.
            lacks.unless(Layer::Capabilities, empty_bounding_set());
        }
    } else {
        lacks.unless(Layer::Capabilities, empty_bounding_set());
    }
    lacks.unless(Layer::Capabilities, drop_capabilities());
    Ok(())
}

/// No capability can be had again by running anything.
fn empty_bounding_set() -> nix::Result<()> {
    for capability in 0.. {
        let capability: c_ulong = capability;
        // SAFETY: takes numbers and no memory.
        match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
            Ok(_) => {}
            // There is none with that number.
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[repr(C)]
struct Header {
    version: u32,
    pid: c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// _LINUX_CAPABILITY_VERSION_3: two words each.
const VERSION: u32 = 0x2008_0522;
/// CAP_SYS_ADMIN, in the first word.
const ADMINISTRATION: u32 = 1 << 21;

fn drop_capabilities() -> io::Result<()> {
    have_capabilities(&[Sets::default(), Sets::default()])
}

fn have_capabilities(sets: &[Sets; 2]) -> io::Result<()> {
    let header = Header { version: VERSION, pid: 0 };
    // SAFETY: both pointers are to structures as version 3 has them, which outlive the call; the kernel reads them.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

fn capabilities() -> io::Result<[Sets; 2]> {
    let mut header = Header { version: VERSION, pid: 0 };
    let mut sets = [Sets::default(), Sets::default()];
    // SAFETY: both pointers are to structures as version 3 has them, which outlive the call; the kernel writes into them.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    Errno::result(result).map_err(io::Error::from)?;
    Ok(sets)
}

/// Does `what` as somebody who does not administrate the system. The kernel asks whoever opened a page map, and not
/// whoever reads it, whether to tell where in the host's memory pages lie: that is worth something to whoever wants to
/// reach the memory beside them.
pub(super) fn without_administration<T>(what: impl FnOnce() -> T) -> io::Result<T> {
    let before = capabilities()?;
    let mut meanwhile = before;
    let [first, _] = &mut meanwhile;
    first.effective &= !ADMINISTRATION;
    have_capabilities(&meanwhile)?;
    let done = what();
    have_capabilities(&before)?;
    Ok(done)
}

/// Whether the kernel has filters of system calls, and ends a whole process by them.
pub(super) fn filters_are_there() -> io::Result<()> {
    let (none, action): (c_long, u32) = (0, libc::SECCOMP_RET_KILL_PROCESS);
    let what = c_long::from(libc::SECCOMP_GET_ACTION_AVAIL);
    // SAFETY: the pointer is to a number that the kernel reads.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, what, none, &raw const action) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

/// What a ruleset decides on (`linux/landlock.h`); kernels take as much of it as they know.
#[repr(C)]
struct Ruleset {
    files: u64,
    ports: u64,
    scopes: u64,
}

/// Which rights there are in each version: files; ports from 4 on; scopes from 6 on.
const FILES: [u64; 5] = [(1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1];
const PORTS: u64 = 0b11;
const SCOPES: u64 = 0b11;

impl Ruleset {
    /// Everything that a kernel with this version can forbid, and how many bytes of it that kernel knows.
    fn of(abi: i64) -> (Self, usize) {
        let version = usize::try_from(abi).unwrap_or(1).max(1);
        let files = FILES.get(version - 1).or(FILES.last()).copied().unwrap_or_default();
        let ports = if version >= 4 { PORTS } else { 0 };
        let scopes = if version >= 6 { SCOPES } else { 0 };
        let words = if version >= 6 {
            3
        } else if version >= 4 {
            2
        } else {
            1
        };
        (Self { files, ports, scopes }, words * size_of::<u64>())
    }
}

/// Opens, connects and signals to others fail from now on, whatever else permits them.
pub(super) fn forbid_files() -> io::Result<()> {
    let abi = crate::doctor::landlock::abi().ok_or(io::ErrorKind::Unsupported)?;
    let (ruleset, bytes) = Ruleset::of(abi);
    let none: c_long = 0;
    // SAFETY: the pointer is to a structure of at least so many bytes, which the kernel reads.
    let made = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, bytes, none) };
    let ruleset = Errno::result(made)?;
    // SAFETY: takes two numbers.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, none) };
    // SAFETY: the descriptor was made above, and nobody else has it.
    unsafe { libc::close(c_int::try_from(ruleset).map_err(io::Error::other)?) };
    Errno::result(done).map(drop).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ruleset_forbids_all_that_its_version_knows_and_no_more() {
        assert_eq!(Ruleset::of(1).1, 8);
        assert_eq!(Ruleset::of(1).0.files, 0x1fff);
        let (four, bytes) = Ruleset::of(4);
        assert_eq!((four.files, four.ports, four.scopes, bytes), (0x7fff, 3, 0, 16));
        let (later, bytes) = Ruleset::of(9);
        assert_eq!((later.files, later.ports, later.scopes, bytes), (0xffff, 3, 3, 24));
    }
}

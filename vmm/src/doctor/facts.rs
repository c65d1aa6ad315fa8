//! Facts that need no guest: files to look at and calls to try.

use std::fs::{self, OpenOptions};
use std::path::Path;

use super::landlock;

/// Whether the host has something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does.
    Present,
    /// It does not; the note says what is lost.
    Absent,
    /// It cannot be told from here.
    Unknown,
}

impl State {
    /// Its name in the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Absent => "absent",
            Self::Unknown => "unknown",
        }
    }

    const fn of(present: bool) -> Self {
        if present { Self::Present } else { Self::Absent }
    }
}

/// One thing that the host has or lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What.
    pub name: &'static str,
    /// Whether.
    pub state: State,
    /// Which, or what its absence costs.
    pub note: String,
}

pub(super) fn collect() -> Vec<Fact> {
    let mut facts = vec![processor(), page_size(), cgroups(), landlock(), seccomp(), user_namespaces()];
    facts.extend([tun(), io_uring(), watchdog()]);
    #[cfg(target_arch = "aarch64")]
    facts.push(gic());
    facts
}

fn fact(name: &'static str, state: State, note: impl Into<String>) -> Fact {
    Fact { name, state, note: note.into() }
}

fn processor() -> Fact {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has = |flag: &str| {
        cpuinfo.lines().any(|line| {
            line.split_once(':').is_some_and(|(key, value)| {
                key.trim_end() == "flags" && value.split_ascii_whitespace().any(|word| word == flag)
            })
        })
    };
    if cfg!(target_arch = "aarch64") {
        return fact("virtualization", State::Unknown, "ARM processors do not tell user space; see kvm");
    }
    match (has("vmx"), has("svm")) {
        (true, _) => fact("virtualization", State::Present, "Intel VT-x"),
        (_, true) => fact("virtualization", State::Present, "AMD-V"),
        _ => fact("virtualization", State::Absent, "the processor does not show VT-x or AMD-V"),
    }
}

fn page_size() -> Fact {
    match nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE) {
        Ok(Some(bytes)) => fact("page size", State::Present, format!("{} KiB", bytes / 1024)),
        _ => fact("page size", State::Unknown, ""),
    }
}

fn cgroups() -> Fact {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        return fact("cgroup v2", State::Present, cgroup_note(&mounts));
    }
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let v1 = Path::new("/sys/fs/cgroup/memory").exists();
    let note = match (known.contains("\tcgroup2\n"), v1) {
        (true, true) => "v1 is mounted; the kernel knows v2",
        (true, false) => "the kernel knows it; not mounted on /sys/fs/cgroup",
        (false, true) => "v1 only",
        (false, false) => "no limits of memory, CPU or processes for a microVM",
    };
    fact("cgroup v2", State::Absent, note)
}

/// KVM moves a thread of its own between cgroups when it makes a VM, and waits for every processor to have passed a quiet
/// moment, unless the mount asked for quick moves.
fn cgroup_note(mounts: &str) -> &'static str {
    let options = mounts.lines().find_map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        matches!(words.as_slice(), [_, "/sys/fs/cgroup", "cgroup2", ..])
            .then(|| words.get(3).copied())
            .flatten()
    });
    if options.is_some_and(|options| options.split(',').any(|option| option == "favordynmods")) {
        "mounted on /sys/fs/cgroup, with favordynmods"
    } else {
        "mounted on /sys/fs/cgroup; mounted with favordynmods, a microVM would start some milliseconds sooner"
    }
}

fn landlock() -> Fact {
    match landlock::abi() {
        Some(abi) => fact("landlock", State::Present, format!("ABI {abi}")),
        None => fact("landlock", State::Absent, "the jail does without this layer"),
    }
}

fn seccomp() -> Fact {
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    let kills = actions.split_ascii_whitespace().any(|action| action == "kill_process");
    fact("seccomp", State::of(kills), if kills { "" } else { "system calls cannot be filtered" })
}

fn user_namespaces() -> Fact {
    let most = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    match most.trim().parse::<u64>() {
        Ok(0) => fact("user namespaces", State::Absent, "switched off by user.max_user_namespaces"),
        Ok(_) => fact("user namespaces", State::Present, ""),
        Err(_) => fact("user namespaces", State::Absent, "not built into this kernel"),
    }
}

fn tun() -> Fact {
    match OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => fact("tun", State::Present, "/dev/net/tun opens"),
        Err(error) => fact("tun", State::Absent, format!("/dev/net/tun: {error}; no guest network card")),
    }
}

fn io_uring() -> Fact {
    match fs::read_to_string("/proc/sys/kernel/io_uring_disabled").as_deref().map(str::trim) {
        Ok("0") => fact("io_uring", State::Present, ""),
        Ok(_) => fact("io_uring", State::Absent, "switched off by kernel.io_uring_disabled"),
        Err(_) => fact("io_uring", State::Unknown, "this kernel has no switch to read"),
    }
}

/// Looked at, never opened: opening a watchdog starts it.
fn watchdog() -> Fact {
    let identity = fs::read_to_string("/sys/class/watchdog/watchdog0/identity").unwrap_or_default();
    if Path::new("/dev/watchdog0").exists() || Path::new("/dev/watchdog").exists() {
        return fact("watchdog", State::Present, identity.trim().to_owned());
    }
    fact("watchdog", State::Absent, "nothing resets this box when its kernel hangs")
}

#[cfg(target_arch = "aarch64")]
fn gic() -> Fact {
    use kvm_bindings::{
        KVM_CREATE_DEVICE_TEST, kvm_create_device, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2,
        kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
    };
    let Ok(vm) = crate::kvm::open().and_then(|kvm| kvm.create_vm().map_err(crate::kvm::KvmError::Open))
    else {
        return fact("gic", State::Unknown, "KVM does not open");
    };
    let offers = |kind| {
        let mut request = kvm_create_device { type_: kind, fd: 0, flags: KVM_CREATE_DEVICE_TEST };
        vm.create_device(&mut request).is_ok()
    };
    if offers(kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3) {
        fact("gic", State::Present, "version 3")
    } else if offers(kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2) {
        fact("gic", State::Present, "version 2: at most 8 vCPUs")
    } else {
        fact("gic", State::Absent, "KVM has no interrupt controller for guests")
    }
}

//! The lists.
//!
//! Each line is there because something makes that call while a guest runs; what it is stands behind it. A call that
//! one device needs is on the list of machines that have it.
//!
//! Lengths are promises (SPECIFICATION.md): twelve calls for a vCPU and thirty for the event loop of a machine as the
//! daemon makes it. A person's keyboard, files that print, rate limits and restarts in place each add one to three.

use std::ffi::c_long;

use hearth_config::vm::{Input, Limit, OnReboot, Output, VmConfig};
use nix::libc;
use vmm_sys_util::signal::SIGRTMIN;

use super::Role;
use super::rules::{Call, Rule};
use crate::jail::Purpose;
use crate::logger;
use crate::stdio::Way;

/// What a machine has that costs calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a device or a setting that is there or not")]
pub struct Needs {
    /// Disks.
    pub block: bool,
    /// Network cards.
    pub net: bool,
    /// The socket device.
    pub vsock: bool,
    /// A balloon.
    pub balloon: bool,
    /// A watchdog.
    pub watchdog: bool,
    /// The control socket.
    pub control: bool,
    /// Snapshots, or a template.
    pub snapshot: bool,
    /// It goes on from a snapshot.
    pub restored: bool,
    /// Rate limits.
    pub limits: bool,
    /// Who looks again after a time: limits, watchdogs, a console for its reader, the entropy device for the host's seed,
    /// a network card for its next turn to set the interface.
    pub timers: bool,
    /// Files that the guest prints to.
    pub files: bool,
    /// Somebody types.
    pub keyboard: bool,
    /// Reboots in place.
    pub restart: bool,
    /// How standard error is written to without waiting.
    pub messages: Option<Way>,
    /// The number of this process, as it sees itself.
    pub process: u32,
}

impl Needs {
    /// Of a machine with this purpose.
    #[must_use]
    pub fn of(config: &VmConfig, purpose: Purpose) -> Self {
        let limited = |limit: &Limit| limit.bytes.is_some() || limit.operations.is_some();
        let typed =
            [config.serial.input, config.console.as_ref().map_or(Input::Null, |console| console.input)];
        let printed = [config.serial.output.as_ref(), config.console.as_ref().map(|console| &console.output)];
        let limits = limited(&config.serial.limit)
            || config.console.as_ref().is_some_and(|console| limited(&console.limit))
            || config.rng.as_ref().is_some_and(|rng| limited(&rng.limit))
            || config.block.iter().any(|disk| limited(&disk.limit))
            || config.net.iter().any(|card| limited(&card.receive) || limited(&card.send));
        Self {
            block: !config.block.is_empty(),
            net: !config.net.is_empty(),
            vsock: config.vsock.is_some(),
            balloon: config.balloon.is_some(),
            watchdog: config.watchdog.is_some(),
            control: config.control.is_some(),
            snapshot: config.snapshot.is_some() || purpose == Purpose::Template,
            restored: purpose == Purpose::Copy,
            limits,
            timers: limits
                || config.watchdog.is_some()
                || config.console.is_some()
                || config.rng.is_some()
                || !config.net.is_empty(),
            files: printed.into_iter().flatten().any(|output| matches!(output, Output::File(_))),
            keyboard: typed.contains(&Input::Stdin),
            restart: config.machine.on_reboot == OnReboot::Restart,
            messages: logger::way(),
            process: std::process::id(),
        }
    }
}

/// KVM's requests have this in their second byte; the first says which.
const KVM: u32 = 0xae00;
const KVM_RUN: u32 = 0x80;
const KVM_GET_MP_STATE: u32 = 0x98;
const KVM_GET_REGS: u32 = 0x81;
const KVM_KVMCLOCK_CTRL: u32 = 0xad;
/// What is read of a machine that is written down, on both architectures (`linux/kvm.h`): lists of registers, all kinds
/// of registers, interrupt controllers, clocks, and whether an extension is there. On ARM a controller is first told to
/// put what it holds into the guest's memory, which is a setting.
const KVM_SAVED: [u32; 22] = [
    0x02, 0x03, 0x05, 0x62, 0x7c, 0x81, 0x83, 0x88, 0x8e, 0x91, 0x98, 0x9f, 0xa1, 0xa3, 0xa4, 0xa6, 0xab,
    0xad, 0xb0, 0xcf, 0xe2, 0xe3,
];
const KVM_SET_DEVICE_ATTR: u32 = 0xe1;
const FIONBIO: u32 = 0x5421;
const TCGETS: u32 = 0x5401;
const TCSETS: [u32; 3] = [0x5402, 0x5403, 0x5404];
const TUNSETOFFLOAD: u32 = 0x4004_54d0;
const BLKDISCARD: u32 = 0x1277;

const fn kvm(number: u32) -> Rule {
    Rule::Bits(1, 0xffff, KVM | number)
}

fn bits(flags: i32) -> u32 {
    u32::from_ne_bytes(flags.to_ne_bytes())
}

/// Growing, shrinking and mapping memory, none of it executable.
fn memory() -> [Call; 3] {
    [
        Call::always(libc::SYS_brk),
        Call::if_any(libc::SYS_mmap, [Rule::Without(2, bits(libc::PROT_EXEC))]),
        Call::always(libc::SYS_munmap),
    ]
}

/// What every thread does.
fn common() -> Vec<Call> {
    let mut calls = vec![
        // Locks, and waiting.
        Call::always(libc::SYS_futex),
        // Bells, messages, output.
        Call::always(libc::SYS_write),
        // Dropping what is of no more use.
        Call::always(libc::SYS_close),
        // Where the clock cannot be read without the kernel.
        Call::always(libc::SYS_clock_gettime),
        // A wait that SIGSTOP and SIGCONT cut in two.
        Call::always(libc::SYS_restart_syscall),
    ];
    calls.extend(memory());
    if cfg!(debug_assertions) {
        // Whether a descriptor is open when it is closed.
        calls.push(Call::if_any(libc::SYS_fcntl, [Rule::Is(1, bits(libc::F_GETFD))]));
    }
    calls
}

/// To whom a socket is connected, and not to a name.
fn send() -> Call {
    Call::if_any(libc::SYS_sendto, [Rule::Is(5, 0)])
}

/// How messages are kept from waiting for a reader.
fn messages(needs: &Needs) -> Option<Call> {
    match needs.messages {
        Some(Way::Send) => Some(send()),
        Some(Way::Look) => Some(Call::always(POLL)),
        Some(Way::Flag | Way::None) | None => None,
    }
}

#[cfg(target_arch = "x86_64")]
const POLL: c_long = libc::SYS_poll;
#[cfg(target_arch = "aarch64")]
const POLL: c_long = libc::SYS_ppoll;
#[cfg(target_arch = "x86_64")]
const EPOLL_WAIT: c_long = libc::SYS_epoll_wait;
#[cfg(target_arch = "aarch64")]
const EPOLL_WAIT: c_long = libc::SYS_epoll_pwait;

pub(super) fn of(role: Role, needs: &Needs) -> Vec<Call> {
    let mut calls = match role {
        Role::Vcpu => vcpu(needs),
        Role::EventLoop => event_loop(needs),
        Role::Writer => writer(),
        Role::Discarder => discarder(),
    };
    for call in common() {
        match calls.iter_mut().find(|there| there.number == call.number) {
            Some(there) => there.or(call),
            None => calls.push(call),
        }
    }
    if let Some(call) = messages(needs).filter(|call| calls.iter().all(|there| there.number != call.number)) {
        calls.push(call);
    }
    calls
}

fn vcpu(needs: &Needs) -> Vec<Call> {
    let requests = [kvm(KVM_RUN), kvm(KVM_GET_MP_STATE), kvm(KVM_GET_REGS), kvm(KVM_KVMCLOCK_CTRL)];
    let mut calls = vec![
        Call::if_any(libc::SYS_ioctl, requests),
        // Out of the handler of a kick.
        Call::always(libc::SYS_rt_sigreturn),
    ];
    if needs.block {
        // A reset sends what was queued.
        calls.push(Call::always(libc::SYS_io_uring_enter));
    }
    if needs.watchdog {
        calls.push(Call::always(libc::SYS_timerfd_settime));
    }
    calls
}

fn event_loop(needs: &Needs) -> Vec<Call> {
    let mut requests = vec![Rule::Is(1, FIONBIO)];
    let mut calls = vec![
        Call::always(EPOLL_WAIT),
        Call::always(libc::SYS_epoll_ctl),
        Call::always(libc::SYS_read),
        // Whether a reader reads.
        Call::always(POLL),
        // Kicks: to threads of this process, by one signal.
        Call::if_all(libc::SYS_tgkill, [Rule::Is(0, needs.process), Rule::Is(2, bits(SIGRTMIN()))]),
        // Errands, whose answers may bring a descriptor.
        send(),
        Call::always(libc::SYS_recvmsg),
        // How much memory the guest takes.
        Call::always(libc::SYS_mincore),
        Call::always(libc::SYS_exit_group),
        Call::if_any(
            libc::SYS_madvise,
            [Rule::Is(2, bits(libc::MADV_DONTNEED)), Rule::Is(2, bits(libc::MADV_DONTDUMP))],
        ),
    ];
    if needs.control || needs.vsock {
        calls.extend([Call::always(libc::SYS_accept4), Call::always(libc::SYS_recvfrom)]);
    }
    if needs.vsock {
        calls.push(Call::always(libc::SYS_shutdown));
    }
    if needs.block || needs.net || needs.vsock {
        // Files, streams and interfaces alike; for the last two with no offset.
        calls.extend([Call::always(libc::SYS_preadv2), Call::always(libc::SYS_pwritev2)]);
    }
    if needs.block {
        calls.extend([
            Call::always(libc::SYS_io_uring_enter),
            // Where a ring cannot be had any more.
            Call::always(libc::SYS_fdatasync),
            Call::always(libc::SYS_fallocate),
        ]);
        requests.push(Rule::Is(1, BLKDISCARD));
    }
    if needs.net {
        requests.push(Rule::Is(1, TUNSETOFFLOAD));
    }
    if needs.timers {
        calls.push(Call::always(libc::SYS_timerfd_settime));
    }
    if needs.limits {
        // What a guest printed last waits for its rate after the machine's end.
        calls.push(Call::always(libc::SYS_clock_nanosleep));
    }
    if needs.files {
        // A full one that cannot be put aside is emptied.
        calls.push(Call::if_all(libc::SYS_ftruncate, [Rule::Nothing(1)]));
    }
    if needs.snapshot {
        requests.extend(KVM_SAVED.map(kvm));
        if cfg!(target_arch = "aarch64") {
            requests.push(kvm(KVM_SET_DEVICE_ATTR));
        }
        // vCPUs by descriptors of their own.
        let commands = [Rule::Is(1, bits(libc::F_DUPFD_CLOEXEC)), Rule::Is(1, bits(libc::F_GETFD))];
        calls.push(Call::if_any(libc::SYS_fcntl, commands));
    }
    if needs.snapshot || needs.restored {
        // Which pages were written to, which of a snapshot's are the machine's own, and which disks there are.
        calls.push(Call::always(libc::SYS_pread64));
    }
    if needs.restored {
        // Seeds for a guest that is to be another one.
        calls.push(Call::always(libc::SYS_getrandom));
    }
    if needs.keyboard {
        requests.push(Rule::Is(1, TCGETS));
        requests.extend(TCSETS.map(|request| Rule::Is(1, request)));
        // The way out for whoever types.
        let own_stop = [Rule::Is(0, needs.process), Rule::Is(1, bits(libc::SIGTERM))];
        calls.extend([Call::always(libc::SYS_getpid), Call::if_all(libc::SYS_kill, own_stop)]);
    }
    if needs.restart {
        // Clients go to the next life.
        calls.push(Call::always(libc::SYS_sendmsg));
    }
    calls.push(Call::if_any(libc::SYS_ioctl, requests));
    calls
}

/// The end of a thread.
fn end() -> [Call; 4] {
    [
        Call::always(libc::SYS_exit),
        Call::always(libc::SYS_sigaltstack),
        Call::always(libc::SYS_rt_sigprocmask),
        Call::if_any(libc::SYS_madvise, [Rule::Is(2, bits(libc::MADV_DONTNEED))]),
    ]
}

fn writer() -> Vec<Call> {
    let mut calls = vec![
        send(),
        Call::always(libc::SYS_recvmsg),
        Call::always(libc::SYS_ftruncate),
        Call::always(libc::SYS_pread64),
        Call::always(libc::SYS_pwrite64),
        Call::always(libc::SYS_pwritev2),
        Call::always(libc::SYS_copy_file_range),
        Call::always(libc::SYS_sendfile),
        Call::always(libc::SYS_lseek),
        Call::always(libc::SYS_statx),
        Call::always(libc::SYS_fsync),
        // Random numbers: a program that is linked statically has them from a file that it opened before.
        Call::always(libc::SYS_getrandom),
        Call::always(libc::SYS_read),
    ];
    calls.push(Call::if_any(libc::SYS_fcntl, [Rule::Is(1, bits(libc::F_DUPFD_CLOEXEC))]));
    calls.extend(end());
    calls
}

fn discarder() -> Vec<Call> {
    let mut calls = vec![Call::if_any(libc::SYS_ioctl, [Rule::Is(1, BLKDISCARD)])];
    calls.extend(end());
    calls
}

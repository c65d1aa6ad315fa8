//! What an attacker would try, and what has to come of it where there is no filter of system calls.

use std::ffi::{CString, c_long};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use hearth_vmm::jail::Layer;
use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What came of an attempt.
pub(crate) enum Held {
    /// It failed as it had to.
    Yes,
    /// It failed, in a way that no wall was to bring about.
    Error(i32),
    /// It succeeded.
    No,
}

/// What was there before the jail was closed.
#[derive(Default)]
pub(crate) struct Prepared {
    file: Option<OwnedFd>,
}

pub(crate) struct Attempt {
    pub(crate) class: &'static str,
    pub(crate) name: &'static str,
    /// Those in its way, beside the filter.
    pub(crate) walls: &'static [Layer],
    pub(crate) may_be_killed: bool,
    /// Every event loop does so: behind the filter, too, it has to come to nothing.
    pub(crate) is_permitted: bool,
    pub(crate) prepare: fn() -> Prepared,
    pub(crate) act: fn(&Prepared) -> Held,
}

const fn of(
    class: &'static str,
    name: &'static str,
    walls: &'static [Layer],
    act: fn(&Prepared) -> Held,
) -> Attempt {
    Attempt { class, name, walls, may_be_killed: false, is_permitted: false, prepare: Prepared::default, act }
}

/// A raw system call.
fn call(number: c_long, arguments: [i64; 6]) -> Result<i64, i32> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: whatever pointers are among them are to memory of the caller that lives as long as the call, or to none.
    Errno::result(unsafe { libc::syscall(number, a, b, c, d, e, f) }).map_err(|errno| errno as i32)
}

fn expect(result: Result<i64, i32>, errors: &[i32]) -> Held {
    match result {
        Ok(_) => Held::No,
        Err(errno) if errors.contains(&errno) => Held::Yes,
        Err(errno) => Held::Error(errno),
    }
}

fn address<T>(of: &T) -> i64 {
    std::ptr::from_ref(of) as i64
}

fn open(path: &str, flags: i32) -> Result<i64, i32> {
    let path = CString::new(path).unwrap();
    call(libc::SYS_openat, [libc::AT_FDCWD.into(), path.as_ptr() as i64, flags.into(), 0o600, 0, 0])
}

const FORBIDDEN: &[i32] = &[libc::EPERM, libc::EACCES];
const NOBODY: &[i32] = &[libc::ESRCH];

/// Not allowed, or by a kernel that takes none at all.
const NO_MODULE: &[i32] = &[libc::EPERM, libc::ENOSYS];

const ROOT: &[Layer] = &[Layer::EmptyRoot, Layer::Landlock];
const POWERLESS: &[Layer] = &[Layer::Capabilities];

/// In order of their classes.
pub(crate) const ALL: &[Attempt] = &[
    of("files", "read_the_password_file", ROOT, |_| {
        expect(open("/etc/shadow", libc::O_RDONLY), &[libc::ENOENT, libc::EACCES])
    }),
    of("files", "climb_out_of_the_root", ROOT, |_| {
        expect(open("../../../../../../etc/passwd", libc::O_RDONLY), &[libc::ENOENT, libc::EACCES])
    }),
    of("files", "make_a_file_in_the_root", ROOT, |_| {
        expect(open("/x", libc::O_CREAT | libc::O_WRONLY), &[libc::EACCES, libc::EROFS, libc::EOVERFLOW])
    }),
    of("files", "list_the_root", ROOT, |_| match open("/", libc::O_RDONLY | libc::O_DIRECTORY) {
        Err(libc::EACCES) => Held::Yes,
        Err(errno) => Held::Error(errno),
        Ok(_) => Held::No,
    }),
    of("files", "open_the_kernel_s_memory", ROOT, |_| expect(open("/dev/mem", libc::O_RDWR), GONE_OR_SHUT)),
    of("files", "read_another_process_s_memory_as_a_file", ROOT, |_| {
        expect(open("/proc/1/mem", libc::O_RDWR), GONE_OR_SHUT)
    }),
    of("files", "make_a_device", POWERLESS, |_| {
        let path = c"/d";
        expect(
            call(
                libc::SYS_mknodat,
                [libc::AT_FDCWD.into(), path.as_ptr() as i64, i64::from(libc::S_IFBLK | 0o600), 0x800, 0, 0],
            ),
            &[libc::EPERM, libc::EACCES, libc::EROFS],
        )
    }),
    Attempt {
        class: "files",
        name: "read_what_a_person_types",
        walls: ROOT,
        may_be_killed: false,
        is_permitted: true,
        prepare: Prepared::default,
        act: |_| {
            let byte = 0u8;
            let read = |number| call(libc::SYS_read, [number, address(&byte), 1, 0, 0, 0]);
            // Its own words it may write; what others wrote it may not read there.
            if [0, 1, 2].map(read).iter().any(|read| matches!(read, Ok(1..))) { Held::No } else { Held::Yes }
        },
    },
    of("network", "speak_tcp_to_the_host", &[Layer::NetworkNamespace], |_| connect_inet()),
    of("network", "see_every_packet", &[Layer::Capabilities], |_| {
        expect(
            call(libc::SYS_socket, [libc::AF_PACKET.into(), libc::SOCK_RAW.into(), 0x0300, 0, 0, 0]),
            FORBIDDEN,
        )
    }),
    of("network", "change_the_routes", &[Layer::NetworkNamespace], |_| routes()),
    of("network", "find_a_program_s_abstract_socket", &[Layer::NetworkNamespace], |_| abstract_socket()),
    Attempt {
        class: "network",
        name: "send_to_a_name_by_a_socket_that_it_was_given",
        walls: &[Layer::NetworkNamespace],
        may_be_killed: false,
        is_permitted: false,
        prepare: || Prepared { file: Some(listening_by_name().into()) },
        act: |prepared| send_by_what_is_open(prepared.file.as_ref().unwrap()),
    },
    of("processes", "signal_the_host_s_init", &[Layer::PidNamespace], |_| {
        // Of the two numbers one is its own, one the porter's; the host's are not there.
        expect(call(libc::SYS_kill, [2, libc::SIGKILL.into(), 0, 0, 0, 0]), NOBODY)
    }),
    of("processes", "signal_everybody", &[Layer::PidNamespace], |_| {
        expect(call(libc::SYS_kill, [-1, libc::SIGKILL.into(), 0, 0, 0, 0]), NOBODY)
    }),
    of("processes", "signal_its_parent", &[Layer::PidNamespace], |_| match call(libc::SYS_getppid, [0; 6]) {
        Ok(0) => Held::Yes,
        _ => Held::No,
    }),
    of("processes", "trace_another", &[Layer::PidNamespace], |_| {
        expect(call(libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), 2, 0, 0, 0, 0]), NOBODY)
    }),
    of("processes", "hold_another_by_descriptor", &[Layer::PidNamespace], |_| {
        expect(call(libc::SYS_pidfd_open, [2, 0, 0, 0, 0, 0]), NOBODY)
    }),
    of("processes", "read_another_s_memory", &[Layer::PidNamespace], |_| {
        let mut byte = [0u8; 1];
        let piece = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        let list = address(&piece);
        expect(call(libc::SYS_process_vm_readv, [2, list, 1, list, 1, 0]), NOBODY)
    }),
    of("mounts", "mount", POWERLESS, |_| {
        let (what, place) = (c"tmpfs", c"/");
        expect(
            call(
                libc::SYS_mount,
                [what.as_ptr() as i64, place.as_ptr() as i64, what.as_ptr() as i64, 0, 0, 0],
            ),
            FORBIDDEN,
        )
    }),
    of("mounts", "unmount_the_root", POWERLESS, |_| {
        let place = c"/";
        expect(
            call(libc::SYS_umount2, [place.as_ptr() as i64, libc::MNT_DETACH.into(), 0, 0, 0, 0]),
            FORBIDDEN,
        )
    }),
    of("mounts", "change_the_root", POWERLESS, |_| {
        let place = c".";
        expect(call(libc::SYS_chroot, [place.as_ptr() as i64, 0, 0, 0, 0, 0]), FORBIDDEN)
    }),
    Attempt {
        class: "mounts",
        name: "join_the_host_s_namespace",
        walls: POWERLESS,
        may_be_killed: false,
        is_permitted: false,
        prepare: || Prepared { file: std::fs::File::open("/proc/self/ns/mnt").ok().map(OwnedFd::from) },
        act: |prepared| {
            let space = prepared.file.as_ref().unwrap().as_raw_fd();
            expect(call(libc::SYS_setns, [space.into(), libc::CLONE_NEWNS.into(), 0, 0, 0, 0]), FORBIDDEN)
        },
    },
    of("mounts", "make_a_user_namespace_to_mount_in", &[], |_| {
        expect(call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0, 0, 0]), FORBIDDEN)
    }),
    of("kernel", "load_a_module", POWERLESS, |_| expect(call(libc::SYS_init_module, [0; 6]), NO_MODULE)),
    of("kernel", "load_a_module_from_a_file", POWERLESS, |_| {
        expect(call(libc::SYS_finit_module, [0; 6]), NO_MODULE)
    }),
    of("kernel", "restart_the_box", POWERLESS, |_| {
        expect(call(libc::SYS_reboot, [0xfee1_dead, 672_274_793, 0x0123_4567, 0, 0, 0]), FORBIDDEN)
    }),
    of("kernel", "set_the_clock", POWERLESS, |_| {
        let time = libc::timespec { tv_sec: 1, tv_nsec: 0 };
        expect(
            call(libc::SYS_clock_settime, [libc::CLOCK_REALTIME.into(), address(&time), 0, 0, 0, 0]),
            FORBIDDEN,
        )
    }),
    of("kernel", "find_where_in_the_host_s_memory_it_lies", POWERLESS, |_| frames()),
    of("kernel", "rename_the_host", POWERLESS, |_| {
        let name = c"mine";
        expect(call(libc::SYS_sethostname, [name.as_ptr() as i64, 4, 0, 0, 0, 0]), FORBIDDEN)
    }),
    of("kernel", "read_the_kernel_s_log", POWERLESS, |_| {
        let mut buffer = [0u8; 64];
        expect(call(libc::SYS_syslog, [4, buffer.as_mut_ptr() as i64, 64, 0, 0, 0]), FORBIDDEN)
    }),
    of("kernel", "load_a_program_into_the_kernel", POWERLESS, |_| {
        // Of maps, which whoever may not use them at all is not allowed either.
        expect(call(libc::SYS_bpf, [0, address(&[0u64; 16]), 72, 0, 0, 0]), &[libc::EPERM, libc::EINVAL])
    }),
    of("capabilities", "take_all_of_them", POWERLESS, |_| {
        let header = [0x2008_0522u32, 0];
        let sets = [u32::MAX; 6];
        expect(call(libc::SYS_capset, [address(&header), address(&sets), 0, 0, 0, 0]), FORBIDDEN)
    }),
    of("capabilities", "become_root", POWERLESS, |_| {
        expect(call(libc::SYS_setuid, [0; 6]), &[libc::EPERM, libc::EINVAL])
    }),
    of("capabilities", "join_root_s_groups", POWERLESS, |_| {
        expect(call(libc::SYS_setgroups, [1, address(&0u32), 0, 0, 0, 0]), &[libc::EPERM, libc::EINVAL])
    }),
    of("capabilities", "undo_no_new_privileges", &[Layer::NoNewPrivileges], |_| {
        expect(call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS.into(), 0, 0, 0, 0, 0]), &[libc::EINVAL])
    }),
    of("programs", "run_a_shell", ROOT, |_| {
        let path = c"/bin/sh";
        let none = [0i64; 1];
        expect(
            call(libc::SYS_execve, [path.as_ptr() as i64, address(&none), address(&none), 0, 0, 0]),
            GONE_OR_SHUT,
        )
    }),
    of("programs", "run_one_from_memory", &[], |_| {
        let name = c"p";
        expect(call(libc::SYS_memfd_create, [name.as_ptr() as i64, 0, 0, 0, 0, 0]), FORBIDDEN)
    }),
    of("programs", "make_memory_executable", &[], |_| {
        let (all, how) =
            (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        expect(call(libc::SYS_mmap, [0, 4096, all.into(), how.into(), -1, 0]), FORBIDDEN)
    }),
    of("bounds", "fork_past_the_limit", &[Layer::UserNamespace, Layer::ControlGroups], |_| fork_on()),
    Attempt {
        class: "bounds",
        name: "take_all_addresses",
        walls: &[Layer::ResourceLimits],
        may_be_killed: false,
        is_permitted: false,
        prepare: Prepared::default,
        // The filter is asked by what no wall permits: memory itself may be mapped.
        act: |_| take_addresses(),
    },
    Attempt {
        class: "bounds",
        name: "fill_memory",
        walls: &[Layer::ControlGroups],
        may_be_killed: true,
        is_permitted: false,
        prepare: Prepared::default,
        act: |_| fill_memory(),
    },
    Attempt {
        class: "bounds",
        name: "fill_the_disk",
        walls: &[Layer::ResourceLimits],
        may_be_killed: false,
        is_permitted: false,
        prepare: || Prepared { file: Some(tempfile::tempfile().unwrap().into()) },
        act: |prepared| fill_disk(prepared.file.as_ref().unwrap()),
    },
    Attempt {
        class: "bounds",
        name: "keep_ever_more_files_open",
        walls: &[Layer::ResourceLimits],
        may_be_killed: false,
        is_permitted: false,
        prepare: || {
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
            Prepared::default()
        },
        act: |_| {
            (0..MORE_FILES_THAN_A_MACHINE_HAS)
                .find_map(|_| call(libc::SYS_dup, [0; 6]).err())
                .map_or(Held::No, |errno| expect(Err(errno), &[libc::EMFILE]))
        },
    },
    of("bounds", "raise_its_limits", POWERLESS, |_| {
        let limit = [u64::MAX; 2];
        let resource = i64::from(libc::RLIMIT_AS);
        expect(call(libc::SYS_prlimit64, [0, resource, address(&limit), 0, 0, 0]), FORBIDDEN)
    }),
];

/// Descriptors that a machine may have from before the jail was closed.
const GIVEN: std::ops::Range<i64> = 3..64;

/// A name of this program's in the host's network namespace, abstract and for datagrams.
fn name() -> [u8; 16] {
    let mut name = [0u8; 16];
    name[0] = 1;
    name[3..].copy_from_slice(b"hearth-attack");
    name
}

fn listening_by_name() -> UnixDatagram {
    let address = SocketAddr::from_abstract_name(&name()[3..]).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn send_by_what_is_open(named: &OwnedFd) -> Held {
    let (to, own) = (name(), i64::from(named.as_raw_fd()));
    let byte = 1u8;
    for socket in GIVEN.filter(|number| *number != own) {
        let flags = i64::from(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        let _ = call(libc::SYS_sendto, [socket, address(&byte), 1, flags, address(&to), 16]);
    }
    let heard = call(libc::SYS_recvfrom, [own, address(&byte), 1, libc::MSG_DONTWAIT.into(), 0, 0]);
    expect(heard, &[libc::EAGAIN])
}

/// Looks for the page map of this process among what is open, and in it for numbers of page frames.
fn frames() -> Held {
    const PRESENT: u64 = 1 << 63;
    const FRAME: u64 = (1 << 55) - 1;
    // Of any size that pages have here: each of them was written to.
    let memory = vec![1u8; 1 << 20];
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).unwrap().unwrap();
    let first = (address(&memory[0]) / page + 1) * 8;
    let mut found = false;
    for file in GIVEN {
        let mut entries = [0u64; 4];
        let read = call(libc::SYS_pread64, [file, entries.as_mut_ptr() as i64, 32, first, 0, 0]);
        let is_page_map = read == Ok(32) && entries.iter().all(|entry| entry & PRESENT != 0);
        if is_page_map && entries.iter().any(|entry| entry & FRAME != 0) {
            return Held::No;
        }
        found |= is_page_map;
    }
    // It is there, or this attempt shows nothing.
    if found { Held::Yes } else { Held::Error(libc::ENOENT) }
}

const GONE_OR_SHUT: &[i32] = &[libc::ENOENT, libc::EACCES];

fn connect_inet() -> Held {
    let socket = match call(libc::SYS_socket, [libc::AF_INET.into(), libc::SOCK_STREAM.into(), 0, 0, 0, 0]) {
        Ok(socket) => socket,
        Err(errno) => return Held::Error(errno),
    };
    // 127.0.0.1, port 22: the loopback of the jail is not up, and has nothing of the host's. Landlock may come first.
    let to: [u8; 16] = [2, 0, 0, 22, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    expect(call(libc::SYS_connect, [socket, address(&to), 16, 0, 0, 0]), &[libc::ENETUNREACH, libc::EACCES])
}

fn routes() -> Held {
    // An interface that every host has, set up: needs a capability that nobody has here.
    let socket = match call(libc::SYS_socket, [libc::AF_INET.into(), libc::SOCK_DGRAM.into(), 0, 0, 0, 0]) {
        Ok(socket) => socket,
        Err(errno) => return Held::Error(errno),
    };
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16] = 1;
    expect(call(libc::SYS_ioctl, [socket, 0x8914, address(&request), 0, 0, 0]), FORBIDDEN)
}

fn abstract_socket() -> Held {
    let socket = match call(libc::SYS_socket, [libc::AF_UNIX.into(), libc::SOCK_STREAM.into(), 0, 0, 0, 0]) {
        Ok(socket) => socket,
        Err(errno) => return Held::Error(errno),
    };
    let mut to = [0u8; 16];
    to[0] = 1;
    to[3..9].copy_from_slice(b"daemon");
    expect(call(libc::SYS_connect, [socket, address(&to), 9, 0, 0, 0]), &[libc::ECONNREFUSED, libc::EPERM])
}

const MORE_FILES_THAN_A_MACHINE_HAS: u32 = 2048;

/// More than any machine has threads.
const FORKS: u32 = 200;

fn fork_on() -> Held {
    for _ in 0..FORKS {
        match call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0, 0, 0]) {
            // A child, which waits; it goes with its namespace.
            Ok(0) => loop {
                let _ = call(libc::SYS_sched_yield, [0; 6]);
                let second = libc::timespec { tv_sec: 1, tv_nsec: 0 };
                let _ = call(libc::SYS_nanosleep, [address(&second), 0, 0, 0, 0, 0]);
            },
            Ok(_) => {}
            Err(errno) => return expect(Err(errno), &[libc::EAGAIN]),
        }
    }
    Held::No
}

fn take_addresses() -> Held {
    const PIECE: i64 = 256 << 20;
    let how = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    for _ in 0..64 {
        if let Err(errno) = call(libc::SYS_mmap, [0, PIECE, libc::PROT_READ.into(), how.into(), -1, 0]) {
            let held = expect(Err(errno), &[libc::ENOMEM]);
            // Behind a filter this much is permitted, and it is asked for what is not.
            let _ = call(libc::SYS_mprotect, [0; 6]);
            return held;
        }
    }
    Held::No
}

/// A machine of 32 MiB may take 192.
const MORE_THAN_THE_GROUP_HAS: usize = 400 << 20;

fn fill_memory() -> Held {
    let _ = call(libc::SYS_sched_yield, [0; 6]);
    let mut memory = Vec::with_capacity(MORE_THAN_THE_GROUP_HAS);
    memory.resize(MORE_THAN_THE_GROUP_HAS, 1u8);
    if std::hint::black_box(&memory).iter().step_by(4096).all(|byte| *byte == 1) {
        Held::No
    } else {
        Held::Yes
    }
}

fn fill_disk(file: &OwnedFd) -> Held {
    let chunk = vec![1u8; 1 << 20];
    for _ in 0..256 {
        let pointer = chunk.as_ptr() as i64;
        // By a call that the filter permits no event loop.
        if let Err(errno) =
            call(libc::SYS_pwrite64, [file.as_raw_fd().into(), pointer, 1 << 20, 96 << 20, 0, 0])
        {
            return expect(Err(errno), &[libc::EFBIG]);
        }
    }
    Held::No
}

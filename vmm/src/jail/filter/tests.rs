//! How long the lists are, and what they never have.

use hearth_config::vm::VmConfig;
use nix::libc;

use super::*;

/// A machine as the daemon makes it, with everything that a workload can ask for.
const OF_THE_DAEMON: &str = "
    [boot]
    kernel = \"k\"
    [serial]
    output = \"off\"
    [console]
    [[block]]
    id = \"root\"
    path = \"d\"
    [[net]]
    id = \"lan\"
    tap = \"tap0\"
    [vsock]
    cid = 3
    socket = \"v\"
    [rng]
    [balloon]
    [watchdog]
    [control]
    socket = \"c\"
    [snapshot]
    folder = \"s\"
    ";

fn needs(config: &str) -> Needs {
    let needs = Needs::of(&VmConfig::parse("vm.toml", config).unwrap(), Purpose::Machine);
    // Standard error is a pipe that is opened anew; under a test it may be anything.
    Needs { messages: None, ..needs }
}

/// What is on the list of `role` because the program is one for looking for faults.
fn calls(role: Role, needs: &Needs) -> Vec<i64> {
    let only_in_debug = |call: &Call| {
        cfg!(debug_assertions)
            && call.number == libc::SYS_fcntl
            && call.any_of == [vec![Rule::Is(1, libc::F_GETFD.unsigned_abs())]]
    };
    let list = list(role, needs).into_iter().filter(|call| !only_in_debug(call));
    let mut numbers: Vec<_> = list.map(|call| call.number).collect();
    numbers.sort_unstable();
    let length = numbers.len();
    numbers.dedup();
    assert_eq!(numbers.len(), length, "a call has one line");
    numbers
}

#[test]
fn a_vcpu_has_twelve_calls_and_the_event_loop_thirty() {
    let daemon_s = needs(OF_THE_DAEMON);
    let vcpu = calls(Role::Vcpu, &daemon_s);
    assert!(vcpu.len() <= 12, "{} calls: {vcpu:?}", vcpu.len());
    let event_loop = calls(Role::EventLoop, &daemon_s);
    assert!(event_loop.len() <= 30, "{} calls: {event_loop:?}", event_loop.len());
    // What a machine does not have costs it nothing.
    let least = needs("boot.kernel = \"k\"");
    assert!(calls(Role::Vcpu, &least).len() < vcpu.len());
    assert!(calls(Role::EventLoop, &least).len() < event_loop.len());
}

#[test]
fn no_list_lets_a_thread_open_connect_start_or_execute_anything() {
    let everything = Needs {
        restored: true,
        limits: true,
        keyboard: true,
        restart: true,
        messages: Some(crate::stdio::Way::Send),
        ..needs(OF_THE_DAEMON)
    };
    let never = [
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_socket,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_mprotect,
        libc::SYS_prctl,
        libc::SYS_seccomp,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_register,
        libc::SYS_memfd_create,
        libc::SYS_bpf,
        libc::SYS_unlinkat,
        libc::SYS_renameat2,
    ];
    for role in Role::ALL {
        let list = list(role, &everything);
        assert!(list.iter().all(|call| !never.contains(&call.number)), "{role:?}");
        // Those whose arguments decide what they are.
        for number in [libc::SYS_ioctl, libc::SYS_mmap, libc::SYS_fcntl, libc::SYS_kill, libc::SYS_tgkill] {
            for call in list.iter().filter(|call| call.number == number) {
                assert!(!call.any_of.is_empty(), "{role:?}: {number} is looked at");
            }
        }
        program(role, &everything).unwrap();
    }
}

#[test]
fn lines_for_one_call_become_one_that_permits_both() {
    let mut call = Call::if_any(1, [Rule::Is(0, 1)]);
    call.or(Call::if_any(1, [Rule::Is(0, 2)]));
    assert_eq!(call.any_of, [vec![Rule::Is(0, 1)], vec![Rule::Is(0, 2)]]);
    call.or(Call::always(1));
    assert!(call.any_of.is_empty());
}

//! How long the lists are, and what they never have.

use std::thread;

use hearth_config::vm::VmConfig;
use nix::libc;

use super::*;
use crate::mailbox::mailbox;

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
        files: true,
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
        libc::SYS_timerfd_create,
    ];
    for role in Role::ALL {
        let list = list(role, &everything);
        assert!(list.iter().all(|call| !never.contains(&call.number)), "{role:?}");
        // Those whose arguments decide what they are.
        let looked_at = [
            libc::SYS_ioctl,
            libc::SYS_mmap,
            libc::SYS_fcntl,
            libc::SYS_kill,
            libc::SYS_tgkill,
            libc::SYS_sendto,
        ];
        for number in looked_at {
            for call in list.iter().filter(|call| call.number == number) {
                assert!(!call.any_of.is_empty(), "{role:?}: {number} is looked at");
            }
        }
        program(role, &everything).unwrap();
    }
}

#[test]
fn what_is_typed_is_read_by_the_event_loop_alone() {
    let needs = needs("boot.kernel = \"k\"\nserial.input = \"stdin\"");
    assert!(needs.keyboard);
    for (role, reads) in [(Role::Vcpu, false), (Role::EventLoop, true)] {
        assert_eq!(calls(role, &needs).contains(&libc::SYS_read), reads, "{role:?}");
    }
}

#[test]
fn whoever_may_look_again_after_a_time_may_set_its_timer() {
    let cases = [
        ("", false),
        ("[balloon]\n", false),
        ("[console]\n", true),
        ("[rng]\n", true),
        ("[[net]]\nid = \"lan\"\ntap = \"tap0\"\n", true),
        ("[watchdog]\n", true),
        ("[serial]\nlimit = { bytes_per_second = 20000, bytes_burst = 1000 }\n", true),
    ];
    for (more, waits) in cases {
        let needs = needs(&format!("[boot]\nkernel = \"k\"\n{more}"));
        assert_eq!(calls(Role::EventLoop, &needs).contains(&libc::SYS_timerfd_settime), waits, "{more}");
    }
}

#[test]
fn the_event_loop_may_empty_a_file_where_its_guest_prints_to_one_and_never_lengthen_it() {
    for (more, prints) in
        [("", false), ("[serial]\noutput = \"s\"\n", true), ("[console]\noutput = \"c\"\n", true)]
    {
        let needs = needs(&format!("[boot]\nkernel = \"k\"\n{more}"));
        let list = list(Role::EventLoop, &needs);
        for (length, permitted) in [(0, prints), (1, false), (1 << 32, false)] {
            let number = u32::try_from(libc::SYS_ftruncate).unwrap();
            let made = Made { number, architecture: OURS, arguments: [7, length, 0, 0, 0, 0] };
            assert_eq!(permits(&list, &made), permitted, "{more}: {length}");
        }
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

/// A call as the kernel shows it to a filter.
struct Made {
    number: u32,
    architecture: u32,
    arguments: [u64; 6],
}

impl Made {
    /// The word of `seccomp_data` at `offset`.
    fn word(&self, offset: u32) -> u32 {
        let half =
            |value: u64, high: bool| u32::try_from(if high { value >> 32 } else { value & 0xffff_ffff });
        match offset {
            0 => self.number,
            4 => self.architecture,
            8 | 12 => 0,
            at => half(self.arguments[(at as usize - 16) / 8], at % 8 == 4).unwrap(),
        }
    }
}

/// What a program of the kernel's says of a call, and in how many steps.
fn verdict(program: &[seccompiler::sock_filter], made: &Made) -> (u32, usize) {
    let (mut at, mut accumulator) = (0, 0);
    for steps in 1.. {
        let instruction = &program[at];
        let (jt, jf, k) = (usize::from(instruction.jt), usize::from(instruction.jf), instruction.k);
        at += 1;
        match instruction.code {
            0x20 => accumulator = made.word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += if accumulator == k { jt } else { jf },
            0x25 => at += if accumulator > k { jt } else { jf },
            0x35 => at += if accumulator >= k { jt } else { jf },
            0x06 => return (k, steps),
            other => panic!("instruction {other:#x}"),
        }
    }
    unreachable!()
}

#[cfg(target_arch = "x86_64")]
const OURS: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OURS: u32 = 0xc000_00b7;
const PERMITTED: u32 = 0x7fff_0000;
const KILLED: u32 = 0x8000_0000;

/// What a list says, read as it is written.
fn permits(list: &[Call], made: &Made) -> bool {
    let low = |argument: u8| made.word(16 + 8 * u32::from(argument));
    let holds = |rule: &Rule| match *rule {
        Rule::Is(argument, value) => low(argument) == value,
        Rule::Nothing(argument) => made.arguments[usize::from(argument)] == 0,
        Rule::Bits(argument, mask, bits) => low(argument) & mask == bits,
        Rule::Without(argument, mask) => low(argument) & mask == 0,
    };
    let line = list.iter().find(|call| call.number == i64::from(made.number));
    line.is_some_and(|call| call.any_of.is_empty() || call.any_of.iter().any(|rules| rules.iter().all(holds)))
}

#[test]
fn a_program_permits_what_its_list_does_and_nothing_else() {
    for config in ["boot.kernel = \"k\"", "boot.kernel = \"k\"\n[serial]\noutput = \"s\"", OF_THE_DAEMON] {
        let needs = needs(config);
        for role in Role::ALL {
            let (list, program) = (list(role, &needs), program(role, &needs).unwrap());
            // Arguments that some line asks for, and others.
            let mut values = vec![0, 1, 0x42, u64::from(u32::MAX)];
            for rule in list.iter().flat_map(|call| call.any_of.iter().flatten()) {
                match *rule {
                    Rule::Is(_, value) | Rule::Bits(_, _, value) | Rule::Without(_, value) => {
                        values.extend([value.into(), u64::from(value) + 1]);
                    }
                    Rule::Nothing(_) => values.push(1 << 32),
                }
            }
            values.sort_unstable();
            values.dedup();
            for number in (0..1024).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
                for arguments in
                    values.iter().flat_map(|a| [[*a; 6], [0, *a, 0, 0, 0, 0], [0, 0, *a, 0, 0, 0]])
                {
                    let made = Made { number, architecture: OURS, arguments };
                    let expected = if permits(&list, &made) { PERMITTED } else { KILLED };
                    assert_eq!(verdict(&program, &made).0, expected, "{role:?}: {number} {arguments:x?}");
                }
                // Numbers mean other calls there.
                let foreign = Made { number, architecture: OURS ^ 1, arguments: [0; 6] };
                assert_eq!(verdict(&program, &foreign).0, KILLED);
            }
        }
    }
}

#[test]
fn a_call_that_is_decided_by_its_number_is_decided_in_a_few_steps() {
    let needs = needs(OF_THE_DAEMON);
    for role in Role::ALL {
        let program = program(role, &needs).unwrap();
        let steps = |number| verdict(&program, &Made { number, architecture: OURS, arguments: [0; 6] }).1;
        let judged: Vec<_> = list(role, &needs).into_iter().filter(|call| !call.any_of.is_empty()).collect();
        let by_number = (0..512).filter(|number| judged.iter().all(|call| call.number != i64::from(*number)));
        let most = by_number.map(steps).max().unwrap();
        // Two loads, a comparison, an answer, and a halving for each doubling of the runs.
        assert!(most <= 10, "{role:?}: {most}");
    }
}

/// The shortest list there is must do for both ends of a mailbox, whichever way they meet: a call that is not on it ends
/// the process of this test.
#[test]
fn threads_behind_filters_can_write_to_each_other() {
    const LETTERS: u64 = 20_000;
    /// On their way at once: as many as each box has had room for before, as a heap of a test grows by other calls.
    const BURST: usize = 3;
    let program = program(Role::Discarder, &needs("boot.kernel = \"k\"")).unwrap();
    let (sender, receiver) = mailbox::<u64>();
    let (back, answers) = mailbox::<u64>();
    for _ in 0..BURST {
        assert!(sender.send(0) && back.send(0));
    }
    while let (Some(_), Some(_)) = (receiver.try_take(), answers.try_take()) {}
    let behind = program.clone();
    let taker = thread::spawn(move || {
        seccompiler::apply_filter(&behind).unwrap();
        while let Some(letter) = receiver.take() {
            back.send(letter);
        }
    });
    let writer = thread::spawn(move || {
        seccompiler::apply_filter(&program).unwrap();
        let mut sum = 0u64;
        for first in (0..LETTERS).step_by(BURST) {
            let burst = first..(first + BURST as u64).min(LETTERS);
            for letter in burst.clone() {
                sender.send(letter);
            }
            sum += burst.filter_map(|_| answers.take()).sum::<u64>();
        }
        drop(sender);
        sum + u64::from(answers.take().is_some())
    });
    taker.join().unwrap();
    assert_eq!(writer.join().unwrap(), LETTERS * (LETTERS - 1) / 2);
}

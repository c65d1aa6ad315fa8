//! The real `hearth-vmm` with guests of a few instructions, on whatever `/dev/kvm` there is.
//!
//! An interpreting KVM runs them too, so they say whether exits, buses, boot protocol and endings work on a
//! machine where Linux guests do not start. Where there is no KVM each says so and passes.
#![cfg(target_arch = "x86_64")]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends there")]

macro_rules! need_kvm {
    () => {
        if let Some(reason) = crate::monitor::kvm_is_missing() {
            println!("skipped: {reason}");
            return;
        }
    };
}

mod client;
mod ends;
mod guest;
mod hostile;
mod life;
mod memory;
mod monitor;

mod platform;
mod snapshots;
mod sources;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use guest::Guest;
use monitor::Monitor;
use nix::pty::openpty;
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, tcgetattr};

/// Soft off, as the sleep control register wants it.
const SOFT_OFF: u8 = (5 << 2) | (1 << 5);
const SLEEP_CONTROL: u16 = 0x600;
const RESET: u16 = 0x602;
const FIRST_VIRTIO_DEVICE: u32 = 0xd000_0000;

#[test]
fn a_guest_prints_and_powers_off() {
    need_kvm!();
    let ended = Monitor::run(&Guest::new().print("hello from ring 0\n").out(SLEEP_CONTROL, SOFT_OFF).halt());
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), "hello from ring 0\n"));
    assert_eq!(ended.stderr, "");
}

#[test]
fn a_guest_that_resets_is_reported_as_a_reboot() {
    need_kvm!();
    let ended = Monitor::run(&Guest::new().out(RESET, 1).halt());
    assert_eq!(ended.status, Some(10));
}

#[test]
fn the_host_can_always_stop_a_guest() {
    need_kvm!();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut running = Monitor::start(&Guest::new().print("up\n").spin());
        running.wait_for_line("up");
        running.signal(signal);
        assert_eq!(running.end().status, Some(16), "{signal}");
    }
}

#[test]
fn a_guest_that_sleeps_for_ever_can_be_stopped() {
    need_kvm!();
    let mut running = Monitor::start(&Guest::new().print("up\n").halt());
    running.wait_for_line("up");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.end().status, Some(16));
}

#[test]
fn a_fault_without_a_handler_ends_the_guest_not_the_monitor() {
    need_kvm!();
    let ended = Monitor::run(&Guest::new().print("falling\n").undefined_instruction());
    // A processor says triple fault; an interpreting KVM may give up on the instruction before.
    assert!(matches!(ended.status, Some(14 | 15)), "{ended:?}");
    assert_eq!(ended.stdout, "falling\n");
}

#[test]
fn devices_answer_where_the_tables_say() {
    need_kvm!();
    let guest = Guest::new()
        .print_word_at(FIRST_VIRTIO_DEVICE)
        .print_word_at(FIRST_VIRTIO_DEVICE + 0x1000)
        .print_word_at(FIRST_VIRTIO_DEVICE + 0x2000)
        .out(SLEEP_CONTROL, SOFT_OFF)
        .halt();
    let ended = Monitor::with_disk_and_vsock(&guest);
    assert_eq!(ended.stdout.as_bytes(), b"virtvirt????", "two devices, then the void, which reads as ones");
    assert_eq!(ended.status, Some(0));
}

#[test]
fn nothing_is_left_behind_on_the_host() {
    need_kvm!();
    let ended = Monitor::with_disk_and_vsock(&Guest::new().out(SLEEP_CONTROL, SOFT_OFF).halt());
    assert_eq!(ended.status, Some(0));
    assert_eq!(ended.files_left, ["disk.img", "guest.elf", "vm.toml"]);
}

#[test]
fn output_that_nobody_reads_does_not_hold_the_guest_up() {
    need_kvm!();
    // More than the pipe and the buffer take; the guest must reach its end all the same.
    let guest = Guest::new().repeat_print(b'x', 200_000).out(SLEEP_CONTROL, SOFT_OFF).halt();
    let ended = Monitor::start(&guest).end_without_reading();
    assert_eq!(ended.status, Some(0));
    assert!(ended.stderr.contains("bytes were dropped"), "{}", ended.stderr);
}

#[test]
fn a_guest_without_a_serial_port_prints_in_emergencies() {
    need_kvm!();
    let guest = Guest::new()
        .print("into the void\n")
        .print_in_emergency(FIRST_VIRTIO_DEVICE, "panic\n")
        .out(SLEEP_CONTROL, SOFT_OFF)
        .halt();
    let ended = Monitor::with_more(&guest, "[serial]\noutput = \"off\"\n[console]\n[rng]\n");
    assert_eq!((ended.status, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "panic\n", ""));
}

#[test]
fn two_that_print_to_one_place_do_not_tear_each_other_s_lines() {
    need_kvm!();
    let guest = Guest::new()
        .print("serial line\n")
        .print_in_emergency(FIRST_VIRTIO_DEVICE, "console line\n")
        .out(SLEEP_CONTROL, SOFT_OFF)
        .halt();
    let ended = Monitor::with_more(&guest, "[console]\n");
    let mut lines: Vec<_> = ended.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["console line", "serial line"]);
}

/// Waits until the terminal's lines are edited or not. Nothing tells of it, so it is looked at until then.
fn wait_for_terminal(terminal: &impl AsFd, edits_lines: bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while tcgetattr(terminal).unwrap().local_flags.contains(LocalFlags::ICANON) != edits_lines {
        assert!(Instant::now() < deadline, "the terminal stays as it is");
        std::thread::yield_now();
    }
}

#[test]
fn a_terminal_has_a_way_out_of_a_guest_that_does_not_listen_and_comes_back_as_it_was() {
    need_kvm!();
    let pty = openpty(None, None).unwrap();
    let before = tcgetattr(&pty.slave).unwrap();
    let guest = Guest::new().print("up\n").spin();
    let mut running =
        Monitor::start_typed_to(&guest, "[console]\ninput = \"stdin\"\n", pty.slave.try_clone().unwrap());
    running.wait_for_line("up");
    wait_for_terminal(&pty.slave, false);
    assert!(!tcgetattr(&pty.slave).unwrap().local_flags.contains(LocalFlags::ISIG), "Ctrl-C is the guest's");
    // Somebody leans on a key: more of them than are kept.
    let keys = [b"help\x03".as_slice(), &[b'k'; 1000], b"\x1d\x1d\x1d"].concat();
    File::from(pty.master.try_clone().unwrap()).write_all(&keys).unwrap();
    assert_eq!(running.end().status, Some(16));
    let after = tcgetattr(&pty.slave).unwrap();
    assert_eq!((after.local_flags, after.input_flags), (before.local_flags, before.input_flags));
}

#[test]
fn the_serial_port_is_typed_to_by_a_pipe_of_any_length() {
    need_kvm!();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let guest = Guest::new().echo_until(b'.').out(SLEEP_CONTROL, SOFT_OFF).halt();
    let running = Monitor::start_typed_to(&guest, "[serial]\ninput = \"stdin\"\n", reader.into());
    // More than the port holds, and one more than the guest takes.
    let typed = format!("{}.", "typed to ttyS0 ".repeat(20));
    writer.write_all(typed.as_bytes()).unwrap();
    let ended = running.end();
    assert_eq!((ended.status, ended.stdout, ended.stderr.as_str()), (Some(0), typed, ""));
}

#[test]
fn a_service_whose_standard_input_is_dev_null_has_no_complaint_about_it() {
    need_kvm!();
    let guest = Guest::new().print("up\n").out(SLEEP_CONTROL, SOFT_OFF).halt();
    for section in ["console", "serial"] {
        let ended = Monitor::with_more(&guest, &format!("[{section}]\ninput = \"stdin\"\n"));
        assert_eq!((ended.status, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "up\n", ""));
    }
}

#[test]
fn sixteen_vcpus_are_made_and_the_first_one_starts() {
    need_kvm!();
    let guest = Guest::new().print("one\n").out(SLEEP_CONTROL, SOFT_OFF).halt();
    let ended = Monitor::with_vcpus(&guest, 16);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), "one\n"));
}

#[test]
fn faults_of_the_configuration_are_one_line_each() {
    for (config, expected) in [
        ("", "vm.toml:1:1: boot.kernel: missing"),
        (
            "[machine]\nmemory_mib = 4\n[boot]\nkernel = \"k\"\n",
            "vm.toml:2:1: machine.memory_mib: expected at least 32 MiB, found 4",
        ),
        ("[boot]\nkernel = \"k\"\nkernal = 1\n", "vm.toml:3:1: boot.kernal: "),
        ("[boot]\nkernel = 5\n", "vm.toml:2:1: boot.kernel: expected"),
        ("[boot\n", "vm.toml:1:"),
    ] {
        let ended = Monitor::with_config(config);
        assert_eq!(ended.status, Some(2), "{config}");
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{} should hold {expected}", ended.stderr);
    }
}

#[test]
fn kernels_that_are_none_are_refused_in_one_line() {
    need_kvm!();
    let missing = "[boot]\nkernel = \"nowhere\"\n";
    let ended = Monitor::with_config(missing);
    assert_eq!(ended.status, Some(2));
    assert!(
        ended
            .stderr
            .starts_with("hearth-vmm: vm.toml:2:1: boot.kernel: nowhere: cannot be read: No such file"),
        "{}",
        ended.stderr
    );

    let itself = "[boot]\nkernel = \"vm.toml\"\n";
    let ended = Monitor::with_config(itself);
    assert_eq!((ended.status, ended.stderr.lines().count()), (Some(2), 1));
    assert!(
        ended.stderr.contains("not an x86_64 kernel (vmlinux, an ELF file, or bzImage)"),
        "{}",
        ended.stderr
    );
}

#[test]
fn faults_that_show_when_a_value_is_used_name_their_key() {
    need_kvm!();
    let boot = "[boot]\nkernel = \"guest.elf\"\n";
    for (more, expected) in [
        ("initrd = \"none\"\n", "vm.toml:3:1: boot.initrd: none: cannot be read: No such file"),
        ("[serial]\noutput = \"no/where\"\n", "vm.toml:4:1: serial.output: no/where: cannot be written"),
        (
            "[[block]]\nid = \"a\"\npath = \"none\"\n",
            "vm.toml:5:1: block[0].path: cannot be used as a disk: none: ",
        ),
        ("[vsock]\ncid = 3\nsocket = \"no/where\"\n", "vm.toml:5:1: vsock.socket: cannot listen on "),
    ] {
        let ended = Monitor::with_guest_and_config(&Guest::new().halt(), &format!("{boot}{more}"));
        assert_eq!((ended.status, ended.stderr.lines().count()), (Some(2), 1), "{}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{} should hold {expected}", ended.stderr);
    }
}

#[test]
fn a_kernel_larger_than_memory_is_refused() {
    need_kvm!();
    let ended = Monitor::run(&Guest::new().halt().at(0x1000_0000));
    assert_eq!(ended.status, Some(2));
    assert!(ended.stderr.contains("does not fit into 32 MiB of guest memory"), "{}", ended.stderr);
}

#[test]
fn the_command_line_explains_itself() {
    let help = monitor::invoke(&["--help"]);
    assert_eq!(help.status, Some(0));
    for outcome in hearth_vmm::Outcome::ALL {
        let row = format!("{} ", outcome.status());
        assert!(help.stdout.contains(&row), "{outcome} has no row in --help");
    }
    for wrong in
        [&["run"][..], &["walk"], &[], &["run", "a", "b"], &["--frob"], &["--log-level", "loud", "doctor"]]
    {
        let ended = monitor::invoke(wrong);
        assert_eq!((ended.status, ended.stderr.lines().count()), (Some(2), 1), "{wrong:?}: {}", ended.stderr);
    }
}

#[test]
fn the_doctor_reports_as_text_and_as_json() {
    let text = monitor::invoke(&["doctor"]);
    assert_eq!(text.status, Some(0));
    assert!(text.stdout.starts_with("kvm "));
    let json = monitor::invoke(&["doctor", "--json"]);
    assert!(json.stdout.starts_with("{\"kvm\":\"") && json.stdout.ends_with("]}\n"), "{}", json.stdout);
}

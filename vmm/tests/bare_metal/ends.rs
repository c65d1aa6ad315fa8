//! The ends of a monitor: what it says then, what it leaves behind, and who may hold it up.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use hearth_wire::control::{End, Order, Step};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;

use crate::client::{Client, PATIENCE, Told};
use crate::guest::Guest;
use crate::monitor::{self, Monitor};
use crate::{RESET, SLEEP_CONTROL, SOFT_OFF};

/// A pipe that takes no further byte, and its other end.
fn full_pipe() -> (std::io::PipeReader, OwnedFd) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let room = usize::try_from(fcntl(writer.as_fd(), FcntlArg::F_GETPIPE_SZ).unwrap()).unwrap();
    writer.write_all(&vec![b'.'; room]).unwrap();
    (reader, writer.into())
}

#[test]
fn messages_that_nobody_reads_do_not_hold_the_monitor_up() {
    need_kvm!();
    let (_reader, writer) = full_pipe();
    let running = Monitor::controlled_on(writer, &Guest::new().repeat_print(b'x', 150_000).spin());
    let mut client = Client::connect(running.folder());
    // What is dropped is told at the end, in a pipe that is full.
    while client.statistics()["serial"]["output_dropped"] == 0 {}
    running.signal(Signal::SIGTERM);
    let ended = running.end_before(Instant::now() + PATIENCE);
    assert_eq!(ended.status, Some(16));
    assert_eq!(ended.files_left, ["guest.elf", "vm.toml"]);
}

#[test]
fn a_terminal_that_goes_away_is_a_stop_and_leaves_nothing_behind() {
    need_kvm!();
    for signal in [Signal::SIGHUP, Signal::SIGQUIT] {
        let mut running = Monitor::controlled(&Guest::new().print("up\n").spin(), "");
        running.wait_for_line("up");
        running.signal(signal);
        let ended = running.end();
        assert_eq!(ended.status, Some(16), "{signal}");
        assert_eq!(ended.files_left, ["guest.elf", "vm.toml"], "{signal}");
    }
}

#[test]
fn who_asked_for_a_stop_is_answered_before_the_last_words_have_found_a_reader() {
    need_kvm!();
    // More than the pipe takes and less than what waits behind it.
    let guest = Guest::new()
        .print("up\n")
        .repeat_print(b'x', 100_000)
        .knock_times(20_000)
        .out(SLEEP_CONTROL, SOFT_OFF)
        .halt();
    let config = "[stop]\nagent_s = 0\nbutton_s = 3600\n[machine]\nmemory_mib = 32\n";
    let running = Monitor::controlled_with(&guest, config);
    let mut client = Client::connect(running.folder());
    let end = End { status: 16, how: Some(Step::Button) };
    assert_eq!(client.ask(Order::Stop { now: false }), Told::Ended(end));
    // Nobody has read anything so far: now it is still time for it.
    let ended = running.end();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(16), ""));
    assert_eq!(ended.stdout.len(), "up\n".len() + 100_000);
}

#[test]
fn what_a_rate_limit_holds_back_still_comes_out_at_the_end() {
    need_kvm!();
    let guest = Guest::new().repeat_print(b'x', 4000).out(SLEEP_CONTROL, SOFT_OFF).halt();
    let limit = "[serial]\nlimit = { bytes_per_second = 20000, bytes_burst = 1000 }\n";
    let ended = Monitor::with_more(&guest, limit);
    assert_eq!((ended.status, ended.stdout.len()), (Some(0), 4000), "{}", ended.stderr);
}

#[test]
fn a_full_file_that_cannot_be_put_aside_is_emptied_behind_the_filter_too() {
    need_kvm!();
    let guest = Guest::new().print("over\n").out(SLEEP_CONTROL, SOFT_OFF).halt();
    let mut running = Monitor::start_beside(&guest, "[serial]\noutput = \"guest.log\"\n", |folder| {
        // As large as it gets, and something else where it would go.
        File::create(folder.join("guest.log")).unwrap().set_len(16 << 20).unwrap();
        std::fs::create_dir(folder.join("guest.log.1")).unwrap();
    });
    running.wait_for_its_end();
    let printed = std::fs::read(running.folder().join("guest.log")).unwrap();
    let ended = running.end();
    assert_eq!((ended.status, printed.len()), (Some(0), 5), "{}", ended.stderr);
    assert_eq!(printed, b"over\n");
}

#[test]
fn a_reboot_that_fails_is_a_failure_of_the_host_and_told() {
    need_kvm!();
    let guest = Guest::new().print("up\n").knock_times(30_000).out(RESET, 1).halt();
    let config = "[stop]\nagent_s = 0\nbutton_s = 0\n[machine]\nmemory_mib = 32\non_reboot = \"restart\"\n";
    let mut running = Monitor::controlled_with(&guest, config);
    running.wait_for_line("up");
    let mut client = Client::connect(running.folder());
    assert_eq!(client.ask(Order::Subscribe), Told::Done);
    std::fs::remove_file(running.folder().join("guest.elf")).unwrap();
    let events = client.hear_to_the_end();
    assert_eq!(events, ["Started", "Rebooted 1", "Ended 1"]);
    let ended = running.end();
    assert_eq!(ended.status, Some(1));
    let said = "hearth-vmm: the guest rebooted and cannot be started again: vm.toml:";
    assert!(ended.stderr.starts_with(said) && ended.stderr.contains("boot.kernel"), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert_eq!(ended.files_left, ["vm.toml"]);
}

#[test]
fn a_bad_end_is_told_without_being_asked() {
    need_kvm!();
    let ended = Monitor::run(&Guest::new().undefined_instruction());
    assert!(ended.stderr.starts_with("hearth-vmm: ") && ended.stderr.lines().count() == 1, "{ended:?}");
    let ended = Monitor::run(&Guest::new().out(SLEEP_CONTROL, SOFT_OFF).halt());
    assert_eq!(ended.stderr, "", "nothing to complain of");
}

#[test]
fn a_kvm_that_interprets_is_named_while_the_guest_runs() {
    need_kvm!();
    let doctor = monitor::invoke(&["doctor", "--json"]);
    let mut running = Monitor::controlled(&Guest::new().spin(), "");
    if doctor.stdout.starts_with("{\"kvm\":\"emulating\"") {
        let line = running.first_complaint();
        assert!(line.starts_with("hearth-vmm: warning: this KVM interprets: "), "{line}");
    }
    running.signal(Signal::SIGTERM);
    assert_eq!(running.end().status, Some(16));
}

//! Pause, resume, stop, reboot and statistics, asked for on the control socket.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use hearth_wire::control::{End, LogLevel, Order, Phase, Refusal, Step};
use nix::sys::signal::Signal;

use crate::client::{Client, Told};
use crate::guest::Guest;
use crate::monitor::{self, Monitor};
use crate::{RESET, SLEEP_CONTROL, SOFT_OFF};

/// Rounds of pause and resume: enough to meet a vCPU at every place of its loop.
const ROUNDS: usize = 300;

fn exits(client: &mut Client) -> u64 {
    client.statistics()["vcpu0"]["io_out"]
}

#[test]
fn a_paused_guest_does_nothing_and_goes_on_where_it_was() {
    need_kvm!();
    let mut running = Monitor::controlled(&Guest::new().print("up\n").knock(), "");
    running.wait_for_line("up");
    let mut client = Client::connect(running.folder());
    let before = exits(&mut client);
    while exits(&mut client) == before {}
    assert_eq!(client.ask(Order::Pause), Told::Done);
    assert_eq!(client.status().phase, Phase::Paused);
    // Neither exits nor CPU time, but for the few microseconds in which a vCPU that was let out falls asleep.
    let mut paused = client.statistics();
    let mut calm = 0;
    for _ in 0..1000 {
        let again = client.statistics();
        assert_eq!(again["vcpu0"]["io_out"], paused["vcpu0"]["io_out"]);
        calm = if again["vcpu0"] == paused["vcpu0"] { calm + 1 } else { 0 };
        paused = again;
        if calm == 50 {
            break;
        }
    }
    assert_eq!(calm, 50, "{:?}", paused["vcpu0"]);
    assert_eq!(client.ask(Order::Pause), Told::Done, "it is");
    assert_eq!(client.ask(Order::Resume), Told::Done);
    assert_eq!(client.ask(Order::Resume), Told::Done, "it does");
    while exits(&mut client) == paused["vcpu0"]["io_out"] {}
    assert_eq!(client.status().phase, Phase::Running);
    let end = End { status: 16, how: Some(Step::Kill) };
    assert_eq!(client.ask(Order::Stop { now: false }), Told::Ended(end));
    assert_eq!(running.end().status, Some(16));
}

#[test]
fn no_kick_is_lost_however_often_and_whenever_it_comes() {
    need_kvm!();
    // One that is in the guest all the time, one that is out most of the time, and one that sleeps; beside
    // fifteen that never start.
    for guest in [Guest::new().spin(), Guest::new().knock(), Guest::new().halt()] {
        let running = Monitor::controlled(&guest, "");
        let mut client = Client::connect(running.folder());
        for round in 0..ROUNDS {
            assert_eq!(client.ask(Order::Pause), Told::Done, "{round}");
            // The next pause may come before anybody woke up from this one.
            let (resume, pause) = (client.send(Order::Resume), client.send(Order::Pause));
            assert_eq!(client.answer_to(resume), Told::Done, "{round}");
            assert_eq!(client.answer_to(pause), Told::Done, "{round}");
            assert_eq!(client.ask(Order::Resume), Told::Done, "{round}");
        }
        running.signal(Signal::SIGTERM);
        assert_eq!(running.end().status, Some(16));
    }
}

#[test]
fn sixteen_vcpus_rest_and_leave_together() {
    need_kvm!();
    let config = "[stop]\nagent_s = 0\nbutton_s = 0\n[machine]\nmemory_mib = 32\nvcpus = 16\n";
    let running = Monitor::controlled_with(&Guest::new().knock(), config);
    let mut client = Client::connect(running.folder());
    for _ in 0..20 {
        assert_eq!(client.ask(Order::Pause), Told::Done);
        assert_eq!(client.ask(Order::Resume), Told::Done);
    }
    assert!(client.statistics().contains_key("vcpu15"));
    assert!(matches!(client.ask(Order::Stop { now: true }), Told::Ended(_)));
    assert_eq!(running.end().status, Some(16));
}

#[test]
fn what_a_paused_guest_printed_comes_out_after_it_goes_on() {
    need_kvm!();
    let guest = Guest::new().repeat_print(b'x', 3000).print("\nlast\n").out(SLEEP_CONTROL, SOFT_OFF).halt();
    let running = Monitor::controlled(&guest, "");
    let mut client = Client::connect(running.folder());
    for _ in 0..20 {
        if client.ask(Order::Pause) != Told::Done || client.ask(Order::Resume) != Told::Done {
            break; // It has ended already.
        }
    }
    let ended = running.end();
    assert_eq!(ended.status, Some(0));
    assert_eq!(ended.stdout, format!("{}\nlast\n", "x".repeat(3000)));
}

#[test]
fn devices_work_again_after_every_pause() {
    need_kvm!();
    // The line is read while the guest runs: what the end of a machine empties does not count.
    let guest = Guest::new().print("up\n").knock_times(30_000).print("later\n").spin();
    let mut running = Monitor::controlled(&guest, "");
    running.wait_for_line("up");
    let mut client = Client::connect(running.folder());
    for _ in 0..3 {
        assert_eq!(client.ask(Order::Pause), Told::Done);
        assert_eq!(client.ask(Order::Resume), Told::Done);
    }
    running.wait_for_line("later");
    assert!(matches!(client.ask(Order::Stop { now: true }), Told::Ended(_)));
    assert_eq!(running.end().status, Some(16));
}

#[test]
fn a_deaf_guest_is_stopped_within_its_ladder_and_everybody_is_told() {
    need_kvm!();
    let config = "[stop]\nagent_s = 1\nbutton_s = 1\n[machine]\nmemory_mib = 32\n";
    let mut running = Monitor::controlled_with(&Guest::new().print("up\n").spin(), config);
    running.wait_for_line("up");
    let mut watcher = Client::connect(running.folder());
    assert_eq!(watcher.ask(Order::Subscribe), Told::Done);
    let mut client = Client::connect(running.folder());
    let end = End { status: 16, how: Some(Step::Kill) };
    assert_eq!(client.ask(Order::Stop { now: false }), Told::Ended(end));
    let events = watcher.hear_to_the_end();
    assert_eq!(events.first().unwrap(), "Started");
    assert_eq!(events[events.len() - 2..], ["Stopping Kill", "Ended 16 by Kill"], "{events:?}");
    assert_eq!(running.end().status, Some(16));
}

#[test]
fn a_paused_guest_can_be_stopped_by_signal_and_nothing_is_left_behind() {
    need_kvm!();
    let more = "[vsock]\ncid = 3\nsocket = \"vsock.sock\"\n";
    let running = Monitor::controlled(&Guest::new().knock(), more);
    let mut client = Client::connect(running.folder());
    let mode = running.folder().join("control.sock").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(client.ask(Order::Pause), Told::Done);
    running.signal(Signal::SIGTERM);
    let ended = running.end();
    assert_eq!(ended.status, Some(16));
    assert_eq!(ended.files_left, ["guest.elf", "vm.toml"]);
}

#[test]
fn a_guest_that_ends_by_itself_is_told_to_subscribers() {
    need_kvm!();
    let guest = Guest::new().print("up\n").knock_times(100_000).out(SLEEP_CONTROL, SOFT_OFF).halt();
    let running = Monitor::controlled(&guest, "");
    let (mut one, mut two) = (Client::connect(running.folder()), Client::connect(running.folder()));
    assert_eq!(one.ask(Order::Subscribe), Told::Done);
    assert_eq!(two.ask(Order::Subscribe), Told::Done);
    for client in [one, two] {
        assert_eq!(client.hear_to_the_end(), ["Started", "Ended 0"]);
    }
    assert_eq!(running.end().status, Some(0));
}

#[test]
fn a_reboot_starts_the_machine_again_in_the_same_process() {
    need_kvm!();
    // Long enough in each life for a client to be heard.
    let guest = Guest::new().print("boot\n").knock_times(15_000).out(RESET, 1).halt();
    let config = "[stop]\nagent_s = 0\nbutton_s = 0\n[machine]\nmemory_mib = 32\non_reboot = \"restart\"\n";
    let running = Monitor::controlled_with(&guest, config);
    let mut client = Client::connect(running.folder());
    assert_eq!(client.ask(Order::Subscribe), Told::Done);
    let events = client.hear_to_the_end();
    assert_eq!(events.first().unwrap(), "Started");
    assert!(events.ends_with(&["Rebooted 5".into(), "Started".into(), "Ended 10".into()]), "{events:?}");
    let ended = running.end();
    // A storm ends: five times in a row are enough.
    assert_eq!(ended.status, Some(10));
    assert_eq!(ended.stdout, "boot\n".repeat(6));
    assert!(ended.stderr.contains("again and again"), "{}", ended.stderr);
    assert_eq!(ended.files_left, ["guest.elf", "vm.toml"]);
}

#[test]
fn a_reboot_that_was_asked_for_is_a_stop() {
    need_kvm!();
    let guest = Guest::new().print("up\n").spin();
    let config = "[stop]\nagent_s = 0\nbutton_s = 0\n[machine]\nmemory_mib = 32\non_reboot = \"restart\"\n";
    let mut running = Monitor::controlled_with(&guest, config);
    running.wait_for_line("up");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.end().status, Some(16));
}

#[test]
fn nonsense_on_the_socket_does_not_touch_the_guest() {
    need_kvm!();
    let mut running = Monitor::controlled(&Guest::new().print("up\n").knock(), "");
    running.wait_for_line("up");
    for nonsense in [&[0xff; 600][..], &[0; 64], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut client = Client::connect(running.folder());
        client.stream.write_all(nonsense).unwrap();
        assert_eq!(client.answer_to(0), Told::Refused(Refusal::Malformed));
        assert_eq!(client.answer_to(0), Told::HungUp);
    }
    let mut client = Client::connect(running.folder());
    assert_eq!(client.ask(Order::BalloonTarget { mib: 1 }), Told::Refused(Refusal::Unsupported));
    assert_eq!(client.ask(Order::SetLogLevel(LogLevel::Error)), Told::Done);
    let status = client.status();
    assert_eq!((status.vcpus, status.memory_mib, status.log_level), (1, 32, LogLevel::Error));
    assert!(matches!(client.ask(Order::Stop { now: true }), Told::Ended(_)));
    assert_eq!(running.end().status, Some(16));
}

#[test]
fn a_second_monitor_does_not_take_a_living_ones_socket() {
    need_kvm!();
    let mut running = Monitor::controlled(&Guest::new().print("up\n").spin(), "");
    running.wait_for_line("up");
    let second = monitor::invoke(&["run", running.folder().join("vm.toml").to_str().unwrap()]);
    assert_eq!((second.status, second.stderr.lines().count()), (Some(2), 1), "{}", second.stderr);
    assert!(second.stderr.contains("control.socket: another program listens"), "{}", second.stderr);
    let mut client = Client::connect(running.folder());
    assert_eq!(client.status().phase, Phase::Running);
    running.signal(Signal::SIGINT);
    assert_eq!(running.end().status, Some(16));
}

#[test]
fn a_dead_monitors_socket_is_replaced() {
    need_kvm!();
    let mut running = Monitor::controlled(&Guest::new().print("up\n").spin(), "");
    running.wait_for_line("up");
    running.signal(Signal::SIGKILL);
    let mut again = running.start_again();
    again.wait_for_line("up");
    let mut client = Client::connect(again.folder());
    assert_eq!(client.status().phase, Phase::Running);
    again.signal(Signal::SIGTERM);
    let ended = again.end();
    assert_eq!((ended.status, ended.files_left), (Some(16), vec!["guest.elf".into(), "vm.toml".into()]));
}

#[test]
fn who_comes_in_the_middle_is_told_the_present_state_first() {
    need_kvm!();
    let config = "[stop]\nagent_s = 0\nbutton_s = 3600\n[machine]\nmemory_mib = 32\n";
    let running = Monitor::controlled_with(&Guest::new().knock(), config);
    let mut one = Client::connect(running.folder());
    assert_eq!(one.ask(Order::Pause), Told::Done);
    let (mut at_rest, mut at_the_end) =
        (Client::connect(running.folder()), Client::connect(running.folder()));
    assert_eq!(at_rest.ask(Order::Subscribe), Told::Done);
    one.send(Order::Stop { now: false });
    while at_the_end.status().phase != Phase::Stopping {}
    assert_eq!(at_the_end.ask(Order::Subscribe), Told::Done);
    running.signal(Signal::SIGTERM);
    assert_eq!(at_rest.hear_to_the_end()[..2], ["Paused", "Stopping Button"]);
    assert_eq!(at_the_end.hear_to_the_end()[..2], ["Stopping Button", "Stopping Kill"]);
    assert_eq!(running.end().status, Some(16));
}

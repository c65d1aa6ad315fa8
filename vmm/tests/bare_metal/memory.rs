//! What a machine's memory is, and who gives it back.

use hearth_wire::control::{Order, Refusal};

use crate::client::{Client, Told};
use crate::guest::Guest;
use crate::monitor::Monitor;
use crate::{SLEEP_CONTROL, SOFT_OFF};

#[test]
fn memory_around_the_hole_is_promised_and_not_taken() {
    need_kvm!();
    let config = "[stop]\nagent_s = 0\nbutton_s = 0\n[machine]\nmemory_mib = 5120\n";
    let running = Monitor::controlled_with(&Guest::new().spin(), config);
    let mut client = Client::connect(running.folder());
    let machine = client.statistics().remove("machine").unwrap();
    assert_eq!(machine["memory_bytes"], 5120 << 20);
    assert!((4096..32 << 20).contains(&machine["memory_in_use_bytes"]), "{machine:?}");
    assert!(matches!(client.ask(Order::Stop { now: true }), Told::Ended(_)));
    assert_eq!(running.end().status, Some(16));
}

#[test]
fn a_balloon_takes_targets_and_answers_even_if_the_guest_has_no_driver() {
    need_kvm!();
    let running = Monitor::controlled(&Guest::new().spin(), "[balloon]\ntarget_mib = 4\n");
    let mut client = Client::connect(running.folder());
    assert_eq!(client.ask(Order::BalloonTarget { mib: 32 }), Told::Refused(Refusal::BadValue));
    let balloon = |client: &mut Client| match client.ask(Order::BalloonStatistics) {
        Told::Figures(mut figures) => figures.remove("balloon").unwrap().into_iter().collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let figures = |target: u64| [("size_bytes".to_owned(), 0), ("target_bytes".to_owned(), target << 20)];
    assert_eq!(balloon(&mut client), figures(4));
    assert_eq!(client.ask(Order::BalloonTarget { mib: 31 }), Told::Done);
    assert_eq!(client.ask(Order::Pause), Told::Done);
    assert_eq!(balloon(&mut client), figures(31), "nor while it rests");
    assert_eq!(client.statistics()["balloon"]["target_bytes"], 31 << 20);
    assert!(matches!(client.ask(Order::Stop { now: true }), Told::Ended(_)));
    assert_eq!(running.end().status, Some(16));
}

#[test]
fn a_machine_without_a_balloon_says_so() {
    need_kvm!();
    let running = Monitor::controlled(&Guest::new().spin(), "");
    let mut client = Client::connect(running.folder());
    for order in [Order::BalloonTarget { mib: 1 }, Order::BalloonStatistics] {
        assert_eq!(client.ask(order), Told::Refused(Refusal::Unsupported));
    }
    assert!(matches!(client.ask(Order::Stop { now: true }), Told::Ended(_)));
}

#[test]
fn huge_pages_that_the_host_has_not_set_aside_are_told_in_one_line_and_others_are_used() {
    need_kvm!();
    let config = |mib| {
        format!(
            "[machine]\nmemory_mib = {mib}\nhuge_pages = true\n[boot]\nkernel = \"guest.elf\"\n[balloon]\n"
        )
    };
    let guest = Guest::new().print("up\n").out(SLEEP_CONTROL, SOFT_OFF).halt();
    let pool = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    let free: u32 = pool.ok().and_then(|pool| pool.trim().parse().ok()).unwrap_or(0);
    if free < 32768 {
        let ended = Monitor::with_guest_and_config(&guest, &config(65536));
        assert_eq!((ended.status, ended.stderr.lines().count()), (Some(2), 1), "{}", ended.stderr);
        let start = "hearth-vmm: vm.toml:3:1: machine.huge_pages: expected 32768 free huge pages of 2 MiB";
        assert!(ended.stderr.starts_with(start), "{}", ended.stderr);
    }
    if free >= 16 {
        let ended = Monitor::with_guest_and_config(&guest, &config(32));
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), "up\n"), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "the balloon gives nothing back: {}", ended.stderr);
    }
}

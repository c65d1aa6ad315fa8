//! The platform's devices, each worked by a few instructions, and what the monitor's exit status says of it.

use hearth_wire::control::Order;

use crate::client::{Client, Told};
use crate::guest::Guest;
use crate::monitor::Monitor;
use crate::{SLEEP_CONTROL, SOFT_OFF};

const PANIC: u16 = 0x505;
const IB700_STOP: u16 = 0x441;
const IB700_START: u16 = 0x443;
const WDAT_RUNNING: u16 = 0x620;
const WDAT_COUNT: u16 = 0x622;
const WATCHDOG: &str = "[watchdog]\n";

/// A power-off that nothing came before.
fn goes_on(guest: Guest) -> Guest {
    guest.print("alive\n").out(SLEEP_CONTROL, SOFT_OFF).halt()
}

#[test]
fn a_crash_that_the_kernel_reports_is_a_panic() {
    need_kvm!();
    let ended = Monitor::run(&goes_on(Guest::new().out(PANIC, 1)));
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(12), ""), "nothing runs after it");
}

#[test]
fn a_crash_kernel_that_takes_over_goes_on() {
    need_kvm!();
    let ended = Monitor::run(&goes_on(Guest::new().out(PANIC, 2)));
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), "alive\n"));
    assert!(ended.stderr.contains("its crash kernel takes over"), "{}", ended.stderr);
}

#[test]
fn a_guest_that_does_not_pet_its_watchdog_is_reported() {
    need_kvm!();
    let ib700 = Guest::new().print("up\n").out(IB700_START, 0xf).spin();
    // One period of a tenth of a second.
    let wdat =
        Guest::new().print("up\n").out(WDAT_COUNT, 1).out(WDAT_COUNT + 1, 0).out(WDAT_RUNNING, 1).halt();
    for (guest, name) in [(ib700, "IB700"), (wdat, "WDAT")] {
        let ended = Monitor::with_more(&guest, WATCHDOG);
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(13), "up\n"), "{name}");
        let line = format!("{name}: the guest did not pet its watchdog in time");
        assert!(ended.stderr.contains(&line), "{}", ended.stderr);
    }
}

#[test]
fn a_watchdog_that_was_stopped_in_time_does_nothing() {
    need_kvm!();
    let guest = Guest::new().out(IB700_START, 0).out(IB700_STOP, 0).out(WDAT_RUNNING, 1).out(WDAT_RUNNING, 0);
    let ended = Monitor::with_more(&goes_on(guest), WATCHDOG);
    assert_eq!((ended.status, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "alive\n", ""));
}

#[test]
fn a_machine_without_a_watchdog_has_nothing_at_its_ports() {
    need_kvm!();
    let ended = Monitor::run(&goes_on(Guest::new().out(IB700_START, 0xf)));
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), "alive\n"));
}

#[test]
fn a_watchdog_goes_on_counting_after_a_pause() {
    need_kvm!();
    // Two seconds. Its timer was off the event loop in between.
    let mut running = Monitor::controlled(&Guest::new().out(IB700_START, 0xe).print("up\n").halt(), WATCHDOG);
    running.wait_for_line("up");
    let mut client = Client::connect(running.folder());
    assert_eq!(client.ask(Order::Pause), Told::Done);
    assert_eq!(client.ask(Order::Resume), Told::Done);
    assert_eq!(running.end().status, Some(13));
}

#[test]
fn a_guest_that_halts_with_interrupts_off_is_reported_as_halted() {
    need_kvm!();
    // Three vCPUs that never start must not keep it alive.
    let ended = Monitor::with_vcpus(&Guest::new().print("the end\n").halt(), 4);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(11), "the end\n"));
}

#[test]
fn the_power_button_can_be_pressed_whether_or_not_anybody_listens() {
    need_kvm!();
    let mut running = Monitor::controlled(&Guest::new().print("up\n").halt(), "");
    running.wait_for_line("up");
    let mut client = Client::connect(running.folder());
    assert_eq!(client.ask(Order::PowerButton), Told::Done);
    assert!(matches!(client.ask(Order::Stop { now: true }), Told::Ended(_)));
    assert_eq!(running.end().status, Some(16));
}

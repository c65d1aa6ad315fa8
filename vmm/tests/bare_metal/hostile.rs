//! Guests that break their devices, on a real vCPU: what the models do in memory reaches them by way of exits, doorbells
//! of KVM and the event loop.

use std::time::Instant;

use hearth_wire::control::Order;

use super::{FIRST_VIRTIO_DEVICE, SLEEP_CONTROL, SOFT_OFF};
use crate::client::{Client, PATIENCE, Told};
use crate::guest::Guest;
use crate::monitor::Monitor;

const SECOND_VIRTIO_DEVICE: u32 = FIRST_VIRTIO_DEVICE + 0x1000;
const DRIVER_FEATURES: u32 = 0x20;
const DRIVER_FEATURES_SEL: u32 = 0x24;
const QUEUE_SEL: u32 = 0x30;
const QUEUE_SIZE: u32 = 0x38;
const QUEUE_READY: u32 = 0x44;
const QUEUE_NOTIFY: u32 = 0x50;
const STATUS: u32 = 0x70;
const QUEUE_DESC: u32 = 0x80;
const QUEUE_DRIVER: u32 = 0x90;
const QUEUE_DEVICE: u32 = 0xa0;

/// A driver that agrees on everything, makes a queue of seven descriptors, and calls itself ready.
fn broken_driver(guest: Guest, device: u32) -> Guest {
    guest
        .store(device + STATUS, 0)
        .store(device + STATUS, 1)
        .store(device + STATUS, 3)
        .store(device + DRIVER_FEATURES_SEL, 1)
        // VIRTIO_F_VERSION_1, in the upper half.
        .store(device + DRIVER_FEATURES, 1)
        .store(device + STATUS, 11)
        .store(device + QUEUE_SIZE, 7)
        .store(device + QUEUE_READY, 1)
        .store(device + STATUS, 15)
}

#[test]
fn a_guest_that_breaks_a_device_is_told_kicks_it_in_vain_and_goes_on_with_the_others() {
    need_kvm!();
    let guest = broken_driver(Guest::new(), FIRST_VIRTIO_DEVICE)
        // 64 for DEVICE_NEEDS_RESET and 15 for the rest is "O".
        .print_word_at(FIRST_VIRTIO_DEVICE + STATUS)
        .store(FIRST_VIRTIO_DEVICE + QUEUE_NOTIFY, 0)
        .store(FIRST_VIRTIO_DEVICE + STATUS, 0)
        .print_word_at(FIRST_VIRTIO_DEVICE + STATUS)
        .print_word_at(SECOND_VIRTIO_DEVICE)
        .out(SLEEP_CONTROL, SOFT_OFF)
        .halt();
    let ended = Monitor::with_disk_and_vsock(&guest);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), "O\0\0\0\0\0\0\0virt"));
    assert!(ended.stderr.contains("block `root`: the driver broke a ring"), "{}", ended.stderr);
}

/// Sends `chains` times 64 KiB of memory down queue 1 of `device` with one notification, and waits until all of them
/// are back.
fn flood(guest: Guest, device: u32, chains: u16) -> Guest {
    const TABLE: u32 = 0x20_0000;
    const AVAILABLE: u32 = TABLE + 0x1000;
    const USED: u32 = TABLE + 0x2000;
    const BYTES: u32 = 0x1_0000;
    let guest = guest
        .store(device + STATUS, 0)
        .store(device + STATUS, 1)
        .store(device + STATUS, 3)
        .store(device + DRIVER_FEATURES_SEL, 1)
        .store(device + DRIVER_FEATURES, 1)
        .store(device + STATUS, 11)
        .store(device + QUEUE_SEL, 1)
        .store(device + QUEUE_SIZE, 8)
        .store(device + QUEUE_DESC, TABLE)
        .store(device + QUEUE_DRIVER, AVAILABLE)
        .store(device + QUEUE_DEVICE, USED)
        .store(device + QUEUE_READY, 1);
    let guest = (0..u32::from(chains)).fold(guest, |guest, chain| {
        let descriptor = TABLE + 16 * chain;
        guest.store(descriptor, TABLE + BYTES).store(descriptor + 8, BYTES)
    });
    let heads = (0..chains).step_by(2).fold(guest, |guest, head| {
        guest.store(AVAILABLE + 4 + 2 * u32::from(head), u32::from(head) | u32::from(head + 1) << 16)
    });
    heads
        .store(AVAILABLE, u32::from(chains) << 16)
        .store(device + STATUS, 15)
        .store(device + QUEUE_NOTIFY, 1)
        .wait_for_half(USED + 2, chains)
}

#[test]
fn a_console_that_nobody_reads_and_no_limit_slows_costs_its_guest_a_wait_and_not_its_life() {
    need_kvm!();
    // Twice what a pipe and the buffer before it take.
    let guest = flood(Guest::new(), FIRST_VIRTIO_DEVICE, 4).out(SLEEP_CONTROL, SOFT_OFF).halt();
    let running = Monitor::controlled(&guest, "[serial]\noutput = \"off\"\n[console]\n");
    let ended = running.end_before(Instant::now() + PATIENCE);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("console: ") && ended.stderr.contains("dropped"), "{}", ended.stderr);
}

#[test]
fn whoever_looks_after_a_machine_hears_of_a_device_that_its_guest_broke() {
    need_kvm!();
    let guest = broken_driver(Guest::new(), FIRST_VIRTIO_DEVICE).again_and_again();
    let running = Monitor::controlled(&guest, "[rng]\n");
    let mut client = Client::connect(running.folder());
    assert_eq!(client.ask(Order::Subscribe), Told::Done);
    let (wanted, deadline) = ("DeviceNeedsReset { device: \"rng\" }", Instant::now() + PATIENCE);
    while !client.events.iter().any(|event| event == wanted) {
        assert!(Instant::now() < deadline, "{:?}", client.events);
        client.status();
    }
    assert!(matches!(client.ask(Order::Stop { now: true }), Told::Ended(_)));
    let ended = running.end();
    assert_eq!(ended.status, Some(16));
    // A guest that goes on and on fills no log.
    assert!(ended.stderr.lines().count() < 100, "{}", ended.stderr);
}

#[test]
fn nonsense_in_every_register_and_beside_them_ends_nothing() {
    need_kvm!();
    let mut guest = Guest::new();
    for device in [FIRST_VIRTIO_DEVICE, SECOND_VIRTIO_DEVICE, SECOND_VIRTIO_DEVICE + 0x1000] {
        for offset in (0..0x140).step_by(4) {
            guest = guest.store(device + offset, 0xffff_ffff).store_byte(device + offset + 1, 0xa5);
        }
        // Doorbells before any driver is ready, and of queues that there are not.
        guest = (0..9).fold(guest, |guest, queue| guest.store(device + QUEUE_NOTIFY, queue));
        guest = guest.store(device + 0xffe, 7).store(device + STATUS, 0);
    }
    let guest = guest
        .print_word_at(FIRST_VIRTIO_DEVICE)
        .print_word_at(SECOND_VIRTIO_DEVICE)
        .print_word_at(FIRST_VIRTIO_DEVICE + STATUS)
        .out(SLEEP_CONTROL, SOFT_OFF)
        .halt();
    let ended = Monitor::with_disk_and_vsock(&guest);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), "virtvirt\0\0\0\0"));
}

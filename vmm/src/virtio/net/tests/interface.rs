//! Real TAP interfaces, in a network namespace of their own: nothing of the host's network is touched, and
//! nothing is left.
//!
//! A test calls itself again under `unshare`, because a namespace of a user's own cannot be entered by one thread
//! of many. Where the host forbids namespaces or has no TAP interfaces, the test says so and passes.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use event_manager::{EventManager, MutEventSubscriber, SubscriberId, SubscriberOps};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::*;
use crate::machine::BusDevice;
use crate::virtio::mmio::{Doorbells, Transport, registers};

/// Set for the test that was called again.
const INSIDE: &str = "HEARTH_TEST_INSIDE_NAMESPACE";
/// How long an event may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(10);
const NAME: &str = "hearth0";
const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const BROADCAST: [u8; 6] = [0xff; 6];
const PORT: u16 = 4000;

/// Whether this is the test inside its namespace. Outside, runs it there.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let allowed = Command::new("unshare").args(["-rn", "true"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no network namespace of one's own on this host");
        return false;
    }
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/net/tun") {
        eprintln!("skipped: /dev/net/tun: {error}");
        return false;
    }
    let output = Command::new("unshare")
        .arg("-rn")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("virtio::net::tests::interface::{test}"), "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

fn checksum(words: impl Iterator<Item = u16>) -> u16 {
    let mut sum: u32 = words.map(u32::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
}

/// A UDP datagram from the guest, with the virtio header that Linux would send: the checksum is left to the host,
/// and with `segment` the cutting, too.
fn datagram(payload: &[u8], segment: Option<u16>) -> Vec<u8> {
    let mut frame = vec![1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0];
    if let Some(segment) = segment {
        frame[1] = 5;
        frame[2] = 42;
        frame[4..6].copy_from_slice(&segment.to_le_bytes());
    }
    frame.extend([&BROADCAST[..], &GUEST_MAC, &[8, 0]].concat());
    let udp_bytes = u16::try_from(8 + payload.len()).unwrap();
    let mut ip = vec![0x45, 0];
    ip.extend((20 + udp_bytes).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend(GUEST.octets());
    ip.extend(HOST.octets());
    let sum = !checksum(words(&ip));
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(&ip);
    frame.extend([PORT.to_be_bytes(), PORT.to_be_bytes(), udp_bytes.to_be_bytes()].concat());
    // Of the pseudo header, not inverted: the rest is the host's part.
    let pseudo = words(&ip[12..20]).chain([17, udp_bytes]);
    frame.extend(checksum(pseudo).to_be_bytes());
    frame.extend(payload);
    frame
}

/// Payloads of different bytes.
fn payload(bytes: usize) -> Vec<u8> {
    frame(9, bytes).split_off(HEADER)
}

type Card = Transport<NetDevice<Tap>>;

/// A guest with a real interface, and a real event loop in between.
struct House {
    driver: Driver,
    transport: Arc<Card>,
    events: EventManager<Box<dyn MutEventSubscriber>>,
    doorbells: SubscriberId,
    bells: Vec<EventFd>,
    /// What the guest received and no test has asked for.
    heard: Vec<Received>,
}

impl House {
    fn new() -> Self {
        let tap = Tap::attach(NAME).unwrap();
        Tap::give_host_address(NAME, HOST);
        let host_end = tap.host_end();
        let card = super::Card { mac: Mac(GUEST_MAC), receive: Limit::default(), send: Limit::default() };
        let driver = Driver::new(256);
        let interrupt = EventFd::new(EFD_NONBLOCK).unwrap();
        let transport =
            Arc::new(Transport::new("net", NetDevice::new(tap, card), driver.ram.clone(), interrupt));
        let bells: Vec<_> = (0..2).map(|_| EventFd::new(EFD_NONBLOCK).unwrap()).collect();
        let clones = bells.iter().map(|bell| bell.try_clone().unwrap()).collect();
        let mut events = EventManager::new().unwrap();
        let served: Box<dyn MutEventSubscriber> =
            Box::new(Doorbells::new(transport.clone(), clones).unwrap().with_host_end(host_end));
        let doorbells = events.add_subscriber(served);
        Self { driver, transport, events, doorbells, bells, heard: Vec::new() }
    }

    fn write(&self, register: u64, value: u64) {
        self.transport.write(register, &u32::try_from(value).unwrap().to_le_bytes());
    }

    /// Sets the device up as a driver does, and rings no doorbell.
    fn start(&self, features: u64) {
        self.write(registers::STATUS, 1);
        self.write(registers::STATUS, 3);
        for half in 0..2 {
            self.write(registers::DRIVER_FEATURES_SEL, half);
            self.write(registers::DRIVER_FEATURES, features >> (32 * half) & 0xffff_ffff);
        }
        self.write(registers::STATUS, 11);
        for (index, queue) in [(0, &self.driver.receive), (1, &self.driver.send)] {
            self.write(registers::QUEUE_SEL, index);
            self.write(registers::QUEUE_SIZE, 256);
            self.write(registers::QUEUE_DESC.0, queue.descriptors().0);
            self.write(registers::QUEUE_DRIVER.0, queue.available().0);
            self.write(registers::QUEUE_DEVICE.0, queue.used_ring().0);
            self.write(registers::QUEUE_READY, 1);
        }
        self.write(registers::STATUS, 15);
        self.rest_check();
    }

    fn rest_check(&self) {
        let mut status = [0; 4];
        self.transport.read(registers::STATUS, &mut status);
        assert_eq!(status[0], 15, "the device works");
    }

    fn offer(&mut self, count: usize, bytes: u32) {
        for _ in 0..count {
            self.driver.offer(&[bytes]);
        }
        self.bells[RECEIVE_QUEUE].write(1).unwrap();
        self.turns();
    }

    fn send(&mut self, frame: &[u8]) {
        self.driver.queue(frame, &[frame.len()]);
        self.bells[SEND_QUEUE].write(1).unwrap();
        self.turns();
        assert_eq!(self.driver.send.used().len(), 1);
    }

    /// Turns the event loop until it would sleep; that it comes to that is part of every test.
    fn turns(&mut self) {
        for _ in 0..10_000 {
            if self.events.run_with_timeout(0).unwrap() == 0 {
                self.heard.extend(self.driver.received());
                return;
            }
        }
        panic!("the event loop does not come to rest");
    }

    /// The next frame for the guest that `wanted` likes. The host says more than a test asks for.
    fn hear(&mut self, wanted: impl Fn(&[u8]) -> bool) -> Received {
        let start = Instant::now();
        loop {
            if let Some(place) = self.heard.iter().position(|frame| wanted(&frame.bytes)) {
                return self.heard.remove(place);
            }
            assert!(start.elapsed() < DEADLINE, "no such frame");
            self.events.run_with_timeout(100).unwrap();
            self.heard.extend(self.driver.received());
        }
    }

    /// Tells the host where the guest is: answers its question. Says where the host is.
    fn answer_arp(&mut self) -> [u8; 6] {
        let request = self.hear(|frame| frame[24..26] == [8, 6] && frame[50..54] == GUEST.octets()).bytes;
        let host_mac = &request[34..40];
        let reply = [
            &[0; HEADER][..],
            host_mac,
            &GUEST_MAC,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2],
            &GUEST_MAC,
            &GUEST.octets(),
            host_mac,
            &HOST.octets(),
        ];
        self.send(&reply.concat());
        host_mac.try_into().unwrap()
    }

    fn counter(&self, name: &str) -> u64 {
        let mut found = 0;
        self.transport.counters(&mut |counter, value| found += if counter == name { value } else { 0 });
        found
    }
}

fn host_socket() -> UdpSocket {
    let socket = UdpSocket::bind((HOST, PORT)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

fn is_udp_for_guest(frame: &[u8]) -> bool {
    frame[24..26] == [8, 0] && frame[35] == 17 && frame[42..46] == GUEST.octets()
}

#[test]
fn datagrams_cross_a_real_interface_in_both_directions() {
    if !inside("datagrams_cross_a_real_interface_in_both_directions") {
        return;
    }
    let mut house = House::new();
    house.start(LINUX);
    house.offer(200, 1526);
    let socket = host_socket();
    let mut buffer = [0; 70_000];

    house.send(&datagram(&payload(1200), None));
    let (bytes, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from, (GUEST, PORT).into());
    assert_eq!(buffer[..bytes], payload(1200), "the host finished the checksum");

    socket.send_to(&payload(1000), (GUEST, PORT)).unwrap();
    house.answer_arp();
    let received = house.hear(is_udp_for_guest);
    assert_eq!(received.bytes[54..], payload(1000));
    assert_eq!(received.bytes[0] & 1, 1, "the checksum is left to the guest");

    // One datagram, many frames.
    let large = payload(60_000);
    socket.send_to(&large, (GUEST, PORT)).unwrap();
    let mut whole = Vec::<u8>::new();
    while whole.len() < large.len() + 8 {
        whole.extend(house.hear(is_udp_for_guest).bytes.split_off(46));
    }
    assert!(whole[8..] == large);
    assert_eq!(house.counter("send_errors") + house.counter("receive_errors"), 0);
}

#[test]
fn what_the_guest_leaves_uncut_is_cut_by_the_host() {
    if !inside("what_the_guest_leaves_uncut_is_cut_by_the_host") {
        return;
    }
    let mut house = House::new();
    if house.transport.model(|card| card.features()) & offload::HOST_USO == 0 {
        eprintln!("skipped: this kernel does not cut UDP");
        return;
    }
    house.start(LINUX | offload::UDP);
    let socket = host_socket();
    house.send(&datagram(&payload(4500), Some(1000)));
    let mut buffer = [0; 2000];
    let mut whole = Vec::<u8>::new();
    for bytes in [1000, 1000, 1000, 1000, 500] {
        assert_eq!(socket.recv(&mut buffer).unwrap(), bytes);
        whole.extend(&buffer[..bytes]);
    }
    assert!(whole == payload(4500));
}

/// A TCP segment from the guest to `port` of the host; the checksum is left to the host.
fn segment(mac: [u8; 6], port: u16, sequence: u32, acknowledged: u32, flags: u8, options: &[u8]) -> Vec<u8> {
    let bytes = u16::try_from(20 + options.len()).unwrap();
    let mut frame = vec![1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0];
    frame.extend([&mac[..], &GUEST_MAC, &[8, 0]].concat());
    let mut ip = vec![0x45, 0];
    ip.extend((20 + bytes).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 6, 0, 0]);
    ip.extend(GUEST.octets());
    ip.extend(HOST.octets());
    let sum = !checksum(words(&ip));
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(&ip);
    frame.extend([PORT.to_be_bytes(), port.to_be_bytes()].concat());
    frame.extend([sequence.to_be_bytes(), acknowledged.to_be_bytes()].concat());
    frame.extend([u8::try_from(bytes / 4 * 16).unwrap(), flags, 0xff, 0xff]);
    let pseudo = words(&ip[12..20]).chain([6, bytes]);
    frame.extend(checksum(pseudo).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(options);
    frame
}

#[test]
fn what_the_host_leaves_uncut_reaches_the_guest_over_several_buffers() {
    if !inside("what_the_host_leaves_uncut_reaches_the_guest_over_several_buffers") {
        return;
    }
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    let mut house = House::new();
    house.start(LINUX);
    house.offer(200, 1526);
    // The host's program connects on its own; the test is the guest's TCP.
    let message = payload(12_000);
    let said = message.clone();
    let program = std::thread::spawn(move || {
        let mut stream = TcpStream::connect((GUEST, PORT)).unwrap();
        stream.write_all(&said).unwrap();
        stream
    });
    let mac = house.answer_arp();
    let is_tcp = |frame: &[u8]| frame[24..26] == [8, 0] && frame[35] == 6;
    let word = |frame: &[u8], at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
    let syn = house.hear(|frame| is_tcp(frame) && frame[59] & SYN != 0).bytes;
    let port = u16::from_be_bytes([syn[46], syn[47]]);
    let first = word(&syn, 50).wrapping_add(1);
    let largest_segment = [2, 4, 5, 0xb4];
    house.send(&segment(mac, port, 7000, first, SYN | ACK, &largest_segment));
    let mut whole = Vec::<u8>::new();
    let mut uncut = 0;
    while whole.len() < message.len() {
        let expected = first.wrapping_add(u32::try_from(whole.len()).unwrap());
        let received = house.hear(|frame| is_tcp(frame) && frame.len() > 66 && word(frame, 50) == expected);
        let Received { bytes, chains } = received;
        if bytes.len() > 1526 {
            uncut += 1;
            assert!(chains > 1);
            assert_eq!((bytes[0] & 1, bytes[1]), (1, 1), "TCPv4, checksum to be finished");
            assert_eq!(u16::from_le_bytes([bytes[4], bytes[5]]), 1460);
        }
        let headers = 46 + usize::from(bytes[58] >> 4) * 4;
        whole.extend(&bytes[headers..]);
        let seen = first.wrapping_add(u32::try_from(whole.len()).unwrap());
        house.send(&segment(mac, port, 7001, seen, ACK, &[]));
    }
    assert!(whole == message);
    assert!(uncut > 0, "the host handed over more than a segment at a time");
    drop(program.join().unwrap());
}

#[test]
fn a_guest_without_buffers_costs_nothing_and_hears_what_is_left_when_it_has_some() {
    if !inside("a_guest_without_buffers_costs_nothing_and_hears_what_is_left_when_it_has_some") {
        return;
    }
    let mut house = House::new();
    house.start(LINUX);
    house.offer(20, 1526);
    let socket = host_socket();
    socket.send_to(b"who", (GUEST, PORT)).unwrap();
    house.answer_arp();
    house.hear(is_udp_for_guest);
    // More than the interface's queue holds, and far more than the guest's.
    for _ in 0..3000 {
        socket.send_to(&payload(100), (GUEST, PORT)).unwrap();
    }
    house.turns();
    let (before, dropped) = (house.counter("received_frames"), house.counter("receive_dropped"));
    house.turns();
    assert_eq!(house.counter("received_frames"), before);
    for _ in 0..3 {
        house.offer(200, 1526);
    }
    assert!(house.counter("received_frames") >= before + 400, "{}", house.counter("received_frames"));
    assert_eq!(house.counter("receive_dropped"), dropped, "what was too much was dropped by the host");
}

#[test]
fn a_queue_that_was_full_before_the_driver_was_there_stops_nothing() {
    if !inside("a_queue_that_was_full_before_the_driver_was_there_stops_nothing") {
        return;
    }
    let mut house = House::new();
    let socket = host_socket();
    socket.set_broadcast(true).unwrap();
    for _ in 0..3000 {
        socket.send_to(&payload(100), (Ipv4Addr::new(10, 255, 255, 255), PORT)).unwrap();
    }
    // The news of it is heard while there is nobody to tell.
    house.turns();
    // And the driver rings no doorbell for what it offered before it was ready.
    for _ in 0..100 {
        house.driver.offer(&[1526]);
    }
    house.start(LINUX);
    house.turns();
    assert!(house.counter("receive_dropped") >= 500, "old frames are not for it");
    socket.send_to(b"new", (GUEST, PORT)).unwrap();
    house.answer_arp();
    assert_eq!(house.hear(is_udp_for_guest).bytes[54..57], *b"new");
}

#[test]
fn frames_that_come_during_a_pause_are_heard_after_it() {
    if !inside("frames_that_come_during_a_pause_are_heard_after_it") {
        return;
    }
    let mut house = House::new();
    house.start(LINUX);
    house.offer(100, 1526);
    let socket = host_socket();
    socket.send_to(b"before", (GUEST, PORT)).unwrap();
    house.answer_arp();
    house.hear(is_udp_for_guest);
    for round in 0..2 {
        house.turns();
        let doorbells = house.events.remove_subscriber(house.doorbells).unwrap();
        socket.send_to(b"during", (GUEST, PORT)).unwrap();
        house.turns();
        assert!(!house.heard.iter().any(|frame| is_udp_for_guest(&frame.bytes)), "round {round}");
        house.doorbells = house.events.add_subscriber(doorbells);
        assert_eq!(house.hear(is_udp_for_guest).bytes[54..60], *b"during");
        socket.send_to(b"after", (GUEST, PORT)).unwrap();
        assert_eq!(house.hear(is_udp_for_guest).bytes[54..59], *b"after");
    }
}

#[test]
fn an_interface_of_ours_vanishes_and_one_of_the_hosts_stays() {
    if !inside("an_interface_of_ours_vanishes_and_one_of_the_hosts_stays") {
        return;
    }
    let there = || Tap::is_up_for_tests(NAME);
    Tap::examine(NAME).unwrap();
    assert!(matches!(Tap::examine("lo"), Err(TapError::NotTap { .. })));
    assert_eq!(there(), None, "looking makes nothing");
    let tap = Tap::attach(NAME).unwrap();
    assert_eq!(there(), Some(true), "brought up, as nobody else knows of it");
    assert_eq!(tap.mtu(), Some(1500));
    assert!(matches!(Tap::attach(NAME), Err(TapError::Busy { .. })));
    drop(tap);
    assert_eq!(there(), None);

    Tap::leave_behind_for_tests(NAME);
    assert_eq!(there(), Some(false));
    drop(Tap::attach(NAME).unwrap());
    assert_eq!(there(), Some(false), "as it was found");
    assert!(matches!(Tap::attach("lo"), Err(TapError::NotTap { .. })));
}

#[test]
fn an_interface_of_ours_outlives_a_machine_and_one_that_was_taken_away_is_made_again() {
    if !inside("an_interface_of_ours_outlives_a_machine_and_one_that_was_taken_away_is_made_again") {
        return;
    }
    let there = || Tap::is_up_for_tests(NAME);
    let has_address = || UdpSocket::bind((HOST, 0)).is_ok();
    let mut attached = Attached::default();
    drop(attached.tap(NAME).unwrap());
    // As somebody does who puts it into a bridge.
    Tap::give_host_address(NAME, HOST);
    let mut again = attached.tap(NAME).unwrap();
    assert!(has_address(), "not made anew");
    again.agree(Offloads::agreed(u64::MAX)).unwrap();
    drop(again);
    let deleted = Command::new("ip").args(["link", "del", NAME]).status();
    if deleted.is_ok_and(|status| status.success()) {
        assert_eq!(there(), None);
        drop(attached.tap(NAME).unwrap());
        assert_eq!((there(), has_address()), (Some(true), false));
    }
    drop(attached);
    assert_eq!(there(), None);
}

#[test]
fn an_interface_that_is_down_or_taken_away_loses_frames_and_stops_nothing() {
    if !inside("an_interface_that_is_down_or_taken_away_loses_frames_and_stops_nothing") {
        return;
    }
    let mut house = House::new();
    house.start(LINUX);
    house.offer(8, 1526);
    let set = |state: &[&str]| {
        let done = Command::new("ip").args(["link"]).args(state).status();
        done.is_ok_and(|status| status.success())
    };
    if !set(&["set", NAME, "down"]) {
        eprintln!("skipped: no `ip` on this host");
        return;
    }
    house.send(&datagram(b"lost", None));
    assert_eq!(house.counter("send_errors"), 1);
    assert!(set(&["del", NAME]));
    house.turns();
    house.send(&datagram(b"lost too", None));
    house.turns();
    assert_eq!(house.counter("send_errors"), 2);
    house.rest_check();
}

#[test]
fn a_name_that_is_no_interfaces_is_refused_in_one_line() {
    let refusal = Tap::attach("sixteen-bytes-0x").unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "`sixteen-bytes-0x` is too long for an interface, expected at most 15 bytes"
    );
}

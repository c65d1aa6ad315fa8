//! What works between a guest and a host that both keep the rules.

use std::time::Instant;

use super::super::credit::BUFFER;
use super::super::packet::{SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use super::*;

fn shutdown(guest: &mut World, ports: Ports, flags: u32) {
    guest.send(Header { flags, ..World::header(ports, Operation::Shutdown) }, &[]);
}

fn credit(guest: &mut World, ports: Ports, buffer: u32, forwarded: u32) {
    guest.send(Header { buffer, forwarded, ..World::header(ports, Operation::CreditUpdate) }, &[]);
}

#[test]
fn guest_connects_and_bytes_flow_both_ways() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    guest.data(PORTS, b"hello from the guest");
    assert_eq!(program.read(100), b"hello from the guest");
    program.write(b"hello from the host");
    guest.settle(&host);
    let packet = guest.expect(Operation::Data);
    assert_eq!(packet.payload, b"hello from the host");
    assert_eq!(packet.header.forwarded, 20, "the host has what the guest sent");
    assert_eq!(packet.header.buffer, BUFFER);
    assert!(guest.interrupts.take().contains(&0));
}

#[test]
fn host_connects_and_is_told_the_port_that_the_guest_sees() {
    let (mut guest, host) = World::with_host();
    let (program, ports) = guest.offer(&host, 77);
    assert_eq!(program.read(100), b"", "not before the guest has accepted");
    guest.say(ports, Operation::Response);
    assert_eq!(program.read(100), format!("OK {}\n", ports.host).as_bytes());
    guest.data(ports, b"welcome");
    assert_eq!(program.read(100), b"welcome");
    program.write(b"thanks");
    guest.settle(&host);
    assert_eq!(guest.expect(Operation::Data).payload, b"thanks");
}

#[test]
fn bytes_that_a_host_sends_before_the_answer_wait_for_it() {
    let (mut guest, host) = World::with_host();
    let (program, ports) = guest.offer(&host, 77);
    program.write(b"early");
    guest.settle(&host);
    assert_eq!(guest.receive(), []);
    guest.say(ports, Operation::Response);
    assert_eq!(guest.expect(Operation::Data).payload, b"early");
}

#[test]
fn nobody_listens_and_the_guest_hears_rst() {
    let (mut guest, _host) = World::with_host();
    guest.say(PORTS, Operation::Request);
    let reset = guest.expect(Operation::Reset);
    assert_eq!((reset.header.source_port, reset.header.destination_port), (PORTS.host, PORTS.guest));
    assert_eq!(guest.device.connections(), 0);
}

#[test]
fn guest_that_refuses_an_offer_closes_the_hosts_stream() {
    let (mut guest, host) = World::with_host();
    let (program, ports) = guest.offer(&host, 77);
    guest.say(ports, Operation::Reset);
    assert!(program.is_dropped());
    assert_eq!(guest.receive(), []);
    assert_eq!(guest.device.connections(), 0);
}

#[test]
fn host_that_gives_up_on_an_offer_resets_it() {
    let (mut guest, host) = World::with_host();
    let (program, _) = guest.offer(&host, 77);
    program.close();
    guest.settle(&host);
    guest.expect(Operation::Reset);
    assert_eq!(guest.device.connections(), 0);
}

#[test]
fn an_offer_that_ends_before_the_guest_heard_of_it_leaves_no_trace() {
    let host = FakeHost::default();
    let mut guest = World::asleep(host.clone());
    guest.start();
    let program = Program::new();
    guest.device.offer(FakeStream(program.clone()), 77).unwrap();
    program.close();
    guest.settle(&host);
    assert!(program.is_dropped());
    guest.offer_receive_buffers(usize::MAX);
    guest.notify(0);
    assert_eq!(guest.receive(), []);
}

#[test]
fn a_guest_that_accepts_before_it_is_asked_is_not_asked_any_more() {
    let mut guest = World::asleep(FakeHost::default());
    guest.start();
    let program = Program::new();
    guest.device.offer(FakeStream(program.clone()), 77).unwrap();
    guest.say(Ports { host: 1 << 30, guest: 77 }, Operation::Response);
    assert!(program.read(100).starts_with(b"OK "));
    guest.offer_receive_buffers(usize::MAX);
    guest.notify(0);
    assert_eq!(guest.receive(), []);
}

#[test]
fn half_close_by_the_host_leaves_the_guest_sending() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    program.write(b"last words");
    program.close_write();
    guest.settle(&host);
    let packets = guest.receive();
    assert_eq!(packets[0].payload, b"last words");
    assert_eq!(packets[1].header.operation, Operation::Shutdown);
    assert_eq!(packets[1].header.flags, SHUTDOWN_SEND);
    assert_eq!(packets.len(), 2);
    guest.data(PORTS, b"still here");
    assert_eq!(program.read(100), b"still here");
    shutdown(&mut guest, PORTS, SHUTDOWN_SEND | SHUTDOWN_RECEIVE);
    guest.expect(Operation::Reset);
    assert!(program.is_dropped());
}

#[test]
fn half_close_by_the_guest_leaves_the_host_sending() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    guest.data(PORTS, b"last words");
    shutdown(&mut guest, PORTS, SHUTDOWN_SEND);
    assert_eq!(program.read(100), b"last words");
    assert!(!program.pipe().device_writes, "the host sees the end");
    program.write(b"still here");
    guest.settle(&host);
    assert_eq!(guest.expect(Operation::Data).payload, b"still here");
    // When the host closes too, the stream is closed both ways and the guest hears that all is over.
    program.close_write();
    guest.settle(&host);
    let last = guest.receive().pop().unwrap().header;
    assert_eq!((last.operation, last.flags), (Operation::Shutdown, SHUTDOWN_SEND | SHUTDOWN_RECEIVE));
    guest.say(PORTS, Operation::Reset);
    assert_eq!(guest.device.connections(), 0);
}

#[test]
fn guest_that_receives_no_more_is_sent_nothing() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    shutdown(&mut guest, PORTS, SHUTDOWN_RECEIVE);
    assert!(!program.pipe().device_reads);
    program.write(b"nobody reads this");
    guest.settle(&host);
    assert_eq!(guest.receive(), []);
    guest.data(PORTS, b"but I send");
    assert_eq!(program.read(100), b"but I send");
    program.close();
    guest.settle(&host);
    assert_eq!(guest.expect(Operation::Shutdown).header.flags, SHUTDOWN_SEND | SHUTDOWN_RECEIVE);
}

#[test]
fn bytes_sent_before_the_host_is_heard_of_again_do_not_overtake() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    program.set_room(10);
    guest.data(PORTS, &pattern(0, 25));
    let mut seen = program.read(10);
    // There is room now, and the device does not know it yet.
    guest.data(PORTS, &pattern(25, 5));
    for _ in 0..3 {
        guest.settle(&host);
        seen.extend(program.read(10));
    }
    assert_eq!(seen, pattern(0, 30));
}

#[test]
fn the_half_is_closed_only_after_what_the_guest_sent_before() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    program.set_room(10);
    guest.data(PORTS, &pattern(0, 25));
    shutdown(&mut guest, PORTS, SHUTDOWN_SEND);
    let mut seen = Vec::new();
    for _ in 0..2 {
        assert!(program.pipe().device_writes);
        seen.extend(program.read(10));
        guest.settle(&host);
    }
    seen.extend(program.read(10));
    assert_eq!(seen, pattern(0, 25));
    assert!(!program.pipe().device_writes);
}

#[test]
fn what_a_gone_guest_socket_sent_still_reaches_a_slow_host() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    program.set_room(10);
    guest.data(PORTS, &pattern(0, 25));
    shutdown(&mut guest, PORTS, SHUTDOWN_SEND | SHUTDOWN_RECEIVE);
    assert_eq!(guest.receive(), [], "no RST before all is delivered");
    let mut seen = Vec::new();
    for _ in 0..2 {
        assert!(!program.is_dropped());
        seen.extend(program.read(10));
        guest.settle(&host);
    }
    seen.extend(program.read(10));
    assert_eq!(seen, pattern(0, 25));
    guest.expect(Operation::Reset);
    assert!(program.is_dropped());
    assert_eq!(guest.device.connections(), 0);
}

#[test]
fn host_that_goes_away_while_the_rest_drains_ends_it() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    program.set_room(10);
    guest.data(PORTS, &pattern(0, 25));
    shutdown(&mut guest, PORTS, SHUTDOWN_SEND | SHUTDOWN_RECEIVE);
    program.close();
    guest.settle(&host);
    guest.expect(Operation::Reset);
    assert_eq!(guest.device.connections(), 0);
}

#[test]
fn host_that_closes_is_reported_after_its_last_bytes() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    program.write(&pattern(0, 9000));
    program.close();
    guest.settle(&host);
    let packets = guest.receive_all();
    let (last, data) = packets.split_last().unwrap();
    assert_eq!(data.iter().flat_map(|packet| packet.payload.clone()).collect::<Vec<_>>(), pattern(0, 9000));
    assert_eq!(last.header.operation, Operation::Shutdown);
    assert_eq!(last.header.flags, SHUTDOWN_SEND | SHUTDOWN_RECEIVE);
    assert!(program.is_dropped());
    // Data that crossed with it is nothing unusual.
    guest.data(PORTS, b"crossed");
    assert_eq!(guest.receive(), []);
    guest.say(PORTS, Operation::Reset);
    assert_eq!(guest.device.connections(), 0);
}

#[test]
fn two_sides_that_shut_down_at_once_still_end() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    program.close();
    guest.settle(&host);
    shutdown(&mut guest, PORTS, SHUTDOWN_SEND | SHUTDOWN_RECEIVE);
    let operations: Vec<_> = guest.receive().iter().map(|packet| packet.header.operation).collect();
    assert_eq!(operations, [Operation::Shutdown, Operation::Reset]);
    assert_eq!(guest.device.connections(), 0);
}

#[test]
fn host_that_only_stops_reading_is_reported_as_that() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    program.pipe().host_reads = false;
    guest.data(PORTS, b"into the void");
    assert_eq!(guest.expect(Operation::Shutdown).header.flags, SHUTDOWN_RECEIVE);
    program.write(b"but listen");
    guest.settle(&host);
    let packet = guest.expect(Operation::Data);
    assert_eq!((packet.payload.as_slice(), packet.header.forwarded), (b"but listen".as_slice(), 13));
    // What goes into the void costs no credit.
    for _ in 0..3 {
        guest.data(PORTS, &pattern(0, BUFFER as usize));
        guest.expect(Operation::CreditUpdate);
    }
}

#[test]
fn host_that_does_not_read_stops_the_credit_and_then_lets_it_go_on() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    program.set_room(1000);
    guest.data(PORTS, &pattern(0, BUFFER as usize));
    assert_eq!(guest.receive(), [], "1000 bytes are not worth a packet");
    guest.say(PORTS, Operation::CreditRequest);
    assert_eq!(guest.expect(Operation::CreditUpdate).header.forwarded, 1000);
    program.set_room(usize::MAX);
    assert_eq!(program.read(1000), pattern(0, 1000));
    guest.settle(&host);
    let update = guest.expect(Operation::CreditUpdate);
    assert_eq!(update.header.forwarded, BUFFER, "told without being asked");
    assert_eq!(program.read(usize::MAX), pattern(1000, BUFFER as usize - 1000));
    guest.data(PORTS, b"more");
    assert_eq!(program.read(usize::MAX), b"more");
}

#[test]
fn guest_without_credit_leaves_bytes_in_the_hosts_socket_and_is_asked_once() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    credit(&mut guest, PORTS, 1000, 0);
    program.write(&pattern(0, 2500));
    guest.settle(&host);
    let packets = guest.receive();
    assert_eq!(packets[0].payload, pattern(0, 1000));
    assert_eq!(packets[1].header.operation, Operation::CreditRequest);
    assert_eq!(packets.len(), 2);
    program.write(&pattern(2500, 100));
    guest.settle(&host);
    assert_eq!(guest.receive(), [], "asked once");
    assert_eq!(program.pipe().to_guest.len(), 1600);
    credit(&mut guest, PORTS, 1000, 1000);
    let packets = guest.receive();
    assert_eq!(packets[0].payload, pattern(1000, 1000));
    assert_eq!(packets[1].header.operation, Operation::CreditRequest);
    credit(&mut guest, PORTS, 5000, 2000);
    assert_eq!(guest.expect(Operation::Data).payload, pattern(2000, 600));
}

#[test]
fn guest_without_receive_buffers_leaves_bytes_in_the_hosts_socket() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    // All but the buffers that are offered already: 64 of them.
    program.write(&pattern(0, 64 * 4096 + 100));
    credit(&mut guest, PORTS, u32::MAX, 0);
    guest.settle(&host);
    assert_eq!(program.pipe().to_guest.len(), 100);
    assert_eq!(guest.take().len(), 64);
    assert_eq!(guest.device.deliver().unwrap(), Backlog::Done, "nothing to be done without buffers");
    guest.offer_receive_buffers(1);
    guest.notify(0);
    assert_eq!(guest.expect(Operation::Data).payload, pattern(64 * 4096, 100));
}

#[test]
fn a_stream_that_was_read_dry_is_left_alone_until_it_becomes_readable() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    program.write(b"a few bytes");
    guest.settle(&host);
    guest.expect(Operation::Data);
    let reads = program.pipe().reads;
    for _ in 0..10 {
        guest.notify(0);
    }
    assert_eq!(program.pipe().reads, reads);
}

#[test]
fn connections_take_turns() {
    let (mut guest, host) = World::with_host();
    guest.take();
    let ports: Vec<_> = (0..3).map(|index| Ports { host: 1024, guest: 5000 + index }).collect();
    let programs: Vec<_> = ports.iter().map(|&ports| guest.connect(&host, ports)).collect();
    for program in &programs {
        program.write(&pattern(0, 40_000));
    }
    guest.settle(&host);
    let packets = guest.receive_all();
    assert_eq!(packets.len(), 30);
    for round in packets.chunks(3).take(9) {
        let mut speakers: Vec<_> = round.iter().map(|packet| packet.header.destination_port).collect();
        speakers.sort_unstable();
        assert_eq!(speakers, [5000, 5001, 5002]);
    }
}

#[test]
fn a_turn_is_bounded_and_says_that_more_is_left() {
    let (mut guest, _host) = World::with_host();
    for _ in 0..100 {
        // Of no connection, and not to be answered.
        guest.queue(World::header(PORTS, Operation::Reset), &[]);
    }
    assert_eq!(guest.device.notify(1, Instant::now()).unwrap(), Backlog::More);
    assert_eq!(guest.transmit.used().len(), 64);
    assert_eq!(guest.device.notify(1, Instant::now()).unwrap(), Backlog::Done);
    assert_eq!(guest.transmit.used().len(), 36);
}

#[test]
fn a_payload_may_be_spread_over_many_buffers() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    let header = Header { bytes: 3000, ..World::header(PORTS, Operation::Data) };
    let place = testing::SEAM - 1500;
    guest.ram.write_slice(&header.to_wire(), GuestAddress(TRANSMIT_SLOTS)).unwrap();
    guest.ram.write_slice(&pattern(0, 3000), GuestAddress(place)).unwrap();
    let mut buffers = vec![Buffer::readable(TRANSMIT_SLOTS, 30), Buffer::readable(TRANSMIT_SLOTS + 30, 14)];
    buffers.extend((0..6).map(|index| Buffer::readable(place + index * 500, 500)));
    guest.transmit.offer_indirect(TRANSMIT_SLOTS + 0x100, &buffers);
    guest.notify(1);
    assert_eq!(program.read(usize::MAX), pattern(0, 3000));
}

#[test]
fn reset_drops_everything_and_the_device_works_again_afterwards() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    let (offered, ports) = guest.offer(&host, 77);
    program.write(b"unread");
    // An RST that waits for a buffer.
    guest.take();
    while guest.receive.free() < 128 {
        guest.say(Ports { host: 1, guest: 1 }, Operation::Response);
        guest.take();
    }
    guest.say(Ports { host: 1, guest: 1 }, Operation::Response);
    guest.device.reset();
    assert!(program.is_dropped() && offered.is_dropped());
    assert_eq!(guest.device.connections(), 0);
    let refused = Program::new();
    assert!(guest.device.offer(FakeStream(refused.clone()), 1).is_err());
    assert!(refused.is_dropped());
    // Events of connections that are gone, and doorbells that rang before, find nobody.
    program.close();
    guest.settle(&host);
    guest.notify(0);
    guest.notify(1);
    guest.notify(2);

    guest.start();
    guest.offer_receive_buffers(usize::MAX);
    guest.notify(0);
    assert_eq!(guest.receive(), []);
    guest.say(ports, Operation::Response);
    guest.expect(Operation::Reset);
    let program = guest.connect(&host, PORTS);
    guest.data(PORTS, b"again");
    assert_eq!(program.read(100), b"again");
}

#[test]
fn a_kick_before_the_driver_is_ready_does_nothing() {
    let mut guest = World::asleep(FakeHost::default());
    for queue in 0..4 {
        guest.notify(queue);
    }
    assert_eq!(guest.device.connections(), 0);
}

#[test]
fn the_configuration_space_is_the_context_id() {
    let guest = World::asleep(FakeHost::default());
    let read = |offset, count| {
        let mut data = vec![0; count];
        guest.device.read_config(offset, &mut data);
        data
    };
    assert_eq!(read(0, 8), u64::from(CID).to_le_bytes());
    assert_eq!(read(0, 4), [3, 0, 0, 0]);
    assert_eq!(read(4, 4), [0; 4]);
    assert_eq!(read(7, 4), [0; 4]);
    assert_eq!(read(8, 4), [0; 4]);
    assert_eq!(read(u64::MAX, 4), [0; 4]);
    assert_eq!(guest.device.device_type(), 19);
    assert_eq!(guest.device.queue_max_sizes().len(), 3);
}

//! A guest that keeps no rule, and what becomes of it: a refused packet, a reset connection, a fault of the
//! ring; never a panic, a loop, or memory that grows.

use std::time::Instant;

use super::super::credit::BUFFER;
use super::super::muxer::{MAX_RESETS, OfferError};
use super::super::packet::{SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use super::super::{Incident, MAX_CONNECTIONS, MAX_GUEST_CONNECTIONS};
use super::*;
use crate::virtio::rings::RingFault;

fn ports(guest: u32) -> Ports {
    Ports { host: 1024, guest }
}

/// Opens as many connections as the guest may, from guest port 1 up.
fn flood(guest: &mut World, host: &FakeHost) {
    host.0.lock().unwrap().listening.insert(1024);
    for port in 1..=u32::try_from(MAX_GUEST_CONNECTIONS).unwrap() {
        guest.say(ports(port), Operation::Request);
        guest.expect(Operation::Response);
    }
    guest.settle(host);
}

#[test]
fn bytes_without_credit_reset_the_connection() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    program.set_room(0);
    guest.data(PORTS, &pattern(0, BUFFER as usize));
    assert_eq!(guest.receive(), []);
    guest.data(PORTS, b"x");
    guest.expect(Operation::Reset);
    assert!(program.is_dropped());
    assert_eq!(guest.device.incidents().count(Incident::Overdrawn), 1);
    assert_eq!(guest.device.connections(), 0);
}

#[test]
fn one_packet_larger_than_all_credit_resets_the_connection() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    guest.data(PORTS, &pattern(0, BUFFER as usize + 1));
    guest.expect(Operation::Reset);
    assert_eq!(program.read(usize::MAX), b"");
    assert_eq!(guest.device.incidents().count(Incident::Overdrawn), 1);
}

#[test]
fn credit_for_bytes_that_were_never_sent_resets_the_connection() {
    let (mut guest, host) = World::with_host();
    guest.connect(&host, PORTS);
    guest.send(Header { forwarded: 1, ..World::header(PORTS, Operation::CreditUpdate) }, &[]);
    guest.expect(Operation::Reset);
    assert_eq!(guest.device.incidents().count(Incident::Overdrawn), 1);
}

#[test]
fn credit_of_all_there_is_does_not_overflow() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    guest.send(Header { buffer: u32::MAX, ..World::header(PORTS, Operation::CreditUpdate) }, &[]);
    program.write(&pattern(0, 300_000));
    guest.settle(&host);
    let seen: Vec<u8> = guest.receive_all().into_iter().flat_map(|packet| packet.payload).collect();
    assert_eq!(seen, pattern(0, 300_000));
    guest.send(Header { buffer: 0, ..World::header(PORTS, Operation::CreditUpdate) }, &[]);
    program.write(b"x");
    guest.settle(&host);
    guest.expect(Operation::CreditRequest);
}

#[test]
fn unknown_operations_are_answered_with_rst() {
    let (mut guest, host) = World::with_host();
    for number in [0, 8, 0xffff] {
        guest.say(PORTS, Operation::Unknown(number));
        guest.expect(Operation::Reset);
        let program = guest.connect(&host, PORTS);
        guest.say(PORTS, Operation::Unknown(number));
        guest.expect(Operation::Reset);
        assert!(program.is_dropped());
    }
    assert_eq!(guest.device.incidents().count(Incident::Unexpected), 6);
}

#[test]
fn spoofed_context_is_dropped_without_an_answer() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    for source_cid in [0, 1, 2, 4, u64::from(CID) | 1 << 32, u64::MAX] {
        for operation in [Operation::Reset, Operation::Data, Operation::Request, Operation::Unknown(9)] {
            guest.send(Header { source_cid, ..World::header(PORTS, operation) }, &[]);
        }
    }
    assert_eq!(guest.receive(), []);
    assert_eq!(guest.device.incidents().count(Incident::ForeignSource), 24);
    guest.data(PORTS, b"alive");
    assert_eq!(program.read(100), b"alive");
}

#[test]
fn packets_for_another_context_or_of_another_type_are_refused_in_kind() {
    let (mut guest, host) = World::with_host();
    host.0.lock().unwrap().listening.insert(PORTS.host);
    let request = World::header(PORTS, Operation::Request);
    for destination_cid in [0, 1, 3, 4, u64::MAX] {
        guest.send(Header { destination_cid, ..request }, &[]);
        // Not through `receive`, which checks that packets come from the host.
        let used = guest.receive.used();
        assert_eq!(used.len(), 1);
        let place = GuestAddress(RECEIVE_BUFFERS + u64::from(used[0].head) / 2 * 0x2000);
        let mut header = [0; HEADER_BYTES];
        guest.ram.read_slice(&mut header, place).unwrap();
        let reset = Header::parse(header);
        assert_eq!((reset.operation, reset.source_cid), (Operation::Reset, destination_cid));
        guest.offer_receive_buffers(usize::MAX);
    }
    for kind in [0, 2, 0xffff] {
        guest.send(Header { kind, ..request }, &[]);
        assert_eq!(guest.expect(Operation::Reset).header.kind, kind);
    }
    assert_eq!(guest.device.connections(), 0);
    assert!(host.0.lock().unwrap().connected.is_empty());
}

#[test]
fn length_larger_than_the_descriptors_resets_the_connection() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    guest.send(Header { bytes: 11, ..World::header(PORTS, Operation::Data) }, b"ten bytes.");
    guest.expect(Operation::Reset);
    assert!(program.is_dropped());
    assert_eq!(program.read(100), b"");
    guest.send(Header { bytes: u32::MAX, ..World::header(PORTS, Operation::Request) }, &[]);
    guest.expect(Operation::Reset);
    assert_eq!(guest.device.incidents().count(Incident::Malformed), 2);
    // An RST that lies about its length is still not answered.
    guest.send(Header { bytes: 1, ..World::header(PORTS, Operation::Reset) }, &[]);
    assert_eq!(guest.receive(), []);
}

#[test]
fn length_smaller_than_the_descriptors_is_what_counts() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    guest.send(Header { bytes: 3, ..World::header(PORTS, Operation::Data) }, b"ten bytes.");
    assert_eq!(program.read(100), b"ten");
    guest.say(PORTS, Operation::CreditRequest);
    assert_eq!(guest.expect(Operation::CreditUpdate).header.forwarded, 3);
}

#[test]
fn chains_too_short_for_a_header_fail_and_the_queue_goes_on() {
    let (mut guest, host) = World::with_host();
    let program = guest.connect(&host, PORTS);
    guest.transmit.used();
    for bytes in [1, 43] {
        let head = guest.transmit.offer(&[Buffer::readable(TRANSMIT_SLOTS, bytes)]);
        guest.notify(1);
        assert_eq!(guest.transmit.used(), [testing::Used { head, written: 0 }]);
    }
    // Writable only: there is nothing to read in it.
    guest.transmit.offer(&[Buffer::writable(TRANSMIT_SLOTS, 100)]);
    guest.notify(1);
    assert_eq!(guest.device.incidents().count(Incident::Malformed), 3);
    guest.data(PORTS, b"alive");
    assert_eq!(program.read(100), b"alive");
}

#[test]
fn receive_buffers_too_small_for_a_packet_come_back_empty_and_the_next_serves() {
    let mut guest = World::asleep(FakeHost::default());
    guest.start();
    let small = guest.receive.offer(&[Buffer::writable(RECEIVE_BUFFERS, 44)]);
    let readable = guest.receive.offer(&[Buffer::readable(RECEIVE_BUFFERS, 4096)]);
    guest.receive.offer(&[Buffer::writable(RECEIVE_BUFFERS + 0x2000, 45)]);
    guest.say(PORTS, Operation::Request);
    let used = guest.receive.used();
    assert_eq!(used.iter().map(|used| used.written).collect::<Vec<_>>(), [0, 0, 44]);
    assert_eq!((used[0].head, used[1].head), (small, readable));
    assert_eq!(guest.device.incidents().count(Incident::Malformed), 2);
}

#[test]
fn packets_out_of_place_reset_the_connection() {
    let out_of_place: [&dyn Fn(&mut World); 4] = [
        &|guest| guest.say(PORTS, Operation::Request),
        &|guest| guest.say(PORTS, Operation::Response),
        &|guest| {
            guest.send(Header { flags: SHUTDOWN_SEND, ..World::header(PORTS, Operation::Shutdown) }, &[]);
            guest.data(PORTS, b"after the end");
        },
        &|guest| {
            let flags = SHUTDOWN_SEND;
            guest.send(Header { flags, ..World::header(PORTS, Operation::Shutdown) }, &[]);
            let flags = SHUTDOWN_RECEIVE | 0xffff_fff0;
            guest.send(Header { flags, ..World::header(PORTS, Operation::Shutdown) }, &[]);
        },
    ];
    for deed in out_of_place {
        let (mut guest, host) = World::with_host();
        let program = guest.connect(&host, PORTS);
        deed(&mut guest);
        guest.expect(Operation::Reset);
        assert!(program.is_dropped());
        assert_eq!(guest.device.connections(), 0);
    }
    for operation in [Operation::Data, Operation::Shutdown, Operation::Request] {
        let (mut guest, host) = World::with_host();
        let (program, ports) = guest.offer(&host, 9);
        guest.say(ports, operation);
        guest.expect(Operation::Reset);
        assert!(program.is_dropped());
    }
}

#[test]
fn packets_of_no_connection_are_answered_with_rst_and_rst_never_is() {
    let (mut guest, _host) = World::with_host();
    for operation in [
        Operation::Response,
        Operation::Data,
        Operation::Shutdown,
        Operation::CreditUpdate,
        Operation::CreditRequest,
    ] {
        guest.say(PORTS, operation);
        guest.expect(Operation::Reset);
    }
    let unexpected = guest.device.incidents().count(Incident::Unexpected);
    guest.say(PORTS, Operation::Reset);
    assert_eq!(guest.receive(), []);
    assert_eq!(guest.device.incidents().count(Incident::Unexpected), unexpected, "a late RST is no offence");
}

#[test]
fn an_event_for_a_connection_that_is_gone_does_not_touch_its_successor() {
    let (mut guest, host) = World::with_host();
    guest.connect(&host, ports(1));
    let (stale, _) = host.0.lock().unwrap().watched[0].clone();
    guest.say(ports(1), Operation::Reset);
    let successor = guest.connect(&host, ports(2));
    guest.device.host_ready(stale, Readiness { readable: true, writable: true, hung_up: true });
    guest.settle(&host);
    assert_eq!(guest.receive(), []);
    guest.data(ports(2), b"untouched");
    assert_eq!(successor.read(100), b"untouched");
    // Half-closed it is, and not hung up.
    successor.close_write();
    guest.settle(&host);
    assert_eq!(guest.expect(Operation::Shutdown).header.flags, SHUTDOWN_SEND);
}

#[test]
fn connect_flood_is_bounded_and_the_host_still_gets_in() {
    let (mut guest, host) = World::with_host();
    flood(&mut guest, &host);
    for port in 10_000..10_100 {
        guest.say(ports(port), Operation::Request);
        guest.expect(Operation::Reset);
    }
    assert_eq!(guest.device.connections(), MAX_GUEST_CONNECTIONS);
    assert_eq!(host.0.lock().unwrap().connected.len(), MAX_GUEST_CONNECTIONS);
    assert_eq!(guest.device.incidents().count(Incident::Refused), 100);
    let (program, ports) = guest.offer(&host, 5);
    guest.say(ports, Operation::Response);
    assert!(program.read(100).starts_with(b"OK "));
}

#[test]
fn connect_and_reset_flood_leaves_nothing_behind() {
    let (mut guest, host) = World::with_host();
    host.0.lock().unwrap().listening.insert(1024);
    // Without receive buffers for the answers: whatever is owed dies with its connection.
    guest.take();
    for port in 0..2000 {
        guest.queue(World::header(ports(port), Operation::Request), &[]);
        guest.queue(World::header(ports(port), Operation::Reset), &[]);
        guest.notify(1);
        host.0.lock().unwrap().connected.retain(|(_, program)| !program.is_dropped());
    }
    assert_eq!(guest.device.connections(), 0);
    assert!(host.0.lock().unwrap().connected.is_empty());
    assert_eq!(guest.device.incidents().count(Incident::Refused), 0);
}

#[test]
fn host_ports_never_run_out_and_never_collide() {
    let (mut guest, host) = World::with_host();
    let mut seen = HashSet::new();
    let mut live = VecDeque::new();
    for _ in 0..1000 {
        let (program, ports) = guest.offer(&host, 7);
        guest.say(ports, Operation::Response);
        assert!(seen.insert(ports.host), "{ports:?} twice");
        live.push_back((program, ports));
        if live.len() == MAX_CONNECTIONS {
            let (program, ports) = live.pop_front().unwrap();
            guest.say(ports, Operation::Reset);
            assert!(program.is_dropped());
        }
    }
    // A guest that sits on the next ports itself does not stop the host: they are passed over.
    let next = seen.iter().max().unwrap() + 1;
    for (_, ports) in live.drain(..) {
        guest.say(ports, Operation::Reset);
    }
    for host_port in next..next + 20 {
        guest.connect(&host, Ports { host: host_port, guest: 7 });
    }
    let (_, ports) = guest.offer(&host, 7);
    assert_eq!(ports.host, next + 20);
}

#[test]
fn a_full_table_of_live_connections_refuses_the_host_by_name() {
    let (mut guest, host) = World::with_host();
    flood(&mut guest, &host);
    for _ in MAX_GUEST_CONNECTIONS..MAX_CONNECTIONS {
        let (_, ports) = guest.offer(&host, 7);
        guest.say(ports, Operation::Response);
    }
    let refused = Program::new();
    let error = guest.device.offer(FakeStream(refused.clone()), 7).unwrap_err();
    assert!(matches!(error, OfferError::Full));
    assert!(refused.is_dropped());
}

#[test]
fn half_open_streams_that_never_end_make_room_oldest_first() {
    let (mut guest, host) = World::with_host();
    let offers: Vec<_> = (0..MAX_CONNECTIONS).map(|_| guest.offer(&host, 7)).collect();
    assert_eq!(guest.device.connections(), MAX_CONNECTIONS);
    // The guest accepts the oldest, and never answers the others.
    guest.say(offers[0].1, Operation::Response);
    let newest = Program::new();
    guest.device.offer(FakeStream(newest.clone()), 7).unwrap();
    guest.settle(&host);
    let operations: Vec<_> =
        guest.receive().iter().map(|packet| (packet.header.operation, packet.header.source_port)).collect();
    assert_eq!(operations[0], (Operation::Reset, offers[1].1.host));
    assert_eq!(operations[1].0, Operation::Request);
    assert!(!offers[0].0.is_dropped() && offers[1].0.is_dropped() && !offers[2].0.is_dropped());
    assert_eq!(guest.device.connections(), MAX_CONNECTIONS);
    assert_eq!(guest.device.incidents().count(Incident::Evicted), 1);
}

#[test]
fn guest_that_never_answers_a_shutdown_runs_out_of_its_own_share_only() {
    let (mut guest, host) = World::with_host();
    flood(&mut guest, &host);
    for (_, program) in &host.0.lock().unwrap().connected {
        program.close();
    }
    guest.settle(&host);
    guest.receive_all();
    assert_eq!(guest.device.connections(), MAX_GUEST_CONNECTIONS);
    assert!(host.0.lock().unwrap().connected.iter().all(|(_, program)| program.is_dropped()));
    let (offered, _) = guest.offer(&host, 7);
    // New connections take the places of those that only wait; the host's offer is not among them.
    let share = u32::try_from(MAX_GUEST_CONNECTIONS).unwrap();
    for port in 10_000..10_000 + share {
        guest.say(ports(port), Operation::Request);
        let answers: Vec<_> = guest.receive().iter().map(|packet| packet.header.operation).collect();
        assert!(answers.contains(&Operation::Reset) && answers.contains(&Operation::Response));
    }
    guest.say(ports(1), Operation::Request);
    guest.expect(Operation::Reset);
    assert_eq!(guest.device.connections(), MAX_GUEST_CONNECTIONS + 1);
    assert!(!offered.is_dropped());
}

#[test]
fn rst_flood_is_bounded_while_the_guest_takes_none() {
    let mut guest = World::asleep(FakeHost::default());
    guest.start();
    for _ in 0..1000 {
        guest.say(PORTS, Operation::Response);
    }
    let lost = guest.device.incidents().count(Incident::ResetLost);
    assert_eq!(lost, 1000 - MAX_RESETS as u64);
    guest.offer_receive_buffers(usize::MAX);
    guest.notify(0);
    assert_eq!(guest.receive_all().len(), MAX_RESETS);
}

#[test]
fn one_stalled_connection_holds_one_buffer_and_leaves_the_others_alone() {
    let (mut guest, host) = World::with_host();
    let stalled = guest.connect(&host, ports(1));
    let lively = guest.connect(&host, ports(2));
    stalled.set_room(0);
    guest.data(ports(1), &pattern(0, BUFFER as usize));
    for _ in 0..100 {
        guest.data(ports(2), b"on and on");
        assert_eq!(lively.read(100), b"on and on");
    }
}

#[test]
fn a_broken_ring_is_a_fault_and_a_reset_heals_it() {
    for break_receive in [false, true] {
        let (mut guest, host) = World::with_host();
        let program = guest.connect(&host, PORTS);
        let queue = if break_receive { &mut guest.receive } else { &mut guest.transmit };
        queue.set_available_index(0x7fff);
        program.write(b"to be delivered");
        let mut found = guest.device.notify(1, Instant::now());
        for (id, _) in host.0.lock().unwrap().watched.clone() {
            guest.device.host_ready(id, Readiness { readable: true, ..Readiness::default() });
        }
        if break_receive {
            found = guest.device.deliver();
        }
        assert_eq!(found, Err(RingFault::AvailableIndex));
        guest.device.reset();
        assert!(program.is_dropped());
        guest.start();
        guest.offer_receive_buffers(usize::MAX);
        let program = guest.connect(&host, PORTS);
        guest.data(PORTS, b"healed");
        assert_eq!(program.read(100), b"healed");
    }
}

//! Properties: honest streams keep every byte in order whatever the timing, and noise does no harm.

use proptest::prelude::*;

use super::super::MAX_GUEST_CONNECTIONS;
use super::super::credit::BUFFER;
use super::*;

/// One thing that may happen next between an honest guest and an honest host.
#[derive(Debug, Clone, Copy)]
enum Step {
    HostWrites(usize),
    HostReads(usize),
    GuestSends(usize),
    GuestTakes,
    GuestOffersBuffers(usize),
    GuestConsumes(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..60_000usize).prop_map(Step::HostWrites),
        (1..60_000usize).prop_map(Step::HostReads),
        (1..60_000usize).prop_map(Step::GuestSends),
        Just(Step::GuestTakes),
        (1..20usize).prop_map(Step::GuestOffersBuffers),
        (1..100_000u32).prop_map(Step::GuestConsumes),
    ]
}

/// The guest's account of one stream, and both ends' view of the bytes.
#[derive(Debug, Default)]
struct Ledger {
    guest_buffer: u32,
    guest_sent: u32,
    guest_received: u32,
    guest_forwarded: u32,
    device_buffer: u32,
    device_forwarded: u32,
    host_wrote: usize,
    host_read: usize,
}

impl Ledger {
    fn header(&self, operation: Operation) -> Header {
        let header = World::header(PORTS, operation);
        Header { buffer: self.guest_buffer, forwarded: self.guest_forwarded, ..header }
    }

    /// Notes a packet from the device and checks its bytes and that the guest had room for them.
    fn note(&mut self, packet: &Packet) -> Result<(), TestCaseError> {
        self.device_buffer = packet.header.buffer;
        self.device_forwarded = packet.header.forwarded;
        prop_assert!(packet.header.operation != Operation::Reset);
        let expected = pattern(self.guest_received as usize, packet.payload.len());
        prop_assert!(packet.payload == expected, "bytes to the guest differ");
        self.guest_received += packet.header.bytes;
        prop_assert!(self.guest_received - self.guest_forwarded <= self.guest_buffer, "no room was given");
        Ok(())
    }

    fn room(&self) -> usize {
        (self.device_buffer - (self.guest_sent - self.device_forwarded)) as usize
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), TestCaseError> {
        prop_assert!(bytes == pattern(self.host_read, bytes.len()), "bytes to the host differ");
        self.host_read += bytes.len();
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Megabytes in both directions, random splits, both credits and the buffers running out again and
    /// again: every byte arrives once and in order, and nothing stalls for good.
    #[test]
    fn streams_keep_every_byte_whatever_the_timing(
        steps in prop::collection::vec(step(), 50..400),
        guest_buffer in 5000u32..200_000,
        room in 1000usize..100_000,
    ) {
        let (mut guest, host) = World::with_host();
        let program = guest.connect(&host, PORTS);
        program.set_room(room);
        let mut ledger = Ledger { guest_buffer, device_buffer: BUFFER, ..Ledger::default() };
        guest.send(ledger.header(Operation::CreditUpdate), &[]);
        for step in steps {
            match step {
                Step::HostWrites(count) => {
                    program.write(&pattern(ledger.host_wrote, count));
                    ledger.host_wrote += count;
                }
                Step::HostReads(count) => ledger.read(&program.read(count))?,
                Step::GuestSends(count) => {
                    let count = count.min(ledger.room());
                    let bytes = u32::try_from(count).unwrap();
                    let header = Header { bytes, ..ledger.header(Operation::Data) };
                    guest.send(header, &pattern(ledger.guest_sent as usize, count));
                    ledger.guest_sent += bytes;
                }
                Step::GuestTakes => {
                    for packet in guest.take() {
                        ledger.note(&packet)?;
                    }
                }
                Step::GuestOffersBuffers(count) => {
                    guest.offer_receive_buffers(count);
                    guest.notify(0);
                }
                Step::GuestConsumes(count) => {
                    ledger.guest_forwarded += count.min(ledger.guest_received - ledger.guest_forwarded);
                    guest.send(ledger.header(Operation::CreditUpdate), &[]);
                }
            }
            guest.settle(&host);
        }
        // Both sides do all they can until all has arrived; how often is bounded by the smallest buffer.
        for _ in 0..20_000 {
            for packet in guest.receive() {
                ledger.note(&packet)?;
            }
            ledger.guest_forwarded = ledger.guest_received;
            guest.send(ledger.header(Operation::CreditRequest), &[]);
            ledger.read(&program.read(usize::MAX))?;
            guest.settle(&host);
            let to_guest = ledger.guest_received as usize == ledger.host_wrote;
            if to_guest && ledger.host_read == ledger.guest_sent as usize {
                break;
            }
        }
        prop_assert_eq!(ledger.guest_received as usize, ledger.host_wrote);
        prop_assert_eq!(ledger.host_read, ledger.guest_sent as usize);
    }
}

/// One thing that a hostile guest or an erratic host does.
#[derive(Debug, Clone)]
enum Noise {
    Packet { header: Header, payload: usize },
    Raw(Vec<u8>),
    Host { program: usize, deed: u8 },
    Offer(u32),
    Take,
    Reset,
}

fn noise() -> impl Strategy<Value = Noise> {
    let few = prop_oneof![4 => 0u32..6, 1 => any::<u32>()];
    let counters = prop_oneof![Just(0u32), 0u32..100_000, any::<u32>()];
    let packet = (
        (0u16..10, few.clone(), few.clone(), prop_oneof![8 => Just(1u16), 1 => any::<u16>()]),
        (0usize..70_000, prop_oneof![4 => Just(None), 1 => any::<u32>().prop_map(Some)]),
        (0u32..5, counters.clone(), counters),
        prop_oneof![9 => Just(u64::from(CID)), 1 => any::<u64>()],
    )
        .prop_map(
            |((operation, host, guest, kind), (payload, lie), (flags, buffer, forwarded), source_cid)| {
                // Host ports as the guest may know them: those that listen, and those of offers.
                let host = if host == 5 { (1 << 30) + host } else { host };
                let mut wire = World::header(Ports { host, guest }, Operation::Request).to_wire();
                wire[30..32].copy_from_slice(&operation.to_le_bytes());
                let bytes = lie.unwrap_or(u32::try_from(payload).unwrap());
                let header =
                    Header { bytes, kind, flags, buffer, forwarded, source_cid, ..Header::parse(wire) };
                Noise::Packet { header, payload }
            },
        );
    prop_oneof![
        20 => packet,
        2 => prop::collection::vec(any::<u8>(), 1..100).prop_map(Noise::Raw),
        6 => (any::<usize>(), any::<u8>()).prop_map(|(program, deed)| Noise::Host { program, deed }),
        2 => few.prop_map(Noise::Offer),
        6 => Just(Noise::Take),
        1 => Just(Noise::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// The guest says anything, the host does anything: the device rests after each, within its bounds, and
    /// serves an honest connection at the end.
    #[test]
    fn noise_does_no_harm(script in prop::collection::vec(noise(), 1..200)) {
        let (mut guest, host) = World::with_host();
        host.0.lock().unwrap().listening.extend([0, 1, 2]);
        let mut programs: Vec<Program> = Vec::new();
        for noise in script {
            match noise {
                Noise::Packet { header, payload } => guest.send(header, &pattern(0, payload)),
                Noise::Raw(bytes) => {
                    let place = GuestAddress(TRANSMIT_SLOTS);
                    guest.ram.write_slice(&bytes, place).unwrap();
                    guest.transmit.used();
                    guest.transmit.offer(&[Buffer::readable(place.0, u32::try_from(bytes.len()).unwrap())]);
                    guest.notify(1);
                }
                Noise::Host { program, deed } => {
                    programs.extend(host.0.lock().unwrap().connected.drain(..).map(|(_, program)| program));
                    if !programs.is_empty() {
                        let program = &programs[program % programs.len()];
                        match deed % 6 {
                            0 => program.write(&pattern(0, usize::from(deed) * 100)),
                            1 => drop(program.read(usize::from(deed) * 100)),
                            2 => program.set_room(usize::from(deed) * 10),
                            3 => program.close_write(),
                            4 => program.pipe().host_reads = false,
                            _ => program.close(),
                        }
                    }
                }
                Noise::Offer(port) => {
                    let program = Program::new();
                    if guest.device.offer(FakeStream(program.clone()), port).is_ok() {
                        programs.push(program);
                    }
                }
                Noise::Take => drop(guest.receive()),
                Noise::Reset => {
                    guest.device.reset();
                    prop_assert!(programs.iter().all(Program::is_dropped));
                    guest.start();
                }
            }
            guest.settle(&host);
            prop_assert!(guest.device.connections() <= MAX_GUEST_CONNECTIONS + programs.len());
            let held: usize = programs.iter().filter(|program| !program.is_dropped()).count();
            prop_assert!(held <= guest.device.connections() + host.0.lock().unwrap().connected.len());
        }
        guest.receive();
        guest.notify(0);
        guest.receive_all();
        let ports = Ports { host: 1024, guest: 0xffff_0000 };
        let program = guest.connect(&host, ports);
        guest.data(ports, b"still standing");
        prop_assert_eq!(program.read(100), b"still standing");
    }
}

//! A guest and a host around the device, in memory.

mod flow;
mod hostile;
mod model;
mod saved;
mod shell;

use std::collections::{HashSet, VecDeque};
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use vm_memory::bitmap::BitmapSlice;
use vm_memory::{Bytes, GuestAddress, ReadVolatile, VolatileMemoryError, VolatileSlice, WriteVolatile};

use super::packet::{HEADER_BYTES, HOST_CID, Header, Operation, Ports, TYPE_STREAM};
use super::{ConnectionId, HostSide, HostStream, Readiness, Vsock};
use crate::memory::GuestRam;
use crate::virtio::device::{Activation, Backlog, VirtioDevice};
use crate::virtio::feature;
use crate::virtio::testing::{self, Buffer, GuestQueue, Interrupts};

/// The guest's context ID.
const CID: u32 = 3;
/// The guest's buffer per connection, as it announces it.
const GUEST_BUFFER: u32 = 128 << 10;
/// Where the guest keeps the packets that it sends: one slot per descriptor of the queue.
const TRANSMIT_SLOTS: u64 = 0x20_0000;
/// Bytes of such a slot. The last ones lie across the hole's edge if more than `SLOTS` were used.
const SLOT_BYTES: u64 = 0x1_1000;
const SLOTS: u64 = 28;
/// Where its receive buffers are: they cross the seam between two regions.
const RECEIVE_BUFFERS: u64 = testing::SEAM - 0x4_0800;
const RECEIVE_BYTES: u32 = 44 + 4096;

/// The host program's end of a stream, with the rules of a socket and a knob for its buffer.
#[derive(Debug)]
struct Pipe {
    to_guest: VecDeque<u8>,
    to_host: VecDeque<u8>,
    /// Bytes that fit between device and host program.
    room: usize,
    host_writes: bool,
    host_reads: bool,
    device_writes: bool,
    device_reads: bool,
    /// The device let go of its end.
    dropped: bool,
    /// How often the device has tried to read.
    reads: usize,
    edge: Readiness,
}

/// A handle on a [`Pipe`] for the test, which plays the host program.
#[derive(Debug, Clone)]
struct Program(Arc<Mutex<Pipe>>);

impl Program {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Pipe {
            to_guest: VecDeque::new(),
            to_host: VecDeque::new(),
            room: 1 << 20,
            host_writes: true,
            host_reads: true,
            device_writes: true,
            device_reads: true,
            dropped: false,
            reads: 0,
            edge: Readiness { readable: false, writable: true, hung_up: false },
        })))
    }

    fn pipe(&self) -> MutexGuard<'_, Pipe> {
        self.0.lock().unwrap()
    }

    fn write(&self, bytes: &[u8]) {
        let mut pipe = self.pipe();
        pipe.to_guest.extend(bytes);
        pipe.edge.readable = true;
    }

    fn read(&self, max: usize) -> Vec<u8> {
        let mut pipe = self.pipe();
        let count = max.min(pipe.to_host.len());
        pipe.edge.writable |= count > 0;
        pipe.to_host.drain(..count).collect()
    }

    fn close_write(&self) {
        let mut pipe = self.pipe();
        pipe.host_writes = false;
        pipe.edge.readable = true;
        pipe.edge.hung_up |= !pipe.device_writes;
    }

    fn close(&self) {
        let mut pipe = self.pipe();
        (pipe.host_writes, pipe.host_reads) = (false, false);
        pipe.edge = Readiness { readable: true, writable: true, hung_up: true };
    }

    fn set_room(&self, room: usize) {
        self.pipe().room = room;
    }

    fn is_dropped(&self) -> bool {
        self.pipe().dropped
    }
}

/// The device's end.
#[derive(Debug)]
struct FakeStream(Program);

impl Drop for FakeStream {
    fn drop(&mut self) {
        self.0.pipe().dropped = true;
    }
}

fn would_block() -> VolatileMemoryError {
    VolatileMemoryError::IOError(io::Error::from(ErrorKind::WouldBlock))
}

impl ReadVolatile for FakeStream {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        slice: &mut VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        let mut pipe = self.0.pipe();
        pipe.reads += 1;
        let count = slice.len().min(pipe.to_guest.len());
        if count == 0 {
            return if pipe.host_writes { Err(would_block()) } else { Ok(0) };
        }
        let bytes: Vec<u8> = pipe.to_guest.drain(..count).collect();
        slice.write(&bytes, 0)
    }
}

impl WriteVolatile for FakeStream {
    fn write_volatile<B: BitmapSlice>(
        &mut self,
        slice: &VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        let mut bytes = vec![0; slice.len()];
        slice.read(&mut bytes, 0)?;
        self.write(&bytes).map_err(VolatileMemoryError::IOError)
    }
}

impl Write for FakeStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.0.pipe();
        assert!(pipe.device_writes, "the device had closed this half");
        if !pipe.host_reads {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(pipe.room.saturating_sub(pipe.to_host.len()));
        if count == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        pipe.to_host.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl HostStream for FakeStream {
    fn close_write(&mut self) {
        let mut pipe = self.0.pipe();
        pipe.device_writes = false;
        pipe.edge.hung_up |= !pipe.host_writes;
    }

    fn close_read(&mut self) {
        self.0.pipe().device_reads = false;
    }
}

/// What the host side knows: who listens, who is connected, what is watched.
#[derive(Debug, Default)]
struct HostState {
    listening: HashSet<u32>,
    connected: Vec<(u32, Program)>,
    watched: Vec<(ConnectionId, Program)>,
}

#[derive(Debug, Clone, Default)]
struct FakeHost(Arc<Mutex<HostState>>);

impl HostSide for FakeHost {
    type Stream = FakeStream;

    fn connect(&mut self, port: u32) -> io::Result<FakeStream> {
        let mut state = self.0.lock().unwrap();
        if !state.listening.contains(&port) {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        let program = Program::new();
        state.connected.push((port, program.clone()));
        Ok(FakeStream(program))
    }

    fn watch(&mut self, stream: &FakeStream, id: ConnectionId) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.watched.retain(|(_, program)| !program.is_dropped());
        state.watched.push((id, stream.0.clone()));
        Ok(())
    }
}

/// A packet as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Packet {
    header: Header,
    payload: Vec<u8>,
}

/// The guest with its driver, and the device.
#[derive(Debug)]
struct Guest<H: HostSide> {
    ram: GuestRam,
    receive: GuestQueue,
    transmit: GuestQueue,
    device: Vsock<H>,
    interrupts: Arc<Interrupts>,
    next_slot: u64,
}

impl<H: HostSide> Guest<H> {
    /// A guest whose driver has not started.
    fn asleep(host: H) -> Self {
        let ram = testing::ram();
        Self {
            receive: GuestQueue::new(&ram, GuestAddress(0x1_0000), 128),
            transmit: GuestQueue::new(&ram, GuestAddress(0x2_0000), 128),
            device: Vsock::new(CID, host),
            interrupts: Arc::default(),
            next_slot: 0,
            ram,
        }
    }

    /// A guest whose driver is ready and has offered all its receive buffers.
    fn new(host: H) -> Self {
        let mut guest = Self::asleep(host);
        guest.start();
        guest.offer_receive_buffers(usize::MAX);
        guest
    }

    fn start(&mut self) {
        let features = feature::VERSION_1 | feature::EVENT_IDX | feature::INDIRECT_DESC;
        self.receive = GuestQueue::new(&self.ram, GuestAddress(0x1_0000), 128);
        self.transmit = GuestQueue::new(&self.ram, GuestAddress(0x2_0000), 128);
        self.device.activate(Activation {
            memory: self.ram.clone(),
            rings: vec![
                Some(self.receive.ring(features).unwrap()),
                Some(self.transmit.ring(features).unwrap()),
                None,
            ],
            features,
            interrupt: self.interrupts.clone(),
        });
    }

    /// Offers receive buffers in two descriptors each, as older drivers do, up to `most` of them.
    fn offer_receive_buffers(&mut self, most: usize) {
        for _ in 0..most.min(self.receive.free() / 2) {
            // Every buffer its own place: the head of its chain says which.
            let place = RECEIVE_BUFFERS + self.next_receive_place() * 0x2000;
            self.receive
                .offer(&[Buffer::writable(place, 44), Buffer::writable(place + 44, RECEIVE_BYTES - 44)]);
        }
    }

    /// The descriptor that `offer` will take first is free, so its place is free too.
    fn next_receive_place(&self) -> u64 {
        u64::from(self.receive.next_free()) / 2
    }

    fn header(ports: Ports, operation: Operation) -> Header {
        Header {
            source_cid: u64::from(CID),
            destination_cid: HOST_CID,
            source_port: ports.guest,
            destination_port: ports.host,
            bytes: 0,
            kind: TYPE_STREAM,
            operation,
            flags: 0,
            buffer: GUEST_BUFFER,
            forwarded: 0,
        }
    }

    /// Puts a packet on the transmit queue without a notification.
    fn queue(&mut self, header: Header, payload: &[u8]) {
        self.transmit.used();
        let place = TRANSMIT_SLOTS + (self.next_slot % SLOTS) * SLOT_BYTES;
        self.next_slot += 1;
        self.ram.write_slice(&header.to_wire(), GuestAddress(place)).unwrap();
        self.ram.write_slice(payload, GuestAddress(place + 44)).unwrap();
        let bytes = u32::try_from(HEADER_BYTES + payload.len()).unwrap();
        self.transmit.offer(&[Buffer::readable(place, bytes)]);
    }

    /// Sends one packet and lets the device work until it rests.
    fn send(&mut self, header: Header, payload: &[u8]) {
        self.queue(header, payload);
        self.notify(1);
    }

    fn say(&mut self, ports: Ports, operation: Operation) {
        self.send(Self::header(ports, operation), &[]);
    }

    fn data(&mut self, ports: Ports, payload: &[u8]) {
        let bytes = u32::try_from(payload.len()).unwrap();
        self.send(Header { bytes, ..Self::header(ports, Operation::Data) }, payload);
    }

    /// Notifies until the device has no backlog; that it comes to rest is part of every test.
    fn notify(&mut self, queue: usize) {
        for _ in 0..10_000 {
            if self.device.notify(queue, Instant::now()).unwrap() == Backlog::Done {
                return;
            }
        }
        panic!("the device does not come to rest");
    }

    /// Takes what arrived, without offering the buffers again.
    fn take(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        for used in self.receive.used() {
            let place = GuestAddress(RECEIVE_BUFFERS + u64::from(used.head) / 2 * 0x2000);
            let mut header = [0; HEADER_BYTES];
            self.ram.read_slice(&mut header, place).unwrap();
            let header = Header::parse(header);
            assert_eq!(used.written as usize, HEADER_BYTES + header.bytes as usize);
            let mut payload = vec![0; header.bytes as usize];
            self.ram.read_slice(&mut payload, GuestAddress(place.0 + 44)).unwrap();
            assert_eq!((header.source_cid, header.destination_cid), (HOST_CID, u64::from(CID)));
            packets.push(Packet { header, payload });
        }
        packets
    }

    /// Takes what arrived and offers its buffers again.
    fn receive(&mut self) -> Vec<Packet> {
        let packets = self.take();
        self.offer_receive_buffers(usize::MAX);
        packets
    }

    /// Receives until nothing more comes.
    fn receive_all(&mut self) -> Vec<Packet> {
        let mut all = Vec::new();
        loop {
            let packets = self.receive();
            if packets.is_empty() {
                return all;
            }
            all.extend(packets);
            self.notify(0);
        }
    }

    /// The one packet that arrived.
    fn receive_one(&mut self) -> Packet {
        let mut packets = self.receive();
        assert_eq!(packets.len(), 1, "{packets:?}");
        packets.remove(0)
    }

    fn expect(&mut self, operation: Operation) -> Packet {
        let packet = self.receive_one();
        assert_eq!(packet.header.operation, operation);
        packet
    }
}

/// A guest, with a host in memory that the test plays too.
type World = Guest<FakeHost>;

impl World {
    fn with_host() -> (Self, FakeHost) {
        let host = FakeHost::default();
        (Self::new(host.clone()), host)
    }

    /// Passes the edges of all streams on, until nothing moves.
    fn settle(&mut self, host: &FakeHost) {
        loop {
            let watched = host.0.lock().unwrap().watched.clone();
            let mut moved = false;
            for (id, program) in watched {
                let edge = std::mem::take(&mut program.pipe().edge);
                if edge != Readiness::default() {
                    moved = true;
                    self.device.host_ready(id, edge);
                }
            }
            for _ in 0..10_000 {
                if self.device.deliver().unwrap() == Backlog::Done {
                    break;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// The guest connects to `ports.host`, where someone listens.
    fn connect(&mut self, host: &FakeHost, ports: Ports) -> Program {
        host.0.lock().unwrap().listening.insert(ports.host);
        self.say(ports, Operation::Request);
        let response = self.expect(Operation::Response);
        assert_eq!(
            (response.header.source_port, response.header.destination_port),
            (ports.host, ports.guest)
        );
        let program = host.0.lock().unwrap().connected.last().unwrap().1.clone();
        self.settle(host);
        program
    }

    /// A host program offers a stream to `port` of the guest, which does not answer yet.
    fn offer(&mut self, host: &FakeHost, port: u32) -> (Program, Ports) {
        let program = Program::new();
        self.device.offer(FakeStream(program.clone()), port).unwrap();
        self.settle(host);
        let request = self.expect(Operation::Request);
        assert_eq!(request.header.destination_port, port);
        (program, Ports { host: request.header.source_port, guest: port })
    }
}

/// Bytes that are easy to tell from shifted ones.
fn pattern(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|index| u8::try_from((index * 7 + index / 251) % 251).unwrap()).collect()
}

const PORTS: Ports = Ports { host: 1024, guest: 50_000 };

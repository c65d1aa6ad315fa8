//! The socket device between a guest that knows no rules and host programs that come, stall and go.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_vmm::virtio::device::Backlog;
use hearth_vmm::virtio::vsock::{ConnectionId, HostSide, HostStream, MAX_CONNECTIONS, Readiness, Vsock};
use vm_memory::bitmap::BitmapSlice;
use vm_memory::{ReadVolatile, VolatileMemoryError, VolatileSlice, WriteVolatile};

use crate::guest::{self, Guest, Piece, Play};
use crate::wild::Wild;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const EVENTS: usize = 2;
const CID: u32 = 3;
/// Where somebody on the host listens.
const PORT: u32 = 1024;
/// Where the ports of connections that the host opens begin.
const HOST_PORT: u32 = 1 << 30;
/// Operations (5.10.6).
const REQUEST: u16 = 1;
const RESPONSE: u16 = 2;
const DATA: u16 = 5;
/// Bytes that fit between the device and a host program.
const ROOM: usize = 4096;

#[derive(Debug, Default)]
struct Pipe {
    to_guest: VecDeque<u8>,
    to_host: VecDeque<u8>,
    ended: bool,
    deaf: bool,
    device_closed: bool,
    dropped: bool,
}

#[derive(Debug, Clone, Default)]
struct Program(Arc<Mutex<Pipe>>);

impl Program {
    fn pipe(&self) -> MutexGuard<'_, Pipe> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The device's end of a stream.
#[derive(Debug)]
struct Stream(Program);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.pipe().dropped = true;
    }
}

impl ReadVolatile for Stream {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        slice: &mut VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        let mut pipe = self.0.pipe();
        let count = slice.len().min(pipe.to_guest.len());
        let bytes: Vec<u8> = pipe.to_guest.drain(..count).collect();
        if count == 0 && !pipe.ended && !slice.is_empty() {
            return Err(VolatileMemoryError::IOError(ErrorKind::WouldBlock.into()));
        }
        slice.copy_from(&bytes[..]);
        Ok(count)
    }
}

impl WriteVolatile for Stream {
    fn write_volatile<B: BitmapSlice>(
        &mut self,
        slice: &VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        let mut bytes = vec![0; slice.len()];
        slice.copy_to(&mut bytes[..]);
        self.write(&bytes).map_err(VolatileMemoryError::IOError)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.0.pipe();
        assert!(!pipe.device_closed, "nothing is written to a half that was closed");
        if pipe.deaf {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(ROOM.saturating_sub(pipe.to_host.len()));
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

impl HostStream for Stream {
    fn close_write(&mut self) {
        self.0.pipe().device_closed = true;
    }

    fn close_read(&mut self) {}
}

#[derive(Debug, Default)]
struct Programs {
    /// Every one that the device has not let go of.
    all: Vec<Program>,
    watched: Vec<(ConnectionId, Program)>,
}

#[derive(Debug, Clone, Default)]
struct Host(Arc<Mutex<Programs>>);

impl Host {
    fn programs(&self) -> MutexGuard<'_, Programs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn program(&self) -> (Program, Stream) {
        let program = Program::default();
        let mut programs = self.programs();
        programs.all.retain(|one| !one.pipe().dropped);
        programs.watched.retain(|(_, one)| !one.pipe().dropped);
        // One more than there may be: the one that is being refused.
        assert!(programs.all.len() <= MAX_CONNECTIONS, "connections are bounded");
        programs.all.push(program.clone());
        (program.clone(), Stream(program))
    }
}

impl HostSide for Host {
    type Stream = Stream;

    fn connect(&mut self, port: u32) -> io::Result<Stream> {
        // Most ports have somebody, or a guest could not open many connections.
        if port.is_multiple_of(7) {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        Ok(self.program().1)
    }

    fn watch(&mut self, stream: &Stream, id: ConnectionId) -> io::Result<()> {
        self.programs().watched.push((id, stream.0.clone()));
        Ok(())
    }
}

/// A header of 44 bytes.
struct Header {
    source: u64,
    destination: u64,
    ports: [u32; 2],
    bytes: u32,
    kind: u16,
    operation: u16,
    flags: u32,
    buffer: u32,
    forwarded: u32,
}

impl Header {
    fn to_host(ports: [u32; 2], operation: u16) -> Self {
        Self {
            source: CID.into(),
            destination: 2,
            ports,
            bytes: 0,
            kind: 1,
            operation,
            flags: 0,
            buffer: 64 << 10,
            forwarded: 0,
        }
    }

    fn wire(&self) -> Vec<u8> {
        [
            &self.source.to_le_bytes()[..],
            &self.destination.to_le_bytes(),
            &self.ports[0].to_le_bytes(),
            &self.ports[1].to_le_bytes(),
            &self.bytes.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.operation.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.buffer.to_le_bytes(),
            &self.forwarded.to_le_bytes(),
        ]
        .concat()
    }
}

struct Sockets {
    host: Host,
}

impl Sockets {
    fn say_ready(&self, guest: &Guest<Vsock<Host>>, wild: &mut Wild<'_>) {
        let (id, program) = {
            let programs = self.host.programs();
            if programs.watched.is_empty() {
                return;
            }
            let at = wild.index(programs.watched.len());
            programs.watched[at].clone()
        };
        match wild.byte() % 6 {
            0 => program.pipe().ended = true,
            1 => {
                let mut pipe = program.pipe();
                (pipe.ended, pipe.deaf) = (true, true);
            }
            2 => program.pipe().to_host.clear(),
            _ => program.pipe().to_guest.extend(vec![b'.'; wild.index(9000)]),
        }
        let pipe = program.pipe();
        let readiness = Readiness {
            readable: pipe.ended || !pipe.to_guest.is_empty() || wild.one_in(5),
            writable: pipe.to_host.len() < ROOM,
            hung_up: pipe.ended && pipe.deaf,
        };
        drop(pipe);
        guest.transport.model(|vsock| vsock.host_ready(id, readiness));
    }
}

impl Play for Sockets {
    type Model = Vsock<Host>;

    fn model(&mut self) -> Self::Model {
        Vsock::new(CID, self.host.clone())
    }

    fn request(&mut self, queue: usize, wild: &mut Wild<'_>) -> Vec<Piece> {
        match queue {
            RECEIVE => vec![Piece::In(if wild.one_in(12) { wild.odd32() & 0x1_ffff } else { 44 + 4096 })],
            TRANSMIT => {
                let guest_port = if wild.one_in(10) { wild.odd32() } else { 1 + u32::from(wild.byte() % 6) };
                let host_port = match wild.byte() % 8 {
                    0 => HOST_PORT + u32::from(wild.byte() % 8),
                    1 => wild.odd32(),
                    other => PORT + u32::from(other % 3),
                };
                let payload = match wild.byte() % 6 {
                    0 => wild.index(70_000),
                    1 | 2 => wild.index(300),
                    _ => 0,
                };
                let operation = match wild.byte() % 10 {
                    0 => wild.odd16(),
                    1..=3 => REQUEST,
                    4 => RESPONSE,
                    5 => 3 + u16::from(wild.byte() % 2),
                    6 => 6 + u16::from(wild.byte() % 2),
                    _ => DATA,
                };
                let mut header = Header::to_host([guest_port, host_port], operation);
                header.bytes = u32::try_from(payload).unwrap_or(0);
                header.flags = u32::from(wild.byte() & 3);
                header.buffer = if wild.one_in(4) { wild.odd32() } else { 64 << 10 };
                header.forwarded = if wild.one_in(3) { wild.odd32() } else { 0 };
                match wild.byte() {
                    0..=3 => header.source = wild.odd(),
                    4..=7 => header.destination = wild.odd(),
                    8..=11 => header.kind = wild.odd16(),
                    12..=15 => header.bytes = wild.odd32(),
                    _ => {}
                }
                let mut bytes = header.wire();
                if wild.one_in(40) {
                    bytes.truncate(wild.index(44));
                }
                let mut pieces = vec![Piece::Out(bytes)];
                if payload > 0 {
                    pieces.push(Piece::Out(vec![b'#'; payload]));
                }
                pieces
            }
            _ => vec![Piece::In(8)],
        }
    }

    fn host(&mut self, guest: &mut Guest<Self::Model>, wild: &mut Wild<'_>) {
        if wild.one_in(3) {
            let (_, stream) = self.host.program();
            let port = u32::from(wild.byte() % 6);
            // It may be refused: the table is full, or there is no driver.
            let _ = guest.transport.model(|vsock| vsock.offer(stream, port));
        } else {
            self.say_ready(guest, wild);
        }
        for _ in 0..1024 {
            if guest.transport.work(Vsock::deliver) != Backlog::More {
                return;
            }
        }
        panic!("packets for the guest never end");
    }

    fn prove(&mut self, guest: &mut Guest<Self::Model>) {
        self.host.programs().all.retain(|one| !one.pipe().dropped);
        assert!(self.host.programs().all.is_empty(), "a reset ends every connection");
        self.host.programs().watched.clear();
        assert!(guest.set_up(guest.offered_features()));
        for _ in 0..4 {
            guest.offer(EVENTS, &[Piece::In(8)]);
            guest.offer(RECEIVE, &[Piece::In(44 + 4096)]);
        }
        [EVENTS, RECEIVE].into_iter().for_each(|queue| guest.turn(queue));
        let ports = [77, PORT];
        guest.offer(TRANSMIT, &[Piece::Out(Header::to_host(ports, REQUEST).wire())]);
        guest.turn(TRANSMIT);
        assert_eq!(guest.used(RECEIVE), [44], "the host accepts");
        let said = Header { bytes: 5, ..Header::to_host(ports, DATA) };
        guest.offer(TRANSMIT, &[Piece::Out(said.wire()), Piece::Out(b"hello".to_vec())]);
        guest.turn(TRANSMIT);
        let (id, program) = self.host.programs().watched[0].clone();
        assert_eq!(program.pipe().to_host, b"hello");
        program.pipe().to_guest.extend(b"good day");
        let ready = Readiness { readable: true, ..Readiness::default() };
        guest.transport.model(|vsock| vsock.host_ready(id, ready));
        let _ = guest.transport.work(Vsock::deliver);
        assert_eq!(guest.used(RECEIVE).last(), Some(&(44 + 8)), "and answers");
    }
}

/// The target.
pub fn run(data: &[u8]) {
    guest::play(Sockets { host: Host::default() }, &mut Wild::new(data));
}

//! Somebody between a box and its broker: writes down what the box says, and spoils the link when told to.
//!
//! ```text
//! box --reader--> [ chunks ] --writer--> broker          the same the other way round
//!          |                       |
//!          writes down             carries on, holds back, or loses
//! ```
//!
//! Duty: bytes both ways, and the packets among those from the box. Not here: what they mean.
//! Invariant: bytes of one direction of a connection stay in order, or are lost from one of them on for good.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use crate::PATIENCE;
use crate::wire::Packet;

/// A packet from the box.
#[derive(Clone, Debug)]
pub struct Said {
    /// Which connection, from 0.
    pub connection: usize,
    pub packet: Packet,
    /// On the wire.
    pub bytes: usize,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToBroker,
    ToBox,
}

/// Connections below these numbers, by way.
#[derive(Clone, Copy, Debug, Default)]
struct Below([usize; 2]);

impl Below {
    fn has(self, connection: usize, way: Way) -> bool {
        connection < self.0[usize::from(way == Way::ToBox)]
    }

    fn set(&mut self, way: Way, connections: usize) {
        self.0[usize::from(way == Way::ToBox)] = connections;
    }
}

#[derive(Debug, Default)]
struct Inner {
    said: Vec<Said>,
    connections: usize,
    open: Vec<TcpStream>,
    from_broker: usize,
    /// Nobody gets in.
    shut: bool,
    /// What comes now is kept back.
    held: Below,
    /// What comes now is lost, the end of the connection included.
    vanishing: Below,
    /// Ends of which nobody is told.
    silent: Vec<Stream>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Clone, Debug)]
pub struct Tap {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// One of the two sides.
#[derive(Debug)]
enum Stream {
    Box(TcpStream),
    Broker(UnixStream),
}

impl Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Box(stream) => stream.read(buffer),
            Stream::Broker(stream) => stream.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Box(stream) => stream.write_all(bytes),
            Stream::Broker(stream) => stream.write_all(bytes),
        }
    }

    /// Both ways: it is over.
    fn end(&self) {
        let _ = match self {
            Stream::Box(stream) => stream.shutdown(Shutdown::Both),
            Stream::Broker(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap {
    /// In front of the broker at `socket`.
    pub fn new(socket: PathBuf) -> io::Result<Tap> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let shared = Arc::new(Shared { inner: Mutex::default(), changed: Condvar::new() });
        let tap = Tap { address: listener.local_addr()?, shared };
        let ears = tap.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A broker that is not there is a connection that ends.
                let _ = ears.take(stream, &socket);
            }
        });
        Ok(tap)
    }

    /// On the loopback interface.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// For a box to connect to.
    pub fn server(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    fn take(&self, from_box: TcpStream, socket: &PathBuf) -> io::Result<()> {
        let number = {
            let mut inner = self.shared.lock();
            if inner.shut {
                return Ok(());
            }
            inner.connections += 1;
            inner.open.push(from_box.try_clone()?);
            inner.connections - 1
        };
        let to_broker = UnixStream::connect(socket)?;
        let back = (Stream::Broker(to_broker.try_clone()?), Stream::Box(from_box.try_clone()?));
        self.carry(number, Way::ToBroker, Stream::Box(from_box), Stream::Broker(to_broker));
        self.carry(number, Way::ToBox, back.0, back.1);
        Ok(())
    }

    fn carry(&self, connection: usize, way: Way, from: Stream, to: Stream) {
        let (chunks, out) = channel();
        let (reader, writer) = (self.clone(), self.clone());
        thread::spawn(move || reader.read(connection, way, from, &chunks));
        thread::spawn(move || writer.write(connection, way, to, &out));
    }

    fn read(&self, connection: usize, way: Way, mut from: Stream, chunks: &Sender<Vec<u8>>) {
        let (mut buffer, mut pending) = ([0; 16384], Vec::new());
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let mut inner = self.shared.lock();
            match way {
                Way::ToBox => inner.from_broker += count,
                Way::ToBroker => {
                    pending.extend_from_slice(&buffer[..count]);
                    while let Some((packet, bytes)) = Packet::take(&mut pending) {
                        inner.said.push(Said { connection, packet, bytes });
                    }
                }
            }
            drop(inner);
            self.shared.changed.notify_all();
            if chunks.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
        if !self.shared.lock().vanishing.has(connection, way) {
            from.end();
        }
    }

    fn write(&self, connection: usize, way: Way, mut to: Stream, chunks: &Receiver<Vec<u8>>) {
        loop {
            let chunk = chunks.recv();
            let mut inner = self.shared.lock();
            while inner.held.has(connection, way) {
                inner = self.shared.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
            }
            if inner.vanishing.has(connection, way) {
                match chunk {
                    Ok(_) => continue,
                    Err(_) => return inner.silent.push(to),
                }
            }
            drop(inner);
            if chunk.map_or(true, |chunk| to.write_all(&chunk).is_err()) {
                return to.end();
            }
        }
    }

    /// From now on nothing gets through on the connections that there are, not even their end; new ones are good.
    pub fn let_vanish(&self, ways: &[Way]) {
        let mut inner = self.shared.lock();
        let connections = inner.connections;
        ways.iter().for_each(|way| inner.vanishing.set(*way, connections));
    }

    /// From now on what comes on the connections that there are is kept back; new ones are good.
    pub fn hold(&self, way: Way) {
        let mut inner = self.shared.lock();
        let connections = inner.connections;
        inner.held.set(way, connections);
    }

    /// What was kept back comes, late.
    pub fn release(&self) {
        self.shared.lock().held = Below::default();
        self.shared.changed.notify_all();
    }

    /// All connections end, as when a cable is pulled at a router that says so.
    pub fn cut(&self) {
        for stream in self.shared.lock().open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Whoever comes is turned away.
    pub fn shut(&self) {
        self.shared.lock().shut = true;
    }

    pub fn open(&self) {
        self.shared.lock().shut = false;
    }

    /// There were so many.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }

    pub fn said(&self) -> Vec<Said> {
        self.shared.lock().said.clone()
    }

    /// Bytes from box to broker, and from broker to box.
    pub fn bytes(&self) -> (usize, usize) {
        let inner = self.shared.lock();
        (inner.said.iter().map(|said| said.bytes).sum(), inner.from_broker)
    }

    /// Waits until `look` finds something in what was said; `None` when that takes too long.
    pub fn wait<T>(&self, look: impl FnMut(&[Said]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut look = look;
        let mut inner = self.shared.lock();
        loop {
            if let Some(found) = look(&inner.said) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            inner = self.shared.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

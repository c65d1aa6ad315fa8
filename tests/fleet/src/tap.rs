//! Somebody between a box and its broker: writes down what the box says, and spoils the link when told to.
//!
//! Duty: bytes both ways, and the packets among those from the box. Not here: what they mean.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
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
    /// The broker got it.
    pub delivered: bool,
}

#[derive(Debug)]
struct Inner {
    said: Vec<Said>,
    /// Connections before this one are half open: bytes vanish both ways, and nobody is told.
    half_open: usize,
    connections: usize,
    open: Vec<TcpStream>,
    from_broker: usize,
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap {
    /// In front of the broker at `socket`.
    pub fn new(socket: PathBuf) -> io::Result<Tap> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let inner =
            Inner { said: Vec::new(), half_open: 0, connections: 0, open: Vec::new(), from_broker: 0 };
        let shared = Arc::new(Shared { inner: Mutex::new(inner), changed: Condvar::new() });
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
            inner.connections += 1;
            inner.open.push(from_box.try_clone()?);
            inner.connections - 1
        };
        let to_broker = UnixStream::connect(socket)?;
        let (back_from, back_to) = (to_broker.try_clone()?, from_box.try_clone()?);
        let (up, down) = (self.clone(), self.clone());
        thread::spawn(move || up.carry_up(number, from_box, to_broker));
        thread::spawn(move || down.carry_down(number, back_from, &back_to));
        Ok(())
    }

    fn carry_up(&self, connection: usize, mut from: TcpStream, mut to: UnixStream) {
        let (mut buffer, mut pending) = ([0; 16384], Vec::new());
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let mut inner = self.shared.lock();
            pending.extend_from_slice(&buffer[..count]);
            while let Some((packet, bytes)) = Packet::take(&mut pending) {
                let delivered = connection >= inner.half_open;
                inner.said.push(Said { connection, packet, bytes, delivered });
            }
            let good = connection >= inner.half_open;
            drop(inner);
            self.shared.changed.notify_all();
            if good && to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }

    fn carry_down(&self, connection: usize, mut from: UnixStream, mut to: &TcpStream) {
        let mut buffer = [0; 16384];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let good = {
                let mut inner = self.shared.lock();
                inner.from_broker += count;
                connection >= inner.half_open
            };
            if good && to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }

    /// From now on nothing gets through on the connections that there are; new ones are good.
    pub fn let_vanish(&self) {
        let mut inner = self.shared.lock();
        inner.half_open = inner.connections;
    }

    /// All connections end, as when a cable is pulled at a router that says so.
    pub fn cut(&self) {
        for stream in self.shared.lock().open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
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

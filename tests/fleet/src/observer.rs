//! Somebody at the broker who hears all that it hands on, also over the broker's own death.
//!
//! Duty: messages in their order, with the places where nobody could hear anything. Not here: what they mean.
//! Invariant: what was heard reached the broker; what the broker handed on before it was killed is heard.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use crate::PATIENCE;
use crate::wire::{Packet, Publish};

/// CONNECT with a clean session and no keep-alive.
const CONNECT: &[u8] = b"\x10\x14\x00\x04MQTT\x04\x02\x00\x00\x00\x08observer";
/// SUBSCRIBE to all with QoS 0.
const SUBSCRIBE: &[u8] = b"\x82\x06\x00\x01\x00\x01#\x00";
/// Types of packets.
const SUBACK: u8 = 9;

/// For the broker's configuration: a slow observer misses nothing.
pub const MISSES_NOTHING: &str = "max_queued_messages 0\nmax_queued_bytes 0\n";

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// From here on nothing was missed.
    Attached,
    Message(Publish),
}

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Vec<Heard>>,
    changed: Condvar,
}

#[derive(Clone, Debug, Default)]
pub struct Observer {
    shared: Arc<Shared>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, heard: Heard) {
        self.lock().push(heard);
        self.changed.notify_all();
    }
}

/// Subscribed to everything; what the broker keeps and what follows is to be read.
pub fn subscribe(socket: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(CONNECT)?;
    stream.write_all(SUBSCRIBE)?;
    Ok(stream)
}

fn attachments(heard: &[Heard]) -> usize {
    heard.iter().filter(|one| **one == Heard::Attached).count()
}

impl Observer {
    /// Listens at the broker behind `socket` until that ends; returns when nothing more is missed.
    pub fn attach(&self, socket: &Path) -> io::Result<()> {
        let mut stream = subscribe(socket)?;
        let attached = attachments(&self.shared.lock());
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            let (mut pending, mut buffer) = (Vec::new(), [0; 16384]);
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                pending.extend_from_slice(&buffer[..count]);
                while let Some((packet, _)) = Packet::take(&mut pending) {
                    match packet {
                        Packet::Publish(publish) => shared.hear(Heard::Message(publish)),
                        Packet::Other(SUBACK) => shared.hear(Heard::Attached),
                        _ => {}
                    }
                }
            }
        });
        let again = self.wait(|heard| (attachments(heard) > attached).then_some(()));
        again.ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.shared.lock().clone()
    }

    /// Waits until `look` finds something in what was heard; `None` when that takes too long.
    pub fn wait<T>(&self, look: impl FnMut(&[Heard]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut look = look;
        let mut heard = self.shared.lock();
        loop {
            if let Some(found) = look(&heard) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            heard = self.shared.changed.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

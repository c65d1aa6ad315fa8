//! A client of one monitor's control socket.
//!
//! Duty: one request at a time, its answers, and the events in between. Not its duty: what they look like to a
//! person.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_wire::control::{Order, Reply, Request, decode_reply, encode_request};
use hearth_wire::{Decoder, FrameFault, MAX_FRAME};
use thiserror::Error;

/// A monitor answers at once; only a stop takes as long as the guest likes, and a pause as long as its disks.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes per read.
const READ_BYTES: usize = 4096;

/// Why a monitor could not be talked to.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No monitor listens there.
    #[error("{}: no monitor answers there", .0.display())]
    Connect(PathBuf, #[source] io::Error),
    /// The connection broke.
    #[error("the monitor cannot be heard")]
    Stream(#[source] io::Error),
    /// It hung up before it answered.
    #[error("the monitor hung up")]
    HungUp,
    /// What it said are no frames.
    #[error("the monitor sent a bad frame")]
    Frame(#[source] FrameFault),
}

/// A whole frame whose content is newer than this program: answers and events are only ever added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown;

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: Box<Decoder>,
    next: u32,
    /// Read and not yet taken by the decoder.
    unread: Vec<u8>,
}

impl Client {
    /// Connects to the monitor whose control socket is at `socket`.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let stream =
            UnixStream::connect(socket).map_err(|error| ClientError::Connect(socket.to_owned(), error))?;
        Ok(Self { stream, decoder: Box::default(), next: 1, unread: Vec::new() })
    }

    /// Sends a request, and returns its number.
    pub fn ask(&mut self, order: Order) -> Result<u32, ClientError> {
        let patience = match order {
            // A guest, and a disk, take their time.
            Order::Stop { .. } | Order::Snapshot { .. } | Order::Subscribe => None,
            _ => Some(PATIENCE),
        };
        self.stream.set_read_timeout(patience).map_err(ClientError::Stream)?;
        let id = self.next;
        self.next = self.next.wrapping_add(1).max(1);
        let mut buffer = [0; MAX_FRAME];
        let frame = encode_request(&Request { id, order }, &mut buffer)
            .map_err(|error| ClientError::Stream(io::Error::other(error)))?;
        self.stream.write_all(frame).map_err(ClientError::Stream)?;
        Ok(id)
    }

    /// Gives the next reply to `look`, or what a newer monitor said that is not known here.
    pub fn next<R>(&mut self, look: impl FnOnce(Result<Reply<'_>, Unknown>) -> R) -> Result<R, ClientError> {
        let mut payload = [0; MAX_FRAME];
        let length = loop {
            if let Some(found) = self.decoder.pop_payload().map_err(ClientError::Frame)? {
                // Out of the decoder, so that it can be asked again when there is none.
                payload[..found.len()].copy_from_slice(found);
                break found.len();
            }
            if self.unread.is_empty() {
                self.read()?;
            }
            let rest = self.decoder.push(&self.unread).len();
            self.unread.drain(..self.unread.len() - rest);
        };
        Ok(look(decode_reply(&payload[..length]).ok_or(Unknown)))
    }

    fn read(&mut self) -> Result<(), ClientError> {
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ClientError::HungUp),
                Ok(length) => {
                    self.unread.extend_from_slice(&buffer[..length]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(ClientError::HungUp),
                Err(error) => return Err(ClientError::Stream(error)),
            }
        }
    }
}

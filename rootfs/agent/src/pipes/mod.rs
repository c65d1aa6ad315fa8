//! The way from MQTT clients in the guest to the host's broker.
//!
//! Duty: listen on the guest's loopback address, and give each client a stream to the host. Not its duty: what is said on
//! it, which the host reads; bytes from one end to the other (`pipe`).
//! Invariant: never blocks, and holds at most [`MAX_PIPES`]; who comes beyond that is hung up on.

mod pipe;

use self::pipe::Pipe;
use crate::{clock::Uptime, link::Dial};
use nix::poll::PollFlags;
use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, TcpListener},
    os::fd::{AsFd, BorrowedFd},
};

/// As many as the host takes of one guest. Each has two buffers of four KiB.
const MAX_PIPES: usize = 8;
/// Clients accepted in one turn.
const ACCEPTS_PER_TURN: usize = 8;

#[derive(Debug)]
pub(crate) struct Pipes<D: Dial> {
    dial: D,
    listener: Option<TcpListener>,
    open: Vec<Pipe<D::Stream>>,
}

impl<D: Dial> Pipes<D> {
    pub(crate) fn open(dial: D, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        Ok(Self { dial, listener: Some(listener), open: Vec::new() })
    }

    /// Nobody listens.
    pub(crate) fn none(dial: D) -> Self {
        Self { dial, listener: None, open: Vec::new() }
    }

    /// Does what can be done at once.
    pub(crate) fn turn(&mut self, now: Uptime) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = &self.listener else { break };
            match listener.accept() {
                // Dropped where there is no place, or no way to the host: its client sees a closed connection.
                Ok((client, _)) => {
                    if self.open.len() < MAX_PIPES
                        && client.set_nonblocking(true).is_ok()
                        && let Ok(host) = self.dial.dial()
                    {
                        // A small packet is not held back for a larger one.
                        let _ = client.set_nodelay(true);
                        self.open.push(Pipe::new(client, host, now));
                    }
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // It would wake the loop for ever.
                Err(_) => self.listener = None,
            }
        }
        let dial = &self.dial;
        self.open.iter_mut().for_each(|pipe| pipe.turn(now, dial));
        self.open.retain(|pipe| !pipe.is_gone());
    }

    /// Nobody new comes any more; what was said goes on its way.
    pub(crate) fn leave(&mut self) {
        self.listener = None;
    }

    /// Pipes with something that the host has not got.
    pub(crate) fn waiting(&self) -> usize {
        self.open.iter().filter(|pipe| pipe.is_busy()).count()
    }

    /// When something is due, if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Uptime> {
        self.open.iter().filter_map(Pipe::deadline).min()
    }

    /// What to wait for.
    pub(crate) fn interest(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let clients = self.listener.as_ref().map(|listener| (listener.as_fd(), PollFlags::POLLIN));
        clients.into_iter().chain(self.open.iter().flat_map(Pipe::interest))
    }
}

#[cfg(test)]
mod tests;

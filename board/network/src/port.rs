//! One interface's client of DHCP with its socket.
//!
//! Duty: questions out, answers in. Not here: what they mean (`dhcp`).
//! Invariant: a turn reads a bounded number of answers.
//!
//! A datagram socket that is bound to its interface: Linux lets it ask all before there is an address, and servers are
//! asked to answer to all. A server that answers to the new address alone is not heard; none in use does.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};

use crate::dhcp::message::{Answer, CLIENT_PORT, MAX_BYTES, Question, SERVER_PORT, read};

/// Answers read in one turn; the rest waits in the socket, and is dropped where it has no room.
const ANSWERS_PER_TURN: usize = 16;

#[derive(Debug)]
pub(crate) struct Port(UdpSocket);

impl Port {
    pub(crate) fn open(interface: &str) -> io::Result<Port> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        setsockopt(&socket, sockopt::Broadcast, &true)?;
        setsockopt(&socket, sockopt::BindToDevice, &OsString::from(interface))?;
        bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, CLIENT_PORT))?;
        Ok(Port(UdpSocket::from(socket)))
    }

    /// What cannot be sent is asked again later, as what is lost on the wire.
    pub(crate) fn ask(&self, question: &Question, to: Option<Ipv4Addr>) {
        let to = to.unwrap_or(Ipv4Addr::BROADCAST);
        let _ = self.0.send_to(&question.bytes(), (to, SERVER_PORT));
    }

    /// What came since the last time.
    pub(crate) fn answers(&self) -> Vec<Answer> {
        let mut buffer = [0; MAX_BYTES];
        let mut answers = Vec::new();
        for _ in 0..ANSWERS_PER_TURN {
            match self.0.recv_from(&mut buffer) {
                Ok((length, from)) if from.port() == SERVER_PORT => {
                    answers.extend(read(buffer.get(..length).unwrap_or_default()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An error of the socket is told once and is over then.
                Ok(_) | Err(_) => {}
            }
        }
        answers
    }

    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.0
    }
}

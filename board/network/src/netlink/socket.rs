//! The kernel's ear and mouth for interfaces.
//!
//! Duty: carry out one request and say how it went; hear of links. Not here: bytes (`message`), decisions.
//! Invariant: only what the kernel says is heard, and no wait for it is without end.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use thiserror::Error;

use super::message::{Link, Request, Told, read};

/// The kernel answers within the system call; this is for a kernel that does not.
const PATIENCE_S: i64 = 5;
/// What the kernel puts into one answer is less.
const BUFFER_BYTES: usize = 32 << 10;
/// Links come and go (`RTMGRP_LINK`).
const LINKS: u32 = 1;

#[derive(Debug, Error)]
pub(crate) enum NetlinkError {
    #[error("the kernel cannot be asked: {}", .0.desc())]
    Socket(Errno),
    #[error("{}", .0.desc())]
    Refused(Errno),
    #[error("the kernel does not answer")]
    Silent,
}

/// For requests.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub(crate) fn open() -> Result<Netlink, NetlinkError> {
        let socket = open(0, SockFlag::empty())?;
        let patience = TimeVal::seconds(PATIENCE_S);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience).map_err(NetlinkError::Socket)?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// What the kernel tells in answer.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Vec<Told>, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        send(self.socket.as_raw_fd(), &request.bytes(self.sequence), MsgFlags::empty())
            .map_err(NetlinkError::Socket)?;
        let mut all = Vec::new();
        loop {
            for told in receive(&self.socket)?.ok_or(NetlinkError::Silent)? {
                match told {
                    Told::Answer { sequence, errno } if sequence == self.sequence => {
                        return if errno == 0 {
                            Ok(all)
                        } else {
                            Err(NetlinkError::Refused(Errno::from_raw(errno)))
                        };
                    }
                    Told::Done { sequence } if sequence == self.sequence => return Ok(all),
                    // Of an earlier request whose answer came too late.
                    Told::Answer { .. } | Told::Done { .. } => {}
                    other => all.push(other),
                }
            }
        }
    }

    pub(crate) fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let told = self.ask(&Request::Links)?;
        Ok(told
            .into_iter()
            .filter_map(|told| if let Told::Link(link) = told { Some(link) } else { None })
            .collect())
    }
}

/// For what happens to links.
#[derive(Debug)]
pub(crate) struct Ear {
    socket: OwnedFd,
}

/// What came.
#[derive(Debug)]
pub(crate) enum News {
    Told(Vec<Told>),
    /// More than fitted: look at all links anew.
    Missed,
    Nothing,
}

impl Ear {
    pub(crate) fn open() -> Result<Ear, NetlinkError> {
        Ok(Ear { socket: open(LINKS, SockFlag::SOCK_NONBLOCK)? })
    }

    pub(crate) fn hear(&self) -> Result<News, NetlinkError> {
        match receive(&self.socket) {
            Ok(Some(told)) => Ok(News::Told(told)),
            Ok(None) => Ok(News::Nothing),
            Err(NetlinkError::Socket(Errno::ENOBUFS)) => Ok(News::Missed),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Ear {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open(groups: u32, flags: SockFlag) -> Result<OwnedFd, NetlinkError> {
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)
        .map_err(NetlinkError::Socket)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(NetlinkError::Socket)?;
    Ok(socket)
}

/// `None` if nothing came in time. What another process sends is nothing said.
fn receive(socket: &OwnedFd) -> Result<Option<Vec<Told>>, NetlinkError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    match recvfrom::<NetlinkAddr>(socket.as_raw_fd(), &mut buffer) {
        Ok((length, from)) if from.is_some_and(|from| from.pid() == 0) => {
            Ok(Some(read(buffer.get(..length).unwrap_or_default())))
        }
        Ok(_) => Ok(Some(Vec::new())),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(errno) => Err(NetlinkError::Socket(errno)),
    }
}

//! The shell of the socket device: Unix sockets, one epoll instance, the CONNECT handshake.
//!
//! Duty: own the listening socket and the streams that have not said where they want to go; turn edges into
//! [`Vsock::host_ready`] and finished handshakes into [`Vsock::offer`]. Not its duty: a single byte of payload.
//!
//! A stream is registered once, edge-triggered for both directions, and taken out by closing it: no system
//! call per packet is spent on interest, and a connection that waits for the guest cannot spin the loop.
//!
//! Invariant: nothing here blocks. A listener on the host whose queue is full refuses the guest instead of
//! stopping the monitor; a host program that never finishes its CONNECT line holds one of
//! [`MAX_HANDSHAKES`] places until a newer one needs it.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use event_manager::{EventOps, Events, MutEventSubscriber};
use nix::sys::stat::Mode;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::device::Vsock;
use super::handshake::{Handshake, Progress};
use super::table::ConnectionId;
use super::{HostSide, HostStream, Readiness};
use crate::jail::outside;
use crate::listener::{ListenError, Listener};
use crate::logger::Quota;
use crate::virtio::device::Backlog;
use crate::virtio::mmio::Transport;
use crate::virtio::rings::RingFault;

/// Host programs that are in the middle of their CONNECT line. Protects descriptors.
const MAX_HANDSHAKES: usize = 32;
/// Connections accepted in one turn of the event loop.
const ACCEPTS_PER_TURN: usize = 32;
/// Events taken from epoll in one turn of the event loop.
const EVENTS_PER_TURN: usize = 64;
/// Bytes of the longest path of a Unix socket, without its final zero.
const LONGEST_PATH: usize = 107;
/// Bytes that `_` and a port may add to the socket's path.
const LONGEST_SUFFIX: usize = 11;

/// The umask decides who may reach a guest.
const ANYBODY: Mode = Mode::S_IRWXU.union(Mode::S_IRWXG).union(Mode::S_IRWXO);

/// The token of the listening socket. Tokens of ours have the bit that ids of connections leave alone.
const LISTENER: u64 = u64::MAX;
/// The token of the event by which an unfinished turn calls itself again.
const AGAIN: u64 = u64::MAX - 1;

/// Why the host's end of the socket device could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel has no room for such a path.
    #[error("the socket path {path:?} is longer than {} bytes", LONGEST_PATH - LONGEST_SUFFIX)]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// No socket at that path.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No epoll instance or event.
    #[error("cannot watch sockets")]
    Watch(#[source] io::Error),
}

/// The model's way to the host: streams to `<socket>_<port>`.
#[derive(Debug)]
pub struct UnixHost {
    socket: PathBuf,
    epoll: Arc<Epoll>,
}

/// The listening socket, before the device it leads to exists.
#[derive(Debug)]
pub struct Door {
    listener: Listener,
    epoll: Arc<Epoll>,
}

/// Listens on `socket`. A socket that nobody listens on any more, from a monitor that crashed, is replaced.
pub fn listen(socket: &Path) -> Result<Listener, HostError> {
    let path = socket.to_path_buf();
    if path.as_os_str().len() > LONGEST_PATH - LONGEST_SUFFIX {
        return Err(HostError::PathTooLong { path });
    }
    Ok(Listener::bind(&path, ANYBODY)?)
}

/// Both ends of the device behind `listener`, whose path is `socket`.
pub fn behind(listener: Listener, socket: &Path) -> Result<(UnixHost, Door), HostError> {
    let epoll = Arc::new(Epoll::new().map_err(HostError::Watch)?);
    watch(&epoll, ControlOperation::Add, listener.as_raw_fd(), EventSet::IN, LISTENER)
        .map_err(HostError::Watch)?;
    Ok((UnixHost { socket: socket.to_path_buf(), epoll: epoll.clone() }, Door { listener, epoll }))
}

fn watch(epoll: &Epoll, how: ControlOperation, fd: RawFd, what: EventSet, token: u64) -> io::Result<()> {
    epoll.ctl(how, fd, EpollEvent::new(what | EventSet::EDGE_TRIGGERED, token))
}

impl HostSide for UnixHost {
    type Stream = UnixStream;

    fn connect(&mut self, port: u32) -> io::Result<UnixStream> {
        outside::call_host(&self.socket, port)
    }

    fn watch(&mut self, stream: &UnixStream, id: ConnectionId) -> io::Result<()> {
        let what = EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP;
        watch(&self.epoll, ControlOperation::Add, stream.as_raw_fd(), what, id.raw())
    }
}

impl HostStream for UnixStream {
    fn close_write(&mut self) {
        // It fails only where the other end is gone, which is seen elsewhere. So below.
        let _ = self.shutdown(Shutdown::Write);
    }

    fn close_read(&mut self) {
        let _ = self.shutdown(Shutdown::Read);
    }
}

/// Whoever gives the device its turn: the transport, or a test.
pub trait Turn {
    /// Runs `work` on the model, unless the device is not active.
    fn turn(&self, work: &mut dyn FnMut(&mut Vsock<UnixHost>) -> Result<Backlog, RingFault>) -> Backlog;
}

impl Turn for Transport<Vsock<UnixHost>> {
    fn turn(&self, work: &mut dyn FnMut(&mut Vsock<UnixHost>) -> Result<Backlog, RingFault>) -> Backlog {
        self.work(work)
    }
}

/// The event loop's subscriber: lets host programs in and tells the device what became of its streams.
#[derive(Debug)]
pub struct Reception<T> {
    door: Door,
    device: Arc<T>,
    handshakes: Vec<Handshake>,
    next_token: u64,
    /// Host programs wait to be accepted, as far as we know.
    someone_waits: bool,
    again: EventFd,
    /// Kept for its allocation: what one turn heard.
    ready: Vec<(ConnectionId, Readiness)>,
    arrived: Vec<(UnixStream, u32)>,
    complaints: Quota,
}

impl Door {
    /// Opens the door to `device`.
    pub fn open<T: Turn>(self, device: Arc<T>) -> Result<Reception<T>, HostError> {
        let again = EventFd::new(EFD_NONBLOCK).map_err(HostError::Watch)?;
        watch(&self.epoll, ControlOperation::Add, again.as_raw_fd(), EventSet::IN, AGAIN)
            .map_err(HostError::Watch)?;
        Ok(Reception {
            door: self,
            device,
            handshakes: Vec::with_capacity(MAX_HANDSHAKES),
            next_token: 0,
            someone_waits: false,
            again,
            ready: Vec::with_capacity(EVENTS_PER_TURN),
            arrived: Vec::new(),
            complaints: Quota::default(),
        })
    }
}

impl<T: Turn> Reception<T> {
    /// Becomes readable when a turn is due; then [`turn`](Self::turn) until it no longer is.
    pub fn epoll(&self) -> &Epoll {
        &self.door.epoll
    }

    /// One turn: takes what epoll has to tell, at most [`EVENTS_PER_TURN`], and gives the device its turn.
    pub fn turn(&mut self) {
        let mut events = [EpollEvent::default(); EVENTS_PER_TURN];
        let count = match self.door.epoll.wait(0, &mut events) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(error) => {
                self.complain("cannot hear of sockets", &error);
                0
            }
        };
        for event in events.iter().take(count) {
            match event.data() {
                LISTENER => self.someone_waits = true,
                AGAIN => drop(self.again.read()),
                token if token & ConnectionId::UNUSED_BIT != 0 => self.greet(token),
                raw => self.ready.push((ConnectionId::from_raw(raw), readiness(event))),
            }
        }
        // After the handshakes that go on, so that new ones do not push those out that are about to end.
        if self.someone_waits {
            self.accept();
        }
        let Self { ready, arrived, device, .. } = self;
        let backlog = device.turn(&mut |model| {
            for (id, readiness) in ready.drain(..) {
                model.host_ready(id, readiness);
            }
            for (stream, port) in arrived.drain(..) {
                if let Err(error) = model.offer(stream, port) {
                    log::debug!("vsock: no way to port {port} of the guest: {error}");
                }
            }
            model.deliver()
        });
        // Left over where the device is not active: then there is no connection and no way in.
        ready.clear();
        arrived.clear();
        if backlog == Backlog::More
            && let Err(error) = self.again.write(1)
        {
            self.complain("cannot go on with what is left to do", &error);
        }
    }

    fn complain(&self, what: &str, error: &io::Error) {
        if self.complaints.allow() {
            log::warn!("vsock: {what}: {error}");
        }
    }

    /// Accepts until nobody waits. After the turn's bound, or an error such as too many open files, the next
    /// turn tries again.
    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.door.listener.accept() {
                Ok(stream) => self.welcome(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.someone_waits = false;
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.complain("cannot accept a connection", &error);
                    return;
                }
            }
        }
        // More may wait, and their edge is spent.
        let _ = self.again.write(1);
    }

    fn welcome(&mut self, stream: UnixStream) {
        if self.handshakes.len() >= MAX_HANDSHAKES {
            // In order of arrival: the first is the one that has taken longest.
            drop(self.handshakes.remove(0));
        }
        let token = ConnectionId::UNUSED_BIT | self.next_token;
        self.next_token = self.next_token.wrapping_add(1) % (1 << 62);
        let watched = stream.set_nonblocking(true).and_then(|()| {
            let what = EventSet::IN | EventSet::READ_HANG_UP;
            watch(&self.door.epoll, ControlOperation::Add, stream.as_raw_fd(), what, token)
        });
        match watched {
            Ok(()) => {
                self.handshakes.push(Handshake::new(token, stream));
                // Most have sent their line by now.
                self.greet(token);
            }
            Err(error) => self.complain("cannot watch a connection", &error),
        }
    }

    fn greet(&mut self, token: u64) {
        let Some(place) = self.handshakes.iter().position(|handshake| handshake.token() == token) else {
            return;
        };
        let Some(handshake) = self.handshakes.get_mut(place) else { return };
        let progress = handshake.advance();
        if matches!(progress, Progress::Waits) {
            return;
        }
        let stream = self.handshakes.remove(place).into_stream();
        if let Progress::Wants(port) = progress {
            // The device watches it under the connection's own token.
            let nothing = EpollEvent::default();
            match self.door.epoll.ctl(ControlOperation::Delete, stream.as_raw_fd(), nothing) {
                Ok(()) => self.arrived.push((stream, port)),
                Err(error) => self.complain("cannot hand a connection over", &error),
            }
        }
    }
}

fn readiness(event: &EpollEvent) -> Readiness {
    let events = EventSet::from_bits_truncate(event.events());
    Readiness {
        readable: events.intersects(EventSet::IN | EventSet::READ_HANG_UP | EventSet::HANG_UP),
        writable: events.contains(EventSet::OUT),
        hung_up: events.intersects(EventSet::HANG_UP | EventSet::ERROR),
    }
}

impl<T: Turn> MutEventSubscriber for Reception<T> {
    fn process(&mut self, _events: Events, _ops: &mut EventOps<'_>) {
        self.turn();
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(Events::new(self.epoll(), event_manager::EventSet::IN)) {
            log::error!("vsock: no way in from the host: {error}");
        }
    }
}

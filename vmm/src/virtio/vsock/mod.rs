//! The virtio socket device (virtio 1.2, section 5.10): streams between the guest and Unix sockets.
//!
//! | file | what |
//! |---|---|
//! | `device.rs` | queues and configuration space |
//! | `muxer.rs` | which connection a packet belongs to, who may open one, whose turn it is to speak |
//! | `table.rs` | the bounded set of connections |
//! | `connection.rs`, `connection/speak.rs` | one connection from REQUEST to RST |
//! | `credit.rs` | flow control in both directions |
//! | `outbox.rs` | bytes of the guest that the host has not read yet |
//! | `packet.rs` | the packet header |
//! | `incidents.rs` | what a guest did wrong, counted |
//! | `host.rs`, `handshake.rs` | the shell: Unix sockets, epoll, the CONNECT line |
//!
//! All but the shell is pure: host streams come in through [`HostSide`] and [`HostStream`], so a test plays
//! both the guest and the host in memory.
//!
//! The guest is CID `n`, the host CID 2. The guest connects to port P: the device connects to the Unix
//! socket `<socket>_P`. A host program connects to `<socket>`, writes `CONNECT P\n`, and reads `OK Q\n` once
//! the guest accepted on port P; Q is the port that the guest sees.
//!
//! Backpressure, both ways and without a timer: a guest that gives no credit or no buffers leaves bytes in
//! the Unix socket, where the host's writer blocks; a host that does not read fills one bounded outbox,
//! and the guest gets no credit until it does.
//!
//! Every bound is a constant: [`MAX_CONNECTIONS`], [`MAX_GUEST_CONNECTIONS`], `BUFFER` per connection in
//! `credit.rs`, `MAX_RESETS` in `muxer.rs`, the packets per turn in `device.rs`, and those of the host's side
//! in `host.rs`.

mod connection;
mod credit;
mod device;
mod handshake;
mod host;
mod incidents;
mod muxer;
mod outbox;
mod packet;
mod table;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::io;

use vm_memory::{ReadVolatile, WriteVolatile};

pub use self::device::Vsock;
pub use self::host::{Door, HostError, Reception, Turn, UnixHost, behind, listen};
pub use self::incidents::{Incident, Incidents};
pub use self::muxer::OfferError;
pub use self::table::{ConnectionId, MAX_CONNECTIONS, MAX_GUEST_CONNECTIONS};

/// The host's end of one connection. Nothing here may block: [`io::ErrorKind::WouldBlock`] is the answer.
///
/// `read_volatile` of 0 bytes means that the host writes no more.
pub trait HostStream: ReadVolatile + WriteVolatile + io::Write + Debug + Send {
    /// The guest sends no more.
    fn close_write(&mut self);
    /// The guest receives no more.
    fn close_read(&mut self);
}

/// Where the host's ends come from.
pub trait HostSide: Debug + Send {
    /// A host stream.
    type Stream: HostStream;

    /// Connects to whoever listens on `port` of the host.
    fn connect(&mut self, port: u32) -> io::Result<Self::Stream>;

    /// From now on [`Vsock::host_ready`] is called with `id` whenever `stream` *becomes* readable or
    /// writable or is hung up. What it is at the moment of the call counts as becoming.
    fn watch(&mut self, stream: &Self::Stream, id: ConnectionId) -> io::Result<()>;
}

/// What a host stream has become, edge by edge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness {
    /// There is something to read, be it the end.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// Both directions are closed; what was written before can still be read.
    pub hung_up: bool,
}

//! The control socket: how whoever looks after a machine talks to its monitor.
//!
//! | file | what |
//! |---|---|
//! | `server.rs` | the listening socket, who is connected, whose turn it is |
//! | `connection.rs` | one client: frames in, answers and events out |
//! | `outbox.rs` | the bounded queue of bytes to a client that may read slowly |
//!
//! Duty: frames. What a request leads to is the machine's business: it takes requests from
//! [`Server::take`] when it likes, and answers each with its [`Ticket`].
//!
//! Invariant: no client can hold the monitor up or make it grow. Everything is non-blocking and bounded:
//! connections, bytes read in a turn, requests without an answer, bytes that wait to be read. Events that
//! do not fit are counted, and the client is told how many it missed; a client for whom an answer does not
//! fit is disconnected.
//!
//! The messages are in `hearth_wire::control`.

mod connection;
mod outbox;
mod server;
#[cfg(test)]
mod tests;

pub use self::server::{ControlError, Server, open};

/// Who asked for what: the address of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The connection, by a number that is not used again.
    pub client: u32,
    /// The client's own number for its request.
    pub request: u32,
}

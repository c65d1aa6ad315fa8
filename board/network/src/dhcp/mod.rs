//! Addresses from a server on the wire: a small client of DHCP.
//!
//! | file | what |
//! |---|---|
//! | `message.rs` | questions into bytes, bytes into answers |
//! | `lease.rs` | what of an answer may be believed |
//! | `client.rs` | when to ask what |
//!
//! Not here: sockets, interfaces (`station`). All of it is pure.

pub(crate) mod client;
pub(crate) mod lease;
pub(crate) mod message;

#[cfg(test)]
mod client_tests;

//! What the kernel is told and asked of interfaces, addresses and routes (rtnetlink(7)).
//!
//! | file | what |
//! |---|---|
//! | `message.rs` | requests into bytes, bytes into what the kernel says |
//! | `socket.rs` | one request at a time, and hearing of links |
//!
//! By hand: it is six requests and one answer, and the crates for it know three hundred.

pub(crate) mod message;
pub(crate) mod socket;

//! Frames between the supervisor, the monitor and the agent in a guest.
//!
//! Duty: the messages, their bytes on a stream, and the check that what arrives is what was sent.
//! Not its duty: sockets, time, retries, and what a message means to whoever gets it.
//! Invariant: nothing here allocates or panics, whatever bytes come in. A stream that once showed a bad
//! frame stays bad: the peer is confused or hostile, and guessing where its next frame begins would be worse
//! than hanging up.
//!
//! One frame, all integers little endian:
//!
//! ```text
//! | len: u16 | crc: u32                         | payload: len bytes, postcard |
//! |          | CRC-32C of the len bytes+payload | 1..=MAX_PAYLOAD              |
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod control;
mod decoder;
pub mod exec;
mod frame;
mod message;
mod stream;

pub use decoder::Decoder;
pub use frame::{FrameFault, HEADER_LEN, MAX_FRAME, MAX_PAYLOAD, TooBig, encode};
pub use message::{
    ExitStatus, FromAgent, Hostname, Identity, MAX_CARDS, MAX_HOSTNAME, MAX_OUTPUT, MAX_PATH, MAX_VERSION,
    MAX_WORDS, Message, Output, Question, Seed, Stream, ToAgent, UrlPath, Version, Words,
};
pub use stream::{FrameReader, FrameWriter, ReadFault, WriteFault};

/// The vsock port on the host (CID 2) that every agent connects to. Above 1023, so a host that serves it needs
/// no privilege.
pub const AGENT_PORT: u32 = 1024;

/// The vsock port on the host that a guest's MQTT clients are led to, each by a stream of its own. What is said there is
/// MQTT as it comes from the client.
pub const MQTT_PORT: u32 = 1027;

/// Raised when a message changes shape. `Hello` and `Welcome` carry it and keep their shape for ever, so two
/// peers of different ages can at least tell each other so.
pub const PROTOCOL_VERSION: u16 = 1;

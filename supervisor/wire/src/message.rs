//! What the two ends of an agent's stream say to each other.
//!
//! Duty: the vocabulary and its bounds.
//! Not its duty: the bytes of a frame (see `frame`).
//! Invariant: the largest message fits one frame, and postcard numbers variants by position, so variants are
//! only ever appended.

use heapless::{String, Vec};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Bytes of workload output in one message: large enough that a chatty workload costs few frames, small enough
/// that a heartbeat never waits long behind one.
pub const MAX_OUTPUT: usize = 1024;

/// Bytes of an agent's version text, such as `0.1.0`.
pub const MAX_VERSION: usize = 32;

/// A piece of what the workload wrote.
pub type Output = Vec<u8, MAX_OUTPUT>;

/// The agent's version, for people.
pub type Version = String<MAX_VERSION>;

/// Anything that may travel in a frame. A trait of its own, so that not every serialisable type can be sent by
/// mistake.
pub trait Message: Serialize + DeserializeOwned {}

impl Message for FromAgent {}
impl Message for ToAgent {}

/// Which of the workload's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// How the workload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It ended by itself with this exit code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It never ran: the errno of the failed start.
    NotStarted(i32),
}

/// Guest to host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "boxing the output would need an allocator; a message lives for one frame only"
)]
pub enum FromAgent {
    /// First on every connection.
    Hello { protocol: u16, agent_version: Version, uptime_ms: u64 },
    /// The workload runs.
    Started { pid: u32 },
    /// The agent is alive and its loop turns.
    Heartbeat { seq: u32, uptime_ms: u64 },
    /// The workload wrote this.
    Output { stream: Stream, bytes: Output },
    /// The workload ended.
    Exited { status: ExitStatus },
    /// This much output was thrown away, oldest first, since the last such message: the host read too slowly.
    Dropped { bytes: u64 },
}

/// Host to guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAgent {
    /// Answer to `Hello`.
    Welcome { protocol: u16, heartbeat_ms: u32 },
    /// Stop the workload, kill it after the grace, power off.
    Shutdown { grace_ms: u32 },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MAX_PAYLOAD, encode, frame::HEADER_LEN};
    use std::vec;

    /// The payload bytes of every message. A change here is a change of protocol: raise `PROTOCOL_VERSION`.
    #[test]
    fn bytes_on_the_wire_stay_what_they_are() {
        fn payload<M: Message>(message: &M) -> std::vec::Vec<u8> {
            let mut buf = [0; crate::MAX_FRAME];
            encode(message, &mut buf).expect("fits")[HEADER_LEN..].to_vec()
        }
        let version = Version::try_from("0.1").expect("short");
        let hello = FromAgent::Hello { protocol: 1, agent_version: version, uptime_ms: 300 };
        assert_eq!(payload(&hello), [0, 1, 3, b'0', b'.', b'1', 0xac, 2]);
        assert_eq!(payload(&FromAgent::Started { pid: 130 }), [1, 0x82, 1]);
        assert_eq!(payload(&FromAgent::Heartbeat { seq: 7, uptime_ms: 1 }), [2, 7, 1]);
        let bytes = Output::from_slice(b"hi").expect("short");
        assert_eq!(payload(&FromAgent::Output { stream: Stream::Stderr, bytes }), [3, 1, 2, b'h', b'i']);
        assert_eq!(payload(&FromAgent::Exited { status: ExitStatus::Code(-1) }), [4, 0, 1]);
        assert_eq!(payload(&FromAgent::Exited { status: ExitStatus::Signal(9) }), [4, 1, 18]);
        assert_eq!(payload(&FromAgent::Exited { status: ExitStatus::NotStarted(2) }), [4, 2, 4]);
        assert_eq!(payload(&FromAgent::Dropped { bytes: 5 }), [5, 5]);
        assert_eq!(payload(&ToAgent::Welcome { protocol: 1, heartbeat_ms: 1000 }), [0, 1, 0xe8, 7]);
        assert_eq!(payload(&ToAgent::Shutdown { grace_ms: 2 }), [1, 2]);
    }

    #[test]
    fn the_largest_messages_fit_a_frame() {
        let version = Version::try_from("v".repeat(MAX_VERSION).as_str()).expect("exactly full");
        let bytes = Output::from_slice(&vec![255; MAX_OUTPUT]).expect("exactly full");
        let largest = [
            FromAgent::Hello { protocol: u16::MAX, agent_version: version, uptime_ms: u64::MAX },
            FromAgent::Output { stream: Stream::Stderr, bytes },
            FromAgent::Heartbeat { seq: u32::MAX, uptime_ms: u64::MAX },
        ];
        for message in largest {
            let mut buf = [0; crate::MAX_FRAME];
            let frame = encode(&message, &mut buf).expect("fits");
            assert!(frame.len() <= HEADER_LEN + MAX_PAYLOAD);
        }
    }
}

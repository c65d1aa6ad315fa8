//! What the two ends of an agent's stream say to each other.
//!
//! Duty: the vocabulary and its bounds.
//! Not its duty: the bytes of a frame (see `frame`).
//! Invariant: the largest message fits one frame, and postcard numbers variants by position, so variants are
//! only ever appended.

use core::fmt;

use heapless::{String, Vec};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Bytes of workload output in one message: large enough that a chatty workload costs few frames, small enough
/// that a heartbeat never waits long behind one.
pub const MAX_OUTPUT: usize = 1024;

/// Bytes of an agent's version text, such as `0.1.0`.
pub const MAX_VERSION: usize = 32;

/// Bytes of a guest's name: as many as Linux takes.
pub const MAX_HOSTNAME: usize = 64;

/// Network cards of a guest.
pub const MAX_CARDS: usize = 8;

/// Bytes of a command that is run to ask for health: its words, each with a zero byte behind it.
pub const MAX_WORDS: usize = 512;

/// Bytes of the path of an HTTP request that asks for health.
pub const MAX_PATH: usize = 256;

/// Words of a command, each with a zero byte behind it.
pub type Words = Vec<u8, MAX_WORDS>;

/// What an HTTP request asks for.
pub type UrlPath = String<MAX_PATH>;

/// A question about the workload's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "boxing the words would need an allocator")]
pub enum Question {
    /// Does this command end with status 0?
    Exec(Words),
    /// Does this port of the guest's loopback address take a connection?
    Tcp { port: u16 },
    /// Does it answer a GET of this path with a status from 200 to 399?
    Http { port: u16, path: UrlPath },
}

/// A piece of what the workload wrote.
pub type Output = Vec<u8, MAX_OUTPUT>;

/// The agent's version, for people.
pub type Version = String<MAX_VERSION>;

/// A guest's name.
pub type Hostname = String<MAX_HOSTNAME>;

/// Random bytes that nobody else has.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed(pub [u8; 32]);

impl fmt::Debug for Seed {
    /// A secret does not get into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

/// What a guest takes on when it wakes up from a snapshot, so that it is nobody's double.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// For the kernel's random numbers.
    pub seed: Seed,
    /// The host's time of day, in nanoseconds since 1970; zero if the host does not know it.
    pub wall_clock_ns: u64,
    /// Empty: with a new machine ID, the name of the template and a piece of that ID; without, the name stays.
    pub hostname: Hostname,
    /// For `/etc/machine-id`. `None`: this is not a copy, but the same machine later.
    pub machine_id: Option<[u8; 16]>,
    /// Of each network card, in their order.
    pub macs: Vec<[u8; 6], MAX_CARDS>,
}

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
    /// The workload's warm-up has ended; with code 0 the guest may become a template.
    Warm { status: ExitStatus },
    /// Every process but the agent stands still.
    Held,
    /// The guest is somebody of its own, and its processes go on.
    Identified,
    /// The answer to the question of this number.
    Answered { id: u32, good: bool },
}

/// Host to guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "as for what comes from the agent")]
pub enum ToAgent {
    /// Answer to `Hello`.
    Welcome { protocol: u16, heartbeat_ms: u32 },
    /// Stop the workload, kill it after the grace, power off.
    Shutdown { grace_ms: u32 },
    /// Hold every process still until an identity comes: a snapshot follows. Answered by [`FromAgent::Held`].
    Hold,
    /// Take this on. Answered by [`FromAgent::Identified`].
    Identify(Identity),
    /// End the workload, by a kill after the grace, and start it again in the same guest.
    Restart { grace_ms: u32 },
    /// Find this out. Answered by [`FromAgent::Answered`], at the latest when the time is over.
    Ask { id: u32, timeout_ms: u32, question: Question },
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
        assert_eq!(payload(&FromAgent::Warm { status: ExitStatus::Code(0) }), [6, 0, 0]);
        assert_eq!(payload(&FromAgent::Held), [7]);
        assert_eq!(payload(&FromAgent::Identified), [8]);
        assert_eq!(payload(&FromAgent::Answered { id: 300, good: true }), [9, 0xac, 2, 1]);
        assert_eq!(payload(&ToAgent::Restart { grace_ms: 2 }), [4, 2]);
        let ask = |question| payload(&ToAgent::Ask { id: 300, timeout_ms: 2, question });
        let words = Words::from_slice(b"a\0b\0").expect("short");
        assert_eq!(ask(Question::Exec(words)), [5, 0xac, 2, 2, 0, 4, b'a', 0, b'b', 0]);
        assert_eq!(ask(Question::Tcp { port: 80 }), [5, 0xac, 2, 2, 1, 80]);
        let path = UrlPath::try_from("/x").expect("short");
        assert_eq!(ask(Question::Http { port: 80, path }), [5, 0xac, 2, 2, 2, 80, 2, b'/', b'x']);
        assert_eq!(payload(&ToAgent::Shutdown { grace_ms: 2 }), [1, 2]);
        assert_eq!(payload(&ToAgent::Hold), [2]);
        let identity = Identity {
            seed: Seed([5; 32]),
            wall_clock_ns: 300,
            hostname: Hostname::try_from("a-1").expect("short"),
            machine_id: Some([6; 16]),
            macs: Vec::from_slice(&[[7; 6]]).expect("few"),
        };
        let mut expected = std::vec![3];
        expected.extend([5; 32]);
        expected.extend([0xac, 2, 3, b'a', b'-', b'1', 1]);
        expected.extend([6; 16]);
        expected.push(1);
        expected.extend([7; 6]);
        assert_eq!(payload(&ToAgent::Identify(identity)), expected);
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
        let identity = Identity {
            seed: Seed([255; 32]),
            wall_clock_ns: u64::MAX,
            hostname: Hostname::try_from("h".repeat(MAX_HOSTNAME).as_str()).expect("exactly full"),
            machine_id: Some([255; 16]),
            macs: [[255; 6]; MAX_CARDS].into_iter().collect(),
        };
        encode(&ToAgent::Identify(identity), &mut [0; crate::MAX_FRAME]).expect("fits");
        let question = Question::Exec(Words::from_slice(&[255; MAX_WORDS]).expect("exactly full"));
        let ask = ToAgent::Ask { id: u32::MAX, timeout_ms: u32::MAX, question };
        encode(&ask, &mut [0; crate::MAX_FRAME]).expect("fits");
    }
}

//! What a monitor and whoever looks after it say to each other on the control socket.
//!
//! Duty: the vocabulary, its bounds and its bytes. The frames are those of the crate.
//! Not its duty: sockets, and what an order leads to.
//! Invariant: postcard numbers variants and fields by position, so both are only ever appended; and every
//! message fits one frame. Text is borrowed from the frame: nothing here allocates, and a message costs a
//! monitor no memory of its own.
//!
//! A client numbers its requests. Every request gets exactly one [`Answer`] with its number that is the last
//! one (see [`Answer::Figures`]), in the order in which they come true: a stop is answered when the machine
//! has ended, and a status that was asked later is answered before. Number 0 is the monitor's own, for
//! answers to frames whose number cannot be read.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::frame::{TooBig, encode_payload};

/// Raised when a message changes its meaning. [`Status`] carries it.
pub const CONTROL_PROTOCOL: u16 = 1;

/// The port of a guest (vsock) on which its agent takes single messages from the monitor: a
/// [`crate::ToAgent::Shutdown`] for machines that no supervisor talks to, and what a snapshot asks for before and after
/// ([`crate::ToAgent::Hold`], [`crate::ToAgent::Identify`]). The host's CID alone is let in.
pub const AGENT_CALL_PORT: u32 = 1025;

/// Numbers in one answer, at most. With names of 24 bytes they fill two thirds of a frame.
pub const MAX_FIGURES: usize = 64;

/// Client to monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The client's number for it, 1 or more.
    pub id: u32,
    pub order: Order,
}

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Answered by [`Answer::Status`].
    Status,
    /// Answered by [`Answer::Done`] when no vCPU runs and no device works any more.
    Pause,
    Resume,
    /// Answered by [`Answer::Ended`] when the machine has ended. Without `now` the guest is asked first: its
    /// agent, then its power button, each for the time that the configuration gives it.
    Stop {
        now: bool,
    },
    /// Presses the guest's power button, and waits for nothing.
    PowerButton,
    /// How much memory the guest is to give back, in MiB.
    BalloonTarget {
        mib: u32,
    },
    /// Answered by [`Answer::Figures`].
    BalloonStatistics,
    /// Answered by a row of [`Answer::Figures`]: the machine's, each vCPU's, each device's.
    Statistics,
    SetLogLevel(LogLevel),
    /// From the answer on, this connection also gets every [`Event`]; the first one tells the present state.
    Subscribe,
    /// Writes the machine down, into a folder of this name among its snapshots. One that runs is paused for as long as
    /// its memory is copied; one that is paused stays so. Answered by [`Answer::Done`] when all of it is on stable
    /// storage, which is later.
    Snapshot {
        name: SnapshotName,
        kind: SnapshotKind,
    },
}

/// What a snapshot holds of the machine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotKind {
    /// All of it.
    Full,
    /// What changed since the machine was restored from a full one, or since its memory is mapped from one.
    Difference,
}

/// The name of a folder: 1 to 32 letters, digits, dots, dashes and underscores, the first one no dot. So it is
/// never a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SnapshotName {
    bytes: [u8; SnapshotName::MAX],
    length: u8,
}

impl SnapshotName {
    /// Bytes of the longest name.
    pub const MAX: usize = 32;

    /// `text`, if it is a name.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if text.is_empty() || text.starts_with('.') || !text.bytes().all(good) {
            return None;
        }
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { bytes, length: u8::try_from(text.len()).ok()? })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        let used = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        core::str::from_utf8(used).unwrap_or_default()
    }
}

impl core::fmt::Debug for SnapshotName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.as_str().fmt(f)
    }
}

impl Serialize for SnapshotName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_str().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SnapshotName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        Self::new(text).ok_or_else(|| serde::de::Error::custom("no name of a snapshot"))
    }
}

/// How much the monitor tells on its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Monitor to client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "as for the answer in it")]
pub enum Reply<'a> {
    Answer {
        id: u32,
        #[serde(borrow)]
        answer: Answer<'a>,
    },
    Event(#[serde(borrow)] Event<'a>),
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "boxing the figures would need an allocator; a message lives for one frame only"
)]
pub enum Answer<'a> {
    Done,
    Refused {
        code: Refusal,
        /// For a person, in one line.
        text: &'a str,
    },
    Status(Status),
    Ended(End),
    /// Numbers of one part of the machine, by name. A name never changes its meaning.
    Figures {
        /// `machine`, `vcpu0`, or a device as the configuration calls it.
        of: &'a str,
        #[serde(borrow)]
        figures: Figures<'a>,
        /// Another answer to the same request follows.
        more: bool,
    },
}

/// Some numbers.
pub type Figures<'a> = Vec<Figure<'a>, MAX_FIGURES>;

/// One number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure<'a> {
    pub name: &'a str,
    pub value: u64,
}

/// Why a request was not done, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The frame, or the request in it, is none that the monitor knows.
    Malformed,
    /// Too many requests or connections at the same time.
    Busy,
    /// The machine has no such device.
    Unsupported,
    /// The machine is about to end.
    Stopping,
    /// The machine has ended.
    Ended,
    /// Another request, or a reboot of the guest, undid it before it was done.
    Overtaken,
    /// It did not come about in time, and was undone.
    TooLate,
    /// Not a value that the machine takes.
    BadValue,
    /// The host failed: a disk that is full, a file that may not be written.
    Failed,
}

/// What the machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    Running,
    Pausing,
    Paused,
    Stopping,
    Ended,
}

/// The machine at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`CONTROL_PROTOCOL`] of the monitor.
    pub protocol: u16,
    pub phase: Phase,
    pub vcpus: u8,
    pub memory_mib: u32,
    /// Since the guest's first instruction.
    pub uptime_ms: u64,
    /// How often the guest rebooted in this process.
    pub reboots: u32,
    pub log_level: LogLevel,
}

/// A means to stop a guest, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Its agent is asked.
    Agent,
    /// Its power button is pressed.
    Button,
    /// It is not asked any more.
    Kill,
}

/// How the machine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The exit status that the monitor is about to have.
    pub status: u8,
    /// By which means, if the host wanted it.
    pub how: Option<Step>,
}

/// Something happened to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event<'a> {
    /// The guest runs.
    Started,
    Paused,
    Resumed,
    /// A stop has come to this step.
    Stopping {
        step: Step,
    },
    /// The guest rebooted, for the so manieth time; `Started` follows.
    Rebooted {
        count: u32,
    },
    /// The last event of a connection.
    Ended(End),
    WatchdogExpired,
    GuestPanic,
    /// The guest's driver broke a device's ring.
    DeviceNeedsReset {
        device: &'a str,
    },
    /// What the guest has given back by now.
    BalloonChanged {
        mib: u32,
    },
    /// So many events were not told, because this connection reads too slowly.
    Lost {
        count: u32,
    },
    /// A guest that goes on from a snapshot has taken the identity that the monitor brought it.
    Identified,
    /// Behind `Started`: the machine is jailed, but for these layers, which the host lacks; none is "".
    Jailed {
        lacks: &'a str,
    },
}

/// A payload that is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a request that this side knows")]
pub struct Malformed {
    /// The number that it seems to have, or 0.
    pub id: u32,
}

/// Writes `request` as one frame to the front of `buf` and returns that part of it.
pub fn encode_request<'b>(request: &Request, buf: &'b mut [u8]) -> Result<&'b [u8], TooBig> {
    encode_payload(request, buf)
}

/// Writes `reply` as one frame to the front of `buf` and returns that part of it.
pub fn encode_reply<'b>(reply: &Reply<'_>, buf: &'b mut [u8]) -> Result<&'b [u8], TooBig> {
    encode_payload(reply, buf)
}

/// The request in a frame's payload.
pub fn decode_request(payload: &[u8]) -> Result<Request, Malformed> {
    match postcard::take_from_bytes(payload) {
        Ok((request, [])) => Ok(request),
        Ok(_) | Err(_) => {
            let id = postcard::take_from_bytes(payload).map_or(0, |(id, _)| id);
            Err(Malformed { id })
        }
    }
}

/// The reply in a frame's payload; `None` for one that this side does not know.
#[must_use]
pub fn decode_reply(payload: &[u8]) -> Option<Reply<'_>> {
    match postcard::take_from_bytes(payload) {
        Ok((reply, [])) => Some(reply),
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use super::*;
    use crate::{Decoder, FrameFault, HEADER_LEN, MAX_FRAME};

    fn payload(reply: &Reply<'_>) -> std::vec::Vec<u8> {
        let mut buf = [0; MAX_FRAME];
        encode_reply(reply, &mut buf).expect("fits")[HEADER_LEN..].to_vec()
    }

    /// A change here is a change of protocol: raise `CONTROL_PROTOCOL`.
    #[test]
    fn bytes_on_the_wire_stay_what_they_are() {
        let name = SnapshotName::new("a.1").expect("a name");
        let orders: [(Order, &[u8]); 11] = [
            (Order::Status, &[0]),
            (Order::Pause, &[1]),
            (Order::Resume, &[2]),
            (Order::Stop { now: true }, &[3, 1]),
            (Order::PowerButton, &[4]),
            (Order::BalloonTarget { mib: 64 }, &[5, 64]),
            (Order::BalloonStatistics, &[6]),
            (Order::Statistics, &[7]),
            (Order::SetLogLevel(LogLevel::Info), &[8, 2]),
            (Order::Subscribe, &[9]),
            (Order::Snapshot { name, kind: SnapshotKind::Difference }, &[10, 3, b'a', b'.', b'1', 1]),
        ];
        for (order, bytes) in orders {
            let mut buf = [0; MAX_FRAME];
            let frame = encode_request(&Request { id: 300, order }, &mut buf).expect("fits");
            let (id, rest) = frame[HEADER_LEN..].split_at(2);
            assert_eq!((id, rest), (&[0xac, 2][..], bytes), "{order:?}");
            assert_eq!(decode_request(&frame[HEADER_LEN..]), Ok(Request { id: 300, order }));
        }
        let ended = Reply::Event(Event::Ended(End { status: 16, how: Some(Step::Button) }));
        assert_eq!(payload(&ended), [1, 5, 16, 1, 1]);
        let refused = Answer::Refused { code: Refusal::Busy, text: "no" };
        assert_eq!(payload(&Reply::Answer { id: 7, answer: refused }), [0, 7, 1, 1, 2, b'n', b'o']);
    }

    #[test]
    fn the_name_of_a_snapshot_is_never_a_path() {
        for good in ["a", "warm-1.2_b", &"x".repeat(32)] {
            assert_eq!(SnapshotName::new(good).expect("a name").as_str(), good);
        }
        for bad in ["", ".", "..", ".a", "a/b", "a b", "é", "a\0", &"x".repeat(33)] {
            assert_eq!(SnapshotName::new(bad), None, "{bad}");
        }
        assert!(decode_request(&[1, 10, 2, b'.', b'.', 0]).is_err());
    }

    #[test]
    fn as_many_figures_as_are_allowed_fit_one_frame() {
        let name = "n".repeat(24);
        let figures = (0..MAX_FIGURES).map(|_| Figure { name: &name, value: u64::MAX }).collect();
        let of = String::from("d").repeat(64);
        let reply = Reply::Answer { id: u32::MAX, answer: Answer::Figures { of: &of, figures, more: true } };
        let bytes = payload(&reply);
        assert_eq!(decode_reply(&bytes), Some(reply));
    }

    #[test]
    fn an_unknown_order_keeps_its_number_and_the_stream_goes_on() {
        assert_eq!(decode_request(&[0xac, 2, 99]), Err(Malformed { id: 300 }));
        assert_eq!(decode_request(&[5, 0, 0]), Err(Malformed { id: 5 }), "bytes left over");
        assert_eq!(decode_request(&[]), Err(Malformed { id: 0 }));

        let mut decoder = Decoder::new();
        let mut buf = [0; MAX_FRAME];
        let good = encode_request(&Request { id: 1, order: Order::Pause }, &mut buf).expect("fits").to_vec();
        let unknown = encode_payload(&(2_u32, 99_u8), &mut buf).expect("fits").to_vec();
        for frame in [&unknown, &good] {
            assert!(decoder.push(frame).is_empty());
        }
        assert_eq!(decode_request(decoder.pop_payload().unwrap().unwrap()), Err(Malformed { id: 2 }));
        assert!(decode_request(decoder.pop_payload().unwrap().unwrap()).is_ok());
        assert_eq!(decoder.pop_payload(), Ok(None));
        let mut torn = good;
        torn[HEADER_LEN] ^= 1;
        assert!(decoder.push(&torn).is_empty());
        assert_eq!(decoder.pop_payload(), Err(FrameFault::BadCrc));
        assert_eq!(decoder.pop_payload(), Err(FrameFault::BadCrc), "for ever");
    }
}

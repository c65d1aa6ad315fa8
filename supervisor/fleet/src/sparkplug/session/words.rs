//! What the session hears and what it wants done.

use crate::figures::Snapshot;
use crate::letters::Letter;
use crate::sparkplug::Pauses;
use crate::topics::{Id, Topics};

#[derive(Clone, Debug)]
pub struct Config {
    pub topics: Topics,
    /// How many servers there are; they are told apart by their number.
    pub servers: usize,
    pub primary_host: Option<Id>,
    pub pauses: Pauses,
    /// Historical messages per second, from 1.
    pub history_per_s: u32,
}

#[derive(Debug)]
pub enum Event {
    /// How things stand. Again and again.
    Figures(Snapshot),
    /// CONNACK came.
    Accepted,
    /// It did not. `sent`: CONNECT may have left; `false` is for sure.
    Refused {
        sent: bool,
        why: String,
    },
    /// SUBACK came; `granted`: for all filters.
    Subscribed {
        granted: bool,
    },
    /// The connection is gone.
    Lost {
        why: String,
        oversized: bool,
    },
    /// DISCONNECT has left.
    Closed,
    /// The first so many publications of this connection have arrived at the broker.
    Confirmed {
        published: u64,
    },
    /// PUBACK came for it.
    Acknowledged(Tag),
    Received {
        topic: String,
        payload: Vec<u8>,
    },
    /// Something to send, because [`Session::wants_letter`](super::Session::wants_letter) said so.
    Letter(Letter),
    Tick,
    Stop,
}

/// What a publication with QoS 1 was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tag {
    Letter(u64),
    Death,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    /// With a tag: QoS 1, and its PUBACK is told. Without: QoS 0.
    pub tag: Option<Tag>,
    pub retain: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To be on the disk before anything that follows: the next process begins with this bdSeq.
    Remember {
        bd_seq: u8,
    },
    /// With a clean session and this Will.
    Connect {
        server: usize,
        will: Message,
    },
    /// With QoS 1.
    Subscribe(Vec<String>),
    Publish(Message),
    /// A round trip with no other effect, so that a [`Event::Confirmed`] follows.
    Probe,
    Disconnect,
    /// The connection ends without a word.
    Cut,
    /// Nobody could be told of this telemetry.
    Keep(Vec<u8>),
    /// A letter has arrived.
    Acknowledged(u64),
    /// Letters that did not are to be handed out anew.
    Again,
    /// For the management tree.
    Deliver {
        place: String,
        payload: Vec<u8>,
    },
    Tell(News),
    /// After a stop: nothing follows.
    Ended,
}

/// For people. Each once, not with each attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    Online { server: usize },
    Unreachable { server: usize, why: String },
    Lost { server: usize, why: String },
    HostOffline { server: usize },
    Rebirth,
    Poisoned { server: usize },
}

/// What came in and led to nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Nothing that Sparkplug or the tree knows.
    pub foreign: u64,
    /// Not to be read.
    pub malformed: u64,
    /// Good, and nothing that this box can do.
    pub unknown: u64,
}

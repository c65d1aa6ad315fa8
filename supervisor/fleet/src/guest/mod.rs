//! What workloads tell a fleet, and hear of it, without credentials of their own.
//!
//! | file | what |
//! |---|---|
//! | `name.rs` | the names of topics that a guest may use, and filters |
//! | `account.rs` | what one workload may say, and what it said |
//! | `promises.rs` | who waits until what was said is kept |
//! | `session.rs` | one client's MQTT, as a state machine (feature `mqtt`) |
//! | `intake.rs` | packets out of bytes (feature `mqtt`) |
//!
//! ```text
//! guest's x/y      <-> GROUP's hearth/v1/GROUP/NODE/workload/NAME/x/y       what the guest publishes
//! guest's cmd/x    <-> GROUP's hearth/v1/GROUP/NODE/workload/NAME/cmd/x     what the guest may subscribe to
//! ```
//!
//! Duty: decide what a guest may say and hear. Not here: sockets, clocks, what is kept (`outbox`), connections to
//! brokers (`shell`).
//! Invariants: a guest reaches no topic outside its workload's own place, and sees nothing but `cmd` below that.
//! Whatever bytes come in, memory is bounded and nothing panics. What was acknowledged to a guest and taken is with the
//! broker or on the disk.

mod account;
#[cfg(feature = "mqtt")]
mod intake;
mod name;
mod promises;
#[cfg(feature = "mqtt")]
mod session;

use std::time::Duration;

pub use account::{Account, Admission, Counts, Limits, Refusal};
#[cfg(feature = "mqtt")]
pub use intake::{Intake, MAX_PACKET};
pub use name::{Filter, MAX_FILTER};
pub(crate) use promises::Promises;
#[cfg(feature = "mqtt")]
pub use session::{Action, Closing, Event, MAX_UNKEPT, Session};

#[cfg(feature = "mqtt")]
pub use prost::bytes;

use crate::outbox::Class;
use crate::topics::{GUEST_COMMANDS, GUESTS};

/// Messages of guests that the desk takes in at one go.
pub const MAX_POSTS: usize = 64;
/// Until a message that somebody waits for is on the disk, where no broker takes it before: flash is written once for
/// all that came meanwhile.
pub(crate) const KEPT_WITHIN: Duration = Duration::from_secs(1);

/// A message of a workload's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    pub workload: String,
    /// As the guest calls it.
    pub topic: String,
    pub payload: Vec<u8>,
    pub class: Class,
    /// By which somebody hears that it is kept.
    pub ticket: Option<u64>,
}

impl Post {
    /// Behind the box's own place.
    pub(crate) fn place(&self) -> String {
        format!("{GUESTS}/{}/{}", self.workload, self.topic)
    }
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The broker has it, or the disk.
    Kept { ticket: u64 },
    /// It could not be kept.
    Lost { ticket: u64 },
    /// The fleet says something to a workload.
    Said { workload: String, topic: String, payload: Vec<u8> },
}

/// Whether something for the box is for one of its workloads; `place` is the topic behind the box's own.
pub(crate) fn said(place: &str, payload: &[u8]) -> Option<Word> {
    let (workload, topic) = place.strip_prefix(GUESTS)?.strip_prefix('/')?.split_once('/')?;
    let rest = topic.strip_prefix(GUEST_COMMANDS)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| Word::Said {
        workload: workload.to_owned(),
        topic: topic.to_owned(),
        payload: payload.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_a_workloads_commands_is_for_it() {
        let topic = |place| match said(place, b"x") {
            Some(Word::Said { workload, topic, payload }) => {
                assert_eq!(payload, b"x");
                format!("{workload} {topic}")
            }
            _ => String::new(),
        };
        assert_eq!(topic("workload/web/cmd/a/b"), "web cmd/a/b");
        assert_eq!(topic("workload/web/cmd"), "web cmd");
        for foreign in
            ["workload/web/cmdx", "workload/web/temperature", "workload/web", "cmd/exec/1", "desired"]
        {
            assert_eq!(topic(foreign), "", "{foreign}");
        }
    }
}

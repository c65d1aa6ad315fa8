//! Where a replica stands.
//!
//! ```text
//!            what it waits for is there
//! Waiting ---------------------------------> Starting --agent: it runs--> Running <--agent: it runs-- Restarting
//!  ^  ^                                      |   |                        |  | ^                        |   ^
//!  |  |                                      |   +--too slow--+  silent,  |  | |  unhealthy, and its     |   |
//!  |  |                                      |                |  unwanted |  | +-- agent can help -------|---+
//!  |  |                      machine ended   |                v           |  v                          |
//!  |  |          +---------------------------+<---------- Stopping <------+  Ending  (agent: it ended)  |
//!  |  |          |                           ^               ^  ^               |  |                    |
//!  |  |          v                           +---------------|--+---overstays---+  |                    |
//!  |  |     again? --no--> Ended                             +-------- too slow ---|--------------------+
//!  |  |          |yes        |                                     machine ended --+--> again?
//!  |  +--delay-- BackingOff  |
//!  +----wanted again---------+
//! ```
//!
//! Duty: the states and what they hold. Not here: the moves (`state`).

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, WorkloadEnd};
use crate::moment::Moment;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifecycle {
    /// For something to be there, or to be allowed.
    Waiting,
    /// Its machine is on the way.
    Starting { deadline: Moment },
    /// The agent said so.
    Running { health: Health },
    /// The agent is starting the workload again in the same guest, because of `failure`.
    Restarting { deadline: Moment, failure: Failure },
    /// The workload ended, its machine is still there.
    Ending { end: WorkloadEnd, deadline: Moment },
    /// Its machine is being brought down.
    Stopping { means: Means, deadline: Moment, because: StopReason },
    /// It starts again at `until`.
    BackingOff { until: Moment },
    /// Until somebody wants it again.
    Ended(End),
}

/// What probes make of a running workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// Its startup probes have not all been answered well.
    StartingUp,
    Unready,
    Ready,
}

/// How strongly a machine is asked to stop: upwards only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Means {
    Agent,
    Terminate,
    Kill,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    Shutdown,
    Failed(Failure),
    /// The workload ended, but its machine stayed.
    Overstayed(WorkloadEnd),
    /// Nobody wants this replica now.
    NotWanted,
    /// Another machine shall take its place.
    Replace,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    Done,
    Failed(Failure),
    Stopped,
    /// Its monitor survived SIGKILL; nothing else gets its identity before it is seen to end.
    Lost,
    /// It failed too often; somebody has to lift that.
    Quarantined,
}

/// The name of a state, without what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Place {
    Waiting,
    Starting,
    StartingUp,
    Unready,
    Ready,
    Restarting,
    Ending,
    Stopping,
    BackingOff,
    Done,
    Failed,
    Stopped,
    Lost,
    Quarantined,
}

impl Lifecycle {
    /// Whether a virtual machine exists, or may, and is not written off.
    pub fn is_alive(&self) -> bool {
        match self {
            Lifecycle::Starting { .. }
            | Lifecycle::Running { .. }
            | Lifecycle::Restarting { .. }
            | Lifecycle::Ending { .. }
            | Lifecycle::Stopping { .. } => true,
            Lifecycle::Waiting | Lifecycle::BackingOff { .. } | Lifecycle::Ended(_) => false,
        }
    }

    /// Whether the identity is taken: alive, or written off and perhaps still there.
    pub fn is_taken(&self) -> bool {
        self.is_alive() || *self == Lifecycle::Ended(End::Lost)
    }

    pub fn is_ready(&self) -> bool {
        matches!(self, Lifecycle::Running { health: Health::Ready })
    }

    pub fn place(&self) -> Place {
        match self {
            Lifecycle::Waiting => Place::Waiting,
            Lifecycle::Starting { .. } => Place::Starting,
            Lifecycle::Running { health: Health::StartingUp } => Place::StartingUp,
            Lifecycle::Running { health: Health::Unready } => Place::Unready,
            Lifecycle::Running { health: Health::Ready } => Place::Ready,
            Lifecycle::Restarting { .. } => Place::Restarting,
            Lifecycle::Ending { .. } => Place::Ending,
            Lifecycle::Stopping { .. } => Place::Stopping,
            Lifecycle::BackingOff { .. } => Place::BackingOff,
            Lifecycle::Ended(End::Done) => Place::Done,
            Lifecycle::Ended(End::Failed(_)) => Place::Failed,
            Lifecycle::Ended(End::Stopped) => Place::Stopped,
            Lifecycle::Ended(End::Lost) => Place::Lost,
            Lifecycle::Ended(End::Quarantined) => Place::Quarantined,
        }
    }

    /// When something has to happen if nothing else does.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        match self {
            Lifecycle::Waiting | Lifecycle::Running { .. } | Lifecycle::Ended(_) => None,
            Lifecycle::BackingOff { until } => Some(*until),
            Lifecycle::Starting { deadline }
            | Lifecycle::Restarting { deadline, .. }
            | Lifecycle::Ending { deadline, .. }
            | Lifecycle::Stopping { deadline, .. } => Some(*deadline),
        }
    }
}

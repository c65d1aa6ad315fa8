//! Where a workload stands.
//!
//! ```text
//!            what it comes after is there
//! Waiting ---------------------------------> Starting --agent: it runs--> Running
//!  ^  |                                      |   |                        |  | ^
//!  |  |                                      |   +--too slow--+  silent,  |  | | agent: it runs again
//!  |  |                                      |                |  shutdown |  v |
//!  |  |                      machine ended   |                v           |  Ending  (agent: it ended)
//!  |  |          +---------------------------+<---------- Stopping <------+  |  |
//!  |  |          |                           ^                ^              |  |
//!  |  |          |                           |                +--overstays---+  |
//!  |  |          v                           +---------------------------------+
//!  |  |     restart? --no--> Ended(Done | Failed | Stopped | Lost)
//!  |  |          |yes                             ^
//!  |  +----------|-----------shutdown-------------+
//!  +--delay-- BackingOff ------shutdown-----------+
//! ```
//!
//! Duty: the states and what they hold. Not here: the moves (`state`).

use crate::event::{Failure, WorkloadEnd};
use crate::moment::Moment;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// For what it comes after.
    Waiting,
    /// Its machine is on the way.
    Starting { deadline: Moment },
    /// The agent said so; `heard` is its last sign of life.
    Running { heard: Moment },
    /// The workload ended, its machine is still there.
    Ending { end: WorkloadEnd, deadline: Moment },
    /// Its machine is being brought down.
    Stopping { rung: Rung, deadline: Moment, because: StopReason },
    /// It starts again at `until`.
    BackingOff { until: Moment },
    /// For good.
    Ended(End),
}

/// How strongly a machine is asked to stop: upwards only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    Agent,
    Terminate,
    Kill,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    Shutdown,
    Failed(Failure),
    /// The workload ended, but its machine stayed.
    Overstayed(WorkloadEnd),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Done,
    Failed(Failure),
    Stopped,
    /// Its monitor survived SIGKILL; it is left behind and never started again.
    Lost,
}

impl Lifecycle {
    /// Whether a virtual machine exists, or may.
    pub fn is_alive(&self) -> bool {
        match self {
            Lifecycle::Starting { .. }
            | Lifecycle::Running { .. }
            | Lifecycle::Ending { .. }
            | Lifecycle::Stopping { .. } => true,
            Lifecycle::Waiting | Lifecycle::BackingOff { .. } | Lifecycle::Ended(_) => false,
        }
    }
}

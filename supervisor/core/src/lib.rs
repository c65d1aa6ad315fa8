//! Every decision of the box, as a pure state machine: events in, actions out.
//!
//! Duty: which workload runs when, what its end means, when it starts again, how it is stopped, what is announced.
//! Not here: clocks, randomness, processes, sockets, files, text for people. Time and dice come in as arguments.
//! Invariants: at most one virtual machine per workload; none starts before what it comes after; every started
//! machine is watched until its end was seen (or, after an unanswered kill, until it is written off as lost).

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod backoff;
mod deadlines;
mod event;
mod lifecycle;
mod moment;
mod plan;
mod state;

pub use backoff::{FIRST_DELAY, LONGEST_DELAY, STEADY, delay};
pub use deadlines::{ENDING, HEARTBEAT_LOST, KILL_STOP, START, StopTimes};
pub use event::{Action, Announcement, Event, Failure, VmEnd, WorkloadEnd};
pub use lifecycle::{End, Lifecycle, Rung, StopReason};
pub use moment::Moment;
pub use plan::{Kind, Plan, PlanFault, RestartPolicy, Wanted, WorkloadId};
pub use state::{Run, State};

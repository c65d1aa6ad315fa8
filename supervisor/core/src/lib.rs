//! Every decision of the box, as a pure state machine: events in, actions out.
//!
//! | what | where |
//! |---|---|
//! | the step, and the box as a whole | `state` |
//! | one workload and its replicas | `workload`, `replica`, `lifecycle` |
//! | what is wanted | `spec`, `order` |
//! | what happens, what is done | `event`, `action`, `failure` |
//! | health and healing | `probe`, `fault`, `policy`, `ranking`, `incident`, `backoff`, `budget`, `breaker` |
//! | new versions | `rollout` |
//! | what is foreseen | `insight` |
//! | what waits for its time | `maintenance` |
//! | the box itself | `boot`, `watchdog`, `pressure` |
//! | what stays | `record`, `journal`, `history`, `explain` |
//!
//! Duty: which workload runs when, what its end means, how it is healed, how it is stopped, what is announced.
//! Not here: clocks, processes, sockets, files, text for people. Time comes in with each event, randomness as a seed.
//! Invariants: no two virtual machines share an identity; none starts before what it waits for; every started machine
//! is watched until its end was seen (or, after an unanswered kill, until it is written off as lost); the same events
//! lead to the same state.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod action;
mod backoff;
mod boot;
mod breaker;
mod budget;
mod deadlines;
mod dice;
mod event;
mod explain;
mod failure;
mod fault;
mod history;
mod id;
mod incident;
mod insight;
mod journal;
mod lifecycle;
mod maintenance;
mod moment;
mod order;
mod policy;
mod pressure;
mod probe;
mod ranking;
mod record;
mod replica;
mod rollout;
mod spec;
mod state;
mod turn;
mod watchdog;
mod workload;

pub use action::{Action, Actions, Announcement, Hold, Order, StartHow};
pub use backoff::{FIRST_DELAY, LONGEST_DELAY, STEADY, delay};
pub use boot::{Boot, BootReason, Phase};
pub use breaker::{Breaker, Trial};
pub use budget::{LOG_WINDOW, Restarts};
pub use deadlines::{
    BOX_SETTLED, ENDING, HEARTBEAT, HEARTBEAT_LOST, KILL_STOP, MEASURE_WAIT, MEASURES_AGAIN, MOST_REBOOTS,
    PROCESS_RESTART, REBOOTS_FORGIVEN, SNAPSHOT_AGAIN, SNAPSHOT_WITHIN, STALL, START, StopTimes,
};
pub use event::{Event, Found, Request, Said};
pub use explain::{CallStory, Explanation, MemoryStory, ProbeStory, ReplicaStory};
pub use failure::{Failure, VmEnd, WorkloadEnd};
pub use fault::{FaultClass, Severity, Source};
pub use history::{Cause, DEPTH, Transition};
pub use id::{ReplicaId, Run, Slot, Version, Vm, WorkloadId};
pub use incident::{Attempt, Incident, Outcome, Stage};
pub use insight::{Ballooning, Insight, KeepWarm, Scaling};
pub use journal::{Entry, replay, replay_from};
pub use lifecycle::{End, Health, Lifecycle, Means, Place, StopReason};
pub use maintenance::Window;
pub use moment::Moment;
pub use order::ConfigFault;
pub use policy::{Case, Choice, FixedLadder, Reason, RecoveryPolicy, Rung, Rungs, StrengthLadder, Tried};
pub use pressure::{Level, Resource};
pub use probe::{Check, Finding, ProbeSpec, Role};
pub use ranking::Expectation;
pub use record::{DeviceRecord, Durable, Record, Slots, Tripped};
pub use rollout::{Advice, Compared, Grounds, Judged, Rollout, Tally, Trials};
pub use spec::{
    Allowed, Build, Capacity, Config, DeviceSpec, HealingOrder, HealingSpec, Kind, MAX_BUDGET, MAX_REPLICAS,
    Needs, RestartPolicy, RestartSpec, RolloutSpec, Spec,
};
pub use state::State;
pub use watchdog::{Subsystem, WatchdogSpec};

//! How long the box waits for whom.
//!
//! Duty: every deadline in one place. Generous, because a gateway's CPU may be emulated or busy: a deadline is there
//! to end a wait that would be endless, not to measure speed.

use core::time::Duration;

/// From the start of a monitor until its workload runs; a slow board boots a guest in some ten seconds.
pub const START: Duration = Duration::from_secs(120);
/// Without a word from a guest that beats every second.
pub const HEARTBEAT_LOST: Duration = Duration::from_secs(30);
/// From the end of the workload until its machine has powered off by itself.
pub const ENDING: Duration = Duration::from_secs(30);
/// What a workload gets between the agent's polite signal and its kill.
pub const AGENT_GRACE: Duration = Duration::from_secs(10);
/// From asking the agent until the next rung: the grace, and time to power off.
pub const AGENT_STOP: Duration = Duration::from_secs(15);
/// From SIGTERM to the monitor until SIGKILL.
pub const TERMINATE_STOP: Duration = Duration::from_secs(5);
/// From SIGKILL until the machine is written off: only a process stuck in the kernel takes that long.
pub const KILL_STOP: Duration = Duration::from_secs(5);
/// The longest that one workload takes to stop.
pub const WORST_STOP: Duration = Duration::from_secs(25);

const _: () = assert!(
    WORST_STOP.as_secs() == AGENT_STOP.as_secs() + TERMINATE_STOP.as_secs() + KILL_STOP.as_secs(),
    "the rungs add up"
);
const _: () = assert!(AGENT_STOP.as_secs() > AGENT_GRACE.as_secs(), "the agent gets its grace");

//! How long the box waits for whom.
//!
//! Duty: every deadline in one place. Generous, because a gateway's CPU may be emulated or busy: a deadline is there
//! to end a wait that would be endless, not to measure speed.

use core::time::Duration;

use serde::{Deserialize, Serialize};

/// From the start of a monitor until its workload runs; a slow board boots a guest in some ten seconds.
pub const START: Duration = Duration::from_secs(120);
/// How often an agent beats.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// Without a word from a guest that beats every second.
pub const HEARTBEAT_LOST: Duration = Duration::from_secs(30);
/// From the end of the workload until its machine has powered off by itself.
pub const ENDING: Duration = Duration::from_secs(30);
/// From SIGKILL until the machine is written off: only a process stuck in the kernel takes that long.
pub const KILL_STOP: Duration = Duration::from_secs(5);
/// From asking the agent until the workload runs again in the same guest.
pub const PROCESS_RESTART: Duration = Duration::from_secs(30);
/// From asking for a warm snapshot until it is on the disk, beyond what a machine may take to start.
pub const SNAPSHOT_WITHIN: Duration = Duration::from_secs(120);
/// After a snapshot that was not taken, or did not work, until the next one.
pub const SNAPSHOT_AGAIN: Duration = Duration::from_secs(3600);
/// A box that was not healed by a reboot for so long has its reboots forgiven.
pub const REBOOTS_FORGIVEN: Duration = Duration::from_secs(6 * 3600);
/// Reboots to heal the box that are not forgiven yet, at most: a box that reboots all day serves nobody.
pub const MOST_REBOOTS: u8 = 3;
/// A step that comes this much after its deadline says that the daemon was not running, by SIGSTOP or a suspended
/// box: what guests said meanwhile waits in sockets, so their silence is no evidence.
pub const STALL: Duration = Duration::from_secs(2);
/// After a pressure was answered by one measure, until the next one is tried.
pub const MEASURE_WAIT: Duration = Duration::from_secs(10);
/// After all measures were tried in vain, until they are tried again.
pub const MEASURES_AGAIN: Duration = Duration::from_secs(300);
/// A box that was up for so long has come up well, whatever happens next.
pub const BOX_SETTLED: Duration = Duration::from_secs(300);

/// How long each rung of a stop may take before the next; the box's owner may change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopTimes {
    /// From asking the agent until SIGTERM.
    pub agent: Duration,
    /// From SIGTERM until SIGKILL.
    pub terminate: Duration,
}

impl Default for StopTimes {
    fn default() -> StopTimes {
        StopTimes { agent: Duration::from_secs(15), terminate: Duration::from_secs(5) }
    }
}

impl StopTimes {
    /// What a workload gets between the agent's polite signal and its kill: the rest is for powering off.
    pub fn grace(&self) -> Duration {
        self.agent * 2 / 3
    }

    /// The longest that one workload takes to stop.
    pub fn worst(&self) -> Duration {
        self.agent + self.terminate + KILL_STOP
    }
}

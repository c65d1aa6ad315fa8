//! Faults, and what lies behind each incident of them.
//!
//! | cause | what a new process, a machine from the snapshot, and one from nothing do about it |
//! |---|---|
//! | the process | each is rid of it |
//! | the guest | a new process meets it again |
//! | the snapshot | so does a machine from it |
//! | something else | each of them meets it again |
//!
//! Duty: which harm a fault is, and how often which cause is behind it. Not here: doing it. Invariant: an incident follows
//! from its fault and number alone, so every box meets the same ones.

use std::time::Duration;

/// What is done to a workload that is called like the fault.
#[derive(Clone, Copy, Debug)]
pub(super) enum Harm {
    /// Said to the workload, which does as it is told.
    Word(&'static str),
    /// SIGKILL to its monitor.
    Kill,
}

/// Where it comes from again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Process,
    Guest,
    Snapshot,
    Else,
}

/// What a workload runs again by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    Process,
    /// One that is made of the snapshot.
    Snapshot,
    /// One from nothing.
    Machine,
}

impl Cause {
    pub(super) fn is_reached_by(self, means: Means) -> bool {
        match self {
            Cause::Process => true,
            Cause::Guest => means != Means::Process,
            Cause::Snapshot => means == Means::Machine,
            Cause::Else => false,
        }
    }
}

#[derive(Debug)]
pub(super) struct Fault {
    pub(super) name: &'static str,
    pub(super) harm: Harm,
    /// Of a hundred incidents, those with the process, the guest and the snapshot behind them; the rest has something else.
    of_hundred: [u64; 3],
}

/// In this order in each round.
pub(super) const ALL: &[Fault] = &[
    Fault { name: "process-hangs", harm: Harm::Word("fall silent"), of_hundred: [88, 5, 5] },
    Fault { name: "guest-is-stale", harm: Harm::Word("fall silent"), of_hundred: [13, 80, 5] },
    Fault { name: "snapshot-is-stale", harm: Harm::Word("fall silent"), of_hundred: [8, 0, 90] },
    Fault { name: "guest-panics", harm: Harm::Word("panic"), of_hundred: [0, 93, 5] },
    Fault { name: "monitor-dies", harm: Harm::Kill, of_hundred: [0, 98, 0] },
];

/// Milliseconds before a harm, at most: as long as a probe's period, so that it comes at any time within one.
const PAUSE_MS: u64 = 3_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Incident {
    pub(super) pause: Duration,
    pub(super) cause: Cause,
}

impl Fault {
    pub(super) fn incident(&self, number: u64) -> Incident {
        let seed = self.name.bytes().fold(number, |sum, byte| mixed(sum.wrapping_add(u64::from(byte))));
        let (roll, pause) = (mixed(seed) % 100, mixed(seed ^ 1) % PAUSE_MS);
        let [process, guest, snapshot] = self.of_hundred;
        let cause = match roll {
            roll if roll < process => Cause::Process,
            roll if roll < process + guest => Cause::Guest,
            roll if roll < process + guest + snapshot => Cause::Snapshot,
            _ => Cause::Else,
        };
        Incident { pause: Duration::from_millis(pause), cause }
    }
}

/// SplitMix64, a step of it.
fn mixed(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_incidents_is_as_often_as_the_fault_says_and_the_same_each_time() {
        for fault in ALL {
            let causes: Vec<Cause> = (0..1000).map(|number| fault.incident(number).cause).collect();
            for (cause, percent) in
                [Cause::Process, Cause::Guest, Cause::Snapshot].into_iter().zip(fault.of_hundred)
            {
                let count = causes.iter().filter(|one| **one == cause).count() as u64;
                assert!(count.abs_diff(percent * 10) < 50, "{}: {cause:?} {count}", fault.name);
            }
            assert_eq!(fault.incident(7), fault.incident(7));
        }
    }

    #[test]
    fn what_undoes_more_reaches_all_that_what_undoes_less_does() {
        let means = [Means::Process, Means::Snapshot, Means::Machine];
        for cause in [Cause::Process, Cause::Guest, Cause::Snapshot, Cause::Else] {
            assert!(means.map(|means| cause.is_reached_by(means)).is_sorted(), "{cause:?}");
        }
    }
}

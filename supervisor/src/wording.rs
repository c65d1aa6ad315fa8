//! The daemon's words for people.
//!
//! Duty: one line per announcement; the decisive ones are an interface and stay as they are.
//! Not here: when something is announced (`hearth-core`), where it is printed (`console`).

use std::error::Error;
use std::fmt;
use std::time::Duration;

use hearth_core::{
    Advice, Announcement, BootReason, Choice, Grounds, Hold, Judged, Level, Means, Reason, ReplicaId,
    Resource, Rung, Slot, Source, Subsystem, WorkloadId,
};

/// A duration as people read it: "412 ms", "3.2 s".
#[derive(Clone, Copy, Debug)]
pub struct Took(pub Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis < 1000 { write!(f, "{millis} ms") } else { write!(f, "{:.1} s", self.0.as_secs_f64()) }
    }
}

/// The error and what is behind it on one line.
pub fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// What a replica is called: like its workload, and those after the first with a number. No workload's name has a dot.
pub fn replica(name: &str, slot: Slot) -> String {
    if slot == Slot::FIRST { name.to_owned() } else { format!("{name}.{}", slot.0) }
}

/// What is known of how a guest came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// So it said of itself.
    ReadyIn(Duration),
    Restored,
}

/// The line for an announcement.
pub fn announce(
    announcement: &Announcement,
    name: impl Fn(WorkloadId) -> String,
    life: impl Fn(ReplicaId) -> Option<Life>,
) -> String {
    let of = |id: &ReplicaId| replica(&name(id.workload), id.slot);
    match announcement {
        Announcement::Running { replica } => match life(*replica) {
            Some(Life::ReadyIn(took)) => format!("{}: running, guest ready in {}", of(replica), Took(took)),
            Some(Life::Restored) => format!("{}: running, from its warm snapshot", of(replica)),
            None => format!("{}: running", of(replica)),
        },
        Announcement::Done { replica } => format!("{}: done: exit 0", of(replica)),
        Announcement::Failed { replica, failure } => format!("{}: failed: {failure}", of(replica)),
        Announcement::RestartIn { replica, attempt, delay, choice } => {
            let (by, expected) = (unless_plain(*choice), behind(*choice));
            format!("{}: restart {attempt} in {}{by}{expected}", of(replica), Took(*delay))
        }
        Announcement::ProcessRestart { replica, failure, choice } => {
            let expected = behind(*choice);
            format!("{}: {failure}: the workload is started again in its guest{expected}", of(replica))
        }
        Announcement::Proposed { replica, failure, choice } => format!(
            "{}: ALARM: {failure}: {} would be next; `heal {}` agrees to it{}",
            of(replica),
            means(choice.rung),
            name(replica.workload),
            behind(*choice)
        ),
        Announcement::Healed { replica, rung, took } => {
            let by = rung.map_or_else(String::new, |rung| format!(" by {}", means(rung)));
            format!("{}: healed{by}, steady again {} after the first fault", of(replica), Took(*took))
        }
        Announcement::Blocked { workload, on } => {
            format!("{}: does not start, {} did not get there", name(*workload), name(*on))
        }
        Announcement::NoRoom { replica, hold } => format!("{}: waits for {}", of(replica), room(*hold)),
        Announcement::Stubborn { replica, means } => {
            let signal = match means {
                Means::Agent => "the agent's question",
                Means::Terminate => "SIGTERM",
                Means::Kill => "SIGKILL",
            };
            format!("{}: does not stop, {signal} follows", of(replica))
        }
        Announcement::Lost { replica } => {
            format!("{}: its monitor survives SIGKILL and is left behind", of(replica))
        }
        Announcement::Duplicate { replica, run } => {
            format!("{}: a second machine of it was found, run {} is ended", of(replica), run.0)
        }
        Announcement::Quarantined { workload, failure, restarts } => {
            let last = failure.as_ref().map_or_else(String::new, |failure| format!(", last: {failure}"));
            let name = name(*workload);
            format!("{name}: ALARM: quarantined after {restarts} restarts{last}; `retry {name}` lifts that")
        }
        Announcement::Retried { workload } => format!("{}: is tried again", name(*workload)),
        Announcement::RolloutBegan { workload, from, to, canaries } => {
            format!("{}: version {to} in place of {from}, on {canaries} first", name(*workload))
        }
        Announcement::Promoted { workload, to, judged } => {
            let judged =
                judged.as_ref().map_or_else(String::new, |judged| format!(": {}", self::judged(judged)));
            format!("{}: version {to} does well{judged}", name(*workload))
        }
        Announcement::RolledOut { workload, to } => {
            format!("{}: version {to} is everywhere", name(*workload))
        }
        Announcement::RollingBack { workload, from, to, grounds } => {
            format!("{}: ALARM: back from version {from} to {to}: {}", name(*workload), why(grounds))
        }
        Announcement::Scaled { workload, from, to, why } => {
            format!("{}: {to} replicas in place of {from}: {why}", name(*workload))
        }
        Announcement::Odd { workload, what } => {
            let of = workload.map_or_else(|| "the box".to_owned(), name);
            format!("{of}: odd: {what}")
        }
        Announcement::ColdStart { workload, met, calls, cold } => {
            format!("{}: {met} met a cold start, {cold} of {calls} calls so far", name(*workload))
        }
        Announcement::KeptWarm { workload, idle, lasts, why } => {
            format!("{}: {idle} kept warm for {}: {why}", name(*workload), Took(*lasts))
        }
        Announcement::Ballooned { workload, left_mib, of_mib, why } => {
            format!("{}: {left_mib} of {of_mib} MiB are left to each machine: {why}", name(*workload))
        }
        Announcement::Ranked { workload, source, order } if order.is_empty() => {
            format!("{}: faults of {}: the cheapest means first again", name(*workload), source_of(*source))
        }
        Announcement::Ranked { workload, source, order } => {
            let order: Vec<&str> = order.iter().map(|rung| means(*rung)).collect();
            let order = order.join(", then ");
            format!("{}: faults of {}: {order}, by what cured before", name(*workload), source_of(*source))
        }
        Announcement::Suspected { workload, whom } => {
            format!("{}: likely because of {whom}", name(*workload))
        }
        Announcement::RolloutWaits { workload, to } => {
            format!("{}: version {to} waits for a window of maintenance", name(*workload))
        }
        Announcement::LogsLimited { workload, .. } => {
            format!("{}: logs too much, the rest of this minute is dropped", name(*workload))
        }
        Announcement::ConfigApplied { added, changed, removed } => {
            format!("configuration: {added} added, {changed} changed, {removed} removed")
        }
        Announcement::ConfigRefused { faults } => {
            format!("configuration refused, {} faults; the last good one stays", faults.len())
        }
        Announcement::Adopted { machines } => format!("{machines} running machines taken over"),
        Announcement::Booted { reason, failed_boots } => {
            let failed = match failed_boots {
                0 => String::new(),
                1 => ", the boot before failed".to_owned(),
                more => format!(", {more} boots before failed"),
            };
            format!("booted: {}{failed}", boot_reason(*reason))
        }
        Announcement::SafeMode { failed_boots, held } => {
            let until = held
                .map_or_else(|| "until somebody ends it".to_owned(), |held| format!("for {}", Took(held)));
            format!(
                "ALARM: safe mode after {failed_boots} failed boots: no workload starts {until}; `box leave-safe-mode` \
                 ends it"
            )
        }
        Announcement::SafeModeOver => "safe mode was long enough, the workloads are tried again".to_owned(),
        Announcement::Late { subsystem } => {
            format!("ALARM: {} is late, the watchdog is not petted", part(*subsystem))
        }
        Announcement::Timely { subsystem } => format!("{} is on time again", part(*subsystem)),
        Announcement::HealingBox { subsystem, choice } => {
            format!("ALARM: {} stays late: {}", part(*subsystem), means(choice.rung))
        }
        Announcement::Pressure { resource, level } => pressure(*resource, *level).to_owned(),
        Announcement::DiskFull => "ALARM: the disk is full, and what can be removed was".to_owned(),
        Announcement::Ready { ready, of } => format!("ready: {ready} of {of} workloads"),
        Announcement::NotReady { ready, of } => format!("not ready: {ready} of {of} workloads"),
        Announcement::Stopping => "stopping".to_owned(),
        Announcement::Stopped => "stopped".to_owned(),
    }
}

fn boot_reason(reason: BootReason) -> &'static str {
    match reason {
        BootReason::PowerOn => "power-on",
        BootReason::Asked => "somebody asked for it",
        BootReason::Healing => "the daemon asked for it, to heal itself",
        BootReason::Watchdog => "the hardware's watchdog reset the box",
        BootReason::Panic => "the kernel panicked",
        BootReason::Update => "update",
        BootReason::Unknown => "for a reason that nobody kept",
    }
}

fn behind(choice: Choice) -> String {
    expected(choice).map_or_else(String::new, |expected| format!(", {expected}"))
}

/// What is expected of a choice that was learnt.
pub(crate) fn expected(choice: Choice) -> Option<String> {
    let Reason::Expected { ms, chance_milli, takes_ms, then } = choice.reason else { return None };
    let took = |ms: u32| Took(Duration::from_millis(u64::from(ms)));
    let (all, one, percent) = (took(ms), took(takes_ms), chance_milli / 10);
    Some(format!("expected {all}: {} {percent} % x {one}, else {}", means(choice.rung), means(then)))
}

/// A restart of the plain kind needs no words.
fn unless_plain(choice: Choice) -> String {
    match choice.rung {
        Rung::ColdRestart | Rung::Retry => String::new(),
        rung => format!(" by {}", means(rung)),
    }
}

fn pressure(resource: Resource, level: Level) -> &'static str {
    match (resource, level) {
        (Resource::Memory, Level::Calm) => "memory: there is enough again",
        (Resource::Memory, Level::Short) => "memory: short, guests are asked for some of theirs",
        (Resource::Memory, Level::Full) => "ALARM: memory: next to none is left, no machine starts",
        (Resource::Disk, Level::Calm) => "disk: there is room again",
        (Resource::Disk, Level::Short) => "disk: room is short, logs are cut",
        (Resource::Disk, Level::Full) => "ALARM: disk: next to no room is left, what nobody needs is removed",
    }
}

fn source_of(source: Source) -> &'static str {
    match source {
        Source::Hardware => "the hardware",
        Source::GuestKernel => "the guest's kernel",
        Source::Workload => "the workload",
        Source::Network => "the network",
        Source::Storage => "storage",
        Source::Data => "its data",
        Source::Supervisor => "the daemon",
    }
}

pub(crate) fn means(rung: Rung) -> &'static str {
    match rung {
        Rung::Retry => "another try",
        Rung::RestartProcess => "a restart in the guest",
        Rung::Restore => "a restore from the snapshot",
        Rung::ColdRestart => "a cold restart",
        Rung::FreshDisk => "a fresh disk",
        Rung::RollBack => "the version before",
        Rung::Quarantine => "quarantine",
        Rung::ReExec => "the daemon starts again",
        Rung::Reboot => "the box reboots",
        Rung::StopPetting => "the watchdog decides",
    }
}

fn room(hold: Hold) -> &'static str {
    match hold {
        Hold::Memory => "memory that is promised to others",
        Hold::Cpu => "processors that are promised to others",
        Hold::Ceiling => "room under its own ceiling",
        Hold::Pressure => "memory, which is short",
        Hold::Dependency(_) => "another workload",
        Hold::Trial => "the replica on trial",
        Hold::Identity => "an older machine of it to end",
        Hold::Consent => "somebody who agrees to what heals it",
    }
}

fn percent(milli: &u16) -> String {
    format!("{}.{} %", milli / 10, milli % 10)
}

/// What is made of how a new version serves.
pub(crate) fn judged(judged: &Judged) -> String {
    let step = match judged.advice {
        Advice::GoOn => "it may go on",
        Advice::Wait => "more of them are waited for",
        Advice::RollBack => "it is to go back",
    };
    format!("{step}, being worse with a chance of {}", percent(&judged.worse_milli))
}

pub(crate) fn why(grounds: &Grounds) -> String {
    match grounds {
        Grounds::Failures { count } => format!("it failed {count} times"),
        Grounds::Errors { old_milli, new_milli } => {
            format!("{} of its requests fail, {} before", percent(new_milli), percent(old_milli))
        }
        Grounds::Readiness { old_milli, new_milli } => {
            format!("it is ready {} of the time, {} before", percent(new_milli), percent(old_milli))
        }
        Grounds::NotReadyInTime => "it did not get ready in time".to_owned(),
        Grounds::Undone => "it was taken back".to_owned(),
        Grounds::LastResort => "nothing cheaper helped".to_owned(),
        Grounds::Judged { old_milli, new_milli, requests, worse_milli } => format!(
            "{} of its {requests} requests fail, {} before: worse with a chance of {}",
            percent(new_milli),
            percent(old_milli),
            percent(worse_milli)
        ),
    }
}

pub(crate) fn part(subsystem: Subsystem) -> &'static str {
    match subsystem {
        Subsystem::Loop => "the daemon's loop",
        Subsystem::Store => "the store",
        Subsystem::Machines => "the talk with the monitors",
        Subsystem::Probes => "the probing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_core::{Failure, Version, WorkloadEnd};

    #[test]
    fn durations_read_like_a_person_says_them() {
        let shown = |millis| Took(Duration::from_millis(millis)).to_string();
        assert_eq!(
            [shown(0), shown(412), shown(999), shown(1000), shown(3249)],
            ["0 ms", "412 ms", "999 ms", "1.0 s", "3.2 s"]
        );
    }

    #[test]
    fn the_decisive_lines_stay_as_they_are() {
        let replica = WorkloadId::from_number(0).replica(Slot::FIRST);
        let said = |announcement| {
            announce(
                &announcement,
                |_| "hello".to_owned(),
                |_| Some(Life::ReadyIn(Duration::from_millis(312))),
            )
        };
        assert_eq!(said(Announcement::Running { replica }), "hello: running, guest ready in 312 ms");
        assert_eq!(said(Announcement::Done { replica }), "hello: done: exit 0");
        let failure = Failure::Workload(WorkloadEnd::Code(3));
        assert_eq!(said(Announcement::Failed { replica, failure }), "hello: failed: exit 3");
        assert_eq!(said(Announcement::Ready { ready: 3, of: 3 }), "ready: 3 of 3 workloads");
        assert_eq!(said(Announcement::NotReady { ready: 1, of: 3 }), "not ready: 1 of 3 workloads");
        assert_eq!(said(Announcement::Stopping), "stopping");
        assert_eq!(said(Announcement::Stopped), "stopped");
    }

    #[test]
    fn a_restart_that_was_learnt_says_what_is_expected_of_it() {
        let reason = Reason::Expected { ms: 3100, chance_milli: 920, takes_ms: 200, then: Rung::ColdRestart };
        let replica = WorkloadId::from_number(0).replica(Slot::FIRST);
        let choice = Choice { rung: Rung::Restore, reason };
        let line = Announcement::RestartIn { replica, attempt: 1, delay: Duration::ZERO, choice };
        assert_eq!(
            announce(&line, |_| "web".to_owned(), |_| None),
            "web: restart 1 in 0 ms by a restore from the snapshot, expected 3.1 s: a restore from the snapshot \
             92 % x 200 ms, else a cold restart"
        );
    }

    #[test]
    fn replicas_after_the_first_have_a_number() {
        let second = WorkloadId::from_number(0).replica(Slot(1));
        let line = announce(&Announcement::Lost { replica: second }, |_| "web".to_owned(), |_| None);
        assert_eq!(line, "web.1: its monitor survives SIGKILL and is left behind");
    }

    #[test]
    fn a_version_that_is_taken_back_says_why() {
        let grounds = Grounds::Errors { old_milli: 5, new_milli: 123 };
        let (from, to) = (Version(0x0123_4567_89ab_cdef), Version(u64::MAX));
        let workload = WorkloadId::from_number(0);
        let line = Announcement::RollingBack { workload, from, to, grounds };
        assert_eq!(
            announce(&line, |_| "web".to_owned(), |_| None),
            "web: ALARM: back from version 01234567 to ffffffff: 12.3 % of its requests fail, 0.5 % before"
        );
    }
}

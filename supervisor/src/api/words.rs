//! The core's words as those of the API.
//!
//! Duty: one word or half sentence for each of the core's cases. Not here: whole answers (`view`).
//! Invariant: words that programs read are kebab-case and stay as they are.

use std::time::Duration;

use hearth_core::{
    Announcement, Cause, Choice, Expectation, Finding, Hold, Kind, Level, Phase, Place, Reason, ReplicaId,
    Role, Rollout, Severity, Source, Window, WorkloadId,
};

use crate::wall;
use crate::wording::{self, means};

pub(crate) fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Opening => "opening",
        Phase::Up => "up",
        Phase::Safe => "safe-mode",
        Phase::Stopping => "stopping",
        Phase::Down => "down",
    }
}

pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Service { .. } => "service",
        Kind::Job => "job",
        Kind::Function { .. } => "function",
    }
}

pub(crate) fn place(place: Place) -> &'static str {
    match place {
        Place::Waiting => "waiting",
        Place::Starting => "starting",
        Place::StartingUp => "starting-up",
        Place::Unready => "unready",
        Place::Ready => "ready",
        Place::Restarting => "restarting",
        Place::Ending => "ending",
        Place::Stopping => "stopping",
        Place::BackingOff => "backing-off",
        Place::Done => "done",
        Place::Failed => "failed",
        Place::Stopped => "stopped",
        Place::Lost => "lost",
        Place::Quarantined => "quarantined",
    }
}

pub(super) fn rollout(rollout: &Rollout) -> &'static str {
    match rollout {
        Rollout::Steady => "steady",
        Rollout::Canary { .. } => "canary",
        Rollout::Spreading { .. } => "spreading",
        Rollout::Reverting { .. } => "reverting",
    }
}

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Startup => "startup",
        Role::Liveness => "liveness",
        Role::Readiness => "readiness",
    }
}

pub(super) fn finding(finding: Finding) -> &'static str {
    match finding {
        Finding::Unknown => "unknown",
        Finding::Good => "good",
        Finding::Bad => "bad",
    }
}

pub(super) fn source(source: Source) -> &'static str {
    match source {
        Source::Hardware => "hardware",
        Source::GuestKernel => "guest-kernel",
        Source::Workload => "workload",
        Source::Network => "network",
        Source::Storage => "storage",
        Source::Data => "data",
        Source::Supervisor => "supervisor",
    }
}

pub(super) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

/// What a replica waits for.
pub(super) fn hold(hold: Hold, name: impl Fn(WorkloadId) -> String) -> String {
    match hold {
        Hold::Dependency(id) => format!("{} to be ready", name(id)),
        Hold::Memory => "memory that is promised to others".to_owned(),
        Hold::Cpu => "processors that are promised to others".to_owned(),
        Hold::Ceiling => "room under its own ceiling".to_owned(),
        Hold::Pressure => "memory, which is short on this box".to_owned(),
        Hold::Trial => "the replica on trial after a quarantine".to_owned(),
        Hold::Identity => "an older machine of it to end".to_owned(),
        Hold::Consent => "somebody who agrees to what heals it".to_owned(),
    }
}

pub(super) fn choice(choice: Choice) -> String {
    let expected = wording::expected(choice).map_or_else(String::new, |expected| format!(": {expected}"));
    format!("{}, {}{expected}", means(choice.rung), reason(choice.reason))
}

/// When what waits goes ahead.
pub(crate) fn window(window: Window) -> String {
    match window {
        Window::Always | Window::Open => "it is open".to_owned(),
        Window::Shut { opens_s: Some(at) } => format!("{} UTC", wall::of_week(at)),
        Window::Shut { opens_s: None } => "which needs a clock that somebody set".to_owned(),
    }
}

/// What is tried first, and what is expected of it.
pub(crate) fn learnt(from: Source, order: &[Expectation]) -> String {
    let one = |step: &Expectation| {
        let (percent, takes) = (step.chance_milli / 10, Duration::from_millis(u64::from(step.takes_ms)));
        format!("{} ({percent} % x {})", means(step.rung), wording::Took(takes))
    };
    let order: Vec<String> = order.iter().map(one).collect();
    format!("faults of {}: {}", source(from).replace('-', " "), order.join(", then "))
}

fn reason(reason: Reason) -> String {
    match reason {
        Reason::Cheapest => "the cheapest that is left".to_owned(),
        Reason::FitsTheSource(from) => {
            format!("since nothing cheaper helps against faults of {}", source(from).replace('-', " "))
        }
        Reason::AllTried => "since all else was tried".to_owned(),
        Reason::BudgetSpent => "since its restarts are used up".to_owned(),
        Reason::Instead(rung) => format!("as {} is not possible", means(rung)),
        Reason::UndoesLeast => "which undoes least of what is left".to_owned(),
        Reason::Expected { .. } => "by what cured such faults before".to_owned(),
    }
}

/// Why a replica moved.
pub(crate) fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Wanted => "all that it waited for is there".to_owned(),
        Cause::Adopted => "it was found running".to_owned(),
        Cause::AgentSaid => "its agent said so".to_owned(),
        Cause::Probes => "its probes said so".to_owned(),
        Cause::WorkloadEnded(end) => format!("its workload ended: {end}"),
        Cause::Failed(failure) => format!("it failed: {failure}"),
        Cause::Healing(means) => choice(*means),
        Cause::Healed => "it stayed ready".to_owned(),
        Cause::DeadlinePassed => "it took too long".to_owned(),
        Cause::DelayOver => "it has waited for long enough".to_owned(),
        Cause::NotWanted => "nobody wants it".to_owned(),
        Cause::DependencyGone => "what it requires is gone".to_owned(),
        Cause::NewVersion => "another version takes its place".to_owned(),
        Cause::Person => "somebody asked for it".to_owned(),
        Cause::Shutdown => "the box stops".to_owned(),
        Cause::Quarantine => "its workload is in quarantine".to_owned(),
        Cause::MachineGone => "its machine is gone".to_owned(),
    }
}

/// What an announcement is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) kind: &'static str,
    pub(super) alarm: bool,
    pub(super) workload: Option<WorkloadId>,
    pub(super) replica: Option<ReplicaId>,
}

impl About {
    const fn the_box(kind: &'static str) -> About {
        About { kind, alarm: false, workload: None, replica: None }
    }

    const fn replica(kind: &'static str, id: ReplicaId) -> About {
        About { kind, alarm: false, workload: Some(id.workload), replica: Some(id) }
    }

    const fn workload(kind: &'static str, id: WorkloadId) -> About {
        About { kind, alarm: false, workload: Some(id), replica: None }
    }

    const fn alarm(self) -> About {
        About { alarm: true, ..self }
    }
}

pub(super) fn about(announcement: &Announcement) -> About {
    match announcement {
        Announcement::Running { replica } => About::replica("running", *replica),
        Announcement::Done { replica } => About::replica("done", *replica),
        Announcement::Failed { replica, .. } => About::replica("failed", *replica),
        Announcement::RestartIn { replica, .. } => About::replica("restart", *replica),
        Announcement::ProcessRestart { replica, .. } => About::replica("process-restart", *replica),
        Announcement::Proposed { replica, .. } => About::replica("proposed", *replica).alarm(),
        Announcement::Healed { replica, .. } => About::replica("healed", *replica),
        Announcement::NoRoom { replica, .. } => About::replica("no-room", *replica),
        Announcement::Stubborn { replica, .. } => About::replica("stubborn", *replica),
        Announcement::Lost { replica } => About::replica("lost", *replica).alarm(),
        Announcement::Duplicate { replica, .. } => About::replica("duplicate", *replica),
        Announcement::Blocked { workload, .. } => About::workload("blocked", *workload),
        Announcement::Quarantined { workload, .. } => About::workload("quarantined", *workload).alarm(),
        Announcement::Retried { workload } => About::workload("retried", *workload),
        Announcement::RolloutBegan { workload, .. } => About::workload("rollout-began", *workload),
        Announcement::Promoted { workload, .. } => About::workload("promoted", *workload),
        Announcement::RolledOut { workload, .. } => About::workload("rolled-out", *workload),
        Announcement::RollingBack { workload, .. } => About::workload("rolling-back", *workload).alarm(),
        Announcement::LogsLimited { workload, .. } => About::workload("logs-limited", *workload),
        Announcement::Scaled { workload, .. } => About::workload("scaled", *workload),
        Announcement::Odd { workload: Some(workload), .. } => About::workload("odd", *workload),
        Announcement::Odd { workload: None, .. } => About::the_box("odd"),
        Announcement::ColdStart { workload, .. } => About::workload("cold-start", *workload),
        Announcement::KeptWarm { workload, .. } => About::workload("kept-warm", *workload),
        Announcement::Ballooned { workload, .. } => About::workload("ballooned", *workload),
        Announcement::Ranked { workload, .. } => About::workload("ranked", *workload),
        Announcement::Suspected { workload, .. } => About::workload("suspected", *workload),
        Announcement::RolloutWaits { workload, .. } => About::workload("rollout-waits", *workload),
        Announcement::ConfigApplied { .. } => About::the_box("config-applied"),
        Announcement::ConfigRefused { .. } => About::the_box("config-refused"),
        Announcement::Adopted { .. } => About::the_box("adopted"),
        Announcement::SafeMode { .. } => About::the_box("safe-mode").alarm(),
        Announcement::SafeModeOver => About::the_box("safe-mode-over"),
        Announcement::Late { .. } => About::the_box("late").alarm(),
        Announcement::Timely { .. } => About::the_box("timely"),
        Announcement::HealingBox { .. } => About::the_box("healing-box").alarm(),
        Announcement::DiskFull => About::the_box("disk-full").alarm(),
        Announcement::Pressure { level: Level::Full, .. } => About::the_box("pressure").alarm(),
        Announcement::Pressure { .. } => About::the_box("pressure"),
        Announcement::Ready { .. } => About::the_box("ready"),
        Announcement::NotReady { .. } => About::the_box("not-ready"),
        Announcement::Booted { .. } => About::the_box("booted"),
        Announcement::Stopping => About::the_box("stopping"),
        Announcement::Stopped => About::the_box("stopped"),
    }
}

/// What comes next for a replica by itself.
pub(super) fn next(place: Place) -> Option<&'static str> {
    match place {
        Place::Starting => Some("is given up and started anew"),
        Place::Restarting => Some("is healed by other means"),
        Place::Ending => Some("is ended by force"),
        Place::Stopping => Some("is stopped by a stronger means"),
        Place::BackingOff => Some("starts again"),
        Place::StartingUp | Place::Unready | Place::Ready => Some("is looked at"),
        Place::Waiting | Place::Done | Place::Failed | Place::Stopped | Place::Lost | Place::Quarantined => {
            None
        }
    }
}

//! Events, orders and moves as half sentences.
//!
//! Duty: one for each of the core's cases. Not here: announcements (`wording`), places and causes (`api`).

use std::time::Duration;

use hearth_core::{
    Action, Event, Insight, Order, Outcome, Request, Resource, Said, StartHow, Transition, Vm, Window,
    WorkloadId,
};

use crate::api::words;
use crate::wording::{self, Took};

pub(super) fn event(event: &Event, name: impl Fn(WorkloadId) -> String) -> String {
    match event {
        Event::Tick => "time passed".to_owned(),
        Event::Begin { boot, records, .. } => {
            let first = if boot.first_daemon { "the first since the box came up" } else { "another one" };
            format!(
                "a daemon begins, {first}, with {} records; {} boots failed",
                records.len(),
                boot.failed_boots
            )
        }
        Event::Configured(config) => format!("wanted are {} workloads", config.workloads.len()),
        Event::Found(found) => {
            format!("{}, run {}: found running", wording::replica(&found.name, found.slot), found.run.0)
        }
        Event::Surveyed => "all machines of earlier daemons are found".to_owned(),
        Event::Vm { vm, said } => format!("{}: {}", machine(*vm, name), self::said(said)),
        Event::Demand { workload, replicas } => {
            format!("{}: {replicas} replicas are asked for", name(*workload))
        }
        Event::Logged { workload, bytes } => format!("{}: logged {bytes} bytes", name(*workload)),
        Event::Pressure { resource, level } => {
            let resource = match resource {
                Resource::Memory => "memory",
                Resource::Disk => "disk",
            };
            format!("{resource}: {level:?}").to_lowercase()
        }
        Event::Alive(subsystem) => format!("{} gives a sign of life", wording::part(*subsystem)),
        Event::Foresaw(Insight::Replicas { workload, replicas, why }) => {
            format!("{}: {replicas} replicas would do: {why}", name(*workload))
        }
        Event::Foresaw(Insight::Odd { workload, what }) => {
            format!("{}: odd: {what}", workload.map_or_else(|| "the box".to_owned(), name))
        }
        Event::Foresaw(Insight::Warm { workload, idle, lasts, why }) => {
            format!("{}: {idle} idle ones are worth it for {}: {why}", name(*workload), Took(*lasts))
        }
        Event::Foresaw(Insight::Memory { workload, mib, why }) => {
            format!("{}: {mib} MiB would do for a machine: {why}", name(*workload))
        }
        Event::Foresaw(Insight::Ranked { workload, source, order }) => {
            format!("{}: {}", name(*workload), words::learnt(*source, order))
        }
        Event::Foresaw(Insight::Suspected { workload, whom }) => {
            format!("{}: likely because of {whom}", name(*workload))
        }
        Event::Foresaw(Insight::Judged { workload, judged }) => {
            let (version, words) = (judged.compared.version, wording::judged(judged));
            format!("{}: version {version}: {words}", name(*workload))
        }
        Event::Maintenance(window) => match window {
            Window::Always => "there are no windows of maintenance".to_owned(),
            Window::Open => "a window of maintenance is open".to_owned(),
            Window::Shut { .. } => format!("windows of maintenance: the next, {}", words::window(*window)),
        },
        Event::Ask(request) => self::request(request, name),
        Event::Stop => "the box is to stop".to_owned(),
        Event::StopNow => "the box is to stop at once".to_owned(),
    }
}

fn request(request: &Request, name: impl Fn(WorkloadId) -> String) -> String {
    match request {
        Request::Start(id) => format!("{}: somebody starts it", name(*id)),
        Request::Stop(id) => format!("{}: somebody stops it", name(*id)),
        Request::Restart(id) => format!("{}: somebody restarts it", name(*id)),
        Request::Scale { workload, replicas: Some(count) } => {
            format!("{}: somebody wants {count} replicas", name(*workload))
        }
        Request::Scale { workload, replicas: None } => {
            format!("{}: somebody wants as many replicas as its file says", name(*workload))
        }
        Request::Retry(id) => format!("{}: somebody wants it tried again", name(*id)),
        Request::Heal(id) => format!("{}: somebody agrees to what is to heal it", name(*id)),
        Request::UndoRollout(id) => format!("{}: somebody wants the version before", name(*id)),
        Request::LeaveSafeMode => "somebody ends safe mode".to_owned(),
        Request::ReExec => "the daemon is to begin again in place".to_owned(),
        Request::Reboot => "somebody wants the box to boot again".to_owned(),
    }
}

fn said(said: &Said) -> String {
    match said {
        Said::NotSpawned(why) => format!("its monitor did not start: {why}"),
        Said::AgentConnected => "its agent is connected".to_owned(),
        Said::WorkloadStarted => "its workload started".to_owned(),
        Said::Heartbeat => "its agent beats".to_owned(),
        Said::Probed { probe, good } => {
            format!("its probe {probe} is answered {}", if *good { "well" } else { "badly" })
        }
        Said::Alarm(end) => format!("its guest gave up: {end}"),
        Said::Served { requests, errors } => format!("it served {requests} requests, {errors} with errors"),
        Said::WorkloadEnded(end) => format!("its workload ended: {end}"),
        Said::AgentLost => "its agent is gone".to_owned(),
        Said::SnapshotTaken => "a snapshot of it is there".to_owned(),
        Said::SnapshotFailed => "no snapshot of it could be taken".to_owned(),
        Said::SnapshotGone => "its snapshot is gone, it begins from nothing".to_owned(),
        Said::Ended(end) => format!("its machine ended: {end}"),
    }
}

pub(super) fn moved(replica: &str, transition: &Transition) -> String {
    let (from, to) = (words::place(transition.from), words::place(transition.to));
    format!("{replica}: {from} -> {to}, since {}", words::cause(&transition.why))
}

/// Pets are left out: they say that nothing is wrong.
pub(super) fn action(action: &Action, name: impl Fn(WorkloadId) -> String) -> Option<String> {
    Some(match action {
        Action::Vm { vm, order } => format!("{}: {}", machine(*vm, name), self::order(order)),
        Action::Announce(announcement) => {
            format!("says: {}", wording::announce(announcement, name, |_| None))
        }
        Action::Remember(record) => format!("{}: is remembered as it is", record.name),
        Action::RememberDevice(_) => "what was done to heal the box is remembered".to_owned(),
        Action::Forget { name, .. } => format!("{name}: is forgotten"),
        Action::Pet => return None,
        Action::BootSettled => "this boot counts as a good one".to_owned(),
        Action::TrimLogs => "logs are cut to their least".to_owned(),
        Action::CollectImages { keep } => {
            format!("what is stored of all but {} versions is removed", keep.len())
        }
        Action::LimitLogs { workload, until } => {
            format!("{}: what it logs is dropped until {} s", name(*workload), until.as_millis() / 1000)
        }
        Action::ReExec => "the daemon begins again in place".to_owned(),
        Action::Reboot { .. } => "the box boots again".to_owned(),
        Action::Finish => "the daemon leaves".to_owned(),
        Action::Learn(Outcome { workload, rung, cured, took, .. }) => {
            let helped = if *cured { "helped" } else { "did not help" };
            format!("{}: {} {helped} within {}", name(*workload), wording::means(*rung), Took(*took))
        }
    })
}

fn order(order: &Order) -> String {
    let within = |time: &Duration| format!("within {}", Took(*time));
    match order {
        Order::Start { how, .. } => {
            let how = match how {
                StartHow::Cold => "from nothing",
                StartHow::Restore => "from its snapshot",
                StartHow::FreshDisk => "with a fresh disk",
            };
            format!("start it, {how}")
        }
        Order::AskAgent { grace } => format!("ask its agent to stop {}", within(grace)),
        Order::Terminate => "SIGTERM to its monitor".to_owned(),
        Order::Kill => "SIGKILL to its monitor".to_owned(),
        Order::RestartProcess => "have its agent start the workload again".to_owned(),
        Order::Probe { probe, timeout } => {
            format!("ask its probe {probe}, to be answered {}", within(timeout))
        }
        Order::Traffic { open: true } => "let traffic in".to_owned(),
        Order::Traffic { open: false } => "keep traffic away".to_owned(),
        Order::Snapshot => "keep a snapshot of it".to_owned(),
        Order::Balloon { mib } => format!("its balloon holds {mib} MiB"),
    }
}

fn machine(vm: Vm, name: impl Fn(WorkloadId) -> String) -> String {
    let Vm { replica, run } = vm;
    format!("{}, run {}", wording::replica(&name(replica.workload), replica.slot), run.0)
}

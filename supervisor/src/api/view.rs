//! The core's state as answers.
//!
//! Duty: draw what the API says from what the core explains. Not here: words (`words`), bytes (`http`).
//! Invariant: it looks and changes nothing; the same state gives the same answer.

use hearth_core::{
    Breaker, CallStory, Compared, End, Explanation, Failure, Hold, Kind, Lifecycle, MAX_REPLICAS, Moment,
    Phase, Place, ReplicaStory, Rollout, Slot, Stage, State, Vm, WorkloadId,
};
use hearth_foresight::Outlook;
use serde::Serialize;

use super::metrics::Page;
use super::types::{
    BoxStatus, Explained, IncidentTold, ProbeTold, Reached, Refused, ReplicaStatus, TelemetryTold,
    TransitionTold, WorkloadStatus,
};
use super::{Deed, Question, Reply, words};
use crate::wording::{self, Took};

/// What a workload told the fleet, which the core has no part in.
pub(crate) type Telemetry<'t> = &'t dyn Fn(&str) -> Option<TelemetryTold>;

/// The answer to a question that, if it asks for a change, the core has heard before.
pub(crate) fn answer(core: &State, telemetry: Telemetry<'_>, now: Moment, question: &Question) -> Reply {
    match question {
        Question::Status | Question::LeaveSafeMode | Question::BeginAgain | Question::Reboot => {
            Reply::json(200, &status(core, now))
        }
        // What is foreseen is told beside it by whoever knows.
        Question::Metrics => metrics(core, now, &[]),
        Question::Explain { workload } => match explained(core, telemetry, now, workload) {
            Some(explained) => Reply::json(200, &explained),
            None => Reply::no_such_workload(workload),
        },
        Question::Reach { name } => reach(core, name),
        Question::Served { workload, served } => match find(core, workload) {
            Some(_)
                if served.replica.as_deref().is_some_and(|name| machine(core, workload, name).is_none()) =>
            {
                let name = served.replica.as_deref().unwrap_or_default();
                let message =
                    format!("expected a replica of {workload} that has a machine, found \"{name}\"");
                Reply::refused(409, "no-machine", message)
            }
            Some(story) => Reply::json(202, &workload_status(core, &story)),
            None => Reply::no_such_workload(workload),
        },
        // Of those that there are, the lookout answers.
        Question::Forecast { workload } | Question::Unlearn { workload } => {
            Reply::no_such_workload(workload.as_deref().unwrap_or_default())
        }
        Question::Teach { workload, .. } => Reply::no_such_workload(workload),
        Question::Do { workload, deed: Deed::Demand(_) } => match find(core, workload) {
            Some(story) if matches!(story.kind, Kind::Function { .. }) => {
                Reply::json(202, &workload_status(core, &story))
            }
            Some(_) => {
                Reply::refused(409, "no-function", format!("expected a function, {workload} is another kind"))
            }
            None => Reply::no_such_workload(workload),
        },
        Question::Do { workload, .. } => match find(core, workload) {
            // Asked, not done: machines take their time.
            Some(story) => Reply::json(202, &workload_status(core, &story)),
            None => Reply::no_such_workload(workload),
        },
    }
}

impl Reply {
    pub(crate) fn json(status: u16, value: &impl Serialize) -> Reply {
        // Only a map with keys that are no text, or a writer that fails, could go wrong here.
        let body = serde_json::to_vec(value).unwrap_or_default();
        Reply { status, body }
    }

    pub(crate) fn refused(status: u16, error: &'static str, message: String) -> Reply {
        Reply::json(status, &Refused { error: error.into(), message })
    }

    pub(super) fn no_such_workload(name: &str) -> Reply {
        Reply::refused(404, "no-such-workload", format!("expected a workload of this box, found \"{name}\""))
    }
}

/// What Prometheus scrapes of the loop.
pub(crate) fn metrics(core: &State, now: Moment, outlooks: &[Outlook]) -> Reply {
    let mut page = Page::default();
    page.status(&status(core, now));
    page.calls(&core.ids().filter_map(|id| core.explain(id)).collect::<Vec<_>>());
    page.foreseen(outlooks);
    Reply { status: 200, body: page.into_bytes() }
}

/// The machine of a replica, or of a workload's first replica that has one.
fn reach(core: &State, name: &str) -> Reply {
    let (workload, slot) = match name.split_once('.') {
        Some((workload, slot)) => (workload, slot.parse().ok().map(Slot)),
        None => (name, None),
    };
    let named = slot.is_some() || !name.contains('.');
    let Some(story) = find(core, workload).filter(|_| named) else { return Reply::no_such_workload(name) };
    let is_meant = |replica: &&ReplicaStory| slot.is_none_or(|slot| slot == replica.slot);
    let mut there = story.replicas.iter().filter(|replica| replica.lifecycle.is_alive());
    match there.find(is_meant) {
        Some(replica) => {
            let replica = wording::replica(&story.name, replica.slot);
            Reply::json(200, &Reached { workload: story.name.clone(), replica })
        }
        None => {
            Reply::refused(409, "no-machine", format!("expected a workload that runs, {name} has no machine"))
        }
    }
}

/// Of a replica, named as everywhere: the one that is there now.
pub(crate) fn machine(core: &State, workload: &str, name: &str) -> Option<Vm> {
    let id = core.id_of(workload)?;
    let story = core.explain(id)?;
    let mut there = story.replicas.iter().filter(|replica| replica.lifecycle.is_alive());
    let replica = there.find(|replica| wording::replica(&story.name, replica.slot) == name)?;
    Some(id.replica(replica.slot).run(replica.run))
}

fn find(core: &State, name: &str) -> Option<Explanation> {
    core.id_of(name).and_then(|id| core.explain(id))
}

fn status(core: &State, now: Moment) -> BoxStatus {
    let stories = core.ids().filter_map(|id| core.explain(id));
    let workloads: Vec<WorkloadStatus> = stories.map(|story| workload_status(core, &story)).collect();
    BoxStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        phase: words::phase(core.phase()).into(),
        now_ms: now.as_millis(),
        ready: workloads.iter().filter(|workload| workload.good).count(),
        of: workloads.len(),
        workloads,
    }
}

pub(crate) fn workload_status(core: &State, story: &Explanation) -> WorkloadStatus {
    let wanted = || story.replicas.iter().take(story.replicas_wanted);
    let ready = wanted().filter(|replica| replica.place == Place::Ready).count();
    let (state, good) = standing(story, ready);
    WorkloadStatus {
        name: story.name.clone(),
        kind: words::kind(story.kind).into(),
        state: state.into(),
        good,
        replicas_wanted: story.replicas_wanted,
        replicas_ready: ready,
        scale: story.scale,
        version: story.current.to_string(),
        rollout: words::rollout(&story.rollout).into(),
        restarts_in_window: story.restarts_in_window,
        restarts_allowed: story.restarts_allowed,
        replicas: story.replicas.iter().map(|replica| replica_status(core, story, replica)).collect(),
    }
}

/// One word for a whole workload, and whether it is what its file wants.
fn standing(story: &Explanation, ready: usize) -> (&'static str, bool) {
    if matches!(story.breaker, Breaker::Open { .. }) {
        return ("quarantined", false);
    }
    let busy = |replica: &&ReplicaStory| replica.lifecycle.is_alive();
    let still_stopping = story.replicas.iter().find(busy).map(|replica| words::place(replica.place));
    if !story.wanted {
        return (still_stopping.unwrap_or("removed"), false);
    }
    if story.stopped {
        return (still_stopping.unwrap_or("stopped"), false);
    }
    if story.replicas_wanted == 0 {
        // What it requires is gone, a function that nobody calls, or a service scaled to nothing.
        return (still_stopping.unwrap_or(if story.orphaned { "waiting" } else { "idle" }), !story.orphaned);
    }
    let wanted = || story.replicas.iter().take(story.replicas_wanted);
    if story.kind == Kind::Job && wanted().any(|replica| replica.place == Place::Done) {
        return ("done", true);
    }
    match ready {
        0 => {
            let worst = wanted().max_by_key(|replica| (distance(replica.place), replica.slot));
            (worst.map_or("waiting", |replica| words::place(replica.place)), false)
        }
        // A job that runs is on its way, not where it should be.
        _ if story.kind == Kind::Job => ("running", false),
        _ if ready < story.replicas_wanted => ("partly-ready", false),
        _ => ("ready", true),
    }
}

/// How far from serving.
const fn distance(place: Place) -> u8 {
    match place {
        Place::Ready | Place::Done => 0,
        Place::Unready | Place::StartingUp => 1,
        Place::Restarting | Place::Starting => 2,
        Place::Ending | Place::Stopping => 3,
        Place::Waiting => 4,
        Place::BackingOff => 5,
        Place::Stopped => 6,
        Place::Failed | Place::Lost | Place::Quarantined => 7,
    }
}

fn replica_status(core: &State, story: &Explanation, replica: &ReplicaStory) -> ReplicaStatus {
    let moved = story.transitions.iter().rev().find(|transition| transition.slot == replica.slot);
    ReplicaStatus {
        name: wording::replica(&story.name, replica.slot),
        slot: replica.slot.0,
        run: replica.run.0,
        version: replica.version.to_string(),
        state: words::place(replica.place).into(),
        since_ms: moved.map(|transition| transition.at.as_millis()),
        next_ms: replica.next.map(Moment::as_millis),
        waits_for: held(replica).map(|hold| words::hold(hold, namer(core))),
        fault: fault(replica).map(ToString::to_string),
    }
}

fn fault(replica: &ReplicaStory) -> Option<&Failure> {
    match &replica.lifecycle {
        Lifecycle::Ended(End::Failed(failure)) => Some(failure),
        _ => replica.incident.as_ref().map(|incident| &incident.failure),
    }
}

/// Only who waits is held by something.
fn held(replica: &ReplicaStory) -> Option<Hold> {
    replica.hold.filter(|_| replica.place == Place::Waiting)
}

fn namer(core: &State) -> impl Fn(WorkloadId) -> String {
    |id| core.name(id).unwrap_or("one that is gone").to_owned()
}

fn explained(core: &State, telemetry: Telemetry<'_>, now: Moment, name: &str) -> Option<Explained> {
    let story = find(core, name)?;
    let called = |slot: Slot| wording::replica(&story.name, slot);
    let probes = story.replicas.iter().flat_map(|replica| {
        replica.probes.iter().map(move |probe| ProbeTold {
            replica: called(replica.slot),
            role: words::role(probe.spec.role).into(),
            check: probe.spec.check.to_string(),
            finding: words::finding(probe.finding).into(),
            bad_in_a_row: probe.bad_in_a_row,
            failures: probe.spec.failures,
            period_ms: u64::try_from(probe.spec.period.as_millis()).unwrap_or(u64::MAX),
        })
    });
    let incidents = story.replicas.iter().filter_map(|replica| {
        let incident = replica.incident.as_ref()?;
        Some(IncidentTold {
            replica: called(replica.slot),
            opened_ms: incident.opened.as_millis(),
            fault: incident.failure.to_string(),
            source: words::source(incident.class.source).into(),
            severity: words::severity(incident.class.severity).into(),
            means: incident.last.map(words::choice),
            suspect: incident.suspect.clone(),
            verified_ms: match incident.stage {
                Stage::Healing => None,
                Stage::Verifying { until } => Some(until.as_millis()),
            },
        })
    });
    let transitions = story.transitions.iter().map(|transition| TransitionTold {
        at_ms: transition.at.as_millis(),
        replica: called(transition.slot),
        run: transition.run.0,
        from: words::place(transition.from).into(),
        to: words::place(transition.to).into(),
        why: words::cause(&transition.why),
    });
    Some(Explained {
        now_ms: now.as_millis(),
        status: workload_status(core, &story),
        why: why(core, now, &story),
        previous_version: story.previous.map(|version| version.to_string()),
        rejected_version: story.rejected.map(|version| version.to_string()),
        telemetry: telemetry(name),
        learnt: story.learnt.iter().map(|(source, order)| words::learnt(*source, order)).collect(),
        probes: probes.collect(),
        incidents: incidents.collect(),
        transitions: transitions.collect(),
    })
}

/// What is wanted, what is in the way, what comes next.
fn why(core: &State, now: Moment, story: &Explanation) -> Vec<String> {
    let mut lines = vec![wanted(story)];
    if let Some(memory) = &story.memory {
        let (left, of) = (memory.left_mib, memory.of_mib);
        lines.push(format!("{left} of {of} MiB are left to each machine: {}", memory.why));
    }
    lines.extend(story.calls.iter().flat_map(|story| calls(now, story)));
    if core.phase() == Phase::Safe {
        lines.push(
            "the box is in safe mode, its last boots failed; `box leave-safe-mode` ends that".to_owned(),
        );
    }
    if story.stopped {
        lines.push("somebody stopped it; `start` lifts that".to_owned());
    }
    if story.orphaned {
        lines.push("what it requires was stopped or given up".to_owned());
    }
    match story.breaker {
        Breaker::Closed => {}
        Breaker::Open { since } => lines.push(format!(
            "in quarantine for {} after {} of {} restarts; `retry` lifts that",
            Took(now.since(since)),
            story.restarts_in_window,
            story.restarts_allowed
        )),
        Breaker::HalfOpen { .. } => lines.push(
            "on trial after a quarantine: one replica has to stay ready before others start".to_owned(),
        ),
    }
    match &story.rollout {
        Rollout::Steady => {}
        Rollout::Canary { candidate, canaries, failures, .. } => lines.push(format!(
            "version {} is tried on {canaries} first, and failed {failures} times so far",
            candidate.version
        )),
        Rollout::Spreading { candidate, moved, .. } => {
            lines.push(format!("version {} is on {moved} replicas and spreads", candidate.version));
        }
        Rollout::Reverting { bad } => lines.push(format!("version {bad} is being taken back")),
    }
    if let Some(Compared { old, new, .. }) = story.compared.filter(|compared| compared.new.requests > 0) {
        let judged =
            story.judged.map_or_else(String::new, |judged| format!("; {}", wording::judged(&judged)));
        lines.push(format!(
            "of its requests {} of {} failed, and {} of {} with the version before{judged}",
            new.errors, new.requests, old.errors, old.requests
        ));
    }
    if let Some(version) = story.held {
        let window = words::window(core.window());
        lines.push(format!("version {version} waits for its window, {window}; `retry` lets it go ahead"));
    }
    if let Some(version) = story.rejected {
        let why = story.rejected_for.map_or_else(String::new, |why| format!(", as {}", wording::why(&why)));
        lines.push(format!("version {version} was rejected{why}; `retry` lets it try again"));
    }
    for replica in &story.replicas {
        if let Some(choice) = replica.incident.as_ref().and_then(|incident| incident.proposed) {
            let name = wording::replica(&story.name, replica.slot);
            lines.push(format!("{name}: proposed is {}; `heal` agrees to it", words::choice(choice)));
        }
    }
    lines.extend(story.replicas.iter().map(|replica| replica_line(core, now, story, replica)));
    lines
}

fn wanted(story: &Explanation) -> String {
    if !story.wanted {
        return "no file of the box names it any more".to_owned();
    }
    let foreseen =
        story.scaling.map(|bounds| format!("of {} to {}, by what is foreseen", bounds.least, bounds.most));
    let by = match (story.scale, foreseen) {
        (Some(_), _) => "somebody scaled it".to_owned(),
        (None, Some(foreseen)) => foreseen,
        (None, None) => "its file says so".to_owned(),
    };
    match story.kind {
        Kind::Service { .. } => {
            format!("a service, {} of at most {MAX_REPLICAS} replicas wanted: {by}", story.replicas_wanted)
        }
        Kind::Job => "a job, to end with success once".to_owned(),
        Kind::Function { most, .. } => {
            let (in_use, idle) = story.calls.as_ref().map_or((0, 0), |calls| (calls.in_use, calls.idle));
            format!("a function, {in_use} of at most {most} replicas asked for, {idle} more kept warm")
        }
    }
}

/// What a function's next call will find, and what those before found.
fn calls(now: Moment, calls: &CallStory) -> Vec<String> {
    let mut lines = Vec::new();
    let by = calls.why.as_deref().unwrap_or("its file says so");
    match calls.until.filter(|until| *until > now) {
        Some(until) => {
            lines.push(format!("{} kept warm for {} more: {by}", calls.idle, Took(until.since(now))));
        }
        None if calls.idle > 0 => lines.push(format!("{} kept warm: {by}", calls.idle)),
        None => {}
    }
    if calls.calls > 0 {
        lines.push(format!("{} of {} calls met a cold start", calls.cold, calls.calls));
    }
    lines
}

fn replica_line(core: &State, now: Moment, story: &Explanation, replica: &ReplicaStory) -> String {
    let name = wording::replica(&story.name, replica.slot);
    // As words, not as a label.
    let place = words::place(replica.place).replace('-', " ");
    let moved = story.transitions.iter().rev().find(|transition| transition.slot == replica.slot);
    let mut line = match moved {
        Some(transition) => {
            let (span, why) = (Took(now.since(transition.at)), words::cause(&transition.why));
            format!("{name} has been {place} for {span}, because {why}")
        }
        None => format!("{name} is {place}"),
    };
    if let Some(hold) = held(replica) {
        line = format!("{line}; it waits for {}", words::hold(hold, namer(core)));
    }
    if let (Some(at), Some(next)) = (replica.next, words::next(replica.place)) {
        line = format!("{line}; it {next} in {}", Took(at.since(now)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Deed;
    use hearth_core::{
        Boot, Build, Config, DeviceRecord, DeviceSpec, Event, Needs, Run, Said, Spec, Version, VmEnd,
        WorkloadEnd,
    };

    fn spec(name: &str, kind: Kind, after: &[&str]) -> Spec {
        let needs = Needs { memory_mib: 128, cpu_milli: 1000 };
        let mut spec = Spec::new(name, kind, Build { version: Version(7 << 32), needs });
        spec.after = after.iter().map(|name| (*name).to_owned()).collect();
        spec
    }

    fn up(workloads: Vec<Spec>) -> State {
        let mut core = State::new(0);
        let begin =
            Event::Begin { boot: Boot::default(), device: DeviceRecord::default(), records: Vec::new() };
        let config = Config { device: DeviceSpec::default(), workloads };
        for event in [begin, Event::Configured(Box::new(config)), Event::Surveyed] {
            let _ = core.step(Moment::START, event);
        }
        core
    }

    fn say(core: &mut State, name: &str, at_ms: u64, said: Said) {
        let vm = core.id_of(name).unwrap().replica(Slot::FIRST).run(Run(1));
        let _ = core.step(Moment::from_millis(at_ms), Event::Vm { vm, said });
    }

    fn ask<T: serde::de::DeserializeOwned>(core: &State, question: &Question) -> T {
        let reply = answer(core, &|_| None, Moment::from_millis(5000), question);
        assert!(reply.status < 300, "{}", reply.status);
        serde_json::from_slice(&reply.body).unwrap()
    }

    fn states(core: &State) -> Vec<String> {
        let status: BoxStatus = ask(core, &Question::Status);
        let shown = status.workloads.iter().map(|one| format!("{} {} {}", one.name, one.state, one.good));
        shown.collect()
    }

    #[test]
    fn each_workload_has_one_word_and_the_box_counts_the_good_ones() {
        let service = Kind::Service { replicas: 1 };
        let mut core =
            up(vec![spec("job", Kind::Job, &[]), spec("late", service, &["job"]), spec("web", service, &[])]);
        say(&mut core, "web", 100, Said::AgentConnected);
        say(&mut core, "web", 100, Said::WorkloadStarted);
        assert_eq!(states(&core), ["job starting false", "late waiting false", "web ready true"]);
        say(&mut core, "job", 200, Said::WorkloadEnded(WorkloadEnd::Code(0)));
        say(&mut core, "job", 300, Said::Ended(VmEnd::PoweredOff));
        let status: BoxStatus = ask(&core, &Question::Status);
        assert_eq!((status.ready, status.of, status.phase.as_ref()), (2, 3, "up"));
        assert_eq!(states(&core), ["job done true", "late starting false", "web ready true"]);
    }

    #[test]
    fn an_explanation_tells_what_is_waited_for_and_what_happened() {
        let service = Kind::Service { replicas: 1 };
        let mut core = up(vec![spec("base", service, &[]), spec("web", service, &["base"])]);
        let explained: Explained = ask(&core, &Question::Explain { workload: "web".to_owned() });
        assert_eq!(
            explained.why,
            [
                "a service, 1 of at most 64 replicas wanted: its file says so",
                "web is waiting; it waits for base to be ready"
            ]
        );
        say(&mut core, "base", 100, Said::AgentConnected);
        say(&mut core, "base", 1000, Said::Ended(VmEnd::Panicked));
        let explained: Explained = ask(&core, &Question::Explain { workload: "base".to_owned() });
        let last = explained.transitions.last().unwrap();
        assert_eq!((last.from.as_ref(), last.to.as_ref()), ("starting", "backing-off"));
        assert_eq!(last.at_ms, 1000);
        assert_eq!(explained.incidents[0].fault, "the guest panicked");
        assert_eq!(explained.incidents[0].source, "guest-kernel");
    }

    #[test]
    fn a_workload_that_a_person_stopped_says_how_to_lift_that() {
        let mut core = up(vec![spec("web", Kind::Service { replicas: 1 }, &[])]);
        let question = Question::Do { workload: "web".to_owned(), deed: Deed::Stop };
        let event = question.event(&core).unwrap();
        let _ = core.step(Moment::from_millis(1), event);
        let status: WorkloadStatus = ask(&core, &question);
        assert_eq!((status.state.as_ref(), status.good), ("stopping", false));
        say(&mut core, "web", 10, Said::Ended(VmEnd::StoppedByHost));
        assert_eq!(states(&core), ["web stopped false"]);
        let explained: Explained = ask(&core, &Question::Explain { workload: "web".to_owned() });
        assert!(explained.why.contains(&"somebody stopped it; `start` lifts that".to_owned()));
    }

    #[test]
    fn what_there_is_not_is_refused_by_name_and_asks_the_core_for_nothing() {
        let core = up(Vec::new());
        let question = Question::Do { workload: "web".to_owned(), deed: Deed::Restart };
        assert_eq!(question.event(&core), None);
        let reply = answer(&core, &|_| None, Moment::START, &question);
        assert_eq!(reply.status, 404);
        let refused: Refused = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(refused.message, "expected a workload of this box, found \"web\"");
    }
}

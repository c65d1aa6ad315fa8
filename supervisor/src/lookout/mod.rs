//! The box measures itself, and foresees.
//!
//! | file | what |
//! |---|---|
//! | `reading.rs` | numbers of the kernel |
//! | `counters.rs` | numbers of the monitors |
//! | `memory.rs` | the file of what was learnt |
//!
//! Duty: one reading of everything at a time, to `hearth-foresight`, which makes insights of it. Not here: what is made of
//! them (`hearth-foresight`), what follows (`hearth-core`).
//! Invariants: a reading is two files for each machine, and some for the box; a monitor is asked once in
//! [`TICKS_PER_SAMPLE`] of them, since it looks through its guest's pages for that. Where `predict.every_s` is 0, nobody
//! wakes up.

mod counters;
mod memory;
mod reading;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_config::device::Weights;
use hearth_config::workload::{KEPT_WARM, WorkloadConfig};
use hearth_core::{
    Compared, Explanation, Failure, FaultClass, Insight, Moment, Outcome, Rung, Rungs, State, Vm, WorkloadId,
};
use hearth_foresight::{
    self as foresight, BalloonWish, Event, Foresight, HealWish, KeepWish, Measured, Metric, Outlook, Reading,
    RolloutWish, ScaleWish, Seconds, Served, TICKS_PER_SAMPLE, View, Wish,
};
use smol::LocalExecutor;

use crate::api::types::Lesson;
use crate::setup::{Setup, control_socket, vm_folder};
use crate::{wall, wanted, wording};
use counters::{Counters, Monitors};
use memory::Writing;
use reading::{Host, Processor};

/// How often what was learnt is written down: a few hundred KiB, on flash that wears.
const KEPT_EVERY: Duration = Duration::from_secs(1800);
/// For that to be on the disk before the daemon leaves: a worn disk takes seconds, one that hangs holds no box.
const LAST_WRITE: Duration = Duration::from_secs(10);
/// Of as many machines as a file may have wait, it is learnt when they are needed.
const _: () = assert!(*KEPT_WARM.end() == hearth_foresight::MOST_KEPT as u64);
const MIB: f32 = 1_048_576.0;
const KIB: f32 = 1024.0;

/// Looks, at a steady pace.
#[derive(Debug)]
pub(crate) struct Lookout {
    foresight: Foresight,
    /// None: it is not to look.
    every: Option<Duration>,
    due: Moment,
    /// When time alone changes something.
    asks: Option<Moment>,
    last: Option<Moment>,
    ticks: u32,
    /// Seconds from the clock of moments to one whose days begin at midnight; not before the wall clock was set.
    offset: Option<u64>,
    state: PathBuf,
    store: PathBuf,
    kept: Moment,
    writing: Option<Writing>,
    host: Host,
    machines: BTreeMap<Vm, Seen>,
    monitors: Monitors,
}

/// What was read of a machine the last time.
#[derive(Debug, Default)]
struct Seen {
    process: Option<u32>,
    processor: Option<Processor>,
    counters: Option<Counters>,
}

impl Lookout {
    /// With words about what could not be taken up again, if anything.
    pub(crate) fn new(setup: &Setup, now: Moment) -> (Lookout, Option<String>) {
        let store = setup.device.store.folder.clone();
        let mut lookout = Lookout {
            foresight: Foresight::new(1),
            every: None,
            due: now,
            asks: None,
            last: None,
            ticks: 0,
            offset: None,
            state: setup.device.paths.state.clone(),
            kept: now,
            writing: None,
            host: Host::new(Path::new("/")),
            machines: BTreeMap::new(),
            monitors: Monitors::default(),
            store,
        };
        lookout.configure(setup, now);
        let words = lookout.every.and_then(|_| memory::take_up(&lookout.store, &mut lookout.foresight));
        lookout.plan(now);
        (lookout, words)
    }

    pub(crate) fn configure(&mut self, setup: &Setup, now: Moment) {
        let every = setup.device.predict.every;
        if every != self.every {
            self.every = every;
            self.due = now;
            self.ticks = 0;
        }
        let seconds = every.map_or(1, |every| u32::try_from(every.as_secs()).unwrap_or(u32::MAX));
        let weights = setup.device.weights;
        let wishes = setup.workloads.iter().map(|workload| wish(workload, weights)).collect();
        let _ = self.foresight.step(Event::Configured { tick_s: seconds, wishes });
        self.plan(now);
    }

    /// When it looks next.
    pub(crate) fn due(&self) -> Option<Moment> {
        let asks = self.asks.unwrap_or(self.due);
        self.every.map(|_| self.due.min(asks))
    }

    /// Looks, if it is time, and says what it makes of it.
    pub(crate) fn look(&mut self, core: &State, now: Moment, executor: &LocalExecutor<'_>) -> Vec<Insight> {
        let Some(every) = self.every.filter(|_| self.due <= now) else { return Vec::new() };
        // A box that slept does not catch up.
        self.due = self.due.after(every).max(now);
        let passed = self.last.replace(now).map(|last| now.since(last).as_secs_f32());
        self.ticks += 1;
        let stories: Vec<Explanation> = core.ids().filter_map(|id| core.explain(id)).collect();
        let mut sockets = Vec::new();
        let mut there = BTreeMap::new();
        let mut workloads = Vec::new();
        for story in &stories {
            let Some(id) = core.id_of(&story.name) else { continue };
            let (mut sums, mut serving) = (Sums::default(), 0);
            for replica in story.replicas.iter().filter(|replica| replica.lifecycle.is_alive()) {
                serving += u16::from(replica.lifecycle.is_ready());
                let vm = id.replica(replica.slot).run(replica.run);
                let folder = vm_folder(&self.state, &wording::replica(&story.name, replica.slot));
                let mut seen = self.machines.remove(&vm).unwrap_or_default();
                seen.read(&folder, passed, &mut sums);
                if let Some(newest) = self.monitors.take(vm) {
                    sums.count(&newest, seen.counters.as_ref());
                    seen.counters = Some(newest);
                }
                sockets.push((vm, control_socket(&folder)));
                there.insert(vm, seen);
            }
            let (workload, reading, spare_mib) = (story.name.clone(), sums.reading(), sums.spare);
            workloads.push(Measured { workload, reading, spare_mib, serving });
        }
        self.machines = there;
        if self.ticks >= TICKS_PER_SAMPLE {
            self.ticks = 0;
            self.monitors.ask(executor, sockets);
        }
        let at = self.seconds(now);
        let host = self.host.read();
        let insights = self.foresight.step(Event::Measured { at, host, workloads });
        insights.into_iter().filter_map(|insight| of_core(core, insight)).collect()
    }

    /// So many machines of a function are in use from now on.
    pub(crate) fn called(&mut self, core: &State, now: Moment, workload: &str, in_use: u16) -> Vec<Insight> {
        if self.every.is_none() {
            return Vec::new();
        }
        let (at, workload) = (self.seconds(now), workload.to_owned());
        let insights = self.foresight.step(Event::Called { at, workload, in_use });
        self.plan(now);
        insights.into_iter().filter_map(|insight| of_core(core, insight)).collect()
    }

    /// What time alone changes, if it is time.
    pub(crate) fn pass(&mut self, core: &State, now: Moment) -> Vec<Insight> {
        if self.every.is_none() || self.asks.is_none_or(|asks| asks > now) {
            return Vec::new();
        }
        let at = self.seconds(now);
        let insights = self.foresight.step(Event::Passed { at });
        self.plan(now);
        insights.into_iter().filter_map(|insight| of_core(core, insight)).collect()
    }

    /// Looks up when time alone changes something next.
    fn plan(&mut self, now: Moment) {
        let at = self.seconds(now);
        let left = |due: Seconds| Duration::from_secs(due.0.saturating_sub(at.0));
        self.asks = self.foresight.due().map(|due| now.after(left(due)));
    }

    pub(crate) fn served(&mut self, workload: &str, served: Served) {
        let _ = self.foresight.step(Event::Served { workload: workload.to_owned(), served });
    }

    /// What a new version served beside the one before. What is made of it; a box that does not look weighs nothing.
    pub(crate) fn compared(&mut self, core: &State, workload: &str, compared: Compared) -> Vec<Insight> {
        if self.every.is_none() {
            return Vec::new();
        }
        let insights = self.foresight.step(Event::Compared { workload: workload.to_owned(), compared });
        insights.into_iter().filter_map(|insight| of_core(core, insight)).collect()
    }

    pub(crate) fn teach(&mut self, workload: &str, lesson: &Lesson) {
        let Some(metric) = Metric::of_name(&lesson.metric) else { return };
        let (workload, from, values) = (workload.to_owned(), Seconds(lesson.from_s), lesson.values.clone());
        let _ = self.foresight.step(Event::Taught { workload, metric, from, values });
    }

    pub(crate) fn restarted(&mut self, workload: &str) {
        let _ = self.foresight.step(Event::Restarted { workload: workload.to_owned() });
    }

    /// A means of healing helped, or did not. What is made of it; a box that does not look does not learn either.
    pub(crate) fn tried(&mut self, core: &State, outcome: Outcome) -> Option<Insight> {
        let workload = core.name(outcome.workload).filter(|_| self.every.is_some())?.to_owned();
        let Outcome { class, rung, cured, took, .. } = outcome;
        let tried = Event::Tried { workload, source: class.source, rung, cured, seconds: took.as_secs_f32() };
        // An outcome says something about one source of faults of one workload.
        self.foresight.step(tried).into_iter().find_map(|insight| of_core(core, insight))
    }

    /// Something is wrong with a workload. Who else may have begun it.
    pub(crate) fn failed(
        &mut self,
        core: &State,
        workload: WorkloadId,
        failure: &Failure,
        now: Moment,
    ) -> Option<Insight> {
        let workload = core.name(workload).filter(|_| self.every.is_some())?.to_owned();
        let (source, at) = (FaultClass::of(failure).source, self.seconds(now));
        let insights = self.foresight.step(Event::Failed { workload, source, at });
        insights.into_iter().find_map(|insight| of_core(core, insight))
    }

    pub(crate) fn reset(&mut self, workload: Option<&str>) {
        let _ = self.foresight.step(Event::Reset { workload: workload.map(str::to_owned) });
    }

    /// Of a workload, or of the host; none: the box does not look, or does not know it.
    pub(crate) fn view(&self, workload: Option<&str>) -> Option<View> {
        self.every.and_then(|_| self.foresight.view(workload))
    }

    /// The same of all, as bare numbers.
    pub(crate) fn outlooks(&self) -> Vec<Outlook> {
        self.every.map_or_else(Vec::new, |_| self.foresight.outlooks())
    }

    /// Has what was learnt written down, if it is time. What went wrong.
    pub(crate) fn keep(&mut self, now: Moment) -> Option<String> {
        let words = match self.writing.take().map(|writing| writing.wait(Duration::ZERO)) {
            Some(Err(goes_on)) => {
                self.writing = Some(goes_on);
                return None;
            }
            Some(Ok(words)) => words,
            None => None,
        };
        if self.every.is_some() && now.since(self.kept) >= KEPT_EVERY {
            self.kept = now;
            self.writing = Some(Writing::begin(&self.store, self.foresight.learnt()));
        }
        words
    }

    /// Likewise for the last time: the daemon leaves.
    pub(crate) fn leave(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        // First the one under way: the other way round it would replace what is newer.
        for last in [false, true] {
            if last && self.every.is_some() {
                self.writing = Some(Writing::begin(&self.store, self.foresight.learnt()));
            }
            match self.writing.take().map(|writing| writing.wait(LAST_WRITE)) {
                Some(Ok(told)) => words.extend(told),
                Some(Err(hangs)) => return vec![hangs.left()],
                None => {}
            }
        }
        words
    }

    fn seconds(&mut self, now: Moment) -> Seconds {
        let own = now.as_millis() / 1000;
        if self.offset.is_none() && wall::is_plausible() {
            self.offset = Some((wall::unix_ms() / 1000).saturating_sub(own));
        }
        Seconds(own.saturating_add(self.offset.unwrap_or(0)))
    }
}

impl Seen {
    fn read(&mut self, folder: &Path, passed: Option<f32>, sums: &mut Sums) {
        self.process = self.process.or_else(|| reading::process_of(folder));
        let Some((processor, resident)) = self.process.and_then(reading::of_process) else { return };
        let before = self.processor.replace(processor);
        if let Some((before, passed)) = before.zip(passed) {
            add(&mut sums.cpu, processor.since(before, passed));
        }
        add(&mut sums.memory, Some(resident / MIB));
    }
}

/// Of all machines of a workload.
#[derive(Debug, Default)]
struct Sums {
    cpu: Option<f32>,
    memory: Option<f32>,
    disk: Option<f32>,
    network: Option<f32>,
    balloon: Option<f32>,
    /// Of the machine that has least.
    spare: Option<f32>,
}

impl Sums {
    fn count(&mut self, newest: &Counters, before: Option<&Counters>) {
        if let Some(before) = before {
            let (disk, network) = newest.since(before);
            add(&mut self.disk, disk.map(|bytes| bytes / KIB));
            add(&mut self.network, network.map(|bytes| bytes / KIB));
        }
        add(&mut self.balloon, newest.balloon.map(|bytes| bytes / MIB));
        if let Some(spare) = newest.spare() {
            let spare = spare / MIB;
            self.spare = Some(self.spare.map_or(spare, |least| least.min(spare)));
        }
    }

    fn reading(&self) -> Reading {
        Reading::NOTHING
            .with(Metric::Cpu, self.cpu)
            .with(Metric::Memory, self.memory)
            .with(Metric::Disk, self.disk)
            .with(Metric::Network, self.network)
            .with(Metric::Balloon, self.balloon)
    }
}

fn add(sum: &mut Option<f32>, more: Option<f32>) {
    if let Some(more) = more {
        *sum = Some(sum.unwrap_or(0.0) + more);
    }
}

fn wish(workload: &WorkloadConfig, weights: Weights) -> Wish {
    let Weights { availability, risk, cost, latency } = weights;
    let latency = f32::from(latency) / f32::from(cost);
    let scaling = workload.scale.map(|scale| ScaleWish {
        least: scale.least,
        most: scale.most,
        wait_s: scale.wait.as_secs_f32(),
        late_worth_s: f32::from(scale.late_worth_s) * latency,
        late_share: f32::from(scale.late_percent) / 100.0,
        patience_s: u32::try_from(scale.patience.as_secs()).unwrap_or(u32::MAX),
        service_s: scale.work.as_secs_f32(),
        automatic: scale.automatic,
    });
    Wish {
        name: workload.name.as_str().to_owned(),
        rests_on: workload.requires.iter().map(|one| one.name.as_str().to_owned()).collect(),
        scaling,
        keeping: workload.keep_warm.map(|keep| KeepWish {
            most: keep.most,
            worth_s: keep.worth.as_secs_f32(),
            automatic: keep.automatic,
        }),
        balloon: workload
            .ballooning
            .map(|one| BalloonWish { least_mib: one.least.0, automatic: one.automatic }),
        memory_mib: workload.resources.memory.0,
        healing: HealWish {
            means: means(workload),
            availability: f32::from(availability),
            risk: f32::from(risk),
        },
        rollout: RolloutWish {
            requests: workload.rollout.requests,
            margin: f32::from(workload.rollout.error_margin_milli) / 1000.0,
        },
    }
}

/// What may be done for it without asking that loses nothing.
fn means(workload: &WorkloadConfig) -> Rungs {
    let mut means = Rungs::of(&[Rung::ColdRestart]);
    if workload.restart.in_guest {
        means = means.with(Rung::RestartProcess);
    }
    if workload.warm {
        means = means.with(Rung::Restore);
    }
    means.and(wanted::automatic(workload))
}

/// Advice that is only to be looked at stays where it is looked at.
fn of_core(core: &State, insight: foresight::Insight) -> Option<Insight> {
    match insight {
        foresight::Insight::Odd { workload: None, what } => Some(Insight::Odd { workload: None, what }),
        foresight::Insight::Odd { workload: Some(name), what } => {
            Some(Insight::Odd { workload: Some(core.id_of(&name)?), what })
        }
        foresight::Insight::Suspected { workload, whom } => {
            Some(Insight::Suspected { workload: core.id_of(&workload)?, whom })
        }
        foresight::Insight::Judged { workload, judged } => {
            Some(Insight::Judged { workload: core.id_of(&workload)?, judged })
        }
        foresight::Insight::Ranked { workload, source, order } => {
            Some(Insight::Ranked { workload: core.id_of(&workload)?, source, order })
        }
        foresight::Insight::Replicas { workload, replicas, why, automatic } => {
            let workload = core.id_of(&workload).filter(|_| automatic)?;
            Some(Insight::Replicas { workload, replicas, why })
        }
        foresight::Insight::Memory { workload, mib, why, automatic } => {
            let workload = core.id_of(&workload).filter(|_| automatic)?;
            Some(Insight::Memory { workload, mib, why })
        }
        foresight::Insight::Warm { workload, idle, lasts_s, why, automatic } => {
            let workload = core.id_of(&workload).filter(|_| automatic)?;
            Some(Insight::Warm { workload, idle, lasts: Duration::from_secs(lasts_s.into()), why })
        }
    }
}

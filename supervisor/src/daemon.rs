//! The daemon's loop: what happened goes into the core, what it decides is carried out.
//!
//! Duty: clock, seed, signals, and the bookkeeping of running machines. Not here: decisions.
//! Invariant: [`run`] returns only when every machine is down, or written off by the core.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use async_signal::{Signal as Caught, Signals};
use hearth_core::{Action, Event, Moment, ReplicaId, Request, Said, State, VmEnd, WorkloadId};
use smol::channel::{Receiver, Sender, bounded};
use smol::future::{or, race};
use smol::stream::StreamExt;
use smol::{LocalExecutor, Timer};
use thiserror::Error;

use crate::api::events::Events;
use crate::api::server::Door;
use crate::api::{Ask, MAX_QUESTIONS};
use crate::builds::Builds;
use crate::clock;
use crate::console::Console;
use crate::contents::Contents;
use crate::fleet::{Beginning, Fleet};
use crate::guests::Guests;
use crate::kvm;
use crate::logs::Logs;
use crate::lookout::Lookout;
use crate::machine::{Birth, Machine, Report, What};
use crate::pressure;
use crate::reload::{self, Terminal};
use crate::screens::Screens;
use crate::setup::Setup;
use crate::state_dir::{StateDir, StateError};
use crate::store::{Left, Store};
use crate::survivors::{self, Survivor};
use crate::vitals::Vitals;
use crate::warm::Warm;
use crate::watchdog::Watchdog;
use crate::wording::{self, Life};

mod calendar;
mod door;
mod files;
mod fleet;
mod lookout;
mod orders;

/// Reports that wait for the loop; who has more to tell waits.
const MAX_REPORTS: usize = 64;
/// For the last answers of the API to reach who asked.
const LAST_ANSWERS: Duration = Duration::from_millis(20);
/// For the last lines to reach a slow console.
const LAST_WORDS: Duration = Duration::from_secs(2);

#[derive(Debug, Error)]
pub enum DaemonError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("signals cannot be caught")]
    Signals(#[source] io::Error),
}

/// Runs the box until somebody stops it.
pub fn run(setup: Setup, console: &Console) -> Result<Outcome, DaemonError> {
    let state_dir = StateDir::open(&setup.device.paths.state)?;
    // With the lock: what it begins with is counted.
    let (mut setup, beginning) = Beginning::of(setup);
    console.widen(setup.names().iter().map(String::as_str));
    let survivors = survivors::find(&setup.device.paths.state)?;
    let signals =
        Signals::new([Caught::Term, Caught::Int, Caught::Hup, Caught::Usr2]).map_err(DaemonError::Signals)?;
    let executor = Rc::new(LocalExecutor::new());
    let (sender, reports) = bounded(MAX_REPORTS);
    let mut contents = Contents::open(&setup.device.store.folder);
    setup.look_at_images(&mut contents);
    let (mut daemon, left) = Daemon::new(setup, contents, console.clone(), Rc::clone(&executor), sender);
    let (asks, questions) = bounded(MAX_QUESTIONS);
    let serving = daemon.open_the_doors(asks);
    smol::block_on(executor.run(async {
        daemon.turn_until_stopped(left, beginning, survivors, reports, questions, signals).await;
        Fleet::leave(daemon.fleet.take()).await;
        // Who asked for the end hears the answer.
        Timer::after(LAST_ANSWERS).await;
        for door in serving {
            // It holds the executor, so it would outlive both.
            door.cancel().await;
        }
    }));
    let outcome = daemon.outcome;
    daemon.on_logs(|logs| logs.flush(LAST_WORDS));
    drop(daemon);
    state_dir.close();
    console.flush(LAST_WORDS);
    Ok(outcome)
}

/// What follows when the loop has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is down.
    Stopped,
    /// Likewise, and the box is to boot again.
    Reboot,
    /// Machines run on: the daemon is to begin again in place.
    ReExec,
}

/// A box that cannot keep what its workloads say runs them as well.
fn open_logs(setup: &Setup, console: &Console) -> Option<Logs> {
    let folder = &setup.device.logs.folder;
    Logs::open(&setup.device.logs)
        .inspect_err(|error| console.say(&format!("no log files: {}: {error}", folder.display())))
        .ok()
}

/// It counts from here on. First of all: it knows, perhaps, why the box came up.
fn open_watchdog(setup: &Setup, console: &Console) -> Option<Watchdog> {
    match Watchdog::open(setup.device.watchdog.as_ref()?) {
        Ok((watchdog, words)) => {
            words.iter().for_each(|words| console.say(words));
            Some(watchdog)
        }
        Err(error) => {
            console.say(&format!("ALARM: watchdog: {}", wording::one_line(&error)));
            None
        }
    }
}

enum Input {
    Report(Report),
    Ask(Ask),
    /// Somebody wants the box to stop. A terminal that closes may say so twice, by the kernel and by the shell, and
    /// means no hurry.
    Signal {
        hurry_if_again: bool,
    },
    /// The daemon is to begin again in place.
    ReExec,
    /// Memory or disk.
    Pressure(Event),
    Deadline,
    /// The fleet is to be shown how things stand.
    Show,
    /// It wants something.
    Fleet(hearth_fleet::tree::Order),
    /// The files of the configuration may have changed, or `asked`: somebody says so.
    Reload {
        asked: bool,
    },
}

struct Daemon {
    setup: Setup,
    builds: Builds,
    contents: Contents,
    warm: Warm,
    /// When the box is short of something.
    pressure: Rc<Cell<hearth_config::device::Pressure>>,
    reader: reload::Reader,
    terminal: Terminal,
    console: Console,
    executor: Rc<LocalExecutor<'static>>,
    reports: Sender<Report>,
    core: State,
    store: Store,
    machines: BTreeMap<ReplicaId, Machine>,
    /// How guests came up, for who is told that they did.
    lives: BTreeMap<ReplicaId, Life>,
    events: Rc<Events>,
    guests: Guests,
    logs: Option<Logs>,
    screens: Screens,
    asked_to_stop: bool,
    finished: bool,
    outcome: Outcome,
    watchdog: Option<Watchdog>,
    /// That the hardware takes no pets was told.
    told_watchdog: bool,
    vitals: Vitals,
    lookout: Lookout,
    calendar: calendar::Calendar,
    /// None: this box is nobody's member.
    fleet: Option<Fleet>,
    /// What others go through who ask on somebody's behalf.
    door: Option<Door>,
}

impl Daemon {
    fn new(
        setup: Setup,
        contents: Contents,
        console: Console,
        executor: Rc<LocalExecutor<'static>>,
        reports: Sender<Report>,
    ) -> (Daemon, Left) {
        // Good enough to spread restarts, and no crate for it.
        let seed = RandomState::new().hash_one(0);
        let watchdog = open_watchdog(&setup, &console);
        let reset = watchdog.as_ref().is_some_and(|watchdog| watchdog.reset_the_host);
        let (store, left) = Store::open(&setup.device.store, seed, reset);
        let logs = open_logs(&setup, &console);
        let builds = Builds::new(&setup);
        let pressure = Rc::new(Cell::new(setup.device.pressure));
        let warm = Warm::new(&setup.device.store.folder, &setup.device.paths.state);
        let vitals = Vitals::new(&executor, setup.device.watchdog.is_some());
        let events = Rc::<Events>::default();
        let guests = Guests::new(&executor, Rc::clone(&events), console.clone());
        let (lookout, words) = Lookout::new(&setup, clock::now());
        words.iter().for_each(|words| console.say(words));
        let daemon = Daemon {
            setup,
            builds,
            contents,
            warm,
            pressure,
            reader: reload::Reader::default(),
            terminal: Terminal::of_this_process(),
            console,
            executor,
            reports,
            core: State::new(seed),
            store,
            machines: BTreeMap::new(),
            lives: BTreeMap::new(),
            events,
            guests,
            logs,
            screens: Screens::default(),
            asked_to_stop: false,
            finished: false,
            outcome: Outcome::Stopped,
            watchdog,
            told_watchdog: false,
            vitals,
            lookout,
            calendar: calendar::Calendar::default(),
            fleet: None,
            door: None,
        };
        (daemon, left)
    }

    fn begin(&mut self, left: Left, survivors: Vec<Survivor>) {
        let Left { boot, device, records } = left;
        self.guests.follow(&self.setup);
        self.warm.sweep(&records);
        self.warm.prepare(&records, &self.setup.device.paths, &mut self.contents);
        self.apply(Event::Begin { boot, device, records });
        self.keep_calendar();
        self.apply(Event::Configured(Box::new(self.setup.wanted.clone())));
        for survivor in survivors {
            self.adopt(survivor);
        }
        self.apply(Event::Surveyed);
    }

    /// The core first gives it its place.
    fn adopt(&mut self, Survivor { found, process }: Survivor) {
        let (name, slot, run, build) = (found.name.clone(), found.slot, found.run, found.build);
        self.apply(Event::Found(Box::new(found)));
        let Some(vm) = self.core.id_of(&name).map(|id| id.replica(slot).run(run)) else { return };
        let state = &self.setup.device.paths.state;
        match Machine::adopt(&self.executor, state, process, build, self.reporter(vm)) {
            Ok(machine) => {
                self.machines.insert(vm.replica, machine);
            }
            Err(error) => {
                self.console.say(&format!("{name}: cannot be taken over: {}", wording::one_line(&error)));
                self.apply(Event::Vm { vm, said: Said::Ended(VmEnd::MonitorFailed) });
            }
        }
    }

    async fn turn_until_stopped(
        &mut self,
        left: Left,
        beginning: Beginning,
        survivors: Vec<Survivor>,
        reports: Receiver<Report>,
        questions: Receiver<Ask>,
        mut signals: Signals,
    ) {
        self.console.say(&format!("starting {} workloads", self.setup.workloads.len()));
        self.say_what_kvm_is();
        let changes = self.watch_files();
        self.begin(left, survivors);
        self.fleet = Fleet::join(&self.setup.device, &self.console, beginning, &self.guests);
        let pressures = self.watch_pressure();
        while !self.finished {
            let report = async {
                match reports.recv().await {
                    Ok(report) => Input::Report(report),
                    // The daemon holds a sender itself, so the channel does not close.
                    Err(_) => smol::future::pending().await,
                }
            };
            let signal = async {
                match signals.next().await {
                    Some(Ok(Caught::Usr2)) => Input::ReExec,
                    Some(caught) => Input::Signal { hurry_if_again: !matches!(caught, Ok(Caught::Hup)) },
                    None => smol::future::pending().await,
                }
            };
            let deadline = self.time_to_deadline();
            let timer = async {
                match deadline {
                    Some(left) => {
                        Timer::after(left).await;
                    }
                    None => smol::future::pending().await,
                }
                Input::Deadline
            };
            let change = async {
                match changes.recv().await {
                    Ok(()) => Input::Reload { asked: false },
                    Err(_) => smol::future::pending().await,
                }
            };
            let ask = async {
                match questions.recv().await {
                    Ok(ask) => Input::Ask(ask),
                    Err(_) => smol::future::pending().await,
                }
            };
            let pressure = async {
                match pressures.recv().await {
                    Ok(event) => Input::Pressure(event),
                    Err(_) => smol::future::pending().await,
                }
            };
            // Signals first: no flood of reports delays a shutdown. Nor does one of questions delay reports, or the
            // other way round.
            let show = async {
                Fleet::is_due(self.fleet.as_ref()).await;
                Input::Show
            };
            let wants = async { Input::Fleet(Daemon::next_order(self.fleet.as_ref()).await) };
            let (beside, asked) = (or(pressure, show), race(ask, wants));
            let input = or(signal, or(timer, or(change, or(beside, race(report, asked))))).await;
            let input = match input {
                Input::Signal { hurry_if_again: false } if !self.terminal.is_gone() => {
                    Input::Reload { asked: true }
                }
                input => input,
            };
            if matches!(input, Input::Signal { .. }) {
                // But what was told before counts: an agent that is connected is asked, not cut off.
                for report in std::iter::from_fn(|| reports.try_recv().ok()).take(MAX_REPORTS) {
                    self.take(report);
                }
            }
            match input {
                Input::Report(report) => self.take(report),
                Input::Ask(ask) => self.answer(&ask),
                Input::Signal { hurry_if_again } if self.asked_to_stop => {
                    if hurry_if_again {
                        self.apply(Event::StopNow);
                    }
                }
                Input::Signal { .. } => {
                    self.asked_to_stop = true;
                    self.warm.stop();
                    self.apply(Event::Stop);
                }
                // A stop goes on in this daemon: the next one would know nothing of it.
                Input::ReExec if self.asked_to_stop => {}
                Input::ReExec => self.apply(Event::Ask(Request::ReExec)),
                Input::Deadline => self.apply(Event::Tick),
                Input::Show => self.show_fleet(),
                Input::Pressure(event) => self.apply(event),
                Input::Fleet(order) => self.fleet_wants(order),
                Input::Reload { asked } => self.reload(asked),
            }
            for subsystem in self.vitals.signs(self.now()) {
                self.apply(Event::Alive(subsystem));
            }
            self.look_out();
        }
    }

    fn pet(&mut self) {
        let Some(watchdog) = &self.watchdog else { return };
        watchdog.grant(self.now());
        if watchdog.fails() && !self.told_watchdog {
            self.console.say("ALARM: watchdog: its hardware takes no pets");
        }
        self.told_watchdog = watchdog.fails();
    }

    /// The loop ends, and with it all that this daemon does. A watchdog counts on until the next daemon or the reboot.
    fn end(&mut self, outcome: Outcome) {
        self.warm.stop();
        self.keep_learnt();
        self.outcome = outcome;
        self.finished = true;
    }

    fn watch_pressure(&self) -> Receiver<Event> {
        let (sender, pressures) = bounded(1);
        let device = &self.setup.device;
        let folders = vec![device.store.folder.clone(), device.logs.folder.clone()];
        let watch = pressure::Watch { config: Rc::clone(&self.pressure), folders };
        self.executor.spawn(pressure::watch(watch, sender)).detach();
        pressures
    }

    /// Beside everything else: no workload waits for it.
    fn say_what_kvm_is(&self) {
        let (console, monitor) = (self.console.clone(), self.setup.device.paths.vmm.clone());
        let asking = async move { console.say(&format!("kvm: {}", kvm::describe(&monitor).await)) };
        self.executor.spawn(asking).detach();
    }

    fn now(&self) -> Moment {
        clock::now()
    }

    fn time_to_deadline(&self) -> Option<Duration> {
        // A millisecond more: the core's time is cut, and a timer that fires early would only fire again.
        [self.core.next_deadline(), self.vitals.due(), self.lookout.due(), self.calendar.due()]
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.since(self.now()) + Duration::from_millis(1))
    }

    fn take(&mut self, Report { vm, what }: Report) {
        let said = match what {
            What::AgentConnected { uptime } => {
                let life = self.machine(vm).and_then(|machine| match machine.birth {
                    Birth::Booted => Some(Life::ReadyIn(uptime)),
                    Birth::Restored => Some(Life::Restored),
                    // What connects to a daemon anew got ready long ago.
                    Birth::Adopted => None,
                });
                self.lives.extend(life.map(|life| (vm.replica, life)));
                Said::AgentConnected
            }
            What::WorkloadStarted => Said::WorkloadStarted,
            What::Heartbeat => {
                self.count_logs(vm.replica.workload);
                Said::Heartbeat
            }
            What::WorkloadEnded(end) => Said::WorkloadEnded(end),
            What::AgentLost => Said::AgentLost,
            What::Answered { id, good } => {
                let Some(probe) = self.machine(vm).and_then(|machine| machine.asking.answered(id)) else {
                    return;
                };
                Said::Probed { probe, good }
            }
            What::Snapshot { taken } => {
                let said = if taken { Said::SnapshotTaken } else { Said::SnapshotFailed };
                self.apply(Event::Vm { vm, said });
                return self.warm.answered(self.core.name(vm.replica.workload).unwrap_or_default());
            }
            What::VmEnded(end) => {
                if self.machine(vm).is_some() {
                    self.machines.remove(&vm.replica);
                }
                Said::Ended(end)
            }
        };
        self.apply(Event::Vm { vm, said });
    }

    fn on_logs(&self, what: impl FnOnce(&Logs)) {
        if let Some(logs) = &self.logs {
            what(logs);
        }
    }

    /// With the beats of its guests: that is often enough for a budget of a minute.
    fn count_logs(&mut self, workload: WorkloadId) {
        let (Some(logs), Some(name)) = (&self.logs, self.core.name(workload)) else { return };
        let mut limited =
            self.setup.wanted.workloads.iter().filter(|spec| spec.log_bytes_per_minute.is_some());
        if limited.any(|spec| spec.name == name) {
            let bytes = logs.take_untold(name);
            if bytes > 0 {
                self.apply(Event::Logged { workload, bytes });
            }
        }
    }

    /// One step of the core, and those that follow at once from carrying it out.
    fn apply(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let now = self.now();
            self.store.note(now, &event, &self.core);
            for action in self.core.step(now, event) {
                events.extend(self.carry_out(action));
            }
        }
        for words in self.store.words() {
            self.console.say(&words);
        }
    }

    fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Vm { vm, order } => return self.order(vm, &order),
            Action::Announce(announcement) => {
                let suspected = self.note_trouble(&announcement);
                let name = |id: WorkloadId| self.core.name(id).unwrap_or_default().to_owned();
                let life = |id: ReplicaId| self.lives.get(&id).copied();
                let text = wording::announce(&announcement, name, life);
                let told = self.events.tell(&announcement, self.now(), &text, name);
                self.console.event(&told);
                return suspected;
            }
            Action::Finish => {
                self.store.leave(None);
                if let Some(watchdog) = &mut self.watchdog {
                    watchdog.disarm();
                }
                self.end(Outcome::Stopped);
            }
            Action::Reboot { reason } => {
                self.store.leave(Some(reason));
                self.end(Outcome::Reboot);
            }
            Action::ReExec => {
                self.store.pause();
                self.console.say("begins again in place, its machines stay");
                self.end(Outcome::ReExec);
            }
            Action::Pet => self.pet(),
            Action::Remember(record) => {
                self.builds.prune(&record, &self.setup);
                self.store.remember(&record);
                self.warm.prune(&record);
            }
            Action::RememberDevice(record) => self.store.remember_device(record),
            Action::Forget { name, .. } => {
                self.builds.forget(&name, &self.setup);
                self.store.forget(&name);
                self.warm.forget(&name);
                self.on_logs(|logs| logs.forget(&name));
                self.events.forget(&name);
                self.screens.forget(&name);
            }
            Action::BootSettled => self.store.boot_settled(),
            Action::Learn(outcome) => return self.lookout.tried(&self.core, outcome).map(Event::Foresaw),
            Action::TrimLogs => self.on_logs(Logs::trim),
            Action::LimitLogs { workload, until } => {
                let (name, span) = (self.core.name(workload).unwrap_or_default(), until.since(self.now()));
                self.on_logs(|logs| logs.shut(name, span));
            }
            Action::CollectImages { keep } => {
                self.warm.collect(&keep);
                self.builds.collect(&keep, &self.setup);
            }
        }
        None
    }
}

//! The daemon's loop: what happened goes into the core, what it decides is carried out.
//!
//! Duty: clock, dice, signals, and the bookkeeping of running machines. Not here: decisions.
//! Invariant: [`run`] returns only when every machine is down, or written off by the core.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use async_signal::{Signal as Caught, Signals};
use hearth_core::{Action, Event, Moment, Run, State, WorkloadId};
use nix::sys::signal::Signal;
use smol::channel::{Receiver, Sender, bounded};
use smol::future::or;
use smol::stream::StreamExt;
use smol::{LocalExecutor, Timer};
use thiserror::Error;

use crate::console::Console;
use crate::kvm;
use crate::machine::{Machine, Report, Reporter, What};
use crate::setup::Setup;
use crate::state_dir::{StateDir, StateError};
use crate::wording;

/// Reports that wait for the loop; who has more to tell waits.
const MAX_REPORTS: usize = 64;
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
pub fn run(setup: Setup, console: &Console) -> Result<(), DaemonError> {
    let state_dir = StateDir::open(&setup.device.paths.state)?;
    let signals = Signals::new([Caught::Term, Caught::Int, Caught::Hup]).map_err(DaemonError::Signals)?;
    let executor = Rc::new(LocalExecutor::new());
    let (sender, reports) = bounded(MAX_REPORTS);
    let mut daemon = Daemon::new(setup, console.clone(), Rc::clone(&executor), sender);
    smol::block_on(executor.run(daemon.turn_until_stopped(reports, signals)));
    drop(daemon);
    state_dir.close();
    console.flush(LAST_WORDS);
    Ok(())
}

enum Input {
    Report(Report),
    /// Somebody wants the box to stop. A terminal that closes may say so twice, by the kernel and by the shell, and
    /// means no hurry.
    Signal {
        hurry_if_again: bool,
    },
    Deadline,
}

struct Daemon {
    setup: Setup,
    names: Vec<Rc<str>>,
    console: Console,
    executor: Rc<LocalExecutor<'static>>,
    reports: Sender<Report>,
    core: State,
    machines: Vec<Option<Machine>>,
    /// How long the guest's own way up took, told by its agent.
    guest_ready: Vec<Option<Duration>>,
    began: Instant,
    dice: Dice,
    asked_to_stop: bool,
    finished: bool,
}

impl Daemon {
    fn new(
        setup: Setup,
        console: Console,
        executor: Rc<LocalExecutor<'static>>,
        reports: Sender<Report>,
    ) -> Daemon {
        let count = setup.workloads.len();
        Daemon {
            names: setup.workloads.iter().map(|workload| workload.name.as_str().into()).collect(),
            core: State::new(setup.plan.clone(), setup.stop_times()),
            setup,
            console,
            executor,
            reports,
            machines: std::iter::repeat_with(|| None).take(count).collect(),
            guest_ready: vec![None; count],
            began: Instant::now(),
            dice: Dice::default(),
            asked_to_stop: false,
            finished: false,
        }
    }

    async fn turn_until_stopped(&mut self, reports: Receiver<Report>, mut signals: Signals) {
        self.console.say(&format!("starting {} workloads", self.setup.workloads.len()));
        self.say_what_kvm_is();
        self.apply(Event::Tick);
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
            // Signals first: no flood of reports delays a shutdown.
            let input = or(signal, or(timer, report)).await;
            if matches!(input, Input::Signal { .. }) {
                // But what was told before counts: an agent that is connected is asked, not cut off.
                for report in std::iter::from_fn(|| reports.try_recv().ok()).take(MAX_REPORTS) {
                    self.take(report);
                }
            }
            match input {
                Input::Report(report) => self.take(report),
                Input::Signal { hurry_if_again } if self.asked_to_stop => {
                    if hurry_if_again {
                        self.apply(Event::StopNow);
                    }
                }
                Input::Signal { .. } => {
                    self.asked_to_stop = true;
                    self.apply(Event::Stop);
                }
                Input::Deadline => self.apply(Event::Tick),
            }
        }
    }

    /// Beside everything else: no workload waits for it.
    fn say_what_kvm_is(&self) {
        let (console, monitor) = (self.console.clone(), self.setup.device.paths.vmm.clone());
        let asking = async move { console.say(&format!("kvm: {}", kvm::describe(&monitor).await)) };
        self.executor.spawn(asking).detach();
    }

    fn now(&self) -> Moment {
        Moment::since_start(self.began.elapsed())
    }

    fn time_to_deadline(&self) -> Option<Duration> {
        // A millisecond more: the core's time is cut, and a timer that fires early would only fire again.
        self.core.next_deadline().map(|at| at.since(self.now()) + Duration::from_millis(1))
    }

    fn take(&mut self, Report { id, run, what }: Report) {
        let event = match what {
            What::AgentConnected { uptime } => {
                self.guest_ready[id.index()] = Some(uptime);
                Event::AgentConnected { id, run }
            }
            What::WorkloadStarted => Event::WorkloadStarted { id, run },
            What::Heartbeat => Event::Heartbeat { id, run },
            What::WorkloadEnded(end) => Event::WorkloadEnded { id, run, end },
            What::AgentLost => Event::AgentLost { id, run },
            What::VmEnded(end) => {
                self.machines[id.index()] = None;
                Event::VmEnded { id, run, end }
            }
        };
        self.apply(event);
    }

    /// One step of the core, and those that follow at once from carrying it out.
    fn apply(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.core.step(self.now(), self.dice.roll(), event) {
                events.extend(self.carry_out(action));
            }
        }
    }

    fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Start { id, run } => return self.start(id, run).err(),
            Action::AskAgent { id, run, grace } => {
                if let Some(machine) = self.machine(id, run) {
                    machine.ask_to_stop(grace);
                }
            }
            Action::Terminate { id, run } => self.signal(id, run, Signal::SIGTERM),
            Action::Kill { id, run } => self.signal(id, run, Signal::SIGKILL),
            Action::Announce(announcement) => {
                let name = |id: WorkloadId| &*self.names[id.index()];
                let ready = |id: WorkloadId| self.guest_ready[id.index()];
                self.console.say(&wording::announce(&announcement, name, ready));
            }
            Action::Finish => self.finished = true,
        }
        None
    }

    fn start(&mut self, id: WorkloadId, run: Run) -> Result<(), Event> {
        let index = id.index();
        self.guest_ready[index] = None;
        let reporter = Reporter {
            id,
            run,
            name: Rc::clone(&self.names[index]),
            console: self.console.clone(),
            reports: self.reports.clone(),
        };
        match Machine::start(&self.executor, &self.setup, &self.setup.workloads[index], reporter) {
            Ok(machine) => {
                self.machines[index] = Some(machine);
                Ok(())
            }
            Err(error) => Err(Event::NotSpawned { id, run, why: wording::one_line(&error) }),
        }
    }

    fn machine(&self, id: WorkloadId, run: Run) -> Option<&Machine> {
        self.machines[id.index()].as_ref().filter(|machine| machine.run == run)
    }

    fn signal(&self, id: WorkloadId, run: Run, signal: Signal) {
        if let Some(machine) = self.machine(id, run) {
            machine.signal(signal);
        }
    }
}

/// Uniform numbers from the standard library's hash seed; good enough to spread restarts, and no crate for it.
#[derive(Default)]
struct Dice {
    seed: RandomState,
    rolled: u64,
}

impl Dice {
    fn roll(&mut self) -> u32 {
        self.rolled = self.rolled.wrapping_add(1);
        let [a, b, c, d, ..] = self.seed.hash_one(self.rolled).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}

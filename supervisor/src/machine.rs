//! One running `hearth-vmm`.
//!
//! Duty: make its folder and file, spawn it, from nothing or a snapshot, or take it over from an earlier daemon, relay what it prints, watch its end,
//! pass requests to it. Not here: when that is to happen.
//! Invariants: [`What::VmEnded`] is the last report of a run, and comes after all that the guest still had to say.
//! Nothing that the monitor holds is the daemon's, so a daemon that is gone does not end or hold up a machine.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use hearth_config::vm::WriteError;
use hearth_config::workload::{Check, WorkloadConfig};
use hearth_core::{Build, Found, Vm, VmEnd, WorkloadEnd};
use hearth_wire::{AGENT_PORT, ToAgent};
use nix::sys::signal::Signal;
use smol::channel::{Receiver, Sender, bounded};
use smol::future::{or, zip};
use smol::io::{AsyncRead, AsyncReadExt};
use smol::net::unix::UnixListener;
use smol::{Async, LocalExecutor, Task, Timer};
use thiserror::Error;

use crate::asking::{self, Asking, MAX_WAITING};
use crate::console::Console;
use crate::guests::{self, Guests};
use crate::last_word::last_word;
use crate::lines::LineSplitter;
use crate::logs::Logs;
use crate::process::Process;
use crate::screens::Screens;
use crate::setup::{Setup, control_socket, vm_folder, vsock_socket};
use crate::state_dir::StateDir;
use crate::survivors::{note_identity, note_pid};
use crate::{agent, empty_network, ended, guest_boot, outlet};

/// What a dead monitor's pipes and sockets still hold is read for so long: they end by themselves, unless somebody
/// else holds them open.
const DRAIN: Duration = Duration::from_secs(2);
/// Requests that wait for an agent: beside questions, one to begin anew, one to stop, one spare.
pub(crate) const MAX_REQUESTS: usize = MAX_WAITING + 3;
/// Bytes per read of a pipe.
const READ_BYTES: usize = 4096;

#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error("{}", .0.display())]
    File(PathBuf, #[source] io::Error),
    #[error("the machine cannot be written down")]
    Write(#[from] WriteError),
    #[error("cannot start {}", .0.display())]
    Spawn(PathBuf, #[source] io::Error),
}

/// Something that happened to one machine.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) vm: Vm,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    AgentConnected {
        uptime: Duration,
    },
    WorkloadStarted,
    Heartbeat,
    WorkloadEnded(WorkloadEnd),
    /// A question with this number.
    Answered {
        id: u32,
        good: bool,
    },
    AgentLost,
    /// Of a snapshot of a machine like it.
    Snapshot {
        taken: bool,
    },
    VmEnded(VmEnd),
}

/// Where one run's reports and lines go.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    pub(crate) vm: Vm,
    /// The replica's.
    pub(crate) name: Rc<str>,
    /// Its workload's.
    pub(crate) workload: Rc<str>,
    pub(crate) console: Console,
    /// None where no folder could be had for them.
    pub(crate) logs: Option<Logs>,
    /// What its console shows.
    pub(crate) screens: Screens,
    pub(crate) reports: Sender<Report>,
    /// Who tells the fleet something.
    pub(crate) guests: Guests,
    /// How often its agent is to beat.
    pub(crate) heartbeat: Duration,
}

impl Reporter {
    pub(crate) async fn report(&self, what: What) {
        // Nobody listens any more only when the daemon is leaving.
        let _ = self.reports.send(Report { vm: self.vm, what }).await;
    }

    pub(crate) fn line(&self, text: &str) {
        self.console.line(&self.name, text);
        if let Some(logs) = &self.logs {
            logs.line(&self.workload, &self.name, text);
        }
    }

    /// A line about its workload.
    pub(crate) fn note(&self, text: &str) {
        self.console.say(&format!("{}: {text}", self.workload));
    }

    pub(crate) fn complain(&self, text: &str) {
        self.console.say(&format!("{}: {text}", self.name));
    }
}

/// A monitor's process.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) vm: Vm,
    pub(crate) build: Build,
    /// How it came to life.
    pub(crate) birth: Birth,
    process: Rc<Process>,
    requests: Sender<ToAgent>,
    pub(crate) asking: Asking,
    /// Dropping it stops the watch.
    _watch: Task<()>,
}

/// How a machine came to life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Birth {
    Booted,
    /// From a snapshot.
    Restored,
    /// An earlier daemon started it.
    Adopted,
}

/// What one monitor is heard through.
struct Ears {
    console: Option<Async<File>>,
    monitor: Option<Async<File>>,
    listener: UnixListener,
    /// None: its workload may tell the fleet nothing.
    guests: Option<UnixListener>,
}

/// What guest and monitor print.
const CONSOLE: &str = "console";
pub(crate) const MONITOR: &str = "monitor";

impl Machine {
    pub(crate) fn start(
        executor: &LocalExecutor<'_>,
        setup: &Setup,
        workload: &WorkloadConfig,
        build: Build,
        snapshot: Option<&Path>,
        reporter: Reporter,
    ) -> Result<Machine, StartError> {
        let folder = vm_folder(&setup.device.paths.state, &reporter.name);
        StateDir::fresh_folder(&folder).map_err(at(&folder))?;
        let file = folder.join("vm.toml");
        let machine = guest_boot::machine_of(workload, &setup.device.paths, &folder, &reporter.name);
        std::fs::write(&file, machine.to_toml()?).map_err(at(&file))?;
        let vm = reporter.vm;
        let name = workload.name.as_str().to_owned();
        // Before there is anything to find: a daemon may die between any two lines.
        let identity = Found { name, slot: vm.replica.slot, run: vm.run, build };
        note_identity(&folder, &identity).map_err(at(&folder))?;
        let pipe = |name| outlet::make(&folder.join(name)).map_err(at(&folder.join(name)));
        let (console, stdout) = pipe(CONSOLE)?;
        let (monitor, stderr) = pipe(MONITOR)?;
        let listener = listen(&agent_socket(&folder))?;
        let guests = guests::socket(&folder);
        let guests = workload.telemetry.is_some().then(|| listen(&guests)).transpose()?;

        let vmm = &setup.device.paths.vmm;
        let spawned = spawn(vmm, &file, snapshot, stdout, stderr);
        let (pid, process) = spawned.map_err(|error| StartError::Spawn(vmm.clone(), error))?;
        if let Err(error) = note_pid(&folder, pid) {
            reporter.complain(&format!("its process cannot be noted: {error}"));
        }
        let ears = Ears { console: Some(console), monitor: Some(monitor), listener, guests };
        let birth = if snapshot.is_some() { Birth::Restored } else { Birth::Booted };
        Ok(Machine::watched(executor, process, ears, reporter, folder, build, birth))
    }

    /// One that an earlier daemon started.
    pub(crate) fn adopt(
        executor: &LocalExecutor<'_>,
        state: &Path,
        process: Process,
        build: Build,
        reporter: Reporter,
    ) -> Result<Machine, StartError> {
        let folder = vm_folder(state, &reporter.name);
        // Its guest's agent connects anew when there is somebody.
        let sockets = listen_anew(&agent_socket(&folder)).and_then(|listener| {
            // Whether its guest was told of it is known to whoever made it; this only lets those in who come.
            let guests = reporter.guests.counts(&reporter.workload);
            Ok((listener, guests.map(|_| listen_anew(&guests::socket(&folder))).transpose()?))
        });
        let (listener, guests) = match sockets {
            Ok(sockets) => sockets,
            Err(error) => {
                // A machine that nobody can talk to would run beside its successor.
                process.signal(Signal::SIGKILL);
                return Err(error);
            }
        };
        let pipe = |name| {
            let opened = outlet::open(&folder.join(name));
            opened
                .inspect_err(|error| reporter.complain(&format!("its {name} cannot be heard: {error}")))
                .ok()
        };
        let ears = Ears { console: pipe(CONSOLE), monitor: pipe(MONITOR), listener, guests };
        Ok(Machine::watched(executor, process, ears, reporter, folder, build, Birth::Adopted))
    }

    fn watched(
        executor: &LocalExecutor<'_>,
        process: Process,
        ears: Ears,
        reporter: Reporter,
        folder: PathBuf,
        build: Build,
        birth: Birth,
    ) -> Machine {
        let process = Rc::new(process);
        let (requests, to_agent) = bounded(MAX_REQUESTS);
        let vm = reporter.vm;
        let watch = executor.spawn(watch(Rc::clone(&process), ears, to_agent, reporter, folder, birth));
        Machine { vm, build, birth, process, requests, asking: Asking::default(), _watch: watch }
    }

    pub(crate) fn ask_to_stop(&self, grace: Duration) {
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        // Full means that it was asked before.
        let _ = self.requests.try_send(ToAgent::Shutdown { grace_ms });
    }

    /// Asks what its probe at a place wants to know.
    pub(crate) fn ask(
        &self,
        executor: &LocalExecutor<'_>,
        control: PathBuf,
        probe: (u8, &Check, Duration),
        reporter: Reporter,
    ) {
        self.asking.ask(executor, &self.requests, control, probe, reporter);
    }

    /// Has its workload begin anew in the same guest.
    pub(crate) fn restart_process(&self) {
        asking::restart_process(&self.requests);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |error| StartError::File(path, error)
}

/// Where the guest's agent connects to.
fn agent_socket(folder: &Path) -> PathBuf {
    let mut socket = vsock_socket(folder).into_os_string();
    socket.push(format!("_{AGENT_PORT}"));
    PathBuf::from(socket)
}

fn listen(socket: &Path) -> Result<UnixListener, StartError> {
    UnixListener::bind(socket).map_err(at(socket))
}

fn listen_anew(socket: &Path) -> Result<UnixListener, StartError> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(socket)(error)),
        _ => listen(socket),
    }
}

fn spawn(
    vmm: &Path,
    file: &Path,
    snapshot: Option<&Path>,
    stdout: File,
    stderr: File,
) -> io::Result<(u32, Process)> {
    let mut command = std::process::Command::new(vmm);
    match snapshot {
        None => command.arg("run").arg(file),
        // In this order: a machine's monitor is known by its command line.
        Some(snapshot) => command.arg("restore").arg("--config").arg(file).arg(snapshot),
    };
    command.args(empty_network::option());
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    // Ctrl-C on a terminal is for the daemon, which then stops the machines in order.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn()?;
    match Process::open(child.id()) {
        Ok(process) => Ok((child.id(), process)),
        Err(error) => {
            // Nobody could watch it.
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

async fn watch(
    process: Rc<Process>,
    ears: Ears,
    to_agent: Receiver<ToAgent>,
    reporter: Reporter,
    folder: PathBuf,
    birth: Birth,
) {
    let (gone, is_gone) = bounded::<()>(1);
    let screen = |bytes: &[u8]| reporter.screens.show(&reporter.name, bytes);
    let printed = zip(relay(ears.console, &reporter, screen), relay(ears.monitor, &reporter, |_| {}));
    let clients = guests::serve(ears.guests, is_gone.clone(), reporter.clone());
    let agents = agent::serve(ears.listener, is_gone.clone(), to_agent, reporter.clone());
    let said = zip(printed, zip(agents, clients));
    let patience = async {
        let _ = is_gone.recv().await;
        Timer::after(DRAIN).await;
    };
    let ended = async {
        let end = if birth == Birth::Adopted {
            adopted_end(&process, &folder).await
        } else {
            end_of_child(&process).await
        };
        drop(gone);
        end
    };
    let words = or(
        async {
            said.await;
        },
        patience,
    );
    let (end, ()) = zip(ended, words).await;
    let end = end.unwrap_or_else(|error| {
        reporter.complain(&format!("its end cannot be seen: {error}"));
        VmEnd::MonitorFailed
    });
    if let Err(error) = StateDir::remove_folder(&folder) {
        reporter.complain(&format!("{}: cannot be removed: {error}", folder.display()));
    }
    reporter.report(What::VmEnded(end)).await;
}

async fn end_of_child(process: &Process) -> io::Result<VmEnd> {
    process.gone().await?;
    Ok(process.status().map_or(VmEnd::MonitorFailed, ended::vm_end))
}

/// Its status goes to another parent, so its last word on its control socket counts; after an exec of the daemon it
/// is its child as before.
async fn adopted_end(process: &Process, folder: &Path) -> io::Result<VmEnd> {
    let socket = control_socket(folder);
    let patience = async {
        let _ = process.gone().await;
        Timer::after(DRAIN).await;
        None
    };
    let (gone, word) = zip(process.gone(), or(last_word(&socket), patience)).await;
    gone?;
    Ok(match (process.status(), word) {
        (Some(status), _) => ended::vm_end(status),
        (None, Some(status)) => ended::from_code(i32::from(status)),
        (None, None) => VmEnd::MonitorFailed,
    })
}

/// Its bytes as they are go to `show`.
async fn relay(pipe: Option<impl AsyncRead + Unpin>, reporter: &Reporter, show: impl Fn(&[u8])) {
    let Some(mut pipe) = pipe else { return };
    let mut lines = LineSplitter::new();
    let mut buffer = [0; READ_BYTES];
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                show(&buffer[..length]);
                lines.push(&buffer[..length], |line| reporter.line(line));
            }
        }
        // One chatty guest takes turns with everything else.
        smol::future::yield_now().await;
    }
    lines.finish(|line| reporter.line(line));
}

//! One running `hearth-vmm`.
//!
//! Duty: make its folder and file, spawn it, relay what it prints, watch its end, pass requests to it.
//! Not here: when that is to happen.
//! Invariant: [`What::VmEnded`] is the last report of a run, and comes after all that the guest still had to say.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use hearth_config::vm::WriteError;
use hearth_config::workload::WorkloadConfig;
use hearth_core::{Vm, VmEnd, WorkloadEnd};
use hearth_wire::{AGENT_PORT, ToAgent};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use smol::channel::{Receiver, Sender, bounded};
use smol::future::{or, zip};
use smol::io::{AsyncRead, AsyncReadExt};
use smol::net::unix::UnixListener;
use smol::process::{Child, Command};
use smol::{LocalExecutor, Task, Timer};
use thiserror::Error;

use crate::console::Console;
use crate::lines::LineSplitter;
use crate::setup::{Setup, vm_folder, vsock_socket};
use crate::state_dir::{StateDir, note_pid};
use crate::{agent, ended, guest_boot};

/// What a dead monitor's pipes and sockets still hold is read for so long: they end by themselves, unless somebody
/// else holds them open.
const DRAIN: Duration = Duration::from_secs(2);
/// Requests that wait for an agent. There are two in a life: one to stop, one spare.
const MAX_REQUESTS: usize = 2;
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
    AgentConnected { uptime: Duration },
    WorkloadStarted,
    Heartbeat,
    WorkloadEnded(WorkloadEnd),
    AgentLost,
    VmEnded(VmEnd),
}

/// Where one run's reports and lines go.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    pub(crate) vm: Vm,
    /// The replica's.
    pub(crate) name: Rc<str>,
    pub(crate) console: Console,
    pub(crate) reports: Sender<Report>,
}

impl Reporter {
    pub(crate) async fn report(&self, what: What) {
        // Nobody listens any more only when the daemon is leaving.
        let _ = self.reports.send(Report { vm: self.vm, what }).await;
    }

    pub(crate) fn line(&self, text: &str) {
        self.console.line(&self.name, text);
    }

    pub(crate) fn complain(&self, text: &str) {
        self.console.say(&format!("{}: {text}", self.name));
    }
}

/// A monitor's process.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) vm: Vm,
    pid: Pid,
    reaped: Rc<Cell<bool>>,
    requests: Sender<ToAgent>,
    /// Dropping it stops the watch.
    _watch: Task<()>,
}

impl Machine {
    pub(crate) fn start(
        executor: &LocalExecutor<'_>,
        setup: &Setup,
        workload: &WorkloadConfig,
        reporter: Reporter,
    ) -> Result<Machine, StartError> {
        let folder = vm_folder(&setup.device.paths.state, &reporter.name);
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| StartError::File(path, error)
        };
        StateDir::fresh_folder(&folder).map_err(at(&folder))?;
        let file = folder.join("vm.toml");
        let machine = guest_boot::machine_of(workload, &setup.device.paths, &folder);
        std::fs::write(&file, machine.to_toml()?).map_err(at(&file))?;
        let mut socket = vsock_socket(&folder).into_os_string();
        socket.push(format!("_{AGENT_PORT}"));
        let socket = PathBuf::from(socket);
        let listener = UnixListener::bind(&socket).map_err(at(&socket))?;

        let vmm = &setup.device.paths.vmm;
        let child = spawn(vmm, &file).map_err(|error| StartError::Spawn(vmm.clone(), error))?;
        let vm = reporter.vm;
        // A process number above i32 does not exist on Linux.
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
        if let Err(error) = note_pid(&folder, child.id()) {
            reporter.complain(&format!("its process cannot be noted: {error}"));
        }
        let reaped = Rc::new(Cell::new(false));
        let (requests, to_agent) = bounded(MAX_REQUESTS);
        let watch = executor.spawn(watch(child, listener, to_agent, Rc::clone(&reaped), reporter, folder));
        Ok(Machine { vm, pid, reaped, requests, _watch: watch })
    }

    pub(crate) fn ask_to_stop(&self, grace: Duration) {
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        // Full means that it was asked before.
        let _ = self.requests.try_send(ToAgent::Shutdown { grace_ms });
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if !self.reaped.get() && self.pid.as_raw() > 0 {
            // It can be gone already; its end is then on the way.
            let _ = kill(self.pid, signal);
        }
    }
}

fn spawn(vmm: &Path, file: &Path) -> io::Result<Child> {
    let mut command = std::process::Command::new(vmm);
    command.arg("run").arg(file);
    // Ctrl-C on a terminal is for the daemon, which then stops the machines in order.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    Command::from(command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

async fn watch(
    mut child: Child,
    listener: UnixListener,
    to_agent: Receiver<ToAgent>,
    reaped: Rc<Cell<bool>>,
    reporter: Reporter,
    folder: PathBuf,
) {
    let (gone, is_gone) = bounded::<()>(1);
    let printed = zip(relay(child.stdout.take(), &reporter), relay(child.stderr.take(), &reporter));
    let said = zip(printed, agent::serve(listener, is_gone.clone(), to_agent, reporter.clone()));
    let patience = async {
        let _ = is_gone.recv().await;
        Timer::after(DRAIN).await;
    };
    let ended = async {
        let status = child.status().await;
        reaped.set(true);
        drop(gone);
        status
    };
    let words = or(
        async {
            said.await;
        },
        patience,
    );
    let (status, ()) = zip(ended, words).await;
    let end = match status {
        Ok(status) => ended::vm_end(status),
        Err(error) => {
            reporter.complain(&format!("its end cannot be seen: {error}"));
            VmEnd::MonitorFailed
        }
    };
    if let Err(error) = StateDir::remove_folder(&folder) {
        reporter.complain(&format!("{}: cannot be removed: {error}", folder.display()));
    }
    reporter.report(What::VmEnded(end)).await;
}

async fn relay(pipe: Option<impl AsyncRead + Unpin>, reporter: &Reporter) {
    let Some(mut pipe) = pipe else { return };
    let mut lines = LineSplitter::new();
    let mut buffer = [0; READ_BYTES];
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => lines.push(&buffer[..length], |line| reporter.line(line)),
        }
        // One chatty guest takes turns with everything else.
        smol::future::yield_now().await;
    }
    lines.finish(|line| reporter.line(line));
}

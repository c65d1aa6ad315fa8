//! The loop of process 1: signals, the power button and deadlines in; starts, signals and the power switch out.
//!
//! Duty: the shell around `charge`; reaping whatever becomes an orphan. Not here: decisions.
//! Invariant: [`run`] returns only when signals cannot be watched.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command as Process, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use hearth_buttons::Buttons;
use hearth_core::Moment;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, sync};
use thiserror::Error;

use crate::charge::{Action, Charge, Command, Ended, Event};
use crate::companion::{self, Companion};
use crate::{say, uptime};

/// How often to look for input devices that came late.
const LOOK_AROUND: Duration = Duration::from_secs(10);
/// The first argument that makes this program [`become_program`].
pub(crate) const RUN: &str = "--run";
const OWN_PROGRAM: &str = "/proc/self/exe";
const NOT_STARTED: u8 = 127;
const COMMAND_LINE: &str = "/proc/cmdline";
/// The kernel gives process 1 no search path.
const PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

#[derive(Debug, Error)]
pub(crate) enum WatchError {
    #[error("signals cannot be watched: {}", .0.desc())]
    Signals(Errno),
    #[error("nothing can be waited for: {}", .0.desc())]
    Poll(Errno),
}

/// Runs the command and looks after the box until it is switched off.
pub(crate) fn run(command: Command) -> WatchError {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGPWR] {
        mask.add(signal);
    }
    // Children inherit this mask; `start` goes through RUN to take it off again.
    let watched = mask
        .thread_block()
        .and_then(|()| SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC));
    match watched {
        Ok(signals) => {
            let charge = Charge::new(&command);
            let command_line = std::fs::read_to_string(COMMAND_LINE).unwrap_or_default();
            let companions = companion::of(&command, &command_line, Path::exists);
            let mut watch = Watch {
                command,
                charge,
                pid: None,
                beside: None,
                companions: companions.into_iter().map(|companion| (companion, None)).collect(),
                announced: false,
                buttons: Buttons::default(),
                began: Instant::now(),
            };
            watch.turn(&signals)
        }
        Err(error) => WatchError::Signals(error),
    }
}

struct Watch {
    command: Command,
    charge: Charge,
    /// The charge's process, while there is one.
    pid: Option<Pid>,
    /// That of the program beside it, likewise.
    beside: Option<Pid>,
    /// Those that are kept running beside both, with their processes.
    companions: Vec<(Companion, Option<Pid>)>,
    announced: bool,
    buttons: Buttons,
    began: Instant,
}

impl Watch {
    fn turn(&mut self, signals: &SignalFd) -> WatchError {
        self.apply(Event::Tick);
        self.start_companions();
        self.start_beside();
        loop {
            self.buttons.look_around();
            if let Err(error) = self.wait(signals) {
                return error;
            }
            while let Ok(Some(info)) = signals.read_signal() {
                // Children are reaped below in any case: one SIGCHLD may stand for many.
                if info.ssi_signo != Signal::SIGCHLD as u32 {
                    self.apply(Event::PowerOff);
                }
            }
            self.reap();
            if self.buttons.pressed() {
                self.apply(Event::PowerOff);
            }
            self.apply(Event::Tick);
            self.start_companions();
        }
    }

    fn wait(&self, signals: &SignalFd) -> Result<(), WatchError> {
        let companions = self.companions.iter().map(|(companion, _)| companion.next_deadline());
        let deadline = companions.chain([self.charge.next_deadline()]).flatten().min();
        let left = deadline.map(|at| at.since(self.now()));
        // A millisecond more: time is cut to milliseconds on both sides.
        let left = left.map_or(LOOK_AROUND, |left| (left + Duration::from_millis(1)).min(LOOK_AROUND));
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let descriptors = std::iter::once(signals.as_fd()).chain(self.buttons.descriptors());
        let mut watched: Vec<PollFd<'_>> = descriptors.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut watched, timeout) {
            Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => Ok(()),
            Err(error) => Err(WatchError::Poll(error)),
        }
    }

    fn now(&self) -> Moment {
        Moment::since_start(self.began.elapsed())
    }

    fn reap(&mut self) {
        loop {
            let (pid, ended) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Ended::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Ended::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(Errno::EINTR) => continue,
                // Somebody died of a signal without a name, such as a real-time one. Whether it was one of ours
                // shows in its absence.
                Err(_) => match self.known().find(|pid| kill(*pid, None) == Err(Errno::ESRCH)) {
                    Some(pid) => (pid, Ended::NamelessSignal),
                    None => continue,
                },
            };
            if self.pid == Some(pid) {
                self.pid = None;
                self.apply(Event::Ended(ended));
            } else if self.beside == Some(pid) {
                self.beside = None;
                say(&format!("program beside the daemon ended: {ended}"));
                self.apply(Event::PowerOff);
            } else {
                let now = self.now();
                let of_pid = |(_, known): &&mut (Companion, Option<Pid>)| *known == Some(pid);
                if let Some((companion, known)) = self.companions.iter_mut().find(of_pid) {
                    *known = None;
                    say(&companion.ended(now, ended));
                }
            }
        }
    }

    /// Who is looked after, and not an orphan.
    fn known(&self) -> impl Iterator<Item = Pid> {
        let companions = self.companions.iter().map(|(_, pid)| *pid);
        companions.chain([self.pid, self.beside]).flatten()
    }

    fn apply(&mut self, event: Event) {
        for action in self.charge.step(self.now(), event) {
            match action {
                Action::Start => self.start(),
                Action::Terminate => self.signal(Signal::SIGTERM),
                Action::Kill => self.signal(Signal::SIGKILL),
                Action::Say(text) => say(&text),
                Action::SwitchOff => leave(RebootMode::RB_POWER_OFF),
                Action::BootAgain => leave(RebootMode::RB_AUTOBOOT),
            }
        }
    }

    fn start(&mut self) {
        match spawn(self.command.words()) {
            Ok(pid) => {
                self.pid = pid;
                if !self.announced {
                    self.announced = true;
                    say(&format!("up in {}", shown(uptime())));
                }
            }
            Err(error) => {
                say(&format!("cannot start anything: {error}"));
                self.apply(Event::Ended(Ended::NotStarted));
            }
        }
    }

    fn start_beside(&mut self) {
        let Some(words) = self.command.beside() else { return };
        match spawn(words) {
            Ok(pid) => self.beside = pid,
            Err(error) => say(&format!("cannot start anything beside the daemon: {error}")),
        }
    }

    fn start_companions(&mut self) {
        let now = self.now();
        for (companion, pid) in &mut self.companions {
            if !companion.is_due(now) {
                continue;
            }
            match spawn(&companion.words()) {
                Ok(started) => *pid = started,
                Err(error) => {
                    say(&format!("cannot start anything beside the daemon: {error}"));
                    say(&companion.ended(now, Ended::NotStarted));
                }
            }
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid {
            // Unreaped, so the number is still its own.
            let _ = kill(pid, signal);
        }
    }
}

/// Starts a program by way of [`become_program`].
fn spawn(words: &[OsString]) -> io::Result<Option<Pid>> {
    let child = Process::new(OWN_PROGRAM).arg(RUN).args(words).env("PATH", PATH).process_group(0).spawn()?;
    // A process number above i32 does not exist on Linux.
    Ok(i32::try_from(child.id()).ok().map(Pid::from_raw))
}

/// In the child: takes the signal mask off and becomes the program. Done by a second start of this program, because
/// code between fork and exec would need `unsafe`. Returns only on failure, with the status that shells use for it.
pub(crate) fn become_program(words: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = words.split_first() else { return ExitCode::from(NOT_STARTED) };
    if let Err(error) = SigSet::all().thread_unblock() {
        say(&format!("signals stay blocked: {}", error.desc()));
    }
    let error = Process::new(program).args(arguments).exec();
    say(&format!("cannot start {}: {error}", program.to_string_lossy()));
    ExitCode::from(NOT_STARTED)
}

/// "812 ms", "3.2 s".
fn shown(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 { format!("{millis} ms") } else { format!("{:.1} s", duration.as_secs_f64()) }
}

fn leave(how: RebootMode) {
    // Whoever is left loses its life before its files are written out for the last time.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    sync();
    let Err(error) = reboot(how);
    say(&format!("cannot leave: {}", error.desc()));
    // Nothing to do any more, but process 1 must not end.
    loop {
        thread::park();
    }
}

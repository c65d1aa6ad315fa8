//! Processes that the agent starts, and those that nobody else takes.
//!
//! Duty: start a program on given streams, signal its group, reap it and every orphan.
//! Not its duty: what runs when, and what it writes.
//! Invariant: a program runs in a process group of its own, with no signal blocked or ignored, and none of the agent's
//! descriptors but those that it is given.

use crate::mounts::errno;
use hearth_config::guest::GuestConfig;
use hearth_wire::ExitStatus;
use nix::{
    errno::Errno,
    fcntl::OFlag,
    libc,
    spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn},
    sys::{
        signal::{SigSet, Signal, kill, killpg},
        stat::Mode,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{AccessFlags, Pid, access, chdir},
};
use std::{
    ffi::CString,
    fs::OpenOptions,
    os::fd::{AsRawFd, BorrowedFd},
    path::Path,
};

/// Where programs are looked for when the workload's environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is reported for a real-time signal: nix cannot say which one it was. The first of them.
const SOME_REALTIME_SIGNAL: i32 = 34;

/// A session of its own, which both C libraries make before they open files; nix has no name for it.
const SET_SID: PosixSpawnFlags = PosixSpawnFlags::from_bits_retain(libc::POSIX_SPAWN_SETSID as libc::c_int);

/// A program's three streams.
#[derive(Debug)]
pub(crate) enum Streams<'s> {
    Files {
        /// `None`: `/dev/null`.
        input: Option<BorrowedFd<'s>>,
        output: BorrowedFd<'s>,
        error: BorrowedFd<'s>,
    },
    /// A terminal's own side. The first one that the leader of a session opens controls it.
    Terminal(&'s Path),
}

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Child {
    /// Also of its process group.
    pid: Pid,
    /// Not reaped yet. Afterwards the number may come to belong to somebody else.
    alive: bool,
}

impl Child {
    /// A command with the workload's folder and environment, and `more` of it.
    pub(crate) fn start(
        config: &GuestConfig,
        more: &[(&str, &str)],
        command: &[String],
        streams: &Streams<'_>,
    ) -> Result<Self, Errno> {
        // Inherited by the child. PID 1 starts one at a time, so it can lend it its own working directory.
        chdir(config.working_dir.as_str())?;
        let started = spawn(config, more, command, streams);
        // "/" always is.
        let _ = chdir("/");
        started
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// To its whole group, which may outlive its first process.
    pub(crate) fn signal(&self, number: i32) {
        if let Ok(signal) = Signal::try_from(number) {
            // The group may be gone already; then there is nothing to do.
            let _ = killpg(self.pid, signal);
        }
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::SIGKILL as i32);
    }

    /// Takes note of its own end, if that is what `status` of `child` says.
    fn ended(&mut self, child: Pid, status: ExitStatus) -> Option<ExitStatus> {
        let own = self.alive && child == self.pid;
        self.alive &= !own;
        own.then_some(status)
    }

    fn is_gone(&self) -> bool {
        self.alive && kill(self.pid, None) == Err(Errno::ESRCH)
    }
}

/// Has every process but this one stand still; a process that was started by another one's order is included.
pub(crate) fn hold_all() {
    // As PID 1 says it, "everybody" is everybody else. Fails only where there is nobody.
    let _ = kill(Pid::from_raw(-1), Signal::SIGSTOP);
}

/// And has them go on.
pub(crate) fn release_all() {
    let _ = kill(Pid::from_raw(-1), Signal::SIGCONT);
}

/// Takes the exit status of every dead child, orphans included, and returns the ends of `own` that were among them, each
/// in its place.
pub(crate) fn reap(mut own: Vec<Option<&mut Child>>) -> Vec<Option<ExitStatus>> {
    let mut ends = vec![None; own.len()];
    loop {
        let (child, status) = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, ExitStatus::Code(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, ExitStatus::Signal(signal as i32)),
            // A child that died of a real-time signal is reaped, but nix has no name for that; whose death it
            // was shows by who is gone.
            Err(Errno::EINVAL) => match own.iter().flatten().find(|child| child.is_gone()) {
                Some(child) => (child.pid, ExitStatus::Signal(SOME_REALTIME_SIGNAL)),
                None => continue,
            },
            Ok(WaitStatus::StillAlive) => return ends,
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(_) => return ends,
        };
        for (one, end) in own.iter_mut().zip(&mut ends) {
            if let Some(one) = one {
                *end = end.or(one.ended(child, status));
            }
        }
    }
}

/// Waits for one child: [`reap`] would take the children of every test in this process.
#[cfg(test)]
pub(crate) fn reap_one(child: &mut Child) -> Option<ExitStatus> {
    reap_with(child, Some(WaitPidFlag::WNOHANG))
}

/// The same, until it has ended.
#[cfg(test)]
pub(crate) fn wait_for(child: &mut Child) -> ExitStatus {
    reap_with(child, None).expect("own child")
}

#[cfg(test)]
fn reap_with(child: &mut Child, flags: Option<WaitPidFlag>) -> Option<ExitStatus> {
    let status = match waitpid(child.pid, flags) {
        Ok(WaitStatus::Exited(_, code)) => ExitStatus::Code(code),
        Ok(WaitStatus::Signaled(_, signal, _)) => ExitStatus::Signal(signal as i32),
        _ => return None,
    };
    child.ended(child.pid, status)
}

fn spawn(
    config: &GuestConfig,
    more: &[(&str, &str)],
    command: &[String],
    streams: &Streams<'_>,
) -> Result<Child, Errno> {
    let program = find(config, command)?;
    let args = texts(command.iter().cloned())?;
    let env = texts(environment(config, more))?;

    let null = OpenOptions::new().read(true).open("/dev/null").map_err(|error| errno(&error))?;
    let mut files = PosixSpawnFileActions::init()?;
    let mut attr = PosixSpawnAttr::init()?;
    let mut flags = PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF;
    match streams {
        Streams::Files { input, output, error } => {
            files.add_dup2(input.map_or(null.as_raw_fd(), |input| input.as_raw_fd()), 0)?;
            files.add_dup2(output.as_raw_fd(), 1)?;
            files.add_dup2(error.as_raw_fd(), 2)?;
            flags |= PosixSpawnFlags::POSIX_SPAWN_SETPGROUP;
            attr.set_pgroup(Pid::from_raw(0))?;
        }
        Streams::Terminal(path) => {
            files.add_open(0, *path, OFlag::O_RDWR, Mode::empty())?;
            files.add_dup2(0, 1)?;
            files.add_dup2(0, 2)?;
            flags |= SET_SID;
        }
    }
    attr.set_flags(flags)?;
    attr.set_sigmask(&SigSet::empty())?;
    attr.set_sigdefault(&SigSet::all())?;

    let pid = posix_spawn(program.as_c_str(), &files, &attr, &args, &env)?;
    Ok(Child { pid, alive: true })
}

/// What stands in `more` goes before what the workload says, and that before what everybody gets.
fn environment(config: &GuestConfig, more: &[(&str, &str)]) -> Vec<String> {
    let is_more = |name: &str| more.iter().any(|(other, _)| *other == name);
    let defaults = [("HOME", "/"), ("PATH", DEFAULT_PATH)];
    let missing = defaults.into_iter().filter(|(name, _)| !config.env.contains_key(*name));
    let own = config.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let base = missing.chain(own).filter(|(name, _)| !is_more(name));
    base.chain(more.iter().copied()).map(|(name, value)| format!("{name}={value}")).collect()
}

/// The program's file: as it is if it names a place, else the first in the workload's own `PATH`.
fn find(config: &GuestConfig, command: &[String]) -> Result<CString, Errno> {
    let name = command.first().ok_or(Errno::ENOENT)?;
    if name.contains('/') {
        return text(name.clone());
    }
    let path = config.env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    let candidates = path.split(':').map(|folder| format!("{folder}/{name}"));
    let mut found = candidates.filter(|file| access(file.as_str(), AccessFlags::X_OK).is_ok());
    text(found.next().ok_or(Errno::ENOENT)?)
}

fn texts(list: impl IntoIterator<Item = String>) -> Result<Vec<CString>, Errno> {
    list.into_iter().map(text).collect()
}

fn text(text: String) -> Result<CString, Errno> {
    CString::new(text).map_err(|_| Errno::EINVAL)
}

/// `exit 3`, `signal 9`, `not started: No such file or directory`.
pub(crate) fn describe(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("exit {code}"),
        ExitStatus::Signal(signal) => format!("signal {signal}"),
        ExitStatus::NotStarted(errno) => format!("not started: {}", Errno::from_raw(errno).desc()),
    }
}

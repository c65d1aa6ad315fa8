//! The workload's processes.
//!
//! Duty: start it, read what it writes, signal it, reap it and every orphan.
//! Not its duty: when (`lifecycle`).
//! Invariant: it runs in a process group of its own, with no signal blocked or ignored, `/dev/null` as its
//! input, and none of the agent's descriptors.

use crate::{mounts::errno, outbox::Outbox};
use hearth_config::guest::GuestConfig;
use hearth_wire::{ExitStatus, Stream};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn},
    sys::{
        signal::{SigSet, Signal, kill, killpg},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{AccessFlags, Pid, access, chdir, pipe2},
};
use std::{
    ffi::CString,
    fs::{File, OpenOptions},
    io::{ErrorKind, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

/// Where programs are looked for when the workload's environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes of one read, and reads of one pipe in one turn: as much as a pipe holds, so that one turn after the
/// workload's end gets all that it left there.
const READ_LEN: usize = 8 * 1024;
const READS_PER_TURN: usize = 8;

/// What is reported for a real-time signal: nix cannot say which one it was. The first of them.
const SOME_REALTIME_SIGNAL: i32 = 34;

/// A workload that was started.
#[derive(Debug)]
pub(crate) struct Workload {
    /// Also of its process group.
    pid: Pid,
    /// Not reaped yet. Afterwards the number may come to belong to somebody else.
    alive: bool,
    pipes: [Option<File>; 2],
}

const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

impl Workload {
    pub(crate) fn start(config: &GuestConfig) -> Result<Self, Errno> {
        Self::start_command(config, &config.command)
    }

    /// A command with the workload's environment and folder, and a process group of its own.
    pub(crate) fn start_command(config: &GuestConfig, command: &[String]) -> Result<Self, Errno> {
        // Inherited by the child. PID 1 starts one at a time, so it can lend it its own working directory.
        chdir(config.working_dir.as_str())?;
        let started = spawn(config, command);
        // "/" always is.
        let _ = chdir("/");
        started
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Moves what it wrote into the outbox.
    pub(crate) fn read(&mut self, outbox: &mut Outbox) {
        for (pipe, stream) in self.pipes.iter_mut().zip(STREAMS) {
            let mut buf = [0; READ_LEN];
            for _ in 0..READS_PER_TURN {
                let Some(open) = pipe else { break };
                match open.read(&mut buf) {
                    Ok(0) => *pipe = None,
                    Ok(len) => outbox.output(stream, buf.get(..len).unwrap_or_default()),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => *pipe = None,
                }
            }
        }
    }

    /// What to poll for input.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.pipes.iter().flatten().map(AsFd::as_fd)
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
pub(crate) fn reap(mut own: Vec<Option<&mut Workload>>) -> Vec<Option<ExitStatus>> {
    let mut ends = vec![None; own.len()];
    loop {
        let (child, status) = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, ExitStatus::Code(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, ExitStatus::Signal(signal as i32)),
            // A child that died of a real-time signal is reaped, but nix has no name for that; whose death it
            // was shows by who is gone.
            Err(Errno::EINVAL) => match own.iter().flatten().find(|workload| workload.is_gone()) {
                Some(workload) => (workload.pid, ExitStatus::Signal(SOME_REALTIME_SIGNAL)),
                None => continue,
            },
            Ok(WaitStatus::StillAlive) => return ends,
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(_) => return ends,
        };
        for (workload, end) in own.iter_mut().zip(&mut ends) {
            if let Some(workload) = workload {
                *end = end.or(workload.ended(child, status));
            }
        }
    }
}

/// Waits for one child: [`reap`] would take the children of every test in this process.
#[cfg(test)]
pub(crate) fn reap_one(workload: &mut Workload) -> Option<ExitStatus> {
    match waitpid(workload.pid, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Some(ExitStatus::Code(code)),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(ExitStatus::Signal(signal as i32)),
        _ => None,
    }
}

fn spawn(config: &GuestConfig, command: &[String]) -> Result<Workload, Errno> {
    let program = find(config, command)?;
    let args = texts(command.iter().cloned())?;
    let env = texts(environment(config))?;

    let input = OpenOptions::new().read(true).open("/dev/null").map_err(|error| errno(&error))?;
    let (stdout, stdout_end) = pipe2(OFlag::O_CLOEXEC)?;
    let (stderr, stderr_end) = pipe2(OFlag::O_CLOEXEC)?;
    for end in [&stdout, &stderr] {
        fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }

    let mut files = PosixSpawnFileActions::init()?;
    files.add_dup2(input.as_raw_fd(), 0)?;
    files.add_dup2(stdout_end.as_raw_fd(), 1)?;
    files.add_dup2(stderr_end.as_raw_fd(), 2)?;
    let mut attr = PosixSpawnAttr::init()?;
    attr.set_flags(
        PosixSpawnFlags::POSIX_SPAWN_SETPGROUP
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF,
    )?;
    attr.set_pgroup(Pid::from_raw(0))?;
    attr.set_sigmask(&SigSet::empty())?;
    attr.set_sigdefault(&SigSet::all())?;

    let pid = posix_spawn(program.as_c_str(), &files, &attr, &args, &env)?;
    Ok(Workload { pid, alive: true, pipes: [Some(stdout.into()), Some(stderr.into())] })
}

fn environment(config: &GuestConfig) -> impl Iterator<Item = String> {
    let defaults = [("HOME", "/"), ("PATH", DEFAULT_PATH)];
    let missing = defaults.into_iter().filter(|(name, _)| !config.env.contains_key(*name));
    let missing = missing.map(|(name, value)| format!("{name}={value}"));
    missing.chain(config.env.iter().map(|(name, value)| format!("{name}={value}")))
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

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_wire::FromAgent;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    fn config(command: &[&str]) -> GuestConfig {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        GuestConfig { command, ..GuestConfig::default() }
    }

    /// Its whole output, by stream.
    fn written(workload: &mut Workload) -> (String, String) {
        let mut outbox = Outbox::default();
        while workload.fds().next().is_some() {
            let mut fds: Vec<_> = workload.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            poll(&mut fds, PollTimeout::NONE).expect("pipes");
            workload.read(&mut outbox);
        }
        let (mut out, mut err) = (String::new(), String::new());
        while let Some(message) = outbox.pop() {
            let FromAgent::Output { stream, bytes } = message else { panic!("{message:?}") };
            let text = std::str::from_utf8(&bytes).expect("ASCII");
            if stream == Stream::Stdout { out.push_str(text) } else { err.push_str(text) }
        }
        (out, err)
    }

    /// Waits for this child only: `reap` takes the children of every test in this process.
    fn status(workload: &Workload) -> WaitStatus {
        waitpid(workload.pid, None).expect("own child")
    }

    #[test]
    fn both_outputs_arrive_and_so_does_the_exit_code() {
        let mut workload =
            Workload::start(&config(&["sh", "-c", "echo out; echo err >&2; exit 3"])).expect("sh");
        assert_eq!(written(&mut workload), ("out\n".into(), "err\n".into()));
        assert_eq!(status(&workload), WaitStatus::Exited(workload.pid, 3));
    }

    #[test]
    fn environment_and_folder_are_the_workloads_own() {
        let mut config = config(&["sh", "-c", "pwd; echo $GREETING $HOME; read line || echo no input"]);
        config.working_dir = "/usr".into();
        config.env.insert("GREETING".into(), "hi there".into());
        let mut workload = Workload::start(&config).expect("sh");
        assert_eq!(written(&mut workload).0, "/usr\nhi there /\nno input\n");
        status(&workload);
    }

    #[test]
    fn it_gets_none_of_the_agents_descriptors_and_signals_are_as_new() {
        let script = "echo /proc/self/fd/*; grep -E '^Sig(Blk|Ign)' /proc/self/status";
        // What this test itself was started with shows in both.
        let plain = std::process::Command::new("sh").args(["-c", script]).output().expect("sh");
        let signals = crate::signals::Signals::block().expect("signalfd");
        let mut workload = Workload::start(&config(&["sh", "-c", script])).expect("sh");
        let (out, _) = written(&mut workload);
        assert_eq!(out.as_bytes(), plain.stdout);
        assert!(out.contains("SigBlk:\t0000000000000000"), "{out}");
        status(&workload);
        drop(signals);
    }

    #[test]
    fn a_signal_reaches_the_whole_group() {
        let script = "sh -c 'trap \"echo inner; exit\" TERM; echo ready; while :; do sleep 1 & wait; done'";
        let mut workload = Workload::start(&config(&["sh", "-c", &format!("{script}; :")])).expect("sh");
        let mut outbox = Outbox::default();
        while outbox.is_empty() {
            let mut fds: Vec<_> = workload.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            poll(&mut fds, PollTimeout::NONE).expect("pipes");
            workload.read(&mut outbox);
        }
        workload.signal(Signal::SIGTERM as i32);
        assert_eq!(written(&mut workload).0, "inner\n");
        status(&workload);
    }

    #[test]
    fn what_cannot_start_says_why() {
        let start = |config: &GuestConfig| Workload::start(config).expect_err("cannot start");
        assert_eq!(start(&config(&["no-such-program"])), Errno::ENOENT);
        assert_eq!(start(&config(&["/nowhere/program"])), Errno::ENOENT);
        assert_eq!(start(&config(&["/etc/passwd"])), Errno::EACCES);
        let folder = GuestConfig { working_dir: "/nowhere".into(), ..config(&["true"]) };
        assert_eq!(start(&folder), Errno::ENOENT);
        assert_eq!(describe(ExitStatus::NotStarted(2)), "not started: No such file or directory");
        assert_eq!(describe(ExitStatus::Code(3)), "exit 3");
        assert_eq!(describe(ExitStatus::Signal(9)), "signal 9");
    }
}

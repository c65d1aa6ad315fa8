//! The workload's processes, and commands beside it.
//!
//! Duty: start them, read what they write.
//! Not its duty: when (`lifecycle`), what a process is (`child`).
//! Invariant: `/dev/null` is their input, and reading what they write never waits.

use crate::{
    child::{Child, Streams},
    outbox::Outbox,
};
use hearth_config::guest::GuestConfig;
use hearth_wire::Stream;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    unistd::pipe2,
};
use std::{
    fs::File,
    io::{ErrorKind, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Bytes of one read, and reads of one pipe in one turn: as much as a pipe holds, so that one turn after the
/// workload's end gets all that it left there.
const READ_LEN: usize = 8 * 1024;
const READS_PER_TURN: usize = 8;

/// A workload that was started.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) child: Child,
    pipes: [Option<File>; 2],
}

const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

impl Workload {
    pub(crate) fn start(config: &GuestConfig) -> Result<Self, Errno> {
        Self::start_command(config, &config.command)
    }

    /// A command with the workload's environment and folder, and a process group of its own.
    pub(crate) fn start_command(config: &GuestConfig, command: &[String]) -> Result<Self, Errno> {
        let ((stdout, output), (stderr, error)) = (pipe_from()?, pipe_from()?);
        let streams = Streams::Files { input: None, output: output.as_fd(), error: error.as_fd() };
        let child = Child::start(config, &[], command, &streams)?;
        Ok(Self { child, pipes: [Some(stdout), Some(stderr)] })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
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
        self.child.signal(number);
    }

    pub(crate) fn kill(&self) {
        self.child.kill();
    }
}

/// A pipe for what a program writes; this side does not wait.
pub(crate) fn pipe_from() -> Result<(File, OwnedFd), Errno> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((ours.into(), theirs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::{describe, wait_for};
    use hearth_wire::{ExitStatus, FromAgent};
    use nix::{
        poll::{PollFd, PollFlags, PollTimeout, poll},
        sys::signal::Signal,
    };

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

    #[test]
    fn both_outputs_arrive_and_so_does_the_exit_code() {
        let mut workload =
            Workload::start(&config(&["sh", "-c", "echo out; echo err >&2; exit 3"])).expect("sh");
        assert_eq!(written(&mut workload), ("out\n".into(), "err\n".into()));
        assert_eq!(wait_for(&mut workload.child), ExitStatus::Code(3));
    }

    #[test]
    fn environment_and_folder_are_the_workloads_own() {
        let mut config = config(&["sh", "-c", "pwd; echo $GREETING $HOME; read line || echo no input"]);
        config.working_dir = "/usr".into();
        config.env.insert("GREETING".into(), "hi there".into());
        let mut workload = Workload::start(&config).expect("sh");
        assert_eq!(written(&mut workload).0, "/usr\nhi there /\nno input\n");
        wait_for(&mut workload.child);
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
        wait_for(&mut workload.child);
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
        wait_for(&mut workload.child);
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

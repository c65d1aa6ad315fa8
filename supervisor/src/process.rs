//! A process that cannot be mistaken for another.
//!
//! Duty: signals to it, and its end, through a descriptor that stays its own when its number is given away again.
//! Works for children and for processes that somebody else started. Not here: what an end means (`ended`).
//! Invariant: a signal reaches this process or nobody.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::Signal;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use smol::Async;

#[derive(Debug)]
pub(crate) struct Process {
    descriptor: Async<OwnedFd>,
}

impl Process {
    /// Of a child that nobody has waited for, or of any other process that is looked at again after this.
    pub(crate) fn open(pid: u32) -> io::Result<Process> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
        // It is never read; that it is ready is all that there is to know.
        Ok(Process { descriptor: Async::new_nonblocking(descriptor)? })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(signal) = rustix::process::Signal::from_named_raw(signal as i32) {
            // It can be gone already; its end is then on the way.
            let _ = pidfd_send_signal(self.descriptor.as_fd(), signal);
        }
    }

    pub(crate) async fn gone(&self) -> io::Result<()> {
        self.descriptor.readable().await
    }

    /// How a process that is gone has ended. `None`: it was not our child, and only its parent hears that.
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        let status = waitid(WaitId::PidFd(self.descriptor.as_fd()), WaitIdOptions::EXITED).ok()??;
        let raw = status.exit_status().map(|code| (code & 0xff) << 8).or_else(|| status.terminating_signal());
        raw.map(ExitStatus::from_raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    #[expect(clippy::zombie_processes, reason = "`status` waits for it")]
    fn a_childs_end_is_seen_with_its_status_or_signal() {
        let end = |script: &str, signal: Option<Signal>| {
            let child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
            let process = Process::open(child.id()).unwrap();
            if let Some(signal) = signal {
                process.signal(signal);
            }
            smol::block_on(process.gone()).unwrap();
            process.status().unwrap()
        };
        assert_eq!(end("exit 12", None).code(), Some(12));
        assert_eq!(end("read line", Some(Signal::SIGTERM)).signal(), Some(15));
    }

    #[test]
    fn a_strangers_end_is_seen_without_a_status() {
        // A shell that ends leaves its own child to somebody else.
        let script = "sleep 3600 >/dev/null & echo $!";
        let told = Command::new("sh").args(["-c", script]).stderr(Stdio::null()).output().unwrap();
        let pid = String::from_utf8(told.stdout).unwrap().trim().parse().unwrap();
        let process = Process::open(pid).unwrap();
        process.signal(Signal::SIGKILL);
        smol::block_on(process.gone()).unwrap();
        assert_eq!(process.status(), None);
    }
}

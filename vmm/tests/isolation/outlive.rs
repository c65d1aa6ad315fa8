//! Whether anything of a machine goes on when it is killed.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use hearth_vmm::jail;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(crate) const CLASS: &str = "outliving";

/// A process that was killed is gone in less, on any machine that is not stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// The payload: says that it is there, and stays.
pub(crate) fn stay() -> ExitCode {
    let done = jail::rehearse(&super::config(), None, None, |_| {
        eprintln!("here");
        loop {
            std::thread::park();
        }
    });
    ExitCode::from(done.unwrap())
}

struct Stands {
    porter: Child,
    machine: Pid,
}

impl Stands {
    fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--stay");
        Self::of(command)
    }

    /// In a control group, as whatever starts machines may be.
    fn start_in(group: &Path) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $$ > \"$1\"/cgroup.procs && exec \"$2\" --stay", "sh"]);
        command.arg(group).arg(std::env::current_exe().unwrap());
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        let mut porter = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(porter.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let pid = porter.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let machine = Pid::from_raw(children.trim().parse().unwrap());
        Self { porter, machine }
    }

    fn machine_is_gone(&self) -> bool {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            // One that nobody has waited for yet is as gone.
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.machine)).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }
}

/// At how many moments of a start its first process is killed, and how far apart they are: from the first instruction
/// to behind the point where the jail is closed, on this machine or a slower one.
const MOMENTS: u32 = 60;
const APART: Duration = Duration::from_micros(150);

/// Whether nobody is left of a machine whose porter is killed so long after it was started.
fn nobody_is_left_after(moment: Duration) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut porter = command.arg("--stay").stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while began.elapsed() < moment {
        std::hint::spin_loop();
    }
    porter.kill().unwrap();
    porter.wait().unwrap();
    // Both have it, and it ends with the last who does.
    let mut output = porter.stderr.take().unwrap();
    let until = Instant::now() + PATIENCE;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        let mut looked_at = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        let left = PollTimeout::try_from(left).unwrap();
        if poll(&mut looked_at, left).unwrap() == 1 && output.read(&mut [0; 64]).unwrap() == 0 {
            return true;
        }
    }
    false
}

/// A control group of the test's own, gone with it.
struct Group(PathBuf);

impl Group {
    /// `None` where this user may make none.
    fn new() -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let root = if root.join("cgroup.controllers").exists() { root.to_owned() } else { root.join("pids") };
        let folder = root.join(format!("hearth-isolation-{}", std::process::id()));
        fs::create_dir(&folder).ok()?;
        Some(Self(folder))
    }

    /// Kills whoever is in it, and below it where the kernel does that by itself.
    fn kill(&self) {
        if fs::OpenOptions::new().write(true).open(self.0.join("cgroup.kill")).is_ok() {
            fs::write(self.0.join("cgroup.kill"), "1").unwrap();
            return;
        }
        for pid in fs::read_to_string(self.0.join("cgroup.procs")).unwrap().lines() {
            kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Those of machines, which are below it, first; a group is empty a moment after its last process has ended.
        let until = Instant::now() + PATIENCE;
        while self.0.exists() && Instant::now() < until {
            for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(entry.path());
            }
            let _ = fs::remove_dir(&self.0);
            std::thread::yield_now();
        }
    }
}

/// Each way in which a machine is ended from outside, and that nothing is left.
pub(crate) fn run() -> bool {
    let mut held = 0;
    // The process that is known is killed: with nobody to wait for it, as by a group's kill.
    let mut stands = Stands::start();
    stands.porter.kill().unwrap();
    held += u32::from(stands.machine_is_gone());
    stands.porter.wait().unwrap();
    // The machine's own is killed: the one that is known ends by the same signal.
    let mut stands = Stands::start();
    kill(stands.machine, Signal::SIGKILL).unwrap();
    let ended = stands.porter.wait().unwrap();
    held += u32::from(std::os::unix::process::ExitStatusExt::signal(&ended) == Some(Signal::SIGKILL as i32));
    // The group of whoever started it is killed: the machine's own group is another one.
    let (mut made, mut rest) = (2, "");
    if let Some(group) = Group::new() {
        made += 1;
        let mut stands = Stands::start_in(&group.0);
        group.kill();
        held += u32::from(stands.machine_is_gone());
        stands.porter.wait().unwrap();
    } else {
        rest = ", not to be tried here: a control group that is killed";
    }
    // Killed while it starts: before there is another process, before that one has asked to be told of it, between the
    // steps by which it becomes somebody else, and after.
    for number in 0..MOMENTS {
        made += 1;
        held += u32::from(nobody_is_left_after(number * APART));
    }
    println!("isolation: {CLASS}: {made} attempts, {held} held{rest}");
    held == made
}

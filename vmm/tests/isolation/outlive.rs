//! Whether anything of a machine goes on when it is killed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use hearth_vmm::jail;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(crate) const CLASS: &str = "outliving";

/// A process that was killed is gone in less, on any machine that is not stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// The payload: says that it is there, and stays.
pub(crate) fn stay() -> ExitCode {
    let done = jail::rehearse(&super::config(), None, |_| {
        println!("here");
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
        let program = std::env::current_exe().unwrap();
        let mut porter = Command::new(program).arg("--stay").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(porter.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = porter.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let machine = Pid::from_raw(children.trim().parse().unwrap());
        Self { porter, machine }
    }

    fn machine_is_gone(&self) -> bool {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            // One that nobody has waited for yet is as gone.
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.machine)).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                return true;
            }
            std::thread::yield_now();
        }
        false
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
    println!("isolation: {CLASS}: 2 attempts, {held} held");
    held == 2
}

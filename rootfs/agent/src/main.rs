//! PID 1 of a guest.
//!
//! Duty: mounts, the loopback interface, the workload and its output, the stream to the host, and the guest's
//! end. Not its duty: which workload runs when, and anything that outlives the guest.
//! Invariant: PID 1 never ends. Whatever goes wrong is told in one line on the console, and then the guest
//! powers off; a kernel panic would tell the host less.
//!
//! One thread, one loop around `poll` (`agent`). What decides (`lifecycle`, `copies`, `outbox`, `intake`, `session`, `questions`, `cmdline`) makes
//! no system call; what makes system calls (`boot`, `workload`, `console`, `power`) decides little.
#![deny(unsafe_code)]

mod agent;
mod boot;
mod call_port;
mod child;
mod clock;
mod cmdline;
mod console;
mod copies;
mod entropy;
mod errands;
#[cfg(test)]
mod fake_host;
mod identity;
mod intake;
mod interfaces;
mod lifecycle;
mod link;
mod mounts;
mod outbox;
mod pipes;
mod port;
mod power;
mod questions;
mod root;
mod session;
mod signals;
mod vsock;
mod workload;

use lifecycle::Ending;
use std::{error::Error, process::ExitCode};

/// What the exit status of every program of this project says for "used wrongly".
const EXIT_USAGE: u8 = 2;

const HELP: &str = "\
hearth-agent: PID 1 of a guest; started by the guest's kernel, not by people

Kernel command line:
  hearth.root=DEVICE   mount DEVICE (squashfs, erofs or ext4) read-only under a writable layer, and run there
  hearth.mqtt=PORT     lead MQTT clients at 127.0.0.1:PORT to the host, and tell the workload so in HEARTH_MQTT
  -- PROGRAM ARGS      what to run, instead of `command` in /etc/hearth/workload.toml

Options:
  --help       this text
  --version    the version
";

fn main() -> ExitCode {
    if std::process::id() != 1 {
        return answer_a_person(std::env::args().nth(1).as_deref());
    }
    // A panic would end PID 1 and with it the kernel.
    std::panic::set_hook(Box::new(|panic| {
        power::emergency(&format!("internal fault: {panic}"));
    }));
    match run() {
        Ok(ending) => power::end(ending),
        Err(fault) => power::emergency(&chain(fault.as_ref())),
    }
}

fn run() -> Result<Ending, Box<dyn Error>> {
    let plan = boot::boot()?;
    Ok(agent::Agent::new(plan)?.run()?)
}

/// The fault and what caused it, on one line.
fn chain(fault: &dyn Error) -> String {
    let mut text = fault.to_string();
    let mut cause = fault.source();
    while let Some(fault) = cause {
        text = format!("{text}: {fault}");
        cause = fault.source();
    }
    text.replace('\n', "; ")
}

fn answer_a_person(option: Option<&str>) -> ExitCode {
    match option {
        Some("--help" | "-h") => print!("{HELP}"),
        Some("--version" | "-V") => println!("hearth-agent {}", env!("CARGO_PKG_VERSION")),
        _ => {
            eprintln!("hearth-agent: expected to be PID 1 of a guest; see hearth-agent --help");
            return ExitCode::from(EXIT_USAGE);
        }
    }
    ExitCode::SUCCESS
}

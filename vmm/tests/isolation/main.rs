//! A monitor that a guest took over: the real jail, and a payload in the machine's place that tries to get out.
//!
//! Every attempt is made twice, each time in a jail of its own: with all walls but the filters of system calls, where it
//! fails with the error that the wall in its way gives, and behind the filter of the event loop, where it ends the
//! process. So no wall stands only because another one does. What goes for the network is tried once more in a namespace
//! that many machines share, as the daemon's do.
//!
//! `cargo xtask test isolation` prints how many attempts were made and held, class by class. The program is its own
//! payload: `isolation --attempt NAME walls|filter|shared`.
#![allow(unsafe_code, reason = "an attacker makes raw system calls")]
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends there")]

mod attempts;
mod outlive;

use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};
use std::thread;

use attempts::{ALL, Attempt, Held};
use hearth_config::vm::VmConfig;
use hearth_vmm::jail::{self, filter::Role};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

/// What a payload says of its attempt.
pub(crate) const FAILED_AS_EXPECTED: u8 = 40;
const FAILED_OTHERWISE: u8 = 41;
const SUCCEEDED: u8 = 42;
const NOT_HERE: u8 = 43;

/// The class that a shared namespace is about.
const NETWORK: &str = "network";

pub(crate) fn config() -> VmConfig {
    let text = "[machine]\nmemory_mib = 32\n[boot]\nkernel = \"none\"\n[serial]\noutput = \"null\"\n";
    VmConfig::parse("vm.toml", text).unwrap()
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--attempt", name, how] => ExitCode::from(attempt(name, how)),
        ["--stay", ..] => outlive::stay(),
        [.., "--list", "--format", "terse", "--ignored"] => ExitCode::SUCCESS,
        words if words.contains(&"--list") => {
            if !words.contains(&"--ignored") {
                classes().iter().for_each(|class| println!("{class}: test"));
            }
            ExitCode::SUCCESS
        }
        words => {
            let wanted: Vec<_> = words.iter().filter(|word| !word.starts_with("--")).collect();
            let all = classes()
                .into_iter()
                .filter(|class| wanted.is_empty() || wanted.iter().any(|w| **w == *class));
            // All of them, also after one that does not hold.
            let held: Vec<bool> = all.map(run).collect();
            if held.iter().all(|held| *held) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

fn classes() -> Vec<&'static str> {
    let mut classes: Vec<_> = ALL.iter().map(|attempt| attempt.class).collect();
    classes.dedup();
    classes.push(outlive::CLASS);
    classes
}

/// The payload: in a jail, one attempt.
fn attempt(name: &str, how: &str) -> u8 {
    let attempt = ALL.iter().find(|attempt| attempt.name == name).unwrap();
    let role = (how == "filter").then_some(Role::EventLoop);
    let prepared = (attempt.prepare)();
    let shared = (how == "shared").then(empty_network);
    if matches!(&shared, Some(None)) {
        return NOT_HERE;
    }
    let network = shared.flatten();
    let done = jail::rehearse(&config(), role, network, |lacks| {
        if attempt.walls.iter().all(|wall| lacks.has(*wall)) && how != "filter" {
            return NOT_HERE;
        }
        match (attempt.act)(&prepared) {
            Held::Yes => FAILED_AS_EXPECTED,
            Held::Error(errno) => {
                if how != "filter" {
                    eprintln!("{name}: {}", std::io::Error::from_raw_os_error(errno));
                }
                FAILED_OTHERWISE
            }
            Held::No => SUCCEEDED,
        }
    });
    let status = done.unwrap();
    jail::leave_if_inside(status);
    status
}

/// A network namespace with nothing in it, if this user can make one: a thread's own, and then whoever's has it open.
fn empty_network() -> Option<File> {
    let made = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).ok()?;
        File::open("/proc/thread-self/ns/net").ok()
    });
    made.join().unwrap()
}

/// Whether everything of a class held.
fn run(class: &str) -> bool {
    if class == outlive::CLASS {
        return outlive::run();
    }
    let (mut made, mut held, mut skipped) = (0, 0, Vec::new());
    for attempt in ALL.iter().filter(|attempt| attempt.class == class) {
        let ways: &[&str] =
            if class == NETWORK { &["walls", "filter", "shared"] } else { &["walls", "filter"] };
        for how in ways {
            if *how == "walls" && attempt.walls.is_empty() {
                // The filter is the only wall in its way.
                continue;
            }
            made += 1;
            match verdict(attempt, how) {
                Ok(true) => held += 1,
                Ok(false) => {
                    made -= 1;
                    skipped.push(attempt.name);
                }
                Err(why) => eprintln!("isolation: {class}: {} ({how}): {why}", attempt.name),
            }
        }
    }
    let rest = if skipped.is_empty() {
        String::new()
    } else {
        format!(", not to be tried here: {}", skipped.join(", "))
    };
    println!("isolation: {class}: {made} attempts, {held} held{rest}");
    made == held
}

fn verdict(attempt: &Attempt, how: &str) -> Result<bool, String> {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    // What a person types, who means somebody else.
    let (reader, mut keys) = std::io::pipe().unwrap();
    keys.write_all(b"secret").unwrap();
    command.args(["--attempt", attempt.name, how]).stdin(reader);
    let output = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let (code, signal) = (output.status.code(), output.status.signal());
    match how {
        "filter" if signal == Some(Signal::SIGSYS as i32) => Ok(true),
        "filter" if attempt.is_permitted && code == Some(FAILED_AS_EXPECTED.into()) => Ok(true),
        "filter" => Err(format!("expected SIGSYS, found {:?}: {said}", output.status)),
        _ if code == Some(NOT_HERE.into()) => Ok(false),
        _ if code == Some(FAILED_AS_EXPECTED.into()) => Ok(true),
        // The kernel ends who takes more memory than the group has.
        _ if attempt.may_be_killed && signal == Some(Signal::SIGKILL as i32) => Ok(true),
        _ if code == Some(SUCCEEDED.into()) => Err("it succeeded".to_owned()),
        _ => Err(format!("{:?}: {said}", output.status)),
    }
}

//! `hearth-init`: process 1 of the appliance.
//!
//! Duty: mounts, kernel modules, keeping `hearthd` (or the program on the kernel command line) alive, reaping
//! orphans, and a clean power-off on SIGTERM, SIGINT (Ctrl-Alt-Del) or the power button.
//! Not here: policy; what runs on the box is `hearthd`'s.
//! Invariant: it never ends. The kernel panics when process 1 does, so every failure is reported and gone around;
//! what cannot be gone around restarts the box.

#![forbid(unsafe_code)]

mod again;
mod charge;
mod companion;
mod mounts;
mod state_disk;
mod watch;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};
use nix::time::{ClockId, clock_gettime};

use crate::charge::Command;

const HELP: &str = "\
hearth-init: process 1 of a Hearth box; the kernel starts it

It mounts what programs expect, loads the kernel modules of /etc/hearth/modules, runs
/usr/bin/hearthd --config /etc/hearth/hearth.toml, and powers the box off on SIGTERM, SIGINT or the power
button. A program given behind -- on the kernel command line, as an absolute path with arguments, runs
instead of hearthd, or beside it if --beside stands before; when it ends, the box powers off.

Beside hearthd it keeps /usr/bin/hearth-network running, and, if hearth.relay=TOKEN stands on the kernel
command line, /usr/bin/hearth-relay.

A disk or partition named hearth-state, by the disk's serial number or the partition's name, with an ext4
file system on it, becomes /var before anything starts, and keeps what is in there over reboots. Where such
a disk comes late, as a memory card does, hearth.state=wait on the kernel command line waits 10 s for it.
";

/// The word before a program that does not take the daemon's place.
const BESIDE: &str = "--beside";
const HEARTHD: [&str; 3] = ["/usr/bin/hearthd", "--config", "/etc/hearth/hearth.toml"];
/// For a person at the console to read why, before the box restarts.
const LAST_WORDS: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if std::process::id() != 1 {
        return not_process_1(&words);
    }
    say_all(mounts::mount_all());
    quiet_kernel();
    // Ctrl-Alt-Del becomes SIGINT to this process instead of a hard reset.
    if let Err(error) = set_cad_enabled(false) {
        say(&format!("Ctrl-Alt-Del resets the box: {error}"));
    }
    say_all(hearth_modules::load_all(Path::new(hearth_modules::LIST)));
    say_all(state_disk::mount_it());
    let error = watch::run(command(words));
    // Only reached when nothing can be watched at all.
    say(&format!("cannot go on, restarting the box: {error}"));
    thread::sleep(LAST_WORDS);
    let _ = reboot(RebootMode::RB_AUTOBOOT);
    loop {
        thread::park();
    }
}

fn not_process_1(words: &[OsString]) -> ExitCode {
    let text = match words {
        [word, program @ ..] if word == watch::RUN => return watch::become_program(program),
        [word] if word == "--help" || word == "-h" => HELP.to_owned(),
        [word] if word == "--version" || word == "-V" => {
            format!("hearth-init {}\n", env!("CARGO_PKG_VERSION"))
        }
        _ => {
            eprintln!("hearth-init: expected to be process 1, started by the kernel; see hearth-init --help");
            return ExitCode::from(2);
        }
    };
    print!("{text}");
    ExitCode::SUCCESS
}

/// The kernel hands over what stands behind `--`, and before that every word it does not know itself: the program
/// is the first absolute path.
fn command(words: Vec<OsString>) -> Command {
    let beside = words.iter().any(|word| word == BESIDE);
    let program: Vec<OsString> =
        words.into_iter().skip_while(|word| !word.as_bytes().starts_with(b"/")).collect();
    let daemon = HEARTHD.iter().map(OsString::from).collect();
    match (program.is_empty(), beside) {
        (true, _) => Command::Daemon { daemon, beside: None },
        (false, true) => Command::Daemon { daemon, beside: Some(program) },
        (false, false) => Command::Program(program),
    }
}

/// KVM and others write a lot to the kernel's log. The log keeps it; the console is for people.
fn quiet_kernel() {
    if let Err(error) = std::fs::write("/proc/sys/kernel/printk", "1") {
        say(&format!("the kernel's messages stay on the console: {error}"));
    }
}

/// Since the kernel began; sleep counts.
fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

fn say(text: &str) {
    // A console that does not take it changes nothing.
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "hearth-init: {text}");
}

fn say_all(lines: impl IntoIterator<Item = String>) {
    for line in lines {
        say(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn daemon(beside: Option<&str>) -> Command {
        let daemon = words("/usr/bin/hearthd --config /etc/hearth/hearth.toml");
        Command::Daemon { daemon, beside: beside.map(words) }
    }

    #[test]
    fn without_a_program_the_daemon_runs() {
        assert_eq!(command(vec![]), daemon(None));
        let unknown = command(words("splash verbose"));
        assert_eq!(unknown, daemon(None), "words that the kernel does not know are no program");
    }

    #[test]
    fn a_program_behind_the_dashes_runs_instead_with_its_arguments() {
        let program = Command::Program(words("/bin/sh -c true"));
        assert_eq!(command(words("splash /bin/sh -c true")), program);
    }

    #[test]
    fn a_program_beside_the_daemon_takes_nobodys_place() {
        assert_eq!(command(words("splash --beside /bin/sh -c true")), daemon(Some("/bin/sh -c true")));
    }
}

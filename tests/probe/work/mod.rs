//! The work race: the same guest does the same work on every monitor, and its clock says what that cost.
//!
//! Duty: disk, TAP interface and listeners for one contender after the other, and the lines of its guest, passed on:
//! `result CONTENDER NAME operations bytes nanoseconds`, and `memory CONTENDER private_kib threads`.

mod listeners;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::guest::work::DISK_BYTES;
use crate::race::memory;
use crate::race::plan::{Contender, Plan};

/// Where a contender finds its disk, and makes its sockets.
const FOLDER: &str = "/run/work";
/// The interface that contenders attach to.
const TAP: &str = "tap-work";
const HOST_ADDRESS: &str = "10.78.0.1/24";
/// What the guest says when all is done.
const DONE: &str = "guest: done";
/// Lines of a guest's console that are kept to explain a failure.
const TAIL: usize = 12;

/// Why there is no work race.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkError {
    #[error("{what}")]
    Host { what: String, source: std::io::Error },
    #[error("contender {name}: {why}")]
    Contender { name: String, why: String },
}

fn host(what: &str) -> impl FnOnce(std::io::Error) -> WorkError {
    let what = what.to_owned();
    |source| WorkError::Host { what, source }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn run(plan: &Plan) -> Result<(), WorkError> {
    for contender in &plan.workers {
        once(contender, plan.guest_mib)?;
    }
    Ok(())
}

fn once(contender: &Contender, guest_mib: u64) -> Result<(), WorkError> {
    let failed = |why: String| WorkError::Contender { name: contender.name.clone(), why };
    let _ = std::fs::remove_dir_all(FOLDER);
    std::fs::create_dir_all(FOLDER).map_err(host(FOLDER))?;
    let disk = Path::new(FOLDER).join("disk.img");
    fill(&disk).map_err(host("disk.img"))?;
    let _tap = Tap::new()?;
    listeners::open(FOLDER.as_ref()).map_err(host("listeners"))?;
    let (program, arguments) =
        contender.command.split_first().ok_or_else(|| failed("has no command".into()))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running(command.spawn().map_err(|error| failed(format!("{program}: {error}")))?);
    let console = running.0.stdout.take().ok_or_else(|| failed("has no console".into()))?;
    let mut tail: Vec<String> = Vec::new();
    for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if let Some(result) = line.strip_prefix("guest: result ") {
            println!("result {} {result}", contender.name);
        }
        if line == DONE {
            let pid = running.0.id();
            let private = memory::private_kib(pid, guest_mib).map_err(|error| failed(error.to_string()))?;
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
            println!("memory {} {private} {threads}", contender.name);
            return Ok(());
        }
        tail.push(line);
        tail.drain(..tail.len().saturating_sub(TAIL));
    }
    Err(failed(format!("ended without `{DONE}`; its console: {}", tail.join(" / "))))
}

/// No holes: reading one would cost less than reading data.
fn fill(disk: &Path) -> std::io::Result<()> {
    let mut file = File::create(disk)?;
    let piece = vec![0x5a; 1 << 20];
    for _ in 0..DISK_BYTES >> 20 {
        file.write_all(&piece)?;
    }
    Ok(())
}

/// The interface for as long as it is held.
struct Tap;

impl Tap {
    fn new() -> Result<Self, WorkError> {
        busybox(&["tunctl", "-t", TAP])?;
        let tap = Self;
        busybox(&["ip", "addr", "add", HOST_ADDRESS, "dev", TAP])?;
        busybox(&["ip", "link", "set", TAP, "up"])?;
        Ok(tap)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = busybox(&["tunctl", "-d", TAP]);
    }
}

fn busybox(words: &[&str]) -> Result<(), WorkError> {
    let what = words.join(" ");
    let status =
        Command::new("/probe/busybox").args(words).stdout(Stdio::null()).status().map_err(host(&what))?;
    if status.success() { Ok(()) } else { Err(WorkError::Contender { name: what, why: status.to_string() }) }
}

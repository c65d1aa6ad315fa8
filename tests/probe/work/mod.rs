//! The work race: the same guest does the same work on every monitor, and its clock says what that cost.
//!
//! Duty: disk, TAP interface and listeners for one contender after the other, and the lines of its guest, passed on:
//! `result CONTENDER NAME operations bytes nanoseconds`, and `memory CONTENDER private_kib threads`.

mod listeners;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::family;
use crate::guest::work::DISK_BYTES;
use crate::race::entrant::{Entrant, Silence};
use crate::race::plan::{Contender, Plan};
use crate::race::{again_if_it_stands_still, memory};

/// Where a contender finds its disk, and makes its sockets.
const FOLDER: &str = "/run/work";
/// The interface that contenders attach to.
const TAP: &str = "tap-work";
const HOST_ADDRESS: &str = "10.78.0.1/24";
/// What the guest says when all is done.
const DONE: &str = "guest: done";
/// Counted time without a line after which a guest stands still: the longest work takes a second.
const PATIENCE: Duration = Duration::from_secs(20);

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

/// What came of one contender.
struct Done {
    results: Vec<String>,
    private_kib: u64,
    threads: usize,
}

pub(crate) fn run(plan: &Plan) -> Result<(), WorkError> {
    for contender in &plan.workers {
        let _ = std::fs::remove_dir_all(FOLDER);
        std::fs::create_dir_all(FOLDER).map_err(host(FOLDER))?;
        fill(&Path::new(FOLDER).join("disk.img")).map_err(host("disk.img"))?;
        listeners::open(FOLDER.as_ref()).map_err(host("listeners"))?;
        let _tap = Tap::new()?;
        let done = again_if_it_stands_still(&contender.name, || once(contender, plan.guest_mib)).map_err(
            |silence| WorkError::Contender { name: contender.name.clone(), why: silence.to_string() },
        )?;
        for result in done.results {
            println!("result {} {result}", contender.name);
        }
        println!("memory {} {} {}", contender.name, done.private_kib, done.threads);
    }
    Ok(())
}

fn once(contender: &Contender, guest_mib: u64) -> Result<Done, Silence> {
    let mut entrant = Entrant::start(contender)?;
    let mut results = Vec::new();
    loop {
        let line = entrant.line(PATIENCE)?;
        if let Some(result) = line.strip_prefix("guest: result ") {
            results.push(result.to_owned());
        }
        if line == DONE {
            let private_kib = memory::private_kib(entrant.pid(), guest_mib)?;
            return Ok(Done { results, private_kib, threads: threads(entrant.pid())? });
        }
    }
}

/// Threads that a monitor started; those that the kernel lends to an io_uring are listed beside them.
fn threads(pid: u32) -> std::io::Result<usize> {
    let mut count = 0;
    // The process that was started has one, and waits.
    let pid = family::machine(pid);
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let name = std::fs::read_to_string(task?.path().join("comm"))?;
        count += usize::from(!name.starts_with("iou-"));
    }
    Ok(count)
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

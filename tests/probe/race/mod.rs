//! Runs the contenders in turns and holds the stopwatch.

pub(crate) mod memory;
pub(crate) mod plan;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use self::plan::{Contender, Plan, PlanError};
use crate::guest::READY;

/// Lines of a guest's console that are kept to explain a failure.
const TAIL: usize = 12;

/// Kills its child whatever happens: the next contender needs the processor.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn run(plan: &Plan) -> Result<(), PlanError> {
    // The first round pays for reading files into the page cache and is not told.
    for round in 0..=plan.rounds {
        for contender in &plan.contenders {
            let (nanoseconds, private_kib) = once(contender, plan.guest_mib)?;
            if round > 0 {
                println!("run {} {nanoseconds} {private_kib}", contender.name);
            }
        }
    }
    Ok(())
}

/// One start: nanoseconds to READY, and private memory that is not the guest's, in KiB.
fn once(contender: &Contender, guest_mib: u64) -> Result<(u128, u64), PlanError> {
    let failed = |what: String| PlanError::Contender { name: contender.name.clone(), what };
    let (program, arguments) =
        contender.command.split_first().ok_or_else(|| failed("has no command".into()))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    let began = Instant::now();
    let child = command.spawn().map_err(|error| failed(format!("{program}: {error}")))?;
    let mut running = Running(child);
    let console = running.0.stdout.take().ok_or_else(|| failed("has no console".into()))?;
    let mut console = BufReader::new(console);
    let mut tail: Vec<String> = Vec::new();
    loop {
        let mut line = Vec::new();
        let bytes = console.read_until(b'\n', &mut line).map_err(|error| failed(error.to_string()))?;
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if bytes == 0 {
            return Err(failed(format!("ended without {READY}; its console: {}", tail.join(" / "))));
        }
        if line == READY {
            break;
        }
        tail.push(line);
        tail.drain(..tail.len().saturating_sub(TAIL));
    }
    let nanoseconds = began.elapsed().as_nanos();
    let private_kib =
        memory::private_kib(running.0.id(), guest_mib).map_err(|error| failed(error.to_string()))?;
    Ok((nanoseconds, private_kib))
}

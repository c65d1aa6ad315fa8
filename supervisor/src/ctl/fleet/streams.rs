//! `hearthctl fleet exec|console|logs`: output of many boxes.
//!
//! Duty: commands out, pieces in their order, one status of all. Not here: what boxes do (`hearth-fleet`), which piece is
//! next (`pieces`), how it looks (`prefix`).
//! Invariant: what did not arrive is told. Whoever interrupts it ends what runs on the boxes, too.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use async_signal::{Signal, Signals};
use clap::Args;
use hearth_fleet::shell::Visitor;
use hearth_fleet::tree::MAX_INPUT;
use serde_json::{Map, Value};
use smol::stream::StreamExt;

use super::broker::{Way, split};
use super::pieces::{Channel, Collected, is_end};
use super::prefix::Printer;
use super::run::Caller;
use super::{FAILED, FleetError, keys};

const CANCEL: &str = "cancel";
/// Not the program's: it was not run, or its end was not seen.
const NOT_RUN: u8 = 125;
/// Interrupted, as a shell says it.
const INTERRUPTED: u8 = 130;
/// Between two looks whether somebody interrupts.
const SLICE: Duration = Duration::from_millis(200);
/// For an answer, beside the time that it may take.
const SPARE_S: u64 = 60;

pub(super) const EXEC_HELP: &str = "\
The program runs in a guest of the workload on each box, beside it, with its environment and folder, and without a
terminal. The workload's configuration has to allow it ([remote] exec = \"operate\" or \"release\"), and the command is
signed with a key of that role. Words, input and bounds are all part of what is signed.

Output comes in numbered pieces and is printed in order: standard output here, standard errors there, and with more than
one box, BOX | before each line. On a terminal, control characters are shown and not done. What is beyond --max-kib is
dropped on the box and counted here. A link that breaks loses nothing of it: the box keeps pieces until its broker has
them, though who was not connected meanwhile misses them, and is told how many.

Ctrl-C cancels the command on all boxes; the second one leaves without waiting for that.

Exit status: with one box, the program's own, 128 and its number if a signal ended it, 127 if there is no such program,
126 if it cannot be run, 125 if it was rejected, ended by its time or not heard of; with several boxes 0 if it was 0 on
all of them, or else 1. 2, 3: as for all of hearthctl.

Examples:
  hearthctl fleet exec --group plant --key release.key --workload web box-1 box-2 -- uname -r
  hearthctl fleet exec --key release.key --workload web --input fix.sql box-1 -- sqlite3 /data/db";

pub(super) const CONSOLE_HELP: &str = "\
What guests' kernels and monitors showed lately, some 16 KiB of each replica, and with --follow what they show for so long.
The workload's configuration has to allow it ([remote] console = ...). Output, interrupting and exit status are as for
fleet exec.";

pub(super) const LOGS_HELP: &str = "\
The last lines of a workload's log, each with its time and replica; WORKLOAD.NUMBER is one replica. Of a log that is larger
than --max-kib the newest lines come. The workload's configuration has to allow it ([remote] fetch_logs = ...). Output,
interrupting and exit status are as for fleet exec.";

/// What all three have.
#[derive(Debug, Args)]
pub(super) struct Many {
    #[command(flatten)]
    way: Way,
    /// Signs the commands; as often as the boxes want signatures of the role
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,
    /// Or one of its replicas: NAME.NUMBER
    #[arg(long, value_name = "NAME")]
    workload: String,
    /// KiB of output of each box, 1 to 1024; the rest is dropped and counted
    #[arg(long, value_name = "N")]
    max_kib: Option<u32>,
    /// Seconds for boxes to begin and answer, beside the time that it takes
    #[arg(long, default_value_t = SPARE_S, value_name = "S")]
    wait: u64,
    #[arg(required = true, value_name = "BOX")]
    boxes: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ExecArgs {
    #[command(flatten)]
    many: Many,
    /// Seconds after which the program is ended, 1 to 3600
    #[arg(long, default_value_t = 60, value_name = "S")]
    timeout: u64,
    /// What it reads, a text of at most 32 KiB; "-" is standard input
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ConsoleArgs {
    #[command(flatten)]
    many: Many,
    /// Seconds to look on for, up to 3600
    #[arg(long, default_value_t = 0, value_name = "S")]
    follow: u64,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    #[command(flatten)]
    many: Many,
    /// From the end
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
    lines: u64,
}

pub(super) fn exec(args: &ExecArgs, json: bool) -> Result<ExitCode, FleetError> {
    let mut fields = Map::new();
    fields.insert("command".to_owned(), args.command.clone().into());
    fields.insert("timeout_s".to_owned(), args.timeout.into());
    if let Some(file) = &args.input {
        let input = if file.as_os_str() == "-" { "/dev/stdin".into() } else { file.clone() };
        let input = keys::read(&input)?;
        if input.len() > MAX_INPUT {
            let message = format!("{}: expected at most {MAX_INPUT} bytes", file.display());
            return Err(FleetError::Usage(message));
        }
        fields.insert("input".to_owned(), input.into());
    }
    collect(&args.many, "exec", fields, args.timeout, json)
}

pub(super) fn console(args: &ConsoleArgs, json: bool) -> Result<ExitCode, FleetError> {
    let fields = Map::from_iter([("follow_s".to_owned(), args.follow.into())]);
    collect(&args.many, "console", fields, args.follow, json)
}

pub(super) fn logs(args: &LogsArgs, json: bool) -> Result<ExitCode, FleetError> {
    let fields = Map::from_iter([("lines".to_owned(), args.lines.into())]);
    collect(&args.many, "fetch-logs", fields, 0, json)
}

fn collect(
    many: &Many,
    operation: &str,
    mut fields: Map<String, Value>,
    takes_s: u64,
    json: bool,
) -> Result<ExitCode, FleetError> {
    fields.insert("workload".to_owned(), many.workload.clone().into());
    fields.extend(many.max_kib.map(|kib| ("max_kib".to_owned(), kib.into())));
    let interrupted = count_interrupts();
    let caller = Caller::new(&many.way, &many.key, many.wait)?;
    let id = caller.id.clone();
    let mut visitor = many.way.visit()?;
    let own = many.way.below(&format!("cmd/{operation}/{id}"))?;
    let canceller = caller.again(CANCEL);
    let cancelled = many.way.below(&format!("cmd/{CANCEL}/{}", canceller.id))?;
    visitor.subscribe(&[format!("{own}/+/+"), own, cancelled])?;
    for node in &many.boxes {
        caller.ask(&mut visitor, node, operation, &fields)?;
    }
    let mut boxes: BTreeMap<&str, Collected> =
        many.boxes.iter().map(|node| (node.as_str(), Collected::default())).collect();
    let mut printer = Printer::new(&many.boxes, json);
    let until = Instant::now() + Duration::from_secs(takes_s.saturating_add(many.wait));
    let mut asked_to_end = false;
    while boxes.values().any(|one| !one.is_whole()) && Instant::now() < until {
        match interrupted.load(Ordering::Relaxed) {
            0 => {}
            1 if !asked_to_end => {
                asked_to_end = true;
                cancel(&canceller, &mut visitor, &id, &boxes)?;
            }
            1 => {}
            _ => return Ok(ExitCode::from(INTERRUPTED)),
        }
        let Some(told) = visitor.next(until.min(Instant::now() + SLICE))? else { continue };
        let Some((name, what)) = split(&told.topic) else { continue };
        let Some((name, one)) = boxes
            .get_key_value(name)
            .map(|(name, _)| *name)
            .and_then(|name| Some((name, boxes.get_mut(name)?)))
        else {
            continue;
        };
        // An answer comes twice where a link broke.
        let was_whole = one.is_whole();
        match what.split('/').collect::<Vec<_>>().as_slice() {
            // The command's own end says what became of it.
            ["cmd", CANCEL, _] if is_end(&told.payload) => canceller.clear(&mut visitor, name, CANCEL)?,
            ["cmd", CANCEL, _] => {}
            ["cmd", _, _] => one.answered(&told.payload),
            ["cmd", _, _, channel, number] => {
                if let (Some(channel), Ok(number)) = (Channel::of(channel), number.parse()) {
                    one.take(number, channel, told.payload);
                }
            }
            _ => {}
        }
        while let Some((channel, bytes)) = one.next() {
            printer.print(name, channel, &bytes);
        }
        if one.is_whole() && !was_whole {
            printer.end(name, one);
        }
    }
    for (name, one) in boxes.iter_mut().filter(|(_, one)| !one.is_whole()) {
        for (channel, bytes) in one.rest() {
            printer.print(name, channel, &bytes);
        }
        printer.end(name, one);
    }
    // What is answered need not lie there any longer.
    for (node, _) in boxes.iter().filter(|(_, one)| one.is_answered()) {
        caller.clear(&mut visitor, node, operation)?;
    }
    Ok(ExitCode::from(status(boxes.values())))
}

/// All that runs on boxes which did not answer yet.
fn cancel(
    canceller: &Caller<'_>,
    visitor: &mut Visitor,
    of: &str,
    boxes: &BTreeMap<&str, Collected>,
) -> Result<(), FleetError> {
    eprintln!("hearthctl: cancelling; once more leaves at once");
    let of = Map::from_iter([("of".to_owned(), of.into())]);
    for (node, _) in boxes.iter().filter(|(_, one)| !one.is_answered()) {
        canceller.ask(visitor, node, CANCEL, &of)?;
    }
    Ok(())
}

/// How often somebody pressed Ctrl-C, or asked for the end otherwise.
fn count_interrupts() -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    if let Ok(mut signals) = Signals::new([Signal::Int, Signal::Term]) {
        let counted = Arc::clone(&count);
        thread::spawn(move || {
            smol::block_on(async {
                while signals.next().await.is_some() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
    }
    count
}

fn status<'c>(mut boxes: impl ExactSizeIterator<Item = &'c Collected>) -> u8 {
    if boxes.len() == 1 {
        return boxes.next().and_then(Collected::status).unwrap_or(NOT_RUN);
    }
    if boxes.all(|one| one.status() == Some(0)) { 0 } else { FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_box_has_its_own_status_and_many_have_one_together() {
        let ended = |answer: &str| {
            let mut one = Collected::default();
            one.answered(answer.as_bytes());
            one
        };
        let good = || ended(r#"{"state":"successful","chunks":0,"exit":0}"#);
        let bad = || ended(r#"{"state":"failed","chunks":0,"exit":7}"#);
        let of = |boxes: &[Collected]| status(boxes.iter());
        assert_eq!((of(&[good()]), of(&[bad()])), (0, 7));
        assert_eq!(of(&[ended(r#"{"state":"rejected"}"#)]), NOT_RUN);
        assert_eq!(of(&[Collected::default()]), NOT_RUN);
        assert_eq!((of(&[good(), good()]), of(&[good(), bad()])), (0, FAILED));
    }
}

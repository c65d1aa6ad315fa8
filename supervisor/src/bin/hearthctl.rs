//! `hearthctl`: the person's tool.
//!
//! Duty: the command line, and what works without a running daemon. Not here: state, what a daemon is asked (`ctl`).

#![forbid(unsafe_code)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use hearth_config::guest::GuestConfig;
use hearth_config::network::NetworkConfig;
use hearth_config::vm::VmConfig;
use hearth_config::workload::WorkloadConfig;
use hearth_config::{Fault, Faults};
use hearth_supervisor::ctl::fleet::{self, FleetVerb};
use hearth_supervisor::ctl::{self, Door, EXIT_STATUS, Verb};
use hearth_supervisor::replay::{self, Telling};
use hearth_supervisor::setup::Setup;
use hearth_supervisor::vm;

const FAILED: u8 = 1;
const FAULT: u8 = 2;

/// Looks after a Hearth box.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_STATUS)]
struct Args {
    #[command(flatten)]
    door: Door,
    #[command(subcommand)]
    command: Order,
}

#[derive(Debug, Subcommand)]
enum Order {
    #[command(flatten)]
    Box(Verb),
    /// Checks configuration files and starts nothing
    ///
    /// With --json: an object for each file, with its faults.
    Check {
        /// What the files are; by default told from their names and folders
        #[arg(long, value_enum)]
        kind: Option<FileKind>,
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Prints a script that completes hearthctl's words in a shell
    Completions {
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Measures what this host offers to virtual machines
    Doctor {
        /// The monitor to ask; by default the one beside this program, or else on the path
        #[arg(long)]
        vmm: Option<PathBuf>,
    },
    /// Looks after many boxes, over any broker
    Fleet {
        #[command(subcommand)]
        verb: Box<FleetVerb>,
    },
    /// Decides once more what happened on a box, and tells why
    ///
    /// hearthd keeps journals of all that happens in the folder that [store] in hearth.toml names. The newest is
    /// "journal", earlier ones are "journal.1" to "journal.3". With --json: all events, one JSON object each.
    Replay {
        /// The journal
        file: PathBuf,
        /// Tells events that led to nothing, too
        #[arg(long)]
        all: bool,
    },
    /// Asks one microVM's monitor directly
    ///
    /// The monitor takes requests on the socket that [control] in its file names. Every verb ends with status 0
    /// when it was done, and 1 when the monitor refused it or cannot be reached. Requests and events never slow
    /// the guest down; whoever reads events too slowly is told how many were lost.
    Vm {
        /// The control socket of the monitor
        socket: PathBuf,
        #[command(subcommand)]
        verb: vm::Verb,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FileKind {
    /// hearth.toml: the box, with all of its workloads and their order
    Box,
    /// workloads/NAME.toml: one workload
    Workload,
    /// vm.toml: one machine
    Vm,
    /// workload.toml inside an image
    Guest,
    /// network.toml: the box's own network
    Network,
}

fn main() -> ExitCode {
    let Args { door, command } = Args::parse();
    match command {
        Order::Box(verb) => ctl::run(&door, &verb),
        Order::Check { kind, files } => check(door.json(), kind, &files),
        Order::Completions { .. } if door.json() => {
            eprintln!("hearthctl: expected no --json: a shell reads its own language");
            ExitCode::from(FAULT)
        }
        Order::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "hearthctl", &mut script);
            // Who asked and does not read needs none.
            let _ = std::io::stdout().write_all(&script);
            ExitCode::SUCCESS
        }
        Order::Doctor { vmm } => doctor(door.json(), vmm),
        Order::Fleet { verb } => fleet::run(&verb, door.json()),
        Order::Replay { file, all } => {
            let telling = match (door.json(), all) {
                (true, _) => Telling::Json,
                (false, true) => Telling::All,
                (false, false) => Telling::Brief,
            };
            replay::run(&file, telling)
        }
        Order::Vm { socket, verb } => vm::run(&socket, &verb),
    }
}

fn check(json: bool, kind: Option<FileKind>, files: &[PathBuf]) -> ExitCode {
    let mut worst = ExitCode::SUCCESS;
    for file in files {
        let checked = match kind.or_else(|| kind_of(file)) {
            Some(kind) => check_one(kind, file),
            None => {
                let message = "expected a file whose kind its name tells, or --kind";
                Err(Fault::of_file(file.display().to_string(), message).into())
            }
        };
        if checked.is_err() {
            worst = ExitCode::from(FAULT);
        }
        match checked {
            checked if json => println!("{}", told_to_programs(file, checked.as_ref())),
            Ok(Some(workloads)) => println!("{}: good, {workloads} workloads", file.display()),
            Ok(None) => println!("{}: good", file.display()),
            Err(faults) => eprintln!("{faults}"),
        }
    }
    worst
}

fn told_to_programs(file: &Path, checked: Result<&Option<usize>, &Faults>) -> serde_json::Value {
    let faults: Vec<serde_json::Value> =
        checked.err().into_iter().flat_map(Faults::iter).map(of_fault).collect();
    let mut told = serde_json::json!({
        "file": file.display().to_string(), "good": checked.is_ok(), "faults": faults,
    });
    if let Ok(Some(workloads)) = checked {
        told["workloads"] = (*workloads).into();
    }
    told
}

fn of_fault(fault: &Fault) -> serde_json::Value {
    let mut told = serde_json::json!({ "file": fault.file, "key": fault.key, "message": fault.message });
    if let Some(position) = fault.position {
        told["line"] = position.line.into();
        told["column"] = position.column.into();
    }
    told
}

/// How many workloads a box has.
fn check_one(kind: FileKind, file: &Path) -> Result<Option<usize>, Faults> {
    match kind {
        FileKind::Box => Setup::load(file).map(|setup| Some(setup.workloads.len())),
        FileKind::Workload => WorkloadConfig::load(file).map(|_| None),
        FileKind::Vm => VmConfig::load(file).map(|_| None),
        FileKind::Guest => GuestConfig::load(file).map(|_| None),
        FileKind::Network => NetworkConfig::load(file).map(|_| None),
    }
}

fn kind_of(file: &Path) -> Option<FileKind> {
    let name_of = |path: Option<&Path>| {
        path.and_then(Path::file_name).and_then(|name| name.to_str()).map(str::to_owned)
    };
    match (name_of(file.parent()).as_deref(), name_of(Some(file)).as_deref()) {
        (Some("workloads"), _) => Some(FileKind::Workload),
        (_, Some("hearth.toml")) => Some(FileKind::Box),
        (_, Some("vm.toml")) => Some(FileKind::Vm),
        (_, Some("workload.toml")) => Some(FileKind::Guest),
        (_, Some("network.toml")) => Some(FileKind::Network),
        _ => None,
    }
}

fn doctor(json: bool, vmm: Option<PathBuf>) -> ExitCode {
    let vmm = vmm.or_else(beside_this_program).unwrap_or_else(|| "hearth-vmm".into());
    let mut command = Command::new(&vmm);
    command.arg("doctor");
    if json {
        command.arg("--json");
    }
    match command.status() {
        Ok(status) => {
            ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED))
        }
        Err(error) => {
            eprintln!("hearthctl: cannot start {}: {error}", vmm.display());
            ExitCode::from(FAILED)
        }
    }
}

fn beside_this_program() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.with_file_name("hearth-vmm");
    path.exists().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_does_not_contradict_itself() {
        Args::command().debug_assert();
    }
}

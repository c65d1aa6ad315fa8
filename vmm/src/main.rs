//! `hearth-vmm`: the command line around [`hearth_vmm`].
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hearth_config::vm::VmConfig;
use hearth_vmm::machine::{self, MachineError};
use hearth_vmm::outcome::Refusal;
use hearth_vmm::{doctor, logger};
use log::LevelFilter;

const HELP: &str = "\
hearth-vmm: one process, one microVM

USAGE
    hearth-vmm [--log-level LEVEL] run FILE
    hearth-vmm doctor [--json]
    hearth-vmm --help | --version

COMMANDS
    run FILE   Boots the microVM that FILE (TOML) describes and stays until it ends. The guest's serial
               port prints where FILE says, by default on standard output; the monitor's own messages go
               to standard error. SIGTERM and SIGINT stop the microVM gracefully, as [stop]
               says: its agent is asked, then its power button pressed, then it is ended. A second signal
               ends it at once.
    doctor     Measures what KVM is on this host and lists what the host offers and lacks. With --json
               as one JSON object.

OPTIONS
    --log-level LEVEL   error, warn (default), info, debug or trace
    -h, --help          This text
    -V, --version       The version

FILE
    [machine]
    vcpus = 1                    # 1 to 16
    memory_mib = 128             # 32 to 65536
    [boot]
    kernel = \"vmlinux\"           # x86_64: vmlinux (ELF); ARM64: Image
    initrd = \"initrd.cpio\"       # optional
    cmdline = \"console=ttyS0\"    # optional
    [serial]
    output = \"stdout\"            # or \"null\", or a path
    [[block]]                    # none or more: /dev/vda, /dev/vdb, ...
    id = \"root\"
    path = \"disk.img\"            # raw; the format is never guessed
    read_only = true
    [vsock]                      # optional
    cid = 3
    socket = \"vsock.sock\"        # host side: CONNECT <port>; guest side: <socket>_<port>

    [control]                    # optional
    socket = \"control.sock\"      # takes requests; see hearthctl vm --help
    [stop]
    agent_s = 10                 # how long the guest's agent may take; 0: it is not asked
    button_s = 10                # the same for the power button

    Relative paths start at FILE's folder.

EXIT STATUS
    0   the guest powered off           12  the guest kernel crashed
    1   the monitor failed              13  the guest's watchdog expired
    2   wrong usage or configuration    14  triple fault
    3   KVM cannot be used              15  KVM could not go on with a vCPU
    10  the guest asked for a reboot    16  stopped by the host
    11  the guest halted for good

    11, 12 and 13 are kept for what no device of this machine reports yet: a guest that halts for good is
    one that runs and can be stopped.
";

enum Command {
    Help,
    Version,
    Run(PathBuf),
    Doctor { json: bool },
}

struct Arguments {
    command: Command,
    level: LevelFilter,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => return refuse(Refusal::Usage, &format!("{message} (see hearth-vmm --help)")),
    };
    logger::install(arguments.level);
    match arguments.command {
        Command::Help => print(HELP),
        Command::Version => print(concat!("hearth-vmm ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Doctor { json: true } => print(&format!("{}\n", doctor::examine().to_json())),
        Command::Doctor { json: false } => print(&doctor::examine().to_string()),
        Command::Run(file) => run(&file),
    }
}

fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Arguments, String> {
    use lexopt::prelude::{Long, Short, Value, ValueExt};
    let mut parser = lexopt::Parser::from_args(arguments);
    let (mut words, mut json, mut level) = (Vec::new(), false, LevelFilter::Warn);
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Short('h') | Long("help") => return Ok(Arguments { command: Command::Help, level }),
            Short('V') | Long("version") => return Ok(Arguments { command: Command::Version, level }),
            Long("json") => json = true,
            Long("log-level") => {
                let text = parser.value().and_then(ValueExt::string).map_err(|e| e.to_string())?;
                level = text
                    .parse()
                    .map_err(|_| format!("--log-level {text}: expected error, warn, info, debug or trace"))?;
            }
            Value(word) => words.push(word),
            other => return Err(other.unexpected().to_string()),
        }
    }
    let mut words = words.into_iter();
    let command = match (words.next(), words.next(), words.next()) {
        (Some(verb), Some(file), None) if verb == "run" && !json => Command::Run(file.into()),
        (Some(verb), None, None) if verb == "doctor" => Command::Doctor { json },
        (Some(verb), None, None) if verb == "run" => return Err("run: expected a FILE".into()),
        (None, ..) => return Err("expected a command: run or doctor".into()),
        (Some(verb), ..) if verb == "run" || verb == "doctor" => {
            return Err(format!("{}: too many arguments", verb.display()));
        }
        (Some(verb), ..) => return Err(format!("unknown command `{}`", verb.display())),
    };
    Ok(Arguments { command, level })
}

fn run(file: &Path) -> ExitCode {
    let config = match VmConfig::load(file) {
        Ok(config) => config,
        Err(faults) => {
            for fault in faults.iter() {
                complain(&fault.to_string());
            }
            return Refusal::Usage.into();
        }
    };
    match machine::run(&config) {
        Ok(outcome) => {
            log::info!("{outcome}");
            outcome.into()
        }
        Err(error) => match error.key() {
            // Found when the value was used, and still a fault of the file.
            Some(key) => {
                complain(&hearth_config::fault_at(file, &key, chain(&error)).to_string());
                Refusal::Usage.into()
            }
            None if matches!(error, MachineError::Kvm(_)) => refuse(Refusal::Kvm, &chain(&error)),
            None => refuse(Refusal::Failure, &chain(&error)),
        },
    }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}

fn refuse(refusal: Refusal, message: &str) -> ExitCode {
    complain(message);
    refusal.into()
}

fn complain(message: &str) {
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(std::io::stderr(), "hearth-vmm: {message}");
}

fn print(text: &str) -> ExitCode {
    // `hearth-vmm --help | head` closes the pipe; that is not a failure.
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            refuse(Refusal::Failure, &format!("standard output: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

//! `hearthd`: the command line around [`hearth_supervisor::daemon`].

#![forbid(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use hearth_config::device::{LOG_FORMATS, Log, LogFormat};
use hearth_supervisor::console::Console;
use hearth_supervisor::daemon::{self, Outcome};
use hearth_supervisor::own_group;
use hearth_supervisor::setup::Setup;
use hearth_supervisor::wording::one_line;

const HELP: &str = "\
hearthd: keeps the workloads of this box running, each in a microVM of its own

USAGE
    hearthd [--config FILE] [--log-format FORMAT] [--check]
    hearthd --help | --version

OPTIONS
    --config FILE   The box's file; default: /etc/hearth/hearth.toml
    --log-format FORMAT
                    human or json, in place of log.format in the box's file
    --check         Reads and checks all configuration, and starts nothing
    -h, --help      This text
    -V, --version   The version

SIGNALS
    SIGTERM, SIGINT   Stops all workloads in reverse order; a second one kills them
    SIGHUP            Reads the configuration again, which is also done whenever its files change. When hearthd's
                      terminal has closed: stops all workloads likewise, but kills nothing if it comes again
    SIGUSR2           Begins again in place, with the program that lies there by now; no workload is touched

EXIT STATUS
    0   stopped as asked, or the check found no fault
    1   the daemon failed
    2   usage or configuration fault
    3   stopped, and the box is to boot again
";

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const REBOOT: u8 = 3;

enum Order {
    Run { config: PathBuf, check: bool, format: Option<LogFormat> },
    Help,
    Version,
}

fn main() -> ExitCode {
    match order() {
        Ok(Order::Run { config, check, format }) => run(&config, check, format),
        Ok(Order::Help) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Order::Version) => {
            println!("hearthd {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Err(error) => fail(USAGE, &format!("{error}; see hearthd --help")),
    }
}

fn order() -> Result<Order, lexopt::Error> {
    use lexopt::prelude::*;
    let mut config = PathBuf::from("/etc/hearth/hearth.toml");
    let mut check = false;
    let mut format = None;
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("config") => config = parser.value()?.into(),
            Long("check") => check = true,
            Long("log-format") => format = Some(parser.value()?.parse_with(log_format)?),
            Short('h') | Long("help") => return Ok(Order::Help),
            Short('V') | Long("version") => return Ok(Order::Version),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Order::Run { config, check, format })
}

fn log_format(text: &str) -> Result<LogFormat, &'static str> {
    let known = LOG_FORMATS.iter().find(|(name, _)| *name == text);
    known.map(|(_, format)| *format).ok_or("expected human or json")
}

fn run(config: &std::path::Path, check: bool, format: Option<LogFormat>) -> ExitCode {
    // Now: when an update has replaced the file, the kernel calls this one deleted.
    let program = std::env::current_exe();
    let setup = match Setup::load(config) {
        Ok(setup) => setup,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(USAGE);
        }
    };
    if check {
        println!("{}: good, {} workloads", config.display(), setup.workloads.len());
        return ExitCode::SUCCESS;
    }
    let own = setup.device.log;
    let log = Log { format: format.unwrap_or(own.format), ..own };
    let console = match Console::with(log, setup.names().iter().map(String::as_str), std::io::stdout()) {
        Ok(console) => console,
        Err(error) => return fail(FAILED, &format!("cannot print: {error}")),
    };
    if let Err(error) = own_group::settle() {
        console.say(&format!("machines get no control groups of their own: {error}"));
    }
    match daemon::run(setup, &console) {
        Ok(Outcome::Stopped) => ExitCode::SUCCESS,
        Ok(Outcome::Reboot) => ExitCode::from(REBOOT),
        Ok(Outcome::ReExec) => fail(FAILED, &begin_again(program)),
        Err(error) => fail(FAILED, &one_line(&error)),
    }
}

/// The program that lies there by now, with the words of this start, in the same process: machines stay its children.
/// Returns only if that does not work, and says why.
fn begin_again(program: io::Result<PathBuf>) -> String {
    let error = match program {
        Ok(program) => Command::new(program).args(std::env::args_os().skip(1)).exec(),
        Err(error) => error,
    };
    format!("cannot begin again in place: {error}")
}

fn fail(status: u8, message: &str) -> ExitCode {
    eprintln!("hearthd: {message}");
    ExitCode::from(status)
}

//! `hearthd`: the command line around [`hearth_supervisor::daemon`].

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use hearth_supervisor::console::Console;
use hearth_supervisor::daemon;
use hearth_supervisor::setup::Setup;
use hearth_supervisor::wording::one_line;

const HELP: &str = "\
hearthd: keeps the workloads of this box running, each in a microVM of its own

USAGE
    hearthd [--config FILE] [--check]
    hearthd --help | --version

OPTIONS
    --config FILE   The box's file; default: /etc/hearth/hearth.toml
    --check         Reads and checks all configuration, and starts nothing
    -h, --help      This text
    -V, --version   The version

SIGNALS
    SIGTERM, SIGINT   Stops all workloads in reverse order; a second one kills them
    SIGHUP            Reads the configuration again, which is also done whenever its files change. When hearthd's
                      terminal has closed: stops all workloads likewise, but kills nothing if it comes again

EXIT STATUS
    0   stopped as asked, or the check found no fault
    1   the daemon failed
    2   usage or configuration fault
";

const FAILED: u8 = 1;
const USAGE: u8 = 2;

enum Order {
    Run { config: PathBuf, check: bool },
    Help,
    Version,
}

fn main() -> ExitCode {
    match order() {
        Ok(Order::Run { config, check }) => run(&config, check),
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
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("config") => config = parser.value()?.into(),
            Long("check") => check = true,
            Short('h') | Long("help") => return Ok(Order::Help),
            Short('V') | Long("version") => return Ok(Order::Version),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Order::Run { config, check })
}

fn run(config: &std::path::Path, check: bool) -> ExitCode {
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
    let console = match Console::new(setup.names().iter().map(String::as_str), std::io::stdout()) {
        Ok(console) => console,
        Err(error) => return fail(FAILED, &format!("cannot print: {error}")),
    };
    match daemon::run(setup, &console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &one_line(&error)),
    }
}

fn fail(status: u8, message: &str) -> ExitCode {
    eprintln!("hearthd: {message}");
    ExitCode::from(status)
}

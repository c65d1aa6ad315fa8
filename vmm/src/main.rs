//! `hearth-vmm`: the command line around [`hearth_vmm`].
mod cli;
mod stack_bounds;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use hearth_config::vm::{Input, VmConfig};
use hearth_config::{Fault, Faults, Form, Source, Strictness};
use hearth_vmm::jail::Containment;
use hearth_vmm::logger::chain;
use hearth_vmm::machine::{self, MachineError, Place};
use hearth_vmm::outcome::Refusal;
use hearth_vmm::preflight::Start;
use hearth_vmm::{Outcome, doctor, inherited, logger, preflight, snapshot};
use hearth_wire::control::SnapshotName;
use log::Level;

use self::cli::{Command, From, Making, Work};

fn main() -> ExitCode {
    let status = work();
    hearth_vmm::jail::leave_if_inside(status);
    ExitCode::from(status)
}

fn work() -> u8 {
    let arguments = match cli::parse(std::env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => return refuse(Refusal::Usage, &format!("{message} (see hearth-vmm --help)")),
    };
    logger::install(arguments.level);
    if let Err(error) = inherited::close_others(arguments.given()) {
        log::warn!("descriptors that this process was started with stay open: {error}");
    }
    let walls = |config: &VmConfig| {
        if arguments.no_jail || !config.jail.enabled {
            Containment::Open
        } else {
            Containment::Jailed { network: arguments.network.clone() }
        }
    };
    match arguments.command {
        Command::Help => print(cli::HELP),
        Command::Version => print(concat!("hearth-vmm ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Doctor { json: true } => print(&format!("{}\n", doctor::examine().to_json())),
        Command::Doctor { json: false } => print(&doctor::examine().to_string()),
        Command::Run(from, strictness) => read(&from, strictness, Start::Boot, preflight::examine_patiently)
            .map_or_else(
                |faults| blame(&faults),
                |(source, config)| run(&source, &config, None, &walls(&config)),
            ),
        Command::Restore(folder, from, strictness) => restore(&folder, from, strictness, walls),
        Command::Template(from, making, strictness) => {
            read(&from, strictness, Start::Boot, preflight::examine_patiently).map_or_else(
                |faults| blame(&faults),
                |(source, config)| template(&source, &config, &making, &walls(&config)),
            )
        }
        Command::Snapshot(work) => with_snapshots(&work),
        Command::Check(from, strictness) => match read(&from, strictness, Start::Boot, preflight::examine) {
            Ok((source, _)) => print(&format!("{}: no faults\n", source.name())),
            Err(faults) => blame(&faults),
        },
    }
}

type Look = fn(&VmConfig, Start) -> Vec<preflight::Finding>;

/// The configuration, with everything in order that shows before KVM is opened.
fn read(from: &From, strictness: Strictness, start: Start, look: Look) -> Result<(Source, VmConfig), Faults> {
    let source = match from {
        From::File(path) => Source::file(path)?,
        From::Firecracker(path) => Source::file(path)?.taken_for(Form::Json),
        From::Stdin => Source::stream("standard input", std::io::stdin().lock())?,
        From::Descriptor(number) => {
            let name = format!("fd:{number}");
            let given = inherited::take(*number).map_err(|error| Fault::of_file(&name, error.to_string()))?;
            Source::stream(name, given)?
        }
    };
    let (config, warnings) = VmConfig::read(&source, strictness)?;
    for warning in warnings {
        log::warn!("{warning}");
    }
    if matches!(from, From::Stdin) && source.form() == Form::Toml {
        let console = config.console.as_ref().map(|console| console.input);
        for (key, input) in [("serial.input", Some(config.serial.input)), ("console.input", console)] {
            if input == Some(Input::Stdin) {
                log::warn!("{key}: the configuration was all of standard input, nobody types to the guest");
            }
        }
    }
    let faults = look(&config, start)
        .iter()
        .map(|found| VmConfig::fault_at(&source, &found.key, &found.message))
        .collect();
    Faults::from_list(faults).map_or(Ok((source, config)), Err)
}

fn restore(
    folder: &Path,
    from: Option<From>,
    strictness: Strictness,
    walls: impl Fn(&VmConfig) -> Containment,
) -> u8 {
    let opened = match snapshot::open(folder, false) {
        Ok(opened) => opened,
        Err(refusal) => return refuse(Refusal::Usage, &refusal.to_string()),
    };
    let from = from.unwrap_or_else(|| From::File(opened.config()));
    read(&from, strictness, Start::Snapshot, preflight::examine_patiently).map_or_else(
        |faults| blame(&faults),
        |(source, config)| run(&source, &config, Some(opened), &walls(&config)),
    )
}

/// Makes a template, unless there is one of the same things already.
fn template(source: &Source, config: &VmConfig, making: &Making, containment: &Containment) -> u8 {
    let folder = &making.folder;
    let key = match snapshot::key(config) {
        Ok(key) => key,
        Err(error) => return refuse(Refusal::Usage, &chain(&error)),
    };
    if !making.force && snapshot::has_key(folder, &key) {
        match snapshot::open(folder, false) {
            Ok(_) => return print(&format!("{}: up to date\n", folder.display())),
            Err(refusal) => log::warn!("{refusal}; the template is made anew"),
        }
    }
    let place = folder.file_name().and_then(|name| name.to_str()).and_then(SnapshotName::new).map(|name| {
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        Place { parent: parent.unwrap_or(Path::new(".")).to_owned(), name: name.as_str().to_owned(), key }
    });
    let Some(place) = place else {
        let expected =
            "expected a name of 1 to 32 letters, digits, dots, dashes and underscores, the first no dot";
        return refuse(Refusal::Usage, &format!("{}: {expected}", folder.display()));
    };
    let began = Instant::now();
    match machine::make_template(config, place, making.within, containment) {
        Ok(place) => {
            // Whole numbers: what prints others is larger than all of this.
            let tenths = began.elapsed().as_millis() / 100;
            print(&format!("{}: made in {}.{} s\n", place.display(), tenths / 10, tenths % 10))
        }
        Err(error) => {
            logger::say_last(&located(source, &error));
            error.refusal().status()
        }
    }
}

fn with_snapshots(work: &Work) -> u8 {
    let done = match work {
        Work::Check(folder) => {
            snapshot::open(folder, true).map(|_| format!("{}: no faults\n", folder.display()))
        }
        Work::Info(folder) => snapshot::open(folder, false).map(|opened| opened.manifest()),
        Work::Merge { base, difference, out } => {
            return match snapshot::merge(base, difference, out) {
                Ok(()) => 0,
                Err(error @ snapshot::MergeError::Files { .. }) => refuse(Refusal::Failure, &chain(&error)),
                Err(error) => refuse(Refusal::Usage, &chain(&error)),
            };
        }
    };
    done.map_or_else(|refusal| refuse(Refusal::Usage, &refusal.to_string()), |text| print(&text))
}

fn run(source: &Source, config: &VmConfig, from: Option<snapshot::Opened>, containment: &Containment) -> u8 {
    match machine::run(config, from, containment) {
        Ok(outcome) => {
            // The others are what somebody asked for, or have been told by whoever noticed.
            let level = match outcome {
                Outcome::Panic | Outcome::TripleFault | Outcome::Halt => Level::Warn,
                _ => Level::Info,
            };
            log::log!(level, "{outcome}");
            outcome.status()
        }
        Err(error) => {
            // SIGTERM does not end this process any more: a reader that does not read may not hold it.
            logger::say_last(&located(source, &error));
            error.refusal().status()
        }
    }
}

/// The error, with its place in the file where a value is at fault.
fn located(source: &Source, error: &MachineError) -> String {
    match (error, error.key()) {
        (MachineError::Again(cause), _) => format!("{error}: {}", located(source, cause)),
        (_, Some(key)) => VmConfig::fault_at(source, &key, &chain(error)).to_string(),
        (_, None) => chain(error),
    }
}

fn blame(faults: &Faults) -> u8 {
    for fault in faults {
        complain(&fault.to_string());
    }
    Refusal::Usage.status()
}

fn refuse(refusal: Refusal, message: &str) -> u8 {
    complain(message);
    refusal.status()
}

fn complain(message: &str) {
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(std::io::stderr(), "hearth-vmm: {message}");
}

fn print(text: &str) -> u8 {
    // `hearth-vmm --help | head` closes the pipe; that is not a failure.
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            refuse(Refusal::Failure, &format!("standard output: {error}"))
        }
        _ => 0,
    }
}

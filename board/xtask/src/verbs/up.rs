//! `up`: Hearth with the demo workloads, on this machine or on a board.
//!
//! Duty: choose the place, start, follow the box's own lines, and say at the end what ran where.
//! Not here: what a board is (`boards`). Invariant: status 0 under `--exit-when-ready` means that the box itself
//! said that every workload reached its goal, and that it then powered off of itself. Without the flag, status 0
//! means that the box ended of itself and well: one that failed or was killed is an error that says how it ended.

use std::{
    fs, io,
    path::{self, Path, PathBuf},
    process::{Command, ExitCode, ExitStatus},
    time::{Duration, Instant},
};

use tempfile::NamedTempFile;
use thiserror::Error;

use super::board::{self, BoardError, Started, Ways};
use super::doctor::{self, DoctorError};
use crate::{
    arch::Arch,
    boards::{
        Board, Kvm, Place,
        box_config::{self, ConfigError, Part},
        boxlines::{Progress, Seen},
        broker::{self, Broker, BrokerError},
        door::{self, Door},
        guest_files::{self, GuestFilesError},
        image::{self, BoardImage},
        operator::{Operator, OperatorError},
        qemu::Pace,
        session::{Event, PowerOff, Session, SessionError},
    },
    cache::{CacheError, Lock},
    cli::Up,
    programs::{self, ProgramsError},
    workshop::Workshop,
};

/// From power-on to the last workload's goal, under emulation on a slow machine.
const READY_PATIENCE: Duration = Duration::from_secs(300);

/// What a box is called that a broker hears of.
const NODE: &str = "box";
/// How a person asks the box something.
const REACH: &str = "in another terminal: cargo xtask ctl status (or top, explain clock, logs -f clock, ...)";

#[derive(Debug, Error)]
pub(crate) enum UpError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Board(#[from] BoardError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Doctor(#[from] DoctorError),
    #[error(transparent)]
    Guest(#[from] GuestFilesError),
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Operator(#[from] OperatorError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the box was not ready within {} s", READY_PATIENCE.as_secs())]
    NotInTime,
    #[error("the box ended before it was ready ({status})")]
    EndedEarly { status: ExitStatus },
    #[error("the box ended badly ({status})")]
    EndedBadly { status: ExitStatus },
    #[error("the box says: {0}")]
    NotReady(String),
}

pub(crate) fn run(shop: &Workshop, options: &Up) -> Result<ExitCode, UpError> {
    // Which place it will be is measured with a program that must be built first; any of them reads the workloads.
    let part = if options.board.is_some() { Part::All } else { Part::Workloads };
    box_config::check(&image::config_folder(shop, options.config.as_deref()), part)?;
    let host = doctor::measure(shop)?;
    let place = options.board.map_or_else(|| Place::suited_to(host), Place::Board);
    let running = match place {
        Place::Board(name) => on_a_board(shop, name, options, host)?,
        Place::Host => on_this_machine(shop, options)?,
    };
    if let Some(member) = &running.kept.member {
        shop.progress.say(&member.broker.words());
        let key = member.operator.key.display();
        let line = format!("cargo xtask ctl fleet run --key {key} restart-workload {NODE} --workload clock");
        shop.progress.say(&format!("and to be heard there: {line}"));
    }
    let (place, session) = (running.place, running.session);
    let seen = follow(session, options.exit_when_ready)?;
    if options.exit_when_ready {
        println!("ready on {place}; {seen}");
    }
    Ok(ExitCode::SUCCESS)
}

/// A box that was started, and what must stay as long as it runs.
struct Running {
    session: Session,
    /// For people.
    place: String,
    kept: Kept,
}

/// What goes with the box.
#[derive(Default)]
struct Kept {
    member: Option<Member>,
    _folder: Option<Lock>,
    _door: Option<Door>,
    _secrets: Option<NamedTempFile>,
}

/// A box's broker, and who may tell the box something there.
struct Member {
    broker: Broker,
    operator: Operator,
    /// Says to `ctl` where the broker is.
    note: PathBuf,
}

impl Member {
    fn new(shop: &Workshop) -> Result<Member, UpError> {
        let hearthctl = image::programs(shop, Arch::HOST)?.path("hearthctl");
        let operator = Operator::in_folder(&shop.cache.shelf("up")?, &hearthctl)?;
        let (broker, note) = (Broker::start(shop, broker::PORT_FOR_PEOPLE)?, broker_note(shop)?);
        fs::write(&note, broker.url()).map_err(|source| UpError::Write { path: note.clone(), source })?;
        Ok(Member { broker, operator, note })
    }

    fn config(&self, on_a_board: bool) -> String {
        format!("{}{}", self.broker.config(on_a_board, NODE), self.operator.config())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.note);
    }
}

/// Where the address is of the broker of the box that runs.
pub(crate) fn broker_note(shop: &Workshop) -> Result<PathBuf, CacheError> {
    Ok(shop.cache.shelf("up")?.join("broker"))
}

fn on_a_board(shop: &Workshop, name: Board, options: &Up, host: Kvm) -> Result<Running, UpError> {
    let member = options.broker.then(|| Member::new(shop)).transpose()?;
    let more = member.as_ref().map(|member| member.config(true));
    let config = options.config.as_deref();
    let image = board::build_with(shop, name, (&options.guest_kernel).into(), config, more.as_deref())?;
    // Who only waits for it to be ready asks nothing.
    let door = if options.exit_when_ready { None } else { open_door(shop, name, &image)? };
    let ways = Ways { door: door.as_ref(), broker: member.as_ref().map(|member| &member.broker) };
    let Started { session, accelerator, secrets } =
        board::start(name, &image, Pace::Real, host, &[], None, ways)?;
    let shown = Place::Board(name);
    shop.progress.say(&format!("{shown} ({accelerator}) is booting; Ctrl-C powers it off"));
    if door.is_some() {
        shop.progress.say(REACH);
    }
    let place = format!("board {name} in QEMU by {accelerator}");
    let kept = Kept { member, _door: door, _secrets: secrets, ..Kept::default() };
    Ok(Running { session, place, kept })
}

/// A way to the board's daemon; without one the board runs as well.
fn open_door(shop: &Workshop, name: Board, image: &BoardImage) -> Result<Option<Door>, UpError> {
    let hearthctl = name.arch().is_host().then_some(image.hearthctl.as_path());
    match Door::open(&places(shop)?.0, hearthctl) {
        Ok(door) => Ok(Some(door)),
        Err(error) => {
            shop.progress.say(&format!("cargo xtask ctl will not reach this box: {}", crate::chain(&error)));
            Ok(None)
        }
    }
}

/// Where the daemon of a board is reached from here, and where that of this machine itself is.
pub(crate) fn places(shop: &Workshop) -> Result<(door::Place, PathBuf), CacheError> {
    let folder = shop.cache.shelf("up")?;
    Ok((door::Place::in_folder(&folder), folder.join("state/api.sock")))
}

/// Passes the console through until the box ends; `until_ready` ends it as soon as it is ready.
fn follow(mut session: Session, until_ready: bool) -> Result<Seen, UpError> {
    let deadline = until_ready.then(|| Instant::now() + READY_PATIENCE);
    let mut seen = Seen::default();
    let mut complaint = None;
    loop {
        match session.next(deadline.filter(|_| seen.progress == Progress::Starting))? {
            Event::Line(line) => {
                let before = seen.progress.clone();
                seen.read(&line);
                if until_ready && seen.progress != before {
                    if let Progress::NotReady(words) = &seen.progress {
                        complaint = Some(UpError::NotReady(words.clone()));
                    }
                    session.power_off()?;
                }
            }
            Event::Deadline => {
                complaint = Some(UpError::NotInTime);
                seen.progress = Progress::NotReady(String::new());
                session.power_off()?;
            }
            Event::Ended(status) if until_ready && seen.progress == Progress::Starting => {
                return Err(UpError::EndedEarly { status });
            }
            Event::Ended(status) => {
                // What the box complained of is the reason why it ended as it did.
                let badly = (!status.success()).then_some(UpError::EndedBadly { status });
                return complaint.or(badly).map_or(Ok(seen), Err);
            }
        }
    }
}

/// The daemon right here, as whoever called: a guest without a network card needs no root.
fn on_this_machine(shop: &Workshop, options: &Up) -> Result<Running, UpError> {
    let programs = programs::build_static(shop, Arch::HOST, &["hearth-vmm", "hearth-supervisor"])?;
    let guest = guest_files::build(shop, Arch::HOST, (&options.guest_kernel).into())?;
    // Of all runs, one at a time has the folder, with the daemon's sockets in it.
    let lock = shop.cache.lock("up")?;
    let folder = shop.cache.shelf("up")?;
    let images = folder.join("images");
    let config = image::config_folder(shop, options.config.as_deref());
    let config = path::absolute(&config).map_err(|source| UpError::Write { path: config.clone(), source })?;
    let write = |path: &Path, result: io::Result<()>| {
        result.map_err(|source| UpError::Write { path: path.to_owned(), source })
    };
    write(&images, fs::create_dir_all(&images))?;
    let demo = images.join("demo.squashfs");
    // A copy that was cut short never has the name that guests boot from.
    let half = images.join("demo.squashfs.new");
    write(&half, fs::copy(&guest.demo, &half).and_then(|_| fs::rename(&half, &demo)))?;
    let member = options.broker.then(|| Member::new(shop)).transpose()?;
    let mut text = format!(
        "[paths]\nvmm = {}\nkernel = {}\ninitrd = {}\nimages = {}\nstate = {}\nworkloads = {}\n\
         [store]\nfolder = {}\n[logs]\nfolder = {}\n",
        toml_string(&programs.path("hearth-vmm")),
        toml_string(&guest.kernel),
        toml_string(&guest.initrd),
        toml_string(&images),
        toml_string(&folder.join("state")),
        toml_string(&config.join("workloads")),
        toml_string(&folder.join("store")),
        toml_string(&folder.join("logs")),
    );
    if let Some(member) = &member {
        let outbox = toml_string(&folder.join("outbox"));
        text.push_str(&format!("{}[fleet.outbox]\nfolder = {outbox}\n", member.config(false)));
    }
    let file = folder.join("hearth.toml");
    write(&file, fs::write(&file, text))?;
    let mut command = Command::new(programs.path("hearthd"));
    command.arg("--config").arg(&file);
    let session = Session::start(command, PowerOff::Terminate)?;
    shop.progress.say(REACH);
    let kept = Kept { member, _folder: Some(lock), ..Kept::default() };
    Ok(Running { session, place: "this machine itself".to_owned(), kept })
}

/// A path as a TOML basic string.
fn toml_string(path: &Path) -> String {
    let mut out = String::from('"');
    for character in path.to_string_lossy().chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(script: &str, until_ready: bool) -> Result<Seen, String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let session = Session::start(command, PowerOff::Terminate).unwrap();
        follow(session, until_ready).map_err(|error| error.to_string())
    }

    #[test]
    fn a_path_reads_back_as_itself_whatever_is_in_it() {
        let odd = Path::new("/a \"b\"\\c\u{7f}\u{1b}/ü'");
        let text = format!("[paths]\nvmm = {}\n", toml_string(odd));
        let read = hearth_config::device::DeviceConfig::parse("x", &text).unwrap();
        assert_eq!(read.paths.vmm, odd);
    }

    const READY: &str = "echo 'hearthd  | ready: 1 of 1 workloads'; while :; do :; done";

    #[test]
    fn a_box_that_ends_badly_is_an_error_that_says_how() {
        assert_eq!(end_of("exit 3", false).unwrap_err(), "the box ended badly (exit status: 3)");
        assert_eq!(end_of("kill -9 $$", false).unwrap_err(), "the box ended badly (signal: 9 (SIGKILL))");
        assert!(end_of("exit 0", false).is_ok());
    }

    #[test]
    fn ready_is_not_enough_if_the_box_then_ends_badly() {
        let stops_well = format!("trap 'exit 0' TERM; {READY}");
        assert!(end_of(&stops_well, true).is_ok());
        let stops_badly = format!("trap 'exit 4' TERM; {READY}");
        assert_eq!(end_of(&stops_badly, true).unwrap_err(), "the box ended badly (exit status: 4)");
        let early = "the box ended before it was ready (exit status: 0)";
        assert_eq!(end_of("exit 0", true).unwrap_err(), early);
    }
}

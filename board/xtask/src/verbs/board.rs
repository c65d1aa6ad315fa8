//! `board`: builds and boots whole machines in QEMU.

mod fleet;
mod plug;

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{self, ExitCode},
};

use hearth_image::Tree;
use tempfile::NamedTempFile;
use thiserror::Error;

use super::doctor::{self, DoctorError};
use crate::{
    boards::{
        Board, Kvm,
        box_config::{self, ConfigError, Part},
        broker::Broker,
        door::{Door, DoorError},
        guest_files::GuestKernelChoice,
        image::{self, BoardImage, BoardImageError, Extra},
        monitor::Monitor,
        nudge::Nudges,
        probe::{self, ProbeError},
        qemu::{Accelerator, Machine, Pace, nested_kvm},
        session::{Event, PowerOff, Session, SessionError},
        state_disk::{self, StateDiskError},
    },
    cli::BoardVerb,
    debian::packages::{self, Need, PackagesError},
    workshop::Workshop,
};

#[derive(Debug, Error)]
pub(crate) enum BoardError {
    #[error(transparent)]
    Packages(#[from] PackagesError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Image(#[from] BoardImageError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Doctor(#[from] DoctorError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    StateDisk(#[from] StateDiskError),
    #[error("after {cuts} power cuts: {words}")]
    Lost { cuts: u32, words: String },
    #[error(transparent)]
    Door(#[from] DoorError),
    #[error(transparent)]
    Fleet(#[from] fleet::FleetError),
    #[error("there is no place for a board's own files")]
    Scratch(#[source] io::Error),
}

pub(crate) fn run(shop: &Workshop, verb: &BoardVerb) -> Result<ExitCode, BoardError> {
    match verb {
        BoardVerb::Build { board, config, guest_kernel } => {
            let image = build(shop, *board, guest_kernel.into(), config.as_deref())?;
            println!("board {board}:");
            println!("  kernel     {} (Debian's {})", image.kernel.display(), image.kernel_release);
            println!(
                "  initramfs  {} (guest kernel: {})",
                image.initramfs.display(),
                image.guest_kernel_origin
            );
            Ok(ExitCode::SUCCESS)
        }
        BoardVerb::Run { board, config, guest_kernel, state, program } => {
            let image = build(shop, *board, guest_kernel.into(), config.as_deref())?;
            if let Some(state) = state {
                state_disk::provide(shop, state)?;
            }
            let host = doctor::measure(shop)?;
            let mut started =
                start(*board, &image, Pace::Real, host, program, state.as_deref(), Ways::default())?;
            loop {
                if let Event::Ended(status) = started.session.next(None)? {
                    return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
                }
            }
        }
        BoardVerb::Try { board, guest_kernel, counted, filter } => {
            let pace = if *counted { Pace::Counted } else { Pace::Real };
            try_out(shop, *board, guest_kernel.into(), pace, filter.as_deref())
        }
        BoardVerb::Hurt { board, filter } => hurt(shop, *board, filter.as_deref()),
        BoardVerb::Day { board } => day(shop, *board),
        BoardVerb::Fleet { board } => fleet::run(shop, *board),
        BoardVerb::Plug { board, times, seed } => plug::run(shop, *board, *times, *seed),
    }
}

/// Boots the board with the trials on it; success where all of them held.
fn try_out(
    shop: &Workshop,
    board: Board,
    guest_kernel: GuestKernelChoice,
    pace: Pace,
    filter: Option<&str>,
) -> Result<ExitCode, BoardError> {
    packages::require(shop, &[Need::Board(board.arch())])?;
    let image = probe::image(shop, board.arch(), guest_kernel)?;
    let mut program = vec![probe::PROGRAM.to_owned(), "try".to_owned()];
    if pace == Pace::Counted {
        program.push("--counted".to_owned());
    }
    program.extend(filter.map(str::to_owned));
    let started = start(board, &image, pace, doctor::measure(shop)?, &program, None, Ways::default())?;
    verdict(started.session, "trials: ")
}

/// Boots the board with something beside its daemon that hurts it; success where it healed each time.
fn hurt(shop: &Workshop, board: Board, filter: Option<&str>) -> Result<ExitCode, BoardError> {
    packages::require(shop, &[Need::Board(board.arch())])?;
    let image = probe::hurt_image(shop, board.arch())?;
    let disk = scratch_disk(shop)?;
    let mut program = ["--beside", probe::PROGRAM, "hurt"].map(str::to_owned).to_vec();
    program.extend(filter.map(str::to_owned));
    let host = doctor::measure(shop)?;
    let started = start(board, &image, Pace::Real, host, &program, Some(&disk.path), Ways::default())?;
    verdict(started.session, "faults: ")
}

/// Boots the board on the morning of a shop's day, whose load something beside its daemon makes; success where replicas were
/// there in time and all that is to hold held.
fn day(shop: &Workshop, board: Board) -> Result<ExitCode, BoardError> {
    packages::require(shop, &[Need::Board(board.arch())])?;
    let image = probe::day_image(shop, board.arch())?;
    let disk = scratch_disk(shop)?;
    let program = ["--beside", probe::PROGRAM, "day"].map(str::to_owned);
    let host = doctor::measure(shop)?;
    let started = start(board, &image, Pace::Counted, host, &program, Some(&disk.path), Ways::default())?;
    verdict(started.session, "day: ")
}

/// Follows the board to its end; success where a line that begins so said that nothing failed.
fn verdict(mut session: Session, total: &str) -> Result<ExitCode, BoardError> {
    let mut good = false;
    loop {
        match session.next(None)? {
            Event::Line(line) => good |= line.starts_with(total) && line.ends_with(" 0 failed"),
            Event::Deadline => {}
            Event::Ended(_) => return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        }
    }
}

/// A state disk that is gone with its last user.
struct ScratchDisk {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

fn scratch_disk(shop: &Workshop) -> Result<ScratchDisk, BoardError> {
    let folder = tempfile::tempdir().map_err(BoardError::Scratch)?;
    let path = folder.path().join("state");
    state_disk::provide(shop, &path)?;
    Ok(ScratchDisk { path, _folder: folder })
}

/// The image that `board` boots, built if need be, with all that QEMU needs installed.
pub(crate) fn build(
    shop: &Workshop,
    board: Board,
    guest_kernel: GuestKernelChoice,
    config: Option<&Path>,
) -> Result<BoardImage, BoardError> {
    build_with(shop, board, guest_kernel, config, None)
}

/// Likewise, with something more for `hearth.toml`.
pub(crate) fn build_with(
    shop: &Workshop,
    board: Board,
    guest_kernel: GuestKernelChoice,
    config: Option<&Path>,
    more: Option<&str>,
) -> Result<BoardImage, BoardError> {
    box_config::check(&image::config_folder(shop, config), Part::All)?;
    packages::require(shop, &[Need::Board(board.arch())])?;
    let files = |tree: &mut Tree| match more {
        Some(more) => tree.data("etc/hearth/hearth.d/more.toml", more),
        None => Ok(()),
    };
    Ok(image::build(shop, board.arch(), guest_kernel, config, Extra { modules: &[], files })?)
}

/// A board that was switched on.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) session: Session,
    pub(crate) accelerator: Accelerator,
    /// What it reads from; to be kept until it ends.
    pub(crate) secrets: Option<NamedTempFile>,
}

/// Ways between a board and this machine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ways<'a> {
    /// To its daemon.
    pub(crate) door: Option<&'a Door>,
    /// From its daemon.
    pub(crate) broker: Option<&'a Broker>,
}

/// Switches a board on. `host` is what this machine's own KVM is.
pub(crate) fn start(
    board: Board,
    image: &BoardImage,
    pace: Pace,
    host: Kvm,
    program: &[String],
    state: Option<&Path>,
    ways: Ways<'_>,
) -> Result<Started, BoardError> {
    let accelerator = Accelerator::for_board(board, host, nested_kvm(), pace);
    let (relay, join) = (ways.door.map(Door::token), ways.broker.map(Broker::join_command));
    let machine = Machine { board, image, accelerator, pace, program, state, relay, broker: join.as_deref() };
    let qmp = qmp_socket();
    let prepared = machine.prepare(&qmp)?;
    let mut session = Session::start(prepared.command, PowerOff::Button(qmp.clone()))?;
    if machine.loses_interrupts() {
        session.nudge(Nudges::at(Monitor::at(&qmp)));
    }
    if let Some(door) = ways.door {
        door.serve(&qmp)?;
    }
    Ok(Started { session, accelerator, secrets: prepared.secrets })
}

/// Not in the cache folder: the path of a Unix socket has room for a hundred bytes.
pub(crate) fn qmp_socket() -> PathBuf {
    env::temp_dir().join(format!("hearth-board-{}.qmp", process::id()))
}

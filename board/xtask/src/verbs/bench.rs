//! `bench`: measurements that compare across machines and days.
//!
//! Duty: put all contenders on one board, let the board race them, print the table.
//! Invariant: the board's clock counts instructions; no figure here depends on how fast this machine is.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use hearth_image::{Tree, TreeFault, guest_initrd};
use thiserror::Error;

use super::board;
use crate::{
    arch::Arch,
    bench::{
        contenders::{self, COMMAND_LINE, CONFIG, Contender, ContendersError, GUEST_MIB, INITRD, KERNEL},
        results::Results,
    },
    boards::{
        Board, Kvm,
        guest_files::GuestKernelChoice,
        image::{self, BoardImageError},
        image_file::{self, Format, ImageFileError},
        qemu::{Accelerator, Machine, Pace},
        session::{Event, PowerOff, Session, SessionError},
    },
    cli::Bench,
    debian::packages::{self, Need, PackagesError},
    programs::{self, ProgramsError},
    workshop::Workshop,
};

/// Runs of each contender that count. Instruction counts differ by under 1 % from run to run.
const ROUNDS: usize = 5;
/// Wall-clock time without a finished run after which the race is given up. Before the first run come the board's
/// own boot and a round that is not told; a slow machine that counts instructions takes a few minutes for them.
const RUN_PATIENCE: Duration = Duration::from_secs(30 * 60);
/// The stopwatch, on the board and in the guests.
const STOPWATCH: &str = "hearth-probe";
const PLAN: &str = "/bench/plan";

#[derive(Debug, Error)]
pub(crate) enum BenchError {
    #[error(transparent)]
    Packages(#[from] PackagesError),
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    #[error(transparent)]
    Contenders(#[from] ContendersError),
    #[error(transparent)]
    Tree(#[from] TreeFault),
    #[error(transparent)]
    ImageFile(#[from] ImageFileError),
    #[error(transparent)]
    Image(#[from] BoardImageError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("cannot {what} {}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("`bench boot` needs an x86_64 machine for QEMU's microvm, and this is {0}")]
    WrongArch(Arch),
    #[error("the race stands still: waited {} min for run {run} of {contender}", RUN_PATIENCE.as_secs() / 60)]
    Stalled { run: usize, contender: String },
    #[error("the race did not end; what the board's console says above is why")]
    Incomplete,
}

pub(crate) fn run(shop: &Workshop, verb: &Bench) -> Result<ExitCode, BenchError> {
    let Bench::Boot { peers, json } = verb;
    if Arch::HOST != Arch::X86_64 {
        return Err(BenchError::WrongArch(Arch::HOST));
    }
    packages::require(shop, &[Need::Board(Arch::HOST)])?;
    let ours = programs::build_static(shop, Arch::HOST, &["hearth-vmm"])?.path("hearth-vmm");
    let contenders = contenders::line_up(ours, true, peers)?;
    let mut results = race(shop, &contenders)?;
    if !results.complete(ROUNDS) {
        return Err(BenchError::Incomplete);
    }
    println!();
    println!(
        "exec to the workload's READY, and memory besides the guest's: same kernel, initramfs and command line,\n\
         {GUEST_MIB} MiB, 1 vCPU, serial console; {ROUNDS} runs each in one boot; a millisecond is a million \
         instructions\n"
    );
    print!("{results}");
    if let Some(path) = json {
        let failed = |source| BenchError::File { what: "write", path: path.clone(), source };
        fs::write(path, std::mem::take(&mut results).to_json()).map_err(failed)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn race(shop: &Workshop, contenders: &[Contender]) -> Result<Results, BenchError> {
    let board = Board::QemuX86_64;
    let built = programs::build_static(shop, board.arch(), &["hearth-agent", "hearth-tests"])?;
    let stopwatch = built.path(STOPWATCH);
    let mut guest = guest_initrd(&built.path("hearth-agent"))?;
    guest.program("bin/ready", stopwatch.as_path())?;
    guest.data("etc/hearth/workload.toml", "command = [\"/bin/ready\", \"guest\", \"ready\"]\n")?;
    let initrd = image_file::write(shop, "bench-initrd", Format::Cpio, &guest)?;
    let image = image::build(shop, board.arch(), GuestKernelChoice::Own, None, |tree| {
        tree.program("usr/bin/hearth-probe", stopwatch.as_path())?;
        add_race(tree, &initrd, contenders)
    })?;

    let sizes = contenders.iter().map(|contender| Ok((contender.name.clone(), size(&contender.program)?)));
    let mut results = Results::new(sizes.collect::<Result<Vec<_>, BenchError>>()?);
    let program = [format!("/usr/bin/{STOPWATCH}"), "boot".into(), PLAN.into()];
    let accelerator = Accelerator::for_board(board, Kvm::Absent, false, Pace::Counted);
    let machine = Machine { board, image: &image, accelerator, pace: Pace::Counted, program: &program };
    let qmp = board::qmp_socket();
    let mut session = Session::start(machine.command(&qmp), PowerOff::Button(qmp))?;
    shop.progress.say("racing on a board that counts instructions");
    let mut deadline = Instant::now() + RUN_PATIENCE;
    loop {
        match session.next(Some(deadline))? {
            Event::Line(line) if results.read(&line) => deadline = Instant::now() + RUN_PATIENCE,
            // A board that repeats itself for ever stands still, too.
            Event::Line(_) if Instant::now() < deadline => {}
            // The board is killed with its session: it has nothing to lose.
            Event::Deadline | Event::Line(_) => {
                let (run, contender) = results.awaited().unwrap_or_default();
                return Err(BenchError::Stalled { run, contender: contender.to_owned() });
            }
            Event::Ended(_) => return Ok(results),
        }
    }
}

/// The plan, what the guests boot, and every contender's files under their own paths.
fn add_race(tree: &mut Tree, initrd: &Path, contenders: &[Contender]) -> Result<(), TreeFault> {
    let below = |path: &Path| path.strip_prefix("/").unwrap_or(path).to_string_lossy().into_owned();
    tree.data(&below(Path::new(INITRD)), initrd)?;
    let config = format!(
        "[machine]\nmemory_mib = {GUEST_MIB}\n[boot]\nkernel = {KERNEL:?}\ninitrd = {INITRD:?}\ncmdline = {COMMAND_LINE:?}\n"
    );
    tree.data(&below(Path::new(CONFIG)), config.as_str())?;
    let mut plan = format!("rounds {ROUNDS}\nguest_mib {GUEST_MIB}\n");
    for contender in contenders {
        plan.push_str(&format!("contender {}\n", contender.name));
        for word in &contender.words {
            plan.push_str(&format!("word {word}\n"));
        }
        for file in &contender.files {
            if tree.get(&below(file)).is_none() {
                tree.program(&below(file), file.as_path())?;
            }
        }
    }
    tree.data(&below(Path::new(PLAN)), plan.as_str())
}

fn size(path: &Path) -> Result<u64, BenchError> {
    let failed = |source| BenchError::File { what: "look at", path: path.to_owned(), source };
    Ok(fs::metadata(path).map_err(failed)?.len())
}

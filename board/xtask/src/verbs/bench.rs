//! `bench`: measurements that compare across machines and days.
//!
//! Duty: put all contenders on one board, let the board race them, print the table.
//! Not here: what the programs of predictor, outbox and fleet measure. Invariant: the boards' clock counts instructions; no figure of a
//! race depends on how fast this machine is.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use hearth_image::{Tree, TreeFault, guest_initrd};
use thiserror::Error;

use super::{board, fleet, outbox, predict};
use crate::{
    arch::Arch,
    bench::{
        contenders::{
            self, COMMAND_LINE, CONFIG, Contender, ContendersError, DEFAULT, DEFAULT_CONFIG, DEFAULT_CONTROL,
            GUEST_MIB, INITRD, KERNEL, OURS, PROBE_INITRD, WORK_CONFIG, WORK_DISK, WORK_SOCKET, WORK_TAP,
        },
        daemon::DaemonFigures,
        promises::{Promise, Promises},
        recovery::{self, Recovery},
        results::Results,
        snapshots::SnapshotFigures,
        work::Work,
    },
    boards::{
        Board, Kvm,
        guest_files::GuestKernelChoice,
        image::BoardImage,
        image::Extra,
        image_file::{self, Format, ImageFileError},
        probe::{self, ProbeError},
        qemu::{Accelerator, Machine, Pace},
        session::{Event, PowerOff, Session, SessionError},
        state_disk::{self, StateDiskError},
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
/// The workload of the boot race.
const READY: &str = "hearth-ready";
/// What the quickest monitor that we know of takes from exec to READY on such a board, in milliseconds.
const LEADING_PEER_MS: u64 = 122;
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
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Predict(#[from] predict::PredictError),
    #[error(transparent)]
    Outbox(#[from] outbox::OutboxError),
    #[error(transparent)]
    Fleet(#[from] fleet::FleetError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    StateDisk(#[from] StateDiskError),
    #[error("cannot {what} {}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "measuring needs an x86_64 machine, and this is {0}: the board that counts instructions has its kind"
    )]
    WrongArch(Arch),
    #[error("the race stands still: waited {} min for run {run} of {contender}", RUN_PATIENCE.as_secs() / 60)]
    Stalled { run: usize, contender: String },
    #[error("the board stands still: no figure for {} min", RUN_PATIENCE.as_secs() / 60)]
    StandsStill,
    #[error("the race did not end; what the board's console says above is why")]
    Incomplete,
}

pub(crate) fn run(shop: &Workshop, verb: &Bench) -> Result<ExitCode, BenchError> {
    match verb {
        Bench::Boot { peers, json } => boot(shop, monitor(shop)?, peers, json.as_deref()),
        Bench::Vmm { json } => vmm(shop, &monitor(shop)?, json.as_deref()),
        Bench::Snapshot { json } => snapshot(shop, json.as_deref()),
        Bench::Daemon { board, json } => daemon(shop, *board, json.as_deref()),
        Bench::Recovery { board, lines } => recovery(shop, *board, lines.as_deref()),
        Bench::Fleet { boxes } => Ok(fleet::run(shop, *boxes)?),
        Bench::Outbox { folder } => Ok(outbox::run(shop, folder.as_deref())?),
        Bench::Predict { words } => Ok(predict::run(shop, words)?),
    }
}

/// Our contender, and all that a race needs.
fn monitor(shop: &Workshop) -> Result<PathBuf, BenchError> {
    if Arch::HOST != Arch::X86_64 {
        return Err(BenchError::WrongArch(Arch::HOST));
    }
    packages::require(shop, &[Need::Board(Arch::HOST)])?;
    Ok(programs::build_static(shop, Arch::HOST, &["hearth-vmm"])?.path("hearth-vmm"))
}

fn boot(
    shop: &Workshop,
    ours: PathBuf,
    peers: &[String],
    json: Option<&Path>,
) -> Result<ExitCode, BenchError> {
    let field = Field { contenders: contenders::line_up(ours, true, peers)?, workers: Vec::new() };
    let figures = race(shop, &field)?;
    println!("\n{}", legend());
    print!("{}", figures.boot);
    write_json(json, &figures.boot.to_json())?;
    Ok(ExitCode::SUCCESS)
}

/// All that the monitor promises, with a table of what is kept. The status says that it was measured, not that all
/// of it is.
fn vmm(shop: &Workshop, ours: &Path, json: Option<&Path>) -> Result<ExitCode, BenchError> {
    let program_bytes = size(ours)?;
    let mut contenders = contenders::line_up(ours.to_owned(), true, &[])?;
    contenders.push(contenders::hearth_default(ours.to_owned()));
    let workers = vec![contenders::hearth_worker(ours.to_owned()), contenders::qemu_worker()?];
    let figures = race(shop, &Field { contenders, workers })?;
    println!("\n{}", legend());
    println!("{}", figures.boot);
    println!("{}", figures.work);
    print!("{}", promises(&figures, program_bytes));
    let (boot, work) = (figures.boot.to_json(), figures.work.to_json());
    let boot = boot.trim_end().trim_end_matches('}');
    write_json(json, &format!("{boot},\"work\":{work}}}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// What snapshots cost, on the board and with the guests that trials have.
fn snapshot(shop: &Workshop, json: Option<&Path>) -> Result<ExitCode, BenchError> {
    let board = Board::QemuX86_64;
    if Arch::HOST != board.arch() {
        return Err(BenchError::WrongArch(Arch::HOST));
    }
    packages::require(shop, &[Need::Board(board.arch())])?;
    let image = probe::image(shop, board.arch(), GuestKernelChoice::Own)?;
    let mut figures = SnapshotFigures::default();
    shop.progress.say("measuring on a board that counts instructions");
    let program = [probe::PROGRAM.into(), "snapshots".into()];
    match measure(board, &image, &program, None, |line| figures.0.read(line))? {
        Finish::Ended if figures.complete() => {}
        Finish::Ended => return Err(BenchError::Incomplete),
        Finish::StandsStill => return Err(BenchError::StandsStill),
    }
    println!("\n128 MiB, 1 vCPU, virtio console, vsock; a millisecond is a million instructions\n");
    print!("{figures}");
    write_json(json, &figures.0.to_json())?;
    Ok(ExitCode::SUCCESS)
}

/// What the daemon costs, on the box that is hurt on purpose.
fn daemon(shop: &Workshop, board: Board, json: Option<&Path>) -> Result<ExitCode, BenchError> {
    packages::require(shop, &[Need::Board(board.arch())])?;
    let image = probe::hurt_image(shop, board.arch())?;
    let mut figures = DaemonFigures::default();
    shop.progress.say("measuring on a board that counts instructions");
    let program = ["--beside", probe::PROGRAM, "care"].map(str::to_owned);
    match measure(board, &image, &program, None, |line| figures.0.read(line))? {
        Finish::Ended if figures.complete() => {}
        Finish::Ended => return Err(BenchError::Incomplete),
        Finish::StandsStill => return Err(BenchError::StandsStill),
    }
    println!("\nten workloads of 48 MiB, 1 vCPU each; a millisecond is a million instructions\n");
    print!("{figures}");
    write_json(json, &figures.0.to_json())?;
    Ok(ExitCode::SUCCESS)
}

/// How soon boxes heal that differ in nothing but the order in which they try.
fn recovery(shop: &Workshop, board: Board, lines: Option<&Path>) -> Result<ExitCode, BenchError> {
    packages::require(shop, &[Need::Board(board.arch())])?;
    let folder = tempfile::tempdir().map_err(|source| BenchError::File {
        what: "make a folder in",
        path: std::env::temp_dir(),
        source,
    })?;
    let mut recovery = Recovery::default();
    for order in recovery::ORDERS {
        let image = probe::recovery_image(shop, board.arch(), order)?;
        let disk = folder.path().join(order);
        state_disk::provide(shop, &disk)?;
        shop.progress.say(&format!("healing by {order} on a board that counts instructions"));
        let program = ["--beside", probe::PROGRAM, "recover"].map(str::to_owned);
        match measure(board, &image, &program, Some(&disk), |line| recovery.read(order, line))? {
            Finish::Ended if recovery.complete(order) => {}
            Finish::Ended => return Err(BenchError::Incomplete),
            Finish::StandsStill => return Err(BenchError::StandsStill),
        }
    }
    println!(
        "\nfive workloads of 48 MiB, 1 vCPU each, asked for their health every 3 s; a second is a billion instructions\n"
    );
    print!("{recovery}");
    write_json(lines, &recovery.lines())?;
    Ok(ExitCode::SUCCESS)
}

fn legend() -> String {
    format!(
        "exec to the workload's READY, and memory besides the guest's: same kernel, initramfs and command line,\n\
         {GUEST_MIB} MiB, 1 vCPU, serial console; {ROUNDS} runs each in one boot; a millisecond is a million \
         instructions\n"
    )
}

/// The budgets of the specification beside these figures.
fn promises(figures: &Figures, program_bytes: u64) -> Promises {
    let hundredth_ms = |ns: u64| ns / 10_000;
    let ready = |name| figures.boot.ready_ns(name).map(hundredth_ms);
    let footprint = figures.work.footprint(OURS);
    let mut list = vec![
        Promise {
            what: "exec to the guest's first instruction, our defaults".into(),
            unit: "ms",
            measured: figures.boot.entry_ns(DEFAULT).map(hundredth_ms),
            at_most: 2 * 100,
        },
        Promise {
            what: "exec to READY, serial console; 0.7 of the leading peer".into(),
            unit: "ms",
            measured: ready(OURS),
            at_most: LEADING_PEER_MS * 70,
        },
        Promise {
            what: "exec to READY, our defaults; 0.5 of the leading peer".into(),
            unit: "ms",
            measured: ready(DEFAULT),
            at_most: LEADING_PEER_MS * 50,
        },
        Promise {
            what: "private memory with net, block and vsock".into(),
            unit: "KiB",
            measured: footprint.map(|footprint| footprint.private_kib * 100),
            at_most: 2048 * 100,
        },
        Promise {
            what: "threads with one vCPU".into(),
            unit: "threads",
            measured: footprint.map(|footprint| footprint.threads * 100),
            at_most: 2 * 100,
        },
        Promise {
            what: "program, static, stripped".into(),
            unit: "KiB",
            measured: Some(program_bytes * 100 / 1024),
            at_most: 1536 * 100,
        },
    ];
    list.extend(figures.work.ratios().into_iter().map(|(kind, ours, peer)| Promise {
        what: kind,
        unit: "of QEMU's instructions",
        measured: Some(ours * 100 / peer.max(1)),
        at_most: 100,
    }));
    Promises(list)
}

fn write_json(path: Option<&Path>, text: &str) -> Result<(), BenchError> {
    let Some(path) = path else { return Ok(()) };
    fs::write(path, text).map_err(|source| BenchError::File { what: "write", path: path.to_owned(), source })
}

/// Who takes part in what.
struct Field {
    contenders: Vec<Contender>,
    workers: Vec<Contender>,
}

struct Figures {
    boot: Results,
    work: Work,
}

impl Figures {
    fn read(&mut self, line: &str) -> bool {
        self.boot.read(line) || self.work.read(line)
    }
}

fn race(shop: &Workshop, field: &Field) -> Result<Figures, BenchError> {
    let board = Board::QemuX86_64;
    let built = programs::build_static(shop, board.arch(), &["hearth-agent", "hearth-tests"])?;
    let mut guest = guest_initrd(&built.path("hearth-agent"))?;
    guest.program("bin/ready", built.path(READY).as_path())?;
    guest.data("etc/hearth/workload.toml", "command = [\"/bin/ready\"]\n")?;
    let initrd = image_file::write(shop, "bench-initrd", Format::Cpio, &guest)?;
    let files = |tree: &mut Tree| add_race(tree, &initrd, field);
    let extra = Extra { modules: probe::VHOST_VSOCK, files };
    let image = probe::image_with(shop, board.arch(), GuestKernelChoice::Own, None, extra)?;

    let sizes =
        field.contenders.iter().map(|contender| Ok((contender.name.clone(), size(&contender.program)?)));
    let mut figures = Figures {
        boot: Results::new(sizes.collect::<Result<Vec<_>, BenchError>>()?),
        work: Work::new(field.workers.iter().map(|worker| worker.name.clone())),
    };
    let verb = if field.workers.is_empty() { "boot" } else { "vmm" };
    let program = [probe::PROGRAM.into(), verb.into(), PLAN.into()];
    shop.progress.say("racing on a board that counts instructions");
    match measure(board, &image, &program, None, |line| figures.read(line))? {
        Finish::Ended if figures.boot.complete(ROUNDS) && figures.work.complete() => Ok(figures),
        Finish::Ended => Err(BenchError::Incomplete),
        Finish::StandsStill => Err(stalled(&figures)),
    }
}

/// How a measurement came to its end.
enum Finish {
    Ended,
    StandsStill,
}

/// Runs `program` in the daemon's place on a board that counts instructions, with `state` for its disk if there is one. `take` is given each line, and says
/// whether it was a figure: a board that gives none for long stands still.
fn measure(
    board: Board,
    image: &BoardImage,
    program: &[String],
    state: Option<&Path>,
    mut take: impl FnMut(&str) -> bool,
) -> Result<Finish, BenchError> {
    let accelerator = Accelerator::for_board(board, Kvm::Absent, false, Pace::Counted);
    let machine =
        Machine { board, image, accelerator, pace: Pace::Counted, program, state, relay: None, broker: None };
    let qmp = board::qmp_socket();
    let prepared = machine.prepare(&qmp)?;
    let mut session = Session::start(prepared.command, PowerOff::Button(qmp))?;
    let mut deadline = Instant::now() + RUN_PATIENCE;
    loop {
        match session.next(Some(deadline))? {
            Event::Line(line) if take(&line) => deadline = Instant::now() + RUN_PATIENCE,
            // A board that repeats itself for ever stands still, too.
            Event::Line(_) if Instant::now() < deadline => {}
            // The board is killed with its session: it has nothing to lose.
            Event::Deadline | Event::Line(_) => return Ok(Finish::StandsStill),
            Event::Ended(_) => return Ok(Finish::Ended),
        }
    }
}

fn stalled(figures: &Figures) -> BenchError {
    if figures.boot.complete(ROUNDS) {
        let contender = figures.work.awaited().unwrap_or_default().to_owned();
        return BenchError::Stalled { run: 1, contender };
    }
    let (run, contender) = figures.boot.awaited().unwrap_or_default();
    BenchError::Stalled { run, contender: contender.to_owned() }
}

/// The plan, what the guests boot, and every contender's files under their own paths.
fn add_race(tree: &mut Tree, initrd: &Path, field: &Field) -> Result<(), TreeFault> {
    let below = |path: &Path| path.strip_prefix("/").unwrap_or(path).to_string_lossy().into_owned();
    tree.data(&below(Path::new(INITRD)), initrd)?;
    let config = |initrd: &str, cmdline: &str, sections: &str| {
        format!(
            "[machine]\nmemory_mib = {GUEST_MIB}\n[boot]\nkernel = {KERNEL:?}\ninitrd = {initrd:?}\n\
             cmdline = {cmdline:?}\n{sections}"
        )
    };
    tree.data(&below(Path::new(CONFIG)), config(INITRD, COMMAND_LINE, "").as_str())?;
    let default = config(
        INITRD,
        &COMMAND_LINE.replace("ttyS0", "hvc0"),
        &format!(
            "[serial]\noutput = \"off\"\n[console]\noutput = \"stdout\"\n[control]\nsocket = {DEFAULT_CONTROL:?}\n"
        ),
    );
    tree.data(&below(Path::new(DEFAULT_CONFIG)), default.as_str())?;
    let work = config(
        PROBE_INITRD,
        &contenders::work_command_line(),
        &format!(
            "[[block]]\nid = \"disk\"\npath = {WORK_DISK:?}\n[[net]]\nid = \"net\"\ntap = {WORK_TAP:?}\n\
             [vsock]\ncid = 3\nsocket = {WORK_SOCKET:?}\n"
        ),
    );
    tree.data(&below(Path::new(WORK_CONFIG)), work.as_str())?;
    let mut plan = format!("rounds {ROUNDS}\nguest_mib {GUEST_MIB}\n");
    let contenders = field.contenders.iter().map(|contender| ("contender", contender));
    let workers = field.workers.iter().map(|worker| ("worker", worker));
    for (role, contender) in contenders.chain(workers) {
        plan.push_str(&format!("{role} {}\n", contender.name));
        if let Some(control) = contender.control {
            plan.push_str(&format!("control {control}\n"));
        }
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

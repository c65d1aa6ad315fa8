//! `fuzz`: libFuzzer on everything that reads what others wrote.
//!
//! Duty: build the targets of `tests/fuzz` with coverage, run them one after the other, and tell what they found. Not
//! here: the targets. Invariant: each runs within bounds of time and memory, what it learnt stays in the cache folder,
//! and a finding is a file that the same verb plays again.
//!
//! The compiler is the usual one. LLVM's pass that counts edges is part of every rustc, and what libFuzzer is made of
//! comes with a crate, as C++; so this needs neither a nightly compiler nor `cargo fuzz`, which finds its way around in
//! `tests/fuzz` all the same.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use thiserror::Error;

use crate::{
    arch::Arch,
    cache::CacheError,
    cli,
    command::{self, CommandError},
    debian::packages::{self, Need, PackagesError},
    programs,
    workshop::Workshop,
};

/// The package with the targets, and the folder with a file for each.
const PACKAGE: &str = "hearth-fuzz";
const TARGETS: &str = "tests/fuzz/fuzz_targets";
/// The feature that has their programs compiled in, and their profile.
const FEATURE: &str = "libfuzzer";
const PROFILE: &str = "fuzz";
/// Where a target puts its seeds.
const SEEDS_VARIABLE: &str = "HEARTH_FUZZ_SEEDS";
/// How the compiler counts edges and shows comparisons to libFuzzer.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// Bytes of an input: enough for a hundred steps of a guest.
const LONGEST_INPUT: u32 = 4096;
/// One input takes some microseconds; one that takes this many seconds hangs.
const INPUT_SECONDS: u32 = 10;
/// What a target may take, its corpus and its guest's RAM included. A guest that makes the monitor grow shows by it.
const MEMORY_MIB: u32 = 1024;
/// Targets at a time: a second worker for a second processor. More would be in the way of whoever waits for them.
const WORKERS: usize = 2;
/// How often the line on the terminal is looked at.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Error)]
pub(crate) enum FuzzError {
    #[error(transparent)]
    Packages(#[from] PackagesError),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("no target {name}, expected one of: {all}")]
    NoTarget { name: String, all: String },
    #[error("cannot {what} {}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FuzzError + use<'a> {
    move |source| FuzzError::File { what, path: path.to_owned(), source }
}

/// What libFuzzer tells of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Figures {
    inputs: u64,
    /// Edges of the program that some input took.
    coverage: u64,
    /// Inputs that are worth keeping.
    corpus: u64,
}

/// How a target's run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Clean,
    /// An input that breaks a promise.
    Finding(PathBuf),
    /// Neither: it could not run.
    Failed(ExitStatus),
}

#[derive(Debug)]
struct Row {
    target: String,
    figures: Figures,
    end: End,
    log: PathBuf,
}

/// What workers share.
#[derive(Debug, Default)]
struct Board {
    waiting: VecDeque<String>,
    /// Inputs so far, of targets that are done and of those that run.
    done: Vec<Row>,
    running: Vec<(String, Figures)>,
    trouble: Option<FuzzError>,
}

pub(crate) fn run(shop: &Workshop, options: &cli::Fuzz) -> Result<ExitCode, FuzzError> {
    let targets = chosen(all_targets(shop)?, options.target.as_deref())?;
    packages::require(shop, &[Need::Fuzzer])?;
    let folder = build(shop, &targets)?;
    if let Some(input) = &options.input {
        let program = folder.join(&targets[0]);
        let status = Command::new(&program).arg(input).status().map_err(failed("run", &program))?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let rows = campaign(shop, &folder, targets, options)?;
    println!("{}", table(&rows));
    let findings = rows.iter().filter(|row| row.end != End::Clean).count();
    for row in &rows {
        match &row.end {
            End::Clean => {}
            End::Finding(input) => {
                println!("again: cargo xtask fuzz {} {}", row.target, input.display());
            }
            End::Failed(status) => println!("{} ended with {status}; log: {}", row.target, row.log.display()),
        }
    }
    Ok(if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every target has a file.
fn all_targets(shop: &Workshop) -> Result<Vec<String>, FuzzError> {
    let folder = shop.path(TARGETS);
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed("list", &folder))? {
        let path = entry.map_err(failed("list", &folder))?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn chosen(all: Vec<String>, wanted: Option<&str>) -> Result<Vec<String>, FuzzError> {
    match wanted {
        None => Ok(all),
        Some(name) if all.iter().any(|one| one == name) => Ok(vec![name.to_owned()]),
        Some(name) => Err(FuzzError::NoTarget { name: name.to_owned(), all: all.join(", ") }),
    }
}

/// Builds the programs of `targets`; the folder that they are in.
fn build(shop: &Workshop, targets: &[String]) -> Result<PathBuf, FuzzError> {
    let triple = Arch::HOST.rust_target();
    let mut command = shop.cargo();
    command.args(["build", "--package", PACKAGE, "--features", FEATURE]);
    command.args(["--profile", PROFILE, "--target", triple]);
    command.args(targets.iter().flat_map(|target| ["--bin", target]));
    // With a target named, these reach neither build scripts nor macros.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.env(programs::target_variable(Arch::HOST, "RUSTFLAGS"), COVERAGE.join(" "));
    shop.cargo_job("fuzz targets", "fuzz-build").run(command)?;
    Ok(shop.target().join(triple).join(PROFILE))
}

/// Runs all targets, each for its time, and gives a row for each in their order.
fn campaign(
    shop: &Workshop,
    folder: &Path,
    targets: Vec<String>,
    options: &cli::Fuzz,
) -> Result<Vec<Row>, FuzzError> {
    let available = thread::available_parallelism().map_or(1, usize::from).min(WORKERS);
    let workers = options.jobs.map_or(available, usize::from).min(targets.len());
    let title = format!("fuzzing, {} min each, {workers} at a time", options.minutes);
    let order = targets.clone();
    let board = Mutex::new(Board { waiting: targets.into(), ..Board::default() });
    let mut task = shop.progress.task(&title, "inputs");
    thread::scope(|scope| {
        let work = || {
            while let Some(target) = next(&board) {
                match fuzz(shop, folder, &target, options.minutes, &board) {
                    Ok(row) => {
                        shop.progress.say(&line(&row));
                        let mut board = lock(&board);
                        board.running.retain(|(name, _)| *name != target);
                        board.done.push(row);
                    }
                    Err(error) => {
                        let mut board = lock(&board);
                        board.waiting.clear();
                        board.trouble.get_or_insert(error);
                    }
                }
            }
        };
        let all: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        while all.iter().any(|worker| !worker.is_finished()) {
            thread::sleep(LOOK);
            let board = lock(&board);
            let inputs =
                board.done.iter().map(|row| row.figures).chain(board.running.iter().map(|(_, f)| *f));
            task.count(
                usize::try_from(inputs.map(|figures| figures.inputs).sum::<u64>()).unwrap_or(usize::MAX),
            );
            drop(board);
            task.refresh();
        }
    });
    task.done();
    let mut board = board.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = board.trouble {
        return Err(error);
    }
    board.done.sort_by_key(|row| order.iter().position(|target| *target == row.target));
    Ok(board.done)
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

fn next(board: &Mutex<Board>) -> Option<String> {
    let mut board = lock(board);
    let target = board.waiting.pop_front()?;
    board.running.push((target.clone(), Figures::default()));
    Some(target)
}

/// One target for its time.
fn fuzz(
    shop: &Workshop,
    folder: &Path,
    target: &str,
    minutes: u32,
    board: &Mutex<Board>,
) -> Result<Row, FuzzError> {
    let shelf = |part| shop.cache.shelf(&format!("fuzz/{target}/{part}"));
    let (corpus, seeds, findings) = (shelf("corpus")?, shelf("seeds")?, shelf("findings")?);
    let path = shop.cache.log_path(&format!("fuzz-{target}"))?;
    let mut log = File::create(&path).map_err(failed("write", &path))?;
    let program = folder.join(target);
    let mut command = Command::new(&program);
    command
        .args([&corpus, &seeds])
        .arg(format!("-max_total_time={}", minutes * 60))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        // Of inputs that are slow and no more than that nothing is said: on a busy machine any may be.
        .arg(format!("-report_slow_units={}", minutes * 60))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .arg(format!("-max_len={LONGEST_INPUT}"))
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .arg("-print_final_stats=1")
        .env(SEEDS_VARIABLE, &seeds)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    writeln!(log, "$ {}", command::shown(&command)).map_err(failed("write", &path))?;
    let mut child = command.spawn().map_err(failed("run", &program))?;
    let (mut figures, mut finding) = (Figures::default(), None);
    for line in child.stderr.take().into_iter().flat_map(|stderr| BufReader::new(stderr).split(b'\n')) {
        let line = String::from_utf8_lossy(&line.map_err(failed("hear", &program))?).into_owned();
        writeln!(log, "{line}").map_err(failed("write", &path))?;
        figures = told(figures, &line);
        finding =
            finding.or_else(|| line.split_once("Test unit written to ").map(|(_, at)| PathBuf::from(at)));
        lock(board).running.iter_mut().filter(|(name, _)| name == target).for_each(|(_, now)| *now = figures);
    }
    let status = child.wait().map_err(failed("wait for", &program))?;
    let end = match finding {
        Some(input) => End::Finding(input),
        None if status.success() => End::Clean,
        None => End::Failed(status),
    };
    Ok(Row { target: target.to_owned(), figures, end, log: path })
}

/// What a line of libFuzzer's says, such as `#8192 pulse cov: 12 ft: 30 corp: 6/31b lim: 80 exec/s: 4096 rss: 27Mb`.
fn told(before: Figures, line: &str) -> Figures {
    let number = |text: &str| text.split('/').next().and_then(|text| text.parse().ok());
    let mut now = before;
    if let Some(inputs) = line.strip_prefix("stat::number_of_executed_units:").map(str::trim).and_then(number)
    {
        now.inputs = inputs;
    } else if let Some(rest) = line.strip_prefix('#') {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let behind = |name: &str| {
            let place = words.iter().position(|word| *word == name)?;
            words.get(place + 1).copied().and_then(number)
        };
        now.inputs = words.first().copied().and_then(number).unwrap_or(now.inputs);
        now.coverage = behind("cov:").unwrap_or(now.coverage);
        now.corpus = behind("corp:").unwrap_or(now.corpus);
    }
    now
}

fn line(row: &Row) -> String {
    let Figures { inputs, coverage, corpus } = row.figures;
    let end = match row.end {
        End::Clean => "nothing",
        End::Finding(_) => "A FINDING",
        End::Failed(_) => "DID NOT RUN",
    };
    format!("{:<10} {inputs:>12} {coverage:>9} {corpus:>7}  {end}", row.target)
}

fn table(rows: &[Row]) -> String {
    let mut lines =
        vec![format!("{:<10} {:>12} {:>9} {:>7}  {}", "target", "inputs", "coverage", "corpus", "found")];
    lines.extend(rows.iter().map(line));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libfuzzers_lines_are_read() {
        let mut figures = Figures::default();
        for line in [
            "INFO: Seed: 123",
            "#2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 27Mb",
            "#4194304\tpulse  cov: 12 ft: 30 corp: 6/31b lim: 4096 exec/s: 1398101 rss: 27Mb",
            "Done 24270462 runs in 21 second(s)",
            "stat::number_of_executed_units: 24270462",
        ] {
            figures = told(figures, line);
        }
        assert_eq!(figures, Figures { inputs: 24_270_462, coverage: 12, corpus: 6 });
    }

    #[test]
    fn a_name_that_is_no_target_is_answered_with_those_that_are() {
        let all = || vec!["block".to_owned(), "net".to_owned()];
        assert_eq!(chosen(all(), None).unwrap(), all());
        assert_eq!(chosen(all(), Some("net")).unwrap(), ["net"]);
        let said = chosen(all(), Some("nat")).unwrap_err().to_string();
        assert_eq!(said, "no target nat, expected one of: block, net");
    }

    #[test]
    fn a_finding_is_seen_in_the_table() {
        let figures = Figures { inputs: 7, coverage: 8, corpus: 9 };
        let row = |target: &str, end| Row { target: target.into(), figures, end, log: PathBuf::new() };
        let text = table(&[row("net", End::Clean), row("block", End::Finding("x".into()))]);
        let rows: Vec<&str> = text.lines().collect();
        assert!(rows[1].ends_with("nothing") && rows[2].ends_with("A FINDING"), "{text}");
    }
}

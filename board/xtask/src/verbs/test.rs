//! `test`: the one command that says whether the project is well.
//!
//! Duty: formatting, linter, dependencies, all tests, whole boards; one closing line with the counts.
//! Not here: the tests. Invariant: a check that could not run is counted as skipped with its reason, and
//! everything runs even after a failure, so that one run shows all that is wrong.
//!
//! A test that cannot run on this machine prints `skipped: REASON` on a line of its own and returns; runners
//! call it passed, so its line is what moves it to the third count.

mod selection;

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Instant,
};

use serde_json::Value;
use thiserror::Error;

use self::selection::Selection;
use super::board;
use crate::{
    boards::{Board, guest_files::GuestKernelChoice},
    cli,
    command::{self, CommandError, Line},
    debian::packages::{self, Need},
    progress::Elapsed,
    workshop::{Workshop, compiling},
};

/// Lines to show of a test run that failed: the output of a few failed tests.
const TEST_TAIL_LINES: usize = 120;
/// The crate with the whole-box tests, the feature that has them compiled in, and their target.
const BOX_TESTS: (&str, &str, &str) = ("hearth-tests", "board", "boards");

/// What the names of all tests begin with that boot a board.
const BOX_MODULE: &str = "on_a_board";

/// The filter that means the simulation, and its package.
const SIMULATION: (&str, &str) = ("sim", "hearth-sim");

/// The filter that means the attempts to get out of a jail, which is their target, too, and their package.
const ISOLATION: (&str, &str) = ("isolation", "hearth-vmm");

#[derive(Debug, Error)]
pub(crate) enum TestError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("--seeds, --seed and --hours are for the simulation: expected the filter \"sim\", found \"{0}\"")]
    NotSimulated(String),
    #[error("the simulation cannot be started")]
    Simulation(#[source] io::Error),
    #[error("the attempts to get out of a jail cannot be started")]
    Isolation(#[source] io::Error),
    #[error("cannot read what cargo tells of this workspace")]
    Workspace(#[source] serde_json::Error),
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
}

/// Where those tests find this program.
const XTASK_VARIABLE: &str = "HEARTH_XTASK";

/// What is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    /// Reason, and how often.
    skipped: BTreeMap<String, usize>,
}

impl Counts {
    fn skip(&mut self, reason: &str) {
        *self.skipped.entry(reason.to_owned()).or_default() += 1;
    }

    fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        for (reason, times) in other.skipped {
            *self.skipped.entry(reason).or_default() += times;
        }
    }

    fn line(&self) -> String {
        let skipped: usize = self.skipped.values().sum();
        format!("{} passed, {} failed, {skipped} skipped", self.passed, self.failed)
    }
}

/// The program that runs tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runner {
    Nextest,
    Cargo,
}

pub(crate) fn run(shop: &Workshop, options: &cli::Test) -> Result<ExitCode, TestError> {
    let mut counts = Counts::default();
    let filter = options.filter.as_deref();
    match filter {
        Some(filter) if filter == SIMULATION.0 => return simulate(shop, options),
        Some(filter) if filter == ISOLATION.0 => return contain(shop),
        Some(other) if [options.seeds, options.seed, options.hours].iter().any(Option::is_some) => {
            return Err(TestError::NotSimulated(other.to_owned()));
        }
        _ => {}
    }
    if filter.is_none() {
        check(shop, &mut counts, "formatting", &["fmt", "--all", "--check"])?;
        let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        check(shop, &mut counts, "linter", &clippy)?;
        // Advisories need a database, which not every place can fetch: `cargo deny check` has them, too.
        let deny = ["deny", "check", "bans", "licenses", "sources"];
        check(shop, &mut counts, "dependencies", &deny)?;
    }
    if let Err(error) = packages::require(shop, &[Need::Broker, Need::Network]) {
        // Tests that need it say that they are skipped.
        println!("servers that some tests speak with: {}", crate::chain(&error));
    }
    let runner = match command::ask(shop.cargo().args(["nextest", "--version"])) {
        Ok(_) => Runner::Nextest,
        Err(_) => Runner::Cargo,
    };
    let meant = match filter {
        Some(filter) => Selection::of(filter, &workspace(shop)?),
        None => Selection::all(),
    };
    let of: Vec<&str> = meant.of.iter().map(String::as_str).collect();
    counts.add(suite(shop, runner, "tests", &of, meant.name.as_deref())?);
    let is_all = of == ["--workspace"];
    if runner == Runner::Nextest && is_all {
        // It does not know them; cargo's own runner had them among the rest.
        counts.add(suite(shop, Runner::Cargo, "doctests", &["--doc", "--workspace"], filter)?);
    }
    if options.quick {
        println!("whole boards: left out (--quick)");
    } else if !may_match_boards(filter) {
        println!("whole boards: left out (the filter does not say {BOX_MODULE})");
    } else if has_box_tests(shop)? {
        // Here, with progress, and not within a test's deadline.
        for board in [Board::QemuX86_64, Board::QemuAarch64] {
            if let Err(error) = board::build(shop, board, GuestKernelChoice::Own, None) {
                println!("board {board}: failed: {}", crate::chain(&error));
                counts.failed += 1;
            }
        }
        let (package, feature, target) = BOX_TESTS;
        // The target is named, or the package's other tests would run and count twice.
        let selection = ["--package", package, "--features", feature, "--test", target];
        counts.add(suite(shop, runner, "whole boards", &selection, filter)?);
    } else {
        println!("whole boards: there are no tests yet");
    }
    if let Some(filter) = filter.filter(|_| counts == Counts::default()) {
        println!("no test, no file of tests and no package is called {filter}");
        counts.failed += 1;
    }
    for (reason, times) in &counts.skipped {
        println!("skipped: {reason}{}", if *times > 1 { format!(" ({times} times)") } else { String::new() });
    }
    println!("{}", counts.line());
    Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Packages and their files, as cargo tells them.
fn workspace(shop: &Workshop) -> Result<Value, TestError> {
    let told = command::ask(shop.cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    serde_json::from_str(&told).map_err(TestError::Workspace)
}

/// As many simulated hours as somebody wants. It prints its own figures, or what went wrong and how to see it again.
fn simulate(shop: &Workshop, options: &cli::Test) -> Result<ExitCode, TestError> {
    let mut command = shop.cargo();
    command.args(["run", "--quiet", "--package", SIMULATION.1, "--"]);
    match (options.seed, options.seeds) {
        (Some(seed), _) => command.arg("--seed").arg(seed.to_string()),
        (None, Some(seeds)) => command.arg("--seeds").arg(seeds.to_string()),
        (None, None) => &mut command,
    };
    command.args(options.hours.iter().flat_map(|hours| ["--hours".to_owned(), hours.to_string()]));
    let status = command.status().map_err(TestError::Simulation)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The attempts to get out of a machine's jail, class by class.
fn contain(shop: &Workshop) -> Result<ExitCode, TestError> {
    let mut command = shop.cargo();
    command.args(["test", "--quiet", "--package", ISOLATION.1, "--test", ISOLATION.0]);
    let status = command.status().map_err(TestError::Isolation)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A check that is one cargo command; it adds to the counts only when it does not pass.
fn check(shop: &Workshop, counts: &mut Counts, name: &str, args: &[&str]) -> Result<(), TestError> {
    let verb = args.first().copied().unwrap_or_default();
    if command::ask(shop.cargo().args([verb, "--version"])).is_err() {
        println!("{name}: skipped");
        counts.skip(&format!("cargo {verb} is not installed"));
        return Ok(());
    }
    let mut command = shop.cargo();
    command.args(args);
    let ended = shop.cargo_job(name, verb).tail(TEST_TAIL_LINES).run_to_end(command)?;
    if ended.status.success() {
        println!("{name}: ok");
    } else {
        println!("{name}: failed");
        counts.failed += 1;
    }
    Ok(())
}

/// One run of the test runner.
fn suite(
    shop: &Workshop,
    runner: Runner,
    name: &str,
    selection: &[&str],
    filter: Option<&str>,
) -> Result<Counts, TestError> {
    let job = shop.job(name, &format!("test-{}", name.replace(' ', "-"))).tail(TEST_TAIL_LINES);
    let job = job.counting("tests passed", judge);
    let started = Instant::now();
    let ended = job.run_to_end(runner.command(shop, selection, filter))?;
    let log = fs::read_to_string(&ended.log)
        .map_err(|source| TestError::Read { path: ended.log.clone(), source })?;
    let of_some = filter.is_some() || selection != ["--workspace"];
    let mut counts = read_counts(&log, runner, of_some);
    if !ended.status.success() && counts.failed == 0 {
        // It did not get as far as running tests: a program that does not compile.
        counts.failed = 1;
    }
    println!("{name}: {} in {}", counts.line(), Elapsed(started.elapsed()));
    Ok(counts)
}

impl Runner {
    fn command(self, shop: &Workshop, selection: &[&str], filter: Option<&str>) -> Command {
        let mut command = shop.cargo();
        // The tests of whole boards drive boards through this very program.
        command.envs(env::current_exe().map(|program| (XTASK_VARIABLE, program)).ok());
        // Output of passing tests is wanted too: it has the reasons of those that skipped themselves.
        match self {
            Runner::Nextest => {
                command.args(["nextest", "run", "--no-fail-fast", "--success-output", "immediate"]);
                // Failures last, where the excerpt of a failed run is taken from.
                command.args(["--failure-output", "final"]);
                // A filter that matches nothing in one of the two suites is no failure.
                command.args(["--no-tests", "pass"]).args(selection).args(filter);
            }
            Runner::Cargo => {
                command.args(["test", "--no-fail-fast"]).args(selection);
                command.args(filter).args(["--", "--show-output"]);
                if selection.contains(&BOX_TESTS.2) {
                    // Each board takes the whole machine; nextest has this from its configuration.
                    command.arg("--test-threads=1");
                }
            }
        }
        command
    }
}

/// Judges a line of a runner's output.
fn judge(line: &str) -> Line {
    // Nextest: `PASS [   0.1s] (3/9) name`, and `TRY 2 PASS [ ...` where it was tried again.
    let trimmed = line.trim_start();
    let of_a_try =
        trimmed.strip_prefix("TRY ").map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    let word = of_a_try.unwrap_or(trimmed).trim_start();
    if word.starts_with("PASS [") || (line.starts_with("test ") && line.ends_with(" ... ok")) {
        return Line::Counted;
    }
    if ["FAIL [", "SLOW [", "TMT [", "SIG"].iter().any(|start| word.starts_with(start))
        && word.contains("s] ")
    {
        return Line::Told;
    }
    // Crates are not tests: they are compiled before the first one runs.
    match compiling(line) {
        Line::Counted => Line::Noise,
        other => other,
    }
}

/// Reads the counts from a runner's output.
fn read_counts(log: &str, runner: Runner, filtered: bool) -> Counts {
    let mut counts = Counts::default();
    let mut skipped_themselves = 0;
    // Nextest shows each test's own "test result" too: only its summary counts.
    let (summary, left_out) = match runner {
        // Among nextest's skipped ones are those that a filter left out, and they are not our business.
        Runner::Nextest => ("Summary [", (!filtered).then_some("skipped")),
        Runner::Cargo => ("test result: ", Some("ignored")),
    };
    for line in log.lines().map(str::trim) {
        if line.starts_with(summary) {
            counts.passed += number_before(line, "passed");
            counts.failed += ["failed", "exec failed", "timed out"]
                .map(|word| number_before(line, word))
                .iter()
                .sum::<usize>();
            for _ in 0..left_out.map_or(0, |word| number_before(line, word)) {
                counts.skip("marked as ignored in the source");
            }
        } else if let Some(reason) = line.strip_prefix("skipped: ") {
            counts.skip(reason);
            skipped_themselves += 1;
        }
    }
    counts.passed = counts.passed.saturating_sub(skipped_themselves);
    counts
}

/// The number in front of `word` in a summary such as `3 tests run: 2 passed (1 slow), 1 failed`.
fn number_before(line: &str, word: &str) -> usize {
    let parts = line.split([',', ';', ':', '.', '(']);
    let of_word = |part: &str| {
        let (number, rest) = part.trim().split_once(' ')?;
        if rest == word { number.parse().ok() } else { None }
    };
    parts.filter_map(of_word).next().unwrap_or(0)
}

/// Boards take minutes to build: a filter has to ask for them.
fn may_match_boards(filter: Option<&str>) -> bool {
    filter.is_none_or(|filter| filter.contains(BOX_MODULE))
}

fn has_box_tests(shop: &Workshop) -> Result<bool, TestError> {
    let path = shop.path("tests/Cargo.toml");
    let text = fs::read_to_string(&path).map_err(|source| TestError::Read { path, source })?;
    Ok(text.lines().any(|line| line.replace(' ', "").starts_with(&format!("{}=[", BOX_TESTS.1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nextests_summary_is_read_and_the_results_inside_it_are_not() {
        let log = "  stdout ───\n    skipped: no /dev/kvm\n    test result: ok. 1 passed; 0 failed; 0 ignored\n\
                   Summary [   0.005s] 9 tests run: 6 passed (1 slow), 2 failed, 1 timed out, 4 skipped\n";
        let counts = read_counts(log, Runner::Nextest, false);
        assert_eq!(counts.line(), "5 passed, 3 failed, 5 skipped");
        assert_eq!(counts.skipped.get("no /dev/kvm"), Some(&1));
        assert_eq!(read_counts(log, Runner::Nextest, true).line(), "5 passed, 3 failed, 1 skipped");
    }

    #[test]
    fn only_a_filter_that_names_them_has_boards_built() {
        assert!(may_match_boards(None) && may_match_boards(Some("on_a_board::demo")));
        assert!(!may_match_boards(Some("cache")));
    }

    #[test]
    fn cargos_summaries_add_up() {
        let log = "test a ... ok\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
                   skipped: no KVM\ntest result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured\n";
        assert_eq!(read_counts(log, Runner::Cargo, false).line(), "6 passed, 2 failed, 2 skipped");
    }

    #[test]
    fn passed_tests_count_and_failed_ones_are_shown() {
        assert_eq!(judge("        PASS [   0.003s] xtask cache::tests::x"), Line::Counted);
        assert_eq!(judge("  TRY 2 PASS [ 140.003s] (16/17) hearth-tests::boards x"), Line::Counted);
        assert_eq!(judge("  TRY 1 FAIL [ 140.003s] (16/17) hearth-tests::boards x"), Line::Told);
        assert_eq!(judge("        SLOW [>120.000s] (17/17) hearth-tests::boards x"), Line::Told);
        assert_eq!(judge("test cache::tests::x ... ok"), Line::Counted);
        assert_eq!(judge("test cache::tests::x ... FAILED"), Line::Text);
        assert_eq!(judge("   Compiling xtask v0.1.0"), Line::Noise);
    }
}

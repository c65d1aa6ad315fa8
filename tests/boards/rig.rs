//! A board that is driven by a test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A board under emulation on a slow, busy machine; its image is built.
const PATIENCE: Duration = Duration::from_secs(240);

/// A board that says nothing for so long stands still. What it does at a stretch has shorter deadlines of its own, and
/// two hundred snapshots in a row take less.
const SILENCE: Duration = Duration::from_secs(360);

/// What the box is told to run.
pub(crate) enum Config {
    /// The project's own `config` folder.
    Demo,
    /// Files of `workloads/`, by name without ending.
    Workloads(Vec<(&'static str, String)>),
}

/// A running board. Dropped, it is killed, and so is its QEMU.
pub(crate) struct Rig {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
    folder: PathBuf,
}

impl Rig {
    pub(crate) fn boot(board: &str, config: &Config, program: &[&str]) -> Self {
        let folder = new_folder();
        let mut command = xtask();
        command.args(["board", "run", board]);
        if let Config::Workloads(workloads) = config {
            write_config(&folder, workloads);
            command.arg("--config").arg(&folder);
        }
        if !program.is_empty() {
            command.arg("--").args(program);
        }
        Self::start(command, folder)
    }

    /// A board with the monitor's trials on it.
    pub(crate) fn try_out(board: &str, options: &[&str]) -> Self {
        let mut command = xtask();
        command.args(["board", "try", board]).args(options);
        Self::start(command, new_folder())
    }

    /// A board that is hurt on purpose, in the ways that the filter names.
    pub(crate) fn hurt(board: &str, filter: &str) -> Self {
        let mut command = xtask();
        command.args(["board", "hurt", board]);
        if !filter.is_empty() {
            command.arg(filter);
        }
        Self::start(command, new_folder())
    }

    /// A board whose plug is pulled so often.
    pub(crate) fn unplugged(board: &str, times: u32) -> Self {
        let mut command = xtask();
        command.args(["board", "plug", board, "--times", &times.to_string()]);
        Self::start(command, new_folder())
    }

    /// A board on the morning of a shop's day.
    pub(crate) fn through_a_day(board: &str) -> Self {
        let mut command = xtask();
        command.args(["board", "day", board]);
        Self::start(command, new_folder())
    }

    /// A board that a fleet manages.
    pub(crate) fn of_a_fleet(board: &str) -> Self {
        let mut command = xtask();
        command.args(["board", "fleet", board]);
        Self::start(command, new_folder())
    }

    fn start(mut command: Command, folder: PathBuf) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let console = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in console.split(b'\n').map_while(Result::ok) {
                if sender.send(plain(&String::from_utf8_lossy(&line))).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, said: Vec::new(), folder }
    }

    /// Returns once a line starts with `text`, be it one that came before.
    pub(crate) fn wait_for(&mut self, text: &str) {
        if self.said.iter().any(|line| line.starts_with(text)) {
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let found = line.starts_with(text);
                    self.said.push(line);
                    if found {
                        return;
                    }
                }
                Err(end) => panic!("no line starts with `{text}` ({end}); the console: {:#?}", self.said),
            }
        }
    }

    /// Every line so far.
    pub(crate) fn said(&self) -> &[String] {
        &self.said
    }

    /// The number of the first line that starts with `text`.
    pub(crate) fn place_of(&self, text: &str) -> usize {
        let place = self.said.iter().position(|line| line.starts_with(text));
        place.unwrap_or_else(|| panic!("no line starts with `{text}`: {:#?}", self.said))
    }

    /// What SIGTERM to `board run` is.
    pub(crate) fn press_the_power_button(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
    }

    /// Reads the console to its end; whether the board ended well.
    pub(crate) fn wait_for_the_end(&mut self) -> bool {
        self.wait_for_the_end_within(PATIENCE)
    }

    /// As [`Rig::wait_for_the_end`], for a board that has more to do.
    pub(crate) fn wait_for_the_end_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left.min(SILENCE)) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap().success(),
                Err(RecvTimeoutError::Timeout) if left <= SILENCE => {
                    panic!("the board does not end; the console: {:#?}", self.said)
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("the board is silent; the console: {:#?}", self.said)
                }
            }
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // The first is the power button, the second kills QEMU. The kernel may make one of two that come close together:
        // then the end takes as long as an end in order does.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            for _ in 0..2 {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A line without the blanks that line up the daemon's columns.
fn plain(line: &str) -> String {
    match line.split_once('|') {
        Some((speaker, words)) => format!("{} |{}", speaker.trim_end(), words.trim_end()),
        None => line.trim_end().to_owned(),
    }
}

/// `cargo xtask`, or the very program that started this test.
fn xtask() -> Command {
    if let Some(program) = std::env::var_os("HEARTH_XTASK") {
        let mut command = Command::new(program);
        // Cargo set it for this package; that program would take it for its own.
        command.env_remove("CARGO_MANIFEST_DIR");
        return command;
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--quiet", "--package", "xtask", "--"]);
    command
}

fn new_folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("hearth-rig-{}-{number}", std::process::id()));
    fs::create_dir_all(folder.join("workloads")).unwrap();
    folder
}

fn write_config(folder: &Path, workloads: &[(&str, String)]) {
    fs::write(folder.join("hearth.toml"), "").unwrap();
    for (name, text) in workloads {
        fs::write(folder.join("workloads").join(name).with_extension("toml"), text).unwrap();
    }
}

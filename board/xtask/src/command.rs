//! Running other programs.
//!
//! Duty: run a program with its output in a log and its progress on one line; ask a program for its output.
//! Not here: which programs. Invariant: output of a logged program is in the cache's log folder, whole, and a
//! failure shows the end of it and names the file.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use thiserror::Error;

use crate::{
    cache::{Cache, CacheError},
    progress::{Elapsed, Progress, Task},
};

/// Lines of a failed program's log that are shown at once.
const TAIL_LINES: usize = 25;
/// How often the progress line is looked at while a program is silent.
const HEARTBEAT: Duration = Duration::from_millis(200);

#[derive(Debug, Error)]
pub(crate) enum CommandError {
    #[error("cannot run {program}")]
    Start { program: String, source: io::Error },
    #[error("{program} ended with {status}; log: {}", log.display())]
    Failed { program: String, status: ExitStatus, log: PathBuf },
    #[error("{program} did not end within {limit} and was stopped; log: {}", log.display())]
    TooLong { program: String, limit: Elapsed, log: PathBuf },
    #[error("{program} ended with {status}{}", if said.is_empty() { String::new() } else { format!(": {said}") })]
    Refused { program: String, status: ExitStatus, said: String },
    #[error("cannot write the log {}", path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl CommandError {
    /// The program is not on this machine, as opposed to failing.
    pub(crate) fn is_missing_program(&self) -> bool {
        matches!(self, CommandError::Start { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// What a line of a program's output is to the progress line and to the excerpt of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Worth showing if the program fails.
    Text,
    /// One more thing done.
    Counted,
    /// Worth showing at once, failure or not: whoever waits wants to know.
    Told,
    /// None of these: of the log's interest only.
    Noise,
}

/// A program to run with a log.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    progress: &'a Progress,
    cache: &'a Cache,
    title: String,
    log_name: String,
    unit: &'static str,
    judge: fn(&str) -> Line,
    limit: Option<Duration>,
    tail_lines: usize,
}

/// What is left of a job that was run to its end.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) log: PathBuf,
}

impl<'a> Job<'a> {
    pub(crate) fn new(progress: &'a Progress, cache: &'a Cache, title: &str, log_name: &str) -> Self {
        Self {
            progress,
            cache,
            title: title.to_owned(),
            log_name: log_name.to_owned(),
            unit: "",
            judge: |_| Line::Text,
            limit: None,
            tail_lines: TAIL_LINES,
        }
    }

    pub(crate) fn counting(mut self, unit: &'static str, judge: fn(&str) -> Line) -> Self {
        self.unit = unit;
        self.judge = judge;
        self
    }

    /// The program is killed when it takes longer.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Lines to show when it fails, for programs that put their verdict far from the end.
    pub(crate) fn tail(mut self, lines: usize) -> Self {
        self.tail_lines = lines;
        self
    }

    /// Runs it; an unsuccessful end is an error, whose log's tail has been shown.
    pub(crate) fn run(self, command: Command) -> Result<PathBuf, CommandError> {
        let program = program_name(&command);
        let ended = self.run_to_end(command)?;
        if ended.status.success() {
            Ok(ended.log)
        } else {
            Err(CommandError::Failed { program, status: ended.status, log: ended.log })
        }
    }

    /// Runs it; the caller judges how it ended. The log's tail has been shown if that was unsuccessful.
    pub(crate) fn run_to_end(self, mut command: Command) -> Result<Ended, CommandError> {
        let program = program_name(&command);
        let path = self.cache.log_path(&self.log_name)?;
        let log_error = |source| CommandError::Log { path: path.clone(), source };
        let mut log = File::create(&path).map_err(log_error)?;
        writeln!(log, "$ {}", shown(&command)).map_err(log_error)?;

        let (reader, writer) = io::pipe().map_err(|source| start_error(&program, source))?;
        let twin = writer.try_clone().map_err(|source| start_error(&program, source))?;
        command.stdin(Stdio::null()).stdout(twin).stderr(writer);
        let mut child = command.spawn().map_err(|source| start_error(&program, source))?;
        // It holds our ends of the pipe: as long as it lives, reading never ends.
        drop(command);

        let mut task = self.progress.task(&self.title, self.unit);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut reader = BufReader::new(reader);
            let mut bytes = Vec::new();
            while reader.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
                let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
                bytes.clear();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });

        let mut done = 0;
        let mut tail = VecDeque::new();
        loop {
            match lines.recv_timeout(HEARTBEAT) {
                Ok(line) => {
                    writeln!(log, "{line}").map_err(log_error)?;
                    match (self.judge)(&line) {
                        Line::Counted => {
                            done += 1;
                            task.count(done);
                        }
                        Line::Noise => {}
                        Line::Told => task.say(line.trim()),
                        Line::Text => {
                            if tail.len() == self.tail_lines {
                                tail.pop_front();
                            }
                            tail.push_back(line);
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            task.refresh();
            if let Some(limit) = self.limit.filter(|limit| task.elapsed() > *limit) {
                stop(&mut child);
                fail(task, &tail, &path);
                return Err(CommandError::TooLong { program, limit: Elapsed(limit), log: path });
            }
        }
        let status = child.wait().map_err(|source| start_error(&program, source))?;
        if status.success() {
            task.done();
        } else {
            fail(task, &tail, &path);
        }
        Ok(Ended { status, log: path })
    }
}

/// What a program prints, for quick questions; its complaint is part of the error.
pub(crate) fn ask(command: &mut Command) -> Result<String, CommandError> {
    Ok(String::from_utf8_lossy(&ask_bytes(command)?).into_owned())
}

/// Like [`ask`], for output that is no text.
pub(crate) fn ask_bytes(command: &mut Command) -> Result<Vec<u8>, CommandError> {
    let program = program_name(command);
    let output = command.stdin(Stdio::null()).output().map_err(|source| start_error(&program, source))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned();
    Err(CommandError::Refused { program, status: output.status, said })
}

/// Like [`ask`], for programs whose status says less than their output.
pub(crate) fn ask_whatever_its_status(command: &mut Command) -> Result<String, CommandError> {
    let program = program_name(command);
    let output = command.stdin(Stdio::null()).output().map_err(|source| start_error(&program, source))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={}", name.to_string_lossy(), quoted(&value.to_string_lossy())));
        }
    }
    words.push(quoted(&command.get_program().to_string_lossy()));
    words.extend(command.get_args().map(|arg| quoted(&arg.to_string_lossy())));
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:+,@%~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn program_name(command: &Command) -> String {
    let path = PathBuf::from(command.get_program());
    path.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned()
}

fn start_error(program: &str, source: io::Error) -> CommandError {
    CommandError::Start { program: program.to_owned(), source }
}

fn stop(child: &mut Child) {
    // It may have ended by itself in this instant; either way it is reaped.
    let _ = child.kill();
    let _ = child.wait();
}

fn fail(task: Task, tail: &VecDeque<String>, log: &Path) {
    task.failed();
    for line in tail {
        eprintln!("  | {line}");
    }
    eprintln!("  the whole log: {}", log.display());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_outputs_reach_the_log_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let progress = Progress::detect();
        let log = Job::new(&progress, &cache, "test", "test")
            .run(shell("echo one; echo two >&2; echo three"))
            .unwrap();
        assert!(fs::read_to_string(log).unwrap().ends_with("\none\ntwo\nthree\n"));
    }

    #[test]
    fn a_failure_names_the_program_its_status_and_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let progress = Progress::detect();
        let error = Job::new(&progress, &cache, "test", "test").run(shell("echo no; exit 3")).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("sh ended with exit status: 3; log: "), "{text}");
    }

    #[test]
    fn a_program_beyond_its_limit_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let progress = Progress::detect();
        let job = Job::new(&progress, &cache, "test", "test").within(Duration::from_millis(1));
        let error = job.run(shell("while :; do :; done")).unwrap_err();
        assert!(matches!(error, CommandError::TooLong { .. }));
    }

    #[test]
    fn a_missing_program_is_told_from_a_failing_one() {
        let missing = ask(&mut Command::new("hearth-no-such-program")).unwrap_err();
        assert!(missing.is_missing_program());
        let failing = ask(&mut shell("echo because >&2; exit 1")).unwrap_err();
        assert!(!failing.is_missing_program());
        assert_eq!(failing.to_string(), "sh ended with exit status: 1: because");
    }

    #[test]
    fn a_shown_command_can_be_pasted() {
        let mut command = Command::new("make");
        command.env("A", "b c").arg("it's");
        assert_eq!(shown(&command), r"A='b c' make 'it'\''s'");
    }
}

//! One microVM on trial: its folder, its monitor, what it says, how it ends.
//!
//! Invariant: nothing waits without a deadline, and a dropped VM is killed.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use hearth_supervisor::empty_network;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Failure;

/// For one line of a guest, or its end: a guest boots in seconds under emulation, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// Lines that a failure shows.
const TAIL: usize = 30;

const MONITOR: &str = "/usr/bin/hearth-vmm";
const KERNEL: &str = "/usr/lib/hearth/guest/kernel";
const INITRD: &str = "/probe/initrd";
const FOLDER: &str = "/run/probe";

/// Which console the guest's kernel and agent speak through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// The virtio console.
    Hvc0,
    /// The virtio console, into `console.log` in the machine's folder.
    Hvc0IntoAFile,
    /// The 16550 port.
    Serial,
}

/// A machine that is about to be tried.
#[derive(Debug)]
pub(crate) struct Plan {
    name: &'static str,
    vcpus: u8,
    memory_mib: u32,
    speaks: Speaks,
    cmdline: String,
    command: String,
    machine: String,
    console: String,
    sections: String,
}

impl Plan {
    /// A machine with one processor, a virtio console and a control socket.
    pub(crate) fn new(name: &'static str, command: &str) -> Self {
        Self {
            name,
            vcpus: 1,
            memory_mib: 128,
            speaks: Speaks::Hvc0,
            cmdline: String::new(),
            command: command.to_owned(),
            machine: String::new(),
            console: String::new(),
            sections: String::new(),
        }
    }

    /// A machine whose guest runs one verb of this program.
    pub(crate) fn verb(name: &'static str, verb: &str) -> Self {
        Self::new(name, &format!("/bin/hearth-probe guest {verb}"))
    }

    /// A machine whose guest runs a line of shell.
    pub(crate) fn shell(name: &'static str, line: &str) -> Self {
        Self::new(name, &format!("/bin/busybox sh -c \"{line}\""))
    }

    pub(crate) fn vcpus(self, vcpus: u8) -> Self {
        Self { vcpus, ..self }
    }

    pub(crate) fn memory(self, memory_mib: u32) -> Self {
        Self { memory_mib, ..self }
    }

    pub(crate) fn speaks(self, speaks: Speaks) -> Self {
        Self { speaks, ..self }
    }

    /// Words for the guest's kernel.
    pub(crate) fn cmdline(self, cmdline: &str) -> Self {
        Self { cmdline: cmdline.to_owned(), ..self }
    }

    /// Keys of `[machine]`.
    pub(crate) fn machine(self, machine: &str) -> Self {
        Self { machine: machine.to_owned(), ..self }
    }

    /// Further keys of the console that it speaks through.
    pub(crate) fn console(self, console: &str) -> Self {
        Self { console: console.to_owned(), ..self }
    }

    /// Further sections; relative paths lie in the machine's folder.
    pub(crate) fn with(mut self, sections: &str) -> Self {
        self.sections.push_str(sections);
        self.sections.push('\n');
        self
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> PathBuf {
        Path::new(FOLDER).join(self.name)
    }

    /// Its folder, made anew and empty.
    pub(crate) fn fresh_folder(&self) -> Result<PathBuf, Failure> {
        let folder = self.folder();
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(|error| Failure::host(&folder.display().to_string(), &error))?;
        Ok(folder)
    }

    fn to_toml(&self) -> String {
        const VIRTIO: &str = "[serial]\noutput = \"off\"\n[console]\noutput = \"stdout\"";
        let (console, section) = match self.speaks {
            Speaks::Hvc0 => ("hvc0", VIRTIO.to_owned()),
            Speaks::Hvc0IntoAFile => ("hvc0", VIRTIO.replace("stdout", "console.log")),
            Speaks::Serial => ("ttyS0", "[serial]\noutput = \"stdout\"".to_owned()),
        };
        let cmdline = format!("console={console} quiet panic=-1 {} -- {}", self.cmdline, self.command);
        format!(
            "[machine]\nvcpus = {}\nmemory_mib = {}\n{}\n[boot]\nkernel = {KERNEL:?}\ninitrd = {INITRD:?}\ncmdline = {cmdline:?}\n\
             {section}\n{}\n[control]\nsocket = \"control.sock\"\n{}",
            self.vcpus, self.memory_mib, self.machine, self.console, self.sections,
        )
    }

    /// Its configuration, in its folder.
    pub(crate) fn written(&self) -> Result<PathBuf, Failure> {
        let folder = self.folder();
        if !folder.is_dir() {
            self.fresh_folder()?;
        }
        let file = folder.join("vm.toml");
        fs::write(&file, self.to_toml()).map_err(|error| Failure::host("vm.toml", &error))?;
        Ok(file)
    }

    /// Starts it. Files of its folder that it needs must be there.
    pub(crate) fn start(self) -> Result<Vm, Failure> {
        let file = self.written()?;
        Vm::spawn(self.folder(), &["run".as_ref(), file.as_os_str()])
    }

    /// Starts it with its configuration on standard input. Its control socket is where this program runs.
    pub(crate) fn start_from_standard_input(self) -> Result<Vm, Failure> {
        let folder = self.fresh_folder()?;
        let socket = folder.join("control.sock").display().to_string();
        let text = self.to_toml().replace("control.sock", &socket);
        let mut vm = Vm::spawn_with(folder, &["run".as_ref(), "-".as_ref()], Stdio::piped())?;
        if let Some(mut input) = vm.child.stdin.take() {
            input.write_all(text.as_bytes()).map_err(|error| Failure::host("standard input", &error))?;
        }
        Ok(vm)
    }
}

/// A running monitor.
#[derive(Debug)]
pub(crate) struct Vm {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
    folder: PathBuf,
}

impl Vm {
    /// Starts the monitor with these words.
    pub(crate) fn spawn(folder: PathBuf, words: &[&std::ffi::OsStr]) -> Result<Self, Failure> {
        Self::spawn_with(folder, words, Stdio::null())
    }

    fn spawn_with(folder: PathBuf, words: &[&std::ffi::OsStr], input: Stdio) -> Result<Self, Failure> {
        let mut command = Command::new(MONITOR);
        // As the daemon starts it.
        command
            .args(words)
            .args(empty_network::option())
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| Failure::host(MONITOR, &error))?;
        let (sender, lines) = mpsc::channel();
        relay(child.stdout.take(), sender.clone());
        relay(child.stderr.take(), sender);
        Ok(Self { child, lines, said: Vec::new(), folder })
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(-1))
    }

    /// The next line that starts with `text`, from here on.
    pub(crate) fn next(&mut self, text: &str) -> Result<String, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.starts_with(text) {
                        return Ok(line);
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().map_or("?".to_owned(), |status| status.to_string());
                    return Err(
                        self.failure(&format!("no line starts with `{text}`, and the end was {status}"))
                    );
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Err(self.stood_still(&format!("no line starts with `{text}` in time")));
                }
            }
        }
    }

    /// Takes the lines that have come by now; how many.
    pub(crate) fn swallow(&mut self) -> usize {
        let before = self.said.len();
        self.said.extend(self.lines.try_iter());
        self.said.len() - before
    }

    /// The words behind `guest: KEY` of the next such line.
    pub(crate) fn told(&mut self, key: &str) -> Result<Vec<String>, Failure> {
        let prefix = format!("guest: {key}");
        let line = self.next(&prefix)?;
        let rest = line.get(prefix.len()..).unwrap_or_default();
        Ok(rest.split_ascii_whitespace().map(str::to_owned).collect())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        kill(self.pid(), signal).map_err(|errno| Failure::host("kill", &errno.into()))
    }

    /// Waits for its end; the exit status.
    pub(crate) fn end(&mut self) -> Result<i32, Failure> {
        let deadline = Instant::now() + PATIENCE;
        // Both pipes close when the process is gone.
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Err(self.stood_still("the monitor does not end"));
                }
            }
        }
        let status = self.child.wait().map_err(|error| Failure::host("wait", &error))?;
        status.code().ok_or_else(|| self.failure(&format!("killed by signal {:?}", status.signal())))
    }

    /// Waits for its end, which must be this one; and nothing must be left behind.
    pub(crate) fn ends_with(&mut self, expected: i32) -> Result<(), Failure> {
        let status = self.end()?;
        if status != expected {
            return Err(self.failure(&format!("ended with status {status}, expected {expected}")));
        }
        let left: Vec<_> = fs::read_dir(&self.folder)
            .map_err(|error| Failure::host("folder", &error))?
            .filter_map(Result::ok)
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.contains(".sock"))
            .collect();
        if left.is_empty() { Ok(()) } else { Err(self.failure(&format!("left behind: {}", left.join(", ")))) }
    }

    /// A failure with the last lines of the console.
    pub(crate) fn failure(&self, why: &str) -> Failure {
        Failure::Wrong(self.explain(why))
    }

    fn stood_still(&self, why: &str) -> Failure {
        Failure::StoodStill(self.explain(why))
    }

    fn explain(&self, why: &str) -> String {
        let from = self.said.len().saturating_sub(TAIL);
        format!("{why}; it said: {}", self.said[from..].join(" / "))
    }

    /// Every line so far.
    pub(crate) fn said(&self) -> &[String] {
        &self.said
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn relay(pipe: Option<impl Read + Send + 'static>, sender: Sender<String>) {
    let Some(pipe) = pipe else { return };
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(text).is_err() {
                break;
            }
        }
    });
}

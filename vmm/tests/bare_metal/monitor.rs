//! Runs the monitor's binary in a folder of its own and tells how it ended.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::guest::Guest;

/// Why the tests that need KVM cannot run, if they cannot.
pub(crate) fn kvm_is_missing() -> Option<String> {
    hearth_vmm::kvm::open().err().map(|error| error.to_string())
}

#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// What lies in the folder afterwards, sorted.
    pub(crate) files_left: Vec<String>,
}

/// A monitor that runs. Killed when dropped.
pub(crate) struct Monitor {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    seen: String,
    folder: PathBuf,
}

/// Guests of a few instructions have no agent and know no power button: a stop that asked them would only wait.
const MINIMAL: &str =
    "[stop]\nagent_s = 0\nbutton_s = 0\n[machine]\nmemory_mib = 32\n[boot]\nkernel = \"guest.elf\"\n";

fn new_folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("hearth-bare-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

pub(crate) fn invoke(arguments: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_hearth-vmm")).args(arguments).output().unwrap();
    Ended {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        files_left: Vec::new(),
    }
}

impl Monitor {
    pub(crate) fn start(guest: &Guest) -> Self {
        Self::start_with(Some(guest), MINIMAL)
    }

    pub(crate) fn run(guest: &Guest) -> Ended {
        Self::start(guest).end()
    }

    pub(crate) fn with_config(config: &str) -> Ended {
        Self::start_with(None, config).end()
    }

    pub(crate) fn with_guest_and_config(guest: &Guest, config: &str) -> Ended {
        Self::start_with(Some(guest), config).end()
    }

    pub(crate) fn with_more(guest: &Guest, more: &str) -> Ended {
        Self::start_with(Some(guest), &format!("{MINIMAL}{more}")).end()
    }

    pub(crate) fn with_vcpus(guest: &Guest, vcpus: u8) -> Ended {
        Self::start_with(Some(guest), &MINIMAL.replace("[boot]", &format!("vcpus = {vcpus}\n[boot]"))).end()
    }

    pub(crate) fn with_disk_and_vsock(guest: &Guest) -> Ended {
        let more =
            "[[block]]\nid = \"root\"\npath = \"disk.img\"\n[vsock]\ncid = 3\nsocket = \"vsock.sock\"\n";
        Self::start_with(Some(guest), &format!("{MINIMAL}{more}")).end()
    }

    /// A guest whose console is typed to from `stdin`.
    pub(crate) fn start_typed_to(guest: &Guest, more: &str, stdin: OwnedFd) -> Self {
        Self::start_on(stdin.into(), Some(guest), &format!("{MINIMAL}{more}"))
    }

    /// With a control socket; `more` comes behind the rest of the configuration.
    pub(crate) fn controlled(guest: &Guest, more: &str) -> Self {
        Self::start_with(Some(guest), &format!("{MINIMAL}[control]\nsocket = \"control.sock\"\n{more}"))
    }

    /// In a folder with more files than a guest and its configuration.
    pub(crate) fn start_beside(guest: &Guest, more: &str, files: impl FnOnce(&Path)) -> Self {
        let folder = new_folder();
        guest.write(&folder.join("guest.elf"));
        fs::write(folder.join("vm.toml"), format!("{MINIMAL}{more}")).unwrap();
        files(&folder);
        Self::start_in(folder, Stdio::null())
    }

    /// The same, with its own section for the machine and how it is stopped.
    pub(crate) fn controlled_with(guest: &Guest, config: &str) -> Self {
        let rest = "[boot]\nkernel = \"guest.elf\"\n[control]\nsocket = \"control.sock\"\n";
        Self::start_with(Some(guest), &format!("{config}{rest}"))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn start_with(guest: Option<&Guest>, config: &str) -> Self {
        Self::start_on(Stdio::null(), guest, config)
    }

    fn start_on(stdin: Stdio, guest: Option<&Guest>, config: &str) -> Self {
        let folder = new_folder();
        if let Some(guest) = guest {
            guest.write(&folder.join("guest.elf"));
        }
        if config.contains("disk.img") {
            fs::write(folder.join("disk.img"), [0; 4096]).unwrap();
        }
        fs::write(folder.join("vm.toml"), config).unwrap();
        Self::start_in(folder, stdin)
    }

    fn start_in(folder: PathBuf, stdin: Stdio) -> Self {
        Self::start_as(folder, stdin, &["run", "vm.toml"])
    }

    fn start_as(folder: PathBuf, stdin: Stdio, words: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hearth-vmm"))
            .args(words)
            .current_dir(&folder)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        Self { child, stdout, seen: String::new(), folder }
    }

    /// With a control socket, and one descriptor for all that it prints and says.
    pub(crate) fn controlled_on(output: OwnedFd, guest: &Guest) -> Self {
        let folder = new_folder();
        guest.write(&folder.join("guest.elf"));
        let config = format!("{MINIMAL}[control]\nsocket = \"control.sock\"\n");
        fs::write(folder.join("vm.toml"), config).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_hearth-vmm"))
            .args(["run", "vm.toml"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self { child, stdout: None, seen: String::new(), folder }
    }

    /// Once more in the same folder, when this one has ended.
    pub(crate) fn start_again(mut self) -> Self {
        self.child.wait().unwrap();
        Self::start_in(std::mem::take(&mut self.folder), Stdio::null())
    }

    /// Returns when it has ended; its folder stays.
    pub(crate) fn wait_for_its_end(&mut self) {
        self.child.wait().unwrap();
    }

    /// From a snapshot of it, when this one has ended.
    pub(crate) fn restore(mut self, name: &str) -> Self {
        self.child.wait().unwrap();
        let snapshot = format!("snapshots/{name}");
        Self::start_as(std::mem::take(&mut self.folder), Stdio::null(), &["restore", &snapshot])
    }

    /// Returns when the guest printed `line`; the test ends here if it ends before.
    pub(crate) fn wait_for_line(&mut self, line: &str) {
        let stdout = self.stdout.as_mut().unwrap();
        loop {
            let before = self.seen.len();
            let bytes = stdout.read_line(&mut self.seen).unwrap();
            assert!(bytes > 0, "the guest ended without `{line}`: {}", self.seen);
            if self.seen[before..].trim_end() == line {
                return;
            }
        }
    }

    /// Waits for the monitor's first own line.
    pub(crate) fn first_complaint(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        line
    }

    /// Files whose path ends so and that one of its processes can write to.
    pub(crate) fn writable(&self, end: &str) -> Vec<PathBuf> {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let processes = children.split_whitespace().map(str::to_owned).chain([pid.to_string()]);
        let mut found = Vec::new();
        for process in processes {
            for entry in fs::read_dir(format!("/proc/{process}/fd")).unwrap() {
                let entry = entry.unwrap();
                // The link's own permissions are what the descriptor is open for.
                let writes = entry.metadata().unwrap().permissions().mode() & 0o200 != 0;
                let file = fs::read_link(entry.path()).unwrap();
                found.extend(Some(file).filter(|file| writes && file.to_string_lossy().ends_with(end)));
            }
        }
        found
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    pub(crate) fn end(mut self) -> Ended {
        let mut rest = Vec::new();
        if let Some(mut stdout) = self.stdout.take() {
            stdout.read_to_end(&mut rest).unwrap();
        }
        self.seen.push_str(&String::from_utf8_lossy(&rest));
        self.reap()
    }

    /// Keeps the pipe open, reads nothing until the monitor has ended.
    pub(crate) fn end_without_reading(mut self) -> Ended {
        self.child.wait().unwrap();
        self.end()
    }

    /// The same for one that nobody reads from, unless it hangs.
    pub(crate) fn end_before(mut self, deadline: Instant) -> Ended {
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the monitor does not end");
            std::thread::yield_now();
        }
        self.end()
    }

    fn reap(&mut self) -> Ended {
        let mut stderr = String::new();
        if let Some(mut pipe) = self.child.stderr.take() {
            pipe.read_to_string(&mut stderr).unwrap();
        }
        let status = self.child.wait().unwrap().code();
        let mut files_left: Vec<_> = fs::read_dir(&self.folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files_left.sort();
        Ended { status, stdout: std::mem::take(&mut self.seen), stderr, files_left }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !self.folder.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

//! Debian's mosquitto, one for each test, on a socket in a folder of its own.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader, Lines, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;
use thiserror::Error;

use crate::PATIENCE;

/// Where Debian puts it; not on everybody's path.
const PROGRAMS: [&str; 2] = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];

#[derive(Debug, Error)]
pub enum BrokerError {
    #[error("cannot start or ask the broker")]
    Io(#[from] io::Error),
    #[error("the broker did not open its socket; it says: {0}")]
    Silent(String),
    #[error("mosquitto_pub failed")]
    Publish,
}

/// A broker that runs; it ends with this.
#[derive(Debug)]
pub struct Broker {
    folder: TempDir,
    child: Child,
    more: String,
}

/// `None`: the test says that it is skipped, and returns.
pub fn program() -> Option<&'static Path> {
    let found = PROGRAMS.iter().map(Path::new).find(|path| path.exists());
    if found.is_none() {
        println!("skipped: no mosquitto");
    }
    found
}

impl Broker {
    /// With more lines for its configuration file.
    pub fn start(program: &Path, more: &str) -> Result<Broker, BrokerError> {
        let folder = tempfile::Builder::new().prefix("hearth-broker").tempdir()?;
        let child = spawn(program, folder.path(), more)?;
        let broker = Broker { folder, child, more: more.to_owned() };
        broker.wait_until_it_listens()?;
        Ok(broker)
    }

    fn wait_until_it_listens(&self) -> Result<(), BrokerError> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if UnixStream::connect(self.socket()).is_ok() {
                return Ok(());
            }
            // There is nothing to wait on: the socket's name comes before its listener.
            std::thread::yield_now();
        }
        Err(BrokerError::Silent(fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()))
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// As a power cut would.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    pub fn start_again(&mut self, program: &Path) -> Result<(), BrokerError> {
        self.child = spawn(program, self.folder.path(), &self.more)?;
        self.wait_until_it_listens()
    }

    /// What the broker hands on, as mosquitto's own client prints it: a topic and the payload in hexadecimal digits.
    pub fn listen(&self, filter: &str) -> Result<Listener, BrokerError> {
        Ok(Listener::start(&self.way(), filter)?)
    }

    /// With a program that is not ours.
    pub fn publish(&self, topic: &str, payload: &[u8], options: &[&str]) -> Result<(), BrokerError> {
        let way = [&self.way()[..], &options.iter().map(OsString::from).collect::<Vec<_>>()].concat();
        publish(&way, topic, payload)
    }

    fn way(&self) -> [OsString; 2] {
        ["--unix".into(), self.socket().into()]
    }
}

/// With mosquitto's own client, which is told the way.
pub fn publish(way: &[OsString], topic: &str, payload: &[u8]) -> Result<(), BrokerError> {
    let mut child = Command::new("mosquitto_pub")
        .args(way)
        .args(["-t", topic, "-s"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // It may be gone already.
        let _ = input.write_all(payload);
    }
    if child.wait()?.success() { Ok(()) } else { Err(BrokerError::Publish) }
}

/// A subscriber that is not ours.
#[derive(Debug)]
pub struct Listener {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Listener {
    /// Subscribed when it returns, or not let in.
    pub fn start(way: &[OsString], filter: &str) -> io::Result<Listener> {
        // Into a pipe it writes only when its buffer is full, unless told otherwise.
        let mut child = Command::new("stdbuf")
            .args(["-oL", "mosquitto_sub"])
            .args(way)
            .args(["-d", "-q", "2", "-t", filter, "-F", "%t %x"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let out = child.stdout.take().ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let mut listener = Listener { child, lines: BufReader::new(out).lines() };
        listener.find(|line| line.contains("received SUBACK").then_some(()));
        Ok(listener)
    }

    /// Reads on until `look` finds something; `None` when the subscriber ends.
    pub fn find<T>(&mut self, mut look: impl FnMut(&str) -> Option<T>) -> Option<T> {
        self.lines.by_ref().map_while(Result::ok).find_map(|line| look(&line))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, folder: &Path, more: &str) -> io::Result<Child> {
    let socket = folder.join("socket");
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let config = folder.join("mosquitto.conf");
    let text = format!(
        "user root\npersistence false\nlog_dest file {}\nallow_anonymous true\nlistener 0 {}\n{more}",
        folder.join("log").display(),
        socket.display()
    );
    fs::write(&config, text)?;
    Command::new(program).arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

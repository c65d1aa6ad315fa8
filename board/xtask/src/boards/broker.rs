//! A broker on this machine for a box that `up` runs.
//!
//! ```text
//! hearthd on a board --> 10.0.2.100:1883 in QEMU's network --> this program's verb `join` --> mosquitto on loopback
//! ```
//!
//! Duty: Debian's mosquitto with a folder and a port of its own, as long as this lives. Not here: what the box tells it.
//! Invariant: it listens on loopback only, keeps nothing, and does not outlive the box.

use std::{
    env, fs, io,
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use thiserror::Error;

use super::door::pass;
use crate::{
    debian::packages::{self, Need, PackagesError},
    workshop::Workshop,
};

/// Not always in an ordinary user's search path.
const PROGRAM: &str = "/usr/sbin/mosquitto";
/// Where boards find it: an address of QEMU's network that nobody has.
pub(crate) const ON_BOARDS: &str = "10.0.2.100:1883";
/// One that people can learn: next to MQTT's own, which may be somebody else's here.
pub(crate) const PORT_FOR_PEOPLE: u16 = 11_883;
pub(crate) const ANY_PORT: u16 = 0;
/// Until it listens.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

#[derive(Debug, Error)]
pub(crate) enum BrokerError {
    #[error(transparent)]
    Packages(#[from] PackagesError),
    #[error("{PROGRAM} cannot be started")]
    Start(#[source] io::Error),
    #[error("{PROGRAM} does not listen")]
    Silent,
    #[error("the broker cannot be reached")]
    Join(#[source] io::Error),
}

/// A broker that runs.
#[derive(Debug)]
pub(crate) struct Broker {
    child: Child,
    folder: TempDir,
    port: u16,
}

impl Broker {
    /// On that port if it is free, or on any.
    pub(crate) fn start(shop: &Workshop, wanted: u16) -> Result<Broker, BrokerError> {
        packages::require(shop, &[Need::Broker])?;
        let folder = tempfile::tempdir().map_err(BrokerError::Start)?;
        // It was free a moment ago; if somebody has taken it since, mosquitto says so by ending.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted))
            .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, ANY_PORT)))
            .and_then(|listener| listener.local_addr())
            .map_err(BrokerError::Start)?
            .port();
        let file = folder.path().join("mosquitto.conf");
        // As root it would become a user who cannot enter the folder.
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest none\nuser root\n"
        );
        fs::write(&file, text).map_err(BrokerError::Start)?;
        // QEMU takes a command apart at blanks and commas; here are none.
        let own = env::current_exe().and_then(|own| symlink(own, folder.path().join("xtask")));
        own.map_err(BrokerError::Start)?;
        // However this program ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", PROGRAM])
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Ctrl-C is the box's.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().map_err(BrokerError::Start)?;
        let mut broker = Broker { child, folder, port };
        broker.wait()?;
        Ok(broker)
    }

    fn wait(&mut self) -> Result<(), BrokerError> {
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let ended = self.child.try_wait().map_err(BrokerError::Start)?.is_some();
            if ended || Instant::now() >= end {
                return Err(BrokerError::Silent);
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// For people.
    pub(crate) fn words(&self) -> String {
        let port = self.port;
        format!(
            "a broker listens on 127.0.0.1:{port}; what it hears: mosquitto_sub -p {port} -v -t 'hearth/v1/#'"
        )
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// For programs on this machine.
    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// What the file of the box that is called so says of it.
    pub(crate) fn config(&self, on_a_board: bool, node: &str) -> String {
        let server = if on_a_board { ON_BOARDS.to_owned() } else { format!("127.0.0.1:{}", self.port) };
        format!("[fleet]\nservers = [\"mqtt://{server}\"]\nnode = \"{node}\"\n")
    }

    /// The command that QEMU joins each of the board's connections to.
    pub(crate) fn join_command(&self) -> String {
        let program: PathBuf = self.folder.path().join("xtask");
        format!("{} join {}", program.display(), self.port)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Standard input and output as a connection to `port` on this machine, until either side ends.
pub(crate) fn join(port: u16) -> Result<(), BrokerError> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(BrokerError::Join)?;
    stream.set_nodelay(true).map_err(BrokerError::Join)?;
    let twin = stream.try_clone().map_err(BrokerError::Join)?;
    thread::spawn(move || {
        pass(io::stdin().lock(), &twin);
        let _ = twin.shutdown(Shutdown::Both);
    });
    pass(&stream, io::stdout().lock());
    Ok(())
}

//! The way from this machine to the daemon on a board.
//!
//! ```text
//! hearthctl --> Unix socket in the cache folder --> [token] --> QEMU's port on loopback --> hearth-relay --> hearthd
//! ```
//!
//! Duty: a socket like the daemon's own, which only whoever runs the board can open, for as long as the board runs.
//! Not here: what is said on it (`hearthctl`). Invariant: the token is on no command line, in no file that others can
//! read, and new for each board; without it, QEMU's port leads nowhere.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpStream},
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt, symlink},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread,
};

use thiserror::Error;

use super::monitor::Monitor;

/// In the folder of `up`.
const FOLDER: &str = "door";
const SOCKET: &str = "api.sock";
/// Leads to the program for this machine that was built together with the board's.
const PROGRAM: &str = "hearthctl";
/// 128 bits.
const TOKEN_BYTES: usize = 16;
const BUFFER_BYTES: usize = 16 << 10;

#[derive(Debug, Error)]
pub(crate) enum DoorError {
    #[error("another box that 'up' started can be reached at {}", .0.display())]
    Taken(PathBuf),
    #[error("{}: no way to the board", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Where `up`, whose folder this is, has its doors.
#[derive(Clone, Debug)]
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn in_folder(up: &Path) -> Place {
        Place(up.join(FOLDER))
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join(SOCKET)
    }

    /// For this machine, if one was built together with the board.
    pub(crate) fn program(&self) -> Option<PathBuf> {
        self.0.join(PROGRAM).canonicalize().ok()
    }
}

/// A way that is open until this is dropped.
#[derive(Debug)]
pub(crate) struct Door {
    socket: PathBuf,
    listener: UnixListener,
    token: String,
}

impl Door {
    pub(crate) fn open(place: &Place, hearthctl: Option<&Path>) -> Result<Door, DoorError> {
        let socket = place.socket();
        if UnixStream::connect(&socket).is_ok() {
            return Err(DoorError::Taken(socket));
        }
        let failed = |source| DoorError::Io { path: socket.clone(), source };
        // Who cannot enter the folder cannot reach the socket, whatever its own mode is.
        DirBuilder::new().recursive(true).mode(0o700).create(&place.0).map_err(failed)?;
        fs::set_permissions(&place.0, Permissions::from_mode(0o700)).map_err(failed)?;
        for left in [&socket, &place.0.join(PROGRAM)] {
            match fs::remove_file(left) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        if let Some(program) = hearthctl {
            symlink(program, place.0.join(PROGRAM)).map_err(failed)?;
        }
        let listener = UnixListener::bind(&socket).map_err(failed)?;
        Ok(Door { listener, token: token().map_err(failed)?, socket })
    }

    /// What the board's relay is to hear first.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Serves whoever comes, through the board whose QEMU listens there.
    pub(crate) fn serve(&self, qmp: &Path) -> Result<(), DoorError> {
        let listener = self.listener.try_clone();
        let listener = listener.map_err(|source| DoorError::Io { path: self.socket.clone(), source })?;
        let (token, qmp) = (self.token.clone(), qmp.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (token, qmp) = (token.clone(), qmp.clone());
                // Somebody who cannot be served is hung up on; hearthctl says so.
                thread::spawn(move || join(&client, &qmp, &token));
            }
        });
        Ok(())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
    }
}

fn token() -> io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn join(client: &UnixStream, qmp: &Path, token: &str) -> io::Result<()> {
    let board = TcpStream::connect((Ipv4Addr::LOCALHOST, forwarded_port(qmp)?))?;
    board.set_nodelay(true)?;
    writeln!(&board, "{token}")?;
    thread::scope(|scope| {
        scope.spawn(|| {
            pass(client, &board);
            let _ = board.shutdown(Shutdown::Write);
        });
        pass(&board, client);
        let _ = client.shutdown(Shutdown::Both);
        let _ = board.shutdown(Shutdown::Both);
    });
    Ok(())
}

pub(crate) fn pass(mut from: impl Read, mut to: impl Write) {
    let mut buffer = [0; BUFFER_BYTES];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(buffer.get(..length).unwrap_or_default()).and_then(|()| to.flush()).is_err() {
            break;
        }
    }
}

/// QEMU took a port that was free; its monitor says which.
fn forwarded_port(qmp: &Path) -> io::Result<u16> {
    port_in(&Monitor::at(qmp).network()?).ok_or_else(|| io::Error::other("QEMU forwards no port"))
}

/// Lines are protocol, descriptor, from whom, port, to whom, port.
fn port_in(answer: &str) -> Option<u16> {
    let (_, rest) = answer.split_once("TCP[HOST_FORWARD]")?;
    rest.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::sync::mpsc;

    const USERNET: &str = "{\"return\": \"Hub -1 (net):\\r\\n  Protocol[State]    FD  Source Address  Port   Dest. Address  \
                           Port RecvQ SendQ\\r\\n  TCP[HOST_FORWARD]   3       127.0.0.1 PORT       10.0.2.15  9170     \
                           0     0\\r\\n\"}";

    #[test]
    fn the_port_is_found_in_what_qemu_says() {
        assert_eq!(port_in(&USERNET.replace("PORT", "40635")), Some(40635));
        assert_eq!(port_in("{\"return\": \"\"}"), None);
    }

    /// A QEMU whose monitor names `port`.
    fn monitor(folder: &Path, port: u16) -> PathBuf {
        let qmp = folder.join("qmp");
        let listener = UnixListener::bind(&qmp).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                writeln!(&stream, "{{\"QMP\": {{}}}}").unwrap();
                lines.next();
                writeln!(&stream, "{{\"return\": {{}}}}").unwrap();
                lines.next();
                let told = format!("TCP[HOST_FORWARD]   3  127.0.0.1 {port}  10.0.2.15 9170");
                writeln!(&stream, "{}", serde_json::json!({ "return": told })).unwrap();
            }
        });
        qmp
    }

    #[test]
    fn who_may_enter_the_folder_reaches_the_board_behind_its_token() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::in_folder(folder.path());
        let door = Door::open(&place, Some(Path::new("/bin/sh"))).unwrap();
        assert_eq!(fs::metadata(&place.0).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(place.program().is_some());

        let relay = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let qmp = monitor(folder.path(), relay.local_addr().unwrap().port());
        door.serve(&qmp).unwrap();
        let (sender, heard) = mpsc::channel();
        thread::spawn(move || {
            let (mut stream, _) = relay.accept().unwrap();
            stream.write_all(b"answer").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            sender.send(text).unwrap();
        });
        let mut client = UnixStream::connect(place.socket()).unwrap();
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(heard.recv().unwrap(), format!("{}\nquestion", door.token()));
        assert_eq!((text.as_str(), door.token().len()), ("answer", 32));
        assert!(matches!(Door::open(&place, None), Err(DoorError::Taken(_))), "one board at a time");
        drop(door);
        assert!(!place.socket().exists());
    }
}

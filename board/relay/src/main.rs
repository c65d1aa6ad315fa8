//! `hearth-relay`: on a board in QEMU, the way from the machine that runs QEMU to the daemon.
//!
//! ```text
//! hearthctl --Unix socket--> cargo xtask up --TCP, token--> QEMU --> hearth-relay --Unix socket--> hearthd
//! ```
//!
//! Duty: join connections that begin with the right token to the daemon's socket. Not here: what is said on them.
//! Invariant: without `hearth.relay=TOKEN` on the kernel command line it does nothing, so a box that is no board of
//! somebody's workshop has no such way in. Connections are few, and one that does not say the token in time is closed.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use thiserror::Error;

const HELP: &str = "\
hearth-relay: joins connections to port 9170 that begin with a token and a line's end to hearthd's socket

It is for boards in QEMU: hearth-init starts it where hearth.relay=TOKEN stands on the kernel command line.
";
const COMMAND_LINE: &str = "/proc/cmdline";
const WORD: &str = "hearth.relay=";
/// Not that of the API itself, which may be open to programs on the box.
const PORT: u16 = 9170;
const DAEMON: &str = "/run/hearth/api.sock";
/// Fewer than the daemon takes: a person on the box finds a place.
const MAX_CONNECTIONS: usize = 16;
/// Bytes of a token: 128 bits in hexadecimal digits, and then some.
const MAX_TOKEN_BYTES: usize = 64;
/// A shorter one could be guessed.
const LEAST_TOKEN_BYTES: usize = 16;
/// For the token to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failed accept (out of descriptors, say): not a busy loop.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
const BUFFER_BYTES: usize = 16 << 10;

#[derive(Debug, Error)]
enum RelayError {
    #[error("{COMMAND_LINE}: cannot be read: {0}")]
    CommandLine(io::Error),
    #[error(
        "{COMMAND_LINE}: expected {WORD} with {LEAST_TOKEN_BYTES} to {MAX_TOKEN_BYTES} letters and digits"
    )]
    NoToken,
    #[error("cannot listen on port {PORT}: {0}")]
    Listen(io::Error),
}

fn main() -> ExitCode {
    if std::env::args_os().len() > 1 {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let Err(error) = run();
    eprintln!("hearth-relay | {error}");
    ExitCode::FAILURE
}

fn run() -> Result<std::convert::Infallible, RelayError> {
    let line = fs::read_to_string(COMMAND_LINE).map_err(RelayError::CommandLine)?;
    let token = token(&line).ok_or(RelayError::NoToken)?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).map_err(RelayError::Listen)?;
    let relay = Arc::new(Relay { token, daemon: DAEMON.into(), inside: AtomicUsize::new(0) });
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let relay = Arc::clone(&relay);
                thread::spawn(move || relay.attend(&stream));
            }
            Err(_) => thread::sleep(ACCEPT_AGAIN),
        }
    }
}

fn token(command_line: &str) -> Option<String> {
    let token = command_line.split_whitespace().find_map(|word| word.strip_prefix(WORD))?;
    let good = (LEAST_TOKEN_BYTES..=MAX_TOKEN_BYTES).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
    good.then(|| token.to_owned())
}

#[derive(Debug)]
struct Relay {
    token: String,
    daemon: PathBuf,
    inside: AtomicUsize,
}

impl Relay {
    /// One connection, from first to last. That it breaks is no news.
    fn attend(&self, stream: &TcpStream) {
        if self.inside.fetch_add(1, Ordering::SeqCst) < MAX_CONNECTIONS {
            let _ = self.join(stream);
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    fn join(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        if !says(stream, &self.token)? {
            return Ok(());
        }
        stream.set_read_timeout(None)?;
        stream.set_nodelay(true)?;
        let daemon = UnixStream::connect(Path::new(&self.daemon))?;
        thread::scope(|scope| {
            scope.spawn(|| {
                pass(stream, &daemon);
                let _ = daemon.shutdown(Shutdown::Write);
            });
            pass(&daemon, stream);
            // A daemon that hangs up has nothing more to hear.
            let _ = daemon.shutdown(Shutdown::Both);
            let _ = stream.shutdown(Shutdown::Both);
        });
        Ok(())
    }
}

/// Whether the first line is the token. Not a byte behind it is taken.
fn says(mut stream: impl Read, token: &str) -> io::Result<bool> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() <= MAX_TOKEN_BYTES {
        stream.read_exact(&mut byte)?;
        if byte == *b"\n" {
            break;
        }
        line.extend(byte);
    }
    // All bytes are compared, so that the time it takes does not tell how many of them were right.
    let differ = line.iter().zip(token.as_bytes()).fold(0, |differ, (one, other)| differ | (one ^ other));
    Ok(line.len() == token.len() && differ == 0)
}

fn pass(mut from: impl Read, mut to: impl Write) {
    let mut buffer = [0; BUFFER_BYTES];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(buffer.get(..length).unwrap_or_default()).is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn only_the_kernel_command_line_opens_the_way_and_only_with_a_token_that_is_one() {
        assert_eq!(token(&format!("quiet {WORD}{TOKEN} x=1\n")).as_deref(), Some(TOKEN));
        for line in ["quiet", "hearth.relay=", "hearth.relay=short", "hearth.relay=0123456789abcde\u{e9}"] {
            assert_eq!(token(line), None, "{line}");
        }
    }

    #[test]
    fn the_first_line_is_the_token_and_nothing_behind_it_is_taken() {
        let said = |text: &str| {
            let mut bytes = text.as_bytes();
            let said = says(&mut bytes, TOKEN).ok();
            (said, bytes.len())
        };
        assert_eq!(said(&format!("{TOKEN}\nGET /")), (Some(true), 5));
        assert_eq!(said(&format!("{}0\n", &TOKEN[1..])), (Some(false), 0));
        assert_eq!(said("\n"), (Some(false), 0));
        assert_eq!(said(TOKEN), (None, 0), "a line that does not end");
        assert_eq!(said(&"x".repeat(1000)).0, Some(false));
    }

    /// What comes back for these bytes, from a daemon that says "DAEMON" and then what it heard.
    fn exchange(inside: usize, bytes: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let daemon = folder.path().join("api.sock");
        let listening = UnixListener::bind(&daemon).unwrap();
        listening.set_nonblocking(false).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listening.accept().unwrap();
            stream.write_all(b"DAEMON ").unwrap();
            let mut heard = String::new();
            stream.read_to_string(&mut heard).unwrap();
            stream.write_all(heard.as_bytes()).unwrap();
        });
        let relay = Relay { token: TOKEN.to_owned(), daemon, inside: AtomicUsize::new(inside) };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        client.write_all(bytes.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        relay.attend(&stream);
        drop(stream);
        assert_eq!(relay.inside.load(Ordering::SeqCst), inside);
        let mut text = String::new();
        // A connection that is closed with bytes unread is reset.
        let _ = client.read_to_string(&mut text);
        text
    }

    #[test]
    fn who_says_the_token_speaks_with_the_daemon_and_nobody_else_does() {
        assert_eq!(exchange(0, &format!("{TOKEN}\nhello")), "DAEMON hello");
        assert_eq!(exchange(0, "hello\nhello"), "");
        assert_eq!(exchange(MAX_CONNECTIONS, &format!("{TOKEN}\nhello")), "", "no place left");
    }
}

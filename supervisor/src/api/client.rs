//! The API from the other side, for programs that may wait.
//!
//! Duty: requests over the socket, answers as they came. Not here: showing them (`ctl`).
//! Invariant: what the daemon sends is bounded here too, and a daemon that does not answer is no hang.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use thiserror::Error;

use super::types::Refused;

/// For an answer; the daemon gives one within a turn of its loop.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer's head.
const MAX_HEAD_BYTES: u64 = 8 << 10;
/// Bytes of an answer, or of a piece of a stream: far more than the most workloads with the most replicas take.
const MAX_BODY_BYTES: usize = 8 << 20;
const MAX_HEADERS: usize = 32;

#[derive(Debug, Error)]
pub enum ClientError {
    #[error("{0}: hearthd cannot be reached")]
    Unreachable(Address, #[source] io::Error),
    #[error("{}", .0.message)]
    Refused(Refused),
    #[error("hearthd's answer does not come")]
    Broken(#[source] io::Error),
    #[error("hearthd's answer cannot be understood")]
    Strange,
    #[error("hearthd's answer cannot be understood")]
    OtherWords(#[from] serde_json::Error),
}

/// Where a daemon is.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    Socket(PathBuf),
    Tcp {
        /// HOST:PORT
        authority: String,
        token: String,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Socket(path) => write!(f, "{}", path.display()),
            Address::Tcp { authority, .. } => write!(f, "http://{authority}"),
        }
    }
}

impl fmt::Debug for Address {
    /// Without the token: a secret does not get into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A connection of either kind.
#[derive(Debug)]
enum Line {
    Local(UnixStream),
    Network(TcpStream),
}

impl Line {
    fn open(address: &Address) -> io::Result<Line> {
        match address {
            Address::Socket(path) => UnixStream::connect(path).map(Line::Local),
            Address::Tcp { authority, .. } => TcpStream::connect(authority).map(Line::Network),
        }
    }

    fn set_patience(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        match self {
            Line::Local(stream) => {
                stream.set_read_timeout(read)?;
                stream.set_write_timeout(write)
            }
            Line::Network(stream) => {
                stream.set_read_timeout(read)?;
                stream.set_write_timeout(write)
            }
        }
    }
}

impl Read for Line {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Line::Local(stream) => stream.read(into),
            Line::Network(stream) => stream.read(into),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Line::Local(stream) => stream.write(bytes),
            Line::Network(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection for one request after the other.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<Line>,
    address: Address,
}

enum Length {
    Bytes(usize),
    Chunked,
    /// There is no body: the connection is something else now.
    Switched,
}

impl Client {
    /// To the daemon's own socket.
    pub fn connect(socket: &Path) -> Result<Client, ClientError> {
        Client::reach(&Address::Socket(socket.to_owned()))
    }

    pub fn reach(address: &Address) -> Result<Client, ClientError> {
        let unreachable = |error| ClientError::Unreachable(address.clone(), error);
        let line = Line::open(address).map_err(unreachable)?;
        line.set_patience(Some(PATIENCE), Some(PATIENCE)).map_err(unreachable)?;
        Ok(Client { stream: BufReader::new(line), address: address.clone() })
    }

    /// The answer's body.
    pub fn get(&mut self, path: &str) -> Result<Vec<u8>, ClientError> {
        self.ask("GET", path, b"")
    }

    pub fn post(&mut self, path: &str, body: &[u8]) -> Result<Vec<u8>, ClientError> {
        self.ask("POST", path, body)
    }

    /// For what takes longer than an answer does.
    pub fn post_patiently(
        &mut self,
        path: &str,
        body: &[u8],
        patience: Duration,
    ) -> Result<Vec<u8>, ClientError> {
        self.stream.get_ref().set_patience(Some(patience), Some(PATIENCE)).map_err(ClientError::Broken)?;
        self.ask("POST", path, body)
    }

    /// A connection that is something else from now on, and what came of it so far. Only on a daemon's own socket.
    pub fn switch(
        mut self,
        path: &str,
        body: &[u8],
        protocol: &str,
    ) -> Result<(UnixStream, Vec<u8>), ClientError> {
        let upgrade = format!("Connection: Upgrade\r\nUpgrade: {protocol}\r\n");
        self.send("POST", path, &upgrade, body)?;
        let (Length::Switched, early) = (self.head()?, self.stream.buffer().to_vec()) else {
            return Err(ClientError::Strange);
        };
        let line = self.stream.into_inner();
        line.set_patience(None, None).map_err(ClientError::Broken)?;
        match line {
            Line::Local(stream) => Ok((stream, early)),
            Line::Network(_) => Err(ClientError::Strange),
        }
    }

    /// Hands every piece of a stream to `take`, until it says that it has enough or the daemon ends it.
    pub fn pieces(mut self, path: &str, mut take: impl FnMut(&[u8]) -> bool) -> Result<(), ClientError> {
        self.send("GET", path, "", b"")?;
        let Length::Chunked = self.head()? else { return Err(ClientError::Strange) };
        self.stream.get_ref().set_patience(None, Some(PATIENCE)).map_err(ClientError::Broken)?;
        while let Some(chunk) = self.chunk()? {
            if !take(&chunk) {
                break;
            }
        }
        Ok(())
    }

    /// Hands every line of a stream to `take`, until it says that it has enough or the daemon ends it.
    pub fn lines(mut self, path: &str, mut take: impl FnMut(&str) -> bool) -> Result<(), ClientError> {
        self.send("GET", path, "", b"")?;
        if let Length::Bytes(length) = self.head()? {
            let body = self.bytes(length)?;
            for line in String::from_utf8_lossy(&body).lines() {
                if !take(line) {
                    break;
                }
            }
            return Ok(());
        }
        // The next event may be hours away.
        self.stream.get_ref().set_patience(None, Some(PATIENCE)).map_err(ClientError::Broken)?;
        let mut held = Vec::new();
        while let Some(chunk) = self.chunk()? {
            held.extend_from_slice(&chunk);
            while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = held.drain(..=end).collect();
                if !take(String::from_utf8_lossy(&line).trim_end()) {
                    return Ok(());
                }
            }
            if held.len() > MAX_BODY_BYTES {
                return Err(ClientError::Strange);
            }
        }
        Ok(())
    }

    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>, ClientError> {
        self.send(method, path, "", body)?;
        match self.head()? {
            Length::Bytes(length) => self.bytes(length),
            Length::Chunked | Length::Switched => Err(ClientError::Strange),
        }
    }

    fn send(&mut self, method: &str, path: &str, more: &str, body: &[u8]) -> Result<(), ClientError> {
        let (host, token) = match &self.address {
            Address::Socket(_) => ("hearth", String::new()),
            Address::Tcp { authority, token } => {
                (authority.as_str(), format!("Authorization: Bearer {token}\r\n"))
            }
        };
        let length = body.len();
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{token}{more}Content-Length: {length}\r\n\r\n"
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request).map_err(ClientError::Broken)
    }

    /// Reads a head; what it refuses is an error, with its reason.
    fn head(&mut self) -> Result<Length, ClientError> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let left = MAX_HEAD_BYTES.saturating_sub(u64::try_from(head.len()).unwrap_or(u64::MAX));
            let read = self.stream.by_ref().take(left).read_until(b'\n', &mut head);
            if read.map_err(ClientError::Broken)? == 0 {
                // Between a person and the daemon there may be a way that ends in front of it.
                let hung_up = || io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up");
                return Err(if head.is_empty() {
                    ClientError::Broken(hung_up())
                } else {
                    ClientError::Strange
                });
            }
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&head).map_err(|_| ClientError::Strange)?;
        let (true, Some(status)) = (parsed.is_complete(), response.code) else {
            return Err(ClientError::Strange);
        };
        let named = |name: &str| {
            let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            header.and_then(|header| std::str::from_utf8(header.value).ok())
        };
        let length = match named("transfer-encoding") {
            _ if status == 101 => Length::Switched,
            Some("chunked") => Length::Chunked,
            Some(_) => return Err(ClientError::Strange),
            None => {
                let length = named("content-length").and_then(|digits| digits.parse().ok());
                Length::Bytes(length.ok_or(ClientError::Strange)?)
            }
        };
        match length {
            length if status < 400 => Ok(length),
            Length::Bytes(length) => Err(ClientError::Refused(serde_json::from_slice(&self.bytes(length)?)?)),
            Length::Chunked | Length::Switched => Err(ClientError::Strange),
        }
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, ClientError> {
        if length > MAX_BODY_BYTES {
            return Err(ClientError::Strange);
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).map_err(ClientError::Broken)?;
        Ok(body)
    }

    /// The next piece of a stream; `None` at its end.
    fn chunk(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let mut line = String::new();
        let read = self.stream.by_ref().take(MAX_HEAD_BYTES).read_line(&mut line);
        if read.map_err(ClientError::Broken)? == 0 {
            // A daemon that ends has no time to say so.
            return Ok(None);
        }
        let length = usize::from_str_radix(line.trim_end(), 16).map_err(|_| ClientError::Strange)?;
        let chunk = self.bytes(length)?;
        self.bytes(2)?;
        Ok((length > 0).then_some(chunk))
    }
}

/// A body as what it says.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    Ok(serde_json::from_slice(body)?)
}

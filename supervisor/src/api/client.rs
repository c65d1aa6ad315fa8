//! The API from the other side, for programs that may wait.
//!
//! Duty: requests over the socket, answers as they came. Not here: showing them (`ctl`).
//! Invariant: what the daemon sends is bounded here too, and a daemon that does not answer is no hang.

use std::io::{self, BufRead, BufReader, Read, Write};
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
    #[error("{}: hearthd cannot be reached", .0.display())]
    Unreachable(PathBuf, #[source] io::Error),
    #[error("{}", .0.message)]
    Refused(Refused),
    #[error("hearthd's answer does not come")]
    Broken(#[source] io::Error),
    #[error("hearthd's answer cannot be understood")]
    Strange,
    #[error("hearthd's answer cannot be understood")]
    OtherWords(#[from] serde_json::Error),
}

/// A connection for one request after the other.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

enum Length {
    Bytes(usize),
    Chunked,
}

impl Client {
    pub fn connect(socket: &Path) -> Result<Client, ClientError> {
        let unreachable = |error| ClientError::Unreachable(socket.to_owned(), error);
        let stream = UnixStream::connect(socket).map_err(unreachable)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(unreachable)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(unreachable)?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// The answer's body.
    pub fn get(&mut self, path: &str) -> Result<Vec<u8>, ClientError> {
        self.ask("GET", path, b"")
    }

    pub fn post(&mut self, path: &str, body: &[u8]) -> Result<Vec<u8>, ClientError> {
        self.ask("POST", path, body)
    }

    /// Hands every line of a stream to `take`, until it says that it has enough or the daemon ends it.
    pub fn lines(mut self, path: &str, mut take: impl FnMut(&str) -> bool) -> Result<(), ClientError> {
        self.send("GET", path, b"")?;
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
        self.stream.get_ref().set_read_timeout(None).map_err(ClientError::Broken)?;
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
        self.send(method, path, body)?;
        match self.head()? {
            Length::Bytes(length) => self.bytes(length),
            Length::Chunked => Err(ClientError::Strange),
        }
    }

    fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Result<(), ClientError> {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: hearth\r\nContent-Length: {}\r\n\r\n", body.len())
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
                return Err(ClientError::Strange);
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
            Length::Chunked => Err(ClientError::Strange),
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

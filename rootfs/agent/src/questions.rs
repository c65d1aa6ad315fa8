//! The host's questions about the workload's health.
//!
//! ```text
//! asked --exec--> Running --its end--> answered
//!       --tcp, http--> Connecting --connected--> answered (tcp), Talking (http) --status line or end--> answered
//! each of them --deadline--> answered "bad"; a command is killed then
//! ```
//!
//! Duty: find the answers, side by side. Not its duty: what they lead to.
//! Invariant: never blocks, holds at most [`MAX_QUESTIONS`], and every question is answered by its deadline.

use crate::{child::Child, clock::Uptime, outbox::Outbox, session::Asked, workload::Workload};
use hearth_config::guest::GuestConfig;
use hearth_wire::{ExitStatus, Question};
use nix::{errno::Errno, poll::PollFlags};
use socket2::{Domain, Socket, Type};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

/// Under way at once: a workload has as many probes. The oldest one makes room, unanswered.
const MAX_QUESTIONS: usize = 16;
/// The longest that a question is worked on, whatever the host says.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// Bytes of "HTTP/1.1 200": all that counts of an answer.
const STATUS_LEN: usize = 12;
/// Statuses that are good: the request was understood and is, or can be, served.
const GOOD_STATUS: std::ops::RangeInclusive<u16> = 200..=399;

#[derive(Debug, Default)]
pub(crate) struct Questions {
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    id: u32,
    deadline: Uptime,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Running(Workload),
    Connecting {
        socket: Socket,
        /// Empty for a connection alone.
        request: String,
    },
    Talking {
        socket: Socket,
        heard: Vec<u8>,
    },
    Done {
        good: bool,
    },
}

impl Questions {
    /// One more.
    pub(crate) fn ask(&mut self, now: Uptime, asked: &Asked, config: &GuestConfig) {
        if self.open.len() >= MAX_QUESTIONS {
            let oldest = self.open.remove(0);
            oldest.work.give_up();
        }
        let work = begin(&asked.question, config).unwrap_or(Work::Done { good: false });
        self.open.push(Open { id: asked.id, deadline: now.after(asked.timeout.min(MAX_TIMEOUT)), work });
    }

    /// Does what can be done at once, and tells what is answered.
    pub(crate) fn turn(&mut self, now: Uptime, mut answer: impl FnMut(u32, bool)) {
        self.open.retain_mut(|open| {
            open.work.turn();
            let late = now >= open.deadline;
            let good = match open.work {
                Work::Done { good } => good,
                _ if late => false,
                _ => return true,
            };
            open.work.give_up();
            answer(open.id, good);
            false
        });
    }

    /// The processes that are at work, for whoever reaps.
    pub(crate) fn commands(&mut self) -> impl Iterator<Item = &mut Child> {
        self.open.iter_mut().filter_map(|open| match &mut open.work {
            Work::Running(command) => Some(&mut command.child),
            _ => None,
        })
    }

    /// How they ended, in the order of [`Questions::commands`].
    pub(crate) fn ended(&mut self, ends: impl Iterator<Item = Option<ExitStatus>>) {
        let running = self.open.iter_mut().filter(|open| matches!(open.work, Work::Running(_)));
        for (open, status) in running.zip(ends) {
            if let Some(status) = status {
                // What it left behind in its group is nobody's.
                open.work.give_up();
                open.work = Work::Done { good: status == ExitStatus::Code(0) };
            }
        }
    }

    /// When something is due, if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Uptime> {
        self.open.iter().map(|open| open.deadline).min()
    }

    /// What to wait for.
    pub(crate) fn interest(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        self.open.iter().flat_map(|open| open.work.interest())
    }
}

impl Work {
    fn turn(&mut self) {
        let next = match self {
            // What it writes is read, so that it does not wait, and thrown away.
            Work::Running(command) => {
                command.read(&mut Outbox::default());
                None
            }
            Work::Connecting { socket, request } => connected(socket).map(|good| match good {
                true if request.is_empty() => Work::Done { good },
                // Some bytes into a new socket: there is room.
                true if socket.write_all(request.as_bytes()).is_ok() => socket
                    .try_clone()
                    .map_or(Work::Done { good: false }, |socket| Work::Talking { socket, heard: Vec::new() }),
                _ => Work::Done { good: false },
            }),
            Work::Talking { socket, heard } => listen(socket, heard).map(|good| Work::Done { good }),
            Work::Done { .. } => None,
        };
        if let Some(next) = next {
            *self = next;
        }
        // An answer that came with the connection is heard in the same turn.
        if let Work::Talking { socket, heard } = self
            && let Some(good) = listen(socket, heard)
        {
            *self = Work::Done { good };
        }
    }

    fn interest(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        match self {
            Work::Running(command) => command.fds().map(|fd| (fd, PollFlags::POLLIN)).collect(),
            Work::Connecting { socket, .. } => vec![(socket.as_fd(), PollFlags::POLLOUT)],
            Work::Talking { socket, .. } => vec![(socket.as_fd(), PollFlags::POLLIN)],
            Work::Done { .. } => Vec::new(),
        }
    }

    fn give_up(&self) {
        if let Work::Running(command) = self {
            command.kill();
        }
    }
}

/// `None` for what cannot even be begun.
fn begin(question: &Question, config: &GuestConfig) -> Option<Work> {
    match question {
        Question::Exec(words) => {
            let words = words.strip_suffix(&[0]).unwrap_or(words);
            let words: Result<Vec<String>, _> =
                words.split(|byte| *byte == 0).map(|word| String::from_utf8(word.to_vec())).collect();
            Workload::start_command(config, &words.ok()?).ok().map(Work::Running)
        }
        Question::Tcp { port } => connect(*port, String::new()).ok(),
        Question::Http { port, path } => {
            // The older protocol: an answer that ends with its connection is all that is wanted.
            let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nUser-Agent: hearth\r\n\r\n");
            connect(*port, request).ok()
        }
    }
}

fn connect(port: u16, request: String) -> io::Result<Work> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), None)?;
    match socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
        _ => Ok(Work::Connecting { socket, request }),
    }
}

/// `None` as long as it is not decided.
fn connected(socket: &Socket) -> Option<bool> {
    match socket.take_error() {
        Ok(None) => {}
        Ok(Some(_)) | Err(_) => return Some(false),
    }
    match socket.peer_addr() {
        Ok(_) => Some(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => None,
        Err(_) => Some(false),
    }
}

/// `None` as long as the status has not come whole.
fn listen(mut socket: &Socket, heard: &mut Vec<u8>) -> Option<bool> {
    loop {
        let mut buffer = [0; STATUS_LEN];
        let room = buffer.get_mut(heard.len()..).unwrap_or_default();
        match socket.read(room) {
            Ok(0) => return Some(false),
            Ok(length) => heard.extend(room.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(_) => return Some(false),
        }
        if heard.len() >= STATUS_LEN {
            return Some(is_good(heard));
        }
    }
}

/// Of a line such as "HTTP/1.1 204".
fn is_good(line: &[u8]) -> bool {
    let status = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix("HTTP/1."));
    let status = status.and_then(|rest| rest.get(2..)).and_then(|status| status.parse::<u16>().ok());
    status.is_some_and(|status| GOOD_STATUS.contains(&status))
}

#[cfg(test)]
#[path = "questions_tests.rs"]
mod tests;

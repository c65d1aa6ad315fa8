//! A program that somebody on the host runs by hand.
//!
//! Duty: its process with a terminal of its own or with pipes, bytes to and from it, its window.
//! Not its duty: who is at the other end (`errand`).
//! Invariant: nothing here waits. Whoever drops it without having seen its end has to end it.

use crate::{
    child::{Child, Streams},
    mounts::errno,
    workload::pipe_from,
};
use hearth_config::guest::GuestConfig;
use hearth_wire::{
    Stream,
    exec::{Terminal, WindowSize},
};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::PollFlags,
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
    unistd::pipe2,
};
use rustix::termios::{Winsize, tcsetwinsize};
use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

/// What the program would type to say that nothing more comes: Ctrl-D, as terminals begin.
const END_OF_INPUT: u8 = 4;

#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) child: Child,
    input: Option<File>,
    /// A terminal is one output only.
    outputs: [Option<File>; 2],
    has_terminal: bool,
}

/// What came of a read or write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    Bytes(usize),
    /// Nothing can be moved at present.
    Nothing,
    /// And never will.
    Closed,
}

impl Program {
    pub(crate) fn start(
        config: &GuestConfig,
        command: &[String],
        terminal: Option<&Terminal>,
        input: bool,
    ) -> Result<Self, Errno> {
        match terminal {
            Some(terminal) => Self::start_at_terminal(config, command, terminal, input),
            None => Self::start_at_pipes(config, command, input),
        }
    }

    fn start_at_terminal(
        config: &GuestConfig,
        command: &[String],
        terminal: &Terminal,
        input: bool,
    ) -> Result<Self, Errno> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let ours = posix_openpt(flags)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let theirs = ptsname_r(&ours)?;
        let ours = File::from(OwnedFd::from(ours));
        resize(&ours, terminal.size)?;
        let name = [("TERM", terminal.name.as_str())];
        let more = if terminal.name.is_empty() { &[][..] } else { &name[..] };
        let child = Child::start(config, more, command, &Streams::Terminal(Path::new(&theirs)))?;
        let typed = ours.try_clone().map_err(|error| errno(&error));
        let mut program = Self { child, input: None, outputs: [Some(ours), None], has_terminal: true };
        match typed {
            Ok(typed) => program.input = Some(typed),
            Err(errno) => {
                program.child.kill();
                return Err(errno);
            }
        }
        if !input {
            program.end_input();
        }
        Ok(program)
    }

    fn start_at_pipes(config: &GuestConfig, command: &[String], input: bool) -> Result<Self, Errno> {
        let ((stdout, output), (stderr, error)) = (pipe_from()?, pipe_from()?);
        let typed = if input {
            let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
            fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            Some((theirs, ours))
        } else {
            None
        };
        let input = typed.as_ref().map(|(theirs, _)| theirs.as_fd());
        let streams = Streams::Files { input, output: output.as_fd(), error: error.as_fd() };
        let child = Child::start(config, &[], command, &streams)?;
        let input = typed.map(|(_, ours)| ours.into());
        Ok(Self { child, input, outputs: [Some(stdout), Some(stderr)], has_terminal: false })
    }

    /// Moves what it wrote into `into`, of whichever stream has something.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> (Stream, Moved) {
        for (output, stream) in self.outputs.iter_mut().zip([Stream::Stdout, Stream::Stderr]) {
            let Some(file) = output else { continue };
            match file.read(into) {
                Ok(0) => *output = None,
                Ok(length) => return (stream, Moved::Bytes(length)),
                // Of a few signals at most, all of them blocked.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // A terminal that nobody holds open any more says EIO.
                Err(_) => *output = None,
            }
        }
        let open = self.outputs.iter().any(Option::is_some);
        (Stream::Stdout, if open { Moved::Nothing } else { Moved::Closed })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Moved {
        let Some(input) = &mut self.input else { return Moved::Closed };
        match input.write(bytes) {
            Ok(length) => Moved::Bytes(length),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Moved::Nothing
            }
            Err(_) => {
                self.input = None;
                Moved::Closed
            }
        }
    }

    /// Nothing more will be typed.
    pub(crate) fn end_input(&mut self) {
        if self.has_terminal {
            // One without room has a program that reads nothing, and would not see its end either.
            let _ = self.write(&[END_OF_INPUT]);
        }
        self.input = None;
    }

    pub(crate) fn resize(&self, size: WindowSize) {
        if self.has_terminal
            && let [Some(terminal), _] = &self.outputs
        {
            // Tells the program by SIGWINCH. A terminal that is gone needs no size.
            let _ = resize(terminal, size);
        }
    }

    /// What to wait for, to read and to write.
    pub(crate) fn interest(&self, read: bool, write: bool) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let outputs = self.outputs.iter().flatten().filter(|_| read);
        let mut fds: Vec<_> = outputs.map(|file| (file.as_fd(), PollFlags::POLLIN)).collect();
        fds.extend(self.input.iter().filter(|_| write).map(|file| (file.as_fd(), PollFlags::POLLOUT)));
        fds
    }

    /// Hangs up: what is left is its process, whose terminal is gone.
    pub(crate) fn into_child(self) -> Child {
        self.child
    }
}

fn resize(terminal: &File, size: WindowSize) -> Result<(), Errno> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).map_err(|error| Errno::from_raw(error.raw_os_error()))
}

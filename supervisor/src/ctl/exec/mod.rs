//! `hearthctl exec`: a program in a guest, with the person's own terminal.
//!
//! Duty: carry what is typed, signals and window sizes there, and output and status back. Not here: the terminal itself
//! (`terminal`), who may do it (`api`).
//! Invariant: whatever ends it, the terminal is given back; nothing here waits for something that a person who wants out
//! would have to wait for, too.

mod terminal;

use std::io::{self, IsTerminal};
use std::os::unix::net::UnixStream;

use async_signal::{Signal, Signals};
use clap::Args;
use hearth_wire::exec::{FromProgram, ToProgram};
use hearth_wire::{Decoder, ExitStatus, FrameFault, MAX_FRAME, MAX_OUTPUT, Output, Stream, encode};
use smol::channel::{Receiver, Sender, bounded};
use smol::future::or;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::stream::StreamExt;
use smol::{Async, Unblock};
use thiserror::Error;

use self::terminal::{Escape, RawTerminal};
use crate::api::client::{Address, Client, ClientError};
use crate::api::exec::PROTOCOL;
use crate::api::types::{ExecWanted, TerminalWanted};

/// Not the program's: it could not be run from here, or its end was not seen.
pub(super) const NOT_RUN: u8 = 125;
/// There it is, and cannot be run.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;
/// A program that a signal ended has this and the signal's number, as shells say it.
const SIGNALLED: u8 = 128;
/// Nobody reads its output any more: as if SIGPIPE had ended it.
const UNREAD: u8 = SIGNALLED + 13;
/// What is typed and not sent yet, in pieces of at most a KiB: a large text that somebody pastes.
const MAX_TYPED: usize = 64;
/// Signals to this program, without a terminal of the program's, after which it does not wait for the other one.
const ENOUGH: u8 = 3;

/// What the help says of it.
pub(super) const HELP: &str = "\
Runs a program in a workload's guest, beside the workload, with its environment and folder.

With -it the terminal here is the program's: every key goes there, Ctrl-C included, and so does a change of the
window's size. Three times Ctrl-] in a row leaves. Without -t, SIGINT, SIGTERM, SIGQUIT and SIGHUP are passed on to the
program; the third one leaves. Whoever leaves takes the program along: its terminal hangs up, and two seconds later it
is killed.

Exit status: the program's own; 128 and its number if a signal ended it; 127 if there is no such program, 126 if it
cannot be run; 141 if nobody reads its output any more; 125 if hearthd or the guest refused it, or its end was not seen.";

#[derive(Debug, Args)]
pub struct Exec {
    /// Pass on what is typed
    #[arg(short, long)]
    interactive: bool,
    /// Give the program a terminal
    #[arg(short, long)]
    tty: bool,
    /// A workload, or one of its replicas: NAME.NUMBER
    workload: String,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Debug, Error)]
pub(super) enum ExecError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("expected no --json: it prints what the program prints")]
    Json,
    #[error("expected a terminal at standard input for -it")]
    NoTerminal,
    #[error("the terminal cannot be used")]
    Terminal(#[source] io::Error),
    #[error("signals cannot be caught")]
    Signals(#[source] io::Error),
    #[error("the connection is lost, and with it the program")]
    Lost,
    #[error("the connection is lost")]
    Stream(#[from] io::Error),
    #[error("the guest sends bad frames")]
    Frame(#[from] FrameFault),
    #[error("the guest runs as many programs by hand as it may")]
    Busy,
    #[error("left; the program is taken along")]
    Left,
}

pub(super) fn run(address: &Address, json: bool, exec: &Exec) -> Result<u8, ExecError> {
    if json {
        return Err(ExecError::Json);
    }
    let raw = exec.interactive && exec.tty;
    if raw && !io::stdin().is_terminal() {
        return Err(ExecError::NoTerminal);
    }
    let wanted = ExecWanted {
        command: exec.command.clone(),
        terminal: exec.tty.then(own_terminal),
        input: exec.interactive,
    };
    let body = serde_json::to_vec(&wanted).map_err(ClientError::from)?;
    let path = super::path(&exec.workload, "/exec");
    // Before the terminal changes: who is ended by one of them gives it back.
    let signals = Signals::new([Signal::Int, Signal::Term, Signal::Hup, Signal::Quit, Signal::Winch]);
    let signals = signals.map_err(ExecError::Signals)?;
    let (stream, early) = Client::reach(address)?.switch(&path, &body, PROTOCOL)?;
    let _raw = raw.then(RawTerminal::enter).transpose().map_err(ExecError::Terminal)?;
    let session = Session { raw, interactive: exec.interactive };
    smol::block_on(session.hold(stream, early, signals))
}

fn own_terminal() -> TerminalWanted {
    let size = terminal::size();
    let name = std::env::var("TERM").unwrap_or_default();
    let is_plain = name.len() <= hearth_wire::exec::MAX_TERMINAL_NAME
        && name.bytes().all(|byte| byte.is_ascii_graphic());
    TerminalWanted {
        rows: size.rows,
        columns: size.columns,
        name: if is_plain { name } else { String::new() },
    }
}

struct Session {
    raw: bool,
    interactive: bool,
}

impl Session {
    /// Until the program or the person ends it.
    async fn hold(&self, stream: UnixStream, early: Vec<u8>, signals: Signals) -> Result<u8, ExecError> {
        let stream = Async::new(stream)?;
        let (say, said) = bounded(MAX_TYPED);
        // What the program says goes first: after its end nothing counts any more.
        let heard = listen(&stream, early);
        let spoken = async {
            speak(&stream, said).await;
            // Its last words may still be on their way here.
            smol::future::pending().await
        };
        or(heard, or(self.watch(signals, &say), or(self.read(&say), spoken))).await
    }

    /// Signals, as something to say.
    async fn watch(&self, mut signals: Signals, say: &Sender<ToProgram>) -> Result<u8, ExecError> {
        let mut asked = 0;
        while let Some(Ok(signal)) = signals.next().await {
            let message = match signal {
                Signal::Winch => ToProgram::Resize(terminal::size()),
                // From elsewhere: what is typed is no signal here.
                signal if self.raw => return Ok(SIGNALLED.saturating_add(number(signal))),
                signal => {
                    asked += 1;
                    if asked == ENOUGH {
                        return Ok(SIGNALLED.saturating_add(number(signal)));
                    }
                    ToProgram::Signal { number: number(signal).into() }
                }
            };
            // Not waited for: a guest that takes nothing must not keep the next signal from being heard.
            let _ = say.try_send(message);
        }
        smol::future::pending().await
    }

    /// What is typed, if that is wanted.
    async fn read(&self, say: &Sender<ToProgram>) -> Result<u8, ExecError> {
        if self.interactive {
            // Not set to non-blocking: its description is shared with whoever started this program.
            let mut typed = Unblock::with_capacity(MAX_OUTPUT, io::stdin());
            let mut escape = Escape::default();
            let mut buffer = [0; MAX_OUTPUT];
            while let Ok(length @ 1..) = typed.read(&mut buffer).await {
                let bytes = &buffer[..length];
                if self.raw && escape.wanted(bytes) {
                    return Err(ExecError::Left);
                }
                let message = ToProgram::Input(Output::from_slice(bytes).unwrap_or_default());
                if self.raw {
                    // Who waits for a program that reads nothing does not see that the person wants out. Terminals
                    // drop keys, too.
                    let _ = say.try_send(message);
                } else {
                    let _ = say.send(message).await;
                }
            }
            let _ = say.send(ToProgram::EndOfInput).await;
        }
        smol::future::pending().await
    }
}

async fn speak(mut stream: &Async<UnixStream>, said: Receiver<ToProgram>) {
    let mut frame = Box::new([0; MAX_FRAME]);
    while let Ok(message) = said.recv().await {
        // It fits: that is the wire crate's own promise and test.
        let Ok(bytes) = encode(&message, frame.as_mut()) else { continue };
        if stream.write_all(bytes).await.is_err() {
            return;
        }
    }
}

async fn listen(mut stream: &Async<UnixStream>, early: Vec<u8>) -> Result<u8, ExecError> {
    let mut decoder = Box::<Decoder>::default();
    let (mut out, mut err) = (Unblock::new(io::stdout()), Unblock::new(io::stderr()));
    let mut buffer = vec![0; MAX_FRAME];
    let mut held = early;
    loop {
        let mut rest = held.as_slice();
        while !rest.is_empty() {
            rest = decoder.push(rest);
            while let Some(message) = decoder.pop::<FromProgram>()? {
                match message {
                    FromProgram::Started { .. } => {}
                    FromProgram::Output { stream: Stream::Stdout, bytes } => {
                        if out.write_all(&bytes).await.is_err() {
                            return Ok(UNREAD);
                        }
                    }
                    FromProgram::Output { stream: Stream::Stderr, bytes } => {
                        drop(err.write_all(&bytes).await);
                    }
                    FromProgram::Ended { status } => {
                        let _ = (out.flush().await, err.flush().await);
                        return Ok(code(status));
                    }
                    FromProgram::Busy => return Err(ExecError::Busy),
                }
            }
        }
        // A program that never ends must not go on for a reader that is gone.
        if out.flush().await.is_err() {
            return Ok(UNREAD);
        }
        let _ = err.flush().await;
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Err(ExecError::Lost);
        }
        held.clear();
        held.extend_from_slice(&buffer[..length]);
    }
}

/// As a shell would say it.
fn code(status: ExitStatus) -> u8 {
    match status {
        ExitStatus::Code(code) => u8::try_from(code & 0xff).unwrap_or(NOT_RUN),
        ExitStatus::Signal(signal) => SIGNALLED.saturating_add(u8::try_from(signal).unwrap_or_default()),
        ExitStatus::NotStarted(errno) => {
            let error = io::Error::from_raw_os_error(errno);
            eprintln!("hearthctl: the program cannot be started: {error}");
            if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN }
        }
    }
}

fn number(signal: Signal) -> u8 {
    u8::try_from(signal as i32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_a_shell() {
        assert_eq!(code(ExitStatus::Code(0)), 0);
        assert_eq!(code(ExitStatus::Code(7)), 7);
        assert_eq!(code(ExitStatus::Code(-1)), 255);
        assert_eq!(code(ExitStatus::Signal(9)), 137);
        assert_eq!(code(ExitStatus::NotStarted(2)), NOT_FOUND);
        assert_eq!(code(ExitStatus::NotStarted(13)), CANNOT_RUN);
    }
}

//! A program in a guest, run for the fleet.
//!
//! Duty: start it over the agent's port for such programs, give it its input, take its output, bound its time. Not here:
//! who may. Invariant: who hangs up takes the program along, so none outlives its command.

use std::io;
use std::time::{Duration, Instant};

use hearth_wire::exec::{FromProgram, ToProgram};
use hearth_wire::{Decoder, ExitStatus, MAX_FRAME, MAX_OUTPUT, Output as Bytes, Stream, encode};
use smol::Timer;
use smol::future::or;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::unix::UnixStream;

use super::output::{Channel, Output};
use super::{Running, by, words};
use crate::api::events::Note;
use crate::api::exec::{call, shown, start};
use crate::api::server::reach;
use crate::api::types::ExecWanted;
use crate::setup::{vm_folder, vsock_socket};

/// For more output, before a piece that is not full goes: what people see of a program that speaks now and then.
const GATHER: Duration = Duration::from_millis(100);
/// There is no such program, or it cannot be run: as shells say it.
const NOT_FOUND: u8 = 127;
const CANNOT_RUN: u8 = 126;
/// A program that a signal ended has this and the signal's number.
const SIGNALLED: u8 = 128;

impl Running<'_> {
    /// Its status, or why there is none.
    pub(super) async fn program(
        &self,
        command: &[String],
        input: &str,
        within: Duration,
        output: &mut Output,
    ) -> Result<u8, String> {
        let wanted = ExecWanted { command: command.to_vec(), terminal: None, input: !input.is_empty() };
        let start = start(&wanted)?;
        let reached = reach(self.door, self.stream.target.clone()).await.map_err(|reply| words(&reply))?;
        let socket = vsock_socket(&vm_folder(&self.door.state, &reached.replica));
        let guest = call(&socket, &start).await.map_err(|error| {
            format!("the agent of {} takes no programs at present: {error}", reached.replica)
        })?;
        let text = format!("{}: {} runs {}", reached.replica, by(self.id), shown(command));
        self.door.tell(&Note {
            kind: "exec",
            workload: &reached.workload,
            replica: &reached.replica,
            text: &text,
        });
        let late = async {
            Timer::after(within).await;
            Err(format!("it ran longer than {} s, and was ended", within.as_secs()))
        };
        let fed = async {
            feed(guest.clone(), input).await;
            // What it says to that is still to come.
            smol::future::pending().await
        };
        or(self.listen(guest.clone(), output), or(fed, late)).await
    }

    async fn listen(&self, mut guest: UnixStream, output: &mut Output) -> Result<u8, String> {
        let mut decoder = Box::<Decoder>::default();
        let mut buffer = vec![0; MAX_FRAME];
        let mut due = None;
        loop {
            // A read of what is there already does not wait, and there may be much of it.
            smol::future::yield_now().await;
            let read = async { Some(guest.read(&mut buffer).await) };
            let gathered = async {
                match due {
                    Some(due) => {
                        Timer::at(due).await;
                    }
                    None => smol::future::pending().await,
                }
                None
            };
            let length = match or(read, gathered).await {
                Some(Ok(length @ 1..)) => length,
                Some(Ok(0) | Err(_)) => return Err("the guest is gone, and with it the program".to_owned()),
                None => {
                    due = None;
                    self.speaker.tell_all(output.flush()).await;
                    continue;
                }
            };
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                rest = decoder.push(rest);
                while let Some(message) =
                    decoder.pop::<FromProgram>().map_err(|_| "the guest sends bad frames".to_owned())?
                {
                    match message {
                        FromProgram::Started { .. } => {}
                        FromProgram::Output { stream, bytes } => {
                            let channel = if stream == Stream::Stdout { Channel::Out } else { Channel::Err };
                            self.speaker.tell_all(output.take(channel, &bytes)).await;
                        }
                        FromProgram::Ended { status } => return ended(status),
                        FromProgram::Busy => {
                            return Err("the guest runs as many programs as it may".to_owned());
                        }
                    }
                }
            }
            if output.is_held() {
                due.get_or_insert_with(|| Instant::now() + GATHER);
            } else {
                due = None;
            }
        }
    }
}

/// All of its input, and that there is no more.
async fn feed(mut guest: UnixStream, input: &str) {
    if input.is_empty() {
        return;
    }
    let mut frame = Box::new([0; MAX_FRAME]);
    let pieces = input.as_bytes().chunks(MAX_OUTPUT);
    let pieces = pieces.map(|piece| ToProgram::Input(Bytes::from_slice(piece).unwrap_or_default()));
    for message in pieces.chain([ToProgram::EndOfInput]) {
        let Ok(bytes) = encode(&message, frame.as_mut()) else { return };
        // A program that reads nothing any more ends by itself, or its time does.
        if guest.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// As a shell would say it.
fn ended(status: ExitStatus) -> Result<u8, String> {
    match status {
        ExitStatus::Code(code) => Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        ExitStatus::Signal(signal) => Ok(SIGNALLED.saturating_add(u8::try_from(signal).unwrap_or_default())),
        ExitStatus::NotStarted(errno) => {
            let error = io::Error::from_raw_os_error(errno);
            Ok(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN })
        }
    }
}

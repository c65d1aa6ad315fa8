//! The connection to the agent in a guest.
//!
//! ```text
//! accepted --Hello of our protocol--> greeted --frames--> ... --end of stream or a bad frame--> closed
//!          \--anything else--> closed
//! ```
//!
//! Duty: frames in, reports and lines out; requests to the agent. One connection at a time; a guest whose agent
//! connects anew is heard again.
//! Not here: what follows from a report.
//! Invariant: a guest that floods is slowed down by its own socket; nothing here grows with what it sends, and
//! between two reads everybody else has a turn.

use std::io;
use std::time::Duration;

use hearth_core::WorkloadEnd;
use hearth_wire::{
    Decoder, ExitStatus, FrameFault, FromAgent, MAX_FRAME, PROTOCOL_VERSION, Stream, ToAgent, encode,
};
use smol::Timer;
use smol::channel::Receiver;
use smol::future::{or, race};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::unix::{UnixListener, UnixStream};
use thiserror::Error;

use crate::lines::LineSplitter;
use crate::machine::{Reporter, What};
use crate::wording::one_line;

/// A monitor takes some bytes at once or is stuck.
const WRITE_PATIENCE: Duration = Duration::from_secs(2);
/// Bytes per read: a frame or some small ones.
const READ_BYTES: usize = 4096;
/// After a failed accept (out of descriptors, say): not a busy loop.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Error)]
enum TalkError {
    #[error("the connection failed")]
    Connection(#[from] io::Error),
    #[error("its frames are not good")]
    Frame(#[from] FrameFault),
    #[error("it speaks protocol {0}, this is {PROTOCOL_VERSION}")]
    Protocol(u16),
    #[error("it did not say hello first")]
    NoHello,
}

enum Turn {
    Read(io::Result<usize>),
    Ask(Box<ToAgent>),
}

/// Serves the agents of one machine until `gone` closes and no connection waits any more.
pub(crate) async fn serve(
    listener: UnixListener,
    gone: Receiver<()>,
    requests: Receiver<ToAgent>,
    reporter: Reporter,
) {
    loop {
        // In this order: a connection that waits is served even if the machine is gone.
        let accept = async { Some(listener.accept().await) };
        let stop = async {
            let _ = gone.recv().await;
            None
        };
        match or(accept, stop).await {
            None => return,
            Some(Ok((stream, _))) => {
                let mut talk =
                    Talk { stream, reporter: &reporter, greeted: false, deaf: false, out: Lines::default() };
                let result = talk.run(&requests).await;
                let Talk { out, greeted, .. } = talk;
                out.finish(&reporter);
                if let Err(error) = result {
                    reporter.complain(&format!("the agent's connection is closed: {}", one_line(&error)));
                }
                if greeted {
                    reporter.report(What::AgentLost).await;
                }
            }
            Some(Err(error)) => {
                reporter.complain(&format!("the agent cannot connect: {error}"));
                Timer::after(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// The workload's two streams, each cut into lines of its own.
#[derive(Default)]
struct Lines {
    stdout: LineSplitter,
    stderr: LineSplitter,
}

impl Lines {
    fn push(&mut self, stream: Stream, bytes: &[u8], reporter: &Reporter) {
        let splitter = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        splitter.push(bytes, |line| reporter.line(line));
    }

    fn finish(mut self, reporter: &Reporter) {
        self.stdout.finish(|line| reporter.line(line));
        self.stderr.finish(|line| reporter.line(line));
    }
}

struct Talk<'r> {
    stream: UnixStream,
    reporter: &'r Reporter,
    greeted: bool,
    /// A write failed. Reading goes on: a guest that has hung up may have said how its workload ended.
    deaf: bool,
    out: Lines,
}

impl Talk<'_> {
    async fn run(&mut self, requests: &Receiver<ToAgent>) -> Result<(), TalkError> {
        let mut decoder = Decoder::new();
        let mut buffer = [0; READ_BYTES];
        loop {
            // A read of what is there already does not wait, so a guest that floods would keep the only thread from
            // signals, timers and other guests. Before the first read too: some only connect and hang up.
            smol::future::yield_now().await;
            let mut stream = self.stream.clone();
            let read = async { Turn::Read(stream.read(&mut buffer).await) };
            let greeted = self.greeted;
            let ask = async {
                // A request waits for somebody who can be asked.
                if greeted && let Ok(request) = requests.recv().await {
                    return Turn::Ask(Box::new(request));
                }
                smol::future::pending().await
            };
            // Fair: a guest that never stops talking still hears.
            match race(read, ask).await {
                Turn::Read(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Turn::Read(Err(error)) => return Err(error.into()),
                Turn::Read(Ok(0)) => return Ok(decoder.finish()?),
                Turn::Read(Ok(length)) => {
                    let mut rest = &buffer[..length];
                    while !rest.is_empty() {
                        rest = decoder.push(rest);
                        while let Some(message) = decoder.pop::<FromAgent>()? {
                            self.take(message).await?;
                        }
                    }
                }
                Turn::Ask(request) => self.send(&request).await,
            }
        }
    }

    async fn take(&mut self, message: FromAgent) -> Result<(), TalkError> {
        let what = match message {
            FromAgent::Hello { protocol, .. } if protocol != PROTOCOL_VERSION => {
                return Err(TalkError::Protocol(protocol));
            }
            FromAgent::Hello { uptime_ms, .. } => {
                let heartbeat_ms = u32::try_from(self.reporter.heartbeat.as_millis()).unwrap_or(u32::MAX);
                self.send(&ToAgent::Welcome { protocol: PROTOCOL_VERSION, heartbeat_ms }).await;
                self.greeted = true;
                What::AgentConnected { uptime: Duration::from_millis(uptime_ms) }
            }
            _ if !self.greeted => return Err(TalkError::NoHello),
            FromAgent::Started { .. } => What::WorkloadStarted,
            FromAgent::Heartbeat { .. } => What::Heartbeat,
            FromAgent::Output { stream, bytes } => {
                self.out.push(stream, &bytes, self.reporter);
                return Ok(());
            }
            FromAgent::Dropped { bytes } => {
                self.reporter.line(&format!("({bytes} bytes of output lost in the guest)"));
                return Ok(());
            }
            // Between an agent and whoever takes or wakes a snapshot.
            FromAgent::Warm { .. } | FromAgent::Held | FromAgent::Identified => return Ok(()),
            FromAgent::Answered { id, good } => What::Answered { id, good },
            FromAgent::Exited { status } => What::WorkloadEnded(match status {
                ExitStatus::Code(code) => WorkloadEnd::Code(code),
                ExitStatus::Signal(signal) => WorkloadEnd::Signal(signal),
                ExitStatus::NotStarted(errno) => WorkloadEnd::NotStarted(errno),
            }),
        };
        self.reporter.report(what).await;
        Ok(())
    }

    async fn send(&mut self, message: &ToAgent) {
        let mut buffer = [0; MAX_FRAME];
        // A message to the agent is a few bytes: it fits.
        let Ok(frame) = encode(message, &mut buffer) else { return };
        if self.deaf {
            return;
        }
        let write = self.stream.write_all(frame);
        let stuck = async {
            Timer::after(WRITE_PATIENCE).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        self.deaf = or(write, stuck).await.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream as Socket;

    use hearth_core::{Run, Slot, WorkloadId};
    use hearth_wire::{Output, Version};
    use smol::channel::bounded;
    use smol::future::poll_once;

    use crate::console::Console;
    use crate::screens::Screens;

    #[test]
    fn between_two_reads_of_a_flood_everybody_else_has_a_turn() {
        let (mut guest, host) = Socket::pair().unwrap();
        let mut frame = [0; MAX_FRAME];
        let agent_version = Version::try_from("flood").unwrap();
        let hello = FromAgent::Hello { protocol: PROTOCOL_VERSION, agent_version, uptime_ms: 1 };
        guest.write_all(encode(&hello, &mut frame).unwrap()).unwrap();
        let output = FromAgent::Output { stream: Stream::Stdout, bytes: Output::from_slice(b"x\n").unwrap() };
        let output = encode(&output, &mut frame).unwrap();
        // More than ten reads, less than a socket holds.
        guest.write_all(&output.repeat(10 * READ_BYTES / output.len() + 1)).unwrap();

        let (reports, _reported) = bounded(4);
        let reporter = Reporter {
            vm: WorkloadId::from_number(0).replica(Slot::FIRST).run(Run(1)),
            name: "flood".into(),
            workload: "flood".into(),
            logs: None,
            screens: Screens::default(),
            console: Console::new(["flood"], std::io::sink()).unwrap(),
            reports,
            guests: crate::guests::Guests::none(&Console::new(["flood"], std::io::sink()).unwrap()),
            heartbeat: Duration::from_secs(1),
        };
        let (_ask, requests) = bounded(1);
        let stream = UnixStream::try_from(host).unwrap();
        let mut talk =
            Talk { stream, reporter: &reporter, greeted: false, deaf: false, out: Lines::default() };
        let turns = smol::block_on(async {
            let mut run = std::pin::pin!(talk.run(&requests));
            drop(guest);
            let mut turns = 0;
            while poll_once(&mut run).await.is_none() {
                turns += 1;
            }
            turns
        });
        assert!(turns > 10, "{turns} turns for ten reads");
    }
}

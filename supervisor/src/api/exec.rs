//! A program in a guest, run by hand: a connection of the API that becomes a line to the guest's agent.
//!
//! ```text
//! asked --refused--> answered
//!   |
//!   +--guest reached--> 101 --> frames of hearth_wire::exec, both ways --either side hangs up--> closed
//! ```
//!
//! Duty: who may, reach the agent, carry bytes. Not here: what they say (the agent and `hearthctl` know).
//! Invariant: one buffer for each direction, and no read before its write is done: who reads slowly slows down the
//! program, and nobody else. Each use is an event with who and what.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_wire::exec::{
    CommandWords, EXEC_PORT, MAX_COMMAND, MAX_TERMINAL_NAME, Terminal, TerminalName, ToProgram, WindowSize,
};
use hearth_wire::{MAX_FRAME, encode};
use smol::Timer;
use smol::future::or;
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::net::unix::UnixStream;

use super::events::Note;
use super::server::{Caller, Client, Door, MAX_SESSIONS, Place, busy, reach};
use super::types::ExecWanted;
use super::{Reply, http};
use crate::setup::{vm_folder, vsock_socket};

/// What a client has to call the protocol behind the 101.
pub(crate) const PROTOCOL: &str = "hearth-exec";
/// For a guest's agent to take a call.
const CALL_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a monitor's answer to a call: "OK 4294967295" and its end.
const MAX_ANSWER: usize = 16;
/// Bytes on their way in one direction.
const BUFFER: usize = 4096;

/// What is asked, as the agent hears it; or what is wrong with it.
pub(crate) fn start(wanted: &ExecWanted) -> Result<ToProgram, String> {
    if wanted.command.is_empty() {
        return Err("expected a command".to_owned());
    }
    if wanted.command.iter().any(|word| word.contains('\0')) {
        return Err("expected words without zero bytes".to_owned());
    }
    let bytes: Vec<u8> = wanted.command.iter().flat_map(|word| word.bytes().chain([0])).collect();
    let command = CommandWords::from_slice(&bytes)
        .map_err(|_| format!("expected a command of at most {} bytes", MAX_COMMAND - 1))?;
    let terminal = match &wanted.terminal {
        None => None,
        Some(terminal) => {
            let name = TerminalName::try_from(terminal.name.as_str());
            let name = name.ok().filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic()));
            let name = name.ok_or_else(|| {
                format!("expected a terminal's name of at most {MAX_TERMINAL_NAME} plain characters")
            })?;
            let size = WindowSize { rows: terminal.rows, columns: terminal.columns };
            Some(Terminal { size, name })
        }
    };
    Ok(ToProgram::Start { command, terminal, input: wanted.input })
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// The whole session; or why there is none.
    pub(super) async fn exec(
        &mut self,
        door: &Door,
        caller: &Caller,
        workload: String,
        wanted: &ExecWanted,
        upgrade: Option<&str>,
    ) -> Option<Option<Reply>> {
        let refused = |status, error, message: String| Some(Some(Reply::refused(status, error, message)));
        let Caller::Local(who) = caller else {
            return refused(403, "only-here", "expected a caller on the daemon's own socket".to_owned());
        };
        if upgrade != Some(PROTOCOL) {
            return refused(426, "no-upgrade", format!("expected \"Upgrade: {PROTOCOL}\""));
        }
        let start = match start(wanted) {
            Ok(start) => start,
            Err(message) => return refused(400, "bad-request", message),
        };
        let Some(_place) = Place::take(&door.places.sessions, MAX_SESSIONS) else {
            return Some(Some(busy(format!("expected at most {MAX_SESSIONS} programs run by hand"))));
        };
        let reached = match reach(door, workload).await {
            Ok(reached) => reached,
            Err(reply) => return Some(Some(reply)),
        };
        let folder = vm_folder(&door.state, &reached.replica);
        let guest = match call(&vsock_socket(&folder), &start).await {
            Ok(guest) => guest,
            Err(error) => {
                let message =
                    format!("the agent of {} takes no programs at present: {error}", reached.replica);
                return refused(503, "no-agent", message);
            }
        };
        let text = format!("{}: {who} runs {}", reached.replica, shown(&wanted.command));
        door.tell(&Note {
            kind: "exec",
            workload: &reached.workload,
            replica: &reached.replica,
            text: &text,
        });
        self.write(http::switching(PROTOCOL).as_bytes()).await?;
        self.carry(guest).await;
        Some(None)
    }

    async fn carry(&mut self, mut guest: UnixStream) {
        // It may have said more with its request.
        let early = std::mem::take(&mut self.held);
        if guest.write_all(&early).await.is_err() {
            return;
        }
        let (from_client, to_client) = smol::io::split(&mut self.stream);
        or(pour(from_client, guest.clone()), pour(guest, to_client)).await;
    }
}

/// Until one of them is gone.
async fn pour(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut buffer = [0; BUFFER];
    loop {
        // A read of what is there already does not wait, and there may be much of it.
        smol::future::yield_now().await;
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// A line to the agent's port, on which it was told what to start.
pub(crate) async fn call(socket: &Path, start: &ToProgram) -> io::Result<UnixStream> {
    let late = async {
        Timer::after(CALL_PATIENCE).await;
        Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"))
    };
    or(call_patiently(socket.to_owned(), start), late).await
}

async fn call_patiently(socket: PathBuf, start: &ToProgram) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("CONNECT {EXEC_PORT}\n").as_bytes()).await?;
    // Byte by byte: what follows is the agent's.
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\n") && answer.len() < MAX_ANSWER {
        if stream.read(&mut byte).await? == 0 {
            return Err(io::Error::other("nobody takes the call"));
        }
        answer.extend_from_slice(&byte);
    }
    if !answer.starts_with(b"OK ") {
        return Err(io::Error::other("its monitor does not understand"));
    }
    let mut frame = Box::new([0; MAX_FRAME]);
    stream.write_all(encode(start, frame.as_mut()).map_err(io::Error::other)?).await?;
    Ok(stream)
}

/// For people, on one line.
pub(crate) fn shown(command: &[String]) -> String {
    let is_plain = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'\\".contains(&byte))
    };
    let words: Vec<String> =
        command.iter().map(|word| if is_plain(word) { word.clone() } else { format!("{word:?}") }).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::TerminalWanted;

    fn wanted(command: &[&str], terminal: Option<&str>) -> ExecWanted {
        let terminal = terminal.map(|name| TerminalWanted { rows: 24, columns: 80, name: name.to_owned() });
        ExecWanted { command: command.iter().map(|word| (*word).to_owned()).collect(), terminal, input: true }
    }

    #[test]
    fn what_an_agent_could_not_take_is_refused_before_it_is_called() {
        let told = |wanted| start(&wanted).unwrap_err();
        assert_eq!(told(wanted(&[], None)), "expected a command");
        assert_eq!(told(wanted(&["a\0b"], None)), "expected words without zero bytes");
        let long = "x".repeat(MAX_COMMAND);
        assert_eq!(told(wanted(&[&long], None)), "expected a command of at most 2047 bytes");
        for name in ["two words", &"x".repeat(MAX_TERMINAL_NAME + 1), "\u{e9}"] {
            assert!(told(wanted(&["sh"], Some(name))).starts_with("expected a terminal's name"), "{name}");
        }
        let Ok(ToProgram::Start { command, terminal: Some(terminal), input: true }) =
            start(&wanted(&[&long[1..]], Some("")))
        else {
            panic!("the longest command");
        };
        assert_eq!((command.len(), terminal.size.columns), (MAX_COMMAND, 80));
    }

    #[test]
    fn commands_are_shown_on_one_line_whatever_they_hold() {
        let words = ["sh", "-c", "echo a\nb", "", "caf\u{e9}\u{1b}[2J"].map(str::to_owned);
        assert_eq!(shown(&words), r#"sh -c "echo a\nb" "" "café\u{1b}[2J""#);
    }
}

//! The stand-in's side of programs that are run by hand: the port of a guest's agent, behind the monitor's socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use hearth_wire::exec::{EXEC_PORT, FromProgram, ToProgram};
use hearth_wire::{Decoder, ExitStatus, MAX_FRAME, Output, Stream, encode};

/// Takes calls from threads of its own, for as long as the process lives.
pub(crate) fn take_calls(socket: &Path) {
    let Ok(listener) = UnixListener::bind(socket) else { return };
    thread::spawn(move || {
        for call in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(call));
        }
    });
}

/// `None`: somebody hung up, or it is over.
fn answer(mut call: UnixStream) -> Option<()> {
    let mut line = String::new();
    let mut reader = BufReader::new(call.try_clone().ok()?);
    reader.read_line(&mut line).ok()?;
    if line.trim_end() != format!("CONNECT {EXEC_PORT}") {
        return None;
    }
    call.write_all(b"OK 1073741824\n").ok()?;
    let mut guest = Guest { call, decoder: Decoder::new(), reader };
    let ToProgram::Start { command, terminal, input } = guest.hear()? else { return None };
    let words: Vec<&str> =
        command.split(|byte| *byte == 0).map(|word| std::str::from_utf8(word).expect("text")).collect();
    guest.say(&FromProgram::Started { pid: 5 })?;
    match words.as_slice() {
        ["exit", code, ..] => guest.end(ExitStatus::Code(code.parse().expect("a number"))),
        ["missing", ..] => guest.end(ExitStatus::NotStarted(2)),
        ["busy", ..] => guest.say(&FromProgram::Busy),
        ["count", to, ..] => {
            for number in 0..to.parse().expect("a number") {
                guest.write(format!("{number:0>999}\n").as_bytes())?;
            }
            guest.end(ExitStatus::Code(0))
        }
        ["flood", ..] => loop {
            guest.write(&[b'x'; 1000])?;
        },
        ["hang-up", ..] => None,
        // Says what it gets.
        _ => {
            let size = terminal.map(|own| format!("{} {}x{}", own.name, own.size.rows, own.size.columns));
            guest.write(format!("terminal {size:?}, input {input}\r\n").as_bytes())?;
            loop {
                match guest.hear()? {
                    ToProgram::Input(bytes) => guest.write(&bytes)?,
                    ToProgram::Resize(size) => {
                        guest.write(format!("now {}x{}\r\n", size.rows, size.columns).as_bytes())?;
                    }
                    ToProgram::Signal { number } => {
                        guest.write(format!("signal {number}\r\n").as_bytes())?;
                        if words[0] != "stubborn" {
                            return guest.end(ExitStatus::Signal(number));
                        }
                    }
                    ToProgram::EndOfInput => return guest.end(ExitStatus::Code(0)),
                    ToProgram::Start { .. } => return None,
                }
            }
        }
    }
}

struct Guest {
    call: UnixStream,
    reader: BufReader<UnixStream>,
    decoder: Decoder,
}

impl Guest {
    fn hear(&mut self) -> Option<ToProgram> {
        let mut buffer = [0; 512];
        loop {
            if let Some(message) = self.decoder.pop().expect("good frames") {
                return Some(message);
            }
            let length = self.reader.read(&mut buffer).ok().filter(|length| *length > 0)?;
            assert!(self.decoder.push(&buffer[..length]).is_empty(), "a frame is larger than a read");
        }
    }

    fn say(&mut self, message: &FromProgram) -> Option<()> {
        let mut frame = [0; MAX_FRAME];
        self.call.write_all(encode(message, &mut frame).expect("fits")).ok()
    }

    fn write(&mut self, text: &[u8]) -> Option<()> {
        let bytes = Output::from_slice(text).expect("short");
        self.say(&FromProgram::Output { stream: Stream::Stdout, bytes })
    }

    fn end(&mut self, status: ExitStatus) -> Option<()> {
        self.say(&FromProgram::Ended { status })
    }
}

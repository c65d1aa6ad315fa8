//! What a person's terminal and a program in a guest say to each other.
//!
//! Duty: the vocabulary of one stream, which lives as long as the program that it is about, and its bounds.
//! Not its duty: who may run what.
//! Invariant: as for all messages, the largest one fits one frame, and variants are only ever appended. The host never
//! closes its half first: an end of the input is a message, and a stream that the host ends is a person who is gone.
//!
//! ```text
//! host:  Start --> Input, EndOfInput, Resize, Signal ...
//! guest:       \-> Started --> Output ... --> Ended        (or Ended or Busy at once)
//! ```

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

use crate::message::{ExitStatus, Message, Output, Stream};

/// Where the agent takes such streams, from the host only.
pub const EXEC_PORT: u32 = 1026;

/// Bytes of a command: its words, each with a zero byte behind it. A shell's script of some lines fits.
pub const MAX_COMMAND: usize = 2048;

/// Bytes of a terminal's name, such as `xterm-256color`.
pub const MAX_TERMINAL_NAME: usize = 64;

/// Words of a command, each with a zero byte behind it.
pub type CommandWords = Vec<u8, MAX_COMMAND>;

/// What `TERM` says.
pub type TerminalName = String<MAX_TERMINAL_NAME>;

/// Of a terminal's window, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    pub rows: u16,
    pub columns: u16,
}

/// A terminal of the program's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    pub size: WindowSize,
    /// Empty: whatever the workload's environment says.
    pub name: TerminalName,
}

/// Host to guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "boxing the words would need an allocator")]
pub enum ToProgram {
    /// First, and once.
    Start {
        command: CommandWords,
        /// Without one, its outputs are two pipes.
        terminal: Option<Terminal>,
        /// Whether anything will be typed. If not, its input is at its end from the beginning.
        input: bool,
    },
    Input(Output),
    EndOfInput,
    Resize(WindowSize),
    /// To all of its processes.
    Signal {
        number: i32,
    },
}

/// Guest to host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "boxing the output would need an allocator")]
pub enum FromProgram {
    Started {
        pid: u32,
    },
    /// With a terminal there is one output only.
    Output {
        stream: Stream,
        bytes: Output,
    },
    /// The last word; all output was before it.
    Ended {
        status: ExitStatus,
    },
    /// The guest runs as many of them as it may.
    Busy,
}

impl Message for ToProgram {}
impl Message for FromProgram {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HEADER_LEN, MAX_FRAME, MAX_OUTPUT, encode};

    fn payload<M: Message>(message: &M) -> std::vec::Vec<u8> {
        let mut buf = [0; MAX_FRAME];
        encode(message, &mut buf).expect("fits")[HEADER_LEN..].to_vec()
    }

    #[test]
    fn bytes_on_the_wire_stay_what_they_are() {
        let command = CommandWords::from_slice(b"a\0").expect("short");
        let size = WindowSize { rows: 24, columns: 200 };
        let terminal = Terminal { size, name: TerminalName::try_from("vt").expect("short") };
        let start = ToProgram::Start { command: command.clone(), terminal: Some(terminal), input: true };
        assert_eq!(payload(&start), [0, 2, b'a', 0, 1, 24, 0xc8, 1, 2, b'v', b't', 1]);
        let start = ToProgram::Start { command, terminal: None, input: false };
        assert_eq!(payload(&start), [0, 2, b'a', 0, 0, 0]);
        let bytes = Output::from_slice(b"hi").expect("short");
        assert_eq!(payload(&ToProgram::Input(bytes.clone())), [1, 2, b'h', b'i']);
        assert_eq!(payload(&ToProgram::EndOfInput), [2]);
        assert_eq!(payload(&ToProgram::Resize(size)), [3, 24, 0xc8, 1]);
        assert_eq!(payload(&ToProgram::Signal { number: 2 }), [4, 4]);
        assert_eq!(payload(&FromProgram::Started { pid: 7 }), [0, 7]);
        let output = FromProgram::Output { stream: Stream::Stderr, bytes };
        assert_eq!(payload(&output), [1, 1, 2, b'h', b'i']);
        assert_eq!(payload(&FromProgram::Ended { status: ExitStatus::Code(3) }), [2, 0, 6]);
        assert_eq!(payload(&FromProgram::Busy), [3]);
    }

    #[test]
    fn the_largest_messages_fit_a_frame() {
        let size = WindowSize { rows: u16::MAX, columns: u16::MAX };
        let name = TerminalName::try_from("t".repeat(MAX_TERMINAL_NAME).as_str()).expect("exactly full");
        let command = CommandWords::from_slice(&[255; MAX_COMMAND]).expect("exactly full");
        payload(&ToProgram::Start { command, terminal: Some(Terminal { size, name }), input: true });
        payload(&ToProgram::Input(Output::from_slice(&[255; MAX_OUTPUT]).expect("exactly full")));
    }
}

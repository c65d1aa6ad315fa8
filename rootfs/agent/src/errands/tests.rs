use super::errand::HANG_UP_GRACE;
use super::*;
use crate::child::{reap_one, wait_for};
use hearth_wire::{
    Decoder, MAX_FRAME, Output, Stream, encode,
    exec::{CommandWords, FromProgram, Terminal, TerminalName, ToProgram, WindowSize},
};
use nix::{
    poll::{PollFd, PollTimeout, poll},
    sys::signal::Signal,
};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};

const AT: fn(u64) -> Uptime = Uptime::at_millis;
const SIZE: WindowSize = WindowSize { rows: 33, columns: 111 };

/// A person on the host, and the errands of the guest.
struct Desk {
    host: Socket,
    decoder: Decoder,
    errands: Errands,
    now: Uptime,
    heard: Vec<FromProgram>,
}

impl Desk {
    fn called() -> Self {
        let (host, guest) = line();
        let mut errands = Errands::default();
        errands.take(guest, AT(0));
        Self { host, decoder: Decoder::new(), errands, now: AT(0), heard: Vec::new() }
    }

    fn started(command: &[&str], terminal: bool, input: bool) -> Self {
        let mut desk = Self::called();
        desk.say(&start(command, terminal, input));
        desk
    }

    fn say(&mut self, message: &ToProgram) {
        let mut buf = [0; MAX_FRAME];
        self.host.write_all(encode(message, &mut buf).expect("fits")).expect("the guest is there");
    }

    fn kind(&mut self, text: &str) {
        self.say(&ToProgram::Input(Output::from_slice(text.as_bytes()).expect("short")));
    }

    /// One turn of the guest's loop, and what the host hears of it.
    fn turn(&mut self) {
        let ends: Vec<_> = self.errands.children().map(reap_one).collect();
        self.errands.ended(ends.into_iter());
        self.errands.turn(self.now, &GuestConfig::default());
        self.hear();
    }

    fn hear(&mut self) {
        let mut buf = [0; 700];
        loop {
            let mut bytes = match self.host.read(&mut buf) {
                Ok(length) => &buf[..length],
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            };
            if bytes.is_empty() {
                return;
            }
            while !bytes.is_empty() {
                bytes = self.decoder.push(bytes);
                while let Some(message) = self.decoder.pop().expect("good frames only") {
                    self.heard.push(message);
                }
            }
        }
    }

    /// Turns until `done`; waits for descriptors like the guest's loop, and for processes by looking again.
    fn until(&mut self, done: impl Fn(&Self) -> bool) {
        loop {
            self.turn();
            if done(self) {
                return;
            }
            let mut fds: Vec<_> = self.errands.interest().map(|(fd, flags)| PollFd::new(fd, flags)).collect();
            // A child's end is a signal in the guest's loop, and nothing to poll here.
            poll(&mut fds, PollTimeout::from(10_u8)).expect("descriptors");
        }
    }

    fn text(&self, wanted: Stream) -> String {
        let mut text = Vec::new();
        for message in &self.heard {
            if let FromProgram::Output { stream, bytes } = message
                && *stream == wanted
            {
                text.extend_from_slice(bytes);
            }
        }
        String::from_utf8(text).expect("ASCII")
    }

    fn waits_for(&mut self, text: &str) {
        self.until(|desk| desk.text(Stream::Stdout).contains(text));
    }

    fn last_word(&mut self) -> ExitStatus {
        self.until(|desk| matches!(desk.heard.last(), Some(FromProgram::Ended { .. })));
        match self.heard.last() {
            Some(FromProgram::Ended { status }) => *status,
            other => panic!("{other:?}"),
        }
    }
}

fn line() -> (Socket, Socket) {
    let (host, guest) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("a pair");
    host.set_nonblocking(true).expect("own socket");
    guest.set_nonblocking(true).expect("own socket");
    (host, guest)
}

fn start(command: &[&str], terminal: bool, input: bool) -> ToProgram {
    let words: Vec<u8> = command.iter().flat_map(|word| word.bytes().chain([0])).collect();
    let name = TerminalName::try_from("vt100").expect("short");
    ToProgram::Start {
        command: CommandWords::from_slice(&words).expect("short"),
        terminal: terminal.then_some(Terminal { size: SIZE, name }),
        input,
    }
}

#[test]
fn what_is_typed_goes_in_and_both_outputs_and_the_status_come_out() {
    let mut desk = Desk::started(&["sh", "-c", "cat; echo oops >&2; exit 7"], false, true);
    desk.kind("hello\n");
    desk.waits_for("hello\n");
    desk.say(&ToProgram::EndOfInput);
    assert_eq!(desk.last_word(), ExitStatus::Code(7));
    assert!(matches!(desk.heard.first(), Some(FromProgram::Started { pid }) if *pid > 1));
    assert_eq!((desk.text(Stream::Stdout), desk.text(Stream::Stderr)), ("hello\n".into(), "oops\n".into()));
    assert_eq!(desk.errands.open.len(), 1, "the host may still read");
    drop(std::mem::replace(&mut desk.host, line().0));
    desk.turn();
    assert_eq!(desk.errands.open.len(), 0);
}

#[test]
fn without_input_there_is_none() {
    let mut desk = Desk::started(&["sh", "-c", "read line || echo nothing"], false, false);
    assert_eq!(desk.last_word(), ExitStatus::Code(0));
    assert_eq!(desk.text(Stream::Stdout), "nothing\n");
    let mut desk = Desk::started(&["sh", "-c", "read line || echo nothing"], true, false);
    assert_eq!(desk.last_word(), ExitStatus::Code(0));
    assert!(desk.text(Stream::Stdout).ends_with("nothing\r\n"), "{:?}", desk.text(Stream::Stdout));
}

#[test]
fn a_terminal_is_the_programs_own_and_has_a_name_and_a_size_that_follows() {
    let script = "tty; stty size; echo $TERM; ps -o sid= -p $$ | grep -qw $$ && echo leads; \
                  trap 'stty size; exit 3' WINCH; echo waiting; while :; do sleep 1 & wait; done";
    let mut desk = Desk::started(&["sh", "-c", script], true, true);
    desk.waits_for("waiting");
    let text = desk.text(Stream::Stdout);
    assert!(text.starts_with("/dev/pts/"), "{text}");
    assert!(text.contains("\r\n33 111\r\nvt100\r\nleads\r\n"), "{text}");
    desk.say(&ToProgram::Resize(WindowSize { rows: 50, columns: 90 }));
    assert_eq!(desk.last_word(), ExitStatus::Code(3));
    assert!(desk.text(Stream::Stdout).ends_with("50 90\r\n"));
}

#[test]
fn control_c_at_a_terminal_interrupts_the_program_in_front() {
    let mut desk = Desk::started(&["sh", "-c", "echo up; exec sleep 1000"], true, true);
    desk.waits_for("up\r\n");
    desk.kind("\u{3}");
    assert_eq!(desk.last_word(), ExitStatus::Signal(Signal::SIGINT as i32));
}

#[test]
fn a_signal_reaches_all_of_its_processes() {
    let script = "sh -c 'trap \"echo inner; exit\" TERM; echo up; while :; do sleep 1 & wait; done'; exit 4";
    let mut desk = Desk::started(&["sh", "-c", &format!("trap : TERM; {script}")], false, false);
    desk.waits_for("up\n");
    desk.say(&ToProgram::Signal { number: Signal::SIGTERM as i32 });
    assert_eq!(desk.last_word(), ExitStatus::Code(4));
    assert_eq!(desk.text(Stream::Stdout), "up\ninner\n");
}

#[test]
fn a_reader_that_is_slow_loses_nothing_and_holds_up_nobody_else() {
    for terminal in [false, true] {
        let mut desk = Desk::started(&["seq", "1", "30000"], terminal, false);
        // The host reads nothing: the program fills pipe and socket and stands still.
        for _ in 0..200 {
            let ends: Vec<_> = desk.errands.children().map(reap_one).collect();
            desk.errands.ended(ends.into_iter());
            desk.errands.turn(AT(0), &GuestConfig::default());
        }
        let (mut other, guest) = line();
        desk.errands.take(guest, AT(0));
        let mut buf = [0; MAX_FRAME];
        other.write_all(encode(&start(&["true"], false, false), &mut buf).unwrap()).unwrap();
        let mut first = [0; 1];
        while other.read(&mut first).is_err() {
            desk.errands.turn(AT(0), &GuestConfig::default());
        }
        assert_eq!(desk.last_word(), ExitStatus::Code(0));
        let text = desk.text(Stream::Stdout).replace('\r', "");
        assert_eq!(text.lines().count(), 30000, "terminal: {terminal}");
        assert!(text.ends_with("\n30000\n"));
    }
}

#[test]
fn a_program_that_reads_nothing_holds_up_what_is_typed_and_no_memory() {
    let mut desk = Desk::started(&["sleep", "1000"], false, true);
    let piece = "x".repeat(hearth_wire::MAX_OUTPUT);
    let mut typed = 0;
    let mut frame = [0; MAX_FRAME];
    let message = ToProgram::Input(Output::from_slice(piece.as_bytes()).unwrap());
    let frame = encode(&message, &mut frame).unwrap();
    // Until socket and pipe are full, which the guest's turns do not change any more.
    let mut idle = 0;
    let mut rest = frame;
    while idle < 100 {
        match desk.host.write(rest) {
            Ok(length) => {
                typed += length;
                idle = 0;
                rest = if length == rest.len() { frame } else { &rest[length..] };
            }
            Err(_) => idle += 1,
        }
        desk.turn();
    }
    assert!(typed > 64 * 1024, "a pipe's worth: {typed}");
    drop(std::mem::replace(&mut desk.host, line().0));
    desk.turn();
    let child = desk.errands.children().next().expect("still to be reaped");
    assert_eq!(wait_for(child), ExitStatus::Signal(Signal::SIGHUP as i32), "although nothing was read");
}

#[test]
fn who_hangs_up_takes_the_program_along() {
    let script = "trap '' HUP; echo up; while :; do sleep 1 & wait; done";
    for terminal in [false, true] {
        let mut desk = Desk::started(&["sh", "-c", script], terminal, true);
        desk.waits_for("up");
        drop(std::mem::replace(&mut desk.host, line().0));
        desk.turn();
        let grace = u64::try_from(HANG_UP_GRACE.as_millis()).unwrap();
        assert_eq!(desk.errands.deadline(), Some(AT(grace)));
        desk.now = AT(grace);
        desk.turn();
        let child = desk.errands.children().next().expect("still to be reaped");
        let status = wait_for(child);
        assert_eq!(status, ExitStatus::Signal(Signal::SIGKILL as i32));
        desk.errands.ended([Some(status)].into_iter());
        desk.errands.turn(desk.now, &GuestConfig::default());
        assert_eq!(desk.errands.open.len(), 0);
    }
}

#[test]
fn what_cannot_start_says_why() {
    let mut desk = Desk::started(&["no-such-program"], true, true);
    assert_eq!(desk.last_word(), ExitStatus::NotStarted(nix::libc::ENOENT));
    assert_eq!(desk.heard.len(), 1);
}

#[test]
fn a_call_that_says_nothing_or_nonsense_is_hung_up_on() {
    let mut desk = Desk::called();
    desk.turn();
    assert_eq!(desk.errands.open.len(), 1);
    desk.now = desk.errands.deadline().expect("not for ever");
    desk.turn();
    assert_eq!(desk.errands.open.len(), 0);
    let mut desk = Desk::called();
    desk.host.write_all(&[0xff; 64]).unwrap();
    desk.turn();
    assert_eq!(desk.errands.open.len(), 0);
    let mut desk = Desk::called();
    desk.kind("before the start");
    desk.turn();
    assert_eq!(desk.errands.open.len(), 0);
}

#[test]
fn beyond_the_last_place_callers_are_told_so() {
    let mut desk = Desk::called();
    let mut hosts = Vec::new();
    for _ in 0..MAX_ERRANDS {
        let (host, guest) = line();
        desk.errands.take(guest, AT(0));
        hosts.push(host);
    }
    assert_eq!((desk.errands.open.len(), desk.errands.refused.len()), (MAX_ERRANDS, 1));
    let refused = hosts.pop().unwrap();
    hosts.push(std::mem::replace(&mut desk.host, refused));
    desk.turn();
    assert_eq!(desk.heard, [FromProgram::Busy]);
    drop(std::mem::replace(&mut desk.host, line().0));
    desk.turn();
    assert_eq!((desk.errands.open.len(), desk.errands.refused.len()), (MAX_ERRANDS, 0));
}

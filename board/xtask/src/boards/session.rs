//! A box while it runs: its console on one side, a person or a test on the other.
//!
//! Duty: pass the console through, cut it into lines, turn Ctrl-C and SIGTERM into the power button, and make
//! sure that nothing survives the session. Not here: what the lines mean.
//!
//! ```text
//! Running ──power off asked──▶ Stopping ──deadline──▶ killed
//!    │   (a board whose init does not listen yet is killed at once)
//!    │                            │
//!    └────────── ended ◀──────────┘
//! ```

use std::{
    fs,
    io::{self, IsTerminal, Read, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::{consts, iterator::Signals};
use thiserror::Error;

use super::{monitor::Monitor, nudge::Nudges};

/// From the power button to the end: three guests under emulation stop one after the other in less.
const POWER_OFF_PATIENCE: Duration = Duration::from_secs(90);
/// Bytes of one console line that are looked at; longer ones are passed through all the same.
const LINE_MAX: usize = 4096;
/// What the box's init says as soon as it listens to the power button. An earlier press is lost.
const LISTENING: &str = "hearth-init: up in";

#[derive(Debug, Error)]
pub(crate) enum SessionError {
    #[error("cannot start {program}")]
    Start { program: String, source: io::Error },
    #[error("cannot watch for Ctrl-C")]
    Signals(#[source] io::Error),
    #[error("cannot press the box's power button")]
    PowerButton(#[source] io::Error),
    #[error("cannot learn how the box ended")]
    Wait(#[source] io::Error),
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    #[error("the box did not power off within {} s and was killed", POWER_OFF_PATIENCE.as_secs())]
    Stuck,
}

/// How a box is told to power off.
#[derive(Clone, Debug)]
pub(crate) enum PowerOff {
    /// Through QEMU's monitor, as a press of the power button.
    Button(PathBuf),
    /// By SIGTERM, for a daemon that runs right here.
    Terminate,
}

/// What a session tells its caller.
#[derive(Debug)]
pub(crate) enum Event {
    /// A whole line of the console, without its end.
    Line(String),
    /// The caller's deadline has passed.
    Deadline,
    /// The box is off.
    Ended(ExitStatus),
}

enum Note {
    Bytes(Vec<u8>),
    ConsoleClosed,
    Interrupt,
}

/// A running box. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Session {
    child: Child,
    notes: Receiver<Note>,
    power_off: PowerOff,
    stopping_since: Option<Instant>,
    line: Vec<u8>,
    ready: std::collections::VecDeque<String>,
    plain: bool,
    closed: bool,
    /// The box has said [`LISTENING`].
    listening: bool,
    /// What keeps it going, if it needs anything.
    nudges: Option<Nudges>,
}

impl Session {
    /// Starts the box. Standard input, if it is a terminal, goes to the box's console.
    pub(crate) fn start(mut command: Command, power_off: PowerOff) -> Result<Self, SessionError> {
        let program = command.get_program().to_string_lossy().into_owned();
        if let PowerOff::Button(socket) = &power_off {
            // Left over from a run that was killed.
            let _ = fs::remove_file(socket);
        }
        let interactive = io::stdin().is_terminal();
        command.stdin(if interactive { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped());
        // Ctrl-C at the terminal reaches this program only, which then asks the box to stop.
        command.process_group(0);
        let signals = Signals::new([consts::SIGINT, consts::SIGTERM, consts::SIGHUP]);
        let mut signals = signals.map_err(SessionError::Signals)?;
        let mut child = command.spawn().map_err(|source| SessionError::Start { program, source })?;
        let (sender, notes) = mpsc::channel();
        if let Some(console) = child.stdout.take() {
            let sender = sender.clone();
            thread::spawn(move || read_console(console, &sender));
        }
        if let Some(keyboard) = child.stdin.take() {
            thread::spawn(move || type_on(keyboard));
        }
        thread::spawn(move || {
            for _ in signals.forever() {
                if sender.send(Note::Interrupt).is_err() {
                    break;
                }
            }
        });
        let plain = !io::stdout().is_terminal();
        let ready = std::collections::VecDeque::new();
        let line = Vec::new();
        Ok(Self {
            child,
            notes,
            power_off,
            stopping_since: None,
            line,
            ready,
            plain,
            closed: false,
            listening: false,
            nudges: None,
        })
    }

    /// It is nudged as long as it runs.
    pub(crate) fn nudge(&mut self, nudges: Nudges) {
        self.nudges = Some(nudges);
    }

    /// Asks the box to power off; whoever keeps calling [`Session::next`] sees it end.
    pub(crate) fn power_off(&mut self) -> Result<(), SessionError> {
        if self.stopping_since.is_some() {
            return Ok(());
        }
        self.stopping_since = Some(Instant::now());
        match &self.power_off {
            // Nothing runs yet that a power cut could hurt, and nobody would notice the button.
            PowerOff::Button(_) if !self.listening => self.child.kill().map_err(SessionError::Wait),
            PowerOff::Button(socket) => {
                Monitor::at(socket).press_the_power_button().map_err(SessionError::PowerButton)
            }
            PowerOff::Terminate => {
                let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX));
                kill(pid, Signal::SIGTERM).map_err(|errno| SessionError::PowerButton(errno.into()))
            }
        }
    }

    /// The next thing that happens, at the latest at `deadline`.
    pub(crate) fn next(&mut self, deadline: Option<Instant>) -> Result<Event, SessionError> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Event::Line(line));
            }
            if self.closed {
                return self.child.wait().map(Event::Ended).map_err(SessionError::Wait);
            }
            let stuck = self.stopping_since.map(|since| since + POWER_OFF_PATIENCE);
            let until = [deadline, stuck].into_iter().flatten().min();
            let note = match until {
                Some(until) => match self.notes.recv_timeout(until.saturating_duration_since(Instant::now()))
                {
                    Err(RecvTimeoutError::Timeout) if stuck == Some(until) => {
                        return Err(SessionError::Stuck);
                    }
                    Err(RecvTimeoutError::Timeout) => return Ok(Event::Deadline),
                    other => other.ok(),
                },
                None => self.notes.recv().ok(),
            };
            match note {
                Some(Note::Bytes(bytes)) => self.take(&bytes)?,
                Some(Note::ConsoleClosed) | None => self.closed = true,
                // A second Ctrl-C is from somebody who does not want to wait.
                Some(Note::Interrupt) if self.stopping_since.is_some() => {
                    self.child.kill().map_err(SessionError::Wait)?;
                }
                Some(Note::Interrupt) => self.power_off()?,
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        let shown: Vec<u8> = bytes.iter().copied().filter(|byte| !(self.plain && *byte == b'\r')).collect();
        let mut out = io::stdout().lock();
        match out.write_all(&shown).and_then(|()| out.flush()) {
            // Whoever looked has gone; the box goes on until it is told otherwise.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other.map_err(SessionError::Output)?,
        }
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
                    self.listening |= line.starts_with(LISTENING);
                    self.ready.push_back(line);
                }
                b'\r' => {}
                byte if self.line.len() < LINE_MAX => self.line.push(*byte),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let PowerOff::Button(socket) = &self.power_off {
            let _ = fs::remove_file(socket);
        }
    }
}

fn read_console(mut console: impl Read, sender: &Sender<Note>) {
    let mut buffer = [0; 4096];
    loop {
        match console.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                if sender.send(Note::Bytes(bytes)).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let _ = sender.send(Note::ConsoleClosed);
}

fn type_on(mut keyboard: impl Write) {
    let mut buffer = [0; 256];
    while let Ok(count @ 1..) = io::stdin().lock().read(&mut buffer) {
        let typed = buffer.get(..count).unwrap_or_default();
        if keyboard.write_all(typed).and_then(|()| keyboard.flush()).is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Session {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Session::start(command, PowerOff::Terminate).unwrap()
    }

    fn lines_to_the_end(session: &mut Session) -> (Vec<String>, ExitStatus) {
        let mut lines = Vec::new();
        loop {
            match session.next(None).unwrap() {
                Event::Line(line) => lines.push(line),
                Event::Ended(status) => return (lines, status),
                Event::Deadline => unreachable!("there was none"),
            }
        }
    }

    #[test]
    fn the_console_comes_in_lines_and_the_status_last() {
        let (lines, status) = lines_to_the_end(&mut shell("printf 'one\\r\\ntwo\\n'; exit 3"));
        assert_eq!((lines, status.code()), (vec!["one".to_owned(), "two".into()], Some(3)));
    }

    #[test]
    fn a_box_that_is_told_to_stop_gets_to_say_so() {
        let mut session = shell("trap 'echo stopping; exit 0' TERM; echo up; while :; do :; done");
        assert!(matches!(session.next(None).unwrap(), Event::Line(line) if line == "up"));
        session.power_off().unwrap();
        let (lines, status) = lines_to_the_end(&mut session);
        assert_eq!((lines, status.code()), (vec!["stopping".to_owned()], Some(0)));
    }

    fn board(script: &str) -> Session {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Session::start(command, PowerOff::Button(PathBuf::from("/nonexistent/qmp"))).unwrap()
    }

    #[test]
    fn a_board_whose_init_does_not_listen_yet_is_switched_off_hard() {
        let mut session = board("echo early; while :; do :; done");
        assert!(matches!(session.next(None).unwrap(), Event::Line(line) if line == "early"));
        session.power_off().unwrap();
        assert_eq!(lines_to_the_end(&mut session).1.code(), None, "ended by the signal");
    }

    #[test]
    fn a_board_whose_init_listens_gets_its_button_pressed() {
        let mut session = board("echo 'hearth-init: up in 812 ms'; while :; do :; done");
        assert!(matches!(session.next(None).unwrap(), Event::Line(_)));
        // There is no monitor to press it with, which shows that it was tried.
        assert!(matches!(session.power_off(), Err(SessionError::PowerButton(_))));
    }

    #[test]
    fn a_deadline_is_an_event_and_the_box_goes_on() {
        let mut session = shell("while :; do :; done");
        assert!(matches!(session.next(Some(Instant::now())).unwrap(), Event::Deadline));
        session.power_off().unwrap();
        assert_eq!(lines_to_the_end(&mut session).1.code(), None, "ended by the signal");
    }
}

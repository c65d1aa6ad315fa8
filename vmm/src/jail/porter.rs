//! The process at the door: the one that whoever started this program knows.
//!
//! Duty: start the machine's process, in namespaces of its own, and again after a reboot; hand on the signals that mean
//! a stop; run its errands; end as it ended. Not its duty: anything of the guest's; a porter sees no guest memory and
//! has no thread beside this one.
//!
//! ```text
//!   enter ──▶ Watching ──its process ended──▶ Gone: this process ends the same way
//!                │  ▲                └─ and wanted another life ──▶ Watching, the next process
//!                └──┘ a signal, an errand
//!      Ending announced, and its time over ──▶ killed, Gone
//! ```
//!
//! Invariants: the machine's process does not outlive this one (it is killed with it), and this one does not outlive
//! the machine's. Nothing that comes on the errands' channel makes this process wait for a guest or grow.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hearth_config::vm::{OnReboot, Output, VmConfig};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, geteuid, pipe2, setsid};
use vmm_sys_util::signal::register_signal_handler;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::cgroup::Groups;
use super::clone::{self, Side};
use super::errand::{Errand, LONGEST, Told};
use super::outside::{self, Printer};
use super::{Lacks, Layer, heap, streams};
use crate::machine::{Place, Reboots};
use crate::rate::{Bucket, Verdict};
use crate::snapshot::{Existing, Folder};
use crate::{Outcome, doctor, listener, logger, machine};

/// Clients of the control socket that one life leaves to the next: more are not served either.
const MAX_CLIENTS: usize = 16;
/// When the machine's process is killed because it does not end, nobody waits longer than this for the kernel.
const AFTER_KILL: Duration = Duration::from_secs(1);
/// Errands of one machine, since they are done at nobody's expense: a guest that connects more often than that finds
/// nobody there.
const ERRANDS_PER_S: u64 = 1000;
const ERRANDS_AT_ONCE: u64 = 2000;
/// What those cost in which files are made.
const LARGE_ERRAND: u64 = 100;
/// A second signal that means a stop ends the guest at once; this is for what its monitor has under way.
const AFTER_SECOND_STOP: Duration = Duration::from_secs(30);
/// The kernel writes its log a moment later.
const KERNEL_LOG_WAIT: Duration = Duration::from_millis(200);
/// Bytes of its longest record.
const KERNEL_LOG_RECORD: usize = 8192;
/// What is missing where a machine's process ended by a signal that nobody sent it.
const BEYOND_THE_FILTER: &str =
    "the machine's process made a system call that no machine makes, and was ended for it (SIGSYS)";

/// What the porter keeps from life to life.
#[derive(Debug)]
pub(crate) struct Household<'a> {
    pub(crate) config: &'a VmConfig,
    /// What it becomes, if that is a template.
    pub(crate) template: Option<&'a Place>,
    /// Signals that mean a stop; they are blocked.
    pub(crate) stops: SigSet,
}

/// What a machine's process begins with.
#[derive(Debug)]
pub(crate) struct Life {
    /// Counts from 0.
    pub(crate) number: u32,
    /// Each byte of it is a signal to stop.
    pub(crate) stops: File,
    /// Clients that stayed, and whether they have subscribed.
    pub(crate) clients: Vec<(UnixStream, bool)>,
    pub(crate) lacks: Lacks,
    /// Those that there were.
    pub(crate) reboots: Reboots,
}

/// How a life ended.
enum Gone {
    Exit(i32),
    Killed(Signal),
    /// It was given up.
    Late(u8),
    Again(Vec<(UnixStream, bool)>),
}

/// Becomes the porter. What returns is the machine's process, once for each of its lives.
pub(crate) fn enter(household: &Household<'_>) -> io::Result<Life> {
    // Somebody may have started us with the end of children ignored.
    register_signal_handler(libc::SIGCHLD, heard).map_err(io::Error::from)?;
    let mut mask = household.stops;
    mask.add(Signal::SIGCHLD);
    mask.add(Signal::SIGTSTP);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let terminal = io::stdin().is_terminal().then(|| tcgetattr(io::stdin()).ok()).flatten();
    let mut clients = Vec::new();
    let mut reboots = Reboots::default();
    for number in 0u32.. {
        let (ours, theirs) = channel()?;
        // Two descriptions: what becomes of the machine's does not make this process wait.
        let (stops, stop) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        let porter = std::process::id();
        let mut lacks = Lacks::default();
        let mut groups = Groups::make(household.config);
        let child = match split(&mut groups, &mut lacks)? {
            Side::Child => {
                drop((ours, signals, stop));
                groups.leave_to_the_porter();
                listener::disown();
                // Signals of a terminal, or to a whole group, are the porter's to hand on.
                setsid()?;
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                clone::wipe_environment();
                heap::keep_to_one();
                outside::by(theirs, porter);
                streams::narrow(household.config, household.template.is_some())?;
                return Ok(Life { number, stops: stops.into(), clients, lacks, reboots });
            }
            Side::Parent(child) => child,
        };
        drop((theirs, stops, clients));
        let mut porter = Porter {
            household,
            signals: &signals,
            stop: stop.into(),
            channel: ours,
            child,
            lacking: groups.take_lacking(),
            draft: None,
            ending: None,
            clients: Vec::new(),
            again: false,
            is_alone: false,
            pace: Bucket::new(ERRANDS_PER_S, ERRANDS_AT_ONCE),
            mips: None,
            stops: 0,
        };
        let gone = porter.watch()?;
        drop((porter, groups));
        match gone {
            // The machine has counted this one, too, and would not ask.
            Gone::Again(stay) if reboots.allow(Instant::now()) => clients = stay,
            end => leave(&end, terminal.as_ref()),
        }
    }
    Err(io::ErrorKind::QuotaExceeded.into())
}

/// A way for words between two processes. Connected for good: what one sends to a name of its choice goes to the other
/// all the same, where the two ends of a pair of datagram sockets could be used to reach whoever has a name in the
/// network namespace in which they were made.
fn channel() -> io::Result<(UnixDatagram, UnixDatagram)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((ours.into(), theirs.into()))
}

extern "C" fn heard(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// With as many namespaces as the host gives, and in `groups`: an ordinary user has to have a user namespace for any
/// other.
fn split(groups: &mut Groups, lacks: &mut Lacks) -> io::Result<Side> {
    let user = if geteuid().is_root() { 0 } else { libc::CLONE_NEWUSER };
    let namespaces = libc::CLONE_NEWPID | user;
    if let Some(door) = groups.door()
        && let Ok(side) = clone::split_into(namespaces, door)
    {
        return Ok(side);
    }
    let side = clone::split(namespaces).or_else(|error| {
        lacks.note(Layer::PidNamespace, &error);
        if user != 0 {
            lacks.note(Layer::UserNamespace, &error);
        }
        clone::split(0)
    })?;
    if let Side::Parent(child) = side {
        groups.take_in(child);
    }
    Ok(side)
}

/// Ends this process as the machine's ended.
fn leave(end: &Gone, terminal: Option<&Termios>) -> ! {
    listener::give_all_back();
    if let (Some(found), Gone::Killed(_) | Gone::Late(_)) = (terminal, end) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, found);
    }
    match *end {
        Gone::Exit(status) => std::process::exit(status),
        Gone::Late(status) => {
            log::error!("the host does not let go of the machine in time; the process ends without it");
            std::process::exit(status.into())
        }
        Gone::Killed(signal) => {
            if signal == Signal::SIGSYS {
                logger::say_last(&format!("error: {BEYOND_THE_FILTER}{}", what_it_was()));
            }
            let _ = SigSet::all().thread_unblock();
            let _ = raise(signal);
            // Of those signals that this process would outlive.
            std::process::exit(crate::outcome::Refusal::Failure.status().into())
        }
        Gone::Again(_) => std::process::exit(crate::Outcome::Reboot.status().into()),
    }
}

/// Which call it was and whose, as the kernel's log tells those who may read it.
fn what_it_was() -> String {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let Ok(mut log) = options.open("/dev/kmsg") else { return String::new() };
    let mut found = String::new();
    let until = Instant::now() + KERNEL_LOG_WAIT;
    let mut record = [0; KERNEL_LOG_RECORD];
    loop {
        match io::Read::read(&mut log, &mut record) {
            Ok(length) => {
                let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default()).into_owned();
                if text.contains("type=1326") {
                    let word = |key: &str| text.split_whitespace().find_map(|word| word.strip_prefix(key));
                    let thread = word("comm=").unwrap_or("?").trim_matches('"').to_owned();
                    found = format!(
                        "; the last one that the kernel tells of: {} of {thread}",
                        word("syscall=").unwrap_or("?")
                    );
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(_) if found.is_empty() && Instant::now() < until => {
                std::thread::sleep(KERNEL_LOG_WAIT / 10);
            }
            Err(_) => return found,
        }
    }
}

struct Porter<'a> {
    household: &'a Household<'a>,
    signals: &'a SignalFd,
    /// Each byte is a signal to stop.
    stop: File,
    channel: UnixDatagram,
    child: Pid,
    /// Of control groups.
    lacking: Vec<String>,
    /// A snapshot that is being written, and the file for its memory.
    draft: Option<(Folder, Option<File>)>,
    ending: Option<(u8, Instant)>,
    clients: Vec<(UnixStream, bool)>,
    again: bool,
    /// The machine's process has closed its end of the channel.
    is_alone: bool,
    /// What it may ask for: errands are done outside its bounds.
    pace: Bucket,
    /// What was measured before.
    mips: Option<Option<u64>>,
    stops: u32,
}

impl Porter<'_> {
    fn watch(&mut self) -> io::Result<Gone> {
        loop {
            let now = Instant::now();
            let patience = self.ending.map_or(PollTimeout::NONE, |(_, until)| {
                PollTimeout::try_from(until.saturating_duration_since(now)).unwrap_or(PollTimeout::MAX)
            });
            let mut looked_at = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            if !self.is_alone {
                looked_at.push(PollFd::new(self.channel.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut looked_at, patience) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let errands = looked_at.get(1).and_then(PollFd::any) == Some(true);
            if errands {
                self.run_errand();
            }
            while let Ok(Some(signal)) = self.signals.read_signal() {
                self.hand_on(i32::try_from(signal.ssi_signo).unwrap_or_default());
            }
            if let Some(gone) = self.look()? {
                return Ok(gone);
            }
            if let Some((status, until)) = self.ending
                && until <= Instant::now()
            {
                let _ = kill(self.child, Signal::SIGKILL);
                self.wait_a_moment();
                return Ok(Gone::Late(status));
            }
        }
    }

    /// Whether the machine's process has ended.
    fn look(&mut self) -> io::Result<Option<Gone>> {
        Ok(match waitpid(self.child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, status)) => {
                // What it asked for last may still wait here.
                while self.run_errand() {}
                let stays = std::mem::take(&mut self.clients);
                Some(if self.again { Gone::Again(stays) } else { Gone::Exit(status) })
            }
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(Gone::Killed(signal)),
            Ok(_) | Err(Errno::EINTR) => None,
            Err(errno) => return Err(errno.into()),
        })
    }

    fn wait_a_moment(&self) {
        let until = Instant::now() + AFTER_KILL;
        while Instant::now() < until
            && matches!(waitpid(self.child, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive))
        {
            let mut ended = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut ended, PollTimeout::from(100u8));
            while let Ok(Some(_)) = self.signals.read_signal() {}
        }
    }

    fn hand_on(&mut self, signal: i32) {
        match Signal::try_from(signal) {
            Ok(Signal::SIGCHLD) => {}
            // The machine's process is in no group of a terminal's.
            Ok(Signal::SIGTSTP) => {
                let _ = kill(self.child, Signal::SIGSTOP);
                let _ = raise(Signal::SIGSTOP);
                let _ = kill(self.child, Signal::SIGCONT);
            }
            _ => {
                // A machine that does not read has been told by what it has not read.
                let _ = (&self.stop).write(&[1]);
                self.stops = self.stops.saturating_add(1);
                if self.stops > 1 {
                    let status = Outcome::HostStop.status();
                    self.ending.get_or_insert_with(|| (status, Instant::now() + AFTER_SECOND_STOP));
                }
            }
        }
    }

    /// Runs the next errand. Whether there was one.
    fn run_errand(&mut self) -> bool {
        let mut buffer = [0; LONGEST];
        if self.channel.set_nonblocking(true).is_err() {
            return false;
        }
        let (length, along) = match self.channel.recv_with_fd(&mut buffer) {
            Ok((0, _)) => {
                // Nobody is at the other end any more: it is not looked at again.
                self.is_alone = true;
                return false;
            }
            Ok(word) => word,
            Err(_) => return false,
        };
        let words = buffer.get(..length).unwrap_or_default();
        let done = postcard::from_bytes(words).map_err(io::Error::other).and_then(|errand| {
            match self.pace.take(cost(&errand), Instant::now()) {
                Verdict::Pass => self.run(errand, along),
                // The machine's event loop waits for an answer, and so does all else that it does.
                Verdict::Wait(_) => Err(Errno::EAGAIN.into()),
            }
        });
        let (told, file) = done.unwrap_or_else(|error| (Told::refused(&error), None));
        let (mut buffer, mut spare) = ([0; LONGEST], [0; LONGEST]);
        let words: &[u8] = match postcard::to_slice(&told, &mut buffer) {
            Ok(words) => words,
            // Nobody waits for an answer that does not come.
            Err(_) => postcard::to_slice(&Told::TOO_LONG, &mut spare).map_or(&[], |words| words),
        };
        // It waits for this one, and nothing else is on the way.
        let _ = match file {
            Some(file) => {
                self.channel.send_with_fd(words, file.as_raw_fd()).map(drop).map_err(io::Error::from)
            }
            None => self.channel.send(words).map(drop),
        };
        true
    }

    fn run(&mut self, errand: Errand, along: Option<File>) -> io::Result<(Told, Option<OwnedFd>)> {
        let config = self.household.config;
        let socket =
            || config.vsock.as_ref().map(|vsock| vsock.socket.as_path()).ok_or(io::ErrorKind::NotConnected);
        let file = match errand {
            Errand::Closed => return Ok((Told::lacking(std::mem::take(&mut self.lacking)), None)),
            Errand::Measure => {
                return Ok((Told::Number(*self.mips.get_or_insert_with(doctor::emulating_mips)), None));
            }
            Errand::CallGuest => Some(listener::stream_to(socket()?)?.into()),
            Errand::CallHost { port } => {
                let mut path = socket()?.as_os_str().to_owned();
                path.push(format!("_{port}"));
                Some(listener::stream_to(Path::new(&path))?.into())
            }
            Errand::PutAside(printer) => {
                let path = printed_to(config, printer).ok_or(io::ErrorKind::NotFound)?;
                Some(machine::put_aside(path)?.into())
            }
            Errand::Begin { name, replaced } => {
                self.draft = None;
                self.draft = Some((self.begin(&name, replaced)?, None));
                None
            }
            Errand::File { name } => {
                let (folder, memory) = self.draft.as_mut().ok_or(io::ErrorKind::NotFound)?;
                let file = folder.numbered(name)?;
                if folder.is_memory(name) {
                    *memory = Some(file.try_clone()?);
                }
                Some(file.into())
            }
            Errand::Reread => {
                let (folder, _) = self.draft.as_ref().ok_or(io::ErrorKind::NotFound)?;
                Some(folder.memory_for_reading()?.into())
            }
            Errand::Finish { sum } => {
                let (folder, memory) = self.draft.take().ok_or(io::ErrorKind::NotFound)?;
                folder.finish_sealed(memory.as_ref(), sum)?;
                None
            }
            Errand::Abandon => {
                self.draft = None;
                None
            }
            Errand::Ending { status, within_ms } => {
                let until = Instant::now() + Duration::from_millis(within_ms.into());
                // What a machine says puts no end off.
                if self.ending.is_none_or(|(_, before)| until < before) {
                    self.ending = Some((status, until));
                }
                None
            }
            Errand::Client { subscribed } => {
                if let Some(stream) = along.filter(|_| self.clients.len() < MAX_CLIENTS) {
                    self.clients.push((UnixStream::from(OwnedFd::from(stream)), subscribed));
                }
                None
            }
            Errand::Again if config.machine.on_reboot == OnReboot::Restart => {
                self.again = true;
                None
            }
            Errand::Again => return Err(io::ErrorKind::PermissionDenied.into()),
        };
        Ok((Told::Done, file))
    }

    /// A snapshot goes where the configuration has snapshots; a template, which may replace one, to its own place.
    fn begin(&self, name: &str, replaced: bool) -> io::Result<Folder> {
        let Household { config, template, .. } = self.household;
        let name = hearth_wire::control::SnapshotName::new(name).ok_or(io::ErrorKind::InvalidInput)?;
        let (mut folder, key) = match (replaced, template, &config.snapshot) {
            (true, Some(place), _) if place.name == name.as_str() => {
                let folder = Folder::begin(&place.parent, name.as_str(), Existing::Replaced)?;
                (folder, Some(place.key.as_str()))
            }
            (false, _, Some(settings)) => {
                (Folder::begin(&settings.folder, name.as_str(), Existing::Kept)?, None)
            }
            _ => return Err(io::ErrorKind::PermissionDenied.into()),
        };
        folder.describe(config, key)?;
        Ok(folder)
    }
}

/// What an errand takes out of the pace; nothing if it only says something, or ends what another one began.
const fn cost(errand: &Errand) -> u64 {
    match errand {
        Errand::Begin { .. } | Errand::PutAside(_) => LARGE_ERRAND,
        Errand::CallGuest
        | Errand::CallHost { .. }
        | Errand::File { .. }
        | Errand::Reread
        | Errand::Measure => 1,
        Errand::Closed
        | Errand::Finish { .. }
        | Errand::Abandon
        | Errand::Ending { .. }
        | Errand::Client { .. }
        | Errand::Again => 0,
    }
}

/// The file that the configuration names for what `printer` prints.
fn printed_to(config: &VmConfig, printer: Printer) -> Option<&PathBuf> {
    let output = match printer {
        Printer::Serial => config.serial.output.as_ref(),
        Printer::Console => config.console.as_ref().map(|console| &console.output),
    };
    match output? {
        Output::File(path) => Some(path),
        Output::Stdout | Output::Null => None,
    }
}

//! The loop of PID 1.
//!
//! Duty: carry events to the lifecycle and its actions out; route output.
//! Not its duty: deciding anything that could be decided elsewhere.
//! Invariant: the only place that waits is `poll`, with the nearest deadline; every descriptor is non-blocking
//! and every turn does a bounded amount of work, so no one can starve the others.

use crate::{
    boot::Plan,
    clock::Uptime,
    console::Console,
    intake::Intake,
    lifecycle::{Action, Ending, Event, Lifecycle},
    link::{Link, Route},
    outbox::{Notice, Outbox},
    signals::{Signals, Told},
    stop_port::StopPort,
    vsock::Vsock,
    workload::{Workload, describe, reap},
};
use hearth_buttons::Buttons;
use hearth_config::guest::GuestConfig;
use hearth_wire::ExitStatus;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::{fs::File, io, os::fd::AsFd, time::Duration};

/// For the last words to reach the host, and then the console: so long without any progress, and so long in all.
/// A host that listens takes milliseconds; one that does not must not keep a guest from ending. A slow one shows
/// progress only now and then, because vsock gives credit in large pieces.
const FAREWELL_SILENCE: Duration = Duration::from_secs(2);
const FAREWELL: Duration = Duration::from_secs(10);

/// For the line that says how the workload ended, once all else was given up.
const LAST_LINE: Duration = Duration::from_millis(500);

/// Longest sleep; not needed for anything, but no deadline that was forgotten then hurts for long.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// Why the loop could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentFault {
    #[error("cannot open the console")]
    Console(#[source] io::Error),
    #[error("cannot watch signals")]
    Signals(#[source] Errno),
    #[error("cannot wait for events")]
    Poll(#[source] Errno),
}

#[derive(Debug)]
pub(crate) struct Agent {
    config: GuestConfig,
    lifecycle: Lifecycle,
    outbox: Outbox,
    intake: Intake,
    console: Console<File>,
    signals: Signals,
    buttons: Buttons,
    link: Link<Vsock>,
    stop_port: StopPort,
    /// Kept after its end, for what its orphans still write.
    workload: Option<Workload>,
    /// For a host that comes late. Before the first start there is nothing to tell.
    present: Option<Notice>,
    /// How the workload ended, for the console, behind all that it wrote.
    last_line: Option<String>,
}

impl Agent {
    pub(crate) fn new(plan: Plan) -> Result<Self, AgentFault> {
        let mut console = Console::open().map_err(AgentFault::Console)?;
        for remark in &plan.remarks {
            console.line(remark);
        }
        Ok(Self {
            lifecycle: Lifecycle::new(plan.config.when_done),
            config: plan.config,
            outbox: Outbox::default(),
            intake: Intake::new(),
            console,
            signals: Signals::block().map_err(AgentFault::Signals)?,
            buttons: Buttons::default(),
            link: Link::new(Vsock, Uptime::now()),
            stop_port: StopPort::open(),
            workload: None,
            present: None,
            last_line: None,
        })
    }

    /// Runs the workload until the guest has to end.
    pub(crate) fn run(mut self) -> Result<Ending, AgentFault> {
        self.console.line(&format!("ready in {}", Uptime::now()));
        self.console.turn();
        let mut finished = self.apply(Event::Boot);
        // Behind the start of the workload, which waits for nobody. The kernel's drivers were there before.
        self.buttons.look_around();
        loop {
            if let Some(ending) = finished.or_else(|| self.turn()) {
                self.farewell()?;
                return Ok(ending);
            }
            self.wait(self.lifecycle.deadline())?;
            finished = self.apply(Event::Tick);
        }
    }

    /// Does everything that can be done at once.
    fn turn(&mut self) -> Option<Ending> {
        while let Some(told) = self.signals.next() {
            let finished = match told {
                Told::Child => self.reap(),
                Told::Stop => self.apply(Event::StopAsked { grace: self.config.stop_timeout }),
            };
            if finished.is_some() {
                return finished;
            }
        }
        if let Some(grace) = self.stop_port.turn() {
            let finished = self.apply(Event::StopAsked { grace });
            if finished.is_some() {
                return finished;
            }
        }
        if self.buttons.pressed() {
            self.console.line("the power button was pressed");
            let finished = self.apply(Event::StopAsked { grace: self.config.stop_timeout });
            if finished.is_some() {
                return finished;
            }
        }
        let open = self.intake.is_open(Uptime::now(), self.outbox.waiting());
        if let Some(workload) = &mut self.workload
            && open
        {
            workload.read(&mut self.outbox);
        }
        let stop = self.deliver();
        stop.and_then(|grace| self.apply(Event::StopAsked { grace }))
    }

    /// Brings output on its way. Returns the grace of a stop that the host asked for.
    fn deliver(&mut self) -> Option<Duration> {
        let news = self.link.turn(Uptime::now(), &mut self.outbox);
        if let Some(present) = self.present
            && news.welcomed
        {
            self.outbox.introduce(present);
        }
        if let Some(note) = news.note {
            self.console.line(&note);
        }
        let route = self.link.route();
        if route == Route::Console {
            self.print();
        }
        if route == Route::Host || self.outbox.waiting() == 0 {
            self.print_last_line();
        }
        self.console.turn();
        news.stop
    }

    fn print(&mut self) {
        let room = self.console.room();
        let lost = self.outbox.take_text(room, |text| self.console.text(text));
        self.console.dropped(lost);
    }

    fn print_last_line(&mut self) {
        if let Some(line) = self.last_line.take() {
            self.console.line(&line);
        }
    }

    /// Steps the lifecycle, and carries out what follows.
    fn apply(&mut self, event: Event) -> Option<Ending> {
        let mut event = Some(event);
        while let Some(next) = event.take() {
            match self.lifecycle.step(Uptime::now(), next) {
                Some(Action::Start) => event = Some(self.start()),
                Some(Action::AskToStop) => self.signal(self.config.stop_signal.number()),
                Some(Action::Kill) => self.workload.iter().for_each(Workload::kill),
                Some(Action::Finish(ending)) => return Some(ending),
                None => {}
            }
        }
        None
    }

    fn start(&mut self) -> Event {
        // What the last run left behind would share ports and files with the next one.
        self.workload.iter().for_each(Workload::kill);
        match Workload::start(&self.config) {
            Ok(workload) => {
                self.tell(Notice::Started { pid: workload.pid() });
                self.workload = Some(workload);
                Event::Started
            }
            Err(errno) => {
                self.workload = None;
                self.ended(ExitStatus::NotStarted(errno as i32));
                Event::Ended
            }
        }
    }

    fn signal(&self, number: i32) {
        if let Some(workload) = &self.workload {
            workload.signal(number);
        }
    }

    fn reap(&mut self) -> Option<Ending> {
        let status = reap(self.workload.as_mut())?;
        if let Some(workload) = &mut self.workload {
            workload.read(&mut self.outbox);
        }
        self.ended(status);
        self.apply(Event::Ended)
    }

    fn ended(&mut self, status: ExitStatus) {
        self.tell(Notice::Exited(status));
        self.last_line = Some(format!("workload ended: {}", describe(status)));
    }

    fn tell(&mut self, notice: Notice) {
        self.present = Some(notice);
        self.outbox.notice(notice);
    }

    fn farewell(&mut self) -> Result<(), AgentFault> {
        let end = Uptime::now().after(FAREWELL);
        let mut silence = Uptime::now().after(FAREWELL_SILENCE);
        let mut least = usize::MAX;
        self.link.leave();
        // Nothing more is read, so nothing must wake the loop for it.
        self.workload = None;
        self.intake = Intake::new();
        self.stop_port = StopPort::default();
        loop {
            while self.signals.next().is_some() {}
            self.buttons.pressed();
            self.deliver();
            let now = Uptime::now();
            let waiting = self.outbox.waiting() + self.console.waiting();
            if waiting < least {
                least = waiting;
                silence = now.after(FAREWELL_SILENCE);
            }
            let all_said = waiting == 0 && self.link.is_closed();
            if all_said || now >= end || (now >= silence && self.link.is_closed()) {
                break;
            }
            if now >= silence {
                // Whom it was meant for does not take it; perhaps somebody reads the console.
                self.link.abandon();
                silence = now.after(FAREWELL_SILENCE);
            } else {
                self.wait(Some(end.min(silence)))?;
            }
        }
        self.print_last_line();
        self.console.turn();
        self.console.keep_last_line();
        let end = Uptime::now().after(LAST_LINE);
        while !self.console.is_empty() && Uptime::now() < end {
            while self.signals.next().is_some() {}
            self.buttons.pressed();
            self.wait(Some(end))?;
            self.console.turn();
        }
        Ok(())
    }

    /// Waits until something can be done, at most until `deadline`.
    fn wait(&self, deadline: Option<Uptime>) -> Result<(), AgentFault> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.buttons.descriptors().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        if let Some(workload) = &self.workload
            && self.intake.deadline().is_none()
        {
            fds.extend(workload.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        }
        fds.extend(self.stop_port.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend(self.link.interest(&self.outbox).map(|(fd, flags)| PollFd::new(fd, flags)));
        if !self.console.is_empty() {
            fds.push(PollFd::new(self.console.fd(), PollFlags::POLLOUT));
        }
        let nearest = [deadline, self.link.deadline(), self.intake.deadline()].into_iter().flatten().min();
        let now = Uptime::now();
        let span = nearest.map_or(MAX_SLEEP, |at| now.until(at).min(MAX_SLEEP));
        // Rounded up: a wake-up just before the deadline would do nothing but come back.
        let millis = u16::try_from(span.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        match poll(&mut fds, PollTimeout::from(millis)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(AgentFault::Poll(errno)),
        }
    }
}

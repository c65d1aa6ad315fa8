//! The loop of PID 1.
//!
//! Duty: carry events to the lifecycle and its actions out; route output.
//! Not its duty: deciding anything that could be decided elsewhere.
//! Invariant: the only place that waits is `poll`, with the nearest deadline; every descriptor is non-blocking
//! and every turn does a bounded amount of work, so no one can starve the others.

use crate::{
    boot::Plan,
    call_port::CallPort,
    child::{describe, hold_all, reap, release_all},
    clock::Uptime,
    console::Console,
    copies::Copies,
    entropy,
    errands::Errands,
    identity::{self, Name},
    intake::Intake,
    lifecycle::{Action, Ending, Event, Lifecycle},
    link::{Link, Route},
    outbox::{Notice, Outbox},
    pipes::Pipes,
    questions::Questions,
    session::Wishes,
    signals::{Signals, Told},
    vsock::Vsock,
    workload::Workload,
};
use hearth_buttons::Buttons;
use hearth_config::guest::GuestConfig;
use hearth_wire::{AGENT_PORT, ExitStatus, FromAgent, MQTT_PORT};
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

/// The workload's variable that names the broker.
const MQTT_NAME: &str = "HEARTH_MQTT";

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
    call_port: CallPort,
    copies: Copies,
    name: Name,
    /// Kept after its end, for what its orphans still write.
    workload: Option<Workload>,
    /// The same of what warms it up.
    warm_up: Option<Workload>,
    questions: Questions,
    errands: Errands,
    pipes: Pipes<Vsock>,
    /// How the warm-up ended, for a host that comes late.
    warmth: Option<Notice>,
    /// For a host that comes late. Before the first start there is nothing to tell.
    present: Option<Notice>,
    /// A host listens that was told nothing of that yet.
    untold: bool,
    /// How the workload ended, for the console, behind all that it wrote.
    last_line: Option<String>,
}

impl Agent {
    pub(crate) fn new(mut plan: Plan) -> Result<Self, AgentFault> {
        let mut console = Console::open().map_err(AgentFault::Console)?;
        for remark in &plan.remarks {
            console.line(remark);
        }
        let pipes = pipes(&mut plan, &mut console);
        Ok(Self {
            lifecycle: Lifecycle::new(plan.config.when_done),
            config: plan.config,
            outbox: Outbox::default(),
            intake: Intake::new(),
            console,
            signals: Signals::block().map_err(AgentFault::Signals)?,
            buttons: Buttons::default(),
            link: Link::new(Vsock(AGENT_PORT), Uptime::now()),
            call_port: CallPort::open(),
            copies: Copies::default(),
            name: Name::default(),
            workload: None,
            warm_up: None,
            questions: Questions::default(),
            errands: Errands::open(),
            pipes,
            warmth: None,
            present: None,
            untold: false,
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
            let deadlines = [
                self.lifecycle.deadline(),
                self.copies.deadline(),
                self.questions.deadline(),
                self.errands.deadline(),
                self.pipes.deadline(),
            ];
            self.wait(deadlines.into_iter().flatten().min())?;
            finished = self.apply(Event::Tick);
            if self.copies.is_late(Uptime::now()) {
                self.console.line("nobody says who this copy is; it goes on as it was");
                self.release();
            }
        }
    }

    /// Does everything that can be done at once.
    fn turn(&mut self) -> Option<Ending> {
        while let Some(told) = self.signals.next() {
            let finished = match told {
                Told::Child => self.reap(),
                Told::Stop => self.stop(self.config.stop_timeout),
            };
            if finished.is_some() {
                return finished;
            }
        }
        if let Some(message) = self.call_port.turn() {
            // A copy is told who it is as soon as it lives: that its host is gone is noticed before that, or the next
            // one is kept waiting.
            let finished = self.hear();
            if finished.is_some() {
                return finished;
            }
            let mut wishes = Wishes::default();
            wishes.add(message);
            let (answer, finished) = self.grant(wishes);
            self.call_port.answer(answer.map(FromAgent::from).as_ref());
            self.let_go(answer);
            if finished.is_some() {
                return finished;
            }
        }
        if self.buttons.pressed() {
            self.console.line("the power button was pressed");
            let finished = self.stop(self.config.stop_timeout);
            if finished.is_some() {
                return finished;
            }
        }
        let open = self.intake.is_open(Uptime::now(), self.outbox.waiting());
        if open {
            for workload in self.workload.iter_mut().chain(&mut self.warm_up) {
                workload.read(&mut self.outbox);
            }
        }
        let outbox = &mut self.outbox;
        self.questions.turn(Uptime::now(), |id, good| outbox.answer(id, good));
        self.errands.turn(Uptime::now(), &self.config);
        self.pipes.turn(Uptime::now());
        self.hear()
    }

    /// Tells the host, and does what it wants.
    fn hear(&mut self) -> Option<Ending> {
        let wishes = self.deliver();
        let (answer, finished) = self.grant(wishes);
        if let Some(answer) = answer {
            self.outbox.notice(answer);
        }
        self.let_go(answer);
        finished
    }

    /// Does what the host wants, and says what it is to be answered.
    fn grant(&mut self, wishes: Wishes) -> (Option<Notice>, Option<Ending>) {
        let mut answer = None;
        if wishes.hold {
            hold_all();
            self.copies.hold();
            answer = Some(Notice::Held);
        }
        if let Some(identity) = wishes.identity {
            for fault in identity::take_on(&identity, &mut self.name) {
                self.console.line(&fault);
            }
            answer = Some(Notice::Identified);
        }
        for asked in &wishes.asked {
            self.questions.ask(Uptime::now(), asked, &self.config);
        }
        let mut finished = None;
        if let Some(grace) = wishes.restart {
            finished = self.apply(Event::RestartAsked { grace });
        }
        (answer, finished.or_else(|| wishes.stop.and_then(|grace| self.stop(grace))))
    }

    /// A copy's processes go on once the host has the answer: it waits for that, and they have waited longer.
    fn let_go(&mut self, answer: Option<Notice>) {
        if answer == Some(Notice::Identified) {
            self.release();
        }
    }

    /// Whoever is to end has to go on first.
    fn stop(&mut self, grace: Duration) -> Option<Ending> {
        self.release();
        self.apply(Event::StopAsked { grace })
    }

    fn release(&mut self) {
        if self.copies.release() {
            release_all();
        }
    }

    /// Brings output on its way. Returns what the host wants.
    fn deliver(&mut self) -> Wishes {
        let now = Uptime::now();
        let news = self.link.turn(now, &mut self.outbox);
        if news.lost {
            if self.copies.host_gone(now) {
                // A copy has a host that waits for it; others may have one that is only just beginning.
                self.link.hurry(now);
            }
            // Perhaps this is a copy now, and nobody will say so. Where there is no such device, nothing is lost.
            let _ = entropy::stir_from_device();
        }
        self.untold |= news.welcomed;
        // What is held does not run yet, whatever it did where it is a copy of.
        if let Some(present) = self.present
            && self.untold
            && !self.copies.holds()
        {
            self.untold = false;
            self.outbox.introduce(present);
            self.warmth.into_iter().for_each(|warmth| self.outbox.notice(warmth));
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
        news.wishes
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
        self.workload.iter().chain(&self.warm_up).for_each(Workload::kill);
        match Workload::start(&self.config) {
            Ok(workload) => {
                self.tell(Notice::Started { pid: workload.pid() });
                self.workload = Some(workload);
                self.start_warm_up();
                Event::Started
            }
            Err(errno) => {
                self.workload = None;
                self.ended(ExitStatus::NotStarted(errno as i32));
                Event::Ended
            }
        }
    }

    fn start_warm_up(&mut self) {
        self.warm_up = None;
        if self.config.warm_up.is_empty() {
            return self.warmed_up(ExitStatus::Code(0));
        }
        match Workload::start_command(&self.config, &self.config.warm_up) {
            Ok(warm_up) => self.warm_up = Some(warm_up),
            Err(errno) => self.warmed_up(ExitStatus::NotStarted(errno as i32)),
        }
    }

    fn warmed_up(&mut self, status: ExitStatus) {
        if status != ExitStatus::Code(0) {
            self.console.line(&format!("the warm-up failed: {}", describe(status)));
        }
        self.warmth = Some(Notice::Warm(status));
        self.outbox.notice(Notice::Warm(status));
    }

    fn signal(&self, number: i32) {
        if let Some(workload) = &self.workload {
            workload.signal(number);
        }
    }

    fn reap(&mut self) -> Option<Ending> {
        let mut own = vec![
            self.workload.as_mut().map(|workload| &mut workload.child),
            self.warm_up.as_mut().map(|warm_up| &mut warm_up.child),
        ];
        own.extend(self.questions.commands().map(Some));
        let before_errands = own.len();
        own.extend(self.errands.children().map(Some));
        let mut ends = reap(own);
        self.errands.ended(ends.split_off(before_errands).into_iter());
        let mut ends = ends.into_iter();
        let (ended, warmed_up) = (ends.next().flatten(), ends.next().flatten());
        self.questions.ended(ends);
        if let Some(status) = warmed_up {
            self.warm_up.iter_mut().for_each(|warm_up| warm_up.read(&mut self.outbox));
            self.warmed_up(status);
        }
        let status = ended?;
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
        self.warm_up = None;
        self.questions = Questions::default();
        self.errands.close();
        self.intake = Intake::new();
        self.call_port = CallPort::default();
        self.pipes.leave();
        loop {
            while self.signals.next().is_some() {}
            self.buttons.pressed();
            self.deliver();
            let now = Uptime::now();
            self.pipes.turn(now);
            let waiting = self.outbox.waiting() + self.console.waiting() + self.pipes.waiting();
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
        if self.intake.deadline().is_none() {
            let workloads = self.workload.iter().chain(&self.warm_up);
            fds.extend(workloads.flat_map(Workload::fds).map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        }
        fds.extend(self.questions.interest().map(|(fd, flags)| PollFd::new(fd, flags)));
        fds.extend(self.errands.interest().map(|(fd, flags)| PollFd::new(fd, flags)));
        fds.extend(self.pipes.interest().map(|(fd, flags)| PollFd::new(fd, flags)));
        fds.extend(self.call_port.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
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

/// The way to the host's broker, if this guest has one, and the workload told of it. What the image says itself counts.
fn pipes(plan: &mut Plan, console: &mut Console<File>) -> Pipes<Vsock> {
    let Some(port) = plan.mqtt else { return Pipes::none(Vsock(MQTT_PORT)) };
    match Pipes::open(Vsock(MQTT_PORT), port) {
        Ok(pipes) => {
            plan.config.env.entry(MQTT_NAME.to_owned()).or_insert_with(|| format!("127.0.0.1:{port}"));
            pipes
        }
        Err(error) => {
            console.line(&format!("no way to the host's broker at 127.0.0.1:{port}: {error}"));
            Pipes::none(Vsock(MQTT_PORT))
        }
    }
}

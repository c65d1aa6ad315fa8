//! The thread that speaks with brokers: the shell around [`Session`].
//!
//! Duty: turn a connection, a clock and what the daemon hands over into the session's events, and carry its actions out.
//! Not here: decisions (`sparkplug::session`), bytes of MQTT (`rumqttc`), what is kept (`letters`).
//! Invariants: one connection at a time, each with a client of its own, so nothing of an old one can come out of a new
//! one. Everything that comes in waits in a bounded place, and the daemon never waits for this thread but to stop it.

mod connection;
mod memo;
mod server;
mod tls;
mod visitor;

use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_channel::{Receiver, Sender, TrySendError, bounded};
use hearth_core::Moment;
use rustls::ClientConfig;

use self::connection::{Connection, Way};
use self::memo::Memo;
pub use self::memo::MemoError;
pub use self::server::{BadServer, Server};
pub use self::tls::{Identity, TlsError};
pub use self::visitor::{Ticket, Told, Visitor, VisitorError};
use crate::Now;
use crate::figures::{Figure, Snapshot, Value};
use crate::letters::Letters;
use crate::sparkplug::session::{Action, Config, Event, News, Session};

/// Bytes of the thread's stack: a TLS handshake takes some 100 KiB in a build without optimisation.
const STACK: usize = 512 << 10;
/// For a stop in order: NDEATH, its acknowledgement, DISCONNECT.
const STOP: Duration = Duration::from_secs(6);
/// Bytes of the outbox that are no news: a few of its batches.
const STEP: f64 = 262_144.0;
/// Asked for at one go before somebody else has a turn.
const MAX_LETTERS_AT_ONCE: usize = 16;

#[derive(Clone, Debug)]
pub struct Options {
    /// At least one, tried in order.
    pub servers: Vec<Server>,
    pub client_id: String,
    pub credentials: Option<(String, String)>,
    /// Files for servers that are spoken to with TLS.
    pub ca: Option<PathBuf>,
    pub identity: Option<Identity>,
    pub keep_alive: Duration,
    /// For a connection with all its handshakes.
    pub connect_within: Duration,
    pub session: Config,
    /// A folder on a disk that stays, for what the next process has to know.
    pub folder: PathBuf,
}

/// What goes in beside the connection.
#[derive(Debug)]
pub struct Inputs {
    pub figures: Receiver<Snapshot>,
    /// Letters may be waiting that were not there before.
    pub nudge: Receiver<()>,
    /// A word, or its closing: NDEATH, and the end.
    pub stop: Receiver<()>,
}

/// A thread that runs.
#[derive(Debug)]
pub struct Thread {
    figures: Sender<Snapshot>,
    nudge: Sender<()>,
    stop: Sender<()>,
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// Something that people should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    Session(News),
    /// The files for TLS cannot be used. Tried again with each connection: they may be replaced.
    Tls(String),
    /// What has to outlive this process could not be written.
    Memo(String),
}

impl Thread {
    /// `letters` is made on the thread, and stays there.
    pub fn spawn<L: Letters>(
        options: Options,
        letters: impl FnOnce(Sender<()>) -> L + Send + 'static,
        tell: impl FnMut(Word) + Send + 'static,
    ) -> io::Result<Thread> {
        let (figures, figures_in) = bounded(1);
        let (nudge, nudge_in) = bounded(1);
        let (stop, stop_in) = bounded(1);
        let (ended, done) = bounded(1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            // For names of servers, which only a blocking call resolves.
            .max_blocking_threads(1)
            .thread_stack_size(STACK)
            .thread_keep_alive(Duration::from_secs(1))
            .build()?;
        let nudger = nudge.clone();
        let thread =
            std::thread::Builder::new().name("fleet".to_owned()).stack_size(STACK).spawn(move || {
                let inputs = Inputs { figures: figures_in, nudge: nudge_in, stop: stop_in };
                runtime.block_on(run(options, letters(nudger), inputs, tell));
                // A name that is being resolved holds nobody up.
                runtime.shutdown_background();
                ended.close();
            })?;
        Ok(Thread { figures, nudge, stop, done, thread: Some(thread) })
    }

    /// Hands over how things stand. Gives it back if the thread has not even taken the last word of that, or is about
    /// to.
    pub fn show(&self, snapshot: Snapshot) -> Option<Snapshot> {
        self.figures.try_send(snapshot).err().map(TrySendError::into_inner)
    }

    /// Whether [`show`](Thread::show) would come to anything.
    pub fn has_room(&self) -> bool {
        !self.figures.is_full()
    }

    pub fn nudge(&self) {
        let _ = self.nudge.try_send(());
    }

    /// The same from elsewhere.
    pub fn nudger(&self) -> Sender<()> {
        self.nudge.clone()
    }

    /// NDEATH, and the end; not later than in [`STOP`].
    pub async fn stop(mut self, sleep: impl Future<Output = ()>) {
        self.stop.close();
        let ended = async {
            let _ = self.done.recv().await;
            true
        };
        let late = async {
            sleep.await;
            false
        };
        let in_time = std::pin::pin!(race(ended, late)).await;
        if let Some(thread) = self.thread.take().filter(|_| in_time) {
            let _ = thread.join();
        }
    }

    /// How long a [`stop`](Thread::stop) is worth waiting for.
    pub const fn patience() -> Duration {
        STOP
    }
}

/// Whichever is first, the first of both if both are.
async fn race<T>(first: impl Future<Output = T>, second: impl Future<Output = T>) -> T {
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    std::future::poll_fn(|context| match first.as_mut().poll(context) {
        std::task::Poll::Pending => second.as_mut().poll(context),
        ready => ready,
    })
    .await
}

/// Runs one box's session until it is told to stop. On a tokio runtime, of which many may share one.
pub async fn run<L: Letters>(options: Options, letters: L, inputs: Inputs, tell: impl FnMut(Word)) {
    let origin = tokio::time::Instant::now();
    let mut tell = tell;
    let memo = Memo::open(&options.folder).unwrap_or_else(|(memo, error)| {
        tell(Word::Memo(one_line(&error)));
        memo
    });
    let seed = RandomState::new().hash_one(&options.client_id);
    let session = Session::new(options.session.clone(), memo.bd_seq(), seed);
    let runner =
        Runner { options, session, letters, memo, tell, line: None, tls: None, origin, ended: false };
    runner.turn_until_ended(inputs).await;
}

struct Runner<L, T> {
    options: Options,
    session: Session,
    letters: L,
    memo: Memo,
    tell: T,
    line: Option<Connection>,
    /// Read once, and again after a failure.
    tls: Option<Arc<ClientConfig>>,
    origin: tokio::time::Instant,
    ended: bool,
}

enum Input {
    Line(Option<Event>),
    Figures(Snapshot),
    Stop,
    Look,
}

impl<L: Letters, T: FnMut(Word)> Runner<L, T> {
    async fn turn_until_ended(mut self, inputs: Inputs) {
        let mut stopping = false;
        while !self.ended {
            let look_at = self.offer_letters();
            let input = {
                let line = async {
                    match &mut self.line {
                        Some(line) => line.next().await,
                        None => pending().await,
                    }
                };
                let timer = async {
                    match look_at {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => pending().await,
                    }
                };
                tokio::select! {
                    // A stop first, figures last: no flood of either delays the end.
                    biased;
                    _ = inputs.stop.recv(), if !stopping => Input::Stop,
                    event = line => Input::Line(event),
                    () = timer => Input::Look,
                    Ok(()) = inputs.nudge.recv() => Input::Look,
                    Ok(snapshot) = inputs.figures.recv() => Input::Figures(snapshot),
                }
            };
            match input {
                Input::Stop => {
                    stopping = true;
                    // Shown before it was told to stop.
                    if let Ok(snapshot) = inputs.figures.try_recv() {
                        self.figures(snapshot);
                    }
                    self.hear(Event::Stop);
                }
                Input::Line(Some(event)) => {
                    if matches!(event, Event::Lost { .. } | Event::Refused { .. }) {
                        self.line = None;
                    }
                    self.hear(event);
                }
                Input::Line(None) => {}
                Input::Look => {
                    let now = self.now();
                    self.letters.tick(now);
                    self.hear(Event::Tick);
                }
                Input::Figures(snapshot) => self.figures(snapshot),
            }
        }
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: Moment::since_start(self.origin.elapsed()),
            wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Gives the session what it can take; when to look again.
    fn offer_letters(&mut self) -> Option<tokio::time::Instant> {
        let mut again = None;
        for _ in 0..MAX_LETTERS_AT_ONCE {
            let now = self.now();
            match self.session.wants_letter(now) {
                Ok(()) => match self.letters.next(now) {
                    Some(letter) => self.hear(Event::Letter(letter)),
                    None => break,
                },
                Err(at) => {
                    again = at.filter(|_| self.letters.standing().depth > 0);
                    break;
                }
            }
        }
        let soonest =
            [again, self.session.deadline(), self.letters.deadline()].into_iter().flatten().min()?;
        // A millisecond more: moments are cut, and a timer that fires early would only fire again.
        Some(self.origin + soonest.since(Moment::START) + Duration::from_millis(1))
    }

    /// With what only this side knows.
    fn figures(&mut self, mut snapshot: Snapshot) {
        let (standing, ignored) = (self.letters.standing(), self.session.ignored());
        let ignored = ignored.foreign + ignored.malformed + ignored.unknown;
        snapshot.node.extend([
            Figure::wide("Outbox/Depth", Value::Whole(standing.depth), 100.0, 20),
            Figure::exact("Outbox/Dropped", Value::Whole(standing.dropped)),
            Figure::wide("Outbox/Bytes", Value::Whole(standing.bytes), STEP, 20),
            Figure::wide("Outbox/Accepted bytes", Value::Whole(standing.accepted), STEP, 20),
            Figure::wide("Outbox/Written bytes", Value::Whole(standing.written), STEP, 20),
            Figure::wide("Fleet/Ignored", Value::Whole(ignored), 10.0, 20),
        ]);
        self.hear(Event::Figures(snapshot));
    }

    fn hear(&mut self, event: Event) {
        let now = self.now();
        for action in self.session.step(now, event) {
            self.carry_out(now, action);
        }
    }

    fn carry_out(&mut self, now: Now, action: Action) {
        match action {
            Action::Remember { bd_seq } => {
                if let Err(error) = self.memo.remember(bd_seq) {
                    (self.tell)(Word::Memo(one_line(&error)));
                }
            }
            Action::Connect { server, will } => {
                let server = self.options.servers[server % self.options.servers.len()].clone();
                let tls = if server.tls { self.tls() } else { None };
                let way = if server.tls && tls.is_none() { Way::Closed } else { Way::Open(tls) };
                self.line = Some(Connection::open(&self.options, &server, will, way));
            }
            Action::Subscribe(filters) => self.on_line(|line| line.subscribe(filters)),
            Action::Publish(message) => self.on_line(|line| line.publish(message)),
            Action::Probe => self.on_line(Connection::probe),
            Action::Disconnect => self.on_line(Connection::disconnect),
            Action::Cut => self.line = None,
            Action::Keep(kept) => self.letters.keep(kept, now),
            Action::Acknowledged(id) => self.letters.acknowledged(id, now),
            Action::Again => {
                self.line = None;
                self.letters.again();
            }
            Action::Deliver { place, payload } => self.letters.received(&place, &payload, now),
            Action::Tell(news) => {
                if let News::Online { server } = &news
                    && self.options.servers[server % self.options.servers.len()].tls
                {
                    self.memo.certificate_was_good(now.wall_ms);
                }
                if let News::Poisoned { .. } = &news {
                    self.letters.oversized();
                }
                (self.tell)(Word::Session(news));
            }
            Action::Ended => {
                self.line = None;
                self.ended = true;
            }
        }
    }

    fn on_line(&mut self, what: impl FnOnce(&mut Connection)) {
        if let Some(line) = &mut self.line {
            what(line);
        }
    }

    /// Files are read for each connection: certificates are renewed while the box runs.
    fn tls(&mut self) -> Option<Arc<ClientConfig>> {
        match tls::config(self.options.ca.as_deref(), self.options.identity.as_ref(), self.memo.floor()) {
            Ok(config) => self.tls = Some(config),
            Err(error) => (self.tell)(Word::Tls(one_line(&error))),
        }
        self.tls.clone()
    }
}

/// An error with its causes, on one line.
fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.replace('\n', " ")
}

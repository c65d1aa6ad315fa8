//! Who is connected to the control socket, and whose turn it is.
//!
//! Duty: own the listening socket and the connections; collect requests, deliver answers and events.
//!
//! One epoll instance holds all of it and is registered with the event loop as one descriptor. Streams are
//! registered once, edge-triggered for both directions, so no system call is spent on interest.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use event_manager::{EventOps, Events, MutEventSubscriber};
use hearth_wire::control::{Answer, Event, Order, Refusal, Reply, encode_reply};
use nix::sys::stat::Mode;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::Ticket;
use super::connection::{Connection, Rest};
use crate::listener::{ListenError, Listener};
use crate::logger::Quota;

/// Clients at the same time: a supervisor, a person, a few programs that watch. Protects descriptors and
/// memory, 70 KiB each at worst.
const MAX_CLIENTS: usize = 8;
/// Of them, so many may subscribe: one place is always for a request, so that a stop gets through.
const MAX_SUBSCRIBERS: usize = MAX_CLIENTS - 1;
/// Connections accepted in one turn of the event loop.
const ACCEPTS_PER_TURN: usize = 8;
/// Events taken from epoll in one turn: every client's and our own two.
const EVENTS_PER_TURN: usize = MAX_CLIENTS + 2;
/// Only the user that the monitor runs as.
const OURS_ALONE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// Tokens: a client's is its number.
const LISTENER: u64 = u64::MAX;
const AGAIN: u64 = u64::MAX - 1;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No socket at that path.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No epoll instance or event.
    #[error("cannot watch the control socket")]
    Watch(#[source] io::Error),
}

/// The monitor's end of the control socket.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    epoll: Epoll,
    connections: Vec<Connection>,
    next_client: u32,
    requests: VecDeque<(Ticket, Order)>,
    /// Somebody waits to be accepted, as far as we know.
    someone_waits: bool,
    /// By which an unfinished turn calls itself again.
    again: EventFd,
    complaints: Quota,
}

impl Server {
    /// Listens on `path`.
    pub fn listen(path: &Path) -> Result<Self, ControlError> {
        Self::on(open(path)?, Vec::new())
    }

    /// On a socket that listens already, with clients that were there before, some of which have subscribed.
    pub fn on(listener: Listener, clients: Vec<(UnixStream, bool)>) -> Result<Self, ControlError> {
        let epoll = Epoll::new().map_err(ControlError::Watch)?;
        let again = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(ControlError::Watch)?;
        for (fd, token) in [(listener.as_raw_fd(), LISTENER), (again.as_raw_fd(), AGAIN)] {
            watch(&epoll, fd, EventSet::IN, token).map_err(ControlError::Watch)?;
        }
        let mut server = Self {
            listener,
            epoll,
            connections: Vec::new(),
            next_client: 0,
            requests: VecDeque::new(),
            someone_waits: false,
            again,
            complaints: Quota::default(),
        };
        for (stream, subscribed) in clients {
            server.welcome(stream);
            if let Some(connection) = server.connections.last_mut().filter(|_| subscribed) {
                connection.subscribe();
            }
        }
        Ok(server)
    }

    /// The streams of those who stay for another life of the machine, and whether they have subscribed. Who is in the
    /// middle of a word, or does not take what it was told, is disconnected.
    pub fn stays(&mut self) -> Vec<(UnixStream, bool)> {
        self.flush();
        self.connections.drain(..).filter_map(Connection::stays).collect()
    }

    /// One turn: whatever clients did since the last.
    pub fn turn(&mut self) {
        let mut events = [EpollEvent::default(); EVENTS_PER_TURN];
        let count = match self.epoll.wait(0, &mut events) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(error) => {
                self.complain("cannot hear of clients", &error);
                0
            }
        };
        for event in events.iter().take(count) {
            match event.data() {
                LISTENER => self.someone_waits = true,
                AGAIN => {
                    let _ = self.again.read();
                    for client in 0..self.connections.len() {
                        self.read(client);
                    }
                }
                token => self.serve(token, EventSet::from_bits_truncate(event.events())),
            }
        }
        self.flush();
        if self.someone_waits {
            self.accept();
        }
    }

    fn serve(&mut self, token: u64, what: EventSet) {
        let found = self.connections.iter().position(|connection| u64::from(connection.client) == token);
        let Some(place) = found else { return };
        if what.intersects(EventSet::IN | EventSet::READ_HANG_UP | EventSet::HANG_UP) {
            // Before it goes: somebody may say what is to be done and leave.
            self.read(place);
        }
        if what.intersects(EventSet::HANG_UP | EventSet::ERROR)
            && let Some(connection) = self.connections.get_mut(place)
        {
            connection.hang_up();
        }
    }

    fn read(&mut self, place: usize) {
        let Some(connection) = self.connections.get_mut(place) else { return };
        let client = connection.client;
        let requests = &mut self.requests;
        let rest = connection.read(|request, order| requests.push_back((Ticket { client, request }, order)));
        if rest == Rest::Perhaps {
            self.call_again();
        }
    }

    fn call_again(&self) {
        if let Err(error) = self.again.write(1) {
            self.complain("cannot go on with what is left to do", &error);
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok(stream) => self.welcome(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.someone_waits = false;
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    // Out of descriptors: the next event is soon enough.
                    self.complain("cannot accept a client", &error);
                    return;
                }
            }
        }
        self.call_again();
    }

    fn welcome(&mut self, stream: UnixStream) {
        let client = self.next_client;
        if self.connections.len() >= MAX_CLIENTS {
            // Numbers grow: the first idle one is the oldest.
            match self.connections.iter().position(Connection::is_idle) {
                Some(oldest) => drop(self.connections.remove(oldest)),
                None => {
                    refuse(&stream);
                    return;
                }
            }
        }
        let what = EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP;
        let watched = stream
            .set_nonblocking(true)
            .and_then(|()| watch(&self.epoll, stream.as_raw_fd(), what, client.into()));
        match watched {
            Ok(()) => {
                self.next_client = self.next_client.wrapping_add(1);
                self.connections.push(Connection::new(client, stream));
            }
            Err(error) => self.complain("cannot watch a client", &error),
        }
    }

    /// The oldest request that nobody took yet.
    pub fn take(&mut self) -> Option<(Ticket, Order)> {
        self.requests.pop_front()
    }

    /// The last answer to a request. Its client may be gone.
    pub fn answer(&mut self, ticket: Ticket, answer: Answer<'_>) {
        if let Some(connection) = self.find(ticket.client) {
            connection.answer(ticket.request, answer);
        }
    }

    /// An answer that another one follows.
    pub fn answer_in_part(&mut self, ticket: Ticket, answer: Answer<'_>) {
        if let Some(connection) = self.find(ticket.client) {
            connection.answer_in_part(ticket.request, answer);
        }
    }

    /// From now on the client is told every event, and `present` as the first, unless too many are already.
    pub fn subscribe(&mut self, ticket: Ticket, present: Event<'_>) {
        let subscribed =
            |connection: &&Connection| connection.is_subscribed() && connection.client != ticket.client;
        let crowded = self.connections.iter().filter(subscribed).count() >= MAX_SUBSCRIBERS;
        let Some(connection) = self.find(ticket.client) else { return };
        if crowded {
            let text = "too many clients have subscribed";
            connection.answer(ticket.request, Answer::Refused { code: Refusal::Busy, text });
            return;
        }
        connection.answer(ticket.request, Answer::Done);
        connection.subscribe();
        connection.tell(present);
    }

    /// Tells all subscribers.
    pub fn tell(&mut self, event: Event<'_>) {
        for connection in &mut self.connections {
            connection.tell(event);
        }
    }

    /// Writes what clients take, and forgets those that are of no more use. To be called when answers and
    /// events were added.
    pub fn flush(&mut self) {
        let before = self.connections.len();
        self.connections.retain_mut(Connection::flush);
        if self.connections.len() < before && self.someone_waits {
            self.call_again();
        }
    }

    fn find(&mut self, client: u32) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.client == client)
    }

    fn complain(&self, what: &str, error: &io::Error) {
        if self.complaints.allow() {
            log::warn!("control socket: {what}: {error}");
        }
    }
}

/// Listens on `path` for the user that the monitor runs as.
pub fn open(path: &Path) -> Result<Listener, ControlError> {
    Ok(Listener::bind(path, OURS_ALONE)?)
}

/// Says why, if the socket takes it, and hangs up.
fn refuse(mut stream: &UnixStream) {
    let text = "all places are taken";
    let reply = Reply::Answer { id: 0, answer: Answer::Refused { code: Refusal::Busy, text } };
    let mut buffer = [0; 64];
    if let Ok(frame) = encode_reply(&reply, &mut buffer)
        && stream.set_nonblocking(true).is_ok()
    {
        let _ = io::Write::write(&mut stream, frame);
    }
}

fn watch(epoll: &Epoll, fd: RawFd, what: EventSet, token: u64) -> io::Result<()> {
    epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(what | EventSet::EDGE_TRIGGERED, token))
}

impl MutEventSubscriber for Server {
    fn process(&mut self, _events: Events, _ops: &mut EventOps<'_>) {
        self.turn();
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(Events::new(&self.epoll, event_manager::EventSet::IN)) {
            log::error!("control socket: nobody can be heard: {error}");
        }
    }
}

//! The API's connections.
//!
//! ```text
//! accepted --no place--> 503, closed
//!    |
//!    +--> waiting for a head --> body --> answered --keep--> waiting for a head
//!             |  too slow                    |
//!             +--> closed                    +--events--> streaming --reader gone or stuck--> closed
//! ```
//!
//! Duty: bytes between sockets and `http`, questions to the daemon's loop. Not here: what the answers are.
//! Invariant: at most [`MAX_CONNECTIONS`] connections, and beside them [`MAX_FROM_NETWORK`] over TCP; [`MAX_STREAMS`] of all
//! are streams and [`MAX_SESSIONS`] lines to programs. Each holds one request's bytes, and no wait for a client is without
//! end but that of a stream for something to tell, and of a program for who reads it.

use std::cell::Cell;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::Serialize;
use smol::channel::{Sender, bounded};
use smol::future::or;
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::net::TcpListener;
use smol::net::unix::{UnixListener, UnixStream};
use smol::{LocalExecutor, Timer};
use thiserror::Error;

use super::events::{Events, Note};
use super::http::{self, Head, HttpFault, MAX_BODY_BYTES, MAX_HEAD_BYTES};
use super::metrics::{self, Page};
use super::routes::{Call, EventsWanted, LogsWanted, route};
use super::token::Token;
use super::types::{LogLine, Reached};
use super::{Ask, Question, Reply, snapshot};
use crate::clock;
use crate::console::Console;
use crate::logs::Logs;
use crate::logs::tail::{Piece, Tail};
use crate::screens::Screens;

/// Connections at a time: some people, a scraper and a dashboard.
const MAX_CONNECTIONS: usize = 20;
/// And those over TCP, on a count of their own: whoever is on the host may connect there, and must not keep root out.
const MAX_FROM_NETWORK: usize = 8;
/// Those of them that are streams: somebody who only asks always finds a place.
pub(super) const MAX_STREAMS: usize = 8;
/// And those that are lines to programs in guests: each has a person who types.
pub(super) const MAX_SESSIONS: usize = 4;
/// For a whole request to come, the wait for a further one included.
const REQUEST_PATIENCE: Duration = Duration::from_secs(30);
/// For a client to take some bytes.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// After a failed accept (out of descriptors, say): not a busy loop.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// Events per piece of a stream, some 10 KiB.
const EVENTS_AT_ONCE: usize = 32;
/// Bytes per read.
const READ_BYTES: usize = 1024;

const ASK_FOR_TOKEN: &str = "WWW-Authenticate: Bearer\r\n";
const JSON: &str = "application/json";
const LINES_OF_JSON: &str = "application/x-ndjson";
const OPENAPI: &str = include_str!("../../api/openapi.json");

#[derive(Debug, Error)]
#[error("{}: the API cannot listen there", .0.display())]
pub(crate) struct ListenError(PathBuf, #[source] io::Error);

/// The API's socket; its path goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// In a folder that belongs to the one daemon: what lies at `path` is an earlier one's.
    pub(crate) fn bind(path: &Path) -> Result<Socket, ListenError> {
        let at = |error| ListenError(path.to_owned(), error);
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(at)?;
        // The folder keeps everybody else out, too.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(at)?;
        Ok(Socket { listener, path: path.to_owned() })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A leftover is no harm: the next daemon removes it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What every connection needs.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) asks: Sender<Ask>,
    pub(crate) events: Rc<Events>,
    pub(crate) logs: Option<Logs>,
    pub(crate) screens: Screens,
    pub(crate) places: Rc<Places>,
    /// Where machines have their folders.
    pub(crate) state: PathBuf,
    pub(crate) console: Console,
}

impl Door {
    /// On the console and as an event.
    pub(crate) fn tell(&self, note: &Note<'_>) {
        self.console.event(&self.events.note(note, clock::now()));
    }
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// On the daemon's own socket, which only root can open.
    Local(String),
    /// From elsewhere on this host: each request has to show the token.
    Network(String, Rc<Token>),
}

impl Caller {
    fn may_ask(&self, token: Option<&str>) -> bool {
        match self {
            Caller::Local(_) => true,
            Caller::Network(_, own) => token.is_some_and(|token| own.is(token)),
        }
    }

    /// For people.
    pub(super) fn name(&self) -> &str {
        match self {
            Caller::Local(name) | Caller::Network(name, _) => name,
        }
    }

    fn local(stream: &UnixStream) -> Caller {
        Caller::Local(match getsockopt(stream, PeerCredentials) {
            Ok(peer) => format!("uid {} (process {})", peer.uid(), peer.pid()),
            Err(_) => "somebody on this box".to_owned(),
        })
    }
}

/// Who is inside.
#[derive(Debug, Default)]
pub(crate) struct Places {
    connections: Cell<usize>,
    from_network: Cell<usize>,
    pub(super) streams: Cell<usize>,
    pub(super) snapshots: Cell<usize>,
    pub(super) sessions: Cell<usize>,
}

/// A place that was taken; dropping it gives it back.
pub(super) struct Place<'p>(&'p Cell<usize>);

impl<'p> Place<'p> {
    pub(super) fn take(taken: &'p Cell<usize>, most: usize) -> Option<Place<'p>> {
        (taken.get() < most).then(|| {
            taken.set(taken.get() + 1);
            Place(taken)
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Serves who connects, for ever.
pub(crate) async fn serve(socket: Socket, door: Door, executor: Rc<LocalExecutor<'static>>) {
    loop {
        match socket.listener.accept().await {
            Ok((stream, _)) => {
                let door = door.clone();
                let caller = Caller::local(&stream);
                executor.spawn(async move { attend(stream, &door, &caller).await }).detach();
            }
            Err(_) => {
                Timer::after(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// The same over TCP, for who knows the token.
pub(crate) async fn serve_port(
    listener: TcpListener,
    token: Rc<Token>,
    door: Door,
    executor: Rc<LocalExecutor<'static>>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let (door, caller) = (door.clone(), Caller::Network(from.to_string(), Rc::clone(&token)));
                executor.spawn(async move { attend(stream, &door, &caller).await }).detach();
            }
            Err(_) => {
                Timer::after(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// One connection, from first to last. That a client goes away is no news.
async fn attend(stream: impl AsyncRead + AsyncWrite + Unpin, door: &Door, caller: &Caller) {
    let mut client = Client { stream, held: Vec::new() };
    let (taken, most) = match caller {
        Caller::Local(_) => (&door.places.connections, MAX_CONNECTIONS),
        Caller::Network(..) => (&door.places.from_network, MAX_FROM_NETWORK),
    };
    let Some(_place) = Place::take(taken, most) else {
        let reply = busy(format!("expected at most {most} connections"));
        let _ = client.write(&http::whole(&reply, JSON, "", false)).await;
        return;
    };
    while client.turn(door, caller).await == Some(Next::Request) {}
}

pub(super) fn busy(message: String) -> Reply {
    Reply::refused(503, "busy", message)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Request,
    Close,
}

pub(super) struct Client<S> {
    pub(super) stream: S,
    /// Read, and not yet understood.
    pub(super) held: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// One request; `None` once the client is gone.
    async fn turn(&mut self, door: &Door, caller: &Caller) -> Option<Next> {
        let request = self.request();
        let late = async {
            Timer::after(REQUEST_PATIENCE).await;
            None
        };
        let (head, body) = match or(request, late).await? {
            Ok(request) => request,
            Err(fault) => {
                self.write(&http::whole(&fault.reply(), JSON, "", false)).await?;
                return Some(Next::Close);
            }
        };
        if !caller.may_ask(head.token.as_deref()) {
            let message = "expected \"Authorization: Bearer TOKEN\" with the token of api.token_file";
            let reply = Reply::refused(401, "no-token", message.to_owned());
            self.write(&http::whole(&reply, JSON, ASK_FOR_TOKEN, false)).await?;
            return Some(Next::Close);
        }
        let reply = match route(head.method, &head.path, &head.query, &body) {
            Err(refusal) => refusal,
            Ok(Call::Ask(question)) => ask(door, question).await,
            Ok(Call::OpenApi) => Reply { status: 200, body: OPENAPI.as_bytes().to_vec() },
            Ok(Call::Metrics) => {
                let reply = scrape(door).await;
                let kind = if reply.status == 200 { metrics::KIND } else { JSON };
                self.write(&http::whole(&reply, kind, "", head.keep)).await?;
                return Some(if head.keep { Next::Request } else { Next::Close });
            }
            Ok(Call::Events(wanted)) => match Place::take(&door.places.streams, MAX_STREAMS) {
                Some(_place) => {
                    self.events(&door.events, wanted).await?;
                    return Some(Next::Close);
                }
                None => busy(format!("expected at most {MAX_STREAMS} streams")),
            },
            Ok(Call::Snapshot { workload, wanted }) => snapshot::take(door, caller, workload, wanted).await,
            Ok(Call::Console { workload, follow }) => match self.console_of(door, workload, follow).await? {
                Some(refusal) => refusal,
                None => return Some(Next::Close),
            },
            Ok(Call::Exec { workload, wanted }) => {
                let upgrade = head.upgrade.as_deref();
                match self.exec(door, caller, workload, &wanted, upgrade).await? {
                    Some(refusal) => refusal,
                    None => return Some(Next::Close),
                }
            }
            Ok(Call::Logs { workload, wanted }) => match self.logs_of(door, workload, wanted).await? {
                Some(refusal) => refusal,
                None => return Some(Next::Close),
            },
        };
        self.write(&http::whole(&reply, JSON, "", head.keep)).await?;
        Some(if head.keep { Next::Request } else { Next::Close })
    }

    /// `None` if the client goes away before it has said all.
    async fn request(&mut self) -> Option<Result<(Head, Vec<u8>), HttpFault>> {
        let (head, length) = loop {
            match http::parse(&self.held) {
                Ok(Some(parsed)) => break parsed,
                Ok(None) => self.read(MAX_HEAD_BYTES).await?,
                Err(fault) => return Some(Err(fault)),
            }
        };
        self.held.drain(..length);
        while self.held.len() < head.body_bytes {
            self.read(MAX_BODY_BYTES).await?;
        }
        let rest = self.held.split_off(head.body_bytes);
        let body = std::mem::replace(&mut self.held, rest);
        Some(Ok((head, body)))
    }

    /// More bytes, but no more than `most` of them in all: a further request waits in the socket.
    async fn read(&mut self, most: usize) -> Option<()> {
        // A read of what is there already does not wait, and there may be much of it.
        smol::future::yield_now().await;
        let mut buffer = [0; READ_BYTES];
        let room = most.saturating_sub(self.held.len()).clamp(1, READ_BYTES);
        match self.stream.read(&mut buffer[..room]).await {
            Ok(0) | Err(_) => None,
            Ok(length) => {
                self.held.extend_from_slice(&buffer[..length]);
                Some(())
            }
        }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Option<()> {
        let write = async { self.stream.write_all(bytes).await.ok() };
        let late = async {
            Timer::after(WRITE_PATIENCE).await;
            None
        };
        or(write, late).await
    }

    /// Until the client is gone, or, if it does not follow, until all is told.
    async fn events(&mut self, events: &Events, wanted: EventsWanted) -> Option<()> {
        // Before the first look: what is told between a look and a wait rings.
        let bell = events.bell();
        self.write(&http::stream_head(LINES_OF_JSON)).await?;
        let mut after = wanted.after;
        loop {
            while let Some((lines, last)) = events.behind(after, EVENTS_AT_ONCE) {
                after = last;
                let mut text = Vec::new();
                for line in lines {
                    text.extend(json_line(&line));
                }
                self.write(&http::chunk(&text)).await?;
            }
            if !wanted.follow {
                return self.write(&http::chunk(b"")).await;
            }
            let rung = async { bell.recv().await.ok() };
            or(rung, self.gone()).await?;
        }
    }

    /// Like [`Client::events`], with lines of a log; or why not.
    async fn logs_of(&mut self, door: &Door, name: String, wanted: LogsWanted) -> Option<Option<Reply>> {
        let Some(logs) = &door.logs else {
            return Some(Some(Reply::refused(
                503,
                "no-logs",
                "no log files are kept on this box".to_owned(),
            )));
        };
        let known = ask(door, Question::Explain { workload: name.clone() }).await;
        if known.status != 200 {
            return Some(Some(known));
        }
        let Some(_place) = Place::take(&door.places.streams, MAX_STREAMS) else {
            return Some(Some(busy(format!("expected at most {MAX_STREAMS} streams"))));
        };
        let bell = logs.bell(&name);
        let folder = logs.folder().to_owned();
        let opened = smol::unblock(move || Tail::open(&folder, &name, wanted.lines)).await;
        let mut tail = match opened {
            Ok(tail) => tail,
            Err(error) => {
                let message = format!("its log cannot be read: {error}");
                return Some(Some(Reply::refused(503, "no-logs", message)));
            }
        };
        self.write(&http::stream_head(LINES_OF_JSON)).await?;
        loop {
            let piece;
            (tail, piece) = smol::unblock(move || {
                let piece = tail.next();
                (tail, piece)
            })
            .await;
            match piece {
                Ok(Piece::Lines(lines)) => self.write(&http::chunk(&log_lines(&lines))).await?,
                Ok(Piece::Lost) => {
                    let note = LogLine::note("(lines before this are gone)");
                    self.write(&http::chunk(&json_line(&note))).await?;
                }
                Ok(Piece::End) if wanted.follow => {
                    let rung = async { bell.recv().await.ok() };
                    or(rung, self.gone()).await?;
                }
                Ok(Piece::End) | Err(_) => {
                    self.write(&http::chunk(b"")).await?;
                    return Some(None);
                }
            }
        }
    }

    /// Ends when the client hangs up. Who follows has nothing more to say: what it says is read and forgotten.
    pub(super) async fn gone(&mut self) -> Option<()> {
        loop {
            let mut buffer = [0; READ_BYTES];
            if matches!(self.stream.read(&mut buffer).await, Ok(0) | Err(_)) {
                return None;
            }
            smol::future::yield_now().await;
        }
    }
}

/// The loop's share, and what can be had without it.
async fn scrape(door: &Door) -> Reply {
    let mut reply = ask(door, Question::Metrics).await;
    if reply.status != 200 {
        return reply;
    }
    let mut page = Page::default();
    door.events.count_on(&mut page);
    if let Some(logs) = &door.logs {
        page.logs(&logs.counted());
    }
    let own = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    page.process(&own("status"), &own("stat"));
    reply.body.extend(page.into_bytes());
    reply
}

fn json_line(line: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text
}

fn log_lines(lines: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(lines);
    text.lines().flat_map(|line| json_line(&LogLine::of(line))).collect()
}

/// The machine that somebody means.
pub(crate) async fn reach(door: &Door, name: String) -> Result<Reached, Reply> {
    let reply = ask(door, Question::Reach { name }).await;
    serde_json::from_slice(&reply.body).map_err(|_| reply)
}

async fn ask(door: &Door, question: Question) -> Reply {
    let (answer, answered) = bounded(1);
    let leaving = || Reply::refused(503, "leaving", "hearthd is about to end".to_owned());
    if door.asks.send(Ask { question, answer }).await.is_err() {
        return leaving();
    }
    answered.recv().await.unwrap_or_else(|_| leaving())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::EventTold;
    use hearth_core::{Announcement, Moment, State};
    use smol::channel::Receiver;
    use smol::future::zip;

    fn door() -> (Door, Receiver<Ask>) {
        let (asks, asked) = bounded(super::super::MAX_QUESTIONS);
        let console = Console::new([], std::io::sink()).unwrap();
        let state = PathBuf::new();
        let (events, places, screens) = (Rc::default(), Rc::default(), Screens::default());
        (Door { asks, events, logs: None, screens, places, state, console }, asked)
    }

    fn somebody() -> Caller {
        Caller::Local("somebody".to_owned())
    }

    fn tell(door: &Door) {
        let _ = door.events.tell(&Announcement::Stopping, Moment::START, "stopping", |_| String::new());
    }

    /// All that comes back for `bytes` until the server closes.
    async fn exchange(door: &Door, bytes: &[u8]) -> String {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let client = async {
            ours.write_all(bytes).await.unwrap();
            let mut text = Vec::new();
            ours.read_to_end(&mut text).await.unwrap();
            String::from_utf8(text).unwrap()
        };
        zip(attend(theirs, door, &somebody()), client).await.1
    }

    const STATUS: &str = "GET /v1/status HTTP/1.1\r\n\r\n";
    const LAST: &str = "GET /v1/status HTTP/1.1\r\nConnection: close\r\n\r\n";

    #[test]
    fn requests_on_one_connection_are_answered_one_after_the_other() {
        smol::block_on(async {
            let (door, asked) = door();
            let core = State::new(0);
            let answers = async {
                for _ in 0..2 {
                    asked.recv().await.unwrap().answer(&core, &|_| None, Moment::START);
                }
            };
            let bytes = format!("{STATUS}{LAST}");
            let (text, ()) = zip(exchange(&door, bytes.as_bytes()), answers).await;
            assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
            assert_eq!(text.matches("\"phase\":\"opening\"").count(), 2, "{text}");
            assert_eq!(door.places.connections.get(), 0);
        });
    }

    #[test]
    fn what_is_no_request_is_answered_once_and_the_connection_ends() {
        smol::block_on(async {
            let (door, _asked) = door();
            let text = exchange(&door, format!("nonsense\r\n\r\n{STATUS}").as_bytes()).await;
            assert!(text.starts_with("HTTP/1.1 400 Bad Request"), "{text}");
            assert_eq!(text.matches("HTTP/1.1").count(), 2, "one answer, and what it expected: {text}");
        });
    }

    #[test]
    fn past_the_last_place_a_client_is_told_so_and_places_are_given_back() {
        smol::block_on(async {
            let (door, _asked) = door();
            let places = Rc::clone(&door.places);
            let taken: Vec<_> =
                (0..MAX_CONNECTIONS).map(|_| Place::take(&places.connections, MAX_CONNECTIONS)).collect();
            let text = exchange(&door, b"").await;
            assert!(text.starts_with("HTTP/1.1 503 Service Unavailable"), "{text}");
            drop(taken);
            assert_eq!(places.connections.get(), 0);
        });
    }

    #[test]
    fn streams_leave_places_to_those_who_ask() {
        smol::block_on(async {
            let (door, _asked) = door();
            let places = Rc::clone(&door.places);
            let _taken: Vec<_> =
                (0..MAX_STREAMS).map(|_| Place::take(&places.streams, MAX_STREAMS)).collect();
            let bytes = b"GET /v1/events HTTP/1.1\r\nConnection: close\r\n\r\n";
            let text = exchange(&door, bytes).await;
            assert!(text.contains("expected at most 8 streams"), "{text}");
        });
    }

    #[test]
    fn a_daemon_that_leaves_says_so() {
        smol::block_on(async {
            let (door, asked) = door();
            drop(asked);
            let text = exchange(&door, LAST.as_bytes()).await;
            assert!(text.contains("\"leaving\""), "{text}");
        });
    }

    #[test]
    fn who_follows_hears_what_was_and_what_comes_and_gives_its_place_back_when_it_hangs_up() {
        smol::block_on(async {
            let (door, _asked) = door();
            tell(&door);
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let client = async {
                ours.write_all(b"GET /v1/events?follow=true HTTP/1.1\r\n\r\n").await.unwrap();
                let mut heard = String::new();
                let mut buffer = [0; 4096];
                for number in 1..=3 {
                    while !heard.contains(&format!("\"number\":{number},")) {
                        let length = ours.read(&mut buffer).await.unwrap();
                        assert_ne!(length, 0, "{heard}");
                        heard.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
                    }
                    tell(&door);
                }
                assert_eq!(door.places.streams.get(), 1);
                drop(ours);
                heard
            };
            let ((), heard) = zip(attend(theirs, &door, &somebody()), client).await;
            assert!(heard.contains("Transfer-Encoding: chunked"), "{heard}");
            let line = heard.lines().find(|line| line.starts_with('{')).unwrap();
            assert_eq!(serde_json::from_str::<EventTold>(line).unwrap().text, "stopping");
            assert_eq!(door.places.streams.get(), 0);
        });
    }
}

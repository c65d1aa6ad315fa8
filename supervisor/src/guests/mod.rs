//! A broker for workloads: what they tell the fleet and hear of it, without a network card or credentials.
//!
//! | file | what |
//! |---|---|
//! | `listening.rs` | where one machine's clients come in |
//! | `client.rs` | one of them |
//!
//! ```text
//! client in the guest -> agent -> vsock -> client.rs -- Post --> fleet's thread -> outbox -> broker
//!                                                    <-- Word --
//! ```
//!
//! Duty: accounts of workloads, who is connected, and words from the fleet's thread to whom they are for. Not here: what
//! may be said and how MQTT goes (`hearth_fleet::guest`), what is kept (its outbox).
//! Invariants: clients, and what waits for each, are bounded; a client that does not listen holds nobody up, and nobody
//! waits for the fleet's thread but who has something to tell it. On a box that is nobody's member what is told is dropped.

mod client;
mod listening;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

use hearth_config::workload::{self, Payload, Telemetry};
use hearth_fleet::guest::bytes::Bytes;
use hearth_fleet::guest::{Account, Counts, Filter, Limits, MAX_UNKEPT, Post, Refusal, Word};
use hearth_fleet::outbox::Class;
use smol::LocalExecutor;
use smol::channel::{Receiver, Sender, bounded};

use crate::api::events::{Events, Note};
use crate::api::types::TelemetryTold;
use crate::clock;
use crate::console::Console;
use crate::setup::{Setup, vsock_socket};

pub(crate) use listening::serve;

/// Messages that wait for the fleet's thread; who has more to tell waits.
const MAX_POSTS: usize = 64;
/// Words that wait for the daemon's loop. The thread keeps acknowledgements that find no room, and drops commands.
const MAX_WORDS: usize = 256;
/// Commands that wait for one client; the next ones it misses.
const MAX_SAID: usize = 32;
/// Bytes of a command's payload: as much as a device of that size is told.
const MAX_COMMAND: usize = 16 << 10;

/// What happened to a message with QoS 1.
#[derive(Clone, Copy, Debug)]
struct Answer {
    id: u16,
    kept: bool,
}

/// A command of the fleet's.
#[derive(Clone, Debug)]
struct Said {
    topic: String,
    payload: Bytes,
}

/// The way to the fleet's thread.
#[derive(Clone, Debug)]
struct Outlet {
    posts: Sender<Post>,
    nudge: Sender<()>,
}

/// The fleet's side.
#[derive(Debug)]
pub(crate) struct FarEnd {
    pub(crate) posts: Receiver<Post>,
    pub(crate) words: Sender<Word>,
}

/// The daemon's.
#[derive(Debug)]
pub(crate) struct NearEnd {
    posts: Sender<Post>,
    words: Receiver<Word>,
}

pub(crate) fn ends() -> (NearEnd, FarEnd) {
    let ((posts, posts_out), (words, words_out)) = (bounded(MAX_POSTS), bounded(MAX_WORDS));
    (NearEnd { posts, words: words_out }, FarEnd { posts: posts_out, words })
}

/// All that the daemon knows of them; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Guests(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    /// It holds those who hold this.
    executor: Weak<LocalExecutor<'static>>,
    accounts: RefCell<BTreeMap<String, Account>>,
    present: RefCell<BTreeMap<u64, Present>>,
    next: Cell<u64>,
    /// None: the box is nobody's member.
    outlet: RefCell<Option<Outlet>>,
    events: Rc<Events>,
    console: Console,
}

/// A client that is connected.
#[derive(Debug)]
struct Present {
    workload: Rc<str>,
    answers: Sender<Answer>,
    said: Sender<Said>,
}

/// A client's place. Dropping it leaves.
#[derive(Debug)]
struct Seat {
    guests: Guests,
    number: u64,
    workload: Rc<str>,
    replica: Rc<str>,
    answers: Receiver<Answer>,
    said: Receiver<Said>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.guests.0.present.borrow_mut().remove(&self.number);
    }
}

impl Guests {
    pub(crate) fn new(executor: &Rc<LocalExecutor<'static>>, events: Rc<Events>, console: Console) -> Guests {
        Guests(Rc::new(Inner {
            executor: Rc::downgrade(executor),
            accounts: RefCell::default(),
            present: RefCell::default(),
            next: Cell::new(0),
            outlet: RefCell::default(),
            events,
            console,
        }))
    }

    /// Of a box without workloads that tell anything.
    #[cfg(test)]
    pub(crate) fn none(console: &Console) -> Guests {
        Guests::new(&Rc::default(), Rc::default(), console.clone())
    }

    /// What workloads may say is as their files have it now.
    pub(crate) fn follow(&self, setup: &Setup) {
        let now = clock::now();
        let mut accounts = self.0.accounts.borrow_mut();
        accounts.retain(|name, _| setup.workload(name).is_some());
        for workload in &setup.workloads {
            let limits = workload.telemetry.as_ref().map(limits);
            match accounts.get_mut(workload.name.as_str()) {
                Some(account) => account.set(limits, now),
                None if limits.is_some() => {
                    accounts.insert(workload.name.as_str().to_owned(), Account::new(limits, now));
                }
                None => {}
            }
        }
    }

    /// The box is a member, and this is the way.
    pub(crate) fn join(&self, end: NearEnd, nudge: Sender<()>) {
        *self.0.outlet.borrow_mut() = Some(Outlet { posts: end.posts, nudge });
        let Some(executor) = self.0.executor.upgrade() else { return };
        let guests = self.clone();
        let hearing = async move {
            while let Ok(word) = end.words.recv().await {
                guests.hear(word);
            }
        };
        executor.spawn(hearing).detach();
    }

    /// Who is told of what workloads said: none of those without an account.
    pub(crate) fn counts(&self, workload: &str) -> Option<Counts> {
        self.0.accounts.borrow().get(workload).map(Account::counts)
    }

    pub(crate) fn told(&self, workload: &str) -> Option<TelemetryTold> {
        let counts = self.counts(workload)?;
        let clients = self.0.present.borrow().values().filter(|one| *one.workload == *workload).count();
        let Counts { messages, bytes, refused, delayed, heard, missed } = counts;
        let reaches_fleet = self.0.outlet.borrow().is_some();
        Some(TelemetryTold { clients, messages, bytes, refused, delayed, heard, missed, reaches_fleet })
    }

    fn hear(&self, word: Word) {
        let (ticket, kept) = match word {
            Word::Kept { ticket } => (ticket, true),
            Word::Lost { ticket } => (ticket, false),
            Word::Said { workload, topic, payload } => return self.say(&workload, &topic, payload),
        };
        let (number, id) = split(ticket);
        if let Some(client) = self.0.present.borrow().get(&number) {
            // There is room for as many as it may wait for.
            let _ = client.answers.try_send(Answer { id, kept });
        }
    }

    /// To all its replicas that are there.
    fn say(&self, workload: &str, topic: &str, payload: Vec<u8>) {
        let too_large = payload.len() > MAX_COMMAND;
        let said = Said { topic: topic.to_owned(), payload: payload.into() };
        let present = self.0.present.borrow();
        let clients = present.values().filter(|client| *client.workload == *workload);
        let missed =
            clients.filter(|client| too_large || client.said.try_send(said.clone()).is_err()).count();
        drop(present);
        for _ in 0..missed {
            self.on_account(workload, workload, |account| account.missed(clock::now(), topic));
        }
    }

    /// Does something with a workload's account, and tells what came of it. Without one it may say nothing.
    fn on_account<T>(&self, workload: &str, replica: &str, what: impl FnOnce(&mut Account) -> T) -> T {
        let mut accounts = self.0.accounts.borrow_mut();
        let mut none = Account::new(None, clock::now());
        let account = accounts.get_mut(workload).unwrap_or(&mut none);
        let result = what(account);
        while let Some((refusal, text)) = account.news() {
            let kind = if refusal == Refusal::OverQuota { "over-quota" } else { "telemetry-refused" };
            let text = format!("{replica}: telemetry {text}");
            let told = self.0.events.note(&Note { kind, workload, replica, text: &text }, clock::now());
            self.0.console.event(&told);
        }
        result
    }

    fn sit_down(&self, workload: Rc<str>, replica: Rc<str>) -> Seat {
        let number = self.0.next.get();
        self.0.next.set(number.wrapping_add(1));
        let ((answers, answers_out), (said, said_out)) = (bounded(MAX_UNKEPT), bounded(MAX_SAID));
        let present = Present { workload: Rc::clone(&workload), answers, said };
        self.0.present.borrow_mut().insert(number, present);
        Seat { guests: self.clone(), number, workload, replica, answers: answers_out, said: said_out }
    }
}

impl Seat {
    /// By which the fleet's thread says what became of a message.
    fn ticket(&self, id: u16) -> u64 {
        (self.number << u16::BITS) | u64::from(id)
    }
}

/// The client, and its own number for its message.
fn split(ticket: u64) -> (u64, u16) {
    let id = u16::try_from(ticket & u64::from(u16::MAX)).unwrap_or_default();
    (ticket >> u16::BITS, id)
}

fn limits(telemetry: &Telemetry) -> Limits {
    Limits {
        // The reader takes no others.
        topics: telemetry.topics.iter().filter_map(|filter| Filter::new(filter)).collect(),
        max_bytes: usize::try_from(telemetry.max_bytes).unwrap_or(usize::MAX),
        json: telemetry.payload == Payload::Json,
        messages_per_min: telemetry.messages_per_min,
        bytes_per_min: u64::from(telemetry.kib_per_min) << 10,
        class: match telemetry.class {
            workload::Class::Alarm => Class::Alarm,
            workload::Class::Telemetry => Class::Telemetry,
            workload::Class::Bulk => Class::Bulk,
        },
    }
}

/// Where a guest's clients come in, behind its monitor.
pub(crate) fn socket(folder: &Path) -> PathBuf {
    let mut socket = vsock_socket(folder).into_os_string();
    socket.push(format!("_{}", hearth_wire::MQTT_PORT));
    PathBuf::from(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_config::workload::{MAX_TELEMETRY_TOPICS, WorkloadConfig};

    #[test]
    fn a_ticket_names_a_client_and_its_message() {
        assert_eq!(split((77 << 16) | 0xfffe), (77, 0xfffe));
    }

    #[test]
    fn every_filter_that_a_file_may_say_is_one() {
        let filters = ["#", "a", "a/+/c", "+/#", "Süd 1/x"];
        assert!(filters.len() <= MAX_TELEMETRY_TOPICS);
        let text =
            format!("kind = \"job\"\nimage = \"i\"\n[telemetry]\ntopics = {filters:?}\nkib_per_min = 8\n");
        let telemetry = WorkloadConfig::parse("web.toml", &text).unwrap().telemetry.unwrap();
        let limits = limits(&telemetry);
        assert_eq!(limits.topics.iter().map(Filter::as_str).collect::<Vec<_>>(), filters);
        assert_eq!((limits.bytes_per_min, limits.class, limits.json), (8192, Class::Bulk, false));
    }
}

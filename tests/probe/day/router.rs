//! Whoever passes requests on to the replicas of a service.
//!
//! ```text
//! comes --> queue --a replica is free--> on its way --answered--> served
//!             ^                              |
//!             +------- its machine ended ----+
//! ```
//!
//! Duty: one queue, a connection to each machine, how long each request waited. Not here: when requests come.
//! Invariants: a request is at one replica or in the queue, never both; one that lost its machine goes to the head of
//! the queue.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::guest::service;
use crate::patient::Patient;

/// A machine: its replica's name and its number.
pub(super) type Machine = (String, u32);

#[derive(Clone, Copy, Debug)]
struct Request {
    number: u64,
    came: Instant,
}

/// What a connection says.
enum Word {
    Served(Machine),
    /// It is not there any more.
    Gone(Machine),
}

struct Window {
    to: Sender<u64>,
    serves: Option<(Request, Instant)>,
}

/// What was since the last question.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Since {
    pub(super) requests: u32,
    pub(super) busy: Duration,
}

/// All that was.
#[derive(Clone, Debug, Default)]
pub(super) struct Total {
    pub(super) came: u64,
    pub(super) served: u64,
    /// Begun anew elsewhere, as their machine ended.
    pub(super) again: u64,
    pub(super) waited: Vec<Duration>,
}

pub(super) struct Router {
    queue: VecDeque<Request>,
    windows: BTreeMap<Machine, Window>,
    said: Receiver<Word>,
    say: Sender<Word>,
    since: Since,
    pub(super) total: Total,
}

impl Router {
    pub(super) fn new() -> Router {
        let (say, said) = mpsc::channel();
        let (queue, windows) = (VecDeque::new(), BTreeMap::new());
        Router { queue, windows, said, say, since: Since::default(), total: Total::default() }
    }

    /// These machines are ready; what is served by others stays there until they answer or end.
    pub(super) fn ready(&mut self, machines: Vec<Machine>) {
        for machine in machines {
            if self.windows.contains_key(&machine) {
                continue;
            }
            let (to, numbers) = mpsc::channel();
            let (say, name) = (self.say.clone(), machine.clone());
            thread::spawn(move || {
                let _ = converse(&name, &numbers, &say);
                let _ = say.send(Word::Gone(name));
            });
            self.windows.insert(machine, Window { to, serves: None });
        }
        self.dispatch();
    }

    pub(super) fn come(&mut self) {
        self.total.came += 1;
        self.since.requests += 1;
        self.queue.push_back(Request { number: self.total.came, came: Instant::now() });
        self.dispatch();
    }

    /// Hears what replicas say, until then at the latest.
    pub(super) fn listen(&mut self, until: Instant) {
        let Ok(word) = self.said.recv_timeout(until.saturating_duration_since(Instant::now())) else {
            return;
        };
        match word {
            Word::Served(machine) => {
                if let Some((_, began)) =
                    self.windows.get_mut(&machine).and_then(|window| window.serves.take())
                {
                    self.total.served += 1;
                    self.since.busy += began.elapsed();
                }
            }
            Word::Gone(machine) => {
                let served = self.windows.remove(&machine).and_then(|window| window.serves);
                if let Some((request, _)) = served {
                    self.total.again += 1;
                    self.queue.push_front(request);
                }
            }
        }
        self.dispatch();
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.windows.values().all(|window| window.serves.is_none())
    }

    pub(super) fn since(&mut self) -> Since {
        std::mem::take(&mut self.since)
    }

    fn dispatch(&mut self) {
        for window in self.windows.values_mut().filter(|window| window.serves.is_none()) {
            let Some(request) = self.queue.pop_front() else { return };
            if window.to.send(request.number).is_err() {
                // Its end is on the way.
                self.queue.push_front(request);
                continue;
            }
            let now = Instant::now();
            self.total.waited.push(now.duration_since(request.came));
            window.serves = Some((request, now));
        }
    }
}

/// One request after the other, as long as the machine lives.
fn converse(machine: &Machine, numbers: &Receiver<u64>, say: &Sender<Word>) -> io::Result<()> {
    let mut stream = UnixStream::connect(Patient::machine(&machine.0).join("vsock.sock"))?;
    writeln!(stream, "CONNECT {}", service::PORT)?;
    let mut byte = [0; 1];
    // "OK NUMBER\n"
    while byte != *b"\n" {
        stream.read_exact(&mut byte)?;
    }
    let mut answers = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    for number in numbers {
        line.clear();
        stream.write_all(format!("{number}\n").as_bytes())?;
        if answers.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.trim_end() != number.to_string() || say.send(Word::Served(machine.clone())).is_err() {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(())
}

//! What the fleet wants of a box, and what the box says to that: the retained tree under `hearth/v1/GROUP/NODE/`.
//!
//! | file | what |
//! |---|---|
//! | `desired.rs` | the desired state |
//! | `arrivals.rs` | how fast such states are looked at |
//! | `command.rs` | commands, what they may be, and who may give them |
//! | `stream.rs` | commands with output, and whose workloads allow them |
//! | `executing.rs` | commands on their way, at most once |
//! | `reported.rs` | what the box says of itself |
//! | `kept.rs` | what has to outlive the daemon |
//!
//! ```text
//! desired:  nothing new <--same-- arrived --stale, unsigned, malformed, poison--> rejected, with its reason
//!                                   \--> with the daemon --faults--> rejected
//!                                            \--applied--> accepted, kept --all workloads good--> converged
//! ```
//!
//! Duty: decide what words of the fleet come to, and keep what must not be forgotten. Not here: brokers, what workloads
//! are (the daemon checks that), files themselves (`hearth-disk`).
//! Invariants: nothing that was not signed for this box and this use becomes an order. A version never goes back. A
//! command begins at most once, over crashes too. Nothing that lies at the broker can end the daemon again and again.

mod arrivals;
mod command;
mod desired;
mod executing;
mod kept;
mod reported;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use hearth_core::Moment;
use hearth_disk::Disk;

use crate::Now;
use crate::sign::{Envelope, Keyring, Refusal, Role, Use, rotate};
use crate::topics::Topics;

use command::Needs;
pub use command::{Kind, LogLevel, Operation};
pub use desired::Desired;
pub use executing::Outcome;
pub use kept::Opening;
use kept::{Kept, digest};
use reported::Counts;
pub use reported::Standing;
pub use stream::{MAX_INPUT, Remote, Stream, Subject, Tally};

/// Times that the daemon may end while it takes something in, before that is left alone.
const MAX_TRIES: u8 = 3;
/// What the daemon lived through for so long does not end it.
const SETTLED: std::time::Duration = std::time::Duration::from_secs(60);
/// Orders and messages that nobody took yet.
const MAX_WAITING: usize = 64;

/// How a box deals with its fleet.
#[derive(Clone, Debug)]
pub struct Rules {
    pub topics: Topics,
    /// Of the box's own file.
    pub keyring: Keyring,
    pub fleet_wins: bool,
    /// What this daemon can do.
    pub operations: Vec<Kind>,
    /// Of the box's boot.
    pub boot: String,
}

/// What the daemon is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Take this in, or say why not.
    Desired(Desired),
    Run {
        id: String,
        operation: Operation,
    },
}

/// What the daemon says.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Names that both sides have, or everything that is wrong.
    Desired {
        version: u64,
        outcome: Result<Vec<String>, Vec<String>>,
    },
    Ended {
        id: String,
        outcome: Outcome,
    },
    /// Of a command's output, below the box's own place. All of it comes before the command's end.
    Piece {
        place: String,
        payload: Vec<u8>,
    },
    /// How workloads stand, and which both sides name.
    Standings {
        standings: Vec<Standing>,
        conflicts: Vec<String>,
    },
}

/// What is to be published below the box's own place, retained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub place: String,
    pub payload: String,
}

#[derive(Debug)]
pub struct Tree {
    rules: Rules,
    keyring: Keyring,
    kept: Kept,
    /// Followed by the daemon.
    current: Option<Desired>,
    conflicts: Vec<String>,
    /// With the daemon.
    pending: Option<Desired>,
    rejected: Option<(Option<u64>, String)>,
    standings: Vec<Standing>,
    counts: Counts,
    orders: VecDeque<Order>,
    messages: VecDeque<Message>,
    allowance: executing::Allowance,
    arrivals: arrivals::Arrivals,
    /// Taken in and not yet lived through.
    proving_since: Option<Moment>,
    report: reported::Pace,
    /// Operations that are others now.
    announcements: Vec<Message>,
}

impl Tree {
    /// `opening` is what the daemon began with.
    pub fn open(disk: &mut dyn Disk, rules: Rules, opening: Opening, now: Now) -> Tree {
        let Opening { kept, desired, words, conflicts } = opening;
        let keyring = kept.keyring(&rules.keyring, &rules.topics);
        let mut tree = Tree {
            keyring,
            rules,
            kept,
            current: desired,
            conflicts,
            pending: None,
            rejected: words.map(|words| (None, words)),
            standings: Vec::new(),
            counts: Counts::default(),
            orders: VecDeque::new(),
            messages: VecDeque::new(),
            allowance: executing::Allowance::default(),
            arrivals: arrivals::Arrivals::default(),
            proving_since: None,
            report: reported::Pace::default(),
            announcements: Vec::new(),
        };
        tree.proving_since = tree.kept.trying.is_some().then_some(now.mono);
        tree.end_interrupted(disk);
        tree.report.touch();
        tree
    }

    /// Something for the box; `place` is the topic behind its own.
    pub fn received(&mut self, disk: &mut dyn Disk, now: Now, clock_set: bool, place: &str, payload: &[u8]) {
        // Taken back, or cleared by whoever asked: what was done stays done.
        if payload.is_empty() {
            if place == "desired" {
                self.arrivals.forget();
            }
            return;
        }
        match place.split('/').collect::<Vec<_>>().as_slice() {
            ["desired"] => self.desired(disk, now, payload),
            ["cmd", op, id] => self.command(disk, now, clock_set, op, id, payload),
            _ => self.counts.foreign = self.counts.foreign.saturating_add(1),
        }
    }

    /// Something for this box was too large for the connection that brought it.
    pub fn oversized(&mut self) {
        self.counts.oversized = self.counts.oversized.saturating_add(1);
        self.rejected = Some((None, "a message for this box was larger than it takes".to_owned()));
        self.report.touch();
    }

    pub fn told(&mut self, disk: &mut dyn Disk, now: Now, news: News) {
        match news {
            News::Desired { version, outcome } => self.decided(disk, now, version, outcome),
            News::Ended { id, outcome } => self.ended(disk, &id, outcome),
            News::Standings { standings, conflicts } => {
                if standings != self.standings || conflicts != self.conflicts {
                    let before = self.remote_capabilities();
                    (self.standings, self.conflicts) = (standings, conflicts);
                    self.report.touch();
                    let now = self.remote_capabilities();
                    let other = now.into_iter().filter(|message| !before.contains(message));
                    self.announcements.extend(other);
                }
            }
            // Whoever keeps messages takes those.
            News::Piece { .. } => {}
        }
    }

    /// When [`Tree::tick`] has something to do, or a report may go; what could have been done by `now` waits for
    /// something else.
    pub fn deadline(&self, now: Moment) -> Option<Moment> {
        let proven = self.proving_since.map(|since| since.after(SETTLED));
        [proven, self.report.due(), self.arrivals.due()].into_iter().flatten().filter(|at| *at > now).min()
    }

    pub fn tick(&mut self, disk: &mut dyn Disk, now: Now) {
        if let Some(payload) = self.arrivals.take_due(now.mono) {
            self.look_at(disk, now, &payload, digest(&payload));
        }
        if self.proving_since.is_some_and(|since| since.after(SETTLED) <= now.mono) {
            self.proving_since = None;
            self.kept.trying = None;
            // If that fails, the next start counts one more.
            let _ = self.kept.write(disk);
        }
    }

    /// The daemon leaves in order: what it took in did not end it.
    pub fn close(&mut self, disk: &mut dyn Disk) {
        if self.kept.trying.take().is_some() {
            let _ = self.kept.write(disk);
        }
    }

    pub fn next_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// What must arrive.
    pub fn next_message(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    /// The whole report, when it changed and it is time to say so.
    pub fn report(&mut self, now: Now) -> Option<Message> {
        self.report.take(now.mono).then(|| self.reported())
    }

    /// The last one did not arrive.
    pub fn report_again(&mut self) {
        self.report.touch();
    }

    pub fn has_report(&self) -> bool {
        self.report.due().is_some()
    }

    /// Which operations there are, and who may ask for them; retained.
    pub fn capabilities(&self) -> Vec<Message> {
        self.rules.operations.iter().map(|kind| self.capability(*kind)).collect()
    }

    /// Those that changed since.
    pub fn announcements(&mut self) -> impl Iterator<Item = Message> {
        self.announcements.drain(..)
    }

    fn remote_capabilities(&self) -> Vec<Message> {
        let of_workloads = |kind: &&Kind| kind.needs() == Needs::Workload;
        self.rules.operations.iter().filter(of_workloads).map(|kind| self.capability(*kind)).collect()
    }

    fn capability(&self, kind: Kind) -> Message {
        let allowed =
            self.standings.iter().filter_map(|one| Some((one.name.as_str(), one.remote.role(kind)?)));
        kind.capability(&allowed.collect::<Vec<_>>())
    }

    fn desired(&mut self, disk: &mut dyn Disk, now: Now, payload: &[u8]) {
        let digest = digest(payload);
        if self.kept.accepted_payload == Some(digest) || self.kept.rejected_payload == Some(digest) {
            // Whoever says it again wants to hear of it.
            self.report.touch();
            self.arrivals.forget();
            return;
        }
        let arrival = self.arrivals.arrive(now.mono, payload);
        if arrival.passed_over {
            self.counts.passed_over = self.counts.passed_over.saturating_add(1);
            self.report.touch();
        }
        if arrival.look {
            self.look_at(disk, now, payload, digest);
        }
    }

    fn look_at(&mut self, disk: &mut dyn Disk, now: Now, payload: &[u8], digest: u64) {
        let tries = self.kept.tries(digest, &self.rules.boot);
        self.kept.begin(digest, &self.rules.boot);
        self.proving_since = Some(now.mono);
        // Counted before anything is looked at. A box that cannot count takes it in all the same: a disk that fails is
        // no reason to be out of reach.
        let _ = self.kept.write(disk);
        if tries >= MAX_TRIES {
            self.reject(disk, digest, None, kept::poison());
            return;
        }
        let read = Envelope::read(payload)
            .and_then(|envelope| {
                envelope.verify(&self.keyring, Role::Operate, Use::Desired, &self.rules.topics)
            })
            .and_then(|verified| Desired::read(verified, digest));
        match read.and_then(|desired| self.newer(desired)) {
            Ok(Some(desired)) => {
                self.pending = Some(desired.clone());
                self.order(Order::Desired(desired));
            }
            Ok(None) => {
                self.kept.accepted_payload = Some(digest);
                self.rejected = None;
                self.report.touch();
                let _ = self.kept.write(disk);
            }
            Err(refusal) => {
                let version = match &refusal {
                    Refusal::Stale { found, .. } => Some(*found),
                    Refusal::Reused(version) => Some(*version),
                    _ => None,
                };
                self.reject(disk, digest, version, refusal.to_string());
            }
        }
    }

    /// `None`: the same as before, by other signatures.
    fn newer(&self, desired: Desired) -> Result<Option<Desired>, Refusal> {
        let floor = self.kept.floor;
        if desired.version() > floor {
            return Ok(Some(desired));
        }
        if desired.version() < floor {
            return Err(Refusal::Stale { found: desired.version(), floor });
        }
        match self.current.as_ref().is_none_or(|current| current.text() == desired.text()) {
            // Accepted once, and lost with a disk.
            true if self.current.is_none() => Ok(Some(desired)),
            true => Ok(None),
            false => Err(Refusal::Reused(floor)),
        }
    }

    fn decided(
        &mut self,
        disk: &mut dyn Disk,
        now: Now,
        version: u64,
        outcome: Result<Vec<String>, Vec<String>>,
    ) {
        // About an older one than the last: that has taken its place.
        let Some(desired) = self.pending.take_if(|pending| pending.version() == version) else { return };
        match outcome {
            Ok(conflicts) => {
                self.kept.floor = version;
                self.kept.accepted_payload = Some(desired.payload());
                self.kept.rejected_payload = None;
                self.proving_since = Some(now.mono);
                if let Err(error) = kept::write_desired(disk, &desired).and_then(|()| self.kept.write(disk)) {
                    self.conflicts = vec![format!("cannot be kept: {error}")];
                } else {
                    self.conflicts = conflicts;
                }
                self.rejected = None;
                self.current = Some(desired);
                self.report.touch();
            }
            Err(faults) => {
                let reason = reported::faults(&faults);
                self.reject(disk, desired.payload(), Some(version), reason);
            }
        }
    }

    fn reject(&mut self, disk: &mut dyn Disk, digest: u64, version: Option<u64>, reason: String) {
        self.counts.rejected_desired = self.counts.rejected_desired.saturating_add(1);
        self.kept.rejected_payload = Some(digest);
        let _ = self.kept.write(disk);
        self.rejected = Some((version, reason));
        self.report.touch();
    }

    /// Other keys, named by those of before.
    fn rotate(&mut self, disk: &mut dyn Disk, envelope: Envelope) -> Result<(), String> {
        let text = envelope.to_json();
        let keyring =
            rotate(&self.keyring, envelope, &self.rules.topics).map_err(|error| error.to_string())?;
        self.kept.trust(&self.rules.keyring, text);
        self.kept.write(disk).map_err(|error| format!("it cannot be kept: {error}"))?;
        self.keyring = keyring;
        self.report.touch();
        Ok(())
    }

    fn order(&mut self, order: Order) {
        if self.orders.len() < MAX_WAITING {
            self.orders.push_back(order);
        }
    }

    fn publish(&mut self, place: String, payload: String) {
        if self.messages.len() < MAX_WAITING {
            self.messages.push_back(Message { place, payload });
        }
    }
}

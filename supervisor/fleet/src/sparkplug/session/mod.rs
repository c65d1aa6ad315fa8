//! One box's session with its brokers, as a pure state machine: events in, actions out.
//!
//! ```text
//!           first figures          time                accepted
//! Idle ---------------> Pausing ---------> Connecting ----------> Subscribing
//!                        ^  ^                  |                   |        |granted
//!                        |  +--- refused ------+                   |        v
//!                        |                                         |   AwaitingHost   (only where a primary host is
//!                        +--------- lost, from every state --------+     |      |      configured)
//!                        |          behind Connecting                    |      |host online
//!                        |                                   host offline|      v
//!                        |                                     or silent |    Online ---> rebirth: stays
//!                        |                                               v      |
//!                        +---- closed, and not to stop <-- Closing <-- Leaving <+  host offline, stop
//!                                                             |          (NDEATH is on its way)
//!                                 Ended <---- closed, to stop-+
//! ```
//!
//! Duty: who is spoken to when, and that every rule of Sparkplug's session is kept. Not here: sockets, clocks, how
//! figures come about, what the management tree says.
//! Invariants: nothing is published before the births but NDEATH; at most one connection at a time
//! (`tck-id-operational-behavior-primary-application-state-with-multiple-servers-single-server`); memory is bounded by
//! the snapshot and by what waits for its confirmation.

mod telling;
#[cfg(test)]
mod tests;
mod words;

use std::collections::VecDeque;
use std::time::Duration;

use hearth_core::Moment;

use self::telling::Unconfirmed;
pub use self::words::{Action, Config, Event, Ignored, Message, News, Tag};
use super::host::Host;
use super::known::Known;
use super::pause;
use crate::Now;
use crate::dice::Dice;
use crate::figures::Snapshot;
use crate::topics::{Inbound, Topics};

/// From CONNACK to SUBACK. A broker that takes longer is stuck.
const SUBSCRIBE: Duration = Duration::from_secs(20);
/// For a primary host to say that it is there, before the next server is tried.
const HOST_PATIENCE: Duration = Duration::from_secs(30);
/// For the broker to acknowledge NDEATH. After that it has the Will, which says the same.
const DEATH: Duration = Duration::from_secs(3);
/// For DISCONNECT to leave.
const CLOSE: Duration = Duration::from_secs(2);
/// A connection that lasted this long was good: failures before it are forgotten.
const STEADY: Duration = Duration::from_secs(60);
/// Births that hosts ask for are given no faster: a host that asks for one with every message costs the box no more.
const REBIRTH_PERIOD: Duration = Duration::from_secs(1);
/// After a message too large to take, which a broker that keeps it would send again at once: so long nobody asks for
/// those of the management tree.
const POISONED: Duration = Duration::from_secs(600);

/// Why a good connection is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    NextServer,
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Idle,
    Pausing { until: Moment },
    Connecting,
    Subscribing { deadline: Moment },
    AwaitingHost { deadline: Moment },
    Online { since: Moment },
    Leaving { deadline: Moment, then: Then },
    Closing { deadline: Moment, then: Then },
    Ended,
}

#[derive(Debug)]
pub struct Session {
    config: Config,
    link: Link,
    server: usize,
    host: Option<Host>,
    /// Of the next CONNECT, or of the present one.
    bd_seq: u8,
    /// The next one is on the disk.
    remembered: bool,
    /// Of the last message.
    seq: u8,
    /// Since the last good connection.
    failures: u32,
    told_failure: bool,
    dice: Dice,
    latest: Option<Snapshot>,
    /// When the first of them was, if no birth told it and nobody keeps it yet.
    first_ms: Option<u64>,
    known: Known,
    published: u64,
    unconfirmed: VecDeque<Unconfirmed>,
    probe_due: Option<Moment>,
    next_letter: Moment,
    rebirth_due: Option<Moment>,
    last_birth: Option<Moment>,
    /// Until then the tree is not subscribed to.
    poisoned: Option<Moment>,
    ignored: Ignored,
}

impl Session {
    /// `bd_seq`: what was last to be remembered; 0 on a new box (`tck-id-topics-nbirth-bdseq-increment`).
    pub fn new(config: Config, bd_seq: u8, seed: u64) -> Session {
        let host = config.primary_host.clone().map(Host::new);
        Session {
            config,
            link: Link::Idle,
            server: 0,
            host,
            bd_seq,
            remembered: false,
            seq: 0,
            failures: 0,
            told_failure: false,
            dice: Dice::new(seed),
            latest: None,
            first_ms: None,
            known: Known::default(),
            published: 0,
            unconfirmed: VecDeque::new(),
            probe_due: None,
            next_letter: Moment::START,
            rebirth_due: None,
            last_birth: None,
            poisoned: None,
            ignored: Ignored::default(),
        }
    }

    #[must_use]
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        let out = &mut actions;
        match event {
            Event::Figures(snapshot) => self.figures(now, snapshot, out),
            Event::Tick => self.tick(now, out),
            Event::Accepted if self.link == Link::Connecting => self.subscribe(now, out),
            Event::Refused { sent, why } if self.link == Link::Connecting => {
                if sent {
                    self.connect_was_sent();
                }
                self.failed(now, why, out);
            }
            Event::Subscribed { granted } if matches!(self.link, Link::Subscribing { .. }) => {
                if granted {
                    self.subscribed(now, out);
                } else {
                    out.push(Action::Cut);
                    self.lost(now, "its subscriptions are refused".to_owned(), out);
                }
            }
            Event::Lost { why, oversized } => {
                if oversized && self.is_connected() {
                    self.poisoned = Some(now.mono.after(POISONED));
                    out.push(Action::Tell(News::Poisoned { server: self.server }));
                }
                self.lost(now, why, out);
            }
            Event::Closed => self.closed(now, out),
            Event::Confirmed { published } => self.confirm(published, out),
            Event::Acknowledged(Tag::Letter(id)) => out.push(Action::Acknowledged(id)),
            Event::Acknowledged(Tag::Death) => self.death_arrived(now, out),
            Event::Received { topic, payload } if self.is_connected() => {
                self.receive(now, &topic, payload, out);
            }
            Event::Letter(letter) => self.send_letter(now, letter, out),
            Event::Stop => self.stop(now, out),
            // Late words about what is over by now.
            Event::Accepted | Event::Refused { .. } | Event::Subscribed { .. } | Event::Received { .. } => {}
        }
        actions
    }

    /// When a [`Event::Tick`] is due if nothing else comes.
    pub fn deadline(&self) -> Option<Moment> {
        let of_link = match self.link {
            Link::Idle | Link::Connecting | Link::Online { .. } | Link::Ended => None,
            Link::Pausing { until: at }
            | Link::Subscribing { deadline: at }
            | Link::AwaitingHost { deadline: at }
            | Link::Leaving { deadline: at, .. }
            | Link::Closing { deadline: at, .. } => Some(at),
        };
        [of_link, self.probe_due, self.rebirth_due].into_iter().flatten().min()
    }

    pub fn is_online(&self) -> bool {
        matches!(self.link, Link::Online { .. })
    }

    pub fn ignored(&self) -> Ignored {
        self.ignored
    }

    fn is_connected(&self) -> bool {
        match self.link {
            Link::Subscribing { .. }
            | Link::AwaitingHost { .. }
            | Link::Online { .. }
            | Link::Leaving { .. } => true,
            Link::Idle | Link::Pausing { .. } | Link::Connecting | Link::Closing { .. } | Link::Ended => {
                false
            }
        }
    }

    fn figures(&mut self, now: Now, mut snapshot: Snapshot, out: &mut Vec<Action>) {
        let left_out = snapshot.bound();
        self.ignored.unknown =
            self.ignored.unknown.saturating_add(u64::try_from(left_out).unwrap_or(u64::MAX));
        if self.latest.is_none() {
            self.known = Known::of(&snapshot);
            self.latest = Some(snapshot);
            self.first_ms = Some(now.wall_ms);
            if self.link == Link::Idle {
                // Boxes that come up together with their power do not come to the broker together.
                self.pause(now);
            }
            return;
        }
        self.keep_first(out);
        let changes = self.known.learn(&snapshot);
        self.latest = Some(snapshot);
        self.tell(now, &changes, out);
        if let Link::Online { since } = self.link
            && now.mono.since(since) >= STEADY
        {
            self.failures = 0;
        }
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.probe_due.is_some_and(|due| due <= now.mono) {
            self.probe_due = None;
            out.push(Action::Probe);
        }
        if self.rebirth_due.is_some_and(|due| due <= now.mono) && self.is_online() {
            self.give_birth(now, out);
        }
        match self.link {
            Link::Pausing { until } if until <= now.mono => self.connect(now, out),
            Link::Subscribing { deadline } if deadline <= now.mono => {
                out.push(Action::Cut);
                self.lost(now, "it does not answer".to_owned(), out);
            }
            Link::AwaitingHost { deadline } if deadline <= now.mono => {
                if self.config.servers > 1 {
                    self.leave(now, Then::NextServer, out);
                } else {
                    self.link = Link::AwaitingHost { deadline: now.mono.after(HOST_PATIENCE) };
                }
            }
            Link::Leaving { deadline, then } if deadline <= now.mono => self.disconnect(now, then, out),
            Link::Closing { deadline, .. } if deadline <= now.mono => self.closed(now, out),
            _ => {}
        }
    }

    fn pause(&mut self, now: Now) {
        let rounds = self.failures / u32::try_from(self.config.servers.max(1)).unwrap_or(u32::MAX);
        let until = now.mono.after(pause::before_attempt(rounds, self.config.pauses, &mut self.dice));
        self.link = Link::Pausing { until };
    }

    fn connect(&mut self, now: Now, out: &mut Vec<Action>) {
        if !self.remembered {
            self.remembered = true;
            out.push(Action::Remember { bd_seq: self.bd_seq.wrapping_add(1) });
        }
        if let Some(host) = &mut self.host {
            host.forget();
        }
        self.published = 0;
        self.link = Link::Connecting;
        // `tck-id-message-flow-edge-node-birth-publish-will-message`.
        out.push(Action::Connect { server: self.server, will: self.death(now) });
    }

    /// The number of the CONNECT that left is spent: `tck-id-topics-nbirth-bdseq-increment`.
    fn connect_was_sent(&mut self) {
        self.bd_seq = self.bd_seq.wrapping_add(1);
        self.remembered = false;
    }

    fn failed(&mut self, now: Now, why: String, out: &mut Vec<Action>) {
        self.failures = self.failures.saturating_add(1);
        if !self.told_failure {
            self.told_failure = true;
            out.push(Action::Tell(News::Unreachable { server: self.server, why }));
        }
        self.next_server();
        self.pause(now);
    }

    fn next_server(&mut self) {
        self.server = (self.server + 1) % self.config.servers.max(1);
    }

    fn subscribe(&mut self, now: Now, out: &mut Vec<Action>) {
        self.link = Link::Subscribing { deadline: now.mono.after(SUBSCRIBE) };
        let mut filters = self.config.topics.commands().to_vec();
        if let Some(host) = &self.host {
            filters.push(Topics::host_state(&host.id));
        }
        if self.poisoned.is_none_or(|until| until <= now.mono) {
            self.poisoned = None;
            filters.extend(self.config.topics.management_filters());
        }
        out.push(Action::Subscribe(filters));
    }

    fn subscribed(&mut self, now: Now, out: &mut Vec<Action>) {
        match &self.host {
            None => self.go_online(now, out),
            Some(_) => {
                self.link = Link::AwaitingHost { deadline: now.mono.after(HOST_PATIENCE) };
                self.look_at_host(now, out);
            }
        }
    }

    /// `tck-id-message-flow-edge-node-birth-publish-phid-wait`,
    /// `tck-id-message-flow-edge-node-birth-publish-phid-offline`,
    /// `tck-id-operational-behavior-primary-application-state-with-multiple-servers-walk`.
    fn look_at_host(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(host) = &self.host else { return };
        match (self.link, host.online) {
            (Link::AwaitingHost { .. }, Some(true)) => self.go_online(now, out),
            (Link::AwaitingHost { .. }, Some(false)) if self.config.servers > 1 => {
                self.leave(now, Then::NextServer, out);
            }
            (Link::Online { .. }, Some(false)) => {
                out.push(Action::Tell(News::HostOffline { server: self.server }));
                self.leave(now, Then::NextServer, out);
            }
            _ => {}
        }
    }

    fn go_online(&mut self, now: Now, out: &mut Vec<Action>) {
        self.link = Link::Online { since: now.mono };
        self.told_failure = false;
        self.next_letter = now.mono;
        self.last_birth = None;
        out.push(Action::Tell(News::Online { server: self.server }));
        self.give_birth(now, out);
    }

    fn receive(&mut self, now: Now, topic: &str, payload: Vec<u8>, out: &mut Vec<Action>) {
        match self.config.topics.inbound(topic) {
            Inbound::NodeCommand => self.command(now, None, &payload, out),
            Inbound::DeviceCommand(device) => self.command(now, Some(device), &payload, out),
            Inbound::HostState(id) => {
                if let Some(host) = &mut self.host {
                    host.hear(id, &payload);
                }
                self.look_at_host(now, out);
            }
            Inbound::Management(place) => {
                out.push(Action::Deliver { place: place.to_owned(), payload });
            }
            Inbound::Foreign => self.ignored.foreign += 1,
        }
    }

    fn stop(&mut self, now: Now, out: &mut Vec<Action>) {
        match self.link {
            Link::Idle | Link::Pausing { .. } | Link::Ended => self.end(out),
            Link::Connecting => {
                out.push(Action::Cut);
                self.end(out);
            }
            Link::Subscribing { .. } | Link::AwaitingHost { .. } | Link::Online { .. } => {
                self.leave(now, Then::Stop, out);
            }
            Link::Leaving { deadline, .. } => self.link = Link::Leaving { deadline, then: Then::Stop },
            Link::Closing { deadline, .. } => self.link = Link::Closing { deadline, then: Then::Stop },
        }
    }

    /// `tck-id-operational-behavior-edge-node-intentional-disconnect-ndeath`,
    /// `tck-id-payloads-ndeath-will-message-publisher-disconnect-mqtt311`.
    fn leave(&mut self, now: Now, then: Then, out: &mut Vec<Action>) {
        let death = self.death(now);
        self.publish(death, None, out);
        self.link = Link::Leaving { deadline: now.mono.after(DEATH), then };
    }

    fn death_arrived(&mut self, now: Now, out: &mut Vec<Action>) {
        if let Link::Leaving { then, .. } = self.link {
            // It came behind everything else.
            self.confirm(self.published, out);
            self.disconnect(now, then, out);
        }
    }

    /// `tck-id-operational-behavior-edge-node-intentional-disconnect-packet`.
    fn disconnect(&mut self, now: Now, then: Then, out: &mut Vec<Action>) {
        self.link = Link::Closing { deadline: now.mono.after(CLOSE), then };
        out.push(Action::Disconnect);
    }

    fn closed(&mut self, now: Now, out: &mut Vec<Action>) {
        if let Link::Closing { then, .. } = self.link {
            out.push(Action::Cut);
            self.left(now, then, out);
        }
    }

    /// A connection that was left in order is over.
    fn left(&mut self, now: Now, then: Then, out: &mut Vec<Action>) {
        self.clear(out);
        match then {
            Then::Stop => self.end(out),
            Then::NextServer => {
                self.failures = self.failures.saturating_add(1);
                self.next_server();
                self.pause(now);
            }
        }
    }

    fn lost(&mut self, now: Now, why: String, out: &mut Vec<Action>) {
        match self.link {
            Link::Idle | Link::Pausing { .. } | Link::Ended => {}
            Link::Connecting => {
                self.connect_was_sent();
                self.failed(now, why, out);
            }
            Link::Subscribing { .. } => {
                self.clear(out);
                self.failed(now, why, out);
            }
            Link::AwaitingHost { .. } | Link::Online { .. } => {
                if !self.told_failure {
                    self.told_failure = true;
                    out.push(Action::Tell(News::Lost { server: self.server, why }));
                }
                if let Link::Online { since } = self.link
                    && now.mono.since(since) >= STEADY
                {
                    self.failures = 0;
                } else {
                    self.failures = self.failures.saturating_add(1);
                    self.next_server();
                }
                self.clear(out);
                self.pause(now);
            }
            Link::Leaving { then, .. } | Link::Closing { then, .. } => self.left(now, then, out),
        }
    }

    /// What a connection leaves behind that had been accepted.
    fn clear(&mut self, out: &mut Vec<Action>) {
        self.connect_was_sent();
        self.keep_unconfirmed(out);
        self.probe_due = None;
        self.rebirth_due = None;
        out.push(Action::Again);
    }

    fn end(&mut self, out: &mut Vec<Action>) {
        self.link = Link::Ended;
        out.push(Action::Ended);
    }
}

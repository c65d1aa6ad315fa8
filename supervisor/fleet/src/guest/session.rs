//! One client in a guest: MQTT 3.1.1 from CONNECT to its end, as a pure state machine.
//!
//! ```text
//! Opening --CONNECT--> Open --DISCONNECT--------------------------------> Closed, without its will
//!    |                   \--it hangs up, is silent, breaks the protocol--> Closed; its will is a message like others
//!    \--something else, late, not allowed--> Closed
//! ```
//!
//! What of MQTT there is:
//! - QoS 0 and 1. QoS 1 is acknowledged when the message is kept. QoS 2 ends the connection.
//! - A message that may not be said at all is acknowledged and dropped, counted and told: 3.1.1 has no other answer but to
//!   hang up (`[MQTT-3.3.5-2]`), after which clients would send the same again. One that is over the quota is dropped at
//!   QoS 0; at QoS 1 it waits, and the client with it.
//! - The retained flag is not passed on, and nothing is kept for clients that are not there: every session is a clean
//!   one (`session present` is always 0), and commands come at QoS 0. Wills are messages like others.
//! - User names, passwords and client identifiers name nobody here, and are not looked at.
//!
//! Duty: answer packets, and say what is to be told to the fleet. Not here: bytes (`intake`), what may be said
//! (`account`), sockets.
//! Invariants: messages that are not kept, filters and deadlines are bounded. Acknowledgements go out in the order of
//! their messages (`[MQTT-4.6.0-2]`).

use std::collections::VecDeque;
use std::time::Duration;

use hearth_core::Moment;
use prost::bytes::Bytes;
use rumqttc::mqttbytes::Protocol;
use rumqttc::{
    ConnAck, Connect, ConnectReturnCode, LastWill, Packet, PubAck, Publish, QoS, SubAck, Subscribe,
    SubscribeReasonCode, UnsubAck,
};

use super::account::{Account, Admission, Refusal};
use super::name::Filter;
use crate::outbox::Class;

/// For CONNECT: a client says it at once.
const CONNECT: Duration = Duration::from_secs(10);
/// Messages with QoS 1 that are not kept yet. Clients have some twenty on their way at most.
pub const MAX_UNKEPT: usize = 32;
/// Filters of one client.
const MAX_FILTERS: usize = 16;
/// Filters of one packet. Each takes an answer.
const MAX_FILTERS_AT_ONCE: usize = 64;
/// Where a client wants no keep-alive: as long as the longest.
const LONGEST_KEEP_ALIVE: u16 = u16::MAX;

#[derive(Debug)]
pub enum Event {
    Packet(Packet),
    /// Bytes that are no packet.
    Nonsense,
    /// The message with this identifier is kept.
    Kept(u16),
    /// It cannot be.
    Lost(u16),
    /// A command of the fleet's.
    Said {
        topic: String,
        payload: Bytes,
    },
    /// It hung up.
    Gone,
    Tick,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Send(Packet),
    /// Is told to the fleet. With an identifier, somebody waits to hear that it is kept.
    Post {
        topic: String,
        payload: Bytes,
        class: Class,
        unkept: Option<u16>,
    },
    /// Once what was sent is out.
    Close(Closing),
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The client wants that.
    Wanted,
    /// The workload may say nothing, or not so.
    Refused,
    /// No MQTT, or none of this version.
    Nonsense,
    Silent,
    /// A message could not be kept. The client sends it again.
    Lost,
}

#[derive(Debug)]
enum Phase {
    Opening { until: Moment },
    Open,
    Closed,
}

#[derive(Debug)]
pub struct Session {
    phase: Phase,
    /// How long a client may be silent, and when it was heard last.
    patience: Duration,
    heard: Moment,
    will: Option<LastWill>,
    filters: Vec<Filter>,
    /// In the order in which they came, and whether they are kept.
    unkept: VecDeque<(u16, bool)>,
    /// Over the quota, until then.
    held: Option<(Publish, Moment)>,
}

impl Session {
    pub fn new(now: Moment) -> Session {
        Session {
            phase: Phase::Opening { until: now.after(CONNECT) },
            patience: Duration::ZERO,
            heard: now,
            will: None,
            filters: Vec::new(),
            unkept: VecDeque::new(),
            held: None,
        }
    }

    /// Whether another packet may come in. If not, nothing is read, and the client waits.
    pub fn wants_packet(&self) -> bool {
        !self.is_closed() && self.held.is_none() && self.unkept.len() < MAX_UNKEPT
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// When [`Event::Tick`] is due.
    pub fn deadline(&self) -> Option<Moment> {
        match (&self.phase, &self.held) {
            (Phase::Opening { until }, _) => Some(*until),
            (Phase::Open, Some((_, until))) => Some(*until),
            // Who is not listened to is not silent.
            (Phase::Open, None) => self.wants_packet().then(|| self.heard.after(self.patience)),
            (Phase::Closed, _) => None,
        }
    }

    #[must_use]
    pub fn step(&mut self, now: Moment, account: &mut Account, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        let out = &mut actions;
        match (&self.phase, event) {
            (Phase::Closed, _) => {}
            (Phase::Opening { .. }, Event::Packet(Packet::Connect(connect))) => {
                self.connect(now, account, connect, out);
            }
            // Perhaps one that begins with another version of the protocol.
            (Phase::Opening { .. }, Event::Packet(_) | Event::Nonsense) => {
                out.push(connack(ConnectReturnCode::RefusedProtocolVersion));
                self.close(Closing::Nonsense, out);
            }
            (Phase::Opening { until }, Event::Tick) if *until <= now => self.close(Closing::Silent, out),
            (Phase::Opening { .. }, Event::Gone) => self.close(Closing::Wanted, out),
            (Phase::Opening { .. }, _) => {}
            (Phase::Open, Event::Packet(packet)) => {
                self.heard = now;
                self.hear(now, account, packet, out);
            }
            (Phase::Open, Event::Nonsense) => self.fail(now, account, Closing::Nonsense, out),
            (Phase::Open, Event::Kept(id)) => self.kept(now, id, out),
            (Phase::Open, Event::Lost(id)) => {
                if self.unkept.iter().any(|(unkept, _)| *unkept == id) {
                    self.fail(now, account, Closing::Lost, out);
                }
            }
            (Phase::Open, Event::Said { topic, payload }) => {
                if self.filters.iter().any(|filter| filter.takes(&topic)) {
                    account.heard();
                    let message = Publish::from_bytes(topic, QoS::AtMostOnce, payload);
                    out.push(Action::Send(Packet::Publish(message)));
                }
            }
            (Phase::Open, Event::Gone) => self.fail(now, account, Closing::Wanted, out),
            (Phase::Open, Event::Tick) => self.tick(now, account, out),
        }
        actions
    }

    fn connect(&mut self, now: Moment, account: &Account, connect: Connect, out: &mut Vec<Action>) {
        let refused = if connect.protocol != Protocol::V4 {
            Some((ConnectReturnCode::RefusedProtocolVersion, Closing::Nonsense))
        } else if connect.client_id.is_empty() && !connect.clean_session {
            // `[MQTT-3.1.3-8]`.
            Some((ConnectReturnCode::BadClientId, Closing::Nonsense))
        } else if !account.is_open() {
            Some((ConnectReturnCode::NotAuthorized, Closing::Refused))
        } else {
            None
        };
        if let Some((code, closing)) = refused {
            out.push(connack(code));
            return self.close(closing, out);
        }
        let seconds = if connect.keep_alive == 0 { LONGEST_KEEP_ALIVE } else { connect.keep_alive };
        // `[MQTT-3.1.2-24]`: one and a half times.
        self.patience = Duration::from_millis(u64::from(seconds) * 1500);
        self.heard = now;
        self.will = connect.last_will;
        self.phase = Phase::Open;
        out.push(connack(ConnectReturnCode::Success));
    }

    fn hear(&mut self, now: Moment, account: &mut Account, packet: Packet, out: &mut Vec<Action>) {
        match packet {
            Packet::Publish(publish) if publish.qos == QoS::ExactlyOnce => {
                account.refuse(now, Refusal::ExactlyOnce, &publish.topic);
                self.fail(now, account, Closing::Refused, out);
            }
            // `[MQTT-3.3.2-2]`, `[MQTT-1.5.3-2]`.
            Packet::Publish(publish) if publish.topic.contains(['+', '#', '\0']) => {
                self.fail(now, account, Closing::Nonsense, out);
            }
            Packet::Publish(publish) => {
                self.publish(now, account, publish, out);
                if let Some((held, _)) = &self.held {
                    account.delay(now, &held.topic);
                }
            }
            Packet::Subscribe(subscribe)
                if subscribe.pkid != 0 && subscribe.filters.len() <= MAX_FILTERS_AT_ONCE =>
            {
                self.subscribe(subscribe, out);
            }
            Packet::Unsubscribe(unsubscribe) if unsubscribe.pkid != 0 => {
                self.filters
                    .retain(|filter| !unsubscribe.topics.iter().any(|topic| topic == filter.as_str()));
                out.push(Action::Send(Packet::UnsubAck(UnsubAck { pkid: unsubscribe.pkid })));
            }
            Packet::PingReq => out.push(Action::Send(Packet::PingResp)),
            Packet::Disconnect => {
                self.will = None;
                self.close(Closing::Wanted, out);
            }
            // For something that was never sent to it.
            Packet::PubAck(_) => {}
            _ => self.fail(now, account, Closing::Nonsense, out),
        }
    }

    fn publish(&mut self, now: Moment, account: &mut Account, publish: Publish, out: &mut Vec<Action>) {
        let unkept = (publish.qos == QoS::AtLeastOnce).then_some(publish.pkid);
        // Sent again before it was answered: one answer serves both.
        if unkept.is_some_and(|id| self.unkept.iter().any(|(known, _)| *known == id)) {
            return;
        }
        match account.admit(now, &publish.topic, &publish.payload, unkept.is_some()) {
            Admission::Take(class) => {
                self.unkept.extend(unkept.map(|id| (id, false)));
                let Publish { topic, payload, .. } = publish;
                out.push(Action::Post { topic, payload, class, unkept });
            }
            Admission::Refuse => {
                self.unkept.extend(unkept.map(|id| (id, true)));
                self.answer(out);
            }
            Admission::Wait(until) => self.held = Some((publish, until)),
        }
    }

    fn kept(&mut self, now: Moment, id: u16, out: &mut Vec<Action>) {
        if !self.wants_packet() {
            // Its next word may have been waiting since.
            self.heard = now;
        }
        if let Some((_, kept)) = self.unkept.iter_mut().find(|(unkept, _)| *unkept == id) {
            *kept = true;
        }
        self.answer(out);
    }

    fn answer(&mut self, out: &mut Vec<Action>) {
        while let Some((id, _)) = self.unkept.pop_front_if(|(_, kept)| *kept) {
            out.push(Action::Send(Packet::PubAck(PubAck::new(id))));
        }
    }

    fn subscribe(&mut self, subscribe: Subscribe, out: &mut Vec<Action>) {
        let mut codes = Vec::with_capacity(subscribe.filters.len());
        for wanted in subscribe.filters {
            let filter = Filter::new(&wanted.path).filter(Filter::is_for_commands);
            let granted = filter.is_some_and(|filter| {
                let known = self.filters.contains(&filter);
                let granted = known || self.filters.len() < MAX_FILTERS;
                if granted && !known {
                    self.filters.push(filter);
                }
                granted
            });
            codes.push(if granted {
                SubscribeReasonCode::Success(QoS::AtMostOnce)
            } else {
                SubscribeReasonCode::Failure
            });
        }
        out.push(Action::Send(Packet::SubAck(SubAck::new(subscribe.pkid, codes))));
    }

    fn tick(&mut self, now: Moment, account: &mut Account, out: &mut Vec<Action>) {
        match self.held.take() {
            Some((publish, until)) if until <= now => {
                self.heard = now;
                self.publish(now, account, publish, out);
            }
            held => {
                self.held = held;
                if self.wants_packet() && self.heard.after(self.patience) <= now {
                    self.fail(now, account, Closing::Silent, out);
                }
            }
        }
    }

    /// It ends, and not as it should.
    fn fail(&mut self, now: Moment, account: &mut Account, closing: Closing, out: &mut Vec<Action>) {
        if let Some(will) = self.will.take()
            && let Admission::Take(class) = account.admit(now, &will.topic, &will.message, false)
        {
            out.push(Action::Post { topic: will.topic, payload: will.message, class, unkept: None });
        }
        self.close(closing, out);
    }

    fn close(&mut self, closing: Closing, out: &mut Vec<Action>) {
        self.phase = Phase::Closed;
        self.filters.clear();
        self.unkept.clear();
        self.held = None;
        out.push(Action::Close(closing));
    }
}

fn connack(code: ConnectReturnCode) -> Action {
    Action::Send(Packet::ConnAck(ConnAck::new(code, false)))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

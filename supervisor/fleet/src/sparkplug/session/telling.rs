//! What is said over a connection: births, data, deaths, history; and what hosts ask for.
//!
//! Duty: messages, their sequence, and the memory of those of which nobody knows yet whether they arrived.
//! Not here: when the session is online (`super`).
//! Invariant: `seq` counts every message of the node and its devices but NDEATH
//! (`tck-id-payloads-sequence-num-always-included`, `tck-id-payloads-sequence-num-incrementing`).

use std::time::Duration;

use prost::Message as _;

use super::super::history::Kept;
use super::super::known::{Change, Changes, Known, Line};
use super::super::metric;
use super::super::payload::{Metric, Payload, Scalar};
use super::{Action, Link, Message, News, REBIRTH_PERIOD, Session, Tag};
use crate::Now;
use crate::figures::Value;
use crate::letters::{Letter, What};
use crate::topics::Id;

const REBIRTH: &str = "Node Control/Rebirth";
const DEVICE_REBIRTH: &str = "Device Control/Rebirth";
const BD_SEQ: &str = "bdSeq";
/// Publications that may wait for their confirmation: half a minute of the largest box, and what history adds.
const MAX_UNCONFIRMED: usize = 1024;
/// With so many somebody asks whether they arrived, and does not wait for a ping.
const MANY_UNCONFIRMED: usize = MAX_UNCONFIRMED / 2;
/// Of them letters: some room is left for live telemetry.
const MAX_LETTERS_OUT: usize = 512;
/// How long history may be out before somebody asks whether it arrived.
const PROBE: Duration = Duration::from_secs(1);
/// Metrics of one command that are looked at.
const MAX_COMMANDS: usize = 64;

/// A publication of which nobody knows yet whether it arrived.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    /// The how manieth of this connection.
    number: u64,
    what: Out,
}

#[derive(Debug)]
pub(super) enum Out {
    /// Live; it becomes history if the connection breaks.
    Live(Vec<u8>),
    Letter(u64),
}

impl Session {
    /// Whether somebody shall ask for the next letter, or when to look again.
    pub fn wants_letter(&self, now: Now) -> Result<(), Option<hearth_core::Moment>> {
        let out = self.unconfirmed.iter().filter(|one| matches!(one.what, Out::Letter(_))).count();
        if !self.is_online() || self.rebirth_due.is_some() || out >= MAX_LETTERS_OUT {
            Err(None)
        } else if self.next_letter > now.mono {
            Err(Some(self.next_letter))
        } else {
            Ok(())
        }
    }

    /// Everything about the box, anew: `tck-id-message-flow-edge-node-birth-publish-nbirth-payload`,
    /// `tck-id-payloads-dbirth-order`, `tck-id-operational-behavior-data-commands-rebirth-action-2`.
    pub(super) fn give_birth(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(latest) = &self.latest else { return };
        self.known = Known::of(latest);
        self.first_ms = None;
        self.rebirth_due = None;
        self.last_birth = Some(now.mono);
        // `tck-id-topics-nbirth-bdseq-matching`, `tck-id-operational-behavior-data-commands-rebirth-action-3`.
        let bd_seq = Value::Signed(i64::from(self.bd_seq));
        // `tck-id-operational-behavior-data-commands-rebirth-name-aliases`: neither has an alias.
        let mut metrics = vec![
            metric::named(BD_SEQ, None, &bd_seq, now.wall_ms),
            metric::named(REBIRTH, None, &Value::Flag(false), now.wall_ms),
        ];
        metrics.extend(self.known.node.iter().map(|line| born(line, now)));
        // `tck-id-topics-nbirth-seq-num`.
        self.seq = 0;
        let topic = self.config.topics.nbirth();
        self.publish(sparkplug(topic, now, Some(0), metrics), None, out);
        let devices: Vec<Id> = self.known.devices.keys().cloned().collect();
        for device in &devices {
            self.give_birth_to(now, device, out);
        }
    }

    fn give_birth_to(&mut self, now: Now, device: &Id, out: &mut Vec<Action>) {
        let Some(lines) = self.known.devices.get(device) else { return };
        let mut metrics = vec![metric::named(DEVICE_REBIRTH, None, &Value::Flag(false), now.wall_ms)];
        metrics.extend(lines.iter().map(|line| born(line, now)));
        let topic = self.config.topics.dbirth(device);
        self.publish_next(now, topic, metrics, None, out);
    }

    /// `tck-id-topics-ndeath-payload`, `tck-id-payloads-ndeath-seq`, `tck-id-payloads-ndeath-bdseq`.
    pub(super) fn death(&self, now: Now) -> Message {
        let bd_seq = Value::Signed(i64::from(self.bd_seq));
        let metrics = vec![metric::named(BD_SEQ, None, &bd_seq, now.wall_ms)];
        let message = sparkplug(self.config.topics.ndeath(), now, None, metrics);
        Message { tag: Some(Tag::Death), ..message }
    }

    /// What changed: said, or kept for later.
    pub(super) fn tell(&mut self, now: Now, changes: &Changes, out: &mut Vec<Action>) {
        if !self.is_online() {
            self.keep_changes(now, changes, out);
            return;
        }
        for device in &changes.gone {
            self.bury(now, device, out);
        }
        if self.rebirth_due.is_some() {
            // `tck-id-operational-behavior-data-commands-rebirth-action-1`: the births will say it.
            return;
        }
        if changes.node == Change::Shape {
            // `tck-id-topics-nbirth-metric-reqs`: what no birth named cannot be told.
            self.give_birth(now, out);
            return;
        }
        for (device, change) in &changes.devices {
            if *change == Change::Shape {
                self.give_birth_to(now, device, out);
            }
        }
        if let Change::Values(places) = &changes.node
            && !places.is_empty()
        {
            let (metrics, kept) = data(&self.known.node, places, None, now);
            self.publish_next(now, self.config.topics.ndata(), metrics, Some(Out::Live(kept)), out);
        }
        for (device, change) in &changes.devices {
            let (Change::Values(places), Some(lines)) = (change, self.known.devices.get(device)) else {
                continue;
            };
            let (metrics, kept) = data(lines, places, Some(device), now);
            self.publish_next(now, self.config.topics.ddata(device), metrics, Some(Out::Live(kept)), out);
        }
    }

    /// `tck-id-operational-behavior-device-ddeath`.
    fn bury(&mut self, now: Now, device: &Id, out: &mut Vec<Action>) {
        self.publish_next(now, self.config.topics.ddeath(device), Vec::new(), None, out);
    }

    /// Whoever begins without a link begins with how things stood then: it would be gone with the next look.
    pub(super) fn keep_first(&mut self, out: &mut Vec<Action>) {
        let Some(wall_ms) = self.first_ms.take() else { return };
        keep(None, &self.known.node, &Change::Shape, wall_ms, out);
        for (device, lines) in &self.known.devices {
            keep(Some(device), lines, &Change::Shape, wall_ms, out);
        }
    }

    fn keep_changes(&self, now: Now, changes: &Changes, out: &mut Vec<Action>) {
        let mut keep = |device: Option<&Id>, lines: &[Line], change: &Change| {
            keep(device, lines, change, now.wall_ms, out);
        };
        keep(None, &self.known.node, &changes.node);
        for (device, change) in &changes.devices {
            if let Some(lines) = self.known.devices.get(device) {
                keep(Some(device), lines, change);
            }
        }
    }

    pub(super) fn send_letter(&mut self, now: Now, letter: Letter, out: &mut Vec<Action>) {
        // Handed out as the connection broke: it will be again.
        let Link::Online { .. } = self.link else { return };
        let pace = Duration::from_secs(1) / self.config.history_per_s.max(1);
        self.next_letter = now.mono.after(pace.max(Duration::from_millis(1)));
        match letter.what {
            What::Message { topic, payload, retain } => {
                let message = Message { topic, payload, tag: Some(Tag::Letter(letter.id)), retain };
                self.publish(message, None, out);
            }
            What::History(kept) => match Kept::decode(kept.as_slice()) {
                Ok(kept) if !kept.metrics.is_empty() => self.send_history(now, letter.id, kept, out),
                // Nobody could ever be told.
                _ => {
                    self.ignored.malformed += 1;
                    out.push(Action::Acknowledged(letter.id));
                }
            },
        }
    }

    /// With `is_historical`, behind the births. A device that is gone by now comes back for as long as it takes to
    /// tell.
    fn send_history(&mut self, now: Now, letter: u64, kept: Kept, out: &mut Vec<Action>) {
        let device = match kept.device.as_deref().map(Id::new) {
            Some(Ok(device)) => Some(device),
            None => None,
            Some(Err(_)) => {
                self.ignored.malformed += 1;
                out.push(Action::Acknowledged(letter));
                return;
            }
        };
        self.probe_due.get_or_insert(now.mono.after(PROBE));
        let known = device.as_ref().map_or(Some(&self.known.node), |device| self.known.devices.get(device));
        let (topic, metrics) = match (&device, known) {
            (None, _) => (self.config.topics.ndata(), self.renamed(&self.known.node, kept.metrics)),
            (Some(device), Some(lines)) => {
                (self.config.topics.ddata(device), self.renamed(lines, kept.metrics))
            }
            (Some(device), None) => {
                let ghost: Vec<Metric> = kept.metrics.iter().map(unknown_now).collect();
                self.publish_next(now, self.config.topics.dbirth(device), ghost, None, out);
                let data =
                    kept.metrics.into_iter().map(|metric| Metric { datatype: None, ..metric }).collect();
                self.publish_next(now, self.config.topics.ddata(device), data, None, out);
                let ddeath = self.config.topics.ddeath(device);
                self.publish_next(now, ddeath, Vec::new(), Some(Out::Letter(letter)), out);
                return;
            }
        };
        if metrics.is_empty() {
            // Figures that no birth names any more.
            self.ignored.unknown += 1;
            out.push(Action::Acknowledged(letter));
            return;
        }
        self.publish_next(now, topic, metrics, Some(Out::Letter(letter)), out);
    }

    /// With the aliases of this session; without those that it does not know.
    fn renamed(&self, lines: &[Line], metrics: Vec<Metric>) -> Vec<Metric> {
        let renamed = |metric: Metric| {
            let name = metric.name.as_deref()?;
            let line = lines.iter().find(|line| line.name == name)?;
            let same = metric.datatype == Some(metric::datatype(&line.value));
            same.then_some(Metric { name: None, datatype: None, alias: Some(line.alias), ..metric })
        };
        metrics.into_iter().filter_map(renamed).collect()
    }

    /// `tck-id-operational-behavior-data-commands-ncmd-rebirth-name`, `...-ncmd-rebirth-value`.
    pub(super) fn command(&mut self, now: Now, device: Option<&str>, payload: &[u8], out: &mut Vec<Action>) {
        let Ok(payload) = Payload::decode(payload) else {
            self.ignored.malformed += 1;
            return;
        };
        let wanted = if device.is_some() { DEVICE_REBIRTH } else { REBIRTH };
        let asks = |metric: &Metric| {
            metric.name.as_deref() == Some(wanted) && metric.value == Some(Scalar::Boolean(true))
        };
        let Link::Online { .. } = self.link else { return };
        if !payload.metrics.iter().take(MAX_COMMANDS).any(asks) {
            self.ignored.unknown += 1;
            return;
        }
        let too_soon = self.last_birth.map(|last| last.after(REBIRTH_PERIOD)).filter(|next| *next > now.mono);
        match (device, too_soon) {
            (None, None) => {
                out.push(Action::Tell(News::Rebirth));
                // `tck-id-operational-behavior-data-commands-rebirth-action-1`: nothing comes between.
                self.give_birth(now, out);
            }
            (None, Some(next)) => self.rebirth_due = Some(next),
            (Some(_), Some(_)) => self.ignored.unknown += 1,
            (Some(device), None) => {
                match Id::new(device).ok().filter(|id| self.known.devices.contains_key(id)) {
                    Some(device) => {
                        self.last_birth = Some(now.mono);
                        self.give_birth_to(now, &device, out);
                    }
                    None => self.ignored.unknown += 1,
                }
            }
        }
    }

    pub(super) fn confirm(&mut self, published: u64, out: &mut Vec<Action>) {
        while self.unconfirmed.front().is_some_and(|first| first.number <= published) {
            if let Some(Unconfirmed { what: Out::Letter(id), .. }) = self.unconfirmed.pop_front() {
                out.push(Action::Acknowledged(id));
            }
        }
    }

    /// The connection broke: what was live is history now.
    pub(super) fn keep_unconfirmed(&mut self, out: &mut Vec<Action>) {
        for one in self.unconfirmed.drain(..) {
            if let Out::Live(kept) = one.what {
                out.push(Action::Keep(kept));
            }
        }
    }

    fn publish_next(
        &mut self,
        now: Now,
        topic: String,
        metrics: Vec<Metric>,
        what: Option<Out>,
        out: &mut Vec<Action>,
    ) {
        self.seq = self.seq.wrapping_add(1);
        self.publish(sparkplug(topic, now, Some(self.seq), metrics), what, out);
    }

    pub(super) fn publish(&mut self, message: Message, what: Option<Out>, out: &mut Vec<Action>) {
        self.published += 1;
        let waiting = self.unconfirmed.len();
        if let Some(what) = what {
            if waiting == MAX_UNCONFIRMED {
                // A broker that confirms nothing for so long. Perhaps it has it: then it comes twice. A letter that is
                // not acknowledged comes again over the next connection.
                if let Some(Unconfirmed { what: Out::Live(kept), .. }) = self.unconfirmed.pop_front() {
                    out.push(Action::Keep(kept));
                }
            }
            self.unconfirmed.push_back(Unconfirmed { number: self.published, what });
        }
        out.push(Action::Publish(message));
        if waiting < MANY_UNCONFIRMED && self.unconfirmed.len() == MANY_UNCONFIRMED {
            out.push(Action::Probe);
        }
    }
}

/// QoS 0, not retained: `tck-id-topics-nbirth-mqtt`, `tck-id-topics-ndata-mqtt`, `tck-id-topics-dbirth-mqtt`,
/// `tck-id-topics-ddata-mqtt`, `tck-id-topics-ddeath-mqtt`.
fn sparkplug(topic: String, now: Now, seq: Option<u8>, metrics: Vec<Metric>) -> Message {
    let payload =
        Payload { timestamp: Some(now.wall_ms), metrics, seq: seq.map(u64::from), ..Payload::default() };
    Message { topic, payload: payload.encode_to_vec(), tag: None, retain: false }
}

fn born(line: &Line, now: Now) -> Metric {
    metric::named(&line.name, Some(line.alias), &line.value, now.wall_ms)
}

/// In the birth of a device that is gone: what it is called, and no value.
fn unknown_now(metric: &Metric) -> Metric {
    Metric {
        name: metric.name.clone(),
        timestamp: metric.timestamp,
        datatype: metric.datatype,
        is_null: Some(true),
        ..Metric::default()
    }
}

fn keep(device: Option<&Id>, lines: &[Line], change: &Change, wall_ms: u64, out: &mut Vec<Action>) {
    let kept = match change {
        Change::Values(places) => Kept::of(device, told(lines, places), wall_ms),
        Change::Shape => Kept::of(device, lines.iter().map(|line| (&*line.name, &line.value)), wall_ms),
    };
    if !kept.metrics.is_empty() {
        out.push(Action::Keep(kept.encode_to_vec()));
    }
}

fn told<'l>(lines: &'l [Line], places: &[usize]) -> impl Iterator<Item = (&'l str, &'l Value)> {
    places.iter().filter_map(|place| lines.get(*place)).map(|line| (&*line.name, &line.value))
}

fn data(lines: &[Line], places: &[usize], device: Option<&Id>, now: Now) -> (Vec<Metric>, Vec<u8>) {
    let aliased = |line: &Line| metric::aliased(line.alias, &line.value, now.wall_ms);
    let metrics = places.iter().filter_map(|place| lines.get(*place)).map(aliased).collect();
    (metrics, Kept::of(device, told(lines, places), now.wall_ms).encode_to_vec())
}

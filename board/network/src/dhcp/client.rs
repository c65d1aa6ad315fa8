//! When to ask which server what, and what an interface has in the meantime.
//!
//! ```text
//!           link is there            offer               granted
//!  Down ------------------> Selecting -----> Requesting ---------> Bound
//!   ^ |                      ^   ^  ^            | refused, silence  |
//!   | |                      |   |  +------------+                   | half of the lease
//!   | |                      |   +-------------------+               v
//!   | | ... with a lease     | refused, silence      |           Renewing --granted--> Bound
//!   | +------------> Confirming                      |               | seven eighths
//!   |                    | granted                   | refused,      v
//!   |                    v                           | the end   Rebinding --granted--> Bound
//!   |                  Bound                         +---------------+
//!   +-- the link is lost, in every state
//! ```
//!
//! Duty: one interface's client (RFC 2131, 4.4). Pure: time, dice and answers come in, questions and changes go out.
//! Not here: sockets and interfaces (`station`), what of an answer may be believed (`lease`).
//! Invariant: a lease that is held has not ended, in whatever state; who answers cannot make the client ask more often
//! than its waits say; without a link nothing is asked and nothing is waited for but the end of a lease.

use std::net::Ipv4Addr;
use std::time::Duration;

use hearth_core::Moment;

use super::lease::{Lease, LeaseFault, Times};
use super::message::{Answer, Asked, Mac, Question, Said};

/// Until a question is asked again for the first time; doubles from there (RFC 2131, 4.1).
const FIRST_WAIT: Duration = Duration::from_secs(4);
const LONGEST_WAIT: Duration = Duration::from_secs(64);
/// Up to so much is added, so that boxes which were switched on together do not ask together for ever.
const SCATTER: Duration = Duration::from_secs(1);
/// How often one server is asked for what it offered, or whether a lease still holds, before all are asked anew.
const PATIENCE: u32 = 4;
/// Questions without an answer until that is worth a word: half a minute.
const SILENCE: u32 = 4;
/// Between questions for more time.
const LEAST_RENEWAL_WAIT: Duration = Duration::from_secs(60);

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) mac: Mac,
    pub(crate) host_name: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The interface has a link.
    LinkUp,
    LinkDown,
    Heard(Answer),
    /// Time passed.
    Tick,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// To one server, or to all.
    Ask(Question, Option<Ipv4Addr>),
    /// The interface has this from now on, for so long at most; none: for ever.
    Hold(Lease, Option<Duration>),
    /// The interface must not have this any more.
    Drop(Lease, Loss),
    /// What a server offered is not taken.
    Spurn(LeaseFault, Option<Ipv4Addr>),
    /// Nobody has answered for a while; told once in a row.
    Silence,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nobody gave it more time.
    Ended,
    /// A server says that it is not ours.
    Refused,
}

/// A lease and when it was asked for: from then on its time counts.
#[derive(Clone, Debug)]
struct Held {
    lease: Lease,
    since: Moment,
}

impl Held {
    fn at(&self, time: impl Fn(&Times) -> Duration) -> Option<Moment> {
        self.lease.times.as_ref().map(|times| self.since.after(time(times)))
    }
}

/// A question that is asked until it is answered.
#[derive(Clone, Copy, Debug)]
struct Asking {
    number: u32,
    since: Moment,
    times: u32,
    again: Moment,
}

#[derive(Clone, Debug)]
enum Phase {
    Down,
    Selecting { asking: Asking, spurned: bool },
    Requesting { asking: Asking, offer: Lease },
    Confirming(Asking),
    Bound,
    Renewing(Asking),
    Rebinding(Asking),
}

#[derive(Clone, Debug)]
pub(crate) struct Client {
    identity: Identity,
    dice: u64,
    phase: Phase,
    /// What the interface has.
    held: Option<Held>,
    /// Times in a row that what was offered came to nothing.
    troubles: u32,
}

impl Client {
    /// `seed` makes numbers and waits.
    pub(crate) fn new(identity: Identity, seed: u64) -> Client {
        Client { identity, dice: seed, phase: Phase::Down, held: None, troubles: 0 }
    }

    /// When [`Event::Tick`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        let asking = match &self.phase {
            Phase::Down => None,
            Phase::Bound => self.held.as_ref().and_then(|held| held.at(|times| times.renew)),
            Phase::Renewing(asking) => {
                let rebind = self.held.as_ref().and_then(|held| held.at(|times| times.rebind));
                Some(rebind.map_or(asking.again, |rebind| rebind.min(asking.again)))
            }
            Phase::Selecting { asking, .. }
            | Phase::Requesting { asking, .. }
            | Phase::Confirming(asking)
            | Phase::Rebinding(asking) => Some(asking.again),
        };
        let end = self.held.as_ref().and_then(|held| held.at(|times| times.end));
        [asking, end].into_iter().flatten().min()
    }

    #[must_use = "actions that nobody carries out leave this behind the world"]
    pub(crate) fn step(&mut self, now: Moment, event: Event) -> Vec<Action> {
        let mut actions = self.end_what_ended(now);
        match event {
            Event::LinkDown => self.phase = Phase::Down,
            Event::LinkUp if matches!(self.phase, Phase::Down) => {
                self.troubles = 0;
                let asking = self.begin(now, now);
                self.phase = if self.held.is_some() {
                    Phase::Confirming(asking)
                } else {
                    Phase::Selecting { asking, spurned: false }
                };
                actions.extend(self.ask_if_due(now));
            }
            Event::LinkUp => {}
            Event::Tick => actions.extend(self.ask_if_due(now)),
            Event::Heard(answer) => actions.extend(self.hear(now, &answer)),
        }
        actions
    }

    fn end_what_ended(&mut self, now: Moment) -> Vec<Action> {
        let ended = |held: &mut Held| held.at(|times| times.end).is_some_and(|end| end <= now);
        let Some(Held { lease, .. }) = self.held.take_if(ended) else { return Vec::new() };
        match self.phase {
            Phase::Confirming(_) | Phase::Bound | Phase::Renewing(_) | Phase::Rebinding(_) => {
                self.select(now, now);
            }
            Phase::Down | Phase::Selecting { .. } | Phase::Requesting { .. } => {}
        }
        vec![Action::Drop(lease, Loss::Ended)]
    }

    fn hear(&mut self, now: Moment, answer: &Answer) -> Vec<Action> {
        if answer.mac != self.identity.mac || self.number() != Some(answer.number) {
            return Vec::new();
        }
        let expected = match &self.phase {
            Phase::Selecting { .. } => answer.said == Said::Offer,
            // Another server has nothing to say about what this one offered.
            Phase::Requesting { offer, .. } => {
                answer.said != Said::Offer && answer.server == Some(offer.server)
            }
            _ => answer.said != Said::Offer,
        };
        if !expected {
            return Vec::new();
        }
        if answer.said == Said::Refused {
            let lost = self.held.take().map(|held| Action::Drop(held.lease, Loss::Refused));
            return lost.into_iter().chain(self.try_anew(now)).collect();
        }
        match (Lease::of(answer), &mut self.phase) {
            (Ok(offer), Phase::Selecting { .. }) => {
                let asking = self.begin(now, now);
                self.phase = Phase::Requesting { asking, offer };
                self.ask_if_due(now)
            }
            (Err(fault), Phase::Selecting { spurned, .. }) => {
                // Told once per round: a server may say it as often as it likes.
                let first = !std::mem::replace(spurned, true);
                first.then_some(Action::Spurn(fault, answer.server)).into_iter().collect()
            }
            (Ok(lease), _) => {
                let since = self.asked_at().unwrap_or(now);
                let left = lease.times.map(|times| since.after(times.end).since(now));
                if left == Some(Duration::ZERO) {
                    // So late was it heard.
                    return self.try_anew(now);
                }
                self.troubles = 0;
                self.phase = Phase::Bound;
                self.held = Some(Held { lease: lease.clone(), since });
                vec![Action::Hold(lease, left)]
            }
            (Err(fault), _) => {
                let told = Action::Spurn(fault, answer.server);
                std::iter::once(told).chain(self.try_anew(now)).collect()
            }
        }
    }

    /// Begins from the start: at once for the first time, and later from time to time.
    fn try_anew(&mut self, now: Moment) -> Vec<Action> {
        let pause = if self.troubles == 0 { Duration::ZERO } else { wait(self.troubles) };
        self.troubles = self.troubles.saturating_add(1);
        self.select(now, now.after(pause));
        self.ask_if_due(now)
    }

    fn select(&mut self, now: Moment, first: Moment) {
        let asking = self.begin(now, first);
        self.phase = Phase::Selecting { asking, spurned: false };
    }

    /// A new question, which has not been asked yet.
    fn begin(&mut self, now: Moment, first: Moment) -> Asking {
        let number = u32::try_from(self.roll() >> 32).unwrap_or_default();
        Asking { number, since: now, times: 0, again: first }
    }

    /// Asks what is to be asked by now. A client that was not stepped for long asks once, not for all that it missed.
    fn ask_if_due(&mut self, now: Moment) -> Vec<Action> {
        let scatter = self.scatter();
        let held_at = |held: &Option<Held>, time: fn(&Times) -> Duration| {
            held.as_ref().and_then(|held| held.at(time)).unwrap_or(now)
        };
        let (renew, rebind, end) = (
            held_at(&self.held, |times| times.renew),
            held_at(&self.held, |times| times.rebind),
            held_at(&self.held, |times| times.end),
        );
        match &self.phase {
            Phase::Bound
                if self.held.as_ref().is_some_and(|held| held.lease.times.is_some()) && renew <= now =>
            {
                self.phase = Phase::Renewing(self.begin(now, now));
            }
            Phase::Renewing(_) if rebind <= now => self.phase = Phase::Rebinding(self.begin(now, now)),
            Phase::Requesting { asking, .. } if asking.times >= PATIENCE && asking.again <= now => {
                return self.try_anew(now);
            }
            Phase::Confirming(asking) if asking.times >= PATIENCE && asking.again <= now => {
                // The lease is held until it ends, as it may well be good.
                return self.try_anew(now);
            }
            _ => {}
        }
        let until = match &self.phase {
            Phase::Renewing(_) => Some(rebind),
            Phase::Rebinding(_) => Some(end),
            _ => None,
        };
        let asking = match &mut self.phase {
            Phase::Down | Phase::Bound => return Vec::new(),
            Phase::Selecting { asking, .. }
            | Phase::Requesting { asking, .. }
            | Phase::Confirming(asking)
            | Phase::Renewing(asking)
            | Phase::Rebinding(asking) => asking,
        };
        if asking.again > now {
            return Vec::new();
        }
        asking.times = asking.times.saturating_add(1);
        let pause = match until {
            // RFC 2131, 4.4.5: half of what is left, and not too often.
            Some(until) => (until.since(now) / 2).max(LEAST_RENEWAL_WAIT),
            None => wait(asking.times) + scatter,
        };
        asking.again = now.after(pause);
        let asking = *asking;
        let silence = matches!(self.phase, Phase::Selecting { .. }) && asking.times == SILENCE;
        let silence = silence.then_some(Action::Silence);
        silence.into_iter().chain([self.question(now, asking)]).collect()
    }

    fn question(&self, now: Moment, asking: Asking) -> Action {
        let held = self.held.as_ref().map(|held| &held.lease);
        let address = held.map(|lease| lease.address);
        let seconds = u16::try_from(now.since(asking.since).as_secs()).unwrap_or(u16::MAX);
        let plain = Question {
            asked: Asked::Request,
            number: asking.number,
            seconds,
            mac: self.identity.mac,
            own: None,
            wanted: None,
            server: None,
            host_name: self.identity.host_name.clone(),
        };
        // Which of them says what: RFC 2131, table 4.
        let (question, to) = match &self.phase {
            Phase::Requesting { offer, .. } => {
                (Question { wanted: Some(offer.address), server: Some(offer.server), ..plain }, None)
            }
            Phase::Confirming(_) => (Question { wanted: address, ..plain }, None),
            Phase::Renewing(_) => (Question { own: address, ..plain }, held.map(|lease| lease.server)),
            Phase::Rebinding(_) => (Question { own: address, ..plain }, None),
            Phase::Down | Phase::Bound | Phase::Selecting { .. } => {
                (Question { asked: Asked::Discover, wanted: address, ..plain }, None)
            }
        };
        Action::Ask(question, to)
    }

    fn asking(&self) -> Option<&Asking> {
        match &self.phase {
            Phase::Down | Phase::Bound => None,
            Phase::Selecting { asking, .. }
            | Phase::Requesting { asking, .. }
            | Phase::Confirming(asking)
            | Phase::Renewing(asking)
            | Phase::Rebinding(asking) => Some(asking),
        }
    }

    /// Of the question that may be answered. One that was not asked yet nobody can have heard.
    fn number(&self) -> Option<u32> {
        self.asking().filter(|asking| asking.times > 0).map(|asking| asking.number)
    }

    /// The first time: that may be the one that the server means.
    fn asked_at(&self) -> Option<Moment> {
        self.asking().map(|asking| asking.since)
    }

    /// SplitMix64 (Steele, Lea, Flood, 2014).
    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn scatter(&mut self) -> Duration {
        let most = u64::try_from(SCATTER.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.roll() % most)
    }
}

/// After a question was asked so many times.
fn wait(times: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << times.saturating_sub(1).min(8)).min(LONGEST_WAIT)
}

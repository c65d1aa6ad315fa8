//! What one workload may say, and what it said: one account for all clients in all its replicas.
//!
//! Duty: limits, quotas, counts, and what people are told of refusals. Not here: one client's connection (`session`).
//! Invariants: no more is taken in a minute than a minute's and a full bucket, whatever the guest does. People hear of
//! each kind of refusal once an hour at most.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use hearth_core::Moment;

use super::name::{self, Filter};
use crate::outbox::Class;

/// Until people hear of the same refusal again: a guest that does it all day fills nobody's screen.
const TELL_AGAIN: Duration = Duration::from_secs(3600);
/// Characters of a topic that people are shown.
const MAX_SHOWN: usize = 48;
/// In milliseconds: what quotas count by.
const MINUTE: u64 = 60_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What it may publish under; one of them has to take the name.
    pub topics: Vec<Filter>,
    /// Of one message.
    pub max_bytes: usize,
    /// Whether each message has to be JSON.
    pub json: bool,
    pub messages_per_min: u32,
    pub bytes_per_min: u64,
    /// How much it matters.
    pub class: Class,
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Name,
    Topic,
    TooLarge,
    NotJson,
    OverQuota,
    ExactlyOnce,
    /// A command that no client had room for.
    Command,
}

impl Refusal {
    const COUNT: usize = 7;

    const fn place(self) -> usize {
        match self {
            Refusal::Name => 0,
            Refusal::Topic => 1,
            Refusal::TooLarge => 2,
            Refusal::NotJson => 3,
            Refusal::OverQuota => 4,
            Refusal::ExactlyOnce => 5,
            Refusal::Command => 6,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Name => {
                "no good name: expected levels without + # $ that are not empty, not .., not cmd first"
            }
            Refusal::Topic => "not one of its telemetry.topics",
            Refusal::TooLarge => "larger than its telemetry.max_bytes",
            Refusal::NotJson => "not JSON, which its telemetry.payload wants",
            Refusal::OverQuota => {
                "more than its telemetry.messages_per_min or kib_per_min: QoS 0 is dropped, QoS 1 waits"
            }
            Refusal::ExactlyOnce => "QoS 2 is not taken here, expected 0 or 1",
            Refusal::Command => "a command of the fleet's was too large, or its client too slow: it is lost",
        })
    }
}

/// What becomes of a message.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Take(Class),
    Refuse,
    /// Who sent it waits until then, and with it all that it has to say.
    Wait(Moment),
}

/// Since the daemon began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Taken.
    pub messages: u64,
    pub bytes: u64,
    pub refused: u64,
    /// Waited for the next minute's allowance.
    pub delayed: u64,
    /// Commands that clients were handed.
    pub heard: u64,
    /// And those that they missed.
    pub missed: u64,
}

#[derive(Debug)]
pub struct Account {
    limits: Option<Limits>,
    messages: Bucket,
    bytes: Bucket,
    counts: Counts,
    told: [Option<Moment>; Refusal::COUNT],
    news: VecDeque<(Refusal, String)>,
}

impl Account {
    /// With a minute's allowance.
    pub fn new(limits: Option<Limits>, now: Moment) -> Account {
        let mut account = Account {
            limits: None,
            messages: Bucket::default(),
            bytes: Bucket::default(),
            counts: Counts::default(),
            told: [None; Refusal::COUNT],
            news: VecDeque::new(),
        };
        account.set(limits, now);
        account
    }

    /// Other limits from here on, or none: it may say nothing any more.
    pub fn set(&mut self, limits: Option<Limits>, now: Moment) {
        if self.limits == limits {
            return;
        }
        let per_min =
            limits.as_ref().map_or((0, 0), |limits| (limits.messages_per_min.into(), limits.bytes_per_min));
        self.messages = Bucket::full(per_min.0, now);
        self.bytes = Bucket::full(per_min.1, now);
        self.limits = limits;
    }

    pub fn is_open(&self) -> bool {
        self.limits.is_some()
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What people should hear: why, and a sentence.
    pub fn news(&mut self) -> Option<(Refusal, String)> {
        self.news.pop_front()
    }

    /// Whether a message is taken. One that somebody waits for may have to wait itself.
    pub(super) fn admit(&mut self, now: Moment, topic: &str, payload: &[u8], may_wait: bool) -> Admission {
        let Some(limits) = &self.limits else { return Admission::Refuse };
        let refusal = if !name::is_good(topic) {
            Some(Refusal::Name)
        } else if !limits.topics.iter().any(|filter| filter.takes(topic)) {
            Some(Refusal::Topic)
        } else if payload.len() > limits.max_bytes {
            Some(Refusal::TooLarge)
        } else if limits.json && serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_err() {
            Some(Refusal::NotJson)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.refuse(now, refusal, topic);
            return Admission::Refuse;
        }
        let class = limits.class;
        let bytes = u64::try_from(topic.len() + payload.len()).unwrap_or(u64::MAX);
        let wait = self.messages.wait(now, 1).max(self.bytes.wait(now, bytes));
        if wait.is_zero() {
            self.messages.take(1);
            self.bytes.take(bytes);
            self.counts.messages = self.counts.messages.saturating_add(1);
            self.counts.bytes = self.counts.bytes.saturating_add(bytes);
            Admission::Take(class)
        } else if may_wait {
            Admission::Wait(now.after(wait))
        } else {
            self.refuse(now, Refusal::OverQuota, topic);
            Admission::Refuse
        }
    }

    pub(super) fn refuse(&mut self, now: Moment, refusal: Refusal, topic: &str) {
        self.counts.refused = self.counts.refused.saturating_add(1);
        self.tell(now, refusal, topic);
    }

    pub(super) fn delay(&mut self, now: Moment, topic: &str) {
        self.counts.delayed = self.counts.delayed.saturating_add(1);
        self.tell(now, Refusal::OverQuota, topic);
    }

    /// A client was handed a command.
    pub fn heard(&mut self) {
        self.counts.heard = self.counts.heard.saturating_add(1);
    }

    /// A client missed a command.
    pub fn missed(&mut self, now: Moment, topic: &str) {
        self.counts.missed = self.counts.missed.saturating_add(1);
        self.tell(now, Refusal::Command, topic);
    }

    fn tell(&mut self, now: Moment, refusal: Refusal, topic: &str) {
        let told = &mut self.told[refusal.place()];
        if told.is_none_or(|told| told.after(TELL_AGAIN) <= now) {
            *told = Some(now);
            let shown: String = topic.chars().take(MAX_SHOWN).collect();
            // One of each kind at most.
            self.news.push_back((refusal, format!("{shown:?}: {refusal}")));
        }
    }
}

/// An allowance that comes back evenly; full, it is a minute's.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    per_min: u64,
    /// Times [`MINUTE`], so that each millisecond adds `per_min`.
    level: u64,
    seen: Option<Moment>,
}

impl Bucket {
    fn full(per_min: u64, now: Moment) -> Bucket {
        Bucket { per_min, level: per_min.saturating_mul(MINUTE), seen: Some(now) }
    }

    /// How long until there is so much; what is more than a full bucket takes all of it.
    fn wait(&mut self, now: Moment, amount: u64) -> Duration {
        let full = self.per_min.saturating_mul(MINUTE);
        let elapsed = self.seen.map_or(Duration::ZERO, |seen| now.since(seen));
        let elapsed = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.level = self.level.saturating_add(elapsed.saturating_mul(self.per_min)).min(full);
        self.seen = Some(now);
        let missing = amount.saturating_mul(MINUTE).min(full).saturating_sub(self.level);
        Duration::from_millis(missing.div_ceil(self.per_min.max(1)))
    }

    fn take(&mut self, amount: u64) {
        self.level = self.level.saturating_sub(amount.saturating_mul(MINUTE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            topics: vec![Filter::new("a/#").expect("good")],
            max_bytes: 10,
            json: true,
            messages_per_min: 2,
            bytes_per_min: 100,
            class: Class::Bulk,
        }
    }

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    fn reasons(account: &mut Account) -> Vec<Refusal> {
        std::iter::from_fn(|| account.news()).map(|(refusal, _)| refusal).collect()
    }

    #[test]
    fn what_is_not_allowed_is_refused_counted_and_told_once_an_hour() {
        let mut account = Account::new(Some(limits()), at(0));
        for _ in 0..2 {
            for (topic, payload) in
                [("a//b", "1"), ("b", "1"), ("a", "[1,2,3,4,5,6]"), ("a", "{"), ("cmd/a", "1"), ("a", "")]
            {
                assert_eq!(
                    account.admit(at(1), topic, payload.as_bytes(), true),
                    Admission::Refuse,
                    "{topic} {payload}"
                );
            }
        }
        let kinds = [Refusal::Name, Refusal::Topic, Refusal::TooLarge, Refusal::NotJson];
        assert_eq!((account.counts().refused, reasons(&mut account)), (12, kinds.to_vec()));
        let _ = account.admit(at(1).after(TELL_AGAIN), "b", b"1", true);
        assert_eq!(
            account.news().map(|(_, text)| text).as_deref(),
            Some("\"b\": not one of its telemetry.topics")
        );
        assert_eq!(account.counts().messages, 0);
    }

    #[test]
    fn a_minute_has_its_allowance_and_beyond_it_one_waits_or_is_dropped() {
        let mut account = Account::new(Some(limits()), at(0));
        let take = Admission::Take(Class::Bulk);
        assert_eq!(account.admit(at(0), "a", b"1", true), take);
        assert_eq!(account.admit(at(0), "a", b"1", false), take);
        assert_eq!(account.admit(at(0), "a", b"1", false), Admission::Refuse);
        assert_eq!(account.admit(at(0), "a", b"1", true), Admission::Wait(at(30_000)));
        assert_eq!(account.admit(at(29_999), "a", b"1", true), Admission::Wait(at(30_000)));
        assert_eq!(account.admit(at(30_000), "a", b"1", true), take);
        assert_eq!(account.admit(at(30_000), "a", b"1", true), Admission::Wait(at(60_000)));
        assert_eq!((account.counts().messages, account.counts().bytes), (3, 6));
        assert_eq!(reasons(&mut account), [Refusal::OverQuota]);
        // A day's silence saves no more than a minute's.
        let day = at(86_400_000);
        assert_eq!(account.admit(day, "a", b"1", true), take);
        assert_eq!(account.admit(day, "a", b"1", true), take);
        assert_eq!(account.admit(day, "a", b"1", false), Admission::Refuse);
    }

    #[test]
    fn bytes_count_with_their_names_and_what_is_more_than_a_minutes_takes_all_of_it() {
        let few = Limits { messages_per_min: 1000, bytes_per_min: 6, ..limits() };
        let mut account = Account::new(Some(few.clone()), at(0));
        assert_eq!(account.admit(at(0), "a/b", b"12345", true), Admission::Take(Class::Bulk));
        assert_eq!(account.admit(at(0), "a/b", b"1", true), Admission::Wait(at(40_000)));
        // Others begin with a minute's; the same are no others.
        account.set(Some(few), at(0));
        assert_eq!(account.admit(at(0), "a", b"1", false), Admission::Refuse);
        account.set(Some(limits()), at(0));
        assert_eq!(account.admit(at(0), "a", b"1", false), Admission::Take(Class::Bulk));
        account.set(None, at(0));
        assert_eq!(account.admit(at(0), "a", b"1", true), Admission::Refuse);
    }
}

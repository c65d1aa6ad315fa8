//! One box's output, put together out of numbered pieces.
//!
//! Duty: their order, which of them are missing, the end. Pure. Not here: brokers, how it is printed.
//! Invariant: each number counts once, however often it comes; memory is bounded whatever the broker says.

use std::collections::BTreeMap;

use serde_json::Value;

/// Pieces that may wait for an earlier one: more than a box sends without an acknowledgement.
const MAX_EARLY: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Out,
    Err,
}

#[derive(Debug, Default)]
pub(super) struct Collected {
    next: u32,
    early: BTreeMap<u32, (Channel, Vec<u8>)>,
    answer: Option<Value>,
    missing: u32,
}

/// Of a command.
pub(super) fn is_end(payload: &[u8]) -> bool {
    let state = serde_json::from_slice::<Value>(payload).unwrap_or_default()["state"].take();
    matches!(state.as_str(), Some("successful" | "failed" | "rejected"))
}

impl Channel {
    pub(super) fn of(word: &str) -> Option<Channel> {
        match word {
            "out" => Some(Channel::Out),
            "err" => Some(Channel::Err),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Channel::Out => "out",
            Channel::Err => "err",
        }
    }
}

impl Collected {
    pub(super) fn take(&mut self, number: u32, channel: Channel, bytes: Vec<u8>) {
        if number >= self.next && self.early.len() < MAX_EARLY {
            self.early.entry(number).or_insert((channel, bytes));
        }
    }

    /// Of the command itself: only what ends it counts, and the first of that.
    pub(super) fn answered(&mut self, payload: &[u8]) {
        if self.answer.is_none() && is_end(payload) {
            self.answer = serde_json::from_slice(payload).ok();
        }
    }

    pub(super) fn next(&mut self) -> Option<(Channel, Vec<u8>)> {
        let piece = self.early.remove(&self.next)?;
        self.next += 1;
        Some(piece)
    }

    /// What there is beyond a hole, when nobody waits for it any more.
    pub(super) fn rest(&mut self) -> Vec<(Channel, Vec<u8>)> {
        let mut rest = Vec::new();
        for (number, piece) in std::mem::take(&mut self.early) {
            self.missing += number.saturating_sub(self.next);
            self.next = number.saturating_add(1);
            rest.push(piece);
        }
        self.missing += self.chunks().saturating_sub(self.next);
        rest
    }

    /// Its end is known, and so is all before it.
    pub(super) fn is_whole(&self) -> bool {
        self.is_answered() && self.next >= self.chunks()
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answer.is_some()
    }

    pub(super) fn answer(&self) -> Option<&Value> {
        self.answer.as_ref()
    }

    pub(super) fn missing(&self) -> u32 {
        self.missing
    }

    /// As of a program; what is no program and came to its end has 0.
    pub(super) fn status(&self) -> Option<u8> {
        let answer = self.answer.as_ref()?;
        match answer["exit"].as_u64() {
            Some(exit) => u8::try_from(exit).ok(),
            None => (answer["state"] == "successful").then_some(0),
        }
    }

    /// For people, where there is something to say beside the output.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        match &self.answer {
            None => words.push("no answer yet".to_owned()),
            Some(answer) if answer["state"] == "successful" => {}
            Some(answer) => {
                let text = |key: &str| answer[key].as_str().unwrap_or_default();
                words.push(format!("{}: {}", text("state"), text("reason")));
            }
        }
        let dropped = self.answer.as_ref().and_then(|answer| answer["dropped"].as_u64()).unwrap_or(0);
        if dropped > 0 {
            words.push(format!("{dropped} bytes of output were dropped"));
        }
        if self.missing > 0 {
            words.push(format!("{} pieces of output did not arrive", self.missing));
        }
        words
    }

    fn chunks(&self) -> u32 {
        let chunks = self.answer.as_ref().and_then(|answer| answer["chunks"].as_u64());
        chunks.and_then(|chunks| u32::try_from(chunks).ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pieces: impl IntoIterator<Item = (Channel, Vec<u8>)>) -> String {
        pieces.into_iter().map(|(_, bytes)| String::from_utf8(bytes).unwrap()).collect()
    }

    #[test]
    fn pieces_are_put_in_order_and_count_once() {
        let mut it = Collected::default();
        it.take(1, Channel::Err, b"b".to_vec());
        it.take(0, Channel::Out, b"a".to_vec());
        it.answered(br#"{"state":"successful","chunks":3,"bytes":3,"dropped":0,"exit":0}"#);
        assert_eq!(text(std::iter::from_fn(|| it.next())), "ab");
        it.take(0, Channel::Out, b"again".to_vec());
        assert!(!it.is_whole(), "its end may come before its last piece");
        it.take(2, Channel::Out, b"c".to_vec());
        assert_eq!((text(std::iter::from_fn(|| it.next())), it.is_whole()), ("c".to_owned(), true));
        assert_eq!((it.status(), it.words()), (Some(0), Vec::new()));
    }

    #[test]
    fn what_is_missing_dropped_or_unanswered_is_told() {
        let mut it = Collected::default();
        it.answered(br#"{"state":"executing"}"#);
        assert_eq!((it.words(), it.status()), (vec!["no answer yet".to_owned()], None));
        it.take(1, Channel::Out, b"b".to_vec());
        it.take(3, Channel::Out, b"d".to_vec());
        it.answered(br#"{"state":"failed","reason":"x","chunks":6,"dropped":9}"#);
        it.answered(br#"{"state":"successful","chunks":0}"#);
        assert_eq!(it.next(), None);
        assert_eq!(text(it.rest()), "bd");
        let words = ["failed: x", "9 bytes of output were dropped", "4 pieces of output did not arrive"];
        assert_eq!(it.words(), words);
    }

    #[test]
    fn a_broker_that_lies_fills_no_memory() {
        let mut it = Collected::default();
        for number in 1..10_000 {
            it.take(number, Channel::Out, Vec::new());
        }
        it.take(u32::MAX, Channel::Out, Vec::new());
        assert_eq!(it.early.len(), MAX_EARLY);
        it.answered(br#"{"state":"successful","chunks":99999999999}"#);
        it.rest();
        assert_eq!(it.missing, 1);
    }
}

//! Somebody else's program that listens at the broker.
//!
//! Duty: what was published, in order. Not here: what it means, but for the one mark of what is told afterwards.

use std::{
    io::{self, BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use serde_json::Value;

use crate::boards::broker::Broker;

#[derive(Debug)]
struct Heard {
    topic: String,
    payload: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Ear {
    child: Child,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Ear {
    pub(super) fn new(broker: &Broker) -> io::Result<Ear> {
        // However this program ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "mosquitto_sub"]);
        command.args([
            "-p",
            &broker.port().to_string(),
            "-t",
            "hearth/v1/#",
            "-t",
            "spBv1.0/#",
            "-F",
            "%t %x",
        ]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&heard);
        let lines = child.stdout.take().map(BufReader::new);
        thread::spawn(move || {
            for line in lines.into_iter().flat_map(|lines| lines.lines().map_while(Result::ok)) {
                // No topic of these has a blank.
                let (topic, payload) = line.split_once(' ').unwrap_or((&line, ""));
                lock(&notes).push(Heard { topic: topic.to_owned(), payload: bytes(payload) });
            }
        });
        Ok(Ear { child, heard })
    }

    /// How many messages so far.
    pub(super) fn heard(&self) -> usize {
        lock(&self.heard).len()
    }

    /// Messages on topics that end so, behind the first `since`.
    pub(super) fn since(&self, since: usize, topic: &str) -> usize {
        lock(&self.heard).iter().skip(since).filter(|one| one.topic.ends_with(topic)).count()
    }

    /// Figures that are told afterwards.
    pub(super) fn historical(&self, since: usize) -> usize {
        let heard = lock(&self.heard);
        let telemetry = heard.iter().skip(since).filter(|one| one.topic.starts_with("spBv1.0/"));
        telemetry.map(|one| fields(&one.payload).filter(is_historical).count()).sum()
    }

    /// What was said last on a topic.
    pub(super) fn said(&self, topic: &str) -> String {
        let heard = lock(&self.heard);
        let last = heard.iter().rev().find(|one| one.topic == topic);
        last.map(|one| String::from_utf8_lossy(&one.payload).into_owned()).unwrap_or_default()
    }

    /// The same as JSON.
    pub(super) fn last(&self, topic: &str) -> Value {
        serde_json::from_str(&self.said(topic)).unwrap_or_default()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lock(heard: &Mutex<Vec<Heard>>) -> MutexGuard<'_, Vec<Heard>> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    hex.as_bytes().chunks(2).map_while(digits).collect()
}

/// Of a Sparkplug payload: its metrics are field 2, and `is_historical` of each is field 5.
fn is_historical((number, metric): &(u64, &[u8])) -> bool {
    *number == 2 && fields(metric).any(|(number, value)| number == 5 && value == [1])
}

/// The fields of a message in Protocol Buffers: numbers, and bytes as they stand there.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        let key = varint(&mut rest)?;
        let before = rest;
        let length = match key & 7 {
            0 => {
                varint(&mut rest)?;
                let length = before.len() - rest.len();
                rest = before;
                length
            }
            1 => 8,
            2 => usize::try_from(varint(&mut rest)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, behind) = rest.split_at_checked(length)?;
        rest = behind;
        Some((key >> 3, value))
    })
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let length = rest.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let (value, behind) = rest.split_at(length);
    *rest = behind;
    Some(value.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_afterwards_is_told_apart() {
        // A payload: a timestamp of two bytes; two metrics, of which the second is historical, behind an alias.
        let payload =
            [&[0x08, 0x81, 0x01, 0x12, 0x02, 0x10, 0x05][..], &[0x12, 0x04, 0x10, 0x28, 0x28, 0x01]].concat();
        let historical: Vec<_> = fields(&payload).map(|one| is_historical(&one)).collect();
        assert_eq!(historical, [false, false, true]);
        assert_eq!(fields(&[0x12, 0x09, 0x00]).count(), 0, "it ends in the middle");
        assert_eq!(bytes("00ff1"), [0, 255, 1]);
    }
}

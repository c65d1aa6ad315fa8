//! `[telemetry]`: what a workload may tell the fleet, and that it may hear its own commands.
//!
//! Duty: keys, defaults, and what contradicts each other. Not here: messages, which `hearth-fleet` judges.
//! Invariant: without the table a workload tells nothing.

use std::ops::RangeInclusive;

use crate::reader::{Entry, Table};

/// Filters of one workload; each is tried for each message.
pub const MAX_TELEMETRY_TOPICS: usize = 32;
/// Bytes of one message: what a record of the outbox takes, with its name.
pub const TELEMETRY_BYTES: RangeInclusive<u64> = 1..=30_720;
/// Messages in a minute: a thousand a second is more than a box's link.
pub const TELEMETRY_MESSAGES: RangeInclusive<u64> = 1..=60_000;
/// KiB in a minute: a megabyte a second likewise.
pub const TELEMETRY_KIB: RangeInclusive<u64> = 1..=61_440;
const PORTS: RangeInclusive<u64> = 1..=65_535;
/// Bytes and levels of a filter, as the fleet's names have them.
const MAX_FILTER_BYTES: usize = 200;
const MAX_LEVELS: usize = 12;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// In the guest, of its loopback address.
    pub port: u16,
    /// Filters of MQTT; what it publishes has a name that one of them takes.
    pub topics: Vec<String>,
    pub max_bytes: u32,
    pub payload: Payload,
    /// Of all its replicas together, as the next one.
    pub messages_per_min: u32,
    pub kib_per_min: u32,
    pub class: Class,
}

/// What a message has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    Any,
    Json,
}

/// How much it matters, and how long it is worth sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 30 days.
    Alarm,
    /// As the box's own figures, 14 days.
    Telemetry,
    /// 2 days, and first to give way.
    Bulk,
}

pub(super) fn telemetry(table: &mut Table<'_>) -> Telemetry {
    let max_bytes = table.entry("max_bytes");
    let most = max_bytes.small(TELEMETRY_BYTES, " bytes").unwrap_or(4096);
    let kib_per_min = table.entry("kib_per_min").small(TELEMETRY_KIB, " KiB").unwrap_or(64_u32);
    if most > kib_per_min.saturating_mul(1024) {
        max_bytes.fault(format!("expected at most {kib_per_min} KiB, which is all of its kib_per_min"));
    }
    let payloads = [("any", Payload::Any), ("json", Payload::Json)];
    let classes = [("alarm", Class::Alarm), ("telemetry", Class::Telemetry), ("bulk", Class::Bulk)];
    Telemetry {
        port: table.entry("port").small(PORTS, "").unwrap_or(1883),
        topics: topics(&table.entry("topics")),
        max_bytes: most,
        payload: table.entry("payload").choice(&payloads).unwrap_or(Payload::Any),
        messages_per_min: table.entry("messages_per_min").small(TELEMETRY_MESSAGES, "").unwrap_or(120),
        kib_per_min,
        class: table.entry("class").choice(&classes).unwrap_or(Class::Bulk),
    }
}

fn topics(entry: &Entry<'_>) -> Vec<String> {
    const FILTER: &str = "a filter of topics such as \"temperature/#\"";
    let Some(items) = entry.items("a list of filters such as \"temperature/#\"", MAX_TELEMETRY_TOPICS) else {
        return vec!["#".to_owned()];
    };
    let read = |text: &str| is_filter(text).then(|| text.to_owned());
    items.iter().filter_map(|item| item.text_as(FILTER, read)).collect()
}

/// The same as the fleet's part takes.
fn is_filter(text: &str) -> bool {
    let last = text.split('/').count().saturating_sub(1);
    let level = |(place, level): (usize, &str)| match level {
        "#" => place == last,
        "+" => true,
        other => !other.contains(['+', '#', '$']) && !other.chars().any(char::is_control),
    };
    let good = (1..=MAX_FILTER_BYTES).contains(&text.len()) && last < MAX_LEVELS;
    good && text.split('/').enumerate().all(level)
}

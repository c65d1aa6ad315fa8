//! `[fleet]`: brokers, and who this box is to them.
//!
//! Duty: keys, defaults, and what contradicts each other. Not here: whether a broker is there, files of certificates.
//! Invariant: without the table the box speaks with nobody.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::reader::{Entry, Table};

/// Brokers that one box knows.
pub const MAX_SERVERS: usize = 8;
/// Keys of one role.
pub const MAX_KEYS: usize = 16;
/// Bytes of a name in topics.
pub const MAX_NAME: usize = 96;
/// Seconds between two looks of the box at itself.
pub const PERIOD_S: RangeInclusive<u64> = 1..=3600;
/// Seconds without a word after which a broker is asked whether it is there. Below five a slow link is mistaken for none.
pub const KEEP_ALIVE_S: RangeInclusive<u64> = 5..=3600;
/// Seconds for a connection with all its handshakes.
pub const CONNECT_S: RangeInclusive<u64> = 1..=300;
/// Historical messages per second after an outage.
pub const HISTORY_PER_S: RangeInclusive<u64> = 1..=1000;
/// MiB of what waits for a broker.
pub const OUTBOX_MIB: RangeInclusive<u64> = 1..=4096;
/// MiB of the disk that are left to others.
pub const FREE_MIB: RangeInclusive<u64> = 0..=1_048_576;

/// How the box is a member of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// `mqtts://HOST:PORT` and their like, tried in order; at least one.
    pub servers: Vec<String>,
    pub group: String,
    /// None: made of the box's machine ID.
    pub node: Option<String>,
    pub ca: Option<PathBuf>,
    /// Both or none.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub username: Option<String>,
    /// Its first line is the password.
    pub password_file: Option<PathBuf>,
    pub keep_alive: Duration,
    pub connect: Duration,
    pub period: Duration,
    /// The host without which the box says nothing.
    pub primary_host: Option<String>,
    pub history_per_s: u32,
    pub precedence: Precedence,
    pub outbox: Outbox,
    pub trust: Trust,
}

/// Whose word counts where files of the box and the fleet's desired state name the same workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    LocalWins,
    FleetWins,
}

/// What waits for a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbox {
    pub folder: PathBuf,
    pub mib: u64,
    pub free_mib: u64,
}

/// Whose signatures count, and how many it takes. Without keys the role's words are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    pub operate: Vec<String>,
    pub operate_threshold: u8,
    pub release: Vec<String>,
    pub release_threshold: u8,
}

pub(super) fn fleet(table: &mut Table<'_>) -> Fleet {
    let servers = servers(&table.required("servers", "a list of brokers such as \"mqtts://broker.example\""));
    let mut name = |key| table.entry(key).text_as(NAME, |text| is_name(text).then(|| text.to_owned()));
    let (group, node) = (name("group"), name("node"));
    let primary_host = name("primary_host");
    let (ca, certificate, key) = (table.entry("ca"), table.entry("certificate"), table.entry("key"));
    if certificate.is_there() != key.is_there() {
        let (there, missing) = if key.is_there() { (&key, "certificate") } else { (&certificate, "key") };
        there.fault(format!("expected {missing} beside it"));
    }
    let tls = servers.iter().any(|server| server.starts_with("mqtts:"));
    if tls && !ca.is_there() {
        ca.fault("missing, expected a file with the authorities of servers with TLS");
    }
    let (username, password_file) = (table.entry("username"), table.entry("password_file"));
    if password_file.is_there() && !username.is_there() {
        password_file.fault("expected username beside it");
    }
    let mut seconds =
        |key, range, default| Duration::from_secs(table.entry(key).number(range, " s").unwrap_or(default));
    let (keep_alive, connect) =
        (seconds("keep_alive_s", KEEP_ALIVE_S, 30), seconds("connect_s", CONNECT_S, 30));
    let period = seconds("period_s", PERIOD_S, 10);
    let precedences = [("local-wins", Precedence::LocalWins), ("fleet-wins", Precedence::FleetWins)];
    Fleet {
        servers,
        group: group.unwrap_or_else(|| "hearth".to_owned()),
        node,
        ca: ca.path(),
        certificate: certificate.path(),
        key: key.path(),
        username: username.text().map(str::to_owned),
        password_file: password_file.path(),
        keep_alive,
        connect,
        period,
        primary_host,
        history_per_s: table.entry("history_per_s").small(HISTORY_PER_S, "").unwrap_or(50),
        precedence: table.entry("precedence").choice(&precedences).unwrap_or(Precedence::LocalWins),
        outbox: table.section("outbox", |table| Outbox {
            folder: table.entry("folder").path().unwrap_or_else(|| "/var/lib/hearth/outbox".into()),
            mib: table.entry("mib").number(OUTBOX_MIB, " MiB").unwrap_or(64),
            free_mib: table.entry("free_mib").number(FREE_MIB, " MiB").unwrap_or(64),
        }),
        trust: table.section("trust", trust),
    }
}

const NAME: &str = "a name of 1 to 96 bytes without + / # or control characters";

fn is_name(text: &str) -> bool {
    let good = |character: char| !matches!(character, '+' | '/' | '#') && !character.is_control();
    (1..=MAX_NAME).contains(&text.len()) && text.chars().all(good)
}

fn servers(entry: &Entry<'_>) -> Vec<String> {
    const SERVER: &str = "\"mqtts://HOST:PORT\", \"mqtt://HOST:PORT\" or \"unix:/PATH\"";
    let Some(items) = entry.items("a list of brokers", MAX_SERVERS) else { return Vec::new() };
    if items.is_empty() {
        entry.fault("expected at least one broker");
    }
    let read = |text: &str| is_server(text).then(|| text.to_owned());
    items.iter().filter_map(|item| item.text_as(SERVER, read)).collect()
}

/// The same as the thread that connects takes.
fn is_server(text: &str) -> bool {
    if let Some(path) = text.strip_prefix("unix:") {
        return path.starts_with('/');
    }
    let (tls, rest) = match text.split_once("://") {
        Some(("mqtts", rest)) => (true, rest),
        Some(("mqtt", rest)) => (false, rest),
        _ => return false,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (name, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        // A certificate has a name, not an address in brackets.
        Some(_) if tls => return false,
        Some((name, "")) => (name, None),
        Some((name, port)) => match port.strip_prefix(':') {
            Some(port) => (name, Some(port)),
            None => return false,
        },
        None => match rest.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (rest, None),
        },
    };
    let part = |character: char| {
        character.is_ascii_alphanumeric()
            || matches!(character, '.' | '-' | '_')
            || (character == ':' && rest.starts_with('['))
    };
    let good_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
    !name.is_empty() && name.chars().all(part) && good_port
}

fn trust(table: &mut Table<'_>) -> Trust {
    let (operate, operate_threshold) = role(table, "operate", "operate_threshold");
    let (release, release_threshold) = role(table, "release", "release_threshold");
    Trust { operate, operate_threshold, release, release_threshold }
}

/// The keys of a role, and how many have to sign.
fn role(table: &mut Table<'_>, keys: &'static str, threshold: &'static str) -> (Vec<String>, u8) {
    let (entry, most) = (table.entry(keys), table.entry(threshold));
    let items = entry.items("a list of public keys", MAX_KEYS).unwrap_or_default();
    let keys: Vec<String> = items
        .iter()
        .filter_map(|item| item.text_as("a public key of minisign, \"RW...\"", read_key))
        .collect();
    let needed = most.small(1..=u64::try_from(MAX_KEYS).unwrap_or(u64::MAX), "").unwrap_or(1);
    if !items.is_empty() && usize::from(needed) > items.len() {
        most.fault(format!("expected at most {}, as many as there are keys", items.len()));
    }
    (keys, needed)
}

/// 42 bytes, of which the first two say what they are: 56 characters of Base64.
fn read_key(text: &str) -> Option<String> {
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    (text.len() == 56 && text.starts_with("RW") && text.bytes().all(base64)).then(|| text.to_owned())
}

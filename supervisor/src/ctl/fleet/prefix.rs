//! Output of many boxes on one screen.
//!
//! Duty: whose line is whose, as text or JSON. Not here: which bytes (`pieces`).
//! Invariant: a box commands nobody's terminal; a line is of one box.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use serde_json::json;

use super::harmless;
use super::pieces::{Channel, Collected};
use crate::ctl::console::Harmless;

/// Bytes of a line that has no end; then it is printed as one.
const MAX_LINE: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Printer {
    json: bool,
    /// Of the names; `None`: there is one box, and its output is printed as it comes.
    width: Option<usize>,
    /// Beginnings of lines, by box and channel.
    held: BTreeMap<(String, &'static str), Vec<u8>>,
    harmless: [Harmless; 2],
}

impl Printer {
    pub(super) fn new(boxes: &[String], json: bool) -> Printer {
        let width = boxes.iter().map(|name| name.chars().count()).max().unwrap_or_default();
        let width = (boxes.len() > 1).then_some(width);
        Printer { json, width, held: BTreeMap::new(), harmless: Default::default() }
    }

    pub(super) fn print(&mut self, name: &str, channel: Channel, bytes: &[u8]) {
        if self.json {
            let text = String::from_utf8_lossy(bytes);
            let told = json!({ "box": name, "stream": channel.name(), "text": text });
            return write(Channel::Out, format!("{told}\n").as_bytes());
        }
        if self.width.is_some() {
            let held = self.held.entry((name.to_owned(), channel.name())).or_default();
            held.extend_from_slice(bytes);
            let whole = match held.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None if held.len() >= MAX_LINE => held.len(),
                None => return,
            };
            let lines: Vec<u8> = held.drain(..whole).collect();
            self.lines(name, channel, &lines);
            return;
        }
        let on_terminal = match channel {
            Channel::Out => io::stdout().is_terminal(),
            Channel::Err => io::stderr().is_terminal(),
        };
        let place = usize::from(channel == Channel::Err);
        let text = on_terminal.then(|| self.harmless[place].text(bytes));
        write(channel, text.as_deref().map_or(bytes, str::as_bytes));
    }

    /// The rest of its lines, and what became of it.
    pub(super) fn end(&mut self, name: &str, one: &Collected) {
        for channel in [Channel::Out, Channel::Err] {
            let held = self.held.remove(&(name.to_owned(), channel.name())).unwrap_or_default();
            self.lines(name, channel, &held);
        }
        if self.json {
            let mut told = one.answer().cloned().unwrap_or_else(|| json!({ "state": "silent" }));
            told["box"] = name.into();
            told["missing"] = one.missing().into();
            return write(Channel::Out, format!("{told}\n").as_bytes());
        }
        for words in one.words() {
            eprintln!("hearthctl: {name}: {}", harmless(&words));
        }
    }

    fn lines(&self, name: &str, channel: Channel, bytes: &[u8]) {
        let Some(width) = self.width else { return };
        let mut text = String::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = Harmless::default().text(line.strip_suffix(b"\n").unwrap_or(line));
            // What goes back to a line's beginning would write over the name.
            let line: String = line.chars().filter(|one| !matches!(one, '\r' | '\u{8}')).collect();
            text.push_str(&format!("{name:<width$} | {line}\n"));
        }
        write(channel, text.as_bytes());
    }
}

/// Nobody reads it any more: the boxes' programs end by themselves.
fn write(channel: Channel, bytes: &[u8]) {
    let _ = match channel {
        Channel::Out => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
        Channel::Err => io::stderr().write_all(bytes),
    };
}

//! JSON Schemas for editors, made from what the reader asks for and what the examples say about it.
//!
//! Duty: note every question that is put to an example with all keys, and write the answers down as a schema. The files
//! lie in the crate's folder; a test compares them.
//! Not here: what no single key shows, such as what belongs to which `check`.
//! Only in tests: the programs carry nothing of it.

use std::cell::RefCell;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Faults;
use crate::device::DeviceConfig;
use crate::guest::GuestConfig;
use crate::network::NetworkConfig;
use crate::vm::VmConfig;
use crate::workload::WorkloadConfig;

/// What the reader wants to know of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    Known,
    Required,
    Text,
    Choice(Vec<String>),
    Flag,
    Number { min: u64, max: u64 },
    List { max: usize },
    Map,
}

thread_local! {
    static NOTES: RefCell<Option<Vec<(String, Note)>>> = const { RefCell::new(None) };
}

/// Taken down if somebody listens.
pub(crate) fn note(path: &str, note: Note) {
    NOTES.with_borrow_mut(|notes| {
        if let Some(notes) = notes {
            notes.push((path.to_owned(), note));
        }
    });
}

/// A key, or the items of a list (whose name is empty).
#[derive(Debug, Default)]
struct Key {
    name: String,
    notes: Vec<Note>,
    below: Vec<Key>,
}

impl Key {
    fn at(&mut self, names: &[String]) -> &mut Key {
        let Some((name, rest)) = names.split_first() else { return self };
        let place = self.below.iter().position(|key| key.name == *name).unwrap_or_else(|| {
            self.below.push(Key { name: name.clone(), ..Key::default() });
            self.below.len() - 1
        });
        self.below[place].at(rest)
    }

    fn write(&self, out: &mut String, path: &str, words: &[(String, String)], depth: usize) {
        let line = |out: &mut String, depth: usize, text: &str| {
            let _ = write!(out, "\n{:1$}{text}", "", 2 * depth);
        };
        out.push('{');
        let mut parts: Vec<String> = Vec::new();
        let said = words.iter().find(|(known, _)| known == path);
        if let Some((_, text)) = said.filter(|_| !self.name.is_empty()) {
            parts.push(format!("\"description\": {}", json(text)));
        }
        let choice = self.notes.iter().find_map(|note| match note {
            Note::Choice(names) => Some(format!("\"enum\": [{}]", names.join(", "))),
            _ => None,
        });
        let plain = self.notes.iter().find_map(|note| match note {
            Note::Text => Some("\"type\": \"string\"".to_owned()),
            Note::Flag => Some("\"type\": \"boolean\"".to_owned()),
            Note::Number { min, max } => {
                Some(format!("\"type\": \"integer\", \"minimum\": {min}, \"maximum\": {max}"))
            }
            Note::List { max } => Some(format!("\"type\": \"array\", \"maxItems\": {max}")),
            Note::Map => {
                Some("\"type\": \"object\", \"additionalProperties\": { \"type\": \"string\" }".to_owned())
            }
            _ => None,
        });
        let is_list = self.notes.iter().any(|note| matches!(note, Note::List { .. }));
        let is_map = self.notes.contains(&Note::Map);
        parts.extend(choice.or(plain));
        let is_table = !self.below.is_empty() && !is_list && !is_map;
        if is_table {
            parts.push("\"type\": \"object\", \"additionalProperties\": false".to_owned());
            let required: Vec<String> = self
                .below
                .iter()
                .filter(|key| key.notes.contains(&Note::Required))
                .map(|key| json(&key.name))
                .collect();
            if !required.is_empty() {
                parts.push(format!("\"required\": [{}]", required.join(", ")));
            }
        }
        for (index, part) in parts.iter().enumerate() {
            line(out, depth + 1, part);
            if index + 1 < parts.len() || is_table || (is_list && !self.below.is_empty()) {
                out.push(',');
            }
        }
        if is_table {
            line(out, depth + 1, "\"properties\": {");
            for (index, key) in self.below.iter().enumerate() {
                line(out, depth + 2, &format!("{}: ", json(&key.name)));
                let path = if path.is_empty() { key.name.clone() } else { format!("{path}.{}", key.name) };
                key.write(out, &path, words, depth + 2);
                if index + 1 < self.below.len() {
                    out.push(',');
                }
            }
            line(out, depth + 1, "}");
        } else if is_list && let Some(item) = self.below.first() {
            line(out, depth + 1, "\"items\": ");
            item.write(out, path, words, depth + 1);
        }
        line(out, depth, "}");
    }
}

fn json(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// "probe[0].check" as "probe", "", "check".
fn names(path: &str) -> Vec<String> {
    let of_part = |part: &str| -> Vec<String> {
        let (name, index) = part.split_once('[').map_or((part, None), |(name, rest)| (name, Some(rest)));
        [Some(name.to_owned()), index.map(|_| String::new())].into_iter().flatten().collect()
    };
    path.split('.').flat_map(of_part).collect()
}

/// What the comments of an example say, by key; and the example with the settings that it only shows.
fn explained(text: &str) -> (Vec<(String, String)>, String) {
    let (mut words, mut all) = (Vec::new(), String::new());
    let (mut section, mut said) = (String::new(), String::new());
    for line in text.lines() {
        let shown = line.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' '));
        let line_of_all = shown.unwrap_or(line);
        let _ = writeln!(all, "{line_of_all}");
        if let Some(comment) = line.strip_prefix("# ") {
            let _ = write!(said, "{}{comment}", if said.is_empty() { "" } else { " " });
            continue;
        }
        if line_of_all.starts_with('[') {
            section = line_of_all.trim_matches(['[', ']']).to_owned();
            words.push((section.clone(), std::mem::take(&mut said)));
        } else if let Some((key, _)) = line_of_all.split_once(" = ") {
            let path = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
            words.push((path, std::mem::take(&mut said)));
        }
        said.clear();
    }
    words.retain(|(_, said)| !said.is_empty());
    (words, all)
}

/// What the reader asks of a text with all keys. That some of them do not go together is no matter here.
fn asked<T>(text: &str, parse: &dyn Fn(&str) -> Result<T, Faults>) -> Key {
    NOTES.set(Some(Vec::new()));
    let parsed = parse(text);
    let notes = NOTES.take().unwrap_or_default();
    let faults = parsed.err().map(|faults| faults.to_string()).unwrap_or_default();
    assert!(faults.lines().all(|fault| fault.contains("expected only for")), "{faults}");
    let mut root = Key::default();
    for (path, note) in notes {
        let key = root.at(&names(&path));
        if !key.notes.contains(&note) {
            key.notes.push(note);
        }
    }
    root
}

fn schema<T>(title: &str, text: &str, parse: &dyn Fn(&str) -> Result<T, Faults>) -> String {
    let (words, all) = explained(text);
    let mut out = String::new();
    asked(&all, parse).write(&mut out, "", &words, 0);
    let head = format!(
        "{{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n  \"title\": {},",
        json(title)
    );
    out.replacen('{', &head, 1) + "\n"
}

/// File by file, what it is to say.
fn schemas() -> [(PathBuf, String); 5] {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |name: &str| fs::read_to_string(folder.join(name)).expect(name);
    let all = [
        (
            "hearth",
            schema("hearth.toml: the box", &text("hearth.toml"), &|text| DeviceConfig::parse("x", text)),
        ),
        (
            "workload",
            schema("workloads/NAME.toml: one workload of the box", &text("service.toml"), &|text| {
                WorkloadConfig::parse("service.toml", text)
            }),
        ),
        ("vm", schema("vm.toml: one machine", &text("vm.toml"), &|text| VmConfig::parse("x", text))),
        (
            "image",
            schema("/etc/hearth/workload.toml inside an image", &text("workload.toml"), &|text| {
                GuestConfig::parse("x", text)
            }),
        ),
        (
            "network",
            schema("network.toml: the box's own network", &text("network.toml"), &|text| {
                NetworkConfig::parse("x", text)
            }),
        ),
    ];
    all.map(|(name, schema)| (folder.join(format!("{name}.schema.json")), schema))
}

#[test]
fn the_schemas_are_those_of_the_reader_and_the_examples() {
    for (file, schema) in schemas() {
        if std::env::var_os("HEARTH_WRITE_SCHEMAS").is_some() {
            fs::write(&file, &schema).unwrap();
        }
        let there = fs::read_to_string(&file).unwrap_or_default();
        let hint = "run this test with HEARTH_WRITE_SCHEMAS=1 in the environment";
        assert!(there == schema, "{} is not up to date: {hint}", file.display());
    }
}

#[test]
fn every_schema_is_json_and_says_what_the_reader_takes() {
    for (file, schema) in schemas() {
        crate::Source::text("schema", schema.as_str()).with_tree(|_| ()).expect("JSON");
        let keys = schema.matches("\n  ").count();
        assert!(keys > 20, "{}", file.display());
    }
    let (_, workload) = &schemas()[1];
    for piece in [
        "\"enum\": [\"service\", \"job\", \"function\"]",
        "\"required\": [\"kind\", \"image\"]",
        "\"required\": [\"check\"]",
        "\"type\": \"integer\", \"minimum\": 1, \"maximum\": 65535",
        "\"type\": \"array\", \"maxItems\": 16",
        "\"description\": \"Likewise, and this one stops when one of them stops or is given up. Default: none.\"",
    ] {
        assert!(workload.contains(piece), "{piece}");
    }
}

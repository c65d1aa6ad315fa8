//! A configuration as a tree with places, whatever it was written in.
//!
//! Duty: the values that `reader` reads, each with the byte where it stands; TOML becomes one here, JSON in `json`.
//! Not here: which keys there are, and what is wrong with a value.
//! Invariant: no table has a key twice; both parsers refuse that.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value, and the byte of the text at which it begins.
#[derive(Debug)]
pub(crate) struct Node<'t> {
    pub(crate) at: usize,
    pub(crate) value: Value<'t>,
}

#[derive(Debug)]
pub(crate) enum Value<'t> {
    /// JSON's `null`; what has it, is left out.
    Null,
    Flag(bool),
    /// A whole number as it is written. More digits than `i128` holds are its end on that side.
    Whole {
        number: i128,
        text: Cow<'t, str>,
    },
    /// What no key takes, a fraction or a date: the words in which a fault names it.
    Other(String),
    Text(Cow<'t, str>),
    List(Vec<Node<'t>>),
    Table(Vec<Member<'t>>),
}

/// A key with its value; its place is the key's.
#[derive(Debug)]
pub(crate) struct Member<'t> {
    pub(crate) key: Cow<'t, str>,
    pub(crate) at: usize,
    pub(crate) value: Value<'t>,
}

impl Member<'_> {
    /// The same, with texts of its own and all places moved by `by`.
    pub(crate) fn moved(&self, by: usize) -> Member<'static> {
        Member {
            key: Cow::Owned(self.key.clone().into_owned()),
            at: self.at + by,
            value: self.value.moved(by),
        }
    }
}

impl<'t> Value<'t> {
    fn moved(&self, by: usize) -> Value<'static> {
        match self {
            Value::Null => Value::Null,
            Value::Flag(flag) => Value::Flag(*flag),
            Value::Whole { number, text } => {
                Value::Whole { number: *number, text: Cow::Owned(text.clone().into_owned()) }
            }
            Value::Other(words) => Value::Other(words.clone()),
            Value::Text(text) => Value::Text(Cow::Owned(text.clone().into_owned())),
            Value::List(items) => Value::List(
                items.iter().map(|item| Node { at: item.at + by, value: item.value.moved(by) }).collect(),
            ),
            Value::Table(members) => Value::Table(members.iter().map(|member| member.moved(by)).collect()),
        }
    }

    /// The value of `key`, in a table that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Value<'t>> {
        let Value::Table(members) = self else { return None };
        member(members, key).map(|member| &member.value)
    }
}

/// The number that the digits say, or the end of `i128` on its side.
pub(crate) fn saturating(digits: &str, radix: u32) -> i128 {
    let end = if digits.starts_with('-') { i128::MIN } else { i128::MAX };
    i128::from_str_radix(digits, radix).unwrap_or(end)
}

pub(crate) fn member<'a, 't>(members: &'a [Member<'t>], key: &str) -> Option<&'a Member<'t>> {
    members.iter().find(|member| member.key == key)
}

/// Where `key` (such as `boot.kernel` or `block[1].path`) stands; `None` where the file leaves it out.
pub(crate) fn locate(root: &[Member<'_>], key: &str) -> Option<usize> {
    let mut members = root;
    let mut at = None;
    for part in key.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, rest)) => (name, Some(rest.strip_suffix(']')?.parse::<usize>().ok()?)),
            None => (part, None),
        };
        let found = member(members, name)?;
        at = Some(found.at);
        let value = match (index, &found.value) {
            (Some(index), Value::List(items)) => &items.get(index)?.value,
            (Some(_), _) => return None,
            (None, value) => value,
        };
        members = match value {
            Value::Table(inner) => inner,
            _ => &[],
        };
    }
    at
}

pub(crate) fn of_toml<'t>(table: &'t DeTable<'t>) -> Vec<Member<'t>> {
    let member = |(key, value): (&'t Spanned<Cow<'t, str>>, &'t Spanned<DeValue<'t>>)| Member {
        key: Cow::Borrowed(key.get_ref()),
        at: key.span().start,
        value: of_toml_value(value.get_ref()),
    };
    table.iter().map(member).collect()
}

fn of_toml_value<'t>(value: &'t DeValue<'t>) -> Value<'t> {
    match value {
        DeValue::String(text) => Value::Text(Cow::Borrowed(text)),
        DeValue::Integer(number) => Value::Whole {
            number: saturating(number.as_str(), number.radix()),
            // With the prefix of its radix.
            text: Cow::Owned(number.to_string()),
        },
        DeValue::Float(number) => Value::Other(format!("the number {number}")),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(date) => Value::Other(format!("the date {date}")),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| Node { at: item.span().start, value: of_toml_value(item.get_ref()) })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(of_toml(table)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_tables_and_in_lists_of_tables() {
        let text =
            "[boot]\nkernel = \"k\"\n\n[[block]]\npath = \"a\"\n[[block]]\nid = \"x\"\n  path = \"b\"\n";
        let toml = DeTable::parse(text).unwrap();
        let root = of_toml(toml.get_ref());
        let rest = |key| locate(&root, key).map(|at| text[at..].lines().next().unwrap());
        assert_eq!(rest("boot.kernel"), Some("kernel = \"k\""));
        assert_eq!(rest("block[1].path"), Some("path = \"b\""));
        assert_eq!(rest("boot"), Some("boot]"));
        for absent in
            ["boot.initrd", "block[2].path", "boot[0]", "block[x].path", "", "boot.kernel.x", "block.id"]
        {
            assert_eq!(locate(&root, absent), None, "{absent}");
        }
    }
}

//! JSON (RFC 8259) as a tree with places.
//!
//! Duty: the grammar to the letter, and where and how a text leaves it. Not here: what the members mean.
//! Invariant: any text gives a tree or one fault; depth and members are bounded, the text itself by its reader.
//!
//! Not `serde_json`: it drops the places of values, which every fault names, and its code would be a tenth of what
//! the monitor may still grow by.

use std::borrow::Cow;

use crate::tree::{Member, Node, Value, saturating};

/// Levels of nesting. The deepest member of a machine stands on the sixth; protects the stack.
const MAX_DEPTH: usize = 32;
/// Members of one object; keeps the search for duplicates short.
const MAX_MEMBERS: usize = 1024;

/// Where a text is not JSON, and what belongs there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotJson {
    pub(crate) at: usize,
    pub(crate) message: String,
}

pub(crate) fn parse(text: &str) -> Result<Node<'_>, NotJson> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    parser.blanks();
    let root = parser.node()?;
    parser.blanks();
    if parser.at < text.len() { parser.expected("nothing more") } else { Ok(root) }
}

struct Parser<'t> {
    text: &'t str,
    /// Always at a character's first byte.
    at: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn expected<T>(&self, what: &str) -> Result<T, NotJson> {
        let found = match self.text[self.at..].chars().next() {
            None => "the end".to_owned(),
            Some(c) => format!("{c:?}"),
        };
        self.wrong(self.at, format!("expected {what}, found {found}"))
    }

    #[expect(clippy::unused_self, reason = "reads as the parser's verdict")]
    fn wrong<T>(&self, at: usize, message: impl Into<String>) -> Result<T, NotJson> {
        Err(NotJson { at, message: message.into() })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Steps over `byte`, an ASCII one, if it is next.
    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii() && wanted(byte)) {
            self.at += 1;
        }
        self.at - start
    }

    fn blanks(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    fn node(&mut self) -> Result<Node<'t>, NotJson> {
        let at = self.at;
        Ok(Node { at, value: self.value()? })
    }

    fn value(&mut self) -> Result<Value<'t>, NotJson> {
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string().map(Value::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Value<'t>, NotJson> {
        let start = self.at;
        self.take_while(|byte| byte.is_ascii_alphabetic());
        match &self.text[start..self.at] {
            "null" => Ok(Value::Null),
            "true" => Ok(Value::Flag(true)),
            "false" => Ok(Value::Flag(false)),
            _ => {
                self.at = start;
                self.expected("a JSON value")
            }
        }
    }

    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Value<'t>, NotJson>,
    ) -> Result<Value<'t>, NotJson> {
        if self.depth == MAX_DEPTH {
            return self.wrong(self.at, format!("expected at most {MAX_DEPTH} levels"));
        }
        self.depth += 1;
        // The bracket that brought us here.
        self.at += 1;
        self.blanks();
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<Value<'t>, NotJson> {
        let mut members: Vec<Member<'t>> = Vec::new();
        if self.take(b'}') {
            return Ok(Value::Table(members));
        }
        loop {
            let at = self.at;
            if self.peek() != Some(b'"') {
                return self.expected("a key in double quotes");
            }
            let key = self.string()?;
            if members.iter().any(|before| before.key == key) {
                return self.wrong(at, "duplicate key");
            }
            if members.len() == MAX_MEMBERS {
                return self.wrong(at, format!("expected at most {MAX_MEMBERS} keys"));
            }
            self.blanks();
            if !self.take(b':') {
                return self.expected("a colon");
            }
            self.blanks();
            members.push(Member { key, at, value: self.value()? });
            self.blanks();
            if self.take(b'}') {
                return Ok(Value::Table(members));
            }
            if !self.take(b',') {
                return self.expected("a comma or }");
            }
            self.blanks();
        }
    }

    fn array(&mut self) -> Result<Value<'t>, NotJson> {
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.node()?);
            self.blanks();
            if self.take(b']') {
                return Ok(Value::List(items));
            }
            if !self.take(b',') {
                return self.expected("a comma or ]");
            }
            self.blanks();
        }
    }

    fn number(&mut self) -> Result<Value<'t>, NotJson> {
        let start = self.at;
        self.take(b'-');
        // Section 6: no other digit behind a leading zero.
        if !self.take(b'0') {
            self.digits()?;
        }
        let mut whole = true;
        if self.take(b'.') {
            whole = false;
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            whole = false;
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        Ok(if whole {
            Value::Whole { number: saturating(text, 10), text: Cow::Borrowed(text) }
        } else {
            Value::Other(format!("the number {}", crate::reader::shortened(text)))
        })
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        if self.take_while(|byte| byte.is_ascii_digit()) == 0 { self.expected("a digit") } else { Ok(()) }
    }

    /// Borrowed where nothing is escaped.
    fn string(&mut self) -> Result<Cow<'t, str>, NotJson> {
        // The quote that brought us here.
        self.at += 1;
        let mut text: Cow<'t, str> = Cow::Borrowed("");
        loop {
            let start = self.at;
            let rest = &self.text.as_bytes()[start..];
            // Bytes of longer characters are none of these, so that the end is a character's end.
            let plain = rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)).count();
            self.at += plain;
            text += &self.text[start..self.at];
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => text.to_mut().push(self.escaped()?),
                Some(_) => return self.expected("no control character in a string"),
                None => return self.expected("a closing quote"),
            }
        }
    }

    /// Section 7: one of eight letters, or four digits of UTF-16, two of those for a character beyond the first plane.
    fn escaped(&mut self) -> Result<char, NotJson> {
        let start = self.at;
        self.at += 1;
        let plain = match self.peek() {
            Some(b'u') => {
                self.at += 1;
                let unit = self.unit()?;
                let second = (0xd800..0xdc00).contains(&unit) && self.take(b'\\') && self.take(b'u');
                let units = if second { vec![unit, self.unit()?] } else { vec![unit] };
                return match char::decode_utf16(units).next() {
                    Some(Ok(character)) => Ok(character),
                    _ => self.wrong(start, "expected both halves of a surrogate pair"),
                };
            }
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            _ => return self.expected("one of \"\\/bfnrtu behind a backslash"),
        };
        self.at += 1;
        Ok(plain)
    }

    fn unit(&mut self) -> Result<u16, NotJson> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit.and_then(|digit| u16::try_from(digit).ok()) else {
                return self.expected("four hexadecimal digits");
            };
            unit = unit << 4 | digit;
            self.at += 1;
        }
        Ok(unit)
    }
}

#[cfg(test)]
mod tests;

//! `hearthctl console`: what a guest shows on its console.
//!
//! Duty: its bytes, made harmless for a terminal. Not here: asking.
//! Invariant: a guest may write anything; unless somebody says `--raw`, nothing of it commands the person's terminal.

/// Text out of bytes that come in pieces, without commands for a terminal.
#[derive(Debug, Default)]
pub(super) struct Harmless {
    /// The beginning of a character.
    held: Vec<u8>,
}

impl Harmless {
    /// Lines, tabs, backspaces and carriage returns as they are, other control characters so that they can be seen.
    pub(super) fn text(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let mut text = String::with_capacity(all.len());
        let mut rest = all.as_slice();
        loop {
            let error = match std::str::from_utf8(rest) {
                Ok(good) => {
                    good.chars().for_each(|one| show(one, &mut text));
                    return text;
                }
                Err(error) => error,
            };
            let (good, bad) = rest.split_at(error.valid_up_to());
            String::from_utf8_lossy(good).chars().for_each(|one| show(one, &mut text));
            let Some(length) = error.error_len() else {
                self.held = bad.to_vec();
                return text;
            };
            text.push(char::REPLACEMENT_CHARACTER);
            rest = &bad[length..];
        }
    }
}

fn show(one: char, text: &mut String) {
    match one {
        '\n' | '\r' | '\t' | '\u{8}' => text.push(one),
        // As terminals echo them.
        '\0'..='\u{1f}' => {
            text.push('^');
            text.push(char::from_u32(u32::from(one) + 0x40).unwrap_or('?'));
        }
        '\u{7f}' => text.push_str("^?"),
        // Terminals take some of these for commands, too.
        '\u{80}'..='\u{9f}' => text.push(char::REPLACEMENT_CHARACTER),
        other => text.push(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_commands_a_terminal_is_shown_instead_of_done() {
        let shown = |bytes: &[u8]| Harmless::default().text(bytes);
        assert_eq!(shown(b"a\tb\r\n\x08"), "a\tb\r\n\x08");
        assert_eq!(shown(b"\x1b[2Jx\x07\x00\x7f"), "^[[2Jx^G^@^?");
        assert_eq!(shown(b"caf\xc3\xa9 \xc2\x9b2J \x9b \xff"), "caf\u{e9} \u{fffd}2J \u{fffd} \u{fffd}");
    }

    #[test]
    fn characters_that_are_cut_are_put_together() {
        let mut harmless = Harmless::default();
        let pieces = [&b"\xe2"[..], b"\x82", b"\xac\xc2", b"\x9b"].map(|piece| harmless.text(piece));
        assert_eq!(pieces, ["", "", "\u{20ac}", "\u{fffd}"]);
    }
}

//! Lines out of a stream of bytes that somebody else chose.
//!
//! Duty: cut at line ends, bound the length, take away what could command a terminal.
//! Not here: reading or printing.
//! Invariant: holds at most [`MAX_LINE_BYTES`]; no line that comes out holds a control character.

/// Bytes of one line; longer ones come out in pieces. Protects the daemon's memory and the reader's patience.
pub const MAX_LINE_BYTES: usize = 1024;

#[derive(Debug, Default)]
pub struct LineSplitter {
    held: Vec<u8>,
}

impl LineSplitter {
    pub fn new() -> LineSplitter {
        LineSplitter::default()
    }

    /// Takes bytes in and hands every finished line to `sink`.
    pub fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            let mut rest = text;
            while self.held.len() + rest.len() > MAX_LINE_BYTES {
                let (now, later) = rest.split_at(MAX_LINE_BYTES - self.held.len());
                self.held.extend_from_slice(now);
                self.emit(&mut sink);
                rest = later;
            }
            self.held.extend_from_slice(rest);
            if ended {
                self.emit(&mut sink);
            }
        }
    }

    /// The stream ended: what is left is a line, too.
    pub fn finish(&mut self, mut sink: impl FnMut(&str)) {
        if !self.held.is_empty() {
            self.emit(&mut sink);
        }
    }

    fn emit(&mut self, sink: &mut impl FnMut(&str)) {
        sink(&printable(&self.held));
        self.held.clear();
    }
}

/// Without the carriage return at the end; control characters become visible and harmless.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for c in String::from_utf8_lossy(bytes).trim_end_matches('\r').chars() {
        match c {
            '\t' => text.push_str("    "),
            '\u{1b}' => text.push_str("^["),
            c if c.is_control() => text.push('\u{fffd}'),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut splitter = LineSplitter::new();
        let mut lines = Vec::new();
        for piece in pieces {
            splitter.push(piece, |line| lines.push(line.to_owned()));
        }
        splitter.finish(|line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn lines_come_out_whole_however_they_come_in() {
        assert_eq!(lines(&[b"one\r\ntw", b"o\n\nthr", b"ee"]), ["one", "two", "", "three"]);
    }

    #[test]
    fn a_line_without_end_comes_out_in_bounded_pieces() {
        let lines = lines(&[&[b'x'; 700], &[b'x'; 700], &[b'x'; 2000], b"\n"]);
        let lengths: Vec<usize> = lines.iter().map(String::len).collect();
        assert_eq!(lengths, [1024, 1024, 1024, 328]);
    }

    #[test]
    fn a_guest_cannot_command_the_terminal() {
        assert_eq!(lines(&[b"\x1b[2Jgone\x07\xff\tx\n"]), ["^[[2Jgone\u{fffd}\u{fffd}    x"]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_unbounded(pieces in proptest::collection::vec("[a\\n]{0,1500}", 0..6)) {
            let bytes: Vec<&[u8]> = pieces.iter().map(String::as_bytes).collect();
            let lines = lines(&bytes);
            let letters = |text: &str| text.matches('a').count();
            prop_assert_eq!(lines.iter().map(|l| letters(l)).sum::<usize>(), pieces.iter().map(|p| letters(p)).sum::<usize>());
            prop_assert!(lines.iter().all(|line| line.len() <= MAX_LINE_BYTES));
        }
    }
}

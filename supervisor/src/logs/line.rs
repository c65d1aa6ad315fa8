//! One line of a log file: `2026-11-21T19:36:06.123Z REPLICA TEXT`.
//!
//! Duty: there and back. Not here: what control characters do (`lines` made them harmless).

use crate::wall;

/// A line with its newline.
pub(super) fn format(unix_ms: u64, replica: &str, text: &str) -> String {
    format!("{} {replica} {text}\n", wall::stamp(unix_ms))
}

/// Time, replica and text; `None` for what is no such line, as after a power cut in the middle of one.
pub(crate) fn parse(line: &str) -> Option<(&str, &str, &str)> {
    let (time, rest) = line.split_once(' ')?;
    let (replica, text) = rest.split_once(' ')?;
    (time.len() == wall::STAMP_BYTES && time.ends_with('Z')).then_some((time, replica, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back_as_it_was_and_a_torn_one_does_not() {
        let line = format(1_795_289_766_123, "web.1", "a b  c");
        assert_eq!(line, "2026-11-21T19:36:06.123Z web.1 a b  c\n");
        assert_eq!(parse(line.trim_end()), Some(("2026-11-21T19:36:06.123Z", "web.1", "a b  c")));
        assert_eq!(parse("26-11-21T19:36:06.123Z web.1 x"), None);
        assert_eq!(parse("2026-11-21T19:36:06.123Z"), None);
    }
}

//! The kernel command line.
//!
//! Duty: find the agent's own settings and the workload's command in it.
//! Not its duty: `argv`. The kernel also puts words there that it does not know, so a typo in front of `--` would
//! become the workload's program.
//! Invariant: words are told apart as the kernel does (`next_arg` in its `lib/cmdline.c`): double quotes keep
//! blanks together, and are taken off around a whole word or the value behind `=`; there is no escape.

/// What the command line says to the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KernelArgs {
    /// `hearth.root=`: the block device to run from.
    pub(crate) root: Option<String>,
    /// `hearth.mqtt=`: the loopback port at which the workload finds its way to the host's broker.
    pub(crate) mqtt: Option<u16>,
    /// The words behind `--`.
    pub(crate) command: Vec<String>,
}

impl KernelArgs {
    pub(crate) fn parse(line: &str) -> Self {
        let mut args = Self::default();
        let mut words = words(line);
        for word in words.by_ref().take_while(|word| word != "--") {
            if let Some(device) = word.strip_prefix("hearth.root=") {
                // The last one counts, as with the kernel's own settings.
                args.root = Some(device.to_owned());
            }
            if let Some(port) = word.strip_prefix("hearth.mqtt=") {
                args.mqtt = port.parse().ok().filter(|port| *port != 0);
            }
        }
        args.command = words.collect();
        args
    }
}

fn words(line: &str) -> impl Iterator<Item = String> {
    let mut rest = line;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(blank);
        if rest.is_empty() {
            return None;
        }
        let mut quoted = false;
        let end = rest.find(|c| {
            quoted ^= c == '"';
            !quoted && blank(c)
        });
        let (word, tail) = rest.split_at(end.unwrap_or(rest.len()));
        rest = tail;
        Some(unquote(word))
    })
}

fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

fn unquote(word: &str) -> String {
    let bare = |text: &str| text.strip_suffix('"').unwrap_or(text).to_owned();
    match word.strip_prefix('"') {
        Some(inner) => bare(inner),
        None => match word.split_once("=\"") {
            // Only the first `=` has a value behind it.
            Some((name, value)) if !name.contains('=') => format!("{name}={}", bare(value)),
            Some(_) | None => word.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn command(line: &str) -> Vec<String> {
        KernelArgs::parse(line).command
    }

    #[test]
    fn settings_stand_before_the_dashes_and_the_command_behind() {
        let args =
            KernelArgs::parse("console=ttyS0 hearth.root=/dev/vda quiet -- /demo/hello hearth.root=x --\n");
        assert_eq!(args.root.as_deref(), Some("/dev/vda"));
        assert_eq!(args.command, ["/demo/hello", "hearth.root=x", "--"]);
    }

    #[test]
    fn without_dashes_there_is_no_command() {
        assert_eq!(KernelArgs::parse("quiet unknown word"), KernelArgs::default());
        assert_eq!(KernelArgs::parse(""), KernelArgs::default());
        assert_eq!(command("quiet --"), Vec::<String>::new());
    }

    #[test]
    fn a_port_is_a_number_or_there_is_none() {
        assert_eq!(KernelArgs::parse("quiet hearth.mqtt=1883 -- sh").mqtt, Some(1883));
        for none in ["hearth.mqtt=0", "hearth.mqtt=65536", "hearth.mqtt=", "-- hearth.mqtt=1883"] {
            assert_eq!(KernelArgs::parse(none).mqtt, None, "{none}");
        }
    }

    #[test]
    fn the_last_root_counts() {
        let args = KernelArgs::parse("hearth.root=/dev/vda hearth.root=/dev/vdb");
        assert_eq!(args.root.as_deref(), Some("/dev/vdb"));
    }

    #[test]
    fn quotes_keep_blanks_together_as_the_kernel_does() {
        assert_eq!(command(r#"-- sh -c "echo a  b""#), ["sh", "-c", "echo a  b"]);
        assert_eq!(command(r#"-- x="a b" "y=c d""#), ["x=a b", "y=c d"]);
        assert_eq!(command(r#"-- a"b c"d"#), [r#"a"b c"d"#], "quotes inside a word stay");
        assert_eq!(command(r#"-- a=b="c d""#), [r#"a=b="c d""#], "only the first = has a value");
        assert_eq!(command(r#"-- "" end"#), ["", "end"]);
        assert_eq!(command(r#"-- "open end"#), ["open end"]);
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "\\PC*") {
            KernelArgs::parse(&line);
        }

        /// The rule for whoever writes the command line: anything without a double quote passes in double quotes.
        #[test]
        fn a_quoted_argument_arrives_as_it_was(args in proptest::collection::vec("[^\"]{0,20}", 0..5)) {
            let line: String = args.iter().map(|arg| format!(" \"{arg}\"")).collect();
            prop_assert_eq!(command(&format!("quiet --{line}")), args);
        }
    }
}

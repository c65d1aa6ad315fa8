//! The command line of `hearth-vmm`: what it may say, and what it says back.
//!
//! Duty: words into a [`Command`]. Not here: doing it.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;

use hearth_config::Strictness;
use log::LevelFilter;

pub(crate) const HELP: &str = include_str!("help.txt");

/// Where the configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// A file in the form that its name or its first character says.
    File(PathBuf),
    /// A file in Firecracker's form.
    Firecracker(PathBuf),
    Descriptor(RawFd),
    Stdin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Version,
    Run(From, Strictness),
    Check(From, Strictness),
    Doctor { json: bool },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) command: Command,
    pub(crate) level: LevelFilter,
}

pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Arguments, String> {
    use lexopt::prelude::{Long, Short, Value, ValueExt};
    let mut parser = lexopt::Parser::from_args(arguments);
    let (mut words, mut level) = (Vec::new(), LevelFilter::Warn);
    let (mut json, mut lenient, mut from) = (false, false, Vec::new());
    let message = |error: lexopt::Error| error.to_string();
    while let Some(argument) = parser.next().map_err(message)? {
        match argument {
            Short('h') | Long("help") => return Ok(Arguments { command: Command::Help, level }),
            Short('V') | Long("version") => return Ok(Arguments { command: Command::Version, level }),
            Long("json") => json = true,
            Long("lenient") => lenient = true,
            Long("config-file") => from.push(From::Firecracker(parser.value().map_err(message)?.into())),
            Long("fd") => {
                let text = parser.value().and_then(ValueExt::string).map_err(message)?;
                let number =
                    text.parse().map_err(|_| format!("--fd {text}: expected a descriptor's number"))?;
                from.push(From::Descriptor(number));
            }
            Long("log-level") => {
                let text = parser.value().and_then(ValueExt::string).map_err(message)?;
                // The one of the logger's that nobody offers: what goes wrong is always told.
                let known = text.parse().ok().filter(|level| *level != LevelFilter::Off);
                level = known.ok_or_else(|| {
                    format!("--log-level {text}: expected error, warn, info, debug or trace")
                })?;
            }
            Value(word) => words.push(word),
            other => return Err(other.unexpected().to_string()),
        }
    }
    let mut words = words.into_iter();
    let Some(verb) = words.next() else { return Err("expected a command: run, check or doctor".into()) };
    let verb = verb.display().to_string();
    from.extend(words.map(|word| if word == "-" { From::Stdin } else { From::File(word.into()) }));
    let command = match verb.as_str() {
        "run" | "check" if json => return Err(format!("{verb}: --json is for doctor")),
        "doctor" if lenient => return Err("doctor: --lenient is for run and check".into()),
        "doctor" if from.is_empty() => Command::Doctor { json },
        "run" | "check" if from.is_empty() => return Err(format!("{verb}: expected a FILE")),
        "run" | "check" | "doctor" if from.len() > 1 || verb == "doctor" => {
            return Err(format!("{verb}: too many arguments"));
        }
        "run" | "check" => {
            let strictness = if lenient { Strictness::Lenient } else { Strictness::Strict };
            let make = if verb == "run" { Command::Run } else { Command::Check };
            make(from.remove(0), strictness)
        }
        _ => return Err(format!("unknown command `{verb}`")),
    };
    Ok(Arguments { command, level })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from)).map(|arguments| arguments.command)
    }

    #[test]
    fn a_configuration_comes_from_one_place() {
        let strict = |from| Ok(Command::Run(from, Strictness::Strict));
        assert_eq!(command("run vm.toml"), strict(From::File("vm.toml".into())));
        assert_eq!(command("run -"), strict(From::Stdin));
        assert_eq!(command("run --fd 7"), strict(From::Descriptor(7)));
        assert_eq!(command("--fd=7 run"), strict(From::Descriptor(7)));
        assert_eq!(command("run --config-file a"), strict(From::Firecracker("a".into())));
        assert_eq!(command("run -- -"), strict(From::Stdin));
        assert_eq!(
            command("check --lenient vm.json"),
            Ok(Command::Check(From::File("vm.json".into()), Strictness::Lenient))
        );
        for line in ["run a b", "run - a", "run --fd 3 a", "check --fd 3 --fd 4", "run --config-file a b"] {
            let verb = if line.starts_with("run") { "run" } else { "check" };
            assert_eq!(command(line), Err(format!("{verb}: too many arguments")), "{line}");
        }
    }

    #[test]
    fn wrong_words_are_answered_in_one_line() {
        for (line, answer) in [
            ("", "expected a command: run, check or doctor"),
            ("walk", "unknown command `walk`"),
            ("run", "run: expected a FILE"),
            ("check --lenient", "check: expected a FILE"),
            ("run --json vm.toml", "run: --json is for doctor"),
            ("doctor --lenient", "doctor: --lenient is for run and check"),
            ("doctor x", "doctor: too many arguments"),
            ("doctor --fd 3", "doctor: too many arguments"),
            ("run --fd x", "--fd x: expected a descriptor's number"),
            ("run --fd", "missing argument for option '--fd'"),
            ("run --frob x", "invalid option '--frob'"),
            ("run x --log-level off", "--log-level off: expected error, warn, info, debug or trace"),
            ("run x --log-level loud", "--log-level loud: expected error, warn, info, debug or trace"),
        ] {
            assert_eq!(command(line), Err(answer.to_owned()), "{line}");
        }
    }

    #[test]
    fn help_wins_and_the_level_has_a_default() {
        assert_eq!(command("run a b --help"), Ok(Command::Help));
        assert_eq!(command("-V"), Ok(Command::Version));
        assert_eq!(command("doctor --json"), Ok(Command::Doctor { json: true }));
        let level = |line: &str| parse(line.split(' ').map(OsString::from)).map(|a| a.level);
        assert_eq!(level("doctor"), Ok(LevelFilter::Warn));
        assert_eq!(level("doctor --log-level debug"), Ok(LevelFilter::Debug));
    }

    #[test]
    fn the_help_has_no_long_lines() {
        for line in HELP.lines() {
            assert!(line.chars().count() <= 105, "{line}");
        }
    }
}

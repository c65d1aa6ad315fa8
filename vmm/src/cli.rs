//! The command line of `hearth-vmm`: what it may say, and what it says back.
//!
//! Duty: words into a [`Command`]. Not here: doing it.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use hearth_config::Strictness;
use log::LevelFilter;

pub(crate) const HELP: &str = include_str!("help.txt");

/// Seconds that a guest may take until it is warm.
const WITHIN_SECONDS: std::ops::RangeInclusive<u64> = 1..=86_400;
/// A workload that loads a model from slow flash takes a minute.
const DEFAULT_WITHIN: u64 = 300;

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

/// How a template is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Making {
    /// Where it goes.
    pub(crate) folder: PathBuf,
    /// How long the guest may take until it is warm.
    pub(crate) within: Duration,
    /// Also where there is one already that would do.
    pub(crate) force: bool,
}

/// What is to be done with snapshots, without a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Read one whole.
    Check(PathBuf),
    /// Tell what one is.
    Info(PathBuf),
    /// Make one of a full one and a difference to it.
    Merge { base: PathBuf, difference: PathBuf, out: PathBuf },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Version,
    Run(From, Strictness),
    /// From the snapshot in a folder, with its own configuration or another one.
    Restore(PathBuf, Option<From>, Strictness),
    /// A snapshot of a guest that has just become warm.
    Template(From, Making, Strictness),
    Snapshot(Work),
    Check(From, Strictness),
    Doctor {
        json: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) command: Command,
    pub(crate) level: LevelFilter,
    /// Whatever the configuration says of it.
    pub(crate) no_jail: bool,
    /// Where its jail is, if not in a network namespace of its own.
    pub(crate) network: Option<PathBuf>,
}

impl Arguments {
    /// The descriptor that the process was told of.
    pub(crate) fn given(&self) -> Option<RawFd> {
        let from = match &self.command {
            Command::Run(from, _) | Command::Template(from, ..) | Command::Check(from, _) => Some(from),
            Command::Restore(_, from, _) => from.as_ref(),
            Command::Help | Command::Version | Command::Snapshot(_) | Command::Doctor { .. } => None,
        };
        match from? {
            From::Descriptor(number) => Some(*number),
            From::File(_) | From::Firecracker(_) | From::Stdin => None,
        }
    }
}

pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Arguments, String> {
    use lexopt::prelude::{Long, Short, Value, ValueExt};
    let mut parser = lexopt::Parser::from_args(arguments);
    let (mut words, mut level) = (Vec::new(), LevelFilter::Warn);
    let (mut json, mut lenient, mut force, mut within, mut no_jail) = (false, false, false, None, false);
    let (mut from, mut network) = (Vec::new(), None);
    let message = |error: lexopt::Error| error.to_string();
    while let Some(argument) = parser.next().map_err(message)? {
        match argument {
            Short('h') | Long("help") => {
                return Ok(Arguments { command: Command::Help, level, no_jail, network });
            }
            Short('V') | Long("version") => {
                return Ok(Arguments { command: Command::Version, level, no_jail, network });
            }
            Long("json") => json = true,
            Long("lenient") => lenient = true,
            Long("no-jail" | "no-seccomp") => no_jail = true,
            Long("netns") => network = Some(parser.value().map_err(message)?.into()),
            Long("force") => force = true,
            Long("within") => {
                let text = parser.value().and_then(ValueExt::string).map_err(message)?;
                let seconds = text.parse().ok().filter(|seconds| WITHIN_SECONDS.contains(seconds));
                let expected =
                    format!("expected {} to {} seconds", WITHIN_SECONDS.start(), WITHIN_SECONDS.end());
                within = Some(seconds.ok_or_else(|| format!("--within {text}: {expected}"))?);
            }
            Long("config") => from.push(From::File(parser.value().map_err(message)?.into())),
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
    let Some(verb) = words.next() else {
        return Err("expected a command: run, check, restore, template, snapshot or doctor".into());
    };
    let verb = verb.display().to_string();
    if verb != "template" && (force || within.is_some()) {
        return Err(format!("{verb}: --force and --within are for template"));
    }
    if verb == "restore" || verb == "snapshot" {
        if json {
            return Err(format!("{verb}: --json is for doctor"));
        }
        let words = words.map(PathBuf::from).collect();
        let strictness = if lenient { Strictness::Lenient } else { Strictness::Strict };
        let command = if verb == "restore" { restore(words, from, strictness)? } else { snapshot(words)? };
        return Ok(Arguments { command, level, no_jail, network });
    }
    if verb == "template" {
        let (from, folder) = template(words.collect(), from)?;
        let strictness = if lenient { Strictness::Lenient } else { Strictness::Strict };
        let within = Duration::from_secs(within.unwrap_or(DEFAULT_WITHIN));
        let command = Command::Template(from, Making { folder, within, force }, strictness);
        return Ok(Arguments { command, level, no_jail, network });
    }
    from.extend(words.map(|word| if word == "-" { From::Stdin } else { From::File(word.into()) }));
    let command = match verb.as_str() {
        "run" | "check" if json => return Err(format!("{verb}: --json is for doctor")),
        "doctor" if lenient => return Err("doctor: --lenient is for run, check, restore and template".into()),
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
    Ok(Arguments { command, level, no_jail, network })
}

fn restore(words: Vec<PathBuf>, mut from: Vec<From>, strictness: Strictness) -> Result<Command, String> {
    match (<[PathBuf; 1]>::try_from(words), from.len()) {
        (Ok([folder]), 0 | 1) => Ok(Command::Restore(folder, from.pop(), strictness)),
        (Err(words), _) if words.is_empty() => Err("restore: expected the FOLDER of a snapshot".into()),
        _ => Err("restore: too many arguments".into()),
    }
}

fn template(mut words: Vec<OsString>, mut from: Vec<From>) -> Result<(From, PathBuf), String> {
    const EXPECTED: &str = "template: expected a FILE and the FOLDER of the template";
    let folder = words.pop().ok_or(EXPECTED)?.into();
    from.extend(
        words.into_iter().map(|word| if word == "-" { From::Stdin } else { From::File(word.into()) }),
    );
    match (from.pop(), from.is_empty()) {
        (Some(from), true) => Ok((from, folder)),
        (Some(_), false) => Err("template: too many arguments".into()),
        (None, _) => Err(EXPECTED.into()),
    }
}

fn snapshot(mut words: Vec<PathBuf>) -> Result<Command, String> {
    const EXPECTED: &str = "snapshot: expected check FOLDER, info FOLDER or merge BASE DIFFERENCE OUT";
    if words.is_empty() {
        return Err(EXPECTED.into());
    }
    let verb = words.remove(0);
    Ok(Command::Snapshot(match (verb.to_str(), words.as_mut_slice()) {
        (Some("check"), [folder]) => Work::Check(std::mem::take(folder)),
        (Some("info"), [folder]) => Work::Info(std::mem::take(folder)),
        (Some("merge"), [base, difference, out]) => Work::Merge {
            base: std::mem::take(base),
            difference: std::mem::take(difference),
            out: std::mem::take(out),
        },
        _ => return Err(EXPECTED.into()),
    }))
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
    fn a_snapshot_is_restored_with_its_own_configuration_or_another_one() {
        let restore = |from| Ok(Command::Restore("warm".into(), from, Strictness::Strict));
        assert_eq!(command("restore warm"), restore(None));
        assert_eq!(command("restore warm --config b.toml"), restore(Some(From::File("b.toml".into()))));
        assert_eq!(command("restore --fd 3 warm"), restore(Some(From::Descriptor(3))));
        let merge = Work::Merge { base: "a".into(), difference: "b".into(), out: "c".into() };
        assert_eq!(command("snapshot merge a b c"), Ok(Command::Snapshot(merge)));
    }

    #[test]
    fn a_template_is_made_of_a_file_in_a_folder() {
        let template = |from, seconds, force| {
            let making = Making { folder: "t/web".into(), within: Duration::from_secs(seconds), force };
            Ok(Command::Template(from, making, Strictness::Strict))
        };
        assert_eq!(command("template vm.toml t/web"), template(From::File("vm.toml".into()), 300, false));
        assert_eq!(command("template --fd 3 t/web --force"), template(From::Descriptor(3), 300, true));
        assert_eq!(command("template - t/web --within 9"), template(From::Stdin, 9, false));
    }

    #[test]
    fn wrong_words_are_answered_in_one_line() {
        for (line, answer) in [
            ("", "expected a command: run, check, restore, template, snapshot or doctor"),
            ("restore", "restore: expected the FOLDER of a snapshot"),
            ("restore a b", "restore: too many arguments"),
            ("restore a --config b --fd 3", "restore: too many arguments"),
            (
                "snapshot merge a b",
                "snapshot: expected check FOLDER, info FOLDER or merge BASE DIFFERENCE OUT",
            ),
            ("template", "template: expected a FILE and the FOLDER of the template"),
            ("template vm.toml", "template: expected a FILE and the FOLDER of the template"),
            ("template a b c", "template: too many arguments"),
            ("template a b --within 0", "--within 0: expected 1 to 86400 seconds"),
            ("run a --force", "run: --force and --within are for template"),
            ("walk", "unknown command `walk`"),
            ("run", "run: expected a FILE"),
            ("check --lenient", "check: expected a FILE"),
            ("run --json vm.toml", "run: --json is for doctor"),
            ("doctor --lenient", "doctor: --lenient is for run, check, restore and template"),
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

//! What a monitor says, for people and for programs.
//!
//! Pure. JSON is written by hand: it is one shape, and its strings are names.

use std::fmt::Write;

use hearth_core::VmEnd;
use hearth_wire::control::{End, Event, Figure, LogLevel, Phase, Status, Step};

use crate::ended;

/// The state of a machine, in lines.
pub(super) fn status(status: &Status) -> String {
    format!(
        "{}, up {}\nvcpus    {}\nmemory   {} MiB\nreboots  {}\nlog      {}",
        phase(status.phase),
        span(status.uptime_ms),
        status.vcpus,
        status.memory_mib,
        status.reboots,
        level(status.log_level),
    )
}

pub(super) fn status_json(status: &Status) -> String {
    format!(
        "{{\"state\":\"{}\",\"uptime_ms\":{},\"vcpus\":{},\"memory_mib\":{},\"reboots\":{},\"log_level\":\"{}\",\
         \"protocol\":{}}}",
        phase(status.phase),
        status.uptime_ms,
        status.vcpus,
        status.memory_mib,
        status.reboots,
        level(status.log_level),
        status.protocol,
    )
}

/// The numbers of one part, one a line. Zeroes are left out for a person.
pub(super) fn figures(of: &str, figures: &[Figure<'_>]) -> String {
    let mut text = String::from(of);
    for Figure { name, value } in figures.iter().filter(|figure| figure.value != 0) {
        // Writing to a string does not fail.
        let _ = write!(text, "\n  {name:<24} {value}");
    }
    text
}

/// The same as `"of":{"name":value,...}`.
pub(super) fn figures_json(of: &str, figures: &[Figure<'_>]) -> String {
    let inner: Vec<_> =
        figures.iter().map(|figure| format!("{}:{}", quoted(figure.name), figure.value)).collect();
    format!("{}:{{{}}}", quoted(of), inner.join(","))
}

pub(super) fn event(event: &Event<'_>) -> String {
    match event {
        Event::Started => "started".to_owned(),
        Event::Paused => "paused".to_owned(),
        Event::Resumed => "resumed".to_owned(),
        Event::Stopping { step: Step::Agent } => "stopping: asking its agent".to_owned(),
        Event::Stopping { step: Step::Button } => "stopping: pressing its power button".to_owned(),
        Event::Stopping { step: Step::Kill } => "stopping: not asking any more".to_owned(),
        Event::Rebooted { count } => format!("rebooted, {count} times so far"),
        Event::Ended(end) => format!("ended: {}", ending(*end)),
        Event::WatchdogExpired => "the guest's watchdog expired".to_owned(),
        Event::GuestPanic => "the guest's kernel crashed".to_owned(),
        Event::DeviceNeedsReset { device } => format!("{device}: its driver broke it and must reset it"),
        Event::BalloonChanged { mib } => format!("the guest has given back {mib} MiB"),
        Event::Identified => "the guest has an identity of its own".to_owned(),
        Event::Jailed { lacks: "" } => "jailed".to_owned(),
        Event::Jailed { lacks } => format!("jailed, but the host lacks: {lacks}"),
        Event::Lost { count } => format!("{count} events were lost, they were read too slowly"),
    }
}

pub(super) fn ending(end: End) -> String {
    let why = ended::from_code(end.status.into());
    match end.how {
        Some(step) if why == VmEnd::StoppedByHost => format!("{why} ({})", means(step)),
        _ => why.to_string(),
    }
}

const fn means(step: Step) -> &'static str {
    match step {
        Step::Agent => "its agent was asked",
        Step::Button => "its power button was pressed",
        Step::Kill => "it was not asked any more",
    }
}

const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Running => "running",
        Phase::Pausing => "pausing",
        Phase::Paused => "paused",
        Phase::Stopping => "stopping",
        Phase::Ended => "ended",
    }
}

const fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds}.{} s", ms % 1000 / 100),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_what_is_not_zero_and_programs_see_all() {
        let all = [Figure { name: "reads", value: 3 }, Figure { name: "writes", value: 0 }];
        assert_eq!(figures("disk", &all), "disk\n  reads                    3");
        assert_eq!(figures_json("a\"b\\\n", &all), r#""a\"b\\\u000a":{"reads":3,"writes":0}"#);
    }

    #[test]
    fn spans_are_as_exact_as_a_person_wants_them() {
        for (ms, text) in [
            (0, "0.0 s"),
            (59_950, "59.9 s"),
            (61_000, "1 min 1 s"),
            (3_660_000, "1 h 1 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn an_end_tells_its_reason_and_the_means() {
        assert_eq!(ending(End { status: 0, how: None }), "the guest powered off by itself");
        let told = ending(End { status: 16, how: Some(Step::Agent) });
        assert_eq!(told, "stopped by the host (its agent was asked)");
        assert!(!ending(End { status: 12, how: Some(Step::Agent) }).contains("agent"));
    }
}

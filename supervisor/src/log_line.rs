//! A line of what the daemon prints, for people or for programs.
//!
//! Duty: its fields, and its form. Not here: queues (`console`).
//! Invariant: one line each, whatever its text holds; for people it is as wide as the longest name, for programs an
//! object of JSON whose fields are only ever added to.

use hearth_config::device::LogFormat;
use serde::Serialize;

use crate::wall;

pub(crate) use hearth_config::device::LogLevel;

/// How the daemon calls itself.
pub(crate) const OWN_NAME: &str = "hearthd";
/// What a line without a kind of its own is.
const NOTE: &str = "note";
const OUTPUT: &str = "output";

#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'l> {
    level: LogLevel,
    kind: &'l str,
    workload: Option<&'l str>,
    replica: Option<&'l str>,
    /// Who says it, to people.
    who: &'l str,
    text: &'l str,
}

#[derive(Serialize)]
struct Fields<'l> {
    time: &'l str,
    level: &'static str,
    kind: &'l str,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replica: Option<&'l str>,
    text: &'l str,
}

impl<'l> Line<'l> {
    /// The daemon's own. What somebody has to look at says so in its first word.
    pub(crate) fn own(text: &'l str) -> Line<'l> {
        let level = if text.starts_with("ALARM:") { LogLevel::Alarm } else { LogLevel::Info };
        Line { level, kind: NOTE, workload: None, replica: None, who: OWN_NAME, text }
    }

    /// The same about something that has a name for programs.
    pub(crate) fn event(
        kind: &'l str,
        alarm: bool,
        workload: Option<&'l str>,
        replica: Option<&'l str>,
        text: &'l str,
    ) -> Line<'l> {
        let level = if alarm { LogLevel::Alarm } else { LogLevel::Info };
        Line { level, kind, workload, replica, who: OWN_NAME, text }
    }

    /// A replica's.
    pub(crate) fn output(replica: &'l str, text: &'l str) -> Line<'l> {
        // No workload's name has a dot.
        let workload = replica.split('.').next();
        Line { level: LogLevel::Output, kind: OUTPUT, workload, replica: Some(replica), who: replica, text }
    }

    pub(crate) fn who(&self) -> &'l str {
        self.who
    }

    pub(crate) fn level(&self) -> LogLevel {
        self.level
    }

    pub(crate) fn written(&self, format: LogFormat, width: usize) -> String {
        match format {
            LogFormat::Human => format!("{:<width$} | {}\n", self.who, self.text),
            LogFormat::Json => self.json(&wall::stamp(wall::unix_ms())),
        }
    }

    fn json(&self, time: &str) -> String {
        let Line { level, kind, workload, replica, text, .. } = *self;
        let level = match level {
            LogLevel::Output => "output",
            LogLevel::Info => "info",
            LogLevel::Alarm => "alarm",
        };
        let fields = Fields { time, level, kind, workload, replica, text };
        // Text and nothing else: it can be written.
        let mut line = serde_json::to_string(&fields).unwrap_or_default();
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_programs_is_an_object_whatever_its_text_holds() {
        let line = Line::output("web.1", "say \"hi\"\u{1b}").json("T");
        assert_eq!(
            line,
            "{\"time\":\"T\",\"level\":\"output\",\"kind\":\"output\",\"workload\":\"web\",\"replica\":\"web.1\",\
             \"text\":\"say \\\"hi\\\"\\u001b\"}\n"
        );
        let line = Line::event("quarantined", true, Some("web"), None, "ALARM: web: x").json("T");
        assert_eq!(
            line,
            "{\"time\":\"T\",\"level\":\"alarm\",\"kind\":\"quarantined\",\"workload\":\"web\",\"text\":\"ALARM: web: x\"}\n"
        );
        let line = Line::own("starting").json("T");
        assert_eq!(line, "{\"time\":\"T\",\"level\":\"info\",\"kind\":\"note\",\"text\":\"starting\"}\n");
        assert_eq!(Line::own("ALARM: watchdog: gone").level(), LogLevel::Alarm);
        assert_eq!(Line::output("web", "x").written(LogFormat::Human, 7), "web     | x\n");
    }
}

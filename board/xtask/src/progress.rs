//! What a person sees while long work runs.
//!
//! Duty: one line per task that updates in place on a terminal; plain, sparse lines elsewhere.
//! Not here: running the work (`command`). Invariant: everything goes to stderr, so that stdout stays for
//! results; work that ends within [`QUIET`] leaves no trace.

use std::{
    env, fmt,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// Work shorter than this is not worth a line.
const QUIET: Duration = Duration::from_millis(700);
/// How often a terminal line may change: readable, and no load.
const REDRAW: Duration = Duration::from_millis(200);
/// How often a log file gets a line about work that goes on.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);
/// Columns of a terminal that does not say how wide it is.
const DEFAULT_COLUMNS: usize = 80;

/// A duration for people: `412 ms`, `3.2 s`, `2 min 31 s`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elapsed(pub(crate) Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        match ms {
            0..=999 => write!(f, "{ms} ms"),
            1_000..=59_949 => write!(f, "{}.{} s", (ms + 50) / 1000, (ms + 50) % 1000 / 100),
            _ => {
                let seconds = (ms + 500) / 1000;
                write!(f, "{} min {} s", seconds / 60, seconds % 60)
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Style {
    Terminal { columns: usize },
    Plain,
}

/// Where progress goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    style: Style,
}

impl Progress {
    pub(crate) fn detect() -> Self {
        let dumb = env::var("TERM").is_ok_and(|term| term == "dumb");
        let style = if io::stderr().is_terminal() && !dumb {
            let columns = env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
            Style::Terminal { columns: columns.unwrap_or(DEFAULT_COLUMNS) }
        } else {
            Style::Plain
        };
        Self { style }
    }

    /// A line that stays.
    pub(crate) fn say(&self, line: &str) {
        eprintln!("  {line}");
    }

    /// Begins a task; `unit` is what it counts ("objects"), or "" when there is nothing to count.
    pub(crate) fn task(&self, title: &str, unit: &'static str) -> Task {
        let now = Instant::now();
        Task {
            style: self.style,
            title: title.to_owned(),
            unit,
            done: 0,
            started: now,
            drawn: None,
            open_line: false,
        }
    }
}

/// One piece of work under way.
#[derive(Debug)]
pub(crate) struct Task {
    style: Style,
    title: String,
    unit: &'static str,
    done: usize,
    started: Instant,
    drawn: Option<Instant>,
    /// A terminal line is drawn and not ended yet.
    open_line: bool,
}

impl Task {
    pub(crate) fn count(&mut self, done: usize) {
        self.done = done;
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Shows the state if it is time to; to be called a few times per second.
    pub(crate) fn refresh(&mut self) {
        let due = match (self.style, self.drawn) {
            (_, None) => self.elapsed() >= QUIET,
            (Style::Terminal { .. }, Some(last)) => last.elapsed() >= REDRAW,
            (Style::Plain, Some(last)) => last.elapsed() >= PLAIN_INTERVAL,
        };
        if !due {
            return;
        }
        match (self.style, self.drawn) {
            (Style::Terminal { columns }, _) => {
                let line = self.line(&Elapsed(self.elapsed()).to_string());
                // The last column stays free: filling it would wrap on some terminals.
                let line: String = line.chars().take(columns.saturating_sub(3)).collect();
                eprint!("\r\x1b[K  {line}");
                // Nothing to do about a terminal that is gone.
                let _ = io::stderr().flush();
                self.open_line = true;
            }
            (Style::Plain, None) => eprintln!("  {} ...", self.title),
            (Style::Plain, Some(_)) => eprintln!("  {}", self.line(&Elapsed(self.elapsed()).to_string())),
        }
        self.drawn = Some(Instant::now());
    }

    /// A line that stays, above the one that changes.
    pub(crate) fn say(&mut self, line: &str) {
        let line = format!("{}: {line}", self.title);
        self.leave(&line);
    }

    /// The work succeeded.
    pub(crate) fn done(mut self) {
        if self.drawn.is_some() {
            let end = format!("done in {}", Elapsed(self.elapsed()));
            self.close(&end);
        }
    }

    /// The work failed; says so whether or not it was shown before.
    pub(crate) fn failed(mut self) {
        let end = format!("FAILED after {}", Elapsed(self.elapsed()));
        self.close(&end);
    }

    fn close(&mut self, end: &str) {
        let line = self.line(end);
        self.leave(&line);
    }

    /// In place of the line that changes, if one is drawn.
    fn leave(&mut self, line: &str) {
        let clear = if self.open_line { "\r\x1b[K" } else { "" };
        eprintln!("{clear}  {line}");
        self.open_line = false;
    }

    fn line(&self, end: &str) -> String {
        let Task { title, unit, done, .. } = self;
        if *done == 0 { format!("{title}: {end}") } else { format!("{title}: {done} {unit}, {end}") }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.open_line {
            eprintln!();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_a_person_says_them() {
        let say = |ms| Elapsed(Duration::from_millis(ms)).to_string();
        assert_eq!(say(412), "412 ms");
        assert_eq!(say(3_240), "3.2 s");
        assert_eq!(say(9_960), "10.0 s");
        assert_eq!(say(59_960), "1 min 0 s");
        assert_eq!(say(151_000), "2 min 31 s");
    }

    #[test]
    fn a_task_shows_its_count_once_it_has_one() {
        let mut task = Progress { style: Style::Plain }.task("kernel x86_64", "objects");
        assert_eq!(task.line("3.2 s"), "kernel x86_64: 3.2 s");
        task.count(300);
        assert_eq!(task.line("3.2 s"), "kernel x86_64: 300 objects, 3.2 s");
    }
}

//! `hearthctl top`: the box as it changes.
//!
//! Duty: ask for the status and the news once in a while, draw them, leave when a key says so.
//! Not here: the table's cells (`status`). Invariant: the terminal is given back as it was, however this ends.

use std::io::{self, IsTerminal};
use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, List, Row, Table};
use thiserror::Error;

use super::status::{HEADING, rows_of};
use crate::api::client::{Address, Client, ClientError, read};
use crate::api::types::{BoxStatus, EventLine, EventTold};
use crate::wall;

/// How often the daemon is asked: as often as a person looks.
const EVERY: Duration = Duration::from_secs(1);
/// Events that are kept to be shown: more than a screen has lines.
const MAX_NEWS: usize = 100;
/// Lines for events, their frame included.
const NEWS_LINES: u16 = 10;

#[derive(Debug, Error)]
pub(super) enum TopError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("expected a terminal; hearthctl status prints the same once")]
    NoTerminal,
    #[error("the terminal cannot be used")]
    Terminal(#[source] io::Error),
}

/// All that is on the screen.
#[derive(Debug)]
struct View {
    status: BoxStatus,
    /// Oldest first.
    news: Vec<EventTold>,
    seen: u64,
    /// Why what is shown may be old.
    trouble: Option<String>,
}

pub(super) fn run(address: &Address) -> Result<(), TopError> {
    if !io::stdout().is_terminal() {
        return Err(TopError::NoTerminal);
    }
    let mut view = View { status: ask(address)?, news: Vec::new(), seen: 0, trouble: None };
    let mut terminal = ratatui::try_init().map_err(TopError::Terminal)?;
    let outcome = loop {
        view.refresh(address);
        let turn = terminal.draw(|frame| draw(frame, &view)).and_then(|_| wants_to_leave());
        match turn {
            Ok(false) => {}
            Ok(true) => break Ok(()),
            Err(error) => break Err(TopError::Terminal(error)),
        }
    };
    ratatui::restore();
    outcome
}

/// Waits for a key until it is time to look again.
fn wants_to_leave() -> io::Result<bool> {
    if !event::poll(EVERY)? {
        return Ok(false);
    }
    let Event::Key(key) = event::read()? else { return Ok(false) };
    let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    let leave = matches!(key.code, KeyCode::Char('q') | KeyCode::Esc);
    Ok(key.kind == KeyEventKind::Press && (interrupt || leave))
}

fn ask(address: &Address) -> Result<BoxStatus, ClientError> {
    read(&Client::reach(address)?.get("/v1/status")?)
}

impl View {
    /// A daemon that is away, as while it begins again, is no reason to leave.
    fn refresh(&mut self, address: &Address) {
        let news = ask(address).and_then(|status| {
            self.status = status;
            let mut lines = Vec::new();
            let path = format!("/v1/events?after={}", self.seen);
            Client::reach(address)?.lines(&path, |line| {
                lines.extend(serde_json::from_str(line).ok());
                true
            })?;
            Ok(lines)
        });
        match news {
            Ok(lines) => {
                self.trouble = None;
                lines.into_iter().for_each(|line| self.learn(line));
            }
            Err(error) => self.trouble = Some(error.to_string()),
        }
    }

    fn learn(&mut self, line: EventLine) {
        if let EventLine::Told(told) = line {
            self.seen = told.number;
            self.news.push(told);
            let surplus = self.news.len().saturating_sub(MAX_NEWS);
            self.news.drain(..surplus);
        }
    }
}

fn draw(frame: &mut Frame<'_>, view: &View) {
    let rows = [Constraint::Length(1), Constraint::Min(3), Constraint::Length(NEWS_LINES)];
    let [head, workloads, news] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(title(view), head);
    frame.render_widget(table(&view.status), workloads);
    let lines = usize::from(news.height.saturating_sub(1));
    let shown = view.news.iter().skip(view.news.len().saturating_sub(lines)).map(|told| {
        let line = Line::from(format!("{} {}", wall::stamp(told.unix_ms), told.text));
        if told.alarm { line.style(Style::new().fg(Color::Red)) } else { line }
    });
    let block = Block::new().borders(ratatui::widgets::Borders::TOP).title("events");
    frame.render_widget(List::new(shown).block(block), news);
}

fn title(view: &View) -> Line<'static> {
    let BoxStatus { version, phase, ready, of, .. } = &view.status;
    let text =
        format!("hearthd {version}, {phase}: {ready} of {of} workloads are as they should be   q: leave");
    match &view.trouble {
        Some(trouble) => {
            Line::from(format!("what follows is old: {trouble}")).style(Style::new().fg(Color::Red))
        }
        None if ready < of => Line::from(text).style(Style::new().fg(Color::Yellow)),
        None => Line::from(text).style(Style::new().fg(Color::Green)),
    }
}

fn table(status: &BoxStatus) -> Table<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let rows = status.workloads.iter().flat_map(|workload| {
        rows_of(workload, status.now_ms).into_iter().map(move |cells| {
            let color = match cells.get(2).map(String::as_str) {
                Some("ready" | "done" | "idle") => Color::Green,
                Some("failed" | "quarantined" | "lost" | "backing-off") => Color::Red,
                _ => Color::Yellow,
            };
            let cells = cells.into_iter().enumerate();
            Row::new(cells.map(move |(column, text)| {
                let style = if column == 2 { Style::new().fg(color) } else { Style::new() };
                Cell::from(text).style(style)
            }))
        })
    });
    Table::new(rows, widths(status)).header(Row::new(HEADING).style(bold))
}

/// Each column as wide as what stands in it, and the last one has the rest: it says what is the matter.
fn widths(status: &BoxStatus) -> Vec<Constraint> {
    let mut widths = HEADING.map(str::len);
    for cells in status.workloads.iter().flat_map(|workload| rows_of(workload, status.now_ms)) {
        for (width, cell) in widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let length = |width: usize| Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX));
    let all_but_last = widths.iter().take(HEADING.len() - 1).map(|width| length(*width));
    all_but_last.chain([Constraint::Fill(1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn told(number: u64, text: &str) -> EventLine {
        EventLine::Told(EventTold {
            number,
            at_ms: 0,
            unix_ms: 0,
            kind: "running".into(),
            alarm: false,
            workload: None,
            replica: None,
            text: text.to_owned(),
        })
    }

    fn view() -> View {
        let status = BoxStatus {
            version: "0.1.0".to_owned(),
            phase: "up".into(),
            now_ms: 0,
            ready: 0,
            of: 0,
            workloads: vec![super::super::status::example("clock")],
        };
        View { status, news: Vec::new(), seen: 0, trouble: None }
    }

    fn screen(view: &View) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(110, 20)).unwrap();
        terminal.draw(|frame| draw(frame, view)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let line = |row: u16| (0..110).map(|column| buffer[(column, row)].symbol()).collect::<String>();
        (0..20).map(|row| line(row).trim_end().to_owned()).collect()
    }

    #[test]
    fn the_screen_has_the_box_its_workloads_and_the_last_events() {
        let mut view = view();
        (1..=20).for_each(|number| view.learn(told(number, &format!("event {number}"))));
        let screen = screen(&view);
        assert!(screen[0].starts_with("hearthd 0.1.0, up: 0 of 0 workloads"), "{screen:#?}");
        assert!(screen[1].starts_with("NAME  KIND    STATE READY RESTARTS VERSION  SINCE"), "{screen:#?}");
        assert!(screen[2].starts_with("clock service ready 1/1   1/10     01234567 0 ms"), "{screen:#?}");
        assert_eq!(screen[19], "1970-01-01T00:00:00.000Z event 20");
        assert_eq!(screen[11], "1970-01-01T00:00:00.000Z event 12");
    }

    #[test]
    fn what_is_the_matter_is_not_cut_off() {
        let mut view = view();
        let mut web = super::super::status::example("web");
        web.state = "backing-off".into();
        web.rollout = "spreading".into();
        web.replicas[0].state = "backing-off".into();
        web.replicas[0].fault = Some("the guest panicked".to_owned());
        web.replicas[0].next_ms = Some(3000);
        view.status.workloads.push(web);
        let row = screen(&view).into_iter().find(|row| row.starts_with("web")).unwrap();
        assert!(row.ends_with(" 0 ms, after: the guest panicked, starts in 3.0 s"), "{row}");
    }

    #[test]
    fn what_may_be_old_says_so_and_events_do_not_pile_up() {
        let mut view = view();
        view.trouble = Some("hearthd cannot be reached".to_owned());
        (1..=500).for_each(|number| view.learn(told(number, "x")));
        assert_eq!(screen(&view)[0], "what follows is old: hearthd cannot be reached");
        assert_eq!((view.news.len(), view.seen), (MAX_NEWS, 500));
    }
}

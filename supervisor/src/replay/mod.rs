//! `hearthctl replay`: what happened on a box, decided once more.
//!
//! | file | what |
//! |---|---|
//! | `words.rs` | events, orders and moves as half sentences |
//!
//! Duty: run the real core over a journal, and tell what it decided at each event and why. Not here: files' bytes
//! (`store`).
//! Invariant: the core that replays is the one that decided; nothing but the journal goes into it.

mod words;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use hearth_core::{Action, Actions, Entry, Event, Moment, Said, State, Transition, WorkloadId};
use serde::Serialize;

use crate::store::{Head, Tape};
use crate::wording;

const FAULT: u8 = 2;
const FAILED: u8 = 1;

/// How it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Events that led to something.
    Brief,
    /// All of them.
    All,
    /// All of them, one JSON object each.
    Json,
}

/// One event as a program reads it.
#[derive(Serialize)]
struct Step<'s> {
    at: Moment,
    event: &'s Event,
    moves: &'s [Move],
    actions: &'s Actions,
}

/// One replica's.
#[derive(Debug, PartialEq, Serialize)]
struct Move {
    workload: String,
    #[serde(flatten)]
    transition: Transition,
}

pub fn run(file: &Path, telling: Telling) -> ExitCode {
    let read = std::fs::read(file).map_err(|error| error.to_string());
    let tape = read.and_then(|bytes| Tape::read(&bytes).map_err(|error| error.to_string()));
    let tape = match tape {
        Ok(tape) => tape,
        Err(error) => {
            eprintln!("{}: {error}", file.display());
            return ExitCode::from(FAULT);
        }
    };
    match tell(&tape, telling, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hearthctl: cannot print: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// Replays the whole tape.
pub fn tell(tape: &Tape, telling: Telling, out: &mut impl Write) -> io::Result<()> {
    let mut state = tape.start();
    let mut moves = Moves::default();
    let _ = moves.new_ones(&state);
    if telling != Telling::Json {
        let begin = match tape.head {
            Head::Seed(_) => "a daemon begins",
            Head::State(_) => "goes on from an earlier journal",
        };
        writeln!(out, "{begin}; {} events", tape.entries.len())?;
    }
    for Entry { at, event } in &tape.entries {
        // Names of workloads that go away with this event are still known before it.
        let before = names(&state);
        let actions = state.step(*at, event.clone());
        // A beat moves nothing, and most events are beats.
        let quiet =
            actions.is_empty() && matches!(event, Event::Vm { said: Said::Heartbeat, .. } | Event::Alive(_));
        let moves = if quiet { Vec::new() } else { moves.new_ones(&state) };
        let name = |id: WorkloadId| {
            let known = state.name(id).map(str::to_owned).or_else(|| before.get(&id).cloned());
            known.unwrap_or_else(|| format!("workload {}", id.number()))
        };
        if telling == Telling::Json {
            serde_json::to_writer(&mut *out, &Step { at: *at, event, moves: &moves, actions: &actions })?;
            writeln!(out)?;
            continue;
        }
        let told = actions.iter().filter(|action| **action != Action::Pet).count() + moves.len();
        if told == 0 && telling == Telling::Brief {
            continue;
        }
        writeln!(out, "{:>12}  {}", seconds(*at), words::event(event, name))?;
        for Move { workload, transition } in &moves {
            writeln!(out, "{:14}  {}", "", words::moved(workload, transition))?;
        }
        for action in &actions {
            if let Some(text) = words::action(action, name) {
                writeln!(out, "{:14}> {text}", "")?;
            }
        }
    }
    if telling != Telling::Json && tape.torn > 0 {
        writeln!(out, "{} bytes at the end are no whole event", tape.torn)?;
    }
    Ok(())
}

fn names(state: &State) -> BTreeMap<WorkloadId, String> {
    state.ids().filter_map(|id| Some((id, state.name(id)?.to_owned()))).collect()
}

/// Since the box came up.
fn seconds(at: Moment) -> String {
    format!("{}.{:03} s", at.as_millis() / 1000, at.as_millis() % 1000)
}

/// Finds out which moves are new: each workload keeps its last ones.
#[derive(Default)]
struct Moves {
    last: BTreeMap<WorkloadId, Vec<Transition>>,
}

impl Moves {
    fn new_ones(&mut self, state: &State) -> Vec<Move> {
        let mut moves = Vec::new();
        let mut last = BTreeMap::new();
        for id in state.ids() {
            let Some(explained) = state.explain(id) else { continue };
            let now = explained.transitions;
            let before = self.last.get(&id).map(Vec::as_slice).unwrap_or_default();
            // What was there before is a piece of the old list's end; the longest that fits is it.
            let known = (0..=before.len().min(now.len()))
                .rev()
                .find(|length| before[before.len() - length..] == now[..*length])
                .unwrap_or_default();
            moves.extend(now[known..].iter().map(|transition| Move {
                workload: wording::replica(&explained.name, transition.slot),
                transition: transition.clone(),
            }));
            last.insert(id, now);
        }
        self.last = last;
        moves
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_core::{Boot, Build, Config, DeviceRecord, Kind, Needs, Run, Slot, Spec, Version, VmEnd};

    fn tape() -> Tape {
        let build = Build { version: Version(1), needs: Needs::default() };
        let spec = Spec::new("web", Kind::Service { replicas: 1 }, build);
        let config = Config { workloads: vec![spec], ..Config::default() };
        let vm = WorkloadId::from_number(0).replica(Slot::FIRST).run(Run(1));
        let events = [
            Event::Begin { boot: Boot::default(), device: DeviceRecord::default(), records: Vec::new() },
            Event::Configured(Box::new(config)),
            Event::Surveyed,
            Event::Vm { vm, said: Said::AgentConnected },
            Event::Vm { vm, said: Said::WorkloadStarted },
            Event::Vm { vm, said: Said::Heartbeat },
            Event::Vm { vm, said: Said::Ended(VmEnd::Panicked) },
        ];
        let at = (10..).map(|second| Moment::from_millis(second * 1000));
        let entries = at.zip(events).map(|(at, event)| Entry { at, event }).collect();
        Tape { head: Head::Seed(7), entries, torn: 3 }
    }

    fn told(telling: Telling) -> String {
        let mut out = Vec::new();
        tell(&tape(), telling, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_decision_is_told_with_its_reason() {
        let told = told(Telling::Brief);
        for line in [
            "a daemon begins; 7 events\n",
            "    12.000 s  all machines of earlier daemons are found\n",
            "                web: waiting -> starting, since all that it waited for is there\n",
            "              > web, run 1: start it, from nothing\n",
            "    16.000 s  web, run 1: its machine ended: the guest panicked\n",
            "              > says: web: failed: the guest panicked\n",
            "3 bytes at the end are no whole event\n",
        ] {
            assert!(told.contains(line), "no {line:?} in\n{told}");
        }
        assert!(told.contains("backing-off, since"), "{told}");
        assert!(!told.contains("beats"), "{told}");
    }

    #[test]
    fn all_events_are_told_to_who_wants_them() {
        assert!(told(Telling::All).contains("    15.000 s  web, run 1: its agent beats\n"));
    }

    #[test]
    fn programs_get_a_line_for_each_event_with_moves_and_actions() {
        let told = told(Telling::Json);
        let lines: Vec<serde_json::Value> =
            told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 7);
        assert_eq!(lines[2]["at"], 12_000);
        assert_eq!(lines[2]["moves"][0]["workload"], "web");
        assert_eq!(lines[2]["moves"][0]["to"], "Starting");
        assert_eq!(lines[5]["actions"], serde_json::json!([]));
    }
}

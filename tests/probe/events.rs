//! What the box says, as it says it.
//!
//! Duty: follow the API's events, with the moment at which each came. Not here: what they mean.
//! Invariant: nothing is waited for without a deadline, and what was told before is not taken for news.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use hearth_supervisor::api::client::Client;
use hearth_supervisor::api::types::{EventLine, EventTold};

use crate::patient::{Patient, Trouble};

/// For the box to say something.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the box says from now on.
pub(crate) struct Events(Receiver<(Instant, EventTold)>);

impl Events {
    pub(crate) fn follow() -> Result<Events, Trouble> {
        let connect = || Client::connect(&Patient::state().join("api.sock"));
        let refused = |error| Trouble::of("api.sock", &error);
        let mut last = 0;
        let past = connect().map_err(refused)?.lines("/v1/events", |line| {
            last = serde_json::from_str(line).map_or(last, |line| match line {
                EventLine::Told(told) => told.number,
                EventLine::Lost { .. } => last,
            });
            true
        });
        past.map_err(refused)?;
        let client = connect().map_err(refused)?;
        let (sender, events) = mpsc::channel();
        thread::spawn(move || {
            // It ends when nobody listens any more, at the next event.
            let _ = client.lines(&format!("/v1/events?follow=true&after={last}"), |line| {
                let at = Instant::now();
                match serde_json::from_str(line) {
                    Ok(EventLine::Told(told)) => sender.send((at, told)).is_ok(),
                    _ => true,
                }
            });
        });
        Ok(Events(events))
    }

    pub(crate) fn wait(&self, wanted: impl Fn(&EventTold) -> bool) -> Result<(Instant, EventTold), Trouble> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.0.recv_timeout(left) {
                Ok((at, event)) if wanted(&event) => return Ok((at, event)),
                Ok(_) => {}
                Err(error) => return Err(Trouble::of("what was waited for was not told", &error)),
            }
        }
    }
}

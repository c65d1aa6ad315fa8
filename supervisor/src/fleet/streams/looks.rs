//! What the fleet looks at: a console, a log.
//!
//! Duty: what is there, and of a console what comes for a while. Not here: keeping either (`screens`, `logs`).
//! Invariant: of a log that is larger than may be told, the newest lines are.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use smol::Timer;
use smol::future::or;

use super::output::{Channel, Output, PIECE};
use super::{Running, words};
use crate::api::server::reach;
use crate::logs::line;
use crate::logs::tail::{Piece, Tail};

/// For lines that wait for the disk.
const LAST_LINES: Duration = Duration::from_secs(1);

impl Running<'_> {
    pub(super) async fn console(&self, follow: Duration, output: &mut Output) -> Result<(), String> {
        let (screens, target) = (&self.door.screens, self.stream.target.clone());
        // One that has shown something can be looked at although its machine is gone.
        let replica = if screens.has(&target) {
            target
        } else {
            reach(self.door, target).await.map_err(|reply| words(&reply))?.replica
        };
        // Before the first look: what is shown between a look and a wait rings.
        let bell = screens.bell(&replica);
        let mut over = Timer::after(follow);
        let mut after = 0;
        loop {
            while let Some(piece) = screens.behind(&replica, after, PIECE) {
                // What was before somebody came is not lost to him.
                output.lost(if after > 0 { piece.lost } else { 0 });
                after = piece.last;
                self.speaker.tell_all(output.take(Channel::Out, &piece.bytes)).await;
            }
            self.speaker.tell_all(output.flush()).await;
            let rung = async { bell.recv().await.is_ok() };
            let late = async {
                (&mut over).await;
                false
            };
            if !or(late, rung).await {
                return Ok(());
            }
        }
    }

    pub(super) async fn log(&self, lines: usize, output: &mut Output) -> Result<(), String> {
        let Some(logs) = self.door.logs.clone() else {
            return Err("no log files are kept on this box".to_owned());
        };
        let (workload, target) = (self.stream.workload().to_owned(), self.stream.target.clone());
        let most = self.stream.most_bytes;
        let read = smol::unblock(move || {
            logs.flush(LAST_LINES);
            let replica = (target != workload).then_some(target.as_str());
            last(logs.folder(), &workload, replica, lines, most)
        });
        let last = read.await.map_err(|error| format!("its log cannot be read: {error}"))?;
        output.lost(last.dropped);
        for line in last.lines {
            self.speaker.tell_all(output.take(Channel::Out, &line)).await;
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Last {
    lines: VecDeque<Vec<u8>>,
    bytes: u64,
    dropped: u64,
}

impl Last {
    fn push(&mut self, line: &[u8], most: u64) {
        let length = |line: &[u8]| u64::try_from(line.len()).unwrap_or(u64::MAX);
        self.bytes += length(line);
        self.lines.push_back(line.to_vec());
        while self.bytes > most {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.bytes -= length(&oldest);
            self.dropped += length(&oldest);
        }
    }
}

/// The last lines of a log, or of what one replica said among them.
fn last(
    folder: &Path,
    workload: &str,
    replica: Option<&str>,
    lines: usize,
    most: u64,
) -> std::io::Result<Last> {
    let mut tail = Tail::open(folder, workload, lines)?;
    let mut last = Last::default();
    loop {
        match tail.next()? {
            Piece::Lines(bytes) => {
                let is_its = |line: &&[u8]| {
                    let text = String::from_utf8_lossy(line);
                    replica.is_none_or(|name| line::parse(&text).is_some_and(|(_, of, _)| of == name))
                };
                let lines = bytes.split_inclusive(|byte| *byte == b'\n').filter(is_its);
                lines.for_each(|line| last.push(line, most));
            }
            // What went while it was read was older than what is told.
            Piece::Lost => {}
            Piece::End => return Ok(last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_told_and_what_is_too_much_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let line = |number: u32, replica: &str| format!("2026-11-21T19:36:06.123Z {replica} {number}\n");
        let text: String = (10..20).map(|number| line(number, "web") + &line(number, "web.1")).collect();
        std::fs::write(folder.path().join("web.log"), text).unwrap();
        let told = |replica, lines, most| {
            let last = last(folder.path(), "web", replica, lines, most).unwrap();
            let text: Vec<u8> = last.lines.into_iter().flatten().collect();
            (String::from_utf8(text).unwrap(), last.dropped)
        };
        assert_eq!(told(None, 2, 1000), (line(19, "web") + &line(19, "web.1"), 0));
        assert_eq!(told(Some("web.1"), 4, 1000), (line(18, "web.1") + &line(19, "web.1"), 0));
        let (text, dropped) = told(None, 100, 40);
        assert_eq!(text, line(19, "web.1"));
        assert_eq!(dropped, 9 * 66 + 32);
        assert_eq!(told(None, 100, 0).0, "");
        assert_eq!(last(folder.path(), "none", None, 9, 9).unwrap().lines.len(), 0);
    }
}

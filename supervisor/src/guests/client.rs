//! One client in a guest, behind its agent's pipe.
//!
//! Duty: bytes in and out, deadlines, messages to the fleet's thread. Not here: what is answered (`Session`).
//! Invariants: what waits in either direction is bounded; who does not read is not read from. Between two reads everybody
//! else has a turn.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::time::Duration;

use hearth_core::Moment;
use hearth_fleet::guest::bytes::{Buf, BytesMut};
use hearth_fleet::guest::{Action, Closing, Event, Intake, Post, Session};
use smol::Timer;
use smol::future::{or, race, yield_now};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::unix::UnixStream;

use super::{Answer, Said, Seat};
use crate::clock;

/// Bytes that wait to be written; with more, nothing is read and no command is taken.
const MAX_OUT: usize = 32 << 10;
/// For a client to take something, and for its last answer.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
const LAST_PATIENCE: Duration = Duration::from_secs(2);
/// Bytes per read.
const READ_BYTES: usize = 4096;
/// Bytes of one packet that is sent: a command and its topic.
const MAX_SENT: usize = 64 << 10;

enum Input {
    Read(io::Result<usize>),
    Written(io::Result<usize>),
    Answer(Answer),
    Said(Said),
    Time,
}

/// Until it hangs up or is hung up on.
pub(super) async fn serve(stream: UnixStream, seat: Seat) {
    let session = Session::new(clock::now());
    let talk = Talk {
        stream,
        seat,
        session,
        intake: Intake::default(),
        out: BytesMut::new(),
        closing: None,
        stuck: None,
    };
    talk.run().await;
}

struct Talk {
    stream: UnixStream,
    seat: Seat,
    session: Session,
    intake: Intake,
    out: BytesMut,
    closing: Option<Closing>,
    /// When it is given up if it takes nothing.
    stuck: Option<Moment>,
}

impl Talk {
    async fn run(mut self) {
        let mut buffer = [0; READ_BYTES];
        loop {
            self.take_packets().await;
            if self.closing.is_some() && self.out.is_empty() {
                return;
            }
            self.look_at_patience();
            yield_now().await;
            match self.next(&mut buffer).await {
                Input::Read(Ok(length @ 1..)) => self.intake.push(&buffer[..length]),
                Input::Read(_) => {
                    self.step(Event::Gone).await;
                    // Nobody reads what is left.
                    return;
                }
                Input::Written(Ok(length @ 1..)) => {
                    self.out.advance(length);
                    self.stuck = None;
                }
                Input::Written(_) => {
                    self.step(Event::Gone).await;
                    return;
                }
                Input::Answer(Answer { id, kept }) => {
                    self.step(if kept { Event::Kept(id) } else { Event::Lost(id) }).await;
                }
                Input::Said(Said { topic, payload }) => self.step(Event::Said { topic, payload }).await,
                Input::Time if self.stuck.is_some_and(|stuck| stuck <= clock::now()) => {
                    self.step(Event::Gone).await;
                    return;
                }
                Input::Time => self.step(Event::Tick).await,
            }
        }
    }

    fn has_room(&self) -> bool {
        self.closing.is_none() && self.out.len() < MAX_OUT
    }

    async fn take_packets(&mut self) {
        while self.has_room() && self.session.wants_packet() {
            match self.intake.take() {
                Ok(Some(packet)) => self.step(Event::Packet(packet)).await,
                Ok(None) => return,
                Err(_) => self.step(Event::Nonsense).await,
            }
        }
    }

    fn look_at_patience(&mut self) {
        if self.out.is_empty() {
            self.stuck = None;
        } else {
            let patience = if self.closing.is_some() { LAST_PATIENCE } else { WRITE_PATIENCE };
            let until = clock::now().after(patience);
            self.stuck = Some(self.stuck.map_or(until, |stuck| stuck.min(until)));
        }
    }

    async fn next(&mut self, buffer: &mut [u8; READ_BYTES]) -> Input {
        let (mut reader, mut writer) = (self.stream.clone(), self.stream.clone());
        let (has_room, wants) = (self.has_room(), self.session.wants_packet());
        let room = self.intake.room().min(READ_BYTES);
        let read = async {
            if has_room && wants && room > 0 {
                Input::Read(reader.read(&mut buffer[..room]).await)
            } else {
                pending().await
            }
        };
        let out = &self.out;
        let write =
            async { if out.is_empty() { pending().await } else { Input::Written(writer.write(out).await) } };
        let seat = &self.seat;
        let answer = async {
            match seat.answers.recv().await {
                Ok(answer) => Input::Answer(answer),
                Err(_) => pending().await,
            }
        };
        let said = async {
            if !has_room {
                return pending().await;
            }
            match seat.said.recv().await {
                Ok(said) => Input::Said(said),
                Err(_) => pending().await,
            }
        };
        let due = [self.session.deadline(), self.stuck].into_iter().flatten().min();
        let time = async {
            match due {
                // A millisecond more: moments are cut, and a timer that fires early would only fire again.
                Some(due) => {
                    Timer::after(due.since(clock::now()) + Duration::from_millis(1)).await;
                    Input::Time
                }
                None => pending().await,
            }
        };
        or(time, race(or(answer, said), race(write, read))).await
    }

    async fn step(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let (session, seat) = (&mut self.session, &self.seat);
            let actions = seat.guests.on_account(&seat.workload, &seat.replica, |account| {
                session.step(clock::now(), account, event)
            });
            for action in actions {
                match action {
                    Action::Send(packet) => {
                        // Of packets that are made here, none is as large.
                        let _ = packet.write(&mut self.out, MAX_SENT);
                    }
                    Action::Close(closing) => self.closing = Some(closing),
                    Action::Post { topic, payload, class, unkept } => {
                        let post = Post {
                            workload: self.seat.workload.to_string(),
                            topic,
                            payload: payload.to_vec(),
                            class,
                            ticket: unkept.map(|id| self.seat.ticket(id)),
                        };
                        let taken = self.post(post).await;
                        // Where nobody could ever be told, a broker without subscribers would drop it, too.
                        events.extend(unkept.and_then(|id| match taken {
                            Some(true) => None,
                            Some(false) => Some(Event::Lost(id)),
                            None => Some(Event::Kept(id)),
                        }));
                    }
                }
            }
        }
    }

    /// Whether the fleet's thread has it; none: there is none.
    async fn post(&self, post: Post) -> Option<bool> {
        let outlet = self.seat.guests.0.outlet.borrow().clone()?;
        let sent = outlet.posts.send(post).await.is_ok();
        let _ = outlet.nudge.try_send(());
        Some(sent)
    }
}

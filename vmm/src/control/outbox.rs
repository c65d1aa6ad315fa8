//! Bytes on their way to a client that may read slowly.
//!
//! Duty: take whole frames or none, and write what the stream takes. Invariant: never more than
//! [`CAPACITY`] bytes, of which events leave [`RESERVE`] to answers: a client that subscribed and does not
//! read still gets the answer to what it asks.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};

/// Bytes that wait at most. All statistics of the largest machine are a quarter of it.
pub(super) const CAPACITY: usize = 64 << 10;
/// Bytes of it that events may not fill.
const RESERVE: usize = 48 << 10;

/// What a frame is, for the question whether there is room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Answer,
    Event,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: VecDeque<u8>,
}

impl Outbox {
    /// Takes `frame`, if there is room for all of it.
    #[must_use]
    pub(super) fn put(&mut self, kind: Kind, frame: &[u8]) -> bool {
        let room = match kind {
            Kind::Answer => CAPACITY,
            Kind::Event => CAPACITY - RESERVE,
        };
        let fits = self.bytes.len() + frame.len() <= room;
        if fits {
            self.bytes.extend(frame);
        }
        fits
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes until nothing is left or the stream takes no more.
    pub(super) fn write_to(&mut self, stream: &mut impl Write) -> io::Result<()> {
        while !self.bytes.is_empty() {
            let (front, _) = self.bytes.as_slices();
            match stream.write(front) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.bytes.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // A burst is over; its memory is not kept for the next one.
        self.bytes = VecDeque::new();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_leave_room_for_answers_and_neither_passes_the_bound() {
        let mut outbox = Outbox::default();
        let frame = [7; 1000];
        let events = (0..1000).take_while(|_| outbox.put(Kind::Event, &frame)).count();
        assert_eq!(events, (CAPACITY - RESERVE) / 1000);
        let answers = (0..1000).take_while(|_| outbox.put(Kind::Answer, &frame)).count();
        assert_eq!(events + answers, CAPACITY / 1000);
    }

    #[test]
    fn a_stream_that_takes_a_little_at_a_time_gets_all_in_order() {
        struct Sips(Vec<u8>, bool);
        impl Write for Sips {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 = !self.1;
                if self.1 {
                    return Err(ErrorKind::WouldBlock.into());
                }
                self.0.push(bytes[0]);
                Ok(1)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut outbox = Outbox::default();
        assert!(outbox.put(Kind::Answer, b"abc") && outbox.put(Kind::Event, b"de"));
        let mut sips = Sips(Vec::new(), false);
        while !outbox.is_empty() {
            outbox.write_to(&mut sips).unwrap();
        }
        assert_eq!(sips.0, b"abcde");
    }
}

//! Frames between the daemon, agents in guests and programs that people run there.

use hearth_wire::exec::{FromProgram, ToProgram};
use hearth_wire::{Decoder, FromAgent, HEADER_LEN, MAX_FRAME, MAX_PAYLOAD, Message, ToAgent, encode};

use crate::frames;
use crate::wild::Wild;

/// Payload that is the beginning of some message, as a rule.
fn payload(wild: &mut Wild<'_>) -> Vec<u8> {
    let mut bytes = vec![wild.byte() % 11];
    for _ in 0..wild.index(8) {
        match wild.byte() % 4 {
            // A number, a flag, a place of an enumeration.
            0 => bytes.push(wild.byte() % 5),
            1 => bytes.extend(postcard::to_allocvec(&wild.odd()).unwrap_or_default()),
            // A text or list with its length.
            2 => {
                let text = wild.bytes(100);
                bytes.extend(postcard::to_allocvec(&text).unwrap_or_default());
            }
            _ => bytes.extend(wild.bytes(40)),
        }
    }
    if wild.one_in(12) {
        bytes.resize(wild.index(MAX_PAYLOAD + 40), 0xee);
    }
    bytes
}

/// What one peer hears in a stream.
fn hear<M: Message + PartialEq + std::fmt::Debug>(stream: &[u8], wild: &mut Wild<'_>) {
    let mut decoder = Decoder::new();
    let mut left = stream;
    while !left.is_empty() {
        let piece = 1 + wild.index(left.len().min(5000));
        let (mut here, rest) = left.split_at(piece.min(left.len()));
        left = rest;
        while !here.is_empty() {
            let before = here.len();
            here = decoder.push(here);
            let mut heard = 0;
            loop {
                match decoder.pop::<M>() {
                    Ok(Some(message)) => {
                        heard += 1;
                        say_again(&message);
                    }
                    Ok(None) => break,
                    Err(fault) => {
                        assert_eq!(decoder.pop::<M>(), Err(fault), "a stream that broke stays broken");
                        assert_eq!(decoder.finish(), Err(fault));
                        return;
                    }
                }
            }
            assert!(here.len() < before || heard > 0, "each round gets on");
        }
    }
    let _ = decoder.finish();
}

/// What was heard can be said, and is heard as the same.
fn say_again<M: Message + PartialEq + std::fmt::Debug>(message: &M) {
    let mut room = [0; MAX_FRAME];
    let frame = encode(message, &mut room).expect("a message that was heard fits a frame");
    assert!((HEADER_LEN..=MAX_FRAME).contains(&frame.len()));
    let mut decoder = Decoder::new();
    assert!(decoder.push(frame).is_empty());
    assert_eq!(decoder.pop::<M>().as_ref(), Ok(&Some(message.clone_by(frame))));
}

/// A message is not cloned by every type: the frame it came in is read once more.
trait CloneBy: Sized {
    fn clone_by(&self, frame: &[u8]) -> Self;
}

impl<M: Message> CloneBy for M {
    fn clone_by(&self, frame: &[u8]) -> Self {
        postcard::from_bytes(&frame[HEADER_LEN..]).expect("it was just read")
    }
}

/// The target.
pub fn run(data: &[u8]) {
    let mut wild = Wild::new(data);
    let who = wild.byte();
    let mut stream = Vec::new();
    for _ in 0..=wild.index(6) {
        stream.extend(frames::framed(&payload(&mut wild)));
    }
    if wild.one_in(5) {
        frames::damage(&mut stream, &mut wild);
    }
    match who % 4 {
        0 => hear::<FromAgent>(&stream, &mut wild),
        1 => hear::<ToAgent>(&stream, &mut wild),
        2 => hear::<FromProgram>(&stream, &mut wild),
        _ => hear::<ToProgram>(&stream, &mut wild),
    }
}

/// The frames of a guest that starts its workload.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = crate::noises(4, 200);
    // Hello, Started, Heartbeat and Output, said as choices: who listens, how many frames, then their payloads.
    seeds.push(vec![0, 3, 0, 3, 0, 1, 2, 3, b'0', b'.', b'1', 1, 1, 0, 7, 2, 2, 0, 1, 0, 1]);
    seeds
}

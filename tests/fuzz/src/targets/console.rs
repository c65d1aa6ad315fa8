//! The console between a guest that floods it and a host that reads when it likes.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_vmm::output::{OUTPUT_BUFFER, Output};
use hearth_vmm::virtio::console::{Console, Input};
use hearth_vmm::virtio::rings::Writer;

use crate::guest::{self, Guest, Piece, Play};
use crate::wild::Wild;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

#[derive(Debug, Clone, Default)]
struct Keys(Arc<Mutex<VecDeque<u8>>>);

impl Keys {
    fn typed(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Input for Keys {
    fn read(&mut self, into: &mut Writer<'_>) -> io::Result<usize> {
        let mut typed = self.typed();
        assert!(into.remaining() > 0, "input is read only for a buffer that takes some");
        let bytes: Vec<u8> = typed.iter().copied().take(into.remaining().min(512)).collect();
        if bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        typed.drain(..bytes.len());
        Ok(into.write(&bytes))
    }

    fn wanted(&self) {}
}

struct Screen {
    keys: Keys,
    output: Output,
}

impl Play for Screen {
    type Model = Console;

    fn model(&mut self) -> Console {
        Console::new(self.output.clone(), Some(Box::new(self.keys.clone())))
    }

    fn request(&mut self, queue: usize, wild: &mut Wild<'_>) -> Vec<Piece> {
        match queue {
            RECEIVE => vec![Piece::In(if wild.one_in(6) { wild.odd32() & 0xf_ffff } else { 64 })],
            // Large ones cost an input nothing: it is whatever lies in RAM.
            _ if wild.one_in(5) => vec![Piece::Out(vec![b'x'; wild.index(200_000)])],
            _ => vec![Piece::Out(wild.bytes(100))],
        }
    }

    fn host(&mut self, guest: &mut Guest<Console>, wild: &mut Wild<'_>) {
        assert!(self.output.waiting() <= OUTPUT_BUFFER, "output is bounded");
        if wild.one_in(2) {
            self.output.take(wild.index(100_000), &mut Vec::new());
        } else {
            self.keys.typed().extend(wild.bytes(300));
            let now = guest.now;
            let _ = guest.transport.work(|console| console.input_ready(now));
        }
    }

    fn prove(&mut self, guest: &mut Guest<Console>) {
        assert!(self.output.waiting() <= OUTPUT_BUFFER, "output is bounded");
        self.output.take(usize::MAX, &mut Vec::new());
        self.keys.typed().clear();
        assert!(guest.set_up(guest.offered_features()));
        guest.offer(TRANSMIT, &[Piece::Out(b"printed".to_vec())]);
        guest.turn(TRANSMIT);
        let mut printed = Vec::new();
        self.output.take(usize::MAX, &mut printed);
        assert_eq!(printed, b"printed");
        let room = guest.offer(RECEIVE, &[Piece::In(16)]);
        guest.turn(RECEIVE);
        self.keys.typed().extend(b"typed");
        let now = guest.now;
        let _ = guest.transport.work(|console| console.input_ready(now));
        assert_eq!(guest.used(RECEIVE), [5]);
        assert_eq!(guest.get(room, 5), b"typed");
    }
}

/// The target.
pub fn run(data: &[u8]) {
    let Ok(output) = Output::new() else { return };
    guest::play(Screen { keys: Keys::default(), output }, &mut Wild::new(data));
}

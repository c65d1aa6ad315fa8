//! The console's end of what is typed to the monitor.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::device::{Console, Input};
use crate::keyboard::{Stdin, Typed};
use crate::virtio::device::Backlog;
use crate::virtio::mmio::Transport;
use crate::virtio::rings::Writer;

/// Bytes that one read takes: a line that a person types, a piece of what a program does.
const PIECE: usize = 512;

impl Input for Stdin {
    fn read(&mut self, into: &mut Writer<'_>) -> io::Result<usize> {
        let mut piece = [0; PIECE];
        let room = into.remaining().min(PIECE);
        let count = Self::read(self, piece.get_mut(..room).unwrap_or_default())?;
        Ok(into.write(piece.get(..count).unwrap_or_default()))
    }

    fn wanted(&self) {
        Self::wanted(self);
    }
}

impl Typed for Arc<Transport<Console>> {
    fn name(&self) -> &str {
        Transport::name(self)
    }

    fn take(&self) -> bool {
        let now = Instant::now();
        // What a rate limit could hold back is output only.
        self.work(|console| console.input_ready(now)) == Backlog::More
    }
}

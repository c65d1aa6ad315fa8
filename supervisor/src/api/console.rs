//! A guest's console, live.
//!
//! Duty: which screen is meant, and its bytes into a stream. Not here: keeping them (`screens`).
//! Invariant: as for all streams: who reads slowly misses bytes, is told how many, and holds nobody up.

use smol::future::or;
use smol::io::{AsyncRead, AsyncWrite};

use super::server::{Client, Door, MAX_STREAMS, Place, busy, reach};
use super::{Reply, http};

const BYTES: &str = "application/octet-stream";
/// Of one piece of the stream.
const PIECE_BYTES: usize = 4096;

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Until the client is gone, or, if it does not follow, until all is told; or why not.
    pub(super) async fn console_of(
        &mut self,
        door: &Door,
        name: String,
        follow: bool,
    ) -> Option<Option<Reply>> {
        // One that has shown something can be looked at although its machine is gone.
        let replica = if door.screens.has(&name) {
            name
        } else {
            match reach(door, name).await {
                Ok(reached) => reached.replica,
                Err(reply) => return Some(Some(reply)),
            }
        };
        let Some(_place) = Place::take(&door.places.streams, MAX_STREAMS) else {
            return Some(Some(busy(format!("expected at most {MAX_STREAMS} streams"))));
        };
        // Before the first look: what is shown between a look and a wait rings.
        let bell = door.screens.bell(&replica);
        self.write(&http::stream_head(BYTES)).await?;
        let mut after = 0;
        loop {
            while let Some(piece) = door.screens.behind(&replica, after, PIECE_BYTES) {
                // What was before somebody came is not lost to him.
                if piece.lost > 0 && after > 0 {
                    let note = format!("\r\n({} bytes lost, the reader is too slow)\r\n", piece.lost);
                    self.write(&http::chunk(note.as_bytes())).await?;
                }
                self.write(&http::chunk(&piece.bytes)).await?;
                after = piece.last;
            }
            if !follow {
                self.write(&http::chunk(b"")).await?;
                return Some(None);
            }
            let rung = async { bell.recv().await.ok() };
            or(rung, self.gone()).await?;
        }
    }
}

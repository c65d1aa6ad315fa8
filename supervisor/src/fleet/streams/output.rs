//! Bytes into numbered pieces.
//!
//! Duty: order, sizes, the bound on all of them together, the tally. Pure. Not here: where bytes come from and go.
//! Invariant: a piece is of one channel; numbers have no holes; what there is no room for is counted.

use hearth_fleet::tree::{Kind, News, Tally};

/// Bytes of a piece: a few for each second of a slow link, and far below what brokers take.
pub(super) const PIECE: usize = 8 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Out,
    Err,
}

#[derive(Debug)]
pub(super) struct Output {
    /// The command's, below the box's own.
    place: String,
    most: u64,
    channel: Channel,
    held: Vec<u8>,
    tally: Tally,
}

impl Output {
    pub(super) fn new(kind: Kind, id: &str, most: u64) -> Output {
        let place = format!("cmd/{}/{id}", kind.name());
        Output { place, most, channel: Channel::Out, held: Vec::new(), tally: Tally::default() }
    }

    /// The pieces that are full by now.
    pub(super) fn take(&mut self, channel: Channel, bytes: &[u8]) -> Vec<News> {
        let mut full = Vec::new();
        if channel != self.channel {
            full.extend(self.flush());
            self.channel = channel;
        }
        let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let room = self.most.saturating_sub(self.tally.bytes).saturating_sub(length(&self.held));
        let taken = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let (mut taken, rest) = bytes.split_at(taken);
        self.lost(length(rest));
        while self.held.len() + taken.len() >= PIECE {
            let (now, later) = taken.split_at(PIECE - self.held.len());
            self.held.extend_from_slice(now);
            full.extend(self.flush());
            taken = later;
        }
        self.held.extend_from_slice(taken);
        full
    }

    /// What others dropped before.
    pub(super) fn lost(&mut self, bytes: u64) {
        self.tally.dropped = self.tally.dropped.saturating_add(bytes);
    }

    pub(super) fn is_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// What is held, however small.
    pub(super) fn flush(&mut self) -> Option<News> {
        if self.held.is_empty() {
            return None;
        }
        let payload = std::mem::take(&mut self.held);
        let channel = match self.channel {
            Channel::Out => "out",
            Channel::Err => "err",
        };
        let place = format!("{}/{channel}/{}", self.place, self.tally.chunks);
        self.tally.chunks = self.tally.chunks.saturating_add(1);
        self.tally.bytes = self.tally.bytes.saturating_add(u64::try_from(payload.len()).unwrap_or(u64::MAX));
        Some(News::Piece { place, payload })
    }

    /// The last word of the output, behind all pieces.
    pub(super) fn end(&self, exit: Option<u8>) -> (News, Tally) {
        let tally = Tally { exit, ..self.tally };
        let place = format!("{}/end/{}", self.place, tally.chunks);
        let payload = serde_json::Value::Object(tally.to_json()).to_string().into_bytes();
        (News::Piece { place, payload }, tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pieces: impl IntoIterator<Item = News>) -> Vec<(String, usize)> {
        let told = |news| match news {
            News::Piece { place, payload } => (place, payload.len()),
            other => panic!("{other:?}"),
        };
        pieces.into_iter().map(told).collect()
    }

    #[test]
    fn pieces_are_of_one_channel_numbered_in_order_and_never_larger_than_they_may_be() {
        let mut output = Output::new(Kind::Exec, "7", u64::MAX);
        assert!(output.take(Channel::Out, b"ab").is_empty() && output.is_held());
        assert_eq!(told(output.take(Channel::Err, b"c")), [("cmd/exec/7/out/0".to_owned(), 2)]);
        let large = vec![b'x'; 2 * PIECE];
        let full = told(output.take(Channel::Err, &large));
        assert_eq!(full, [("cmd/exec/7/err/1".to_owned(), PIECE), ("cmd/exec/7/err/2".to_owned(), PIECE)]);
        assert_eq!(told(output.flush()), [("cmd/exec/7/err/3".to_owned(), 1)]);
        assert_eq!(told(output.flush()), []);
        let (mark, tally) = output.end(Some(0));
        let News::Piece { place, payload } = mark else { panic!("{mark:?}") };
        let bytes = u64::try_from(2 * PIECE + 3).unwrap();
        assert_eq!(tally, Tally { chunks: 4, bytes, dropped: 0, exit: Some(0) });
        assert_eq!(place, "cmd/exec/7/end/4");
        let text = String::from_utf8(payload).unwrap();
        assert_eq!(text, format!(r#"{{"bytes":{bytes},"chunks":4,"dropped":0,"exit":0}}"#));
    }

    #[test]
    fn a_flood_is_cut_at_its_bound_and_the_rest_is_counted() {
        let mut output = Output::new(Kind::Console, "7", 10);
        assert!(output.take(Channel::Out, b"0123").is_empty());
        assert!(output.take(Channel::Out, b"456789abc").is_empty());
        assert!(output.take(Channel::Out, &[0; 1000]).is_empty());
        output.lost(5);
        assert_eq!(told(output.flush()), [("cmd/console/7/out/0".to_owned(), 10)]);
        assert!(output.take(Channel::Out, b"x").is_empty() && !output.is_held());
        assert_eq!(output.end(None).1, Tally { chunks: 1, bytes: 10, dropped: 1009, exit: None });
    }
}

//! How a machine ended that is not our child.
//!
//! Duty: listen to its monitor's control socket until it says so. Not here: asking anything.
//! Invariant: it waits for nothing but the monitor, whose connection ends with it.

use std::path::Path;

use hearth_wire::control::{Event, Order, Reply, Request, decode_reply, encode_request};
use hearth_wire::{Decoder, MAX_FRAME};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::unix::UnixStream;

/// Bytes per read.
const READ_BYTES: usize = 1024;

/// The exit status that the monitor announced, if it did before it was gone.
pub(crate) async fn last_word(socket: &Path) -> Option<u8> {
    let mut stream = UnixStream::connect(socket).await.ok()?;
    let mut frame = [0; MAX_FRAME];
    let frame = encode_request(&Request { id: 1, order: Order::Subscribe }, &mut frame).ok()?;
    stream.write_all(frame).await.ok()?;
    let mut decoder = Box::<Decoder>::default();
    let mut buffer = [0; READ_BYTES];
    loop {
        let length = stream.read(&mut buffer).await.ok().filter(|length| *length > 0)?;
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            rest = decoder.push(rest);
            while let Some(payload) = decoder.pop_payload().ok()? {
                if let Some(Reply::Event(Event::Ended(end))) = decode_reply(payload) {
                    return Some(end.status);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_wire::control::{End, encode_reply};
    use smol::net::unix::UnixListener;

    fn heard(replies: &[Reply<'_>]) -> Option<u8> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let monitor = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 64];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            for reply in replies {
                let mut frame = [0; MAX_FRAME];
                stream.write_all(encode_reply(reply, &mut frame).unwrap()).await.unwrap();
            }
        };
        smol::block_on(smol::future::zip(monitor, last_word(&socket))).1
    }

    #[test]
    fn the_announced_status_is_heard_among_other_events() {
        let ended = Reply::Event(Event::Ended(End { status: 12, how: None }));
        assert_eq!(heard(&[Reply::Event(Event::Started), Reply::Event(Event::GuestPanic), ended]), Some(12));
    }

    #[test]
    fn a_monitor_that_just_goes_leaves_no_status() {
        assert_eq!(heard(&[Reply::Event(Event::Started)]), None);
        assert_eq!(smol::block_on(last_word(Path::new("/nonexistent/control.sock"))), None);
    }
}

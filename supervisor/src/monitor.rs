//! Single requests to a monitor, on its control socket.
//!
//! Duty: ask, and hand the answer on. Not here: what is asked, and why; people's verbs (`vm`).
//! Invariant: whatever a monitor says or does not say, it costs one frame of memory and the patience of who asks.

use std::io;
use std::path::Path;
use std::time::Duration;

use hearth_wire::control::{Answer, Order, Reply, Request, decode_reply, encode_request};
use hearth_wire::{Decoder, FrameFault, MAX_FRAME};
use smol::Timer;
use smol::future::or;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::unix::UnixStream;
use thiserror::Error;

/// For a request that is carried out at once: a monitor answers then, or is stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes per read.
const READ_BYTES: usize = 1024;
/// Of the only request on its connection.
const NUMBER: u32 = 1;

#[derive(Debug, Error)]
pub(crate) enum MonitorError {
    #[error("its monitor cannot be talked to")]
    Stream(#[from] io::Error),
    #[error("its monitor sent a bad frame")]
    Frame(#[from] FrameFault),
    #[error("its monitor refused: {0}")]
    Refused(String),
    #[error("its monitor did not answer in time")]
    Late,
}

/// Asks for `order`, and shows every part of the answer to `look`.
pub(crate) async fn ask(
    socket: &Path,
    order: Order,
    patience: Duration,
    look: impl FnMut(&Answer<'_>),
) -> Result<(), MonitorError> {
    let late = async {
        Timer::after(patience).await;
        Err(MonitorError::Late)
    };
    or(answered(socket, order, look), late).await
}

async fn answered(
    socket: &Path,
    order: Order,
    mut look: impl FnMut(&Answer<'_>),
) -> Result<(), MonitorError> {
    let mut stream = UnixStream::connect(socket).await?;
    let mut frame = Box::new([0; MAX_FRAME]);
    let request = encode_request(&Request { id: NUMBER, order }, frame.as_mut()).map_err(io::Error::other)?;
    stream.write_all(request).await?;
    let mut decoder = Box::<Decoder>::default();
    let mut buffer = [0; READ_BYTES];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            rest = decoder.push(rest);
            while let Some(payload) = decoder.pop_payload()? {
                let Some(Reply::Answer { id: NUMBER, answer }) = decode_reply(payload) else { continue };
                look(&answer);
                match answer {
                    Answer::Figures { more: true, .. } => {}
                    Answer::Refused { text, .. } => return Err(MonitorError::Refused(text.to_owned())),
                    _ => return Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use hearth_wire::control::{Figure, Figures, Refusal, decode_request, encode_reply};
    use smol::future::zip;
    use smol::net::unix::UnixListener;

    async fn replies(listener: &UnixListener, answers: &[Answer<'_>]) -> Order {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut decoder = Decoder::new();
        let mut buffer = [0; 64];
        let order = loop {
            let length = stream.read(&mut buffer).await.unwrap();
            assert!(decoder.push(&buffer[..length]).is_empty());
            if let Some(payload) = decoder.pop_payload().unwrap() {
                break decode_request(payload).unwrap().order;
            }
        };
        for answer in answers {
            let reply = Reply::Answer { id: NUMBER, answer: answer.clone() };
            stream.write_all(encode_reply(&reply, &mut [0; MAX_FRAME]).unwrap()).await.unwrap();
        }
        order
    }

    fn figures<'a>(of: &'a str, value: u64, more: bool) -> Answer<'a> {
        let figures: Figures<'a> = std::iter::once(Figure { name: "x", value }).collect();
        Answer::Figures { of, figures, more }
    }

    /// Plays a monitor whose only processor has done so much, and whose device does something all the time.
    pub(crate) async fn answer_once(listener: &UnixListener, work: u64) {
        let device = std::process::id().into();
        let answers =
            [figures("vcpu0", work, true), figures("root", device, true), figures("machine", 1, false)];
        assert_eq!(replies(listener, &answers).await, Order::Statistics);
    }

    fn asked(order: Order, answers: &[Answer<'_>]) -> (Order, Vec<u64>, Result<(), MonitorError>) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut seen = Vec::new();
        let asking = ask(&socket, order, Duration::from_secs(60), |answer| {
            if let Answer::Figures { figures, .. } = answer {
                seen.extend(figures.iter().map(|figure| figure.value));
            }
        });
        let (got, result) = smol::block_on(zip(replies(&listener, answers), asking));
        (got, seen, result)
    }

    #[test]
    fn all_parts_of_an_answer_are_seen_and_the_last_one_ends_it() {
        let (order, seen, result) = asked(
            Order::Statistics,
            &[figures("a", 1, true), figures("b", 2, false), figures("c", 3, false)],
        );
        assert!(result.is_ok(), "{result:?}");
        assert_eq!((order, seen), (Order::Statistics, vec![1, 2]));
    }

    #[test]
    fn a_refusal_is_told_in_the_monitors_words_and_a_hang_up_is_an_error() {
        let refusal = Answer::Refused { code: Refusal::Unsupported, text: "there is no balloon" };
        let (order, _, result) = asked(Order::BalloonTarget { mib: 3 }, &[refusal]);
        assert_eq!(order, Order::BalloonTarget { mib: 3 });
        assert_eq!(result.unwrap_err().to_string(), "its monitor refused: there is no balloon");
        let (_, _, result) = asked(Order::Status, &[]);
        assert!(matches!(result, Err(MonitorError::Stream(_))), "{result:?}");
    }
}

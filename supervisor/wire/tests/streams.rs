//! What any stream of bytes does to the two ways of reading it.

use hearth_wire::{
    Decoder, ExitStatus, FrameFault, FrameReader, FrameWriter, FromAgent, HEADER_LEN, MAX_FRAME, MAX_OUTPUT,
    MAX_PAYLOAD, Output, ReadFault, Stream, ToAgent, Version, encode,
};
use proptest::{collection::vec, prelude::*, sample::Index};

fn stream() -> impl Strategy<Value = Stream> {
    prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)]
}

fn status() -> impl Strategy<Value = ExitStatus> {
    prop_oneof![
        any::<i32>().prop_map(ExitStatus::Code),
        any::<i32>().prop_map(ExitStatus::Signal),
        any::<i32>().prop_map(ExitStatus::NotStarted),
    ]
}

fn from_agent() -> impl Strategy<Value = FromAgent> {
    prop_oneof![
        (any::<u16>(), "[ -~]{0,32}", any::<u64>()).prop_map(|(protocol, version, uptime_ms)| {
            let agent_version = Version::try_from(version.as_str()).expect("within bound");
            FromAgent::Hello { protocol, agent_version, uptime_ms }
        }),
        any::<u32>().prop_map(|pid| FromAgent::Started { pid }),
        (any::<u32>(), any::<u64>()).prop_map(|(seq, uptime_ms)| FromAgent::Heartbeat { seq, uptime_ms }),
        (stream(), vec(any::<u8>(), 0..=MAX_OUTPUT)).prop_map(|(stream, bytes)| {
            FromAgent::Output { stream, bytes: Output::from_slice(&bytes).expect("within bound") }
        }),
        status().prop_map(|status| FromAgent::Exited { status }),
        any::<u64>().prop_map(|bytes| FromAgent::Dropped { bytes }),
    ]
}

fn to_agent() -> impl Strategy<Value = ToAgent> {
    prop_oneof![
        (any::<u16>(), any::<u32>())
            .prop_map(|(protocol, heartbeat_ms)| ToAgent::Welcome { protocol, heartbeat_ms }),
        any::<u32>().prop_map(|grace_ms| ToAgent::Shutdown { grace_ms }),
    ]
}

fn written(messages: &[FromAgent]) -> Vec<u8> {
    let mut bytes = vec![0; messages.len() * MAX_FRAME];
    let mut rest = bytes.as_mut_slice();
    let room = rest.len();
    for message in messages {
        FrameWriter::new(&mut rest).write(message).expect("room for all");
    }
    let used = room - rest.len();
    bytes.truncate(used);
    bytes
}

/// Everything a fresh decoder makes of `pieces`, and how the stream ends.
fn decoded<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<FromAgent>, Result<(), FrameFault>) {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            let before = piece.len();
            piece = decoder.push(piece);
            assert!(piece.len() < before, "push after pop takes at least one byte");
            loop {
                match decoder.pop() {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(fault) => return (messages, Err(fault)),
                }
            }
        }
    }
    (messages, decoder.finish())
}

fn read_blocking(bytes: &[u8]) -> (Vec<FromAgent>, Result<(), FrameFault>) {
    let mut reader = FrameReader::new(bytes);
    let mut messages = Vec::new();
    loop {
        match reader.read() {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, Ok(())),
            Err(ReadFault::Frame(fault)) => return (messages, Err(fault)),
            Err(ReadFault::Io(never)) => match never {},
        }
    }
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(messages in vec(from_agent(), 0..8)) {
        let bytes = written(&messages);
        prop_assert_eq!(read_blocking(&bytes), (messages.clone(), Ok(())));
        prop_assert_eq!(decoded([bytes.as_slice()]), (messages, Ok(())));
    }

    #[test]
    fn host_messages_come_out_too(message in to_agent()) {
        let mut buf = [0; MAX_FRAME];
        let frame = encode(&message, &mut buf).expect("fits");
        prop_assert_eq!(FrameReader::new(frame).read::<ToAgent>().expect("whole"), Some(message));
    }

    #[test]
    fn pieces_of_any_size_give_the_same_messages(
        messages in vec(from_agent(), 1..6),
        sizes in vec(1_usize..600, 1..20),
    ) {
        let bytes = written(&messages);
        let mut rest = bytes.as_slice();
        let mut pieces = Vec::new();
        for size in sizes.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, tail) = rest.split_at(size.min(rest.len()));
            pieces.push(piece);
            rest = tail;
        }
        prop_assert_eq!(decoded(pieces), (messages, Ok(())));
    }

    #[test]
    fn one_flipped_bit_never_goes_unseen(
        messages in vec(from_agent(), 1..4),
        at in any::<Index>(),
        bit in 0..8_u8,
    ) {
        let mut bytes = written(&messages);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let (got, end) = decoded([bytes.as_slice()]);
        prop_assert!(end.is_err(), "{end:?}");
        prop_assert_eq!(got.as_slice(), &messages[..got.len()], "the messages before it are untouched");
        prop_assert_eq!(read_blocking(&bytes), (got, end));
    }

    #[test]
    fn a_cut_stream_is_noticed_unless_cut_between_frames(messages in vec(from_agent(), 1..4), cut in any::<Index>()) {
        let bytes = written(&messages);
        let cut = cut.index(bytes.len());
        let boundary = (0..=messages.len()).any(|n| written(&messages[..n]).len() == cut);
        let expected = if boundary { Ok(()) } else { Err(FrameFault::UnexpectedEof) };
        prop_assert_eq!(decoded([&bytes[..cut]]).1, expected);
        prop_assert_eq!(read_blocking(&bytes[..cut]).1, expected);
    }

    #[test]
    fn no_bytes_panic_and_both_readers_agree(bytes in vec(any::<u8>(), 0..3 * MAX_FRAME)) {
        prop_assert_eq!(decoded([bytes.as_slice()]), read_blocking(&bytes));
    }

    /// Random bytes fail at the checksum; these get past it and put the payload parser to the test.
    #[test]
    fn no_payload_with_a_right_checksum_panics(payload in vec(any::<u8>(), 0..200)) {
        let frame = sealed(&payload);
        let (messages, end) = decoded([frame.as_slice()]);
        prop_assert_eq!(messages.len(), usize::from(end.is_ok()));
    }
}

fn sealed(payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("short").to_le_bytes();
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    let mut digest = crc.digest();
    digest.update(&len);
    digest.update(payload);
    [&len[..], &digest.finalize().to_le_bytes(), payload].concat()
}

#[test]
fn every_single_bit_of_a_frame_is_covered() {
    let message =
        FromAgent::Output { stream: Stream::Stdout, bytes: Output::from_slice(b"all of it").expect("short") };
    let frame = written(&[message]);
    for at in 0..frame.len() {
        for bit in 0..8 {
            let mut bad = frame.clone();
            bad[at] ^= 1 << bit;
            assert!(decoded([bad.as_slice()]).1.is_err(), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn too_long_is_known_from_two_bytes() {
    let len = u16::try_from(MAX_PAYLOAD + 1).expect("small").to_le_bytes();
    assert_eq!(decoded([&len[..]]).1, Err(FrameFault::TooLong(MAX_PAYLOAD + 1)));
}

#[test]
fn an_empty_payload_is_no_message() {
    assert_eq!(decoded([sealed(&[]).as_slice()]).1, Err(FrameFault::BadPayload));
}

#[test]
fn a_broken_decoder_stays_broken_and_swallows_the_rest() {
    let mut decoder = Decoder::new();
    assert!(decoder.push(&[0xff, 0xff]).is_empty());
    let fault = decoder.pop::<FromAgent>().expect_err("too long");
    let good = written(&[FromAgent::Started { pid: 1 }]);
    for _ in 0..10_000 {
        assert!(decoder.push(&good).is_empty());
    }
    assert_eq!(decoder.pop::<FromAgent>(), Err(fault));
    assert_eq!(decoder.finish(), Err(fault));
}

#[test]
fn the_largest_frame_fits_the_decoder() {
    let mut decoder = Decoder::new();
    let frame = sealed(&[0; MAX_PAYLOAD]);
    assert_eq!(frame.len(), HEADER_LEN + MAX_PAYLOAD);
    assert!(decoder.push(&frame).is_empty());
    assert_eq!(decoder.pop::<FromAgent>(), Err(FrameFault::BadPayload), "judged, not waited for");
}

/// A reader that fails once, as a socket with a time limit does.
struct Hiccup<'a>(Option<embedded_io::ErrorKind>, &'a [u8]);

impl embedded_io::ErrorType for Hiccup<'_> {
    type Error = embedded_io::ErrorKind;
}

impl embedded_io::Read for Hiccup<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Self::Error> {
        let half = buf.len().min(self.1.len() / 2 + 1);
        match self.0.take_if(|_| half < 4) {
            Some(kind) => Err(kind),
            None => self.1.read(&mut buf[..half]).map_err(|never| match never {}),
        }
    }
}

#[test]
fn a_read_that_failed_can_be_taken_up_again() {
    let frame = written(&[FromAgent::Started { pid: 5 }]);
    let mut reader = FrameReader::new(Hiccup(Some(embedded_io::ErrorKind::TimedOut), &frame));
    assert_eq!(
        reader.read::<FromAgent>(),
        Err(ReadFault::Io(embedded_io::ErrorKind::TimedOut)),
        "in the middle of the frame"
    );
    assert_eq!(reader.read(), Ok(Some(FromAgent::Started { pid: 5 })));
    assert_eq!(reader.read::<FromAgent>(), Ok(None));
}

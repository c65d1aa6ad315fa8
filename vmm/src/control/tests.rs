//! The server with clients on real sockets, and the test in the machine's place.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use hearth_wire::control::{
    Answer, Event, Order, Refusal, Reply, Request, Step, decode_reply, encode_request,
};
use hearth_wire::{Decoder, MAX_FRAME, MAX_PAYLOAD};

use super::*;

struct Bench {
    _folder: tempfile::TempDir,
    path: PathBuf,
    server: Server,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let server = Server::listen(&path).unwrap();
        Self { _folder: folder, path, server }
    }

    fn connect(&mut self) -> Client {
        let stream = UnixStream::connect(&self.path).unwrap();
        self.server.turn();
        Client { stream, decoder: Box::default() }
    }

    fn requests(&mut self) -> Vec<(Ticket, Order)> {
        // Each turn is bounded; a quiet one after the last means that all is read.
        for _ in 0..64 {
            self.server.turn();
        }
        std::iter::from_fn(|| self.server.take()).collect()
    }

    fn subscriber(&mut self) -> Client {
        let mut client = self.connect();
        client.ask(1, Order::Subscribe);
        let (ticket, order) = self.requests()[0];
        assert_eq!(order, Order::Subscribe);
        self.server.subscribe(ticket, Event::Started);
        self.server.flush();
        client.expect(&Reply::Answer { id: 1, answer: Answer::Done });
        client.expect(&Reply::Event(Event::Started));
        client
    }
}

struct Client {
    stream: UnixStream,
    decoder: Box<Decoder>,
}

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn ask(&mut self, id: u32, order: Order) {
        let mut buffer = [0; MAX_FRAME];
        let frame = encode_request(&Request { id, order }, &mut buffer).unwrap();
        self.stream.write_all(frame).unwrap();
    }

    /// The next reply, or `None` where the server has hung up.
    fn next<R>(&mut self, look: impl FnOnce(Option<Reply<'_>>) -> R) -> R {
        // A frame's length is in its first two bytes, behind which come four of its checksum.
        let mut header = [0; 6];
        if self.stream.read(&mut header[..1]).unwrap() == 0 {
            return look(None);
        }
        self.stream.read_exact(&mut header[1..]).unwrap();
        let mut payload = vec![0; usize::from(u16::from_le_bytes([header[0], header[1]]))];
        self.stream.read_exact(&mut payload).unwrap();
        assert!(self.decoder.push(&header).is_empty());
        assert!(self.decoder.push(&payload).is_empty());
        look(Some(decode_reply(self.decoder.pop_payload().unwrap().unwrap()).unwrap()))
    }

    fn expect(&mut self, expected: &Reply<'_>) {
        self.next(|reply| assert_eq!(reply.as_ref(), Some(expected)));
    }

    fn expect_refusal(&mut self, number: u32, expected: Refusal) {
        self.next(|reply| match reply {
            Some(Reply::Answer { id, answer: Answer::Refused { code, text } }) => {
                assert_eq!((id, code), (number, expected), "{text}");
            }
            other => panic!("{other:?}"),
        });
    }
}

#[test]
fn requests_arrive_with_their_numbers_and_answers_find_their_way_back() {
    let mut bench = Bench::new();
    let (mut one, mut two) = (bench.connect(), bench.connect());
    one.ask(7, Order::Pause);
    two.ask(7, Order::Status);
    let requests = bench.requests();
    let ticket_of = |wanted| requests.iter().find(|(_, order)| *order == wanted).unwrap().0;
    let (pause, status) = (ticket_of(Order::Pause), ticket_of(Order::Status));
    assert_eq!(requests.len(), 2);
    assert_ne!(pause, status);
    bench.server.answer(status, Answer::Refused { code: Refusal::Ended, text: "x" });
    bench.server.answer(pause, Answer::Done);
    bench.server.flush();
    one.expect(&Reply::Answer { id: 7, answer: Answer::Done });
    two.expect(&Reply::Answer { id: 7, answer: Answer::Refused { code: Refusal::Ended, text: "x" } });
}

#[test]
fn what_is_no_request_is_answered_and_the_next_one_is_heard() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    // A good frame around an order that does not exist: number 5, order 99.
    let unknown = hearth_wire_frame(&[5, 99]);
    client.send(&unknown);
    client.ask(6, Order::Resume);
    let requests = bench.requests();
    assert_eq!(requests.len(), 1);
    client.expect_refusal(5, Refusal::Malformed);
}

#[test]
fn a_broken_frame_is_told_and_ends_the_connection() {
    let mut wrong_sum = hearth_wire_frame(&[5, 0]);
    wrong_sum[2] ^= 1;
    let too_long = u16::try_from(MAX_PAYLOAD + 1).unwrap().to_le_bytes().to_vec();
    for bytes in [wrong_sum, too_long] {
        let mut bench = Bench::new();
        let mut client = bench.connect();
        client.send(&bytes);
        client.ask(6, Order::Resume);
        assert!(bench.requests().is_empty(), "nothing behind it is believed");
        client.expect_refusal(0, Refusal::Malformed);
        client.next(|reply| assert_eq!(reply, None));
    }
}

#[test]
fn two_subscribers_hear_the_same_and_others_hear_nothing() {
    let mut bench = Bench::new();
    let (mut one, mut two, mut other) = (bench.subscriber(), bench.subscriber(), bench.connect());
    bench.server.tell(Event::Stopping { step: Step::Button });
    bench.server.tell(Event::DeviceNeedsReset { device: "root" });
    other.ask(3, Order::Pause);
    let (ticket, _) = bench.requests()[0];
    bench.server.answer(ticket, Answer::Done);
    bench.server.flush();
    for client in [&mut one, &mut two] {
        client.expect(&Reply::Event(Event::Stopping { step: Step::Button }));
        client.expect(&Reply::Event(Event::DeviceNeedsReset { device: "root" }));
    }
    other.expect(&Reply::Answer { id: 3, answer: Answer::Done });
}

#[test]
fn a_slow_reader_loses_events_and_is_told_how_many() {
    let mut bench = Bench::new();
    let (mut slow, mut quick) = (bench.subscriber(), bench.subscriber());
    let many = 200_000;
    let mut seen_by_quick = 0;
    for count in 0..many {
        bench.server.tell(Event::Rebooted { count });
        if count % 500 == 499 {
            bench.server.flush();
            for _ in 0..500 {
                quick.next(|reply| assert!(matches!(reply, Some(Reply::Event(Event::Rebooted { .. })))));
                seen_by_quick += 1;
            }
        }
    }
    assert_eq!(seen_by_quick, many, "who reads misses nothing");
    let (mut seen, mut lost, mut expected) = (0, 0, 0);
    while seen + lost < many {
        bench.server.turn();
        slow.next(|reply| match reply {
            Some(Reply::Event(Event::Rebooted { count })) => {
                assert_eq!(count, expected, "in order");
                (seen, expected) = (seen + 1, expected + 1);
            }
            Some(Reply::Event(Event::Lost { count })) => {
                lost += count;
                expected += count;
            }
            other => panic!("{other:?}"),
        });
    }
    assert!(lost > 0 && seen > 0, "{seen} seen, {lost} lost");
}

#[test]
fn a_client_that_reads_no_answers_is_disconnected_and_the_memory_is_free() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    let mut asked = 0u32;
    // Until its answers do not fit any more.
    loop {
        let mut buffer = [0; MAX_FRAME];
        asked += 1;
        let frame = encode_request(&Request { id: asked, order: Order::Status }, &mut buffer).unwrap();
        if client.stream.write_all(frame).is_err() {
            break;
        }
        for (ticket, _) in bench.requests() {
            bench.server.answer(ticket, Answer::Refused { code: Refusal::BadValue, text: &"x".repeat(2000) });
        }
        bench.server.flush();
        assert!(asked < 10_000);
    }
    let mut other = bench.connect();
    other.ask(1, Order::Status);
    assert_eq!(bench.requests().len(), 1);
}

#[test]
fn requests_that_wait_are_bounded_per_client() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    for id in 1..=5 {
        client.ask(id, Order::Stop { now: false });
    }
    let requests = bench.requests();
    assert_eq!(requests.len(), 4);
    client.expect_refusal(5, Refusal::Busy);
    bench.server.answer(requests[0].0, Answer::Done);
    client.ask(6, Order::Status);
    assert_eq!(bench.requests().len(), 1, "one answered makes room for one");
}

#[test]
fn the_ninth_client_takes_the_place_of_the_one_that_is_idle_longest() {
    let mut bench = Bench::new();
    let mut clients: Vec<_> = (0..8).map(|_| bench.connect()).collect();
    clients[0].ask(1, Order::Stop { now: false });
    assert_eq!(bench.requests().len(), 1, "it waits for its answer");
    let mut ninth = bench.connect();
    ninth.ask(1, Order::Status);
    assert_eq!(bench.requests().len(), 1);
    clients[1].next(|reply| assert_eq!(reply, None));
    clients[2].ask(1, Order::Status);
    assert_eq!(bench.requests().len(), 1, "one made room, no more");
}

#[test]
fn when_nobody_is_idle_the_ninth_is_sent_away_until_one_leaves() {
    let mut bench = Bench::new();
    let mut clients: Vec<_> = (0..8).map(|_| bench.connect()).collect();
    for client in &mut clients {
        client.ask(1, Order::Stop { now: false });
    }
    assert_eq!(bench.requests().len(), 8);
    let mut ninth = bench.connect();
    ninth.expect_refusal(0, Refusal::Busy);
    ninth.next(|reply| assert_eq!(reply, None));
    drop(clients.pop());
    bench.server.turn();
    let mut next = bench.connect();
    next.ask(1, Order::Status);
    assert_eq!(bench.requests().len(), 1);
}

#[test]
fn subscribers_leave_a_place_for_a_stop() {
    let mut bench = Bench::new();
    let _subscribers: Vec<_> = (0..7).map(|_| bench.subscriber()).collect();
    let mut eighth = bench.connect();
    eighth.ask(1, Order::Subscribe);
    let (ticket, _) = bench.requests()[0];
    bench.server.subscribe(ticket, Event::Started);
    bench.server.flush();
    eighth.expect_refusal(1, Refusal::Busy);
    let mut person = bench.connect();
    person.ask(1, Order::Stop { now: true });
    assert_eq!(bench.requests().len(), 1);
}

#[test]
fn a_client_that_sends_no_more_still_gets_its_answer() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    client.ask(1, Order::Pause);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let (ticket, _) = bench.requests()[0];
    bench.server.answer(ticket, Answer::Done);
    bench.server.flush();
    client.expect(&Reply::Answer { id: 1, answer: Answer::Done });
    client.next(|reply| assert_eq!(reply, None));
}

#[test]
fn a_client_that_asks_and_leaves_is_heard() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    client.ask(1, Order::Stop { now: true });
    drop(client);
    let requests = bench.requests();
    assert_eq!(requests.len(), 1);
    bench.server.answer(requests[0].0, Answer::Done);
    bench.server.flush();
}

/// A frame around any payload of up to 127 bytes.
fn hearth_wire_frame(payload: &[u8]) -> Vec<u8> {
    // CRC-32C, bit by bit: the tests of the wire crate check its own.
    let length = u16::try_from(payload.len()).unwrap().to_le_bytes();
    let mut crc = !0u32;
    for byte in length.iter().chain(payload) {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    [&length[..], &(!crc).to_le_bytes(), payload].concat()
}

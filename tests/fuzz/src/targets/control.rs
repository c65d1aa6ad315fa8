//! The control socket: a server with clients that say anything, beside one that only wants to know how things are.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use hearth_vmm::control::Server;
use hearth_wire::control::{
    Answer, End, Event, LogLevel, Order, Refusal, Reply, Request, SnapshotKind, SnapshotName, decode_reply,
    decode_request, encode_request,
};
use hearth_wire::{Decoder, MAX_FRAME};

use crate::frames;
use crate::wild::Wild;

/// Turns of the event loop after which everybody has heard everything.
const TURNS: usize = 40;

fn order(wild: &mut Wild<'_>) -> Order {
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    let name = SnapshotName::new("warm-1");
    match wild.byte() % 12 {
        0 => Order::Status,
        1 => Order::Pause,
        2 => Order::Resume,
        3 => Order::Stop { now: wild.one_in(2) },
        4 => Order::PowerButton,
        5 => Order::BalloonTarget { mib: wild.odd32() },
        6 => Order::BalloonStatistics,
        7 => Order::SetLogLevel(wild.pick(&levels)),
        8 => Order::Subscribe,
        9 => name.map_or(Order::Status, |name| Order::Snapshot { name, kind: SnapshotKind::Full }),
        _ => Order::Statistics,
    }
}

/// What a client says: requests, as a rule.
fn stream(wild: &mut Wild<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..=wild.index(10) {
        if wild.one_in(4) {
            let bytes = wild.bytes(60);
            stream.extend(frames::framed(&bytes));
        } else {
            let request = Request { id: wild.odd32(), order: order(wild) };
            let mut room = [0; MAX_FRAME];
            let frame = encode_request(&request, &mut room).expect("a request fits a frame");
            stream.extend_from_slice(frame);
        }
    }
    if wild.one_in(4) {
        frames::damage(&mut stream, wild);
    }
    stream
}

/// Reading without a socket: what is taken for a request is one.
fn read_alone(stream: &[u8]) {
    let mut decoder = Decoder::new();
    let mut left = stream;
    while !left.is_empty() {
        left = decoder.push(left);
        while let Ok(Some(payload)) = decoder.pop_payload() {
            if let Ok(request) = decode_request(payload) {
                let mut room = [0; MAX_FRAME];
                let mut again = Decoder::new();
                assert!(again.push(encode_request(&request, &mut room).expect("it fits")).is_empty());
                let payload = again.pop_payload().expect("a good frame").expect("a whole one");
                assert_eq!(decode_request(payload), Ok(request));
            }
            let _ = decode_reply(payload);
        }
    }
}

/// Does what a machine does with what it is asked: something, sometimes.
fn serve(server: &mut Server, wild: &mut Wild<'_>) {
    server.turn();
    while let Some((ticket, order)) = server.take() {
        match order {
            Order::Subscribe => server.subscribe(ticket, Event::Ended(End { status: 0, how: None })),
            // It is answered when the machine has ended: never.
            Order::Stop { .. } if wild.one_in(2) => {}
            _ if wild.one_in(9) => {
                server.answer(ticket, Answer::Refused { code: Refusal::Stopping, text: "soon" });
            }
            _ => server.answer(ticket, Answer::Done),
        }
    }
    if wild.one_in(3) {
        server.tell(Event::Ended(End { status: 1, how: None }));
    }
    server.flush();
}

/// The target.
pub fn run(data: &[u8]) {
    let mut wild = Wild::new(data);
    let streams: Vec<Vec<u8>> = (0..=wild.index(3)).map(|_| stream(&mut wild)).collect();
    streams.iter().for_each(|stream| read_alone(stream));
    let Ok(folder) = tempfile::tempdir() else { return };
    let path = folder.path().join("control");
    let mut server = Server::listen(&path).expect("the host gives a socket");
    let mut clients = Vec::new();
    for stream in &streams {
        let Ok(mut client) = UnixStream::connect(&path) else { return };
        client.set_nonblocking(true).expect("a socket can be told not to wait");
        for piece in stream.chunks(1 + wild.index(400)) {
            // A server that has hung up takes no more.
            let _ = client.write(piece);
            if wild.one_in(3) {
                serve(&mut server, &mut wild);
            }
        }
        if wild.one_in(3) {
            let _ = client.shutdown(std::net::Shutdown::Write);
        }
        if !wild.one_in(3) {
            clients.push(client);
        }
    }
    for _ in 0..TURNS {
        serve(&mut server, &mut wild);
    }
    prove(&mut server, &path);
}

/// Somebody who asks properly is answered.
fn prove(server: &mut Server, path: &std::path::Path) {
    let mut client = UnixStream::connect(path).expect("the server listens");
    client.set_nonblocking(true).expect("a socket can be told not to wait");
    let mut room = [0; MAX_FRAME];
    let request = Request { id: 77, order: Order::Status };
    client
        .write_all(encode_request(&request, &mut room).expect("it fits"))
        .expect("a socket takes a request");
    let (mut bytes, mut decoder) = ([0; MAX_FRAME], Decoder::new());
    for _ in 0..TURNS {
        serve(server, &mut Wild::new(&[]));
        if let Ok(count) = client.read(&mut bytes) {
            assert!(decoder.push(&bytes[..count]).is_empty());
            let payload = decoder.pop_payload().expect("a good frame").expect("a whole one");
            assert_eq!(decode_reply(payload), Some(Reply::Answer { id: 77, answer: Answer::Done }));
            return;
        }
    }
    panic!("a client that asks properly is not answered");
}

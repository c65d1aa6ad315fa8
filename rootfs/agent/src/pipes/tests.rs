//! Clients on loopback, and a host at the other end of a socket pair.

use super::*;
use crate::link::DialFault;
use std::{
    cell::RefCell,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// For anything to happen: only a hang takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that no two sockets hold.
const SOCKETS: usize = 256 << 20;

/// Connects to a host that a test plays.
#[derive(Debug, Default)]
struct Line {
    hosts: RefCell<Vec<UnixStream>>,
    dead: bool,
}

impl Dial for Line {
    type Stream = UnixStream;

    fn dial(&mut self) -> Result<UnixStream, DialFault> {
        if self.dead {
            return Err(DialFault::Absent);
        }
        let (agent, host) = UnixStream::pair().expect("socket pair");
        agent.set_nonblocking(true).expect("own socket");
        host.set_nonblocking(true).expect("own socket");
        self.hosts.borrow_mut().push(host);
        Ok(agent)
    }

    fn outcome(&self, _: &UnixStream) -> io::Result<()> {
        Ok(())
    }

    fn half_close(&self, stream: &UnixStream) -> io::Result<()> {
        stream.shutdown(Shutdown::Write)
    }
}

struct Guest {
    pipes: Pipes<Line>,
    port: u16,
}

impl Guest {
    fn new(line: Line) -> Guest {
        // Whatever port is free: 0 is that.
        let pipes = Pipes::open(line, 0).expect("a port");
        let port = pipes.listener.as_ref().and_then(|one| one.local_addr().ok()).expect("an address").port();
        Guest { pipes, port }
    }

    fn client(&mut self) -> TcpStream {
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("somebody listens");
        client.set_read_timeout(Some(PATIENCE)).expect("own socket");
        client
    }

    fn turn(&mut self) {
        self.pipes.turn(Uptime::now());
    }

    /// Turns until no more than so many pipes are open.
    fn closes_all_but(&mut self, left: usize) {
        let until = Instant::now() + PATIENCE;
        while self.pipes.open.len() > left {
            assert!(Instant::now() < until, "{} pipes are open", self.pipes.open.len());
            self.turn();
        }
    }

    /// Turns until the host has so many bytes.
    fn host_hears(&mut self, place: usize, length: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        let until = Instant::now() + PATIENCE;
        while heard.len() < length {
            assert!(Instant::now() < until, "the host heard {} of {length} bytes", heard.len());
            self.turn();
            let mut buffer = [0; 9000];
            let mut hosts = self.pipes.dial.hosts.borrow_mut();
            match hosts[place].read(&mut buffer) {
                Ok(0) => return heard,
                Ok(length) => heard.extend(&buffer[..length]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        heard
    }

    fn host(&self, place: usize) -> UnixStream {
        self.pipes.dial.hosts.borrow()[place].try_clone().expect("a descriptor")
    }
}

#[test]
fn bytes_pass_both_ways_as_they_are_and_a_clients_end_is_the_hosts() {
    let mut guest = Guest::new(Line::default());
    let (mut first, mut second) = (guest.client(), guest.client());
    first.write_all(b"CONNECT").unwrap();
    second.write_all(b"connect").unwrap();
    assert_eq!(guest.host_hears(0, 7), b"CONNECT");
    assert_eq!(guest.host_hears(1, 7), b"connect");
    guest.host(0).write_all(b"CONNACK").unwrap();
    guest.turn();
    let mut buffer = [0; 7];
    first.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"CONNACK");
    // All of what a client said arrives, though it is gone.
    let large: Vec<u8> = (0..100_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let writing = std::thread::spawn(move || second.write_all(&large).map(|()| large));
    let heard = guest.host_hears(1, 100_000);
    assert_eq!(heard, writing.join().unwrap().unwrap());
    assert_eq!(guest.host_hears(1, 1), b"", "and then its end");
    drop(guest.host(1).shutdown(Shutdown::Both));
    guest.closes_all_but(1);
    assert_eq!(guest.pipes.waiting(), 0);
}

#[test]
fn who_hangs_up_on_the_host_or_is_hung_up_on_leaves_no_pipe() {
    let mut guest = Guest::new(Line::default());
    let mut client = guest.client();
    client.write_all(b"x").unwrap();
    assert_eq!(guest.host_hears(0, 1), b"x");
    guest.host(0).write_all(b"no").unwrap();
    guest.host(0).shutdown(Shutdown::Both).unwrap();
    guest.closes_all_but(0);
    let mut last = Vec::new();
    client.read_to_end(&mut last).unwrap();
    assert_eq!(last, b"no", "its last word arrives");
    assert_eq!(guest.pipes.interest().count(), 1, "only new clients wake the loop");
}

#[test]
fn a_host_that_takes_nothing_holds_up_one_client_and_costs_two_buffers() {
    let mut guest = Guest::new(Line::default());
    let client = guest.client();
    client.set_nonblocking(true).unwrap();
    let mut sent = 0;
    // Until all sockets on the way are full.
    let mut idle = 0;
    while idle < 100 {
        match (&client).write(&[7; 4096]) {
            Ok(length) => (sent, idle) = (sent + length, 0),
            Err(_) => idle += 1,
        }
        guest.turn();
        assert!(sent < SOCKETS, "somebody takes everything");
    }
    assert!(sent > 4096 && guest.pipes.waiting() == 1, "{sent}");
    let mut other = guest.client();
    other.write_all(b"other").unwrap();
    assert_eq!(guest.host_hears(1, 5), b"other");
    assert_eq!(guest.host_hears(0, sent).len(), sent);
}

#[test]
fn clients_beyond_the_bound_are_hung_up_on_and_so_is_who_has_no_way_to_a_host() {
    let mut guest = Guest::new(Line::default());
    let mut clients: Vec<TcpStream> = Vec::new();
    for _ in 0..=MAX_PIPES {
        clients.push(guest.client());
        guest.turn();
    }
    assert_eq!(guest.pipes.open.len(), MAX_PIPES);
    let mut last = clients.pop().unwrap();
    assert_eq!(last.read(&mut [0]).unwrap(), 0);
    let mut alone = Guest::new(Line { dead: true, ..Line::default() });
    let mut client = alone.client();
    alone.turn();
    assert_eq!((client.read(&mut [0]).unwrap(), alone.pipes.open.len()), (0, 0));
    guest.pipes.leave();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, guest.port)).is_err());
}

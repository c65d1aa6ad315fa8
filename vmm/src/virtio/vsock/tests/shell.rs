//! The shell with real Unix sockets. Everything happens within a call: no thread, no waiting.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::super::host::{Door, HostError, Reception, Turn, UnixHost, behind, listen};
use super::*;
use crate::listener::ListenError;
use crate::virtio::rings::RingFault;

type Device = Mutex<Guest<UnixHost>>;

impl Turn for Device {
    fn turn(&self, work: &mut dyn FnMut(&mut Vsock<UnixHost>) -> Result<Backlog, RingFault>) -> Backlog {
        work(&mut self.lock().unwrap().device).unwrap()
    }
}

/// A device that the driver has not set up gives no turns.
#[derive(Debug)]
struct Inactive;

impl Turn for Inactive {
    fn turn(&self, _work: &mut dyn FnMut(&mut Vsock<UnixHost>) -> Result<Backlog, RingFault>) -> Backlog {
        Backlog::Done
    }
}

#[derive(Debug)]
struct House {
    folder: tempfile::TempDir,
    guest: Arc<Device>,
    reception: Reception<Device>,
    /// Stands for the event loop, which turns only when there is something to do.
    event_loop: Epoll,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (host, door) = open(&folder.path().join("v.sock")).unwrap();
        let guest = Arc::new(Mutex::new(Guest::new(host)));
        let reception = door.open(guest.clone()).unwrap();
        let event_loop = Epoll::new().unwrap();
        let event = EpollEvent::new(EventSet::IN, 0);
        event_loop.ctl(ControlOperation::Add, reception.epoll().as_raw_fd(), event).unwrap();
        Self { folder, guest, reception, event_loop }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("v.sock")
    }

    fn guest(&self) -> MutexGuard<'_, Guest<UnixHost>> {
        self.guest.lock().unwrap()
    }

    /// Turns until the event loop would sleep; that it comes to that is part of every test.
    fn turns(&mut self) {
        for _ in 0..1000 {
            if self.event_loop.wait(0, &mut [EpollEvent::default()]).unwrap() == 0 {
                return;
            }
            self.reception.turn();
        }
        panic!("the event loop does not come to rest");
    }

    fn client(&self) -> UnixStream {
        let client = UnixStream::connect(self.socket()).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    }

    fn listener(&self, port: u32) -> UnixListener {
        UnixListener::bind(self.folder.path().join(format!("v.sock_{port}"))).unwrap()
    }
}

/// What can be read now, and whether the stream ended.
fn drain(stream: &mut UnixStream) -> (Vec<u8>, bool) {
    let mut seen = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return (seen, true),
            Ok(count) => seen.extend(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (seen, false),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_host_program_reaches_the_guest_by_a_connect_line() {
    let mut house = House::new();
    let mut client = house.client();
    // All at once and then in pieces: what follows the line belongs to the guest.
    client.write_all(b"CONN").unwrap();
    house.turns();
    client.write_all(b"ECT 1234\nearly bytes").unwrap();
    house.turns();
    let request = house.guest().expect(Operation::Request).header;
    assert_eq!(request.destination_port, 1234);
    let ports = Ports { host: request.source_port, guest: 1234 };
    assert_eq!(drain(&mut client), (vec![], false));
    house.guest().say(ports, Operation::Response);
    assert_eq!(drain(&mut client), (format!("OK {}\n", ports.host).into_bytes(), false));
    // The edge was seen before the guest accepted, and is not lost.
    house.turns();
    assert_eq!(house.guest().expect(Operation::Data).payload, b"early bytes");
    client.write_all(b"later bytes").unwrap();
    house.turns();
    assert_eq!(house.guest().expect(Operation::Data).payload, b"later bytes");
    house.guest().data(ports, b"answer");
    assert_eq!(drain(&mut client), (b"answer".to_vec(), false));
    drop(client);
    house.turns();
    let both = super::super::packet::SHUTDOWN_SEND | super::super::packet::SHUTDOWN_RECEIVE;
    assert_eq!(house.guest().expect(Operation::Shutdown).header.flags, both);
}

#[test]
fn a_guest_program_reaches_the_socket_named_after_its_port() {
    let mut house = House::new();
    let listener = house.listener(1024);
    house.guest().say(PORTS, Operation::Request);
    house.guest().expect(Operation::Response);
    let (mut server, _) = listener.accept().unwrap();
    server.set_nonblocking(true).unwrap();
    house.guest().data(PORTS, b"ping");
    assert_eq!(drain(&mut server).0, b"ping");
    server.write_all(b"pong").unwrap();
    house.turns();
    assert_eq!(house.guest().expect(Operation::Data).payload, b"pong");
    // Half-close passes through: the server reads the end and still answers.
    let flags = super::super::packet::SHUTDOWN_SEND;
    let shutdown = Header { flags, ..World::header(PORTS, Operation::Shutdown) };
    house.guest().send(shutdown, &[]);
    assert_eq!(drain(&mut server), (vec![], true));
    server.write_all(b"goodbye").unwrap();
    drop(server);
    house.turns();
    let packets = house.guest().receive();
    assert_eq!(packets[0].payload, b"goodbye");
    assert_eq!(packets[1].header.operation, Operation::Shutdown);
}

#[test]
fn nobody_listens_or_the_listeners_queue_is_full_and_the_guest_hears_rst() {
    let house = House::new();
    house.guest().say(PORTS, Operation::Request);
    house.guest().expect(Operation::Reset);
    // The path is there, but it is no socket.
    std::fs::write(house.folder.path().join("v.sock_7"), b"").unwrap();
    house.guest().say(Ports { host: 7, guest: 1 }, Operation::Request);
    house.guest().expect(Operation::Reset);

    let listener = house.listener(1024);
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
    let answers: Vec<_> = (0..10)
        .map(|guest| {
            house.guest().say(Ports { host: 1024, guest }, Operation::Request);
            house.guest().receive_one().header.operation
        })
        .collect();
    assert_eq!(answers.first(), Some(&Operation::Response));
    assert_eq!(answers.last(), Some(&Operation::Reset), "refused rather than waited for");
}

#[test]
fn megabytes_pass_through_real_sockets_in_both_directions() {
    const TOTAL: usize = 3 << 20;
    let mut house = House::new();
    let listener = house.listener(1024);
    house.guest().say(PORTS, Operation::Request);
    house.guest().expect(Operation::Response);
    let (mut server, _) = listener.accept().unwrap();
    server.set_nonblocking(true).unwrap();
    let (mut sent, mut told, mut wrote) = (0usize, 0usize, 0usize);
    let (mut at_server, mut at_guest) = (Vec::new(), Vec::new());
    let message = pattern(0, TOTAL);
    // Every round moves something, or the test ends in the assertion below.
    for _ in 0..20_000 {
        if wrote < TOTAL
            && let Ok(count) = server.write(&message[wrote..])
        {
            wrote += count;
        }
        let room = (64 << 10) - (sent - told);
        let next = room.min(TOTAL - sent).min(40_000);
        if next > 0 {
            let bytes = u32::try_from(next).unwrap();
            let forwarded = u32::try_from(at_guest.len()).unwrap();
            let header = Header { bytes, forwarded, ..World::header(PORTS, Operation::Data) };
            house.guest().send(header, &message[sent..sent + next]);
            sent += next;
        } else {
            let forwarded = u32::try_from(at_guest.len()).unwrap();
            let header = Header { forwarded, ..World::header(PORTS, Operation::CreditRequest) };
            house.guest().send(header, &[]);
        }
        at_server.extend(drain(&mut server).0);
        house.turns();
        for packet in house.guest().receive() {
            told = packet.header.forwarded as usize;
            at_guest.extend(packet.payload);
        }
        if at_server.len() == TOTAL && at_guest.len() == TOTAL {
            break;
        }
    }
    assert!(at_server == message, "{} bytes reached the host", at_server.len());
    assert!(at_guest == message, "{} bytes reached the guest", at_guest.len());
}

#[test]
fn a_line_that_is_no_connect_line_is_hung_up_on() {
    let mut house = House::new();
    for line in [
        "HELLO\n",
        "CONNECT\n",
        "CONNECT \n",
        "CONNECT +1\n",
        "CONNECT -1\n",
        "CONNECT 4294967296\n",
        "CONNECT 1 2\n",
        "connect 1\n",
        "CONNECT 12345678901234567890",
        "\n",
    ] {
        let mut client = house.client();
        client.write_all(line.as_bytes()).unwrap();
        house.turns();
        // What the monitor left unread may come back as a reset instead of an end.
        let end = client.read(&mut [0; 16]);
        assert!(
            matches!(&end, Ok(0)) || end.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset),
            "{line}"
        );
    }
    assert_eq!(house.guest().device.connections(), 0);
    let mut client = house.client();
    client.write_all(b"CONNECT 4294967295\n").unwrap();
    house.turns();
    assert_eq!(house.guest().expect(Operation::Request).header.destination_port, u32::MAX);
}

#[test]
fn handshakes_that_never_end_are_bounded_oldest_first() {
    let mut house = House::new();
    // Silent at first, and all at once.
    let mut clients: Vec<_> = (0..50).map(|_| house.client()).collect();
    house.turns();
    assert!(clients.iter_mut().take(50 - 32).all(|client| drain(client).1));
    for client in clients.iter_mut().rev().take(32) {
        client.write_all(b"CONNECT 1").unwrap();
    }
    house.turns();
    let closed: Vec<_> = clients.iter_mut().map(|client| client.write_all(b"\n").is_err()).collect();
    assert_eq!(closed, (0..50).map(|index| index < 50 - 32).collect::<Vec<_>>());
    house.turns();
    assert_eq!(house.guest().device.connections(), 32);
}

#[test]
fn many_clients_at_once_are_all_let_in_and_push_no_slower_one_out() {
    let mut house = House::new();
    let mut slow = house.client();
    slow.write_all(b"CONN").unwrap();
    house.turns();
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let mut client = house.client();
            client.write_all(b"CONNECT 1\n").unwrap();
            client
        })
        .collect();
    house.turns();
    assert_eq!(house.guest().device.connections(), clients.len());
    slow.write_all(b"ECT 1\n").unwrap();
    house.turns();
    assert_eq!(house.guest().device.connections(), clients.len() + 1);
}

#[test]
fn a_device_that_is_not_ready_lets_nobody_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.sock");
    let (_host, door) = open(&path).unwrap();
    let mut reception = door.open(Arc::new(Inactive)).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_nonblocking(true).unwrap();
    client.write_all(b"CONNECT 1\n").unwrap();
    for _ in 0..5 {
        reception.turn();
    }
    assert_eq!(drain(&mut client), (vec![], true));
}

#[test]
fn a_device_reset_hangs_up_on_every_host_program() {
    let mut house = House::new();
    let listener = house.listener(1024);
    house.guest().say(PORTS, Operation::Request);
    let (mut server, _) = listener.accept().unwrap();
    let mut client = house.client();
    client.write_all(b"CONNECT 1\n").unwrap();
    house.turns();
    house.guest().device.reset();
    assert!(matches!(server.read(&mut [0; 8]), Ok(0)));
    assert_eq!(drain(&mut client), (vec![], true));
    house.turns();
}

fn open(path: &Path) -> Result<(UnixHost, Door), HostError> {
    behind(listen(path)?, path)
}

#[test]
fn a_socket_left_by_a_crash_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.sock");
    // Dropping a listener leaves its path, as a crash does.
    drop(UnixListener::bind(&path).unwrap());
    let first = open(&path).unwrap();
    assert!(matches!(open(&path), Err(HostError::Listen(ListenError::InUse { .. }))));
    drop(first);
    assert!(!path.exists(), "taken away at the end");
    std::fs::write(&path, b"a file of the user").unwrap();
    assert!(matches!(open(&path), Err(HostError::Listen(ListenError::InUse { .. }))));
    assert_eq!(std::fs::read(&path).unwrap(), b"a file of the user");
}

#[test]
fn a_path_that_leaves_no_room_for_a_port_is_refused() {
    let fits = format!("/{}", "x".repeat(95));
    assert!(matches!(open(Path::new(&fits)), Err(HostError::Listen(ListenError::Listen { .. })) | Ok(_)));
    let _ = std::fs::remove_file(&fits);
    let long = format!("/{}", "x".repeat(96));
    assert!(matches!(open(Path::new(&long)), Err(HostError::PathTooLong { .. })));
    assert!(matches!(
        open(Path::new("/nonexistent/v.sock")),
        Err(HostError::Listen(ListenError::Listen { .. }))
    ));
}

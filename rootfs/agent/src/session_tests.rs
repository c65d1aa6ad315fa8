//! The session against a host at the other end of a socket pair.

use super::*;
use crate::{fake_host::Host, outbox::Notice};
use hearth_wire::{ExitStatus, Hostname, Identity, Output, Question, Seed, Stream};
use std::os::unix::net::UnixStream;

const AT: fn(u64) -> Uptime = Uptime::at_millis;

/// A session that the host has welcomed at time 0; the first heartbeat is out.
fn open() -> (Host, Session<UnixStream>, Outbox) {
    let (mut host, agent) = Host::pair();
    let mut session = Session::new(agent, AT(0));
    let mut outbox = Outbox::default();
    host.welcome();
    assert!(session.turn(AT(0), &mut outbox).expect("open").welcomed);
    session.turn(AT(0), &mut outbox).expect("open");
    let (heard, _) = host.hear();
    assert!(matches!(heard.as_slice(), [FromAgent::Hello { .. }, FromAgent::Heartbeat { seq: 1, .. }]));
    (host, session, outbox)
}

fn output(bytes: &[u8]) -> FromAgent {
    FromAgent::Output { stream: Stream::Stdout, bytes: Output::from_slice(bytes).expect("short") }
}

#[test]
fn only_hello_goes_out_before_the_welcome() {
    let (mut host, agent) = Host::pair();
    let mut session = Session::new(agent, AT(312));
    let mut outbox = Outbox::default();
    outbox.output(Stream::Stdout, b"early");
    session.turn(AT(312), &mut outbox).expect("open");
    session.turn(AT(5000), &mut outbox).expect("open");
    let version = Version::try_from(env!("CARGO_PKG_VERSION")).expect("short");
    let hello = FromAgent::Hello { protocol: 1, agent_version: version, uptime_ms: 312 };
    assert_eq!(host.hear(), (vec![hello], false));
    assert!(!session.wants_write(&outbox), "or the loop would spin");
    host.welcome();
    assert!(session.turn(AT(5001), &mut outbox).expect("open").welcomed);
    assert_eq!(host.hear().0, [], "the agent may put something before the output");
    session.turn(AT(5001), &mut outbox).expect("open");
    assert_eq!(host.hear().0, [FromAgent::Heartbeat { seq: 1, uptime_ms: 5001 }, output(b"early")]);
}

#[test]
fn a_workloads_whole_life_arrives_in_order() {
    let (mut host, mut session, mut outbox) = open();
    outbox.notice(Notice::Started { pid: 42 });
    outbox.output(Stream::Stdout, b"hello\n");
    outbox.notice(Notice::Exited(ExitStatus::Code(3)));
    session.turn(AT(10), &mut outbox).expect("open");
    let life = [
        FromAgent::Started { pid: 42 },
        output(b"hello\n"),
        FromAgent::Exited { status: ExitStatus::Code(3) },
    ];
    assert_eq!(host.hear().0, life);
    assert!(!session.wants_write(&outbox));
}

#[test]
fn heartbeats_keep_the_hosts_pace_and_never_come_in_bursts() {
    let (mut host, mut session, mut outbox) = open();
    assert_eq!(session.next_beat(), Some(AT(1000)));
    session.turn(AT(999), &mut outbox).expect("open");
    assert_eq!(host.hear().0, []);
    session.turn(AT(1000), &mut outbox).expect("open");
    session.turn(AT(60_000), &mut outbox).expect("open");
    let beats = [
        FromAgent::Heartbeat { seq: 2, uptime_ms: 1000 },
        FromAgent::Heartbeat { seq: 3, uptime_ms: 60_000 },
    ];
    assert_eq!(host.hear().0, beats);
    assert_eq!(session.next_beat(), Some(AT(61_000)));
}

#[test]
fn an_absurd_pace_is_bounded() {
    let (mut host, mut session, mut outbox) = open();
    for (asked, given) in [(0, 100), (u32::MAX, 60_000)] {
        host.say(&ToAgent::Welcome { protocol: PROTOCOL_VERSION, heartbeat_ms: asked });
        assert!(!session.turn(AT(0), &mut outbox).expect("open").welcomed, "only the first one opens");
        assert_eq!(session.next_beat(), Some(AT(given)));
    }
}

#[test]
fn shutdown_is_heard_and_the_shortest_grace_counts() {
    let (mut host, mut session, mut outbox) = open();
    host.say(&ToAgent::Shutdown { grace_ms: 900 });
    host.say(&ToAgent::Shutdown { grace_ms: 200 });
    host.say(&ToAgent::Shutdown { grace_ms: 500 });
    let heard = session.turn(AT(1), &mut outbox).expect("open");
    assert_eq!(
        heard,
        Heard {
            welcomed: false,
            wishes: Wishes { stop: Some(Duration::from_millis(200)), ..Wishes::default() }
        }
    );
}

#[test]
fn a_host_that_does_not_read_costs_old_output_but_no_frame_is_torn() {
    let (mut host, mut session, mut outbox) = open();
    let mut written = 0;
    // Far more than socket and outbox hold together.
    for turn in 0..2000_u64 {
        outbox.output(Stream::Stdout, &[b'x'; 1000]);
        written += 1000;
        session.turn(AT(turn / 10), &mut outbox).expect("open");
    }
    outbox.notice(Notice::Exited(ExitStatus::Code(0)));
    assert!(session.wants_write(&outbox));
    let (mut came, mut lost, mut last) = (0, 0, None);
    while session.wants_write(&outbox) {
        session.turn(AT(200), &mut outbox).expect("open");
        for message in host.hear().0 {
            match &message {
                FromAgent::Output { bytes, .. } => came += bytes.len() as u64,
                FromAgent::Dropped { bytes } => lost += bytes,
                _ => {}
            }
            last = Some(message);
        }
    }
    assert!(lost > 0);
    assert_eq!(came + lost, written);
    assert_eq!(last, Some(FromAgent::Exited { status: ExitStatus::Code(0) }));
}

#[test]
fn a_heartbeat_overtakes_output_that_waits() {
    let (mut host, mut session, mut outbox) = open();
    outbox.output(Stream::Stdout, &[b'x'; 60_000]);
    session.turn(AT(1000), &mut outbox).expect("open");
    assert!(matches!(host.hear().0.first(), Some(FromAgent::Heartbeat { seq: 2, .. })));
}

#[test]
fn one_turn_does_a_bounded_amount_of_work() {
    let (mut host, mut session, mut outbox) = open();
    for _ in 0..FRAMES_PER_TURN {
        outbox.output(Stream::Stdout, b"a");
        outbox.output(Stream::Stderr, b"b");
    }
    session.turn(AT(1), &mut outbox).expect("open");
    assert_eq!(host.hear().0.len(), FRAMES_PER_TURN);
    assert!(session.wants_write(&outbox), "the rest comes with the next turn");
}

/// Takes one byte at a time, and blocks before every one.
#[derive(Default)]
struct Trickle {
    taken: Vec<u8>,
    blocked: bool,
}

impl Read for Trickle {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}

impl Write for Trickle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.blocked = !self.blocked;
        if self.blocked {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.taken.extend_from_slice(&bytes[..1]);
        Ok(1)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_frame_in_many_pieces_arrives_whole() {
    let mut session = Session::new(Trickle::default(), AT(7));
    let mut outbox = Outbox::default();
    while session.wants_write(&outbox) {
        session.turn(AT(7), &mut outbox).expect("open");
    }
    let mut decoder = Decoder::new();
    assert!(decoder.push(&session.stream().taken).is_empty());
    assert!(matches!(decoder.pop(), Ok(Some(FromAgent::Hello { uptime_ms: 7, .. }))));
    assert_eq!(decoder.finish(), Ok(()));
}

#[test]
fn faults_of_the_host_end_the_session() {
    let (mut host, mut session, mut outbox) = open();
    host.say_raw(&[0xff; 8]);
    assert!(matches!(session.turn(AT(1), &mut outbox), Err(SessionFault::Frame(_))));

    let (mut host, mut session, mut outbox) = open();
    host.say(&ToAgent::Welcome { protocol: 2, heartbeat_ms: 1000 });
    assert!(matches!(session.turn(AT(1), &mut outbox), Err(SessionFault::Protocol { theirs: 2 })));

    let (host, mut session, mut outbox) = open();
    drop(host);
    assert!(matches!(session.turn(AT(1), &mut outbox), Err(SessionFault::HungUp)));
}

#[test]
fn what_a_snapshot_asks_for_is_heard_and_answered_in_order() {
    let (mut host, mut session, mut outbox) = open();
    host.say(&ToAgent::Hold);
    let heard = session.turn(AT(10), &mut outbox).expect("open");
    assert_eq!(heard.wishes, Wishes { hold: true, ..Wishes::default() });
    outbox.notice(Notice::Held);
    host.say(&ToAgent::Identify(Identity {
        seed: Seed([1; 32]),
        wall_clock_ns: 0,
        hostname: Hostname::default(),
        machine_id: Some([2; 16]),
        macs: std::iter::once([3; 6]).collect(),
    }));
    let heard = session.turn(AT(20), &mut outbox).expect("open");
    let identity = heard.wishes.identity.expect("heard");
    assert_eq!((identity.machine_id, identity.macs.as_slice()), (Some([2; 16]), [[3; 6]].as_slice()));
    outbox.notice(Notice::Identified);
    session.turn(AT(30), &mut outbox).expect("open");
    assert_eq!(host.hear().0, [FromAgent::Held, FromAgent::Identified]);
}

#[test]
fn questions_are_heard_in_order_and_an_answer_overtakes_output() {
    let (mut host, mut session, mut outbox) = open();
    host.say(&ToAgent::Restart { grace_ms: 5 });
    for id in [3, 4] {
        host.say(&ToAgent::Ask { id, timeout_ms: 7, question: Question::Tcp { port: 80 } });
    }
    let heard = session.turn(AT(10), &mut outbox).expect("open");
    assert_eq!(heard.wishes.restart, Some(Duration::from_millis(5)));
    let asked: Vec<_> = heard.wishes.asked.iter().map(|asked| (asked.id, asked.timeout)).collect();
    assert_eq!(asked, [(3, Duration::from_millis(7)), (4, Duration::from_millis(7))]);
    outbox.output(hearth_wire::Stream::Stdout, b"x");
    outbox.answer(3, true);
    session.turn(AT(20), &mut outbox).expect("open");
    let heard = host.hear().0;
    assert_eq!(heard[0], FromAgent::Answered { id: 3, good: true });
    assert_eq!(heard.len(), 2);
}

//! The link against hosts that answer, refuse, stay silent and come back.

use super::*;
use crate::{fake_host::Host, outbox::Notice};
use hearth_wire::{ExitStatus, FromAgent, Stream};
use std::{cell::RefCell, collections::VecDeque, net::Shutdown, os::unix::net::UnixStream, rc::Rc};

const AT: fn(u64) -> Uptime = Uptime::at_millis;

/// Answers each try from a list; afterwards refuses.
#[derive(Default, Clone)]
struct Script(Rc<RefCell<VecDeque<Result<UnixStream, DialFault>>>>);

impl Script {
    fn then(self, answer: Result<UnixStream, DialFault>) -> Self {
        self.0.borrow_mut().push_back(answer);
        self
    }

    fn then_host(&self) -> Host {
        let (host, agent) = Host::pair();
        self.0.borrow_mut().push_back(Ok(agent));
        host
    }
}

fn refusal() -> DialFault {
    DialFault::Refused(io::ErrorKind::ConnectionRefused.into())
}

impl Dial for Script {
    type Stream = UnixStream;

    fn dial(&mut self) -> Result<UnixStream, DialFault> {
        self.0.borrow_mut().pop_front().unwrap_or_else(|| Err(refusal()))
    }

    fn outcome(&self, stream: &UnixStream) -> io::Result<()> {
        stream.take_error()?.map_or(Ok(()), Err)
    }

    fn half_close(&self, stream: &UnixStream) -> io::Result<()> {
        stream.shutdown(Shutdown::Write)
    }
}

/// Turns at one time until nothing changes any more; whether a welcome came.
fn settle(link: &mut Link<Script>, now: Uptime, outbox: &mut Outbox) -> bool {
    (0..8).fold(false, |welcomed, _| link.turn(now, outbox).welcomed || welcomed)
}

#[test]
fn without_a_way_to_a_host_the_console_gets_all_and_nothing_is_tried_again() {
    let mut link = Link::new(Script::default().then(Err(DialFault::Absent)), AT(0));
    let mut outbox = Outbox::default();
    assert_eq!(link.route(), Route::Held);
    settle(&mut link, AT(0), &mut outbox);
    assert_eq!((link.route(), link.deadline()), (Route::Console, None));
    assert!(link.is_closed());
}

#[test]
fn output_waits_for_the_first_answer_only() {
    let script = Script::default();
    let mut host = script.then_host();
    let mut link = Link::new(script, AT(0));
    let mut outbox = Outbox::default();
    outbox.output(Stream::Stdout, b"x");
    assert!(!settle(&mut link, AT(0), &mut outbox));
    assert_eq!(link.route(), Route::Held);
    host.welcome();
    assert!(settle(&mut link, AT(5), &mut outbox));
    assert_eq!(link.route(), Route::Host);
    let heard = host.hear().0;
    assert!(matches!(
        heard.as_slice(),
        [FromAgent::Hello { .. }, FromAgent::Heartbeat { .. }, FromAgent::Output { .. }]
    ));
}

#[test]
fn a_silent_host_is_given_up_and_output_goes_to_the_console() {
    let script = Script::default();
    let _silent = script.then_host();
    let mut link = Link::new(script, AT(0));
    let mut outbox = Outbox::default();
    settle(&mut link, AT(0), &mut outbox);
    let deadline = link.deadline().expect("patience ends");
    assert_eq!(deadline, AT(2000));
    settle(&mut link, deadline, &mut outbox);
    assert_eq!(link.route(), Route::Console);
}

#[test]
fn tries_get_rarer_up_to_a_ceiling() {
    let mut link = Link::new(Script::default(), AT(0));
    let mut outbox = Outbox::default();
    let mut now = AT(0);
    let mut waits = Vec::new();
    for _ in 0..9 {
        link.turn(now, &mut outbox);
        let next = link.deadline().expect("tries for ever");
        waits.push(now.until(next).as_millis());
        now = next;
    }
    assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    assert_eq!(link.route(), Route::Console);
}

#[test]
fn a_host_that_comes_back_is_welcomed_as_a_new_one() {
    let script = Script::default().then(Err(refusal())).then(Err(refusal()));
    let mut first = script.then_host();
    let mut link = Link::new(script.clone(), AT(0));
    let mut outbox = Outbox::default();
    first.welcome();
    link.turn(AT(0), &mut outbox);
    link.turn(AT(100), &mut outbox);
    assert!(settle(&mut link, AT(300), &mut outbox));
    drop(first);
    let news = link.turn(AT(310), &mut outbox);
    assert_eq!(news.note.as_deref(), Some("lost the host: it hung up"));
    // Soon: what failed before the welcome is forgiven.
    assert_eq!((link.route(), link.deadline()), (Route::Console, Some(AT(410))));
    let mut second = script.then_host();
    second.welcome();
    assert!(settle(&mut link, AT(410), &mut outbox));
    assert_eq!(link.route(), Route::Host);
}

#[test]
fn leaving_flushes_everything_then_waits_for_the_host_to_hang_up() {
    let script = Script::default();
    let mut host = script.then_host();
    let mut link = Link::new(script, AT(0));
    let mut outbox = Outbox::default();
    for _ in 0..100 {
        // More frames than one turn sends.
        outbox.output(Stream::Stdout, b"o");
        outbox.output(Stream::Stderr, b"e");
    }
    outbox.notice(Notice::Exited(ExitStatus::Code(0)));
    link.leave();
    settle(&mut link, AT(0), &mut outbox);
    assert!(!link.is_closed(), "a first try under way may still bring the exit status home");
    host.welcome();
    settle(&mut link, AT(1), &mut outbox);
    let (heard, hung_up) = host.hear();
    assert_eq!(heard.last(), Some(&FromAgent::Exited { status: ExitStatus::Code(0) }));
    assert!(hung_up, "the host sees the end");
    assert!(!link.is_closed());
    drop(host);
    settle(&mut link, AT(2), &mut outbox);
    assert!(link.is_closed());
}

#[test]
fn leaving_without_a_host_is_over_at_once() {
    let mut link = Link::new(Script::default().then(Err(refusal())), AT(0));
    let mut outbox = Outbox::default();
    outbox.output(Stream::Stdout, b"x");
    settle(&mut link, AT(0), &mut outbox);
    link.leave();
    settle(&mut link, AT(1), &mut outbox);
    assert!(link.is_closed());
}

#[test]
fn what_an_abandoned_host_did_not_take_goes_to_the_console() {
    let script = Script::default();
    let mut host = script.then_host();
    let mut link = Link::new(script, AT(0));
    let mut outbox = Outbox::default();
    link.turn(AT(0), &mut outbox);
    link.abandon();
    assert!(link.is_closed() && host.hear().1);
    assert_eq!(link.route(), Route::Console);
}

#[test]
fn a_workload_that_ends_at_once_still_gets_its_first_try() {
    let script = Script::default();
    let mut host = script.then_host();
    let mut link = Link::new(script, AT(0));
    let mut outbox = Outbox::default();
    link.leave();
    host.welcome();
    outbox.notice(Notice::Exited(ExitStatus::NotStarted(2)));
    settle(&mut link, AT(0), &mut outbox);
    assert_eq!(host.hear().0.last(), Some(&FromAgent::Exited { status: ExitStatus::NotStarted(2) }));
}

#[test]
fn another_protocol_is_told_and_tried_again() {
    let script = Script::default();
    let mut host = script.then_host();
    let mut link = Link::new(script, AT(0));
    let mut outbox = Outbox::default();
    link.turn(AT(0), &mut outbox);
    host.say(&hearth_wire::ToAgent::Welcome { protocol: 9, heartbeat_ms: 1 });
    let news = link.turn(AT(0), &mut outbox);
    let note = news.note.expect("worth a line");
    assert_eq!(note, "lost the host: it speaks protocol 9, this agent speaks 1");
    assert_eq!(link.route(), Route::Console);
}

#[test]
fn a_copy_that_lost_its_host_calls_at_once() {
    let script = Script::default();
    let mut host = script.then_host();
    let mut link = Link::new(script.clone(), AT(0));
    let mut outbox = Outbox::default();
    settle(&mut link, AT(0), &mut outbox);
    host.welcome();
    assert!(settle(&mut link, AT(5), &mut outbox));
    drop(host);
    settle(&mut link, AT(10), &mut outbox);
    assert!(link.deadline() > Some(AT(10)));
    link.hurry(AT(10));
    let mut host = script.then_host();
    settle(&mut link, AT(10), &mut outbox);
    assert!(matches!(host.hear().0.as_slice(), [FromAgent::Hello { .. }]));
}

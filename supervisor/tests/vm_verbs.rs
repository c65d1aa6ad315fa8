//! `hearthctl vm` against a monitor that is played here.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends there")]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use hearth_wire::control::{
    Answer, End, Event, Figure, LogLevel, Order, Phase, Refusal, Reply, Request, Status, Step,
    decode_request, encode_reply,
};
use hearth_wire::{HEADER_LEN, MAX_FRAME};

fn hearthctl(socket: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hearthctl")).arg("vm").arg(socket).args(arguments).output().unwrap()
}

fn read_request(stream: &mut UnixStream) -> Request {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).unwrap();
    let mut payload = vec![0; usize::from(u16::from_le_bytes([header[0], header[1]]))];
    stream.read_exact(&mut payload).unwrap();
    decode_request(&payload).unwrap()
}

/// Runs the verb; the monitor checks the order and says `replies`. Answers get the request's number.
fn play(arguments: &[&str], order: Order, replies: Vec<Reply<'static>>) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let monitor = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request = read_request(&mut stream);
        assert_eq!(request.order, order);
        for mut reply in replies {
            if let Reply::Answer { id, .. } = &mut reply {
                *id = request.id;
            }
            let mut buffer = [0; MAX_FRAME];
            stream.write_all(encode_reply(&reply, &mut buffer).unwrap()).unwrap();
        }
    });
    let output = hearthctl(&socket, arguments);
    monitor.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn answer(answer: Answer<'static>) -> Reply<'static> {
    Reply::Answer { id: 0, answer }
}

#[test]
fn verbs_send_what_they_say_and_end_with_what_became_of_it() {
    for (arguments, order) in [
        (&["pause"][..], Order::Pause),
        (&["resume"], Order::Resume),
        (&["power-button"], Order::PowerButton),
        (&["balloon", "64"], Order::BalloonTarget { mib: 64 }),
        (&["log-level", "debug"], Order::SetLogLevel(LogLevel::Debug)),
    ] {
        assert_eq!(
            play(arguments, order, vec![answer(Answer::Done)]),
            (Some(0), String::new(), String::new()),
            "{arguments:?}"
        );
        let no = Answer::Refused { code: Refusal::Stopping, text: "not now" };
        let (status, _, complaint) = play(arguments, order, vec![answer(no)]);
        assert_eq!(
            (status, complaint.as_str()),
            (Some(1), "hearthctl: the monitor refused: not now\n"),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_stop_tells_how_the_machine_ended() {
    let ended = answer(Answer::Ended(End { status: 16, how: Some(Step::Button) }));
    let (status, told, _) = play(&["stop"], Order::Stop { now: false }, vec![ended.clone()]);
    assert_eq!((status, told.as_str()), (Some(0), "stopped by the host (its power button was pressed)\n"));
    assert_eq!(play(&["stop", "--now"], Order::Stop { now: true }, vec![ended]).0, Some(0));
}

#[test]
fn statistics_come_in_parts_and_out_as_one_object() {
    let part = |of, value, more| {
        let figures = [Figure { name: "reads", value }].into_iter().collect();
        answer(Answer::Figures { of, figures, more })
    };
    let parts = || vec![part("vcpu0", 7, true), part("machine", 0, false)];
    let (status, json, _) = play(&["statistics", "--json"], Order::Statistics, parts());
    assert_eq!((status, json.as_str()), (Some(0), "{\"vcpu0\":{\"reads\":7},\"machine\":{\"reads\":0}}\n"));
    let (_, text, _) = play(&["statistics"], Order::Statistics, parts());
    assert_eq!(text, "vcpu0\n  reads                    7\nmachine\n");
}

#[test]
fn events_are_printed_until_the_machine_ends() {
    let replies = vec![
        answer(Answer::Done),
        Reply::Event(Event::Started),
        Reply::Event(Event::DeviceNeedsReset { device: "disk" }),
        Reply::Event(Event::Lost { count: 3 }),
        Reply::Event(Event::Ended(End { status: 0, how: None })),
    ];
    let (status, told, _) = play(&["events"], Order::Subscribe, replies);
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(status, Some(0));
    assert_eq!((lines[0], lines.len()), ("started", 4), "{told}");
    assert!(lines[1].starts_with("disk: ") && lines[2].starts_with("3 events were lost"), "{told}");
}

/// A frame around a payload that nobody here can make: length, CRC-32C of both, payload.
fn frame_of(payload: &[u8]) -> Vec<u8> {
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

#[test]
fn an_event_of_a_newer_monitor_does_not_end_the_listing() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let monitor = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let id = read_request(&mut stream).id;
        let mut buffer = [0; MAX_FRAME];
        let mut say = |bytes: &[u8]| stream.write_all(bytes).unwrap();
        say(encode_reply(&Reply::Answer { id, answer: Answer::Done }, &mut buffer).unwrap());
        // An event, as replies are numbered, and the hundredth of its kind.
        say(&frame_of(&[1, 99]));
        let ended = Event::Ended(End { status: 0, how: None });
        say(encode_reply(&Reply::Event(ended), &mut buffer).unwrap());
    });
    let output = hearthctl(&socket, &["events"]);
    monitor.join().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(
        lines,
        ["something that this hearthctl does not know", "ended: the guest powered off by itself"]
    );
}

#[test]
fn status_is_told_to_people_and_programs() {
    let now = Status {
        protocol: 1,
        phase: Phase::Paused,
        vcpus: 2,
        memory_mib: 64,
        uptime_ms: 1500,
        reboots: 1,
        log_level: LogLevel::Warn,
    };
    let (_, text, _) = play(&["status"], Order::Status, vec![answer(Answer::Status(now))]);
    assert!(text.starts_with("paused, up 1.5 s\n"), "{text}");
    let (_, json, _) = play(&["status", "--json"], Order::Status, vec![answer(Answer::Status(now))]);
    assert!(json.starts_with("{\"state\":\"paused\",\"uptime_ms\":1500,"), "{json}");
}

#[test]
fn a_monitor_that_is_not_there_or_leaves_is_told_in_one_line() {
    let nowhere = hearthctl(Path::new("/nonexistent/control.sock"), &["status"]);
    let complaint = String::from_utf8(nowhere.stderr).unwrap();
    assert_eq!((nowhere.status.code(), complaint.lines().count()), (Some(1), 1), "{complaint}");
    assert!(complaint.contains("/nonexistent/control.sock: no monitor answers there"), "{complaint}");
    let (status, _, complaint) = play(&["status"], Order::Status, Vec::new());
    assert_eq!((status, complaint.as_str()), (Some(1), "hearthctl: the monitor hung up\n"));
}

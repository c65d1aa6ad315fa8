use super::*;
use crate::child::reap_one;
use hearth_wire::{UrlPath, Words};
use nix::poll::{PollFd, PollTimeout, poll};
use std::net::TcpListener;

const AT: fn(u64) -> Uptime = Uptime::at_millis;

fn asked(id: u32, question: Question) -> Asked {
    Asked { id, timeout: Duration::from_millis(50), question }
}

fn http(port: u16) -> Question {
    Question::Http { port, path: UrlPath::try_from("/healthy?x").unwrap() }
}

fn exec(words: &[&str]) -> Question {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.bytes().chain([0])).collect();
    Question::Exec(Words::from_slice(&bytes).unwrap())
}

/// All answers that come without a clock: until nothing is open, or nothing moves without somebody else.
fn answers(questions: &mut Questions) -> Vec<(u32, bool)> {
    let mut all = Vec::new();
    while !questions.open.is_empty() {
        let mut fds: Vec<_> = questions.interest().map(|(fd, flags)| PollFd::new(fd, flags)).collect();
        if !fds.is_empty() {
            poll(&mut fds, PollTimeout::NONE).unwrap();
        }
        let ends: Vec<_> = questions.commands().map(reap_one).collect();
        questions.ended(ends.into_iter());
        questions.turn(AT(0), |id, good| all.push((id, good)));
    }
    all
}

#[test]
fn a_port_that_takes_connections_is_good_and_one_that_does_not_is_bad() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut questions = Questions::default();
    questions.ask(AT(0), &asked(7, Question::Tcp { port }), &GuestConfig::default());
    assert_eq!(answers(&mut questions), [(7, true)]);
    drop(listener);
    questions.ask(AT(0), &asked(8, Question::Tcp { port }), &GuestConfig::default());
    assert_eq!(answers(&mut questions), [(8, false)]);
}

#[test]
fn http_is_asked_in_one_line_and_its_status_decides() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = std::thread::spawn(move || {
        for answer in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.0 399 ",
            "HTTP/1.1 503 Busy\r\n",
            "HTTP/1.1 20",
            "SSH-2.0-x 200 ",
            "",
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4];
            stream.read_exact(&mut request).unwrap();
            assert_eq!(&request, b"GET ");
            let mut rest = Vec::new();
            while !rest.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                rest.extend(byte);
            }
            assert!(rest.starts_with(b"/healthy?x HTTP/1.0\r\n"), "{rest:?}");
            // In two pieces.
            let (first, second) = answer.split_at(answer.len() / 2);
            stream.write_all(first.as_bytes()).unwrap();
            stream.write_all(second.as_bytes()).unwrap();
        }
    });
    let mut goods = Vec::new();
    for id in 0..6 {
        let mut questions = Questions::default();
        questions.ask(AT(0), &asked(id, http(port)), &GuestConfig::default());
        goods.extend(answers(&mut questions));
    }
    serve.join().unwrap();
    assert_eq!(goods, [(0, true), (1, true), (2, false), (3, false), (4, false), (5, false)]);
}

#[test]
fn a_commands_status_is_the_answer_whatever_it_writes() {
    let config = GuestConfig::default();
    let mut questions = Questions::default();
    questions.ask(AT(0), &asked(1, exec(&["sh", "-c", "echo well; exit 0"])), &config);
    assert_eq!(answers(&mut questions), [(1, true)]);
    questions.ask(AT(0), &asked(2, exec(&["sh", "-c", "echo no >&2; exit 3"])), &config);
    assert_eq!(answers(&mut questions), [(2, false)]);
    questions.ask(AT(0), &asked(3, exec(&["/nowhere/x"])), &config);
    assert_eq!(answers(&mut questions), [(3, false)]);
}

#[test]
fn what_takes_too_long_is_bad_and_its_command_is_killed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = GuestConfig::default();
    let mut questions = Questions::default();
    questions.ask(AT(0), &asked(1, exec(&["sh", "-c", "sleep 1000"])), &config);
    questions.ask(AT(10), &asked(2, http(port)), &config);
    assert_eq!(questions.deadline(), Some(AT(50)));
    let mut got = Vec::new();
    questions.turn(AT(49), |id, good| got.push((id, good)));
    assert_eq!(got, []);
    questions.turn(AT(50), |id, good| got.push((id, good)));
    assert_eq!(got, [(1, false)]);
    questions.turn(AT(60), |id, good| got.push((id, good)));
    assert_eq!(got, [(1, false), (2, false)]);
    assert_eq!(questions.deadline(), None);
}

#[test]
fn questions_without_end_are_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut questions = Questions::default();
    for id in 0..100 {
        questions.ask(AT(0), &asked(id, http(port)), &GuestConfig::default());
    }
    assert_eq!(questions.open.len(), MAX_QUESTIONS);
    assert_eq!(questions.open[0].id, 84);
}

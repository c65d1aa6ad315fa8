//! Boxes with certificates of their own, and brokers that are not who they should be.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::TcpListener;
use std::path::Path;
use std::time::Instant;

use hearth_fleet::shell::{Identity, Word};
use hearth_fleet::sparkplug::session::News;
use hearth_fleet_tests::PATIENCE;
use hearth_fleet_tests::authority::Authority;
use hearth_fleet_tests::broker::{self, Broker};
use hearth_fleet_tests::member::{Member, figures, options};

/// A broker that wants certificates from `authority` and shows one for `localhost`; its port.
fn broker(program: &Path, authority: &Authority) -> (Broker, u16) {
    for _ in 0..20 {
        // Free a moment ago; somebody may be quicker.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let more = format!(
            "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n\
             use_identity_as_username true\n",
            authority.certificate().display(),
            authority.file("localhost", "pem").display(),
            authority.file("localhost", "key").display()
        );
        if let Ok(broker) = Broker::start(program, &more) {
            return (broker, port);
        }
    }
    panic!("no broker with TLS");
}

/// What the box says of its first try.
fn first_word(member: &Member) -> Word {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(word) = member.words.lock().unwrap().first() {
            return word.clone();
        }
        std::thread::yield_now();
    }
    panic!("not a word");
}

fn why(word: &Word) -> &str {
    match word {
        Word::Session(News::Unreachable { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_box_and_its_broker_know_each_other_by_their_certificates() {
    let Some(program) = broker::program() else { return };
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority").unwrap();
    let stranger = Authority::new(folder.path(), "stranger").unwrap();
    authority.sign("localhost").unwrap();
    authority.sign("box").unwrap();
    stranger.sign("impostor").unwrap();
    let (broker, port) = broker(program, &authority);
    let start = |name: &str, server: &str, ca: &Authority, identity: &str| {
        let mut options =
            options(name, &[format!("mqtts://{server}:{port}")], &folder.path().join(name)).unwrap();
        options.ca = Some(ca.certificate());
        options.identity = Some(Identity {
            certificate: folder.path().join(format!("{identity}.pem")),
            key: folder.path().join(format!("{identity}.key")),
        });
        let member = Member::start(options).unwrap();
        member.show(figures(1, 1));
        member
    };
    let mut listener = broker.listen("spBv1.0/#").unwrap();
    let good = start("good", "localhost", &authority, "box");
    assert_eq!(first_word(&good), Word::Session(News::Online { server: 0 }));
    assert!(
        listener.find(|line| line.starts_with("spBv1.0/plant/DBIRTH/good/web.0 ").then_some(())).is_some()
    );
    good.stop();
    // It had a good certificate before it; the next process knows when.
    let memo = std::fs::read_to_string(folder.path().join("good/session")).unwrap();
    assert!(memo.starts_with("bd_seq 1\n"), "{memo}");

    for (name, server, ca, identity, expected) in [
        ("fooled", "localhost", &stranger, "box", "invalid peer certificate: UnknownIssuer"),
        (
            "elsewhere",
            "127.0.0.1",
            &authority,
            "box",
            "invalid peer certificate: certificate not valid for name",
        ),
        ("impostor", "localhost", &authority, "impostor", "received fatal alert"),
        ("nobody", "localhost", &authority, "nobody", "its files for TLS cannot be used"),
    ] {
        let member = start(name, server, ca, identity);
        let words = loop {
            let word = first_word(&member);
            if !matches!(word, Word::Tls(_)) {
                break why(&word).to_owned();
            }
            member.words.lock().unwrap().retain(|word| !matches!(word, Word::Tls(_)));
        };
        assert!(words.contains(expected), "{name}: {words}");
        member.stop();
    }
}

/// Milliseconds since 1970: the year 2100, when no certificate of this test is good any more.
const FAR_MS: u64 = 4_102_444_800_000;

#[test]
fn a_certificate_is_judged_at_a_time_that_certainly_was_even_if_the_clock_says_an_earlier_one() {
    let Some(program) = broker::program() else { return };
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority").unwrap();
    authority.sign("localhost").unwrap();
    authority.sign("box").unwrap();
    let (_broker, port) = broker(program, &authority);
    let own = folder.path().join("own");
    let mut options = options("box", &[format!("mqtts://localhost:{port}")], &own).unwrap();
    options.ca = Some(authority.certificate());
    options.identity =
        Some(Identity { certificate: authority.file("box", "pem"), key: authority.file("box", "key") });
    std::fs::create_dir(&own).unwrap();
    // What an earlier process found, when the clock was set.
    std::fs::write(own.join("session"), format!("bd_seq 7\ncertificate_good_ms {FAR_MS}\n")).unwrap();
    let member = Member::start(options).unwrap();
    member.show(figures(0, 1));
    let words = why(&first_word(&member)).to_owned();
    assert!(words.contains("certificate expired"), "{words}");
    member.stop();
}

//! A link that is cut by the kernel, in a network of the test's own.
//!
//! Duty: the network, and rules of nftables in it. Skipped by name where a test may not have such a network, or nft is
//! not there.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use hearth_fleet_tests::broker::{self, Broker};
use hearth_fleet_tests::observer::MISSES_NOTHING;
use nix::sched::{CloneFlags, unshare};

use super::is_death;
use super::scene::{How, Scene, has};

/// A port that nobody else has in a network of one's own.
const PORT: u16 = 1883;

/// What packets come to.
#[derive(Clone, Copy)]
enum Fate {
    /// As when a cable is pulled somewhere: nobody is told.
    Dropped,
    /// As at a firewall that says so, which the box is told. What it says would not get through a firewall for both.
    Refused,
}

impl Fate {
    fn rules(self) -> String {
        match self {
            Fate::Dropped => format!("  tcp dport {PORT} drop\n  tcp sport {PORT} drop\n"),
            Fate::Refused => format!("  tcp dport {PORT} reject with tcp reset\n"),
        }
    }
}

fn run(program: &str, args: &[&str], input: &str) -> bool {
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    let written = child.stdin.take().is_some_and(|mut stdin| stdin.write_all(input.as_bytes()).is_ok());
    child.wait().is_ok_and(|status| status.success()) && written
}

/// This thread and all that it starts have a network to themselves.
fn own_network() -> bool {
    let own = unshare(CloneFlags::CLONE_NEWNET).is_ok() && run("ip", &["link", "set", "lo", "up"], "");
    if !own {
        println!("skipped: no network of its own, for which a test has to be root");
        return false;
    }
    let rules = run("nft", &["list", "ruleset"], "");
    if !rules {
        println!("skipped: no nft");
    }
    rules
}

fn cut(fate: Fate) {
    let rules = format!(
        "table inet link {{\n chain both {{\n  type filter hook input priority 0\n{} }}\n}}\n",
        fate.rules()
    );
    assert!(run("nft", &["-f", "-"], &rules), "{rules}");
}

fn mend() {
    assert!(run("nft", &["delete", "table", "inet", "link"], ""));
}

/// Box and broker over TCP, with nobody between them but the kernel.
fn scene() -> Option<Scene> {
    let program = broker::program()?;
    if !own_network() {
        return None;
    }
    let more = format!("{MISSES_NOTHING}listener {PORT} 127.0.0.1\n");
    let broker = Broker::start(program, &more).unwrap();
    let scene = Scene::new(program, broker, &format!("mqtt://127.0.0.1:{PORT}"), |options| {
        options.connect_within = Duration::from_secs(2);
    });
    // It really is the network of this test alone.
    assert!(TcpListener::bind(("127.0.0.1", PORT)).is_err());
    Some(scene)
}

#[test]
fn a_link_that_the_kernel_cuts_without_a_word_loses_nothing_and_the_box_is_dead_meanwhile() {
    let Some(mut scene) = scene() else { return };
    for _ in 0..2 {
        let deaths = |scene: &Scene| scene.observer.heard().iter().filter(|heard| is_death(heard)).count();
        let before = deaths(&scene);
        cut(Fate::Dropped);
        scene.tell(5);
        // The peer vanished without a FIN: the broker finds out by its own clock, and publishes the Will.
        let died = scene
            .observer
            .wait(|heard| (heard.iter().filter(|heard| is_death(heard)).count() > before).then_some(()));
        assert!(died.is_some(), "no NDEATH");
        scene.tell(5);
        mend();
        let told = scene.all_arrive();
        let last = scene.last();
        let history = told.iter().filter(|one| one.how == How::History && one.value > last - 10).count();
        assert!(history >= 8, "{told:?}");
    }
    scene.end();
}

#[test]
fn a_link_that_the_kernel_resets_again_and_again_loses_nothing() {
    let Some(mut scene) = scene() else { return };
    for round in 1..=6 {
        scene.tell(4);
        let last = scene.last();
        scene.wait("the last", |told| has(told, last));
        cut(Fate::Refused);
        scene.tell(4);
        scene.wait_until_it_lost(round);
        mend();
    }
    scene.all_arrive();
    scene.end();
}

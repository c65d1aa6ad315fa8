//! Programs, consoles and logs of a box, seen from a broker.

use super::fleet::Person;
use super::*;

use hearth_fleet_tests::broker::{self, Broker};
use hearth_fleet_tests::tap::{Said, Tap};
use hearth_fleet_tests::wire::Packet;

const ALLOWED: &str = "[remote]\nexec = \"operate\"\nconsole = \"release\"\nfetch_logs = \"operate\"\n";

/// A box whose `web` allows something and whose `other` does not, and whoever has its keys.
struct Scene {
    broker: Broker,
    person: Person,
    site: Site,
}

impl Scene {
    /// The box reaches the broker at `server`, or directly.
    fn new(program: &Path, server: impl FnOnce(&Broker) -> Option<String>) -> Scene {
        let broker = Broker::start(program, "").expect("mosquitto runs");
        let direct = format!("unix:{}", broker.socket().display());
        let person = Person { folder: tempfile::tempdir().expect("a folder"), broker: direct.clone() };
        let key = |name: &str| {
            let (status, told) = person.fleet(&["keygen", "--no-password", name]);
            assert_eq!(status, 0, "{told}");
            told.lines().next().expect("a key").to_owned()
        };
        let (operate, release) = (key("operate"), key("release"));
        let site = Site::with_fake().workload("web", "service", "serve", ALLOWED);
        let site = site.workload("other", "service", "serve", "");
        let site = site.member(&server(&broker).unwrap_or(direct)).operated_by(&operate);
        let text = fs::read_to_string(site.config()).expect("the file");
        fs::write(site.config(), format!("{text}release = [{release:?}]\n")).expect("a file");
        Scene { broker, person, site }
    }

    fn start(&self) -> Daemon {
        let mut daemon = self.site.start();
        daemon.wait_for("hearthd | ready: 2 of 2 workloads");
        daemon.wait_until(|line| line.contains("fleet: ") && line.ends_with("is connected"));
        daemon
    }

    fn words<'w>(verb: &'w str, key: &'w str, workload: &'w str, more: &[&'w str]) -> Vec<&'w str> {
        let words = [verb, "--group", "plant", "--key", key, "--workload", workload, "box"];
        [&words[..], more].concat()
    }

    fn exec(&self, more: &[&str]) -> (i32, String) {
        self.person.fleet(&Scene::words("exec", "operate.key", "web", more))
    }

    fn run(&self, key: &str, words: &[&str]) -> (i32, String) {
        self.person.fleet(&[&["run", "--group", "plant", "--key", key], words].concat())
    }
}

#[test]
fn programs_consoles_and_logs_come_to_whoever_may_and_say_how_they_ended() {
    let Some(program) = broker::program() else { return };
    let scene = Scene::new(program, |_| None);
    let mut daemon = scene.start();
    fs::write(scene.person.folder.path().join("input"), "y".repeat(5000)).unwrap();
    let (status, told) = scene.exec(&["--input", "input", "--", "cat"]);
    let expected = format!("terminal None, input true\r\n{}", "y".repeat(5000));
    assert_eq!((status, told), (0, expected));
    let ended = "hearthctl: box: failed: it ended with status 7\n";
    assert_eq!(scene.exec(&["--", "exit", "7"]), (7, ended.to_owned()));
    assert_eq!(scene.exec(&["--", "missing"]).0, 127);
    let (status, told) = scene.exec(&["--max-kib", "9", "--timeout", "1", "--", "flood"]);
    let (output, words) = told.split_at(9 << 10);
    assert!(status == 125 && output.bytes().all(|byte| byte == b'x'), "{told}");
    let words: Vec<_> = words.lines().collect();
    assert_eq!(words[0], "hearthctl: box: failed: it ran longer than 1 s, and was ended");
    assert!(words[1].ends_with(" bytes of output were dropped"), "{words:?}");

    let of =
        |verb, key, workload, more: &[&str]| scene.person.fleet(&Scene::words(verb, key, workload, more));
    let wrong =
        "hearthctl: box: rejected: web: console takes signatures by keys of release (its remote.console)\n";
    assert_eq!(of("console", "operate.key", "web", &[]), (125, wrong.to_owned()));
    assert_eq!(of("console", "release.key", "web", &[]), (0, "guest kernel speaking\n".to_owned()));
    let off = "hearthctl: box: rejected: other: exec is off; remote.exec = \"operate\" or \"release\" in its \
               configuration allows it\n";
    assert_eq!(of("exec", "operate.key", "other", &["--", "id"]), (125, off.to_owned()));
    let (status, log) = of("logs", "operate.key", "web", &["-n", "1"]);
    assert!(status == 0 && log.lines().count() == 1 && log.ends_with(" web serving\n"), "{log}");
    let (_, json) = of("logs", "operate.key", "web", &["--json"]);
    let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!((&last["box"], &last["state"]), (&"box".into(), &"successful".into()));
    let events: Vec<_> = daemon.seen_until_stopped();
    let runs = |line: &&String| line.contains("web: the fleet (command ") && line.contains(") runs ");
    assert_eq!(events.iter().filter(runs).count(), 4);
}

#[test]
fn what_else_a_box_does_for_its_fleet_is_done_and_what_it_cannot_is_said() {
    let Some(program) = broker::program() else { return };
    let scene = Scene::new(program, |_| None);
    let mut daemon = scene.start();
    let snapshot = ["snapshot", "box", "--workload", "web", "--name", "before"];
    assert_eq!(scene.run("operate.key", &snapshot), (0, "box: successful\n".to_owned()));
    assert!(scene.site.state().join("snapshots/web/before/memory").exists());
    let (status, told) = scene.run("operate.key", &snapshot);
    assert!(status == 1 && told.starts_with("box: failed: expected a new name, there is "), "{told}");
    let unknown = "box: rejected: update is not supported\n";
    assert_eq!(scene.run("release.key", &["update", "box"]), (1, unknown.to_owned()));
    let (_, told) = scene.run("operate.key", &["set-log-level", "box", "--level", "loud"]);
    assert_eq!(told, "box: rejected: level: expected \"output\", \"info\" or \"alarm\"\n");
    let level = ["set-log-level", "box", "--level", "alarm"];
    assert_eq!(scene.run("operate.key", &level), (0, "box: successful\n".to_owned()));
    daemon.wait_for("hearthd | fleet: from here on alarm and what matters more is printed");
    assert_eq!(scene.run("operate.key", &["restart-workload", "box", "--workload", "web"]).0, 0);
    daemon.stop_quietly();
    assert!(daemon.seen.last().is_some_and(|line| line.contains("from here on alarm")), "{:#?}", daemon.seen);
}

#[test]
fn whoever_interrupts_ends_the_program_on_the_box() {
    let Some(program) = broker::program() else { return };
    let scene = Scene::new(program, |_| None);
    let mut daemon = scene.start();
    let mut asking = Command::new(env!("CARGO_BIN_EXE_hearthctl"))
        .current_dir(scene.person.folder.path())
        .env("HEARTH_BROKER", &scene.person.broker)
        .arg("fleet")
        .args(Scene::words("exec", "operate.key", "web", &["--timeout", "3600", "--", "wait"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(asking.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "terminal None, input false\r\n");
    kill(Pid::from_raw(asking.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = asking.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    let expected =
        "hearthctl: cancelling; once more leaves at once\nhearthctl: box: failed: it was cancelled\n";
    assert_eq!((output.status.code(), told.as_str()), (Some(125), expected));
    daemon.stop_quietly();
}

/// What the box said on topics below a place, each number once, in their order.
fn pieces(said: &[Said], place: &str) -> std::collections::BTreeMap<u32, Vec<u8>> {
    let mut pieces = std::collections::BTreeMap::new();
    for one in said {
        let Packet::Publish(publish) = &one.packet else { continue };
        let Some(number) = publish.topic.strip_prefix(place) else { continue };
        let before = pieces.insert(number.parse().expect("a number"), publish.payload.clone());
        assert!(before.is_none_or(|before| before == publish.payload), "one number, two contents");
    }
    pieces
}

#[test]
fn output_is_whole_and_a_program_runs_once_though_the_broker_dies_in_between() {
    let Some(program) = broker::program() else { return };
    let mut tap = None;
    let mut scene = Scene::new(program, |broker| {
        let made = Tap::new(broker.socket()).unwrap();
        let server = made.server();
        tap = Some(made);
        Some(server)
    });
    let tap = tap.unwrap();
    let mut daemon = scene.start();
    let issued = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let document = format!(
        r#"{{"hearth":"command","for":["plant/box"],"op":"exec","id":"c1","issued":{issued},"workload":"web",
             "command":["count","400"],"max_kib":1024}}"#
    );
    fs::write(scene.person.folder.path().join("command.json"), document).unwrap();
    assert_eq!(scene.person.fleet(&["sign", "--key", "operate.key", "command.json"]).0, 0);
    let (_, envelope) = scene.person.fleet(&["seal", "command.json"]);
    let topic = "hearth/v1/plant/box/cmd/exec/c1";
    scene.broker.publish(topic, envelope.as_bytes(), &["-q", "1", "-r"]).unwrap();
    let out = format!("{topic}/out/");
    tap.wait(|said| (pieces(said, &out).len() > 3).then_some(())).expect("some pieces");
    scene.broker.kill().unwrap();
    scene.broker.start_again(program).unwrap();
    // The broker forgot it, and somebody says it again: once is once.
    scene.broker.publish(topic, envelope.as_bytes(), &["-q", "1", "-r"]).unwrap();
    let answered = |said: &[Said]| {
        said.iter().find_map(|one| match &one.packet {
            Packet::Publish(publish) if one.connection > 0 && publish.topic == topic => {
                let answer: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
                (answer["state"] == "successful").then_some(answer)
            }
            _ => None,
        })
    };
    let answer = tap.wait(answered).expect("its end");
    assert_eq!((&answer["bytes"], &answer["dropped"]), (&400_000.into(), &0.into()));
    let chunks = usize::try_from(answer["chunks"].as_u64().unwrap()).unwrap();
    let all = tap.wait(|said| {
        let pieces = pieces(said, &out);
        (pieces.len() == chunks).then_some(pieces)
    });
    let text: Vec<u8> = all.expect("all pieces").into_values().flatten().collect();
    let expected: String = (0..400).map(|number| format!("{number:0>999}\n")).collect();
    assert!(String::from_utf8(text).unwrap() == expected, "in order and whole");
    let end = format!("{topic}/end/{chunks}");
    let marked = |said: &[Said]| {
        let is_end = |one: &Said| matches!(&one.packet, Packet::Publish(publish) if publish.topic == end);
        said.iter().any(is_end).then_some(())
    };
    tap.wait(marked).expect("the end's mark");
    daemon.stop_quietly();
    assert_eq!(daemon.seen.iter().filter(|line| line.contains(") runs count 400")).count(), 1);
}

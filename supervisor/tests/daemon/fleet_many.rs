//! Several boxes of a fleet, and a person who looks after all of them.

use super::fleet::Person;
use super::*;

use hearth_fleet_tests::broker::{self, Broker};
use serde_json::Value;

const NODES: [&str; 2] = ["box-1", "box-2"];

/// Boxes at one broker, and whoever has their keys.
fn fleet(program: &Path) -> (Broker, Person, Vec<Site>) {
    let broker = Broker::start(program, "").expect("mosquitto runs");
    let server = format!("unix:{}", broker.socket().display());
    let person = Person { folder: tempfile::tempdir().expect("a folder"), broker: server.clone() };
    let (_, told) = person.fleet(&["keygen", "--no-password", "operate"]);
    let key = told.lines().next().expect("a key").to_owned();
    let site = |node: &&str| {
        let site = Site::with_fake().workload("web", "service", "serve", "[remote]\nexec = \"operate\"\n");
        let site = site.member(&server).operated_by(&key);
        let text = fs::read_to_string(site.config()).expect("the file");
        fs::write(site.config(), text.replace("\"box\"", &format!("{node:?}"))).expect("a file");
        site
    };
    (broker, person, NODES.iter().map(site).collect())
}

fn start(sites: &[Site]) -> Vec<Daemon> {
    let daemons = sites.iter().map(|site| {
        let mut daemon = site.start();
        daemon.wait_for("hearthd | ready: 1 of 1 workloads");
        daemon.wait_until(|line| line.contains("fleet: ") && line.ends_with("is connected"));
        daemon
    });
    daemons.collect()
}

#[test]
fn waves_stop_where_boxes_fail_and_output_of_many_has_their_names() {
    let Some(program) = broker::program() else { return };
    let (_broker, person, sites) = fleet(program);
    let mut daemons = start(&sites);
    let list = |more: &[&str]| person.fleet(&[&["list", "--group", "plant", "--listen", "1"], more].concat());
    while list(&[]).1.lines().count() < 3 {}
    let push = |version: u32, extra: &str| {
        let text = format!(
            r#"{{"hearth":"desired","for":["plant/*"],"version":{version},"workloads":{{"extra":{extra}}}}}"#
        );
        fs::write(person.folder.path().join("desired.json"), text).unwrap();
        let words = ["send", "--group", "plant", "--key", "operate.key", "--waves", "50,100", "desired.json"];
        person.fleet(&words)
    };
    let (status, told) = push(1, r#"{"kind":"service"}"#);
    assert_eq!(status, 1);
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines[0], "version 1 to 1 boxes: box-1");
    assert!(lines[1].starts_with("box-1: Rejected: desired/extra:1:1: image: missing"), "{told}");
    assert_eq!(lines.last(), Some(&"hearthctl: 1 of 1 did not: the rest keep what they have"));
    let (status, differ) = list(&["--diff"]);
    let rows: Vec<_> = differ.lines().skip(1).collect();
    assert!(status == 5 && rows.len() == 1 && rows[0].starts_with("box-1 "), "{differ}");
    let (status, told) = push(2, r#"{"kind":"service","image":"i","command":["serve"]}"#);
    assert_eq!((status, told.matches("1 of 1 converged").count()), (0, 2), "{told}");
    assert_eq!(list(&["--diff"]).0, 0);
    let (_, alive) = list(&["--alive"]);
    assert!(alive.lines().skip(1).all(|row| row.contains(" up ")), "{alive}");

    let exec =
        ["exec", "--group", "plant", "--key", "operate.key", "--workload", "web", "box-1", "box-2", "--"];
    let (status, told) = person.fleet(&[&exec[..], &["count", "2"]].concat());
    let mut lines: Vec<_> = told.lines().collect();
    lines.sort_unstable();
    let line = |node: &str, number: u32| format!("{node} | {number:0>999}");
    assert_eq!(status, 0);
    assert_eq!(lines, [line("box-1", 0), line("box-1", 1), line("box-2", 0), line("box-2", 1)]);
    let (status, told) = person.fleet(&[&exec[..], &["exit", "3"]].concat());
    assert_eq!((status, told.matches(": failed: it ended with status 3").count()), (1, 2), "{told}");
    daemons[1].stop_quietly();
    let silent = [&exec[..7], &["--wait", "1", "--timeout", "1", "box-2", "--", "id"]].concat();
    assert_eq!(person.fleet(&silent), (125, "hearthctl: box-2: no answer yet\n".to_owned()));
    daemons[0].stop_quietly();
}

/// Lines of JSON of somebody who looks on.
struct Onlooker {
    child: Child,
    lines: Receiver<String>,
}

impl Onlooker {
    fn find(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let line = self.lines.recv_timeout(until.saturating_duration_since(Instant::now()));
            let told = serde_json::from_str(&line.expect("it is told")).expect("JSON");
            if wanted(&told) {
                return told;
            }
        }
    }
}

impl Drop for Onlooker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn who_looks_on_reads_figures_by_their_names_though_births_were_before() {
    let Some(program) = broker::program() else { return };
    let (_broker, person, sites) = fleet(program);
    let mut daemons = start(&sites[..1]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_hearthctl"))
        .env("HEARTH_BROKER", &person.broker)
        .args(["--json", "fleet", "tail", "--group", "plant"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = child.stdout.take().unwrap();
    let (sender, lines) = channel();
    thread::spawn(move || {
        BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let mut onlooker = Onlooker { child, lines };
    // Lies at the broker: from here on it hears all that is said.
    onlooker.find(|told| told["topic"] == "reported" && told["payload"]["workloads"]["web"].is_object());
    let restart =
        ["run", "--group", "plant", "--key", "operate.key", "restart-workload", "box-1", "--workload", "web"];
    let restarted = || assert_eq!(person.fleet(&restart).0, 0);
    restarted();
    // Something changes, of which only a number is said; then the names come.
    let birth = onlooker.find(|told| told["kind"] == "NBIRTH");
    let names = |told: &Value| -> Vec<String> {
        let figures = told["figures"].as_array().cloned().unwrap_or_default();
        figures.iter().map(|figure| figure["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let all = names(&birth);
    for name in ["Workloads/web/State", "Host/Disk free", "Outbox/Written bytes", "Healing/Restarts"] {
        assert!(all.iter().any(|one| one == name), "{name}: {all:?}");
    }
    restarted();
    // Another machine's number, or a state in between: which of them depends on when the box looks.
    let data = onlooker
        .find(|told| matches!(told["kind"].as_str(), Some("NDATA" | "DDATA")) && !names(told).is_empty());
    assert!(names(&data).iter().all(|name| !name.starts_with('#')), "{data}");
    daemons[0].stop_quietly();
}

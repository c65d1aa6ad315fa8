//! Hosts that others wrote, from the Python package index, take the box for what it says it is.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use hearth_fleet_tests::broker::{self, Broker};
use hearth_fleet_tests::member::{Member, figures, options};
use hearth_fleet_tests::tap::Tap;

/// A host that runs; it ends with this.
struct Host {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    seen: Vec<String>,
}

/// Python with exactly these packages, made once and kept in the cache folder; `None` where they are not to be had.
fn python(name: &str, packages: &[&str]) -> Option<PathBuf> {
    let cache = std::env::var_os("HEARTH_CACHE").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
        Some(home.join("hearth"))
    })?;
    let folder = cache.join(format!("python-{name}"));
    let (python, done) = (folder.join("bin/python"), folder.join("done"));
    let wanted = packages.join(" ");
    if fs::read_to_string(&done).is_ok_and(|made| made == wanted) {
        return Some(python);
    }
    let _ = fs::remove_dir_all(&folder);
    let run = |command: &mut Command| {
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let made = run(Command::new("python3").args(["-m", "venv"]).arg(&folder))
        && run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages));
    if !made {
        println!("skipped: {wanted} cannot be installed with pip");
        return None;
    }
    fs::write(&done, wanted).unwrap();
    Some(python)
}

impl Host {
    fn start(python: &Path, script: &str, tap: &Tap) -> Host {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("hosts").join(script);
        let mut child = Command::new(python)
            .arg(script)
            .arg(tap.port().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut host = Host { child, lines, seen: Vec::new() };
        host.wait_for("listening");
        host
    }

    /// Reads on until a line begins so; a host ends by itself after two minutes.
    fn wait_for(&mut self, beginning: &str) -> String {
        let found = self.lines.by_ref().map_while(Result::ok).find(|line| {
            self.seen.push(line.clone());
            line.starts_with(beginning)
        });
        found.unwrap_or_else(|| panic!("no line {beginning:?} in {:#?}", self.seen))
    }

    fn ask_for_rebirth(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"rebirth\n").unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_host_on_pysparkplug_decodes_every_message_and_resolves_every_alias() {
    let Some(program) = broker::program() else { return };
    let Some(python) = python("pysparkplug", &["pysparkplug==0.6.1"]) else { return };
    let broker = Broker::start(program, "").unwrap();
    let mut host = Host::start(&python, "strict.py", &Tap::new(broker.socket()).unwrap());
    let tap = Tap::new(broker.socket()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let member = Member::start(options("box", &[tap.server()], folder.path()).unwrap()).unwrap();
    member.show(figures(2, 1));
    let birth = host.wait_for("NBirth - 0 ");
    assert!(birth.contains("('bdSeq', 0)") && birth.contains("('Node Control/Rebirth', False)"), "{birth}");
    let device = host.wait_for("DBirth web.1 2 ");
    assert!(device.contains("('Memory', 67108864)") && device.contains("('State', 'ready')"), "{device}");
    member.show(figures(2, 9));
    let data = host.wait_for("NData - 3 ");
    assert!(data.ends_with("[('Workloads/Good', 9)]"), "{data}");
    assert!(host.wait_for("DData web.1 5 ").ends_with("[('Restarts', 9)]"));
    host.ask_for_rebirth();
    assert!(host.wait_for("NBirth - 0 ").contains("('Workloads/Good', 9)"));
    host.wait_for("DBirth web.1 2 ");
    member.show(figures(1, 9));
    host.wait_for("DDeath web.1 3 ");
    member.stop();
    assert!(host.wait_for("NDeath - ").ends_with("[('bdSeq', 0)]"));
}

#[test]
fn a_host_on_mqtt_spb_wrapper_sees_the_box_and_its_replicas_live_and_die() {
    let Some(program) = broker::program() else { return };
    let Some(python) = python("mqtt-spb-wrapper", &["mqtt-spb-wrapper==2.1.2"]) else { return };
    let broker = Broker::start(program, "").unwrap();
    let mut host = Host::start(&python, "scada.py", &Tap::new(broker.socket()).unwrap());
    let tap = Tap::new(broker.socket()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let member = Member::start(options("box", &[tap.server()], folder.path()).unwrap()).unwrap();
    member.show(figures(2, 1));
    host.wait_for("node box alive");
    host.wait_for("device web.1 alive");
    member.show(figures(1, 1));
    host.wait_for("device web.1 dead");
    host.ask_for_rebirth();
    let births = |said: &[hearth_fleet_tests::tap::Said]| {
        let is_birth = |one: &&hearth_fleet_tests::tap::Said| matches!(&one.packet, hearth_fleet_tests::wire::Packet::Publish(publish) if publish.topic.contains("/NBIRTH/"));
        (said.iter().filter(is_birth).count() >= 2).then_some(())
    };
    assert!(tap.wait(births).is_some());
    member.show(figures(2, 1));
    host.wait_for("device web.1 alive");
    member.stop();
    host.wait_for("node box dead");
}

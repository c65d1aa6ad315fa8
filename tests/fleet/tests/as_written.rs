//! A broker from the files in `config/fleet`, as they are: who gets in, and which topics are whose.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::ffi::OsString;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use hearth_fleet::shell::Identity;
use hearth_fleet_tests::PATIENCE;
use hearth_fleet_tests::broker::{self, Listener, publish};
use hearth_fleet_tests::member::{Member, figures, options};
use nix::sched::{CloneFlags, unshare};

/// As the file says.
const PORT: u16 = 8883;

struct Broker {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(folder: &Path, program: &str, words: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.current_dir(folder).args(words).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// `None`, and says so: another program has the port, and there is no network of one's own to be had.
fn broker(clients: &[&str]) -> Option<Broker> {
    let program = broker::program()?;
    if unshare(CloneFlags::CLONE_NEWNET).is_ok() {
        assert!(run(Path::new("/"), "ip", &["link", "set", "lo", "up"]));
    }
    if TcpListener::bind(("127.0.0.1", PORT)).is_err() {
        println!("skipped: port {PORT} is taken, and a network of its own needs root");
        return None;
    }
    let folder = tempfile::Builder::new().prefix("hearth-fleet").tempdir().unwrap();
    let written = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/fleet");
    for name in ["mosquitto.conf", "acl", "certificates.sh"] {
        fs::copy(written.join(name), folder.path().join(name)).unwrap();
    }
    let script = |words: &[&str]| assert!(run(folder.path(), "./certificates.sh", words), "{words:?}");
    script(&["authority", "fleet"]);
    script(&["broker", "localhost"]);
    script(&[&["client"], clients].concat());
    // It takes that user's rights where it is started with more.
    run(folder.path(), "chown", &["-R", "mosquitto:", "."]);
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let child = Command::new(program)
        .args(["-c", "mosquitto.conf"])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut broker = Broker { child, folder };
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", PORT)).is_err() {
        let gone = broker.child.try_wait().unwrap().is_some();
        assert!(!gone && Instant::now() < deadline, "{}", fs::read_to_string(broker.file("log")).unwrap());
        std::thread::yield_now();
    }
    Some(broker)
}

impl Broker {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// For mosquitto's own clients: as somebody with a certificate, or without.
    fn way(&self, name: Option<&str>) -> Vec<OsString> {
        let mut way: Vec<OsString> =
            ["-h", "localhost", "-p", &PORT.to_string(), "--cafile"].map(OsString::from).to_vec();
        way.push(self.file("authority.pem").into());
        if let Some(name) = name {
            way.extend(["--cert".into(), self.file(&format!("{name}.pem")).into()]);
            way.extend(["--key".into(), self.file(&format!("{name}.key")).into()]);
        }
        way
    }

    fn listen(&self, name: &str) -> Listener {
        Listener::start(&self.way(Some(name)), "#").unwrap()
    }

    fn tell(&self, name: &str, topic: &str, payload: &str) {
        let way = [&self.way(Some(name))[..], &["-q".into(), "1".into(), "-r".into()]].concat();
        publish(&way, topic, payload.as_bytes()).unwrap();
    }
}

/// As the listener shows what somebody said who may not.
const FORGED: &str = "666f72676564";

/// The topics that somebody hears up to one.
fn until(listener: &mut Listener, last: &str) -> Vec<String> {
    let mut topics = Vec::new();
    let found = listener.find(|line| {
        let (topic, payload) = line.split_once(' ')?;
        assert_ne!(payload, FORGED, "{topic}");
        if topic.contains('/') {
            topics.push(topic.to_owned());
        }
        (topic == last).then_some(())
    });
    assert!(found.is_some(), "{last} never came: {topics:?}");
    topics
}

#[test]
fn a_box_has_its_own_topics_and_no_others_and_an_operator_commands_it() {
    let Some(broker) = broker(&["box-7", "box-8", "operator"]) else { return };
    let mut operator = broker.listen("operator");
    let folder = tempfile::tempdir().unwrap();
    let mut options = options("box-7", &[format!("mqtts://localhost:{PORT}")], folder.path()).unwrap();
    options.ca = Some(broker.file("authority.pem"));
    options.identity =
        Some(Identity { certificate: broker.file("box-7.pem"), key: broker.file("box-7.key") });
    let member = Member::with_outbox(options, 1).unwrap();
    member.show(figures(1, 1));
    until(&mut operator, "spBv1.0/plant/DBIRTH/box-7/web.0");
    until(&mut operator, "hearth/v1/plant/box-7/reported");

    // Heard, and answered: it does nothing that nobody signed.
    broker.tell("operator", "hearth/v1/plant/box-7/cmd/reboot/1", "{}");
    let refused = operator.find(|line| {
        let answer = line.strip_prefix("hearth/v1/plant/box-7/cmd/reboot/1 ")?;
        answer
            .contains(&"rejected".bytes().map(|byte| format!("{byte:02x}")).collect::<String>())
            .then_some(())
    });
    assert!(refused.is_some());

    // Another box that speaks as this one, or for the fleet, is not heard; under its own name it is.
    for topic in [
        "spBv1.0/plant/NDATA/box-7",
        "spBv1.0/plant/DBIRTH/box-7/web.0",
        "hearth/v1/plant/box-7/reported",
        "hearth/v1/plant/box-7/cmd/reboot/2",
        "hearth/v1/plant/box-7/workload/web/temperature",
        "hearth/v1/plant/box-7/workload/web/cmd/stop",
        "hearth/v1/plant/box-7/desired",
        "hearth/v1/plant/box-8/desired",
        "spBv1.0/plant/NCMD/box-7",
        "spBv1.0/STATE/scada",
        "elsewhere/entirely",
    ] {
        broker.tell("box-8", topic, "forged");
    }
    let own = ["reported", "workload/web/temperature"].map(|place| format!("hearth/v1/plant/box-8/{place}"));
    own.iter().for_each(|topic| broker.tell("box-8", topic, "own"));
    let heard = own.iter().flat_map(|topic| until(&mut operator, topic)).collect::<Vec<_>>();
    assert!(heard.iter().all(|topic| topic.contains("box-")), "{heard:?}");

    // It hears what is for it, and nothing that is for others.
    let mut other = broker.listen("box-8");
    for place in ["desired", "workload/web/cmd/stop"] {
        broker.tell("operator", &format!("hearth/v1/plant/box-7/{place}"), "{}");
    }
    broker.tell("operator", "spBv1.0/plant/NCMD/box-7", "{}");
    for place in ["workload/web/cmd/stop", "desired"] {
        let topic = format!("hearth/v1/plant/box-8/{place}");
        broker.tell("operator", &topic, "{}");
        assert_eq!(until(&mut other, &topic), [topic]);
    }

    // An operator may say what is wanted, not what is so.
    broker.tell("operator", "hearth/v1/plant/box-7/reported", "forged");
    broker.tell("operator", "spBv1.0/plant/NBIRTH/box-7", "forged");
    broker.tell("operator", "spBv1.0/plant/NCMD/box-8", "last");
    until(&mut operator, "spBv1.0/plant/NCMD/box-8");
    member.stop();
}

#[test]
fn who_has_no_certificate_of_the_authority_is_not_let_in_and_no_box_can_pose_as_the_broker() {
    let Some(broker) = broker(&["box-7", "operator"]) else { return };
    assert!(publish(&broker.way(Some("box-7")), "hearth/v1/plant/box-7/reported", b"x").is_ok());
    assert!(publish(&broker.way(None), "hearth/v1/plant/box-7/reported", b"x").is_err());
    // Of another authority, under a name that counts.
    let stranger = tempfile::tempdir().unwrap();
    fs::copy(broker.file("certificates.sh"), stranger.path().join("certificates.sh")).unwrap();
    assert!(run(stranger.path(), "./certificates.sh", &["authority", "fleet"]));
    assert!(run(stranger.path(), "./certificates.sh", &["client", "operator"]));
    for kind in ["pem", "key"] {
        let name = format!("operator.{kind}");
        fs::copy(stranger.path().join(&name), broker.file(&name)).unwrap();
    }
    assert!(publish(&broker.way(Some("operator")), "hearth/v1/plant/box-7/desired", b"x").is_err());
    // Good for clients only.
    let purpose = ["verify", "-CAfile", "authority.pem", "-purpose", "sslserver"];
    assert!(run(broker.folder.path(), "openssl", &[&purpose[..], &["broker.pem"]].concat()));
    assert!(!run(broker.folder.path(), "openssl", &[&purpose[..], &["box-7.pem"]].concat()));
}

#[test]
fn the_script_overwrites_no_key_and_says_what_it_expected() {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/fleet/certificates.sh");
    let say = |words: &[&str]| {
        let output = Command::new(&script).current_dir(folder.path()).args(words).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (done, told) = say(&["client", "box"]);
    assert!(!done && told.contains("expected 'certificates.sh authority NAME' before"), "{told}");
    assert!(say(&["authority", "fleet"]).0 && say(&["client", "box"]).0);
    let key = fs::read(folder.path().join("box.key")).unwrap();
    for (words, expected) in [
        (&["client", "box"][..], "box.key exists: expected a name without a certificate"),
        (&["authority", "other"], "authority.key exists: expected a folder without an authority"),
        (&["client", "a/b"], "a/b: expected letters, digits"),
        (&["client", "authority"], "authority: expected letters, digits"),
        (&["client"], "expected: authority NAME, broker HOST, or client NAME..."),
    ] {
        let (done, told) = say(words);
        assert!(!done && told.contains(expected), "{words:?}: {told}");
    }
    assert_eq!(fs::read(folder.path().join("box.key")).unwrap(), key);
}

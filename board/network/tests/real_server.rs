//! The program in network namespaces of its own, with Debian's dnsmasq at the other end of a cable.
//!
//! The namespaces, the cable and the server are a shell's that this test types into. What is not permitted or not
//! installed here is told, and the test is skipped.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, geteuid};

/// For a word that must come; no test waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);
/// Two namespaces, one end of a pair in each, and a server's address at the first.
const CABLE: &str = r#"
say() { echo "$@"; }
unshare -n sleep 600 &
box=$!
until [ "$(readlink /proc/$box/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
ip link add server0 type veth peer name client0
ip link set client0 netns $box
ip address add 10.9.0.1/24 dev server0
ip link set server0 up
inside() { nsenter -t $box -n "$@"; }
"#;

/// A shell in a namespace, and all that it prints.
struct Shell {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Shell {
    fn start() -> Option<Shell> {
        for (program, wanted) in [("ip", "-V"), ("dnsmasq", "--version"), ("nsenter", "--version")] {
            if Command::new(program).arg(wanted).stdout(Stdio::null()).status().is_err() {
                eprintln!("skipped: no {program} on this host");
                return None;
            }
        }
        // Root needs no user namespace, and some hosts permit none to others.
        let own: &[&str] = if geteuid().is_root() { &["-n"] } else { &["-rn"] };
        if !Command::new("unshare").args(own).arg("true").status().is_ok_and(|status| status.success()) {
            eprintln!("skipped: no network namespace of one's own on this host");
            return None;
        }
        let mut command = Command::new("unshare");
        command.args(own).args(["sh", "-c", "exec 2>&1; . /dev/stdin"]);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        use std::os::unix::process::CommandExt;
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("unshare starts");
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Some(Shell { child, input, lines, seen: Vec::new() })
    }

    fn type_in(&mut self, script: &str) {
        writeln!(self.input, "{script}").expect("the shell reads");
    }

    /// The next line with all of these words in it, from now on.
    fn expect(&mut self, words: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("expected {words:?}, found\n{}", self.seen.join("\n"));
            };
            self.seen.push(line.clone());
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
    }

    /// What a command prints up to here.
    fn answer(&mut self, command: &str) -> String {
        self.type_in(&format!("say begin; {command}; say end"));
        self.expect(&["begin"]);
        let before = self.seen.len();
        self.expect(&["end"]);
        self.seen[before..].join("\n")
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let group = Pid::from_raw(i32::try_from(self.child.id()).expect("Linux has no such numbers"));
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn dnsmasq(folder: &Path, range: &str, router: &str) -> String {
    let lease_file = folder.join("leases");
    format!(
        "dnsmasq --conf-file=/dev/null --no-daemon --user=root --port=0 --interface=server0 --bind-interfaces \
         --dhcp-authoritative --no-ping --log-facility=- --dhcp-leasefile={} --dhcp-range={range},1h \
         --dhcp-option=3,{router} --dhcp-option=6,{router},9.9.9.9 --dhcp-option=15,plant.example & server=$!",
        lease_file.display()
    )
}

#[test]
fn an_address_comes_from_a_server_outlives_a_lost_link_and_is_given_up_on_another_network() {
    let Some(mut shell) = Shell::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("network.toml");
    let resolv = folder.path().join("resolv.conf");
    // A pair was made by software, so it is ours only by name.
    fs::write(&config, "[[interface]]\nname = \"client0\"\n").unwrap();
    shell.type_in(CABLE);
    shell.type_in(&dnsmasq(folder.path(), "10.9.0.50,10.9.0.50", "10.9.0.1"));
    shell.expect(&["DHCP, sockets bound exclusively to interface server0"]);
    // An address of somebody's who was here before.
    shell.type_in("inside ip address add 10.7.0.1/24 dev client0");
    let program = env!("CARGO_BIN_EXE_hearth-network");
    let run =
        format!("inside {program} --config {} --resolv {} & network=$!", config.display(), resolv.display());
    shell.type_in(&run);
    let told = shell.expect(&["hearth-network |", "10.9.0.50"]);
    assert_eq!(told, "hearth-network | client0: 10.9.0.50/24 from 10.9.0.1 for 60 min, gateway 10.9.0.1");
    let addresses = shell.answer("inside ip -4 address show client0");
    assert!(addresses.contains("inet 10.9.0.50/24 brd 10.9.0.255") && addresses.contains("dynamic"));
    assert!(addresses.contains("valid_lft 3") && !addresses.contains("10.7.0.1"), "{addresses}");
    let routes = shell.answer("inside ip route");
    assert!(routes.contains("default via 10.9.0.1 dev client0 proto static src 10.9.0.50"), "{routes}");
    let written = shell.answer(&format!("cat {}", resolv.display()));
    assert!(
        written.ends_with("search plant.example\nnameserver 10.9.0.1\nnameserver 9.9.9.9\nend"),
        "{written}"
    );
    assert!(shell.answer("inside ip link show lo").contains("LOOPBACK,UP"), "the box talks to itself");

    shell.type_in("ip link set server0 down");
    shell.expect(&["hearth-network | client0: no link"]);
    shell.type_in("ip link set server0 up");
    shell.expect(&["hearth-network | client0: link is back"]);
    shell.expect(&["DHCPREQUEST", "10.9.0.50"]);
    shell.expect(&["DHCPACK", "10.9.0.50"]);

    // One that is killed and started again takes over what is there.
    shell.type_in("kill -9 $network; wait $network");
    shell.type_in(&run);
    shell.expect(&["hearth-network | client0: 10.9.0.50/24 from 10.9.0.1"]);

    shell.type_in("ip link set server0 down");
    shell.expect(&["hearth-network | client0: no link"]);
    shell.type_in(
        "kill $server; wait $server; ip address flush dev server0; ip address add 10.8.0.1/24 dev server0",
    );
    fs::remove_file(folder.path().join("leases")).unwrap();
    shell.type_in("ip link set server0 up");
    shell.type_in(&dnsmasq(folder.path(), "10.8.0.60,10.8.0.60", "10.8.0.1"));
    shell.expect(&["client0: 10.9.0.50/24 is given up: its server says that it is not this box's"]);
    shell.expect(&["client0: 10.8.0.60/24 from 10.8.0.1 for 60 min, gateway 10.8.0.1"]);
    let addresses = shell.answer("inside ip -4 address show client0");
    assert!(!addresses.contains("10.9.0.50"), "{addresses}");
}

#[test]
fn a_static_address_is_the_only_one_and_a_faulty_file_is_told_and_left_out() {
    let Some(mut shell) = Shell::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("network.toml");
    let resolv = folder.path().join("resolv.conf");
    let text = "[[interface]]\nname = \"client0\"\nmethod = \"static\"\naddress = \"10.9.0.9/24\"\n\
                gateway = \"10.9.0.1\"\ndns = [\"9.9.9.9\"]\n";
    fs::write(&config, text).unwrap();
    shell.type_in(CABLE);
    shell.type_in("inside ip address add 10.7.0.1/24 dev client0");
    let program = env!("CARGO_BIN_EXE_hearth-network");
    let run =
        format!("inside {program} --config {} --resolv {} & network=$!", config.display(), resolv.display());
    shell.type_in(&run);
    shell.expect(&["hearth-network | client0: 10.9.0.9/24, static, gateway 10.9.0.1"]);
    let addresses = shell.answer("inside ip -4 address show client0");
    assert!(addresses.contains("inet 10.9.0.9/24") && !addresses.contains("dynamic"), "{addresses}");
    assert!(!addresses.contains("10.7.0.1"), "{addresses}");
    let routes = shell.answer("inside ip route");
    assert!(routes.contains("default via 10.9.0.1 dev client0 proto static src 10.9.0.9"), "{routes}");

    shell.type_in("kill -9 $network; wait $network");
    fs::write(&config, "[[interface]]\nname = \"client0\"\nmethod = \"dhpc\"\n").unwrap();
    shell.type_in(&run);
    shell.expect(&["network.toml:3:1: interface[0].method: expected \"dhcp\", \"static\" or \"off\""]);
    shell.expect(&["hearth-network | the file is left out: wired interfaces ask for addresses by DHCP"]);
    shell.type_in("inside ip link show");
    shell.expect(&["client0"]);
    let addresses = shell.answer("inside ip -4 address show client0");
    assert!(addresses.contains("10.9.0.9"), "it is not ours any more: {addresses}");
}

//! Files that change under a running daemon, several replicas, and the two meanings of SIGHUP.

use super::*;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

impl Site {
    fn write(&self, name: &str, text: &str) {
        let file = self.folder.path().join("workloads").join(format!("{name}.toml"));
        let new = file.with_extension("new");
        fs::write(&new, text).expect("a file");
        fs::rename(new, file).expect("in its place");
    }

    fn remove(&self, name: &str) {
        let file = self.folder.path().join("workloads").join(format!("{name}.toml"));
        fs::remove_file(file).expect("it was there");
    }
}

const SERVE: &str = "kind = \"service\"\nimage = \"i\"\ncommand = [\"serve\"]\n";

#[test]
fn replicas_are_machines_of_their_own_with_folders_and_names_of_their_own() {
    let site = Site::with_fake().workload("web", "service", "serve", "replicas = 3");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    for replica in ["web", "web.1", "web.2"] {
        daemon.wait_for_if_unseen(&format!("hearthd | {replica}: running, guest ready in 312 ms"));
        daemon.wait_for_if_unseen(&format!("{replica:<7} | serving"));
        let vm = VmConfig::load(&site.state().join("vm").join(replica).join("vm.toml")).unwrap();
        assert_eq!(vm.control.unwrap().socket, site.state().join("vm").join(replica).join("control.sock"));
    }
    daemon.stop();
    for replica in ["web", "web.1", "web.2"] {
        daemon.place(&format!("{replica:<7} | asked to stop"));
    }
}

#[test]
fn files_that_come_and_go_start_and_stop_their_workloads_and_touch_no_other() {
    let site = Site::with_fake().workload("stays", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let monitor = fs::read_to_string(site.state().join("vm/stays/vm.pid")).unwrap();
    site.write("comes", SERVE);
    daemon.wait_for("hearthd | configuration: 1 added, 0 changed, 0 removed");
    daemon.wait_for("hearthd | comes: running, guest ready in 312 ms");
    site.write("comes", &format!("{SERVE}replicas = 2"));
    daemon.wait_for("hearthd | configuration: 0 added, 1 changed, 0 removed");
    daemon.wait_for("hearthd | comes.1: running, guest ready in 312 ms");
    site.remove("comes");
    daemon.wait_for("hearthd | configuration: 0 added, 0 changed, 1 removed");
    daemon.wait_for_if_unseen("comes   | asked to stop");
    daemon.wait_for_if_unseen("comes.1 | asked to stop");
    assert_eq!(fs::read_to_string(site.state().join("vm/stays/vm.pid")).unwrap(), monitor);
    daemon.stop();
    assert_eq!(daemon.seen.iter().filter(|line| *line == "stays   | serving").count(), 1);
}

#[test]
fn a_bad_file_changes_nothing_and_is_named_with_line_and_column() {
    let site = Site::with_fake().workload("web", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    site.write("web", &format!("{SERVE}\n  replicas = 0\nafter = [\"nobody\"]"));
    let file = site.folder.path().join("workloads/web.toml");
    daemon.wait_for(&format!(
        "hearthd | configuration refused: {}:5:3: replicas: expected at least 1, found 0",
        file.display()
    ));
    daemon.wait_for("hearthd | configuration: the last good one stays");
    site.write("web", &format!("{SERVE}after = [\"nobody\"]"));
    daemon.wait_for(&format!(
        "hearthd | configuration refused: {}:4:10: after[0]: expected another workload of the box, found \"nobody\" (there are: )",
        file.display()
    ));
    site.write("web", &format!("{SERVE}replicas = 2"));
    daemon.wait_for("hearthd | configuration: 0 added, 1 changed, 0 removed");
    daemon.wait_for("hearthd | web.1: running, guest ready in 312 ms");
    daemon.stop();
    assert_eq!(daemon.seen.iter().filter(|line| *line == "web     | serving").count(), 1);
}

#[test]
fn another_command_rolls_out_and_a_bad_one_is_taken_back() {
    let site = Site::with_fake();
    let text = |command: &str| {
        format!(
            "kind = \"service\"\nimage = \"i\"\ncommand = [{command}]\nreplicas = 2\nrollout.window_s = 1\n"
        )
    };
    site.write("web", &text("\"serve\""));
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    daemon.wait_for_if_unseen("hearthd | web.1: running, guest ready in 312 ms");
    site.write("web", &text("\"serve\", \"new\""));
    daemon.wait_for("hearthd | configuration: 0 added, 1 changed, 0 removed");
    wait_for_part(&mut daemon, " is everywhere");
    let running = |replica: &str| {
        VmConfig::load(&site.state().join("vm").join(replica).join("vm.toml")).unwrap().boot.cmdline
    };
    assert!(running("web").ends_with("-- serve new") && running("web.1").ends_with("-- serve new"));
    site.write("web", &text("\"crash\", \"12\""));
    wait_for_part(&mut daemon, "ALARM: back from version ");
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    assert!(running("web").ends_with("-- serve new") && running("web.1").ends_with("-- serve new"));
    daemon.stop();
}

fn wait_for_part(daemon: &mut Daemon, part: &str) {
    let until = Instant::now() + PATIENCE;
    while !daemon.next(until).unwrap_or_else(|| panic!("no {part:?} in {:#?}", daemon.seen)).contains(part) {}
}

#[test]
fn sighup_reads_the_configuration_again() {
    let site = Site::with_fake().workload("web", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("hearthd | configuration: good, and nothing new");
    daemon.stop();
}

#[test]
fn a_closed_terminal_stops_all_in_order_even_if_it_says_so_twice() {
    let site = Site::with_fake().workload("deaf", "service", "deaf", "").stop_times(1, 3600);
    let terminal = nix::pty::openpty(None, None).unwrap();
    // Whoever holds this end keeps the terminal open.
    fcntl(&terminal.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    // Becomes hearthd, with the terminal as its own.
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg(env!("CARGO_BIN_EXE_hearthd")).stdin(terminal.slave);
    let mut daemon = site.start_as(command, &site.config());
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    drop(terminal.master);
    daemon.wait_for("hearthd | stopping");
    daemon.signal(Signal::SIGHUP);
    assert!(daemon.ended().success(), "{:#?}", daemon.seen);
    // Not killed by the second: the rungs were kept.
    daemon.place("hearthd | deaf: does not stop, SIGTERM follows");
    daemon.place("hearthd | stopped");
    assert_eq!(site.left(), ["lock"]);
}

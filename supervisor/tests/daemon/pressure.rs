//! A box that is short of memory or disk.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::door::told;
use super::{Daemon, Pid, Signal, Site, kill};

impl Site {
    fn with_config(self, more: &str) -> Site {
        let config = fs::read_to_string(self.config()).expect("the file");
        fs::write(self.config(), format!("{config}{more}")).expect("a file");
        self
    }

    fn crash(&self, replica: &str) {
        let pid = self.monitor(replica).parse().expect("a number");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it is there");
    }
}

#[test]
fn short_memory_is_told_and_so_is_its_end_when_the_limits_are_others() {
    let short = "[pressure]\nmemory_short_percent = 90\n";
    // Machines with gigabytes free are never short.
    let meminfo = fs::read_to_string("/proc/meminfo").expect("it is there");
    let free = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")).expect("a line");
    let free: u64 = free.trim().trim_end_matches(" kB").parse().expect("a number");
    if free >= 4 << 20 {
        println!("skipped: this machine has {} MiB free", free >> 10);
        return;
    }
    let site = Site::with_fake().workload("web", "service", "serve", "").with_config(short);
    let mut daemon = site.start();
    daemon.wait_for("hearthd | memory: short, guests are asked for some of theirs");
    daemon.stop();
}

/// Records of a hundred bytes that fill more than a page, for certain.
const MOST_RECORDS: u32 = 400;

/// With a disk of its own for all that stays, of one MiB. None: this person may not mount one.
fn with_small_disk(site: &Site) -> Option<Daemon> {
    let allowed = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("skipped: no mount namespace can be had here");
        return None;
    }
    let disk = site.folder.path().join("disk");
    fs::create_dir(&disk).expect("a folder");
    let config = fs::read_to_string(site.config()).expect("the file");
    let root = site.folder.path().display().to_string();
    let config = ["store", "logs"].iter().fold(config, |config, name| {
        config.replace(&format!("{root}/{name}"), &format!("{root}/disk/{name}"))
    });
    fs::write(site.config(), config).expect("a file");
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=1m tmpfs \"$0\" && exec \"$@\"";
    command.args(["-m", "sh", "-c", script]).arg(&disk).arg(env!("CARGO_BIN_EXE_hearthd"));
    command.stdin(Stdio::null());
    Some(site.start_as(command, &site.config()))
}

#[test]
fn a_full_disk_is_told_once_and_what_runs_runs_on_and_is_remembered_when_there_is_room() {
    let site = Site::with_fake().workload("web", "service", "serve", "restart.budget = 64");
    let Some(mut daemon) = with_small_disk(&site) else { return };
    daemon.wait_for("hearthd | web: running, guest ready in 312 ms");
    // As the daemon sees it.
    let disk = PathBuf::from(format!("/proc/{}/root", daemon.child.id()))
        .join(site.folder.path().join("disk").strip_prefix("/").expect("absolute"));
    assert!(disk.join("store/records").exists());
    let filler = disk.join("filler");
    assert!(fs::write(&filler, vec![0; 2 << 20]).is_err(), "it is full now");

    let alarms = |daemon: &Daemon| {
        daemon
            .seen
            .iter()
            .filter(|line| line.contains("ALARM: store: ") && line.contains("may be forgotten"))
            .count()
    };
    // What was begun of a file's last page is still there to be filled.
    for turn in 0..MOST_RECORDS {
        told(&site, &["scale", "web", if turn % 2 == 0 { "1" } else { "file" }]);
        while daemon.next(Instant::now()).is_some() {}
        if alarms(&daemon) > 0 {
            break;
        }
    }
    site.crash("web");
    daemon.wait_for("hearthd | web: running, guest ready in 312 ms");
    assert_eq!(alarms(&daemon), 1, "{:#?}", daemon.seen);
    daemon.wait_for_if_unseen("hearthd | ALARM: disk: next to no room is left, what nobody needs is removed");

    fs::remove_file(filler).expect("it is there");
    site.crash("web");
    daemon.wait_until(|line| line.starts_with("hearthd | store: ") && line.ends_with(": works again"));
    daemon.wait_for_if_unseen("hearthd | disk: there is room again");
    assert_eq!(alarms(&daemon), 1);
    daemon.stop();
}

//! Machines that are written down and go on in another process, and snapshots that are none.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use hearth_wire::control::{Order, Phase, Refusal, SnapshotKind, SnapshotName};

use crate::client::{Client, Told};
use crate::guest::Guest;
use crate::monitor::{self, Ended, Monitor};
use crate::{SLEEP_CONTROL, SOFT_OFF};

const SNAPSHOTS: &str = "[snapshot]\nfolder = \"snapshots\"\n";

fn order(name: &str, kind: SnapshotKind) -> Order {
    Order::Snapshot { name: SnapshotName::new(name).unwrap(), kind }
}

fn full(name: &str) -> Order {
    order(name, SnapshotKind::Full)
}

/// Writes a machine down and ends it; nothing of it happens in between.
fn freeze(running: &mut Monitor, name: &str) {
    let mut client = Client::connect(running.folder());
    assert_eq!(client.ask(Order::Pause), Told::Done);
    assert_eq!(client.ask(full(name)), Told::Done);
    assert!(matches!(client.ask(Order::Stop { now: true }), Told::Ended(_)));
    running.wait_for_its_end();
}

/// Prints, does something else for a while, prints again and powers off.
fn two_lines() -> Guest {
    Guest::new().print("up\n").knock_times(60_000).print("later\n").out(SLEEP_CONTROL, SOFT_OFF).halt()
}

#[test]
fn a_guest_goes_on_where_it_was_written_down() {
    need_kvm!();
    let mut running = Monitor::controlled(&two_lines(), SNAPSHOTS);
    running.wait_for_line("up");
    freeze(&mut running, "a");
    let again = running.restore("a");
    let ended = again.end();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str(), ended.status), ("later\n", "", Some(0)));
    assert_eq!(ended.files_left, ["guest.elf", "snapshots", "vm.toml"]);
}

#[test]
fn a_machine_that_runs_goes_on_and_one_that_is_paused_stays_so() {
    need_kvm!();
    let mut running = Monitor::controlled(&Guest::new().print("up\n").knock(), SNAPSHOTS);
    running.wait_for_line("up");
    let mut client = Client::connect(running.folder());
    assert_eq!(client.ask(full("a")), Told::Done);
    assert_eq!(client.status().phase, Phase::Running);
    let before = client.statistics()["vcpu0"]["io_out"];
    while client.statistics()["vcpu0"]["io_out"] == before {}
    assert_eq!(client.ask(Order::Pause), Told::Done);
    assert_eq!(client.ask(full("b")), Told::Done);
    assert_eq!(client.status().phase, Phase::Paused);
    assert_eq!(client.ask(full("b")), Told::Refused(Refusal::BadValue), "the name is taken");
    let difference = order("c", SnapshotKind::Difference);
    assert_eq!(client.ask(difference), Told::Refused(Refusal::Unsupported), "to what?");
    assert_eq!(client.ask(Order::Resume), Told::Done);
    assert!(matches!(client.ask(Order::Stop { now: true }), Told::Ended(_)));
    let folder = running.folder().join("snapshots");
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "b"], "and nothing unfinished");
    assert_eq!(running.end().status, Some(16));
}

#[test]
fn a_copy_that_takes_no_snapshots_tells_how_much_memory_is_its_own() {
    need_kvm!();
    let mut running = Monitor::controlled(&Guest::new().print("up\n").knock(), SNAPSHOTS);
    running.wait_for_line("up");
    freeze(&mut running, "a");
    let config = running.folder().join("snapshots/a/vm.toml");
    let text = fs::read_to_string(&config).unwrap();
    let (before, section) = text.split_once("[snapshot]").unwrap();
    let behind = section.find("\n[").map_or("", |at| &section[at..]);
    fs::write(&config, format!("{before}{behind}")).unwrap();
    let copy = running.restore("a");
    let mut client = Client::connect(copy.folder());
    assert_eq!(client.ask(full("b")), Told::Refused(Refusal::Unsupported));
    let own = client.statistics()["machine"]["memory_in_use_bytes"];
    assert!(own < 1 << 20, "{own} bytes: a guest of a few instructions");
    assert!(matches!(client.ask(Order::Stop { now: true }), Told::Ended(_)));
    assert_eq!(copy.end().status, Some(16));
}

#[test]
fn a_snapshot_that_nobody_waits_for_is_finished_all_the_same() {
    need_kvm!();
    let mut running = Monitor::controlled(&Guest::new().print("up\n").knock(), SNAPSHOTS);
    running.wait_for_line("up");
    let mut client = Client::connect(running.folder());
    let snapshot = client.send(full("a"));
    let stop = client.send(Order::Stop { now: true });
    // The stop may come first, and then undoes the snapshot, or waits for it.
    let told = client.answer_to(snapshot);
    assert!(matches!(told, Told::Done | Told::Refused(Refusal::Stopping)), "{told:?}");
    assert!(matches!(client.answer_to(stop), Told::Ended(_)));
    if told == Told::Done {
        let folder = running.folder().join("snapshots/a");
        assert_eq!(monitor::invoke(&["snapshot", "check", folder.to_str().unwrap()]).status, Some(0));
    }
    assert_eq!(running.end().status, Some(16));
}

#[test]
fn without_a_folder_for_them_there_are_no_snapshots() {
    need_kvm!();
    let running = Monitor::controlled(&Guest::new().knock(), "");
    let mut client = Client::connect(running.folder());
    assert_eq!(client.ask(full("a")), Told::Refused(Refusal::Unsupported));
    assert!(matches!(client.ask(Order::Stop { now: true }), Told::Ended(_)));
}

#[test]
fn a_difference_is_what_changed_and_becomes_whole_with_its_base() {
    need_kvm!();
    let rebase = "[snapshot]\nfolder = \"snapshots\"\nrebase = true\n";
    let guest =
        Guest::new().print("up\n").knock_times(200_000).print("later\n").out(SLEEP_CONTROL, SOFT_OFF).halt();
    let mut running = Monitor::controlled(&guest, rebase);
    running.wait_for_line("up");
    let mut client = Client::connect(running.folder());
    assert_eq!(client.ask(full("base")), Told::Done);
    // Its memory is mapped from there, and other machines' may be.
    assert_eq!(running.writable("/memory"), Vec::<PathBuf>::new());
    assert_eq!(client.ask(Order::Pause), Told::Done);
    assert_eq!(client.ask(order("part", SnapshotKind::Difference)), Told::Done);
    assert!(matches!(client.ask(Order::Stop { now: true }), Told::Ended(_)));
    running.wait_for_its_end();
    let place = |name: &str| running.folder().join("snapshots").join(name).to_str().unwrap().to_owned();
    let [base, part, whole] = ["base", "part", "whole"].map(place);
    let refused = monitor::invoke(&["restore", &part]);
    assert_eq!((refused.status, refused.stderr.lines().count()), (Some(2), 1));
    assert!(refused.stderr.contains("is a difference to "), "{}", refused.stderr);
    let merged = monitor::invoke(&["snapshot", "merge", &base, &part, &whole]);
    assert_eq!((merged.status, merged.stderr.as_str()), (Some(0), ""));
    for (words, expected) in [
        (["snapshot", "merge", &part, &base, &place("x")], "is a full snapshot, expected a difference"),
        (["snapshot", "merge", &part, &part, &place("x")], "is a difference, expected a full snapshot"),
        (["snapshot", "merge", &whole, &part, &place("x")], "is a difference to "),
        (["snapshot", "merge", &base, &part, &base], "cannot be written: "),
    ] {
        let refused = monitor::invoke(&words);
        assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }
    let ended = running.restore("whole").end();
    assert_eq!((ended.stdout.as_str(), ended.status), ("later\n", Some(0)));
}

/// A copy of a good snapshot, one of whose files was changed.
fn spoilt(good: &Path, name: &str, spoil: impl FnOnce(&Path)) -> Ended {
    let folder = good.parent().unwrap().join(name);
    fs::create_dir(&folder).unwrap();
    for file in fs::read_dir(good).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
    spoil(&folder);
    monitor::invoke(&["restore", folder.to_str().unwrap()])
}

fn flip(file: PathBuf, at: u64) {
    let file = fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn edit(file: PathBuf, from: &str, to: &str) {
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(file, text.replace(from, to)).unwrap();
}

#[test]
fn what_is_wrong_with_a_snapshot_is_said_in_one_line_and_no_machine_runs() {
    need_kvm!();
    let more = format!("{SNAPSHOTS}[[block]]\nid = \"root\"\npath = \"disk.img\"\n");
    let mut running = Monitor::controlled(&two_lines(), &more);
    running.wait_for_line("up");
    freeze(&mut running, "good");
    let good = running.folder().join("snapshots/good");
    let check = monitor::invoke(&["snapshot", "check", good.to_str().unwrap()]);
    assert_eq!((check.status, check.stderr.as_str()), (Some(0), ""));
    let truncate = |name: &'static str, length: u64| {
        move |folder: &Path| {
            fs::File::options().write(true).open(folder.join(name)).unwrap().set_len(length).unwrap();
        }
    };
    type Spoil<'a> = Box<dyn FnOnce(&Path) + 'a>;
    let table: Vec<(&str, Spoil<'_>, &str)> = vec![
        ("cut-state", Box::new(truncate("state", 1000)), "state: has 1000 bytes, expected "),
        ("no-state", Box::new(truncate("state", 0)), "state: has 0 bytes, expected 20"),
        ("bad-state", Box::new(|f| flip(f.join("state"), 900)), "state: its checksum does not match"),
        ("magic", Box::new(|f| flip(f.join("state"), 0)), "state: not the state of a machine"),
        (
            "newer",
            Box::new(|f| flip(f.join("state"), 8)),
            "state: has format 17, expected 1: made by another version",
        ),
        (
            "gone",
            Box::new(|f| fs::remove_file(f.join("state")).unwrap()),
            "state: cannot be read: No such file",
        ),
        (
            "folder",
            Box::new(|f| {
                fs::remove_file(f.join("state")).unwrap();
                fs::create_dir(f.join("state")).unwrap();
            }),
            "state: ",
        ),
        ("cut-memory", Box::new(truncate("memory", 4096)), "memory: has 4096 bytes, expected 33554432"),
        (
            "more-memory",
            Box::new(truncate("memory", 64 << 20)),
            "memory: has 67108864 bytes, expected 33554432",
        ),
        (
            "bad-memory",
            Box::new(|f| flip(f.join("memory"), 0x10_0004)),
            "memory: its checksum does not match",
        ),
        (
            "filled-hole",
            Box::new(|f| flip(f.join("memory"), 0x180_0000)),
            "memory: its checksum does not match",
        ),
        (
            "no-memory",
            Box::new(|f| fs::remove_file(f.join("memory")).unwrap()),
            "memory: cannot be read: No such file",
        ),
        (
            "manifest",
            Box::new(|f| edit(f.join("manifest.toml"), "memory_mib = 32", "memory_mib = 64")),
            "manifest.toml: does not say what `state` says",
        ),
        (
            "vcpus",
            Box::new(|f| edit(f.join("vm.toml"), "vcpus = 1", "vcpus = 2")),
            "state: has 1 vCPUs, machine.vcpus is 2",
        ),
        (
            "size",
            Box::new(|f| edit(f.join("vm.toml"), "memory_mib = 32", "memory_mib = 64")),
            "state: has 32 MiB of memory, machine.memory_mib is 64",
        ),
        (
            "lacks",
            Box::new(|f| edit(f.join("vm.toml"), "[control]", "[rng]\n[control]")),
            "state: has `block `root`` where the configuration has `rng`",
        ),
        (
            "read-only",
            Box::new(|f| edit(f.join("vm.toml"), "read_only = false", "read_only = true")),
            "state: disk `root` is writable, and read-only in the configuration",
        ),
        (
            "config",
            Box::new(|f| edit(f.join("vm.toml"), "memory_mib = 32", "memory_mib = 0")),
            "vm.toml:3:1: machine.memory_mib: expected at least 32 MiB, found 0",
        ),
        ("no-config", Box::new(|f| fs::remove_file(f.join("vm.toml")).unwrap()), "vm.toml"),
    ];
    for (name, spoil, expected) in table {
        let ended = spoilt(&good, name, spoil);
        assert_eq!((ended.status, ended.stderr.lines().count()), (Some(2), 1), "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{name}: {} should hold {expected}", ended.stderr);
        assert_eq!(ended.stdout, "", "{name}");
    }
    // A disk that was written since, and one that is another.
    fs::write(running.folder().join("disk.img"), [1; 4096]).unwrap();
    let ended = monitor::invoke(&["restore", good.to_str().unwrap()]);
    assert!(
        ended.stderr.contains("disk `root`: the image is another one, or was written since"),
        "{}",
        ended.stderr
    );
    fs::write(running.folder().join("disk.img"), [0; 8192]).unwrap();
    let ended = monitor::invoke(&["restore", good.to_str().unwrap()]);
    assert!(ended.stderr.contains("disk `root` has 4096 bytes, the image 8192"), "{}", ended.stderr);
    // And the good one is still good.
    fs::write(running.folder().join("disk.img"), [0; 4096]).unwrap();
    assert_eq!(running.restore("good").end().stdout, "later\n");
}

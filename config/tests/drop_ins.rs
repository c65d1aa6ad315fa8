//! Files that say more than the one that they belong to.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hearth_config::device::DeviceConfig;
use hearth_config::workload::{Kind, WorkloadConfig};

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().expect("it lies in one")).expect("a folder");
        fs::write(file, text).expect("a file");
    }
    folder
}

fn refusal(files: &[(&str, &str)]) -> String {
    let folder = folder(files);
    let faults = WorkloadConfig::load_all(folder.path()).expect_err("it has faults");
    faults.to_string().replace(&folder.path().display().to_string(), "BOX")
}

const WEB: &str = "kind = \"service\"\nimage = \"i\"\n[restart]\nbudget = 3\nwindow_s = 7\n[[probe]]\ncheck = \"tcp\"\nrole = \"liveness\"\nport = 80\n";

#[test]
fn tables_are_merged_and_all_else_is_replaced_by_the_last_file_in_order_of_their_names() {
    let folder = folder(&[
        ("web.toml", WEB),
        ("web.d/20-more.toml", "replicas = 3\nrestart.window_s = 9\nprobe = []"),
        ("web.d/10-first.toml", "replicas = 2\ncommand = [\"a\"]"),
        ("web.d/README", "not a drop-in"),
    ]);
    let web = WorkloadConfig::load_all(folder.path()).unwrap().remove(0);
    assert_eq!(web.kind, Kind::Service { replicas: 3 });
    assert_eq!((web.restart.budget, web.restart.window), (3, Duration::from_secs(9)));
    assert_eq!((web.command, web.probes.len()), (vec!["a".to_owned()], 1));
}

#[test]
fn every_fault_names_the_file_that_has_it() {
    let told = refusal(&[
        ("web.toml", &format!("start_within_s = 0\n{WEB}")),
        ("web.d/a.toml", "\n  replicas = 0"),
        ("web.d/b.toml", "restart.budget = 65\nafter = [\"B\"]"),
    ]);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "BOX/web.toml:1:1: start_within_s: expected at least 1 s, found 0");
    assert!(told.contains("\nBOX/web.d/a.toml:2:3: replicas: expected at least 1, found 0"), "{told}");
    assert!(told.contains("\nBOX/web.d/b.toml:1:9: restart.budget: expected at most 64, found 65"), "{told}");
    assert!(told.contains("\nBOX/web.d/b.toml:2:10: after[0]: expected a workload's name"), "{told}");
    assert_eq!(lines.len(), 4, "{told}");
    let told = refusal(&[("web.toml", WEB), ("web.d/a.toml", "replicas = "), ("web.d/b.toml", "x")]);
    assert!(told.starts_with("BOX/web.d/a.toml:1:") && told.contains("\nBOX/web.d/b.toml:1:"), "{told}");
}

#[test]
fn a_fault_that_shows_later_still_knows_its_file() {
    let folder = folder(&[("web.toml", WEB), ("web.d/a.toml", "\nafter = [\"nobody\"]")]);
    let web = WorkloadConfig::load(&folder.path().join("web.toml")).unwrap();
    let fault = web.fault_of_predecessor(0, "expected somebody").to_string();
    assert_eq!(
        fault.replace(&folder.path().display().to_string(), "BOX"),
        "BOX/web.d/a.toml:2:10: after[0]: expected somebody"
    );
}

#[test]
fn drop_ins_of_nothing_are_a_fault() {
    assert_eq!(refusal(&[("web.d/a.toml", "replicas = 2")]), "BOX/web.d: expected BOX/web.toml beside it");
}

#[test]
fn the_boxs_file_has_drop_ins_too_and_paths_in_them_lie_beside_it() {
    let folder = folder(&[
        ("hearth.toml", "[paths]\nstate = \"state\""),
        ("hearth.d/a.toml", "[paths]\nimages = \"images\""),
    ]);
    let paths = DeviceConfig::load(&folder.path().join("hearth.toml")).unwrap().paths;
    let at = |name: &str| Path::new(folder.path()).join(name);
    assert_eq!((paths.state, paths.images), (at("state"), at("images")));
}

//! Whole boxes in QEMU, driven as a person drives them: `cargo xtask board run`, its console, its power button.
//!
//! Duty: show that a box boots, runs its workloads in microVMs, tells their ends apart, and stops in order.
//! Not here: what can be shown without a box. Invariant: nothing waits by the clock; each wait is for a line of
//! the console, with a deadline after which the test fails and shows what the console said.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends there")]

mod rig;

use std::time::Duration;

use rig::{Config, Rig};

/// For all trials of a board, each of which has a deadline of its own: dozens of guests one after the other, fifty at
/// once, and one that is restored two hundred times. An idle machine takes a quarter of it.
const TRIALS_PATIENCE: Duration = Duration::from_secs(25 * 60);

/// One test per board out of one function each.
macro_rules! on_boards {
    ($test:ident: $($board:ident = $name:literal),+) => {
        mod $test {
            $(#[test]
            fn $board() {
                crate::$test($name);
            })+
        }
    };
}

/// `cargo xtask test on_a_board` runs these only.
mod on_a_board {
    on_boards!(the_demo_comes_up_and_stops_in_order:
        x86_64 = "qemu-x86_64", aarch64 = "qemu-aarch64", aarch64_gicv2 = "qemu-aarch64-gicv2");
    on_boards!(a_program_takes_the_daemons_place_and_finds_a_complete_kvm:
        x86_64 = "qemu-x86_64", aarch64 = "qemu-aarch64");
    on_boards!(the_monitor_s_trials_hold:
        x86_64 = "qemu-x86_64", aarch64 = "qemu-aarch64", aarch64_gicv2 = "qemu-aarch64-gicv2");
    on_boards!(a_stock_kernel_uses_every_device:
        x86_64 = "qemu-x86_64", aarch64 = "qemu-aarch64");
    on_boards!(rates_hold_by_a_clock_that_counts_instructions: x86_64 = "qemu-x86_64");
    on_boards!(every_end_of_a_guest_is_told_from_the_others:
        x86_64 = "qemu-x86_64", aarch64 = "qemu-aarch64");
    on_boards!(a_box_whose_plug_is_pulled_loses_nothing: x86_64 = "qemu-x86_64");
    on_boards!(a_box_of_a_fleet_is_managed_from_afar: aarch64 = "qemu-aarch64");
    on_boards!(replicas_follow_the_load_of_a_shop_s_day: aarch64 = "qemu-aarch64");
    on_boards!(a_hurt_box_heals_down_to_its_watchdog:
        x86_64 = "qemu-x86_64", aarch64 = "qemu-aarch64");
}

fn the_demo_comes_up_and_stops_in_order(board: &str) {
    let mut rig = Rig::boot(board, &Config::Demo, &[]);
    rig.wait_for("hearthd | kvm: complete");
    rig.wait_for("hello | Hello from a microVM: Linux ");
    rig.wait_for("hearthd | ready: 3 of 3 workloads");
    let up = rig.said().to_vec();
    assert!(up.iter().any(|line| line == "hearthd | hello: done: exit 0"), "{up:#?}");
    assert!(up.iter().any(|line| line.starts_with("hearthd | clock: running, guest ready in ")), "{up:#?}");
    rig.wait_for("clock | up for ");
    rig.wait_for("echo | echo is ready");

    rig.press_the_power_button();
    rig.wait_for("hearthd | stopped");
    assert!(rig.wait_for_the_end(), "a box that was told to power off ends well");
    // `echo` needs `clock`, so it goes first.
    let order = ["hearthd | stopping", "echo | echo stopped", "clock | clock stopped", "hearthd | stopped"];
    let places: Vec<_> = order.iter().map(|line| rig.place_of(line)).collect();
    assert!(places.is_sorted(), "{places:?}: {:#?}", rig.said());
}

fn a_program_takes_the_daemons_place_and_finds_a_complete_kvm(board: &str) {
    let mut rig = Rig::boot(board, &Config::Demo, &["/usr/bin/hearth-vmm", "doctor"]);
    rig.wait_for("kvm                complete");
    rig.wait_for("watchdog           present");
    rig.wait_for("hearth-init: program ended: exit 0");
    assert!(rig.wait_for_the_end());
}

fn every_end_of_a_guest_is_told_from_the_others(board: &str) {
    let job = |command: &str| {
        format!(
            "kind = \"job\"\nimage = \"demo.squashfs\"\ncommand = [\"/bin/sh\", \"-c\", \"{command}\"]\n\
             [resources]\nmemory_mib = 64\n[restart]\npolicy = \"never\"\n"
        )
    };
    let workloads = vec![
        ("good", job("echo fine")),
        ("bad", job("echo 'to stderr' >&2; exit 3")),
        ("killed", job("kill -9 $$")),
        ("reborn", job("exec /bin/busybox reboot -f")),
        ("unheard", job("exec /no/such/program")),
    ];
    let mut rig = Rig::boot(board, &Config::Workloads(workloads), &[]);
    for line in [
        "good | fine",
        "bad | to stderr",
        "hearthd | good: done: exit 0",
        "hearthd | bad: failed: exit 3",
        "hearthd | killed: failed: killed by signal 9",
        "hearthd | reborn: failed: the guest asked for a reboot",
        "hearthd | unheard: failed: exit 127",
        "hearthd | not ready: 1 of 5 workloads",
    ] {
        rig.wait_for(line);
    }
    rig.press_the_power_button();
    assert!(rig.wait_for_the_end());
}

fn the_monitor_s_trials_hold(board: &str) {
    // Where only the GIC is another one, what it has no part in was shown by another board, and what that repeats
    // hundreds of times is done once.
    const OF_THE_GIC: &str = "-snapshot_cycles,-clones,-config,-balloon,-free_pages,-entropy,-console_flood,\
        -read_only,-discard,-statistics,-stop_";
    let filter: &[&str] = if board == "qemu-aarch64-gicv2" { &[OF_THE_GIC] } else { &[] };
    all_hold(Rig::try_out(board, filter));
}

fn a_stock_kernel_uses_every_device(board: &str) {
    // One trial for each driver: such a kernel takes its time to boot. Debian's cloud kernel for ARM64 has no driver of
    // pvpanic, so a crash of it is a reboot, and does not hear the power button.
    let drivers = "power_off,watchdog_expiry,disk_discard,network,vsock,entropy,free_pages";
    let more = if board == "qemu-x86_64" { ",panic,button_by_request" } else { "" };
    all_hold(Rig::try_out(board, &["--stock-kernel", &format!("{drivers}{more}")]));
}

fn rates_hold_by_a_clock_that_counts_instructions(board: &str) {
    all_hold(Rig::try_out(board, &["--counted", "rate"]));
}

fn a_hurt_box_heals_down_to_its_watchdog(board: &str) {
    // What differs between architectures is how guests end and how a board is reset; the rest is shown once.
    let (filter, faults) = if board == "qemu-x86_64" { ("", 11) } else { ("guest-panicked,daemon", 3) };
    let mut rig = Rig::hurt(board, filter);
    let ended_well = rig.wait_for_the_end_within(TRIALS_PATIENCE);
    let told: Vec<_> = rig.said().iter().filter(|line| line.starts_with("fault ")).collect();
    // As a table of what the box can take, for whoever runs this to see.
    println!("{told:#?}");
    assert!(told.iter().all(|line| line.contains(": healed in ")), "{told:#?}");
    let all = format!("faults: {faults} healed, 0 failed");
    assert!(rig.said().contains(&all), "{:#?}", rig.said());
    assert!(ended_well);
}

fn a_box_whose_plug_is_pulled_loses_nothing(board: &str) {
    let mut rig = Rig::unplugged(board, 6);
    let ended_well = rig.wait_for_the_end_within(TRIALS_PATIENCE);
    let told = |start: &str| rig.said().iter().filter(|line| line.starts_with(start)).count();
    assert_eq!((told("cut "), told("plug: 6 cuts, ")), (6, 1), "{:#?}", rig.said());
    assert!(ended_well);
}

fn a_box_of_a_fleet_is_managed_from_afar(board: &str) {
    let mut rig = Rig::of_a_fleet(board);
    let ended_well = rig.wait_for_the_end_within(TRIALS_PATIENCE);
    assert!(rig.said().iter().any(|line| line == "fleet: 8 steps held, 0 failed"), "{:#?}", rig.said());
    assert!(ended_well);
}

fn replicas_follow_the_load_of_a_shop_s_day(board: &str) {
    let mut rig = Rig::through_a_day(board);
    let ended_well = rig.wait_for_the_end_within(TRIALS_PATIENCE);
    let told: Vec<_> = rig.said().iter().filter(|line| line.starts_with("day: ")).collect();
    println!("{told:#?}");
    assert!(told.iter().any(|line| *line == "day: 8 held, 0 failed"), "{:#?}", rig.said());
    assert!(ended_well);
}

/// Every trial says for itself whether it held; the box says how many did.
fn all_hold(mut rig: Rig) {
    let ended_well = rig.wait_for_the_end_within(TRIALS_PATIENCE);
    let failed: Vec<_> = rig.said().iter().filter(|line| line.contains(": FAILED: ")).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(rig.said().iter().any(|line| line.starts_with("trials: ")), "{:#?}", rig.said());
    assert!(ended_well);
}

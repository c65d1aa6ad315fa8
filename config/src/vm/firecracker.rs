//! Firecracker's `--config-file`, read as a machine of ours.
//!
//! Duty: the fields that both monitors have, with Firecracker's names and meaning. Everything else that its format
//! knows is named as lacking, unless it asks for nothing (`null`, `false`, an empty list).
//! Not here: the limits of values, `shape` has them for both forms.
//! Invariant: a file that is read strictly leaves nothing out that it asked for.
//!
//! Where the two differ, and what happens:
//! - Relative paths mean the working directory, as there.
//! - The root drive becomes the first disk, and `root=/dev/vda` (or its PARTUUID) with `ro` or `rw` follows the
//!   boot arguments, before a `--`, as there.
//! - Boot arguments that are left out are Firecracker's, less what names a keyboard controller: there is none here.
//! - A token bucket of `size` and `refill_time` (ms) becomes `size * 1000 / refill_time` per second, rounded down,
//!   with `size` as its burst; `one_time_burst` comes on top once. A size or time of zero is no limit, as there.
//! - `cache_type` "Unsafe" lets Firecracker ignore flushes; here they are always carried out. `io_engine` is a choice
//!   that the monitor makes by itself. `vsock_id` and the interval of balloon statistics have no effect: statistics
//!   are taken when somebody asks for them.
//! - The serial port is typed to from standard input unless it prints into a file, as there; three times Ctrl-] at a
//!   terminal stops the monitor.

use super::*;
use crate::reader::{Entry, Table};
use crate::tree::{Member, Value, member};

/// Bytes of a partition's UUID as it stands in `root=PARTUUID=`; a GPT has 36.
const MAX_PARTUUID_BYTES: usize = 64;
/// Seconds between balloon statistics; the width of Firecracker's field.
const STATISTICS_S: std::ops::RangeInclusive<u64> = 0..=65535;
const DEFAULT_CMDLINE: &str = "panic=1 nomodule 8250.nr_uarts=0 swiotlb=noforce";

pub(super) fn vm(root: &mut Table<'_>) -> VmConfig {
    let machine = root.section("machine-config", machine);
    let (block, root_drive) = drives(root);
    let vm = VmConfig {
        machine,
        boot: root.section("boot-source", |t| boot(t, root_drive.as_ref())),
        serial: root.section("serial", serial),
        console: None,
        block: block.iter().map(|(_, block)| block.clone()).collect(),
        net: interfaces(root),
        vsock: root.optional_section("vsock", vsock),
        rng: root.optional_section("entropy", |t| Rng { limit: limit(t, "rate_limiter") }),
        balloon: root.optional_section("balloon", balloon),
        watchdog: None,
        control: None,
        stop: Stop::default(),
        snapshot: None,
        identity: Identity::default(),
        jail: Jail::default(),
    };
    for (key, why) in [
        ("cpu-config", "the guest sees the host's processor, there are no templates"),
        ("mmds-config", "there is no metadata service"),
        ("memory-hotplug", "memory stays as it is; the balloon takes and gives"),
        ("logger", "messages go to standard error, see --log-level"),
        ("metrics", "figures are asked for on the control socket"),
    ] {
        root.entry(key).lacking(format!("not supported here: {why}"));
    }
    let pmem = root.entry("pmem");
    if pmem.items("an array", usize::MAX).is_some_and(|items| !items.is_empty()) {
        pmem.lacking("not supported here: there are no pmem devices");
    }
    let first = block.first().filter(|_| root_drive.is_some()).map(|(index, _)| *index);
    contradictions::tell(root, &vm, &|key| key_of(key, first));
    vm
}

/// A `false` that this machine can only agree with.
fn never(entry: &Entry<'_>, why: &str) {
    if entry.flag() == Some(true) {
        entry.lacking(format!("not supported here: {why}"));
    }
}

fn machine(table: &mut Table<'_>) -> Machine {
    let default = Machine::default();
    never(&table.entry("smt"), "every vCPU is a core of its own");
    never(&table.entry("track_dirty_pages"), "there are no snapshots");
    let template = table.entry("cpu_template");
    if template.text().is_some_and(|name| name != "None") {
        template.lacking("not supported here: the guest sees the host's processor, there are no templates");
    }
    let pages = table.entry("huge_pages");
    let kinds = [("None", Some(false)), ("2M", Some(true)), ("Transparent", None)];
    let huge_pages = pages.choice(&kinds);
    if huge_pages == Some(None) {
        pages.lacking("not supported here: pages are those of the host, or 2M from its pool");
    }
    Machine {
        vcpus: shape::vcpus(&table.entry("vcpu_count")).unwrap_or(default.vcpus),
        memory: shape::memory(&table.entry("mem_size_mib")).unwrap_or(default.memory),
        huge_pages: huge_pages.flatten().unwrap_or(default.huge_pages),
        on_reboot: default.on_reboot,
    }
}

/// What the kernel is told about the disk it starts from.
struct RootDrive {
    partuuid: Option<String>,
    read_only: bool,
}

fn boot(table: &mut Table<'_>, root: Option<&RootDrive>) -> Boot {
    let arguments = table.entry("boot_args");
    let given = if arguments.is_there() { shape::cmdline(&arguments) } else { DEFAULT_CMDLINE.to_owned() };
    let cmdline = root.map_or(given.clone(), |root| with_root(&given, root));
    if given.len() <= MAX_CMDLINE_BYTES && cmdline.len() > MAX_CMDLINE_BYTES {
        let most = MAX_CMDLINE_BYTES - (cmdline.len() - given.len());
        arguments.fault(format!(
            "expected at most {most} bytes, found {}: what tells the kernel of its root drive is added",
            given.len()
        ));
    }
    Boot {
        kernel: table.required("kernel_image_path", shape::A_KERNEL).path().unwrap_or_default(),
        initrd: table.entry("initrd_path").path(),
        cmdline,
    }
}

fn with_root(arguments: &str, root: &RootDrive) -> String {
    let device = root.partuuid.as_ref().map_or("/dev/vda".to_owned(), |uuid| format!("PARTUUID={uuid}"));
    let access = if root.read_only { "ro" } else { "rw" };
    let (kernel, init) = match arguments.split_once(" -- ") {
        Some((kernel, init)) => (kernel, format!(" -- {init}")),
        None => (arguments, String::new()),
    };
    let blank = if kernel.is_empty() { "" } else { " " };
    format!("{kernel}{blank}root={device} {access}{init}")
}

/// The disks, each with its place in the file, and the root drive, which comes first.
fn drives(table: &mut Table<'_>) -> (Vec<(usize, Block)>, Option<RootDrive>) {
    let mut seen = Vec::new();
    let mut root: Option<(usize, RootDrive)> = None;
    let mut index = 0;
    let mut drives = table.sections("drives", MAX_BLOCK_DEVICES, |t| {
        let partuuid = t.entry("partuuid").text_as("the UUID of a partition", partuuid);
        let is_root = t.required("is_root_device", "true or false");
        let read_only = t.entry("is_read_only").flag().unwrap_or(false);
        if is_root.flag() == Some(true) {
            match &root {
                None => root = Some((index, RootDrive { partuuid, read_only })),
                Some((first, _)) => is_root.fault(format!("expected one root device, drives[{first}] is it")),
            }
        }
        // Checked, and without effect: see the head of this file.
        let _ = t.entry("cache_type").choice(&[("Unsafe", ()), ("Writeback", ())]);
        let _ = t.entry("io_engine").choice(&[("Sync", ()), ("Async", ())]);
        t.entry("socket").lacking("not supported here: a disk is a file or a block device, not vhost-user");
        let block = Block {
            id: shape::id(&t.required("drive_id", shape::A_NAME), MAX_ID_BYTES, &mut seen),
            path: t.required("path_on_host", shape::A_DISK).path().unwrap_or_default(),
            read_only,
            limit: limit(t, "rate_limiter"),
        };
        index += 1;
        (index - 1, block)
    });
    if let Some((at, _)) = &root
        && *at < drives.len()
    {
        drives[..=*at].rotate_right(1);
    }
    (drives, root.map(|(_, root)| root))
}

fn partuuid(text: &str) -> Option<String> {
    let good = (1..=MAX_PARTUUID_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    good.then(|| text.to_owned())
}

fn interfaces(table: &mut Table<'_>) -> Vec<Net> {
    let mut seen = Vec::new();
    table.sections("network-interfaces", MAX_NETWORK_CARDS, |t| {
        t.entry("mtu").lacking("not supported here: the guest's driver has its own default");
        Net {
            id: shape::id(&t.required("iface_id", shape::A_NAME), MAX_ID_BYTES, &mut seen),
            tap: shape::tap(&t.required("host_dev_name", shape::A_TAP)),
            mac: shape::mac(&t.entry("guest_mac")),
            receive: limit(t, "rx_rate_limiter"),
            send: limit(t, "tx_rate_limiter"),
        }
    })
}

fn serial(table: &mut Table<'_>) -> Serial {
    let file = table.entry("serial_out_path").path().map(|path| match path.to_str() {
        // Words of our form's, and names of files in this one.
        Some("stdout" | "null" | "off") => Output::File(Path::new(".").join(path)),
        _ => Output::File(path),
    });
    let bytes = bucket(table, "rate_limiter");
    let input = if file.is_some() { Input::Null } else { Input::Stdin };
    Serial { output: Some(file.unwrap_or_default()), input, limit: Limit { bytes, operations: None } }
}

fn vsock(table: &mut Table<'_>) -> Vsock {
    let _ = table.entry("vsock_id").text();
    Vsock {
        cid: shape::cid(&table.required("guest_cid", shape::A_CID)),
        socket: shape::socket(&table.required("uds_path", shape::A_SOCKET), MAX_SOCKET_PATH_BYTES),
    }
}

fn balloon(table: &mut Table<'_>) -> Balloon {
    let _ = table.entry("stats_polling_interval_s").number(STATISTICS_S, " s");
    never(&table.entry("free_page_hinting"), "pages are reported as they become free (free_page_reporting)");
    let target = shape::balloon_target(&table.required("amount_mib", "the size to begin with"));
    Balloon {
        target: target.unwrap_or(Mebibytes(0)),
        deflate_on_oom: table.required("deflate_on_oom", "true or false").flag().unwrap_or_default(),
        free_page_reporting: table.entry("free_page_reporting").flag().unwrap_or_default(),
    }
}

fn limit(table: &mut Table<'_>, key: &'static str) -> Limit {
    let both = |t: &mut Table<'_>| Limit { bytes: bucket(t, "bandwidth"), operations: bucket(t, "ops") };
    table.optional_section(key, both).unwrap_or_default()
}

fn bucket(table: &mut Table<'_>, key: &'static str) -> Option<Rate> {
    table.optional_section(key, |t| {
        let any = 0..=u64::MAX;
        let entry = t.required("size", "a number of bytes or operations");
        let size = entry.number(any.clone(), "");
        let refill_ms = t.required("refill_time", "a number of milliseconds").number(any.clone(), " ms");
        let once = t.entry("one_time_burst").number(any, "").unwrap_or(0);
        let (size, refill_ms) = (size?, refill_ms?);
        if size == 0 || refill_ms == 0 {
            return None;
        }
        let per_second = u128::from(size) * 1000 / u128::from(refill_ms);
        if per_second == 0 {
            entry.fault(format!("expected at least one in a second, found {size} in {refill_ms} ms"));
        }
        // Above is more than any device moves, so it limits as little as what was asked for.
        let most = |n: u128| u64::try_from(n).unwrap_or(MAX_RATE).min(MAX_RATE);
        Some(Rate { per_second: most(per_second), burst: size.min(MAX_RATE), once: once.min(MAX_RATE) })
    })?
}

/// Which of the drives is the root one.
pub(super) fn root_device(root: &[Member<'_>]) -> Option<usize> {
    let Value::List(drives) = &member(root, "drives")?.value else { return None };
    drives.iter().position(|drive| matches!(drive.value.get("is_root_device"), Some(Value::Flag(true))))
}

/// What Firecracker calls `key` of `vm.toml`, if drive number `root` came first.
pub(super) fn key_of(key: &str, root: Option<usize>) -> String {
    for (list, theirs) in [("block[", "drives"), ("net[", "network-interfaces")] {
        let Some((index, rest)) = key.strip_prefix(list).and_then(|rest| rest.split_once(']')) else {
            continue;
        };
        let index = match (index.parse::<usize>(), root) {
            (Ok(0), Some(root)) if list == "block[" => root.to_string(),
            (Ok(index), Some(root)) if list == "block[" && index <= root => (index - 1).to_string(),
            _ => index.to_owned(),
        };
        let field = match (list, rest) {
            (_, ".path") => ".path_on_host",
            ("block[", ".id") => ".drive_id",
            (_, ".id") => ".iface_id",
            (_, ".tap") => ".host_dev_name",
            (_, ".mac") => ".guest_mac",
            (_, other) => other,
        };
        return format!("{theirs}[{index}]{field}");
    }
    let theirs = match key {
        "machine.vcpus" => "machine-config.vcpu_count",
        "machine.memory_mib" => "machine-config.mem_size_mib",
        "machine.huge_pages" => "machine-config.huge_pages",
        "boot.kernel" => "boot-source.kernel_image_path",
        "boot.initrd" => "boot-source.initrd_path",
        "boot.cmdline" => "boot-source.boot_args",
        "serial.output" => "serial.serial_out_path",
        "block" => "drives",
        "net" => "network-interfaces",
        "vsock.cid" => "vsock.guest_cid",
        "vsock.socket" => "vsock.uds_path",
        "rng" => "entropy",
        "balloon.target_mib" => "balloon.amount_mib",
        own => own,
    };
    theirs.to_owned()
}

//! Reads `vm.toml` into its types.
//!
//! Duty: names of keys, limits and defaults. Not here: what the values do.

use std::path::PathBuf;

use super::*;
use crate::quantity::Mebibytes;
use crate::reader::{Entry, Table};

// What is missing, in the words of its fault.
pub(super) const A_KERNEL: &str = "the path of a kernel image";
pub(super) const A_NAME: &str = "a name for the device";
pub(super) const A_DISK: &str = "the path of a disk image";
pub(super) const A_TAP: &str = "the name of a TAP interface of the host";
pub(super) const A_CID: &str = "the guest's address, 3 or more";
pub(super) const A_FOLDER: &str = "the path of a folder";
pub(super) const A_SOCKET: &str = "the path of a Unix socket";

pub(super) fn vm(table: &mut Table<'_>) -> VmConfig {
    let vm = VmConfig {
        machine: table.section("machine", whole_machine),
        boot: table.section("boot", boot),
        serial: table.section("serial", serial),
        console: table.optional_section("console", console),
        block: blocks(table),
        net: cards(table),
        vsock: table.optional_section("vsock", vsock),
        rng: table.optional_section("rng", |t| Rng { limit: limit(t, "limit") }),
        balloon: table.optional_section("balloon", balloon),
        watchdog: table.optional_section("watchdog", |_| Watchdog),
        control: table.optional_section("control", |t| Control {
            socket: socket(&t.required("socket", A_SOCKET), MAX_CONTROL_PATH_BYTES),
        }),
        stop: table.section("stop", stop),
        snapshot: table.optional_section("snapshot", snapshot),
        identity: table.section("identity", identity),
        jail: table.section("jail", |t| Jail { enabled: t.entry("enabled").flag().unwrap_or(true) }),
    };
    contradictions::tell(table, &vm, &str::to_owned);
    vm
}

fn whole_machine(table: &mut Table<'_>) -> Machine {
    let default = Machine::default();
    let sized = machine(table, default);
    let answers = [("report", OnReboot::Report), ("restart", OnReboot::Restart)];
    Machine {
        huge_pages: table.entry("huge_pages").flag().unwrap_or(default.huge_pages),
        on_reboot: table.entry("on_reboot").choice(&answers).unwrap_or(default.on_reboot),
        ..sized
    }
}

/// `vcpus` and `memory_mib`, the same in `vm.toml` and in a workload.
pub(crate) fn machine(table: &mut Table<'_>, default: Machine) -> Machine {
    Machine {
        vcpus: vcpus(&table.entry("vcpus")).unwrap_or(default.vcpus),
        memory: memory(&table.entry("memory_mib")).unwrap_or(default.memory),
        ..default
    }
}

pub(super) fn vcpus(entry: &Entry<'_>) -> Option<u8> {
    let range = u64::from(*VCPUS.start())..=u64::from(*VCPUS.end());
    entry.number(range, "").and_then(|n| u8::try_from(n).ok())
}

pub(super) fn memory(entry: &Entry<'_>) -> Option<Mebibytes> {
    let range = u64::from(*MEMORY_MIB.start())..=u64::from(*MEMORY_MIB.end());
    entry.number(range, " MiB").and_then(|n| u32::try_from(n).ok()).map(Mebibytes)
}

pub(super) fn balloon_target(entry: &Entry<'_>) -> Option<Mebibytes> {
    let range = 0..=u64::from(*MEMORY_MIB.end());
    entry.number(range, " MiB").and_then(|n| u32::try_from(n).ok()).map(Mebibytes)
}

fn boot(table: &mut Table<'_>) -> Boot {
    Boot {
        kernel: table.required("kernel", A_KERNEL).path().unwrap_or_default(),
        initrd: table.entry("initrd").path(),
        cmdline: cmdline(&table.entry("cmdline")),
    }
}

pub(super) fn cmdline(entry: &Entry<'_>) -> String {
    let Some(text) = entry.text() else { return String::new() };
    if text.len() > MAX_CMDLINE_BYTES {
        entry.fault(format!("expected at most {MAX_CMDLINE_BYTES} bytes, found {}", text.len()));
    }
    if text.chars().any(char::is_control) {
        entry.fault("expected one line without control characters");
    }
    text.to_owned()
}

fn serial(table: &mut Table<'_>) -> Serial {
    let output = output(&table.entry("output"), true);
    Serial {
        output: output.unwrap_or(Some(Output::Stdout)),
        input: input(&table.entry("input")),
        limit: limit(table, "limit"),
    }
}

fn console(table: &mut Table<'_>) -> Console {
    let output = output(&table.entry("output"), false).flatten();
    Console {
        output: output.unwrap_or_default(),
        input: input(&table.entry("input")),
        limit: limit(table, "limit"),
    }
}

fn input(entry: &Entry<'_>) -> Input {
    entry.choice(&[("null", Input::Null), ("stdin", Input::Stdin)]).unwrap_or_default()
}

/// `Some(None)` is "off". A console has no such word: leaving the section out says it.
fn output(entry: &Entry<'_>, may_be_off: bool) -> Option<Option<Output>> {
    let expected = if may_be_off {
        "\"stdout\", \"null\", \"off\" or a path"
    } else {
        "\"stdout\", \"null\" or a path (without [console] there is none)"
    };
    entry.text_as(expected, |text| match text {
        "stdout" => Some(Some(Output::Stdout)),
        "null" => Some(Some(Output::Null)),
        "off" => may_be_off.then_some(None),
        path => entry.as_path(path).map(|path| Some(Output::File(path))),
    })
}

/// `{ bytes_per_second, bytes_burst, bytes_once }` and the same of operations; nothing without the first of them.
fn limit(table: &mut Table<'_>, key: &'static str) -> Limit {
    table
        .optional_section(key, |t| Limit {
            bytes: rate(t, ["bytes_per_second", "bytes_burst", "bytes_once"]),
            operations: rate(t, ["operations_per_second", "operations_burst", "operations_once"]),
        })
        .unwrap_or_default()
}

/// Without a burst, it is what one second lets through.
fn rate(table: &mut Table<'_>, [rate, burst, once]: [&'static str; 3]) -> Option<Rate> {
    let rate_entry = table.entry(rate);
    let per_second = rate_entry.number(1..=MAX_RATE, "");
    let entries = [table.entry(burst), table.entry(once)];
    let [burst, once] = [entries[0].number(1..=MAX_RATE, ""), entries[1].number(0..=MAX_RATE, "")];
    if !rate_entry.is_there() {
        for entry in entries.iter().filter(|entry| entry.is_there()) {
            entry.fault(format!("expected {rate} beside it"));
        }
    }
    per_second.map(|per_second| Rate {
        per_second,
        burst: burst.unwrap_or(per_second),
        once: once.unwrap_or(0),
    })
}

fn cards(table: &mut Table<'_>) -> Vec<Net> {
    let mut seen = Vec::new();
    table.sections("net", MAX_NETWORK_CARDS, |t| Net {
        id: id(&t.required("id", A_NAME), MAX_ID_BYTES, &mut seen),
        tap: tap(&t.required("tap", A_TAP)),
        mac: mac(&t.entry("mac")),
        receive: limit(t, "receive"),
        send: limit(t, "send"),
    })
}

pub(crate) fn tap(entry: &Entry<'_>) -> String {
    let expected = format!("the name of an interface, 1 to {MAX_INTERFACE_BYTES} bytes without / and blanks");
    entry.text_as(&expected, interface).unwrap_or_default()
}

pub(super) fn mac(entry: &Entry<'_>) -> Option<Mac> {
    entry.text_as("the address of one station, like \"06:00:0a:00:00:02\"", Mac::parse)
}

fn interface(text: &str) -> Option<String> {
    let good = (1..=MAX_INTERFACE_BYTES).contains(&text.len())
        && !matches!(text, "." | "..")
        && !text.chars().any(|c| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control());
    good.then(|| text.to_owned())
}

impl Mac {
    /// Six pairs of hexadecimal digits with colons between them; no group address, and not all zeroes.
    pub fn parse(text: &str) -> Option<Mac> {
        let mut octets = [0; 6];
        let mut pairs = text.split(':');
        for octet in &mut octets {
            let pair =
                pairs.next().filter(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
            *octet = u8::from_str_radix(pair, 16).ok()?;
        }
        let of_one_station = octets[0] & 1 == 0 && octets != [0; 6];
        (pairs.next().is_none() && of_one_station).then_some(Mac(octets))
    }
}

fn balloon(table: &mut Table<'_>) -> Balloon {
    let default = Balloon::default();
    Balloon {
        target: balloon_target(&table.entry("target_mib")).unwrap_or(default.target),
        deflate_on_oom: table.entry("deflate_on_oom").flag().unwrap_or(default.deflate_on_oom),
        free_page_reporting: table.entry("free_page_reporting").flag().unwrap_or(default.free_page_reporting),
    }
}

fn stop(table: &mut Table<'_>) -> Stop {
    let mut seconds = |key, default| {
        let range = u64::from(*STOP_SECONDS.start())..=u64::from(*STOP_SECONDS.end());
        table.entry(key).number(range, " s").and_then(|n| u16::try_from(n).ok()).unwrap_or(default)
    };
    let default = Stop::default();
    Stop { agent_s: seconds("agent_s", default.agent_s), button_s: seconds("button_s", default.button_s) }
}

fn snapshot(table: &mut Table<'_>) -> Snapshot {
    Snapshot {
        folder: table.required("folder", A_FOLDER).path().unwrap_or_default(),
        rebase: table.entry("rebase").flag().unwrap_or(false),
    }
}

fn identity(table: &mut Table<'_>) -> Identity {
    let name = format!("1 to {MAX_HOSTNAME_BYTES} letters, digits, - or ., the first and the last no - or .");
    let hostname = table.entry("hostname").text_as(&name, |text| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        let outer = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        let mut bytes = text.bytes();
        let good = text.len() <= MAX_HOSTNAME_BYTES && text.bytes().all(inner);
        (good && outer(text.bytes().last()) && outer(bytes.next())).then(|| text.to_owned())
    });
    let id = "\"new\", \"keep\" or 32 hexadecimal digits, not all of them 0";
    let machine_id = table.entry("machine_id").text_as(id, |text| match text {
        "new" => Some(MachineId::New),
        "keep" => Some(MachineId::Keep),
        // `u128` would take a sign.
        digits if digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
            let id = u128::from_str_radix(digits, 16).ok().filter(|id| *id != 0)?;
            Some(MachineId::Fixed(id.to_be_bytes()))
        }
        _ => None,
    });
    Identity { hostname, machine_id: machine_id.unwrap_or_default() }
}

fn blocks(table: &mut Table<'_>) -> Vec<Block> {
    let mut seen: Vec<String> = Vec::new();
    table.sections("block", MAX_BLOCK_DEVICES, |t| Block {
        id: id(&t.required("id", A_NAME), MAX_ID_BYTES, &mut seen),
        path: t.required("path", A_DISK).path().unwrap_or_default(),
        read_only: t.entry("read_only").flag().unwrap_or(false),
        limit: limit(t, "limit"),
    })
}

/// A name that no device above in the same list has.
pub(super) fn id(entry: &Entry<'_>, max_bytes: usize, seen: &mut Vec<String>) -> String {
    let id = entry.text_as(&format!("1 to {max_bytes} letters, digits, - or _"), |text| {
        let good = (1..=max_bytes).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        good.then(|| text.to_owned())
    });
    let id = id.unwrap_or_default();
    if seen.contains(&id) && !id.is_empty() {
        entry.fault(format!("expected a name of its own, \"{id}\" is taken by a device above"));
    }
    seen.push(id.clone());
    id
}

fn vsock(table: &mut Table<'_>) -> Vsock {
    Vsock {
        cid: cid(&table.required("cid", A_CID)),
        socket: socket(&table.required("socket", A_SOCKET), MAX_SOCKET_PATH_BYTES),
    }
}

pub(super) fn cid(entry: &Entry<'_>) -> u32 {
    let cids = u64::from(*VSOCK_CIDS.start())..=u64::from(*VSOCK_CIDS.end());
    entry.number(cids, "").and_then(|n| u32::try_from(n).ok()).unwrap_or(*VSOCK_CIDS.start())
}

pub(super) fn socket(entry: &Entry<'_>, max: usize) -> PathBuf {
    let path = entry.path().unwrap_or_default();
    let bytes = path.as_os_str().len();
    if bytes > max {
        entry.fault(format!("expected a path of at most {max} bytes, found {bytes}"));
    }
    path
}

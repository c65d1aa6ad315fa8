//! Reads `vm.toml` into its types.
//!
//! Duty: names of keys, limits and defaults. Not here: what the values do.

use std::path::PathBuf;

use super::*;
use crate::quantity::Mebibytes;
use crate::reader::{Entry, Table};

pub(super) fn vm(table: &mut Table<'_>) -> VmConfig {
    let (machine, boot) = (table.section("machine", whole_machine), table.section("boot", boot));
    let serial = table.section("serial", serial);
    VmConfig {
        machine,
        boot,
        console: table.optional_section("console", |t| console(t, &serial)),
        serial,
        block: blocks(table),
        net: cards(table),
        vsock: table.optional_section("vsock", vsock),
        rng: table.optional_section("rng", |t| Rng { limit: limit(t, "limit") }),
        balloon: table.optional_section("balloon", balloon),
        watchdog: table.optional_section("watchdog", |_| Watchdog),
        control: table.optional_section("control", |t| Control { socket: socket(t, MAX_CONTROL_PATH_BYTES) }),
        stop: table.section("stop", stop),
    }
}

fn whole_machine(table: &mut Table<'_>) -> Machine {
    let default = Machine::default();
    let sized = machine(table, default);
    let huge_pages = table.entry("huge_pages");
    let wants = huge_pages.flag().unwrap_or(default.huge_pages);
    if wants && !sized.memory.0.is_multiple_of(HUGE_PAGE_MIB) {
        huge_pages.fault(format!(
            "expected memory_mib to be a multiple of {HUGE_PAGE_MIB}, found {}",
            sized.memory.0
        ));
    }
    let answers = [("report", OnReboot::Report), ("restart", OnReboot::Restart)];
    Machine {
        huge_pages: wants,
        on_reboot: table.entry("on_reboot").choice(&answers).unwrap_or(default.on_reboot),
        ..sized
    }
}

/// `vcpus` and `memory_mib`, the same in `vm.toml` and in a workload.
pub(crate) fn machine(table: &mut Table<'_>, default: Machine) -> Machine {
    let vcpus = table.entry("vcpus").number(u64::from(*VCPUS.start())..=u64::from(*VCPUS.end()), "");
    let memory = table
        .entry("memory_mib")
        .number(u64::from(*MEMORY_MIB.start())..=u64::from(*MEMORY_MIB.end()), " MiB");
    Machine {
        huge_pages: default.huge_pages,
        on_reboot: default.on_reboot,
        vcpus: vcpus.and_then(|n| u8::try_from(n).ok()).unwrap_or(default.vcpus),
        memory: memory.and_then(|n| u32::try_from(n).ok()).map_or(default.memory, Mebibytes),
    }
}

fn boot(table: &mut Table<'_>) -> Boot {
    Boot {
        kernel: table.required("kernel", "the path of a kernel image").path().unwrap_or_default(),
        initrd: table.entry("initrd").path(),
        cmdline: cmdline(&table.entry("cmdline")),
    }
}

fn cmdline(entry: &Entry<'_>) -> String {
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
    Serial { output: output.unwrap_or(Some(Output::Stdout)), limit: limit(table, "limit") }
}

fn console(table: &mut Table<'_>, serial: &Serial) -> Console {
    let entry = table.entry("output");
    let output = output(&entry, false).flatten();
    if matches!(output, Some(Output::File(_))) && output == serial.output {
        entry.fault("expected another file than serial.output, which starts anew when it is full");
    }
    Console {
        output: output.unwrap_or_default(),
        input: table
            .entry("input")
            .choice(&[("null", Input::Null), ("stdin", Input::Stdin)])
            .unwrap_or_default(),
        limit: limit(table, "limit"),
    }
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

/// `{ bytes_per_second, bytes_burst, operations_per_second, operations_burst }`, each pair or none of it.
fn limit(table: &mut Table<'_>, key: &'static str) -> Limit {
    table
        .optional_section(key, |t| Limit {
            bytes: rate(t, "bytes_per_second", "bytes_burst"),
            operations: rate(t, "operations_per_second", "operations_burst"),
        })
        .unwrap_or_default()
}

/// Without a burst, it is what one second lets through.
fn rate(table: &mut Table<'_>, rate: &'static str, burst: &'static str) -> Option<Rate> {
    let per_second = table.entry(rate).number(1..=MAX_RATE, "");
    let entry = table.entry(burst);
    let burst = entry.number(1..=MAX_RATE, "");
    match (per_second, burst) {
        (None, None) => None,
        (None, Some(_)) => {
            entry.fault(format!("expected {rate} beside it"));
            None
        }
        (Some(per_second), burst) => Some(Rate { per_second, burst: burst.unwrap_or(per_second) }),
    }
}

fn cards(table: &mut Table<'_>) -> Vec<Net> {
    let mut seen = Vec::new();
    table.sections("net", MAX_NETWORK_CARDS, |t| {
        let id = id(t, &mut seen);
        let tap = t.required("tap", "the name of a TAP interface of the host");
        let expected =
            format!("the name of an interface, 1 to {MAX_INTERFACE_BYTES} bytes without / and blanks");
        Net {
            id,
            tap: tap.text_as(&expected, interface).unwrap_or_default(),
            mac: t.entry("mac").text_as("the address of one station, like \"06:00:0a:00:00:02\"", Mac::parse),
            receive: limit(t, "receive"),
            send: limit(t, "send"),
        }
    })
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
    let target = table.entry("target_mib").number(0..=u64::from(*MEMORY_MIB.end()), " MiB");
    Balloon {
        target: target.and_then(|n| u32::try_from(n).ok()).map_or(default.target, Mebibytes),
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

fn blocks(table: &mut Table<'_>) -> Vec<Block> {
    let mut seen: Vec<String> = Vec::new();
    table.sections("block", MAX_BLOCK_DEVICES, |t| {
        let id = id(t, &mut seen);
        Block {
            id,
            path: t.required("path", "the path of a disk image").path().unwrap_or_default(),
            read_only: t.entry("read_only").flag().unwrap_or(false),
            limit: limit(t, "limit"),
        }
    })
}

/// A name that no device above in the same list has.
fn id(t: &mut Table<'_>, seen: &mut Vec<String>) -> String {
    let entry = t.required("id", "a name for the device");
    let id = entry.text_as(&format!("1 to {MAX_BLOCK_ID_BYTES} letters, digits, - or _"), |text| {
        is_device_id(text).then(|| text.to_owned())
    });
    let id = id.unwrap_or_default();
    if seen.contains(&id) && !id.is_empty() {
        entry.fault(format!("expected a name of its own, \"{id}\" is taken by a device above"));
    }
    seen.push(id.clone());
    id
}

fn is_device_id(text: &str) -> bool {
    (1..=MAX_BLOCK_ID_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn vsock(table: &mut Table<'_>) -> Vsock {
    let cids = u64::from(*VSOCK_CIDS.start())..=u64::from(*VSOCK_CIDS.end());
    let cid = table.required("cid", "the guest's address, 3 or more").number(cids, "");
    let socket = socket(table, MAX_SOCKET_PATH_BYTES);
    Vsock { cid: cid.and_then(|n| u32::try_from(n).ok()).unwrap_or(*VSOCK_CIDS.start()), socket }
}

fn socket(table: &mut Table<'_>, max: usize) -> PathBuf {
    let entry = table.required("socket", "the path of a Unix socket");
    let path = entry.path().unwrap_or_default();
    let bytes = path.as_os_str().len();
    if bytes > max {
        entry.fault(format!("expected a path of at most {max} bytes, found {bytes}"));
    }
    path
}

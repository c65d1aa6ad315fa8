//! What holds for any content.

use std::path::PathBuf;

use hearth_config::Mebibytes;
use hearth_config::device::DeviceConfig;
use hearth_config::guest::GuestConfig;
use hearth_config::vm::{
    Balloon, Block, Boot, Console, Control, Identity, Input, Jail, Limit, Mac, Machine, MachineId, Net,
    OnReboot, Output, Rate, Rng, Serial, Snapshot, Stop, VmConfig, Vsock, Watchdog,
};
use hearth_config::workload::{
    Check, MAX_PROBE_ARGUMENTS, MAX_PROBE_COMMAND_BYTES, MAX_PROBE_PATH_BYTES, WorkloadConfig,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Begins with what it is for, so that no two of a machine are the same file.
fn path(purpose: &'static str) -> impl Strategy<Value = PathBuf> {
    // Any character but the zero byte; quotes, backslashes, controls and emoji come often enough.
    "[^\u{0}]{0,20}".prop_map(move |text| PathBuf::from(format!("{purpose}{text}")))
}

fn rate() -> impl Strategy<Value = Option<Rate>> {
    let most = 1u64 << 40;
    option::of(
        (1..=most, 1..=most, prop_oneof![Just(0), 0..=most]).prop_map(|(per_second, burst, once)| Rate {
            per_second,
            burst,
            once,
        }),
    )
}

fn limit() -> impl Strategy<Value = Limit> {
    (rate(), rate()).prop_map(|(bytes, operations)| Limit { bytes, operations })
}

fn output(purpose: &'static str) -> impl Strategy<Value = Output> {
    prop_oneof![Just(Output::Stdout), Just(Output::Null), path(purpose).prop_map(Output::File)]
}

fn disks() -> impl Strategy<Value = Vec<Block>> {
    vec(("[a-z]{1,10}", path(""), any::<bool>(), limit()), 0..4).prop_map(|disks| {
        let numbered = (0..).zip(disks);
        let disk = |(n, (id, path, read_only, limit)): (u8, (String, PathBuf, bool, Limit))| {
            let path = PathBuf::from(format!("disk {n} {}", path.display()));
            Block { id: format!("{id}{n}"), path, read_only, limit }
        };
        numbered.map(disk).collect()
    })
}

fn cards() -> impl Strategy<Value = Vec<Net>> {
    let mac = any::<[u8; 6]>().prop_map(|mut octets| {
        octets[0] = octets[0] & 0xfe | 2;
        Mac(octets)
    });
    vec(("[a-z]{1,10}", "[a-z0-9.-]{1,14}", option::of(mac), limit(), limit()), 0..3).prop_map(|cards| {
        let numbered = (0..).zip(cards);
        let card = |(n, (id, tap, mac, receive, send)): (u8, (String, String, Option<Mac>, _, _))| {
            let mac = mac.map(|Mac([a, b, c, d, e, _])| Mac([a, b, c, d, e, n]));
            Net { id: format!("{id}{n}"), tap: format!("{tap}{n}"), mac, receive, send }
        };
        numbered.map(card).collect()
    })
}

fn whole() -> impl Strategy<Value = Machine> {
    (1..=16u8, 16..=32768u32, any::<bool>(), any::<bool>()).prop_map(|(vcpus, pairs, huge_pages, restart)| {
        Machine {
            vcpus,
            memory: Mebibytes(pairs * 2),
            huge_pages,
            on_reboot: if restart { OnReboot::Restart } else { OnReboot::Report },
        }
    })
}

fn balloon() -> impl Strategy<Value = Balloon> {
    // Less than the smallest memory.
    (0..32u32, any::<bool>(), any::<bool>()).prop_map(|(mib, deflate_on_oom, free_page_reporting)| Balloon {
        target: Mebibytes(mib),
        deflate_on_oom,
        free_page_reporting,
    })
}

fn machine() -> impl Strategy<Value = VmConfig> {
    let input = |typed| if typed { Input::Stdin } else { Input::Null };
    let serial =
        (option::of(output("serial ")), any::<bool>(), limit()).prop_map(move |(output, typed, limit)| {
            Serial { input: input(typed && output.is_some()), output, limit }
        });
    let console = (output("console "), any::<bool>(), limit())
        .prop_map(move |(output, typed, limit)| Console { output, input: input(typed), limit });
    let boot = (path("kernel "), option::of(path("initrd ")), "[^\\x00-\\x1f\\x7f-\u{9f}]{0,80}")
        .prop_map(|(kernel, initrd, cmdline)| Boot { kernel, initrd, cmdline });
    let vsock = (3..u32::MAX, path("vsock ")).prop_map(|(cid, socket)| Vsock { cid, socket });
    let snapshot =
        (path("snapshots "), any::<bool>()).prop_map(|(folder, rebase)| Snapshot { folder, rebase });
    let machine_id = prop_oneof![
        Just(MachineId::New),
        Just(MachineId::Keep),
        (1..=u128::MAX).prop_map(|id| MachineId::Fixed(id.to_be_bytes())),
    ];
    let identity = (option::of("[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?"), machine_id)
        .prop_map(|(hostname, machine_id)| Identity { hostname, machine_id });
    let stop = (0..=3600u16, 0..=3600u16).prop_map(|(agent_s, button_s)| Stop { agent_s, button_s });
    (
        (whole(), boot, serial, option::of(console)),
        (disks(), cards(), option::of(vsock)),
        (
            option::of(limit()),
            option::of(balloon()),
            any::<bool>(),
            option::of(path("control ")),
            (stop, option::of(snapshot), identity, any::<bool>()),
        ),
    )
        .prop_map(
            |(
                (machine, boot, serial, mut console),
                (block, net, vsock),
                (rng, balloon, watchdog, control, (stop, snapshot, identity, jailed)),
            )| {
                // Standard input is for one of both.
                if let Some(console) = console.as_mut().filter(|_| serial.input == Input::Stdin) {
                    console.input = Input::Null;
                }
                VmConfig {
                    machine,
                    boot,
                    serial,
                    console,
                    block,
                    net,
                    vsock,
                    rng: rng.map(|limit| Rng { limit }),
                    balloon,
                    watchdog: watchdog.then_some(Watchdog),
                    control: control.map(|socket| Control { socket }),
                    stop,
                    // Huge pages are no file's.
                    identity,
                    jail: Jail { enabled: jailed },
                    snapshot: snapshot.map(|s| Snapshot { rebase: s.rebase && !machine.huge_pages, ..s }),
                }
            },
        )
}

/// How Linux splits the words behind `--`, told by its `next_arg`: at Latin-1 white space outside double quotes.
fn split_like_linux(line: &str) -> Vec<Vec<u8>> {
    let is_space = |b: u8| b == b' ' || (9..=13).contains(&b) || b == 0xa0;
    let mut words = Vec::new();
    let mut rest = line.as_bytes();
    while let Some(start) = rest.iter().position(|b| !is_space(*b)) {
        rest = &rest[start..];
        let quoted = rest[0] == b'"';
        if quoted {
            rest = &rest[1..];
        }
        let mut in_quotes = quoted;
        let mut end = 0;
        while end < rest.len() && (in_quotes || !is_space(rest[end])) {
            in_quotes ^= rest[end] == b'"';
            end += 1;
        }
        let word = if quoted && end > 0 && rest[end - 1] == b'"' { &rest[..end - 1] } else { &rest[..end] };
        words.push(word.to_vec());
        rest = &rest[end..];
    }
    words
}

proptest! {
    #[test]
    fn a_written_machine_reads_back_as_itself(vm in machine()) {
        let text = vm.to_toml().unwrap();
        prop_assert_eq!(VmConfig::parse("vm.toml", &text).map_err(|f| f.to_string()), Ok(vm), "{}", text);
    }

    #[test]
    fn any_text_gives_a_value_or_one_line_faults_and_never_a_panic(
        text in prop_oneof![
            "\\PC{0,60}",
            "(\\[\\[?(boot|machine|block|paths|env|restart|probe|rollout|remote|ceiling|capacity|watchdog)\\]?\\]\n?|(kernel|vcpus|id|kind|after|command|env|check|role|port|path|requires|replicas|\"é\\.x\") ?= ?(1|'x'|\\[1,'b'\\]|\\{a=1\\}|0x1f|1979-05-27|nan)\n?){0,6}",
        ]
    ) {
        let faults = [
            VmConfig::parse("x.toml", &text).err(),
            WorkloadConfig::parse("x.toml", &text).err(),
            DeviceConfig::parse("x.toml", &text).err(),
            GuestConfig::parse("x.toml", &text).err(),
        ];
        for fault in faults.iter().flatten().flatten() {
            prop_assert_eq!(fault.to_string().lines().count(), 1);
        }
    }

    #[test]
    fn every_probe_fits_a_message_to_the_agent(
        check in "tcp|http|exec|heartbeat|vcpu-progress",
        words in vec("[^'\\x00-\\x1f\\x7f]{0,60}", 1..20),
        path in "/[!-~&&[^']]{0,300}",
    ) {
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let own = match check.as_str() {
            "tcp" => "port = 1".to_owned(),
            "http" => format!("port = 1\npath = '{path}'"),
            "exec" => format!("command = [{}]", quoted.join(", ")),
            _ => String::new(),
        };
        let text = format!(
            "kind = 'service'\nimage = 'i'\n[[probe]]\nrole = 'liveness'\ncheck = '{check}'\n{own}"
        );
        let Ok(workload) = WorkloadConfig::parse("a.toml", &text) else { return Ok(()) };
        prop_assert_eq!(
            workload.probes.iter().filter(|probe| probe.check == Check::Heartbeat).count(), 1
        );
        match &workload.probes[0].check {
            Check::Exec { command } => {
                prop_assert!(command.len() <= MAX_PROBE_ARGUMENTS);
                prop_assert!(command.iter().map(String::len).sum::<usize>() <= MAX_PROBE_COMMAND_BYTES);
            }
            Check::Http { path, .. } => prop_assert!(path.len() <= MAX_PROBE_PATH_BYTES),
            _ => {}
        }
    }

    #[test]
    fn a_command_survives_the_kernel_command_line(words in vec("[^\"\\x00-\\x1f\\x7f-\u{9f}]{0,8}", 1..8)) {
        let quoted: Vec<String> = words.iter().map(|w| format!("'''{w}'''")).collect();
        let text = format!("kind = \"job\"\nimage = \"i\"\ncommand = [{}]", quoted.join(", "));
        if let Ok(workload) = WorkloadConfig::parse("a.toml", &text) {
            let expected: Vec<Vec<u8>> = workload.command.iter().map(|w| w.clone().into_bytes()).collect();
            prop_assert_eq!(split_like_linux(&workload.command_line()), expected);
        }
    }
}

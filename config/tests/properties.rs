//! What holds for any content.

use std::path::PathBuf;

use hearth_config::Mebibytes;
use hearth_config::device::DeviceConfig;
use hearth_config::guest::GuestConfig;
use hearth_config::vm::{Block, Boot, Machine, Serial, VmConfig, Vsock};
use hearth_config::workload::WorkloadConfig;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn path() -> impl Strategy<Value = PathBuf> {
    // Any character but the zero byte; quotes, backslashes, controls and emoji come often enough.
    "[^\u{0}]{1,20}".prop_map(PathBuf::from)
}

fn machine() -> impl Strategy<Value = VmConfig> {
    let serial = prop_oneof![
        Just(Serial::Stdout),
        Just(Serial::Null),
        path()
            .prop_filter("a word of its own", |p| !["stdout", "null"].iter().any(|w| p.as_os_str() == *w))
            .prop_map(Serial::File),
    ];
    let disk = ("[a-z]{1,10}", path(), any::<bool>());
    (
        (1..=16u8, 32..=65536u32),
        (path(), option::of(path()), "[^\\x00-\\x1f\\x7f-\u{9f}]{0,80}"),
        serial,
        vec(disk, 0..4),
        option::of((3..u32::MAX, path())),
    )
        .prop_map(|((vcpus, mib), (kernel, initrd, cmdline), serial, disks, vsock)| VmConfig {
            machine: Machine { vcpus, memory: Mebibytes(mib) },
            boot: Boot { kernel, initrd, cmdline },
            serial,
            block: (0..)
                .zip(disks)
                .map(|(n, (id, path, read_only))| Block { id: format!("{id}{n}"), path, read_only })
                .collect(),
            vsock: vsock.map(|(cid, socket)| Vsock { cid, socket }),
        })
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
            "(\\[\\[?(boot|machine|block|paths|env|restart)\\]?\\]\n?|(kernel|vcpus|id|kind|after|command|env|\"é\\.x\") ?= ?(1|'x'|\\[1,'b'\\]|\\{a=1\\}|0x1f|1979-05-27|nan)\n?){0,6}",
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
    fn a_command_survives_the_kernel_command_line(words in vec("[^\"\\x00-\\x1f\\x7f-\u{9f}]{0,8}", 1..8)) {
        let quoted: Vec<String> = words.iter().map(|w| format!("'''{w}'''")).collect();
        let text = format!("kind = \"job\"\nimage = \"i\"\ncommand = [{}]", quoted.join(", "));
        if let Ok(workload) = WorkloadConfig::parse("a.toml", &text) {
            let expected: Vec<Vec<u8>> = workload.command.iter().map(|w| w.clone().into_bytes()).collect();
            prop_assert_eq!(split_like_linux(&workload.command_line()), expected);
        }
    }
}

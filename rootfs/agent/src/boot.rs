//! From the kernel's hand-over to "ready".
//!
//! Duty: the order of things, and what is worth stopping for.
//! Not its duty: the single steps.
//! Invariant: an image that works without a piece gets its workload started without it; the missing piece is
//! named in a remark.

use crate::{
    cmdline::KernelArgs,
    interfaces,
    mounts::{self, MountFault},
    root::{self, Layer, RootFault},
};
use hearth_config::{Faults, guest::GuestConfig};
use nix::{
    errno::Errno,
    sys::{
        reboot::set_cad_enabled,
        stat::{Mode, umask},
    },
};
use std::{fs, io, path::Path};

/// Where an image says what it runs.
const CONFIG: &str = "/etc/hearth/workload.toml";

/// Why the guest cannot run its workload.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootFault {
    #[error(transparent)]
    Mount(MountFault),
    #[error("cannot read the kernel command line")]
    CommandLine(#[source] io::Error),
    #[error(transparent)]
    Root(RootFault),
    #[error(transparent)]
    Config(Faults),
    #[error(
        "nothing to run: expected `command` in {CONFIG} or a program behind -- on the kernel command line"
    )]
    NoCommand,
}

/// What to run, and what a person should know.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) config: GuestConfig,
    /// Where the workload finds its way to the host's broker.
    pub(crate) mqtt: Option<u16>,
    pub(crate) remarks: Vec<String>,
}

pub(crate) fn boot() -> Result<Plan, BootFault> {
    let mut remarks = Vec::new();
    // The kernel's is 022 for init as for everybody, but nothing promises it.
    umask(Mode::from_bits_truncate(0o022));
    for mount in &mounts::FIRST {
        mount.make().map_err(BootFault::Mount)?;
    }
    // A stock kernel has its disk and its socket as modules; ours has no list.
    remarks.extend(hearth_modules::load_all(Path::new(hearth_modules::LIST)));
    let line = fs::read("/proc/cmdline").map_err(BootFault::CommandLine)?;
    let args = KernelArgs::parse(&String::from_utf8_lossy(&line));
    if let Some(device) = &args.root
        && let Layer::ReadOnly(errno) = root::change_to(device).map_err(BootFault::Root)?
    {
        remarks.push(format!("the root is read-only: {}", reason("no layer over it", errno)));
    }
    for mount in &mounts::REST {
        if let Err(fault) = mount.make() {
            remarks.push(reason(&fault.to_string(), fault.errno()));
        }
    }
    if let Err(errno) = interfaces::bring_loopback_up() {
        remarks.push(reason("cannot bring up the loopback interface", errno));
    }
    // Ctrl-Alt-Del becomes a signal, so that it stops the workload in good order.
    if let Err(errno) = set_cad_enabled(false) {
        remarks.push(reason("cannot take over Ctrl-Alt-Del", errno));
    }
    let config = load(Path::new(CONFIG)).map_err(BootFault::Config)?;
    let config = with_command(config, args.command)?;
    Ok(Plan { config, mqtt: args.mqtt, remarks })
}

fn reason(what: &str, errno: Errno) -> String {
    format!("{what}: {}", errno.desc())
}

/// An image need not say anything if the command line does.
fn load(path: &Path) -> Result<GuestConfig, Faults> {
    if path.exists() { GuestConfig::load(path) } else { Ok(GuestConfig::default()) }
}

fn with_command(mut config: GuestConfig, command: Vec<String>) -> Result<GuestConfig, BootFault> {
    if !command.is_empty() {
        config.command = command;
    }
    if config.command.is_empty() { Err(BootFault::NoCommand) } else { Ok(config) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn the_kernel_command_line_beats_the_image_and_one_of_them_must_speak() {
        let image = || GuestConfig { command: words(&["/demo/hello"]), ..GuestConfig::default() };
        let command = |config, line| with_command(config, line).map(|config| config.command);
        assert_eq!(command(image(), vec![]).expect("the image's"), ["/demo/hello"]);
        assert_eq!(command(image(), words(&["sh", "-c", "x"])).expect("the line's"), ["sh", "-c", "x"]);
        assert_eq!(command(GuestConfig::default(), words(&["sh"])).expect("the line's"), ["sh"]);
        assert!(matches!(command(GuestConfig::default(), vec![]), Err(BootFault::NoCommand)));
    }

    #[test]
    fn an_image_without_a_file_has_the_defaults() {
        assert_eq!(load(Path::new("/nowhere/workload.toml")).expect("no fault"), GuestConfig::default());
    }

    #[test]
    fn the_demo_image_says_what_it_means() {
        let text = include_str!("../../demo/workload.toml");
        let config = GuestConfig::parse("workload.toml", text).expect("well-formed");
        assert_eq!(config.command, ["/demo/hello"]);
    }
}

//! Writes a machine as the `vm.toml` that reads back as it.
//!
//! What is as by default is left out, so the file shows what somebody chose.

use std::path::Path;

use super::{Identity, Input, Limit, Machine, OnReboot, Output, Rate, Stop, VmConfig, WriteError};
use crate::writer;

impl VmConfig {
    /// The text that reads back as this machine.
    pub fn to_toml(&self) -> Result<String, WriteError> {
        let mut lines = Vec::new();
        let mut say = |line: String| lines.push(line);
        let Machine { vcpus, memory, huge_pages, on_reboot } = self.machine;
        say(format!("[machine]\nvcpus = {vcpus}\nmemory_mib = {}", memory.0));
        if huge_pages {
            say("huge_pages = true".to_owned());
        }
        if on_reboot == OnReboot::Restart {
            say("on_reboot = \"restart\"".to_owned());
        }
        say(format!("\n[boot]\nkernel = {}", path_string(&self.boot.kernel)?));
        if let Some(initrd) = &self.boot.initrd {
            say(format!("initrd = {}", path_string(initrd)?));
        }
        say(format!("cmdline = {}", writer::string(&self.boot.cmdline)));
        say("\n[serial]".to_owned());
        say(match &self.serial.output {
            Some(output) => output_line(output)?,
            None => "output = \"off\"".to_owned(),
        });
        input_line(self.serial.input).map(&mut say);
        limit_line("limit", &self.serial.limit).map(&mut say);
        if let Some(console) = &self.console {
            say("\n[console]".to_owned());
            say(output_line(&console.output)?);
            input_line(console.input).map(&mut say);
            limit_line("limit", &console.limit).map(&mut say);
        }
        for block in &self.block {
            say(format!("\n[[block]]\nid = {}", writer::string(&block.id)));
            say(format!("path = {}", path_string(&block.path)?));
            say(format!("read_only = {}", block.read_only));
            limit_line("limit", &block.limit).map(&mut say);
        }
        for net in &self.net {
            say(format!("\n[[net]]\nid = {}", writer::string(&net.id)));
            say(format!("tap = {}", writer::string(&net.tap)));
            if let Some(mac) = net.mac {
                say(format!("mac = \"{mac}\""));
            }
            limit_line("receive", &net.receive).map(&mut say);
            limit_line("send", &net.send).map(&mut say);
        }
        if let Some(vsock) = &self.vsock {
            say(format!("\n[vsock]\ncid = {}", vsock.cid));
            say(format!("socket = {}", path_string(&vsock.socket)?));
        }
        if let Some(rng) = &self.rng {
            say("\n[rng]".to_owned());
            limit_line("limit", &rng.limit).map(&mut say);
        }
        if let Some(balloon) = self.balloon {
            say(format!("\n[balloon]\ntarget_mib = {}", balloon.target.0));
            say(format!("deflate_on_oom = {}", balloon.deflate_on_oom));
            say(format!("free_page_reporting = {}", balloon.free_page_reporting));
        }
        if self.watchdog.is_some() {
            say("\n[watchdog]".to_owned());
        }
        if let Some(control) = &self.control {
            say(format!("\n[control]\nsocket = {}", path_string(&control.socket)?));
        }
        if self.stop != Stop::default() {
            say(format!("\n[stop]\nagent_s = {}\nbutton_s = {}", self.stop.agent_s, self.stop.button_s));
        }
        if let Some(snapshot) = &self.snapshot {
            say(format!(
                "\n[snapshot]\nfolder = {}\nrebase = {}",
                path_string(&snapshot.folder)?,
                snapshot.rebase
            ));
        }
        if self.identity != Identity::default() {
            say(format!("\n[identity]\nmachine_id = \"{}\"", self.identity.machine_id));
            self.identity
                .hostname
                .iter()
                .for_each(|name| say(format!("hostname = {}", writer::string(name))));
        }
        if !self.jail.enabled {
            say("\n[jail]\nenabled = false".to_owned());
        }
        say(String::new());
        Ok(lines.join("\n"))
    }
}

fn output_line(output: &Output) -> Result<String, WriteError> {
    Ok(match output {
        Output::Stdout => "output = \"stdout\"".to_owned(),
        Output::Null => "output = \"null\"".to_owned(),
        Output::File(path) => format!("output = {}", path_string(path)?),
    })
}

fn input_line(input: Input) -> Option<String> {
    (input == Input::Stdin).then(|| "input = \"stdin\"".to_owned())
}

fn limit_line(key: &str, limit: &Limit) -> Option<String> {
    let pair = |name: &str, rate: Option<Rate>| {
        rate.map(|Rate { per_second, burst, once }| {
            let once = if once == 0 { String::new() } else { format!(", {name}_once = {once}") };
            format!("{name}_per_second = {per_second}, {name}_burst = {burst}{once}")
        })
    };
    let pairs: Vec<_> =
        [pair("bytes", limit.bytes), pair("operations", limit.operations)].into_iter().flatten().collect();
    (!pairs.is_empty()).then(|| format!("{key} = {{ {} }}", pairs.join(", ")))
}

fn path_string(path: &Path) -> Result<String, WriteError> {
    path.to_str().map(writer::string).ok_or_else(|| WriteError::NotUtf8(path.to_owned()))
}

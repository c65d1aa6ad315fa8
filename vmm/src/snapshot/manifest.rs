//! `manifest.toml`: what a snapshot is, for people and for whoever keeps many of them.
//!
//! It says nothing that `state` does not say, and is written from it; so reading it back is writing it again and
//! comparing. Nothing in a manifest can therefore be wrong and believed.

use super::state::{About, FORMAT};

/// The text for a snapshot.
pub(super) fn text(about: &About) -> String {
    let quoted = |text: &str| hearth_config::quoted(text);
    let kind = if about.base.is_some() { "difference" } else { "full" };
    let mut lines = vec![
        "# What this folder holds; `hearth-vmm snapshot check` compares all of it. Not to be edited."
            .to_owned(),
        format!("format = {FORMAT}"),
        format!("id = \"{}\"", about.id),
        format!("kind = \"{kind}\""),
    ];
    if let Some(base) = about.base {
        lines.push(format!("base = \"{base}\""));
    }
    lines.push(format!("architecture = {}", quoted(&about.architecture)));
    lines.push(format!("program = {}", quoted(&about.program)));
    lines.push(format!("taken_at = {}", about.taken_at));
    lines.push(format!("vcpus = {}", about.vcpus));
    lines.push(format!("processor = \"{:016x}\"", about.processor));
    lines.push(format!("memory_mib = {}", about.memory_bytes >> 20));
    lines.push(format!("memory_sum = \"{:016x}\"", about.memory_sum));
    for disk in &about.disks {
        lines.push(format!("\n[[disk]]\nid = {}", quoted(&disk.id)));
        lines.push(format!("bytes = {}\nread_only = {}", disk.bytes, disk.read_only));
        lines.push(format!("sum = \"{:016x}\"", disk.sum));
    }
    lines.push(String::new());
    lines.join("\n")
}

//! What this host really offers, found by trying rather than by reading version numbers.
//!
//! Duty: one report for people and programs (`hearth-vmm doctor`). Not its duty: advice on what to run
//! where; whoever starts the box decides by the report.

mod facts;
#[cfg(target_arch = "aarch64")]
#[path = "guest_aarch64.rs"]
mod guest;
#[cfg(target_arch = "x86_64")]
#[path = "guest_x86_64.rs"]
mod guest;
pub(crate) mod landlock;
mod probe;

use std::fmt::{self, Write};

pub use self::facts::{Fact, State};
use crate::kvm::{self, KvmError};

/// What KVM is on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvmKind {
    /// There is none.
    Absent,
    /// There is one, not for this user.
    NoPermission,
    /// It interprets the guest's kernel mode: fine for bare-metal test guests, far too little for Linux.
    Emulating,
    /// It runs guests on the processor, or on an emulated processor that has virtualization.
    Complete,
}

impl KvmKind {
    /// Its name in the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::NoPermission => "no-permission",
            Self::Emulating => "emulating",
            Self::Complete => "complete",
        }
    }
}

/// Everything that was found.
#[derive(Debug)]
pub struct Report {
    /// What KVM is.
    pub kvm: KvmKind,
    /// How that was found, or what to do about it.
    pub kvm_note: String,
    /// Speed of a micro-guest in kernel mode, in million instructions per second.
    pub guest_mips: Option<u64>,
    /// Everything else.
    pub facts: Vec<Fact>,
}

/// Interpreting takes a microsecond for a few instructions; a processor, even an emulated one, runs
/// hundreds in it. The line lies far from both.
const EMULATING_BELOW_MIPS: u64 = 30;

/// Looks at everything.
#[must_use]
pub fn examine() -> Report {
    let (kvm, kvm_note, guest_mips) = examine_kvm();
    Report { kvm, kvm_note, guest_mips, facts: facts::collect() }
}

/// How fast a guest kernel runs, in million instructions per second, if KVM interprets it. A quick look: some
/// milliseconds where it does.
#[must_use]
pub fn emulating_mips() -> Option<u64> {
    let kvm = kvm::open().ok()?;
    probe::glance(&kvm).ok().filter(|mips| *mips < EMULATING_BELOW_MIPS)
}

fn examine_kvm() -> (KvmKind, String, Option<u64>) {
    let kvm = match kvm::open() {
        Ok(kvm) => kvm,
        Err(error @ KvmError::NoPermission) => return (KvmKind::NoPermission, error.to_string(), None),
        Err(error) => return (KvmKind::Absent, error.to_string(), None),
    };
    match probe::measure(&kvm) {
        Ok(mips) if mips < EMULATING_BELOW_MIPS => {
            let note = format!(
                "a guest kernel runs at about {mips} million instructions/s: it is interpreted, \
                 and Linux guests will not come up; a board in QEMU runs them"
            );
            (KvmKind::Emulating, note, Some(mips))
        }
        Ok(mips) => {
            let note = format!("a guest kernel runs at about {mips} million instructions/s");
            (KvmKind::Complete, note, Some(mips))
        }
        Err(error) => (KvmKind::Absent, format!("a guest of four instructions does not run: {error}"), None),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<18} {:<14} {}", "kvm", self.kvm.name(), self.kvm_note)?;
        for fact in &self.facts {
            writeln!(f, "{:<18} {:<14} {}", fact.name, fact.state.name(), fact.note)?;
        }
        Ok(())
    }
}

impl Report {
    /// The report as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut facts = String::new();
        for (index, fact) in self.facts.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(
                facts,
                "{}{{\"name\":{},\"state\":{},\"note\":{}}}",
                if index == 0 { "" } else { "," },
                quoted(fact.name),
                quoted(fact.state.name()),
                quoted(&fact.note)
            );
        }
        let mips = self.guest_mips.map_or_else(|| "null".to_owned(), |mips| mips.to_string());
        format!(
            "{{\"kvm\":{},\"kvm_note\":{},\"guest_mips\":{mips},\"facts\":[{facts}]}}",
            quoted(self.kvm.name()),
            quoted(&self.kvm_note)
        )
    }
}

/// A JSON string. One report a run does not earn a JSON library.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            character if u32::from(character) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            character => out.push(character),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_quotes_and_control_characters_apart() {
        assert_eq!(quoted("a\"b\\c\n"), r#""a\"b\\c\u000a""#);
    }

    #[test]
    fn a_report_names_kvm_first_and_is_one_json_object() {
        let report = Report {
            kvm: KvmKind::Emulating,
            kvm_note: "slow".into(),
            guest_mips: Some(2),
            facts: vec![Fact { name: "tun", state: State::Present, note: String::new() }],
        };
        assert!(report.to_string().starts_with("kvm                emulating      slow\n"));
        assert_eq!(
            report.to_json(),
            r#"{"kvm":"emulating","kvm_note":"slow","guest_mips":2,"facts":[{"name":"tun","state":"present","note":""}]}"#
        );
    }
}

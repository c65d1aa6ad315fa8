//! The two architectures and what each project on the way calls them.
//!
//! Not here: what is built for an architecture. Invariant: every spelling of an architecture (Debian's, the
//! kernel's, Rust's, the cross compiler's) comes from this file.

use std::fmt;

use clap::ValueEnum;

/// An architecture that Hearth runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Arch {
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
    #[value(name = "aarch64", alias = "arm64")]
    Aarch64,
}

impl Arch {
    pub(crate) const ALL: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

    /// The machine that this program was built for, and so runs on.
    pub(crate) const HOST: Arch = if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 };

    pub(crate) fn is_host(self) -> bool {
        self == Arch::HOST
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    pub(crate) fn debian(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::Aarch64 => "arm64",
        }
    }

    /// `ARCH=` of the kernel's makefiles.
    pub(crate) fn kernel(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "arm64",
        }
    }

    pub(crate) fn rust_target(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64-unknown-linux-gnu",
            Arch::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// What the GNU tools for this architecture start with; empty for the host's own tools.
    pub(crate) fn tool_prefix(self) -> &'static str {
        match self {
            _ if self.is_host() => "",
            Arch::X86_64 => "x86_64-linux-gnu-",
            Arch::Aarch64 => "aarch64-linux-gnu-",
        }
    }

    pub(crate) fn gcc(self) -> String {
        format!("{}gcc", self.tool_prefix())
    }

    /// The Debian package with the compiler for this architecture.
    pub(crate) fn gcc_package(self) -> &'static str {
        match self {
            _ if self.is_host() => "gcc",
            Arch::X86_64 => "gcc-x86-64-linux-gnu",
            Arch::Aarch64 => "gcc-aarch64-linux-gnu",
        }
    }

    /// The Debian package with the C library (static one included) for this architecture.
    pub(crate) fn libc_package(self) -> &'static str {
        match self {
            _ if self.is_host() => "libc6-dev",
            Arch::X86_64 => "libc6-dev-amd64-cross",
            Arch::Aarch64 => "libc6-dev-arm64-cross",
        }
    }

    pub(crate) fn qemu_package(self) -> &'static str {
        match self {
            Arch::X86_64 => "qemu-system-x86",
            Arch::Aarch64 => "qemu-system-arm",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

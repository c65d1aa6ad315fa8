//! The command line: verbs, options, and their descriptions.
//!
//! Not here: what a verb does (`verbs`). Invariant: `--help` is complete; nothing is configured otherwise but
//! by the environment variables that it names.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{arch::Arch, boards::Board};

/// Builds, runs, tests and measures the whole project.
///
/// Every verb first makes what it needs: missing Debian packages are installed (by root, or through sudo where
/// it asks no password; else the line to type is printed), kernels are fetched or built, programs compiled. What
/// was made is kept in the cache folder under a hash of everything it was made from, so a second run is quick.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Environment:\n  \
        HEARTH_CACHE   the cache folder; else $XDG_CACHE_HOME/hearth, else ~/.cache/hearth\n  \
        HEARTH_RUST    'debian' compiles for the other architecture with Debian's rustc-web, not with rustup's target\n\n\
        Exit status: 0 success, 1 something failed (the last line says what), 2 usage.\n\
        Logs of everything that was run are in the cache folder under logs/.",
    disable_help_subcommand = true,
    max_term_width = 110
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Installs the packages and toolchains that the other verbs need.
    ///
    /// They do so themselves when they need them; this verb does it all at once. Before going offline also `cargo fetch`,
    /// `cargo xtask kernel` and `cargo xtask rootfs`.
    Setup(ArchChoice),
    /// Builds the guests' kernel and fetches the boards' kernel.
    ///
    /// The guests' kernel is built from Debian's kernel source with the fragments in rootfs/kernel. Where the
    /// source is not to be had, Debian's stock cloud kernel takes its place, with modules for the initramfs.
    Kernel(Kernel),
    /// Builds what guests run: the initramfs with the agent, and the demo's disk image.
    Rootfs(Rootfs),
    /// Builds or runs a board: a whole machine with the daemon on it, in QEMU.
    #[command(subcommand)]
    Board(BoardVerb),
    /// Starts Hearth with the demo workloads, on this machine if its KVM runs guests, else on a QEMU board.
    Up(Up),
    /// Asks the box that `up` runs in another terminal: hearthctl's words, from this machine.
    #[command(disable_help_flag = true)]
    Ctl {
        /// What hearthctl is to do, e.g. `status`, `top`, `explain clock`, `logs -f clock`; `--help` tells all, `check FILE`
        /// needs no box.
        #[arg(value_name = "WORDS", trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
    /// Joins standard input and output to a port of this machine, for a board's connections to a broker.
    #[command(hide = true)]
    Join { port: u16 },
    /// Checks formatting, runs the linter and all tests; ends with a line "N passed, N failed, N skipped".
    Test(Test),
    /// Looks for input that breaks what reads what others wrote: devices, rings, frames, files.
    ///
    /// Runs every target of tests/fuzz under libFuzzer, prints a row for each, and fails where one found something. What
    /// they learn is kept in the cache folder, so the next run goes on from there. `test` runs them, too, over a few
    /// hundred inputs each.
    Fuzz(Fuzz),
    /// Measures, and prints what it measured.
    #[command(subcommand)]
    Bench(Bench),
    /// Says what this machine offers: what its KVM really is, what is missing, and where `up` would run.
    Doctor {
        /// Only tell which crates the monitor links; fails where they are more than it may have.
        #[arg(long)]
        deps: bool,
    },
    /// Removes what was built.
    Clean(Clean),
}

#[derive(Debug, Args)]
pub(crate) struct ArchChoice {
    /// For this architecture only; may be repeated [default: both]
    #[arg(long = "arch", value_name = "ARCH")]
    archs: Vec<Arch>,
}

impl ArchChoice {
    pub(crate) fn archs(&self) -> Vec<Arch> {
        Arch::ALL.into_iter().filter(|arch| self.archs.is_empty() || self.archs.contains(arch)).collect()
    }
}

/// Which kernel guests get.
#[derive(Debug, Args)]
pub(crate) struct GuestKernelFlag {
    /// Give guests Debian's stock cloud kernel instead of the project's own.
    #[arg(long)]
    pub(crate) stock_kernel: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Rootfs {
    #[command(flatten)]
    pub(crate) arch: ArchChoice,
    #[command(flatten)]
    pub(crate) guest_kernel: GuestKernelFlag,
}

#[derive(Debug, Args)]
pub(crate) struct Kernel {
    #[command(flatten)]
    pub(crate) arch: ArchChoice,
    /// Take Debian's stock cloud kernel for guests even though the source is there.
    #[arg(long)]
    pub(crate) stock: bool,
    /// The guests' kernel only.
    #[arg(long, conflicts_with = "board_only")]
    pub(crate) guest_only: bool,
    /// The boards' kernel only.
    #[arg(long)]
    pub(crate) board_only: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BoardVerb {
    /// Builds the board's image: kernel, init, daemon, guest files.
    Build {
        /// Which board.
        board: Board,
        /// Take hearth.toml, hearth.d/, network.toml and workloads/ from here instead of the project's config folder.
        #[arg(long, value_name = "FOLDER")]
        config: Option<PathBuf>,
        #[command(flatten)]
        guest_kernel: GuestKernelFlag,
    },
    /// Builds the board's image and boots it with the console on this terminal.
    Run {
        /// Which board.
        board: Board,
        /// Take hearth.toml, hearth.d/, network.toml and workloads/ from here instead of the project's config folder.
        #[arg(long, value_name = "FOLDER")]
        config: Option<PathBuf>,
        #[command(flatten)]
        guest_kernel: GuestKernelFlag,
        /// Keep the box's /var in this disk image, over resets and power cuts; made if it is not there.
        #[arg(long, value_name = "FILE")]
        state: Option<PathBuf>,
        /// A program that the board's init runs in the daemon's place, with its arguments; or beside the daemon, if
        /// --beside stands before it. When it ends, the board powers off.
        #[arg(last = true, value_name = "PROGRAM")]
        program: Vec<String>,
    },
    /// Boots the board with the monitor's trials in the daemon's place.
    ///
    /// Guests use every device, every end and every request of the monitor, and both sides compare what came of
    /// it. One line for each trial, and at the end how many held.
    Try {
        /// Which board.
        board: Board,
        #[command(flatten)]
        guest_kernel: GuestKernelFlag,
        /// Let the board's clock count instructions: slower, and times are exact.
        #[arg(long)]
        counted: bool,
        /// Only trials with this in their name; or with one of several words, commas between them. A dash before a
        /// word leaves those with it out.
        #[arg(value_name = "FILTER", allow_hyphen_values = true)]
        filter: Option<String>,
    },
    /// Boots the board, hurts it in every way that is known, and watches it heal.
    ///
    /// Monitors are killed and frozen, guests panic and hang, agents and workloads fall silent, the daemon is killed and
    /// frozen, its store is corrupted, its disk is filled. One line for each fault, with how long the healing took and
    /// what the box said about it; one of the faults ends in a reset by the hardware's watchdog.
    Hurt {
        /// Which board.
        board: Board,
        /// Only faults with this in their name; or with one of several words, commas between them.
        #[arg(value_name = "FILTER")]
        filter: Option<String>,
    },
    /// Boots the board on the morning of a shop's day: load comes, a machine dies in the thick of it, load goes.
    ///
    /// The box was told of the days before. Says when how many replicas were ready and why, how the fault was healed, how
    /// many requests waited, and how many machines started cold. Time is the board's own, counted by instructions.
    Day {
        /// Which board; on ARM64 ones a counted clock costs least.
        board: Board,
    },
    /// Boots a board as a box of a fleet, with a broker on this machine, and manages it from afar: a workload comes, is
    /// scaled, gets a bad version, is restarted over a link that flaps; then an hour passes without a link.
    ///
    /// After each step the report at the broker is compared with what the box itself says. Time is the board's own,
    /// counted by instructions.
    Fleet {
        /// Which board; on ARM64 ones a counted clock costs least.
        board: Board,
    },
    /// Boots the board and pulls its plug, over and over, while a person decides things; nothing that the box has
    /// acknowledged may be lost.
    ///
    /// Some plugs are pulled while the box boots. One line for each, and at the end a boot that comes into full
    /// health.
    Plug {
        /// Which board.
        board: Board,
        /// How often.
        #[arg(long, value_name = "N", default_value_t = 20)]
        times: u32,
        /// Decides when: the same number pulls after the same times.
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Run on this board, whatever the machine's KVM is.
    #[arg(long, value_name = "NAME")]
    pub(crate) board: Option<Board>,
    /// Take hearth.toml, hearth.d/, network.toml and workloads/ from here instead of the project's config folder; on
    /// this machine itself workloads/ alone counts.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) guest_kernel: GuestKernelFlag,
    /// Start a broker on this machine (Debian's mosquitto) and have the box tell it how it is.
    #[arg(long)]
    pub(crate) broker: bool,
    /// End with status 0 when every workload has reached its goal, and with 1 if one fails.
    #[arg(long)]
    pub(crate) exit_when_ready: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Leave out the tests that boot whole boards.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Run only tests with this in their name, or all of the file of tests that has this name; leaves formatting, linter and
    /// dependencies out. Boards boot only where it says `on_a_board`, as in `on_a_board::the_demo`.
    ///
    /// `sim` alone is the supervisor's simulation, with its figures; `isolation` alone are the attempts to get out of a
    /// machine's jail, made and held.
    #[arg(value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// With `sim`: how many seeds.
    #[arg(long, value_name = "N", requires = "filter", conflicts_with = "seed")]
    pub(crate) seeds: Option<u64>,
    /// With `sim`: this seed alone, and what led to the trouble if there is one.
    #[arg(long, requires = "filter")]
    pub(crate) seed: Option<u64>,
    /// With `sim`: how many hours each seed lives through.
    #[arg(long, value_name = "N", requires = "filter")]
    pub(crate) hours: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Fuzz {
    /// This target alone; all of them are the files in tests/fuzz/fuzz_targets.
    #[arg(value_name = "TARGET")]
    pub(crate) target: Option<String>,
    /// Play this input once, such as one that was found, and show what it does.
    #[arg(value_name = "INPUT", requires = "target")]
    pub(crate) input: Option<PathBuf>,
    /// How long for each target.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1440))]
    pub(crate) minutes: u32,
    /// How many targets at a time [default: 2, or 1 where there is one processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) jobs: Option<u8>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Time from exec to a workload that is ready, with instructions counted in place of time.
    Boot {
        /// Another monitor to measure in the same run; may be repeated.
        ///
        /// COMMAND boots the kernel $KERNEL with the initramfs $INITRD, $MEMORY_MIB of memory and the command line
        /// $CMDLINE, and has the guest's serial console on its standard output. Its program, the program's
        /// libraries, and every word that is the absolute path of a file are put on the board.
        #[arg(long = "peer", value_name = "NAME=COMMAND")]
        peers: Vec<String>,
        /// Write the figures as JSON here as well.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// What the monitor promises: start, memory, size, and instructions per request and byte of every device.
    ///
    /// Beside QEMU's microvm machine with the same kernel and the same work, on one board whose clock counts
    /// instructions. Prints each promise with its figure, and says where one is not kept.
    Vmm {
        /// Write the figures as JSON here as well.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// What snapshots cost: pauses, restores, clones from one template, and memory.
    ///
    /// On a board whose clock counts instructions. Prints each figure beside a cold boot of the same guest, each
    /// promise with its figure, and says where one is not kept.
    Snapshot {
        /// Write the figures as JSON here as well.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// What the daemon costs with ten workloads, and how quickly it replaces and adopts machines.
    ///
    /// On a board whose clock counts instructions. Prints each promise with its figure, and says where one is not kept.
    Daemon {
        /// Which board: on qemu-x86_64 QEMU now and then lets a guest stand still, which costs minutes.
        #[arg(long, value_name = "NAME", default_value = "qemu-aarch64")]
        board: Board,
        /// Write the figures as JSON here as well.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// How soon the box heals what ails its workloads: by what it learnt, by cost and by strength.
    ///
    /// Three boots of a board whose clock counts instructions, in which real guests and monitors meet the same faults, 30
    /// times each. Prints the mean time to repair for each fault and order, and how often a person was called.
    Recovery {
        /// Which board; on ARM64 ones a counted clock costs least.
        #[arg(long, value_name = "NAME", default_value = "qemu-aarch64")]
        board: Board,
        /// Write every incident as a line here as well.
        #[arg(long, value_name = "FILE")]
        lines: Option<PathBuf>,
    },
    /// The fleet: bytes of telemetry, memory with TLS up, and ten thousand boxes that come to one broker at once.
    ///
    /// Prints each figure beside what was promised, whatever it says.
    Fleet {
        /// How many boxes come at once [default: 10000]
        #[arg(long, value_name = "N")]
        boxes: Option<u32>,
    },
    /// The outbox: records per second, a start, and bytes of flash per byte of telemetry.
    ///
    /// Prints each figure beside what was promised, whatever it says.
    Outbox {
        /// On the disk that is to be measured. Default: the one of this build.
        folder: Option<PathBuf>,
    },
    /// The predictor: forecasts, anomalies, sizes, pools, causes and cures, each beside simple rivals.
    ///
    /// Prints each figure beside its target, whatever it says. Needs --data DIR, a folder of public data; --help
    /// tells all options.
    #[command(disable_help_flag = true)]
    Predict {
        /// Options of the measuring program.
        #[arg(value_name = "OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Clean {
    /// The cache folder too: kernels, downloaded packages, logs.
    #[arg(long)]
    pub(crate) cache: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_architecture_named_means_both() {
        let cli = Cli::parse_from(["xtask", "setup"]);
        assert!(matches!(cli.verb, Verb::Setup(choice) if choice.archs() == Arch::ALL));
        let cli = Cli::parse_from(["xtask", "setup", "--arch", "arm64"]);
        assert!(matches!(cli.verb, Verb::Setup(choice) if choice.archs() == [Arch::Aarch64]));
    }
}

//! QEMU's command line for a board.
//!
//! Duty: the machine that each name stands for, and its two clocks. Not here: running it (`session`).
//! Invariant: the same board and pace give the same machine on every host, but for the accelerator.

use std::{fmt, fs, io::Write, path::Path, process::Command};

use tempfile::NamedTempFile;

use super::{Board, Kvm, broker, image::BoardImage, monitor, session::SessionError, state_disk};
use crate::arch::Arch;

/// Memory of a board: a small gateway's.
const MEMORY_MIB: u32 = 1024;

/// What QEMU's own server gives the first card that asks, and where `hearth-relay` listens.
const RELAY: &str = "10.0.2.15:9170";
/// What the relay knows its token by.
const RELAY_WORD: &str = "hearth.relay=";

/// When boards are switched on whose time is counted: a Monday morning, before shops open.
const MORNING: &str = "base=2026-03-02T07:40:00,clock=vm";

/// What makes time pass on a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// The wall clock, as fast as it goes.
    Real,
    /// The number of instructions: one processor, one nanosecond each, the same on every host and day.
    Counted,
}

/// What runs the board's processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accelerator {
    Emulation,
    Kvm,
}

impl Accelerator {
    /// KVM where it gives the board a KVM of its own, for the guests on it: on x86_64 with nesting switched on.
    /// ARM64 machines that nest are not to be had. `nested` is what [`nested_kvm`] found.
    pub(crate) fn for_board(board: Board, host: Kvm, nested: bool, pace: Pace) -> Self {
        let fits = board == Board::QemuX86_64 && board.arch().is_host() && host == Kvm::Complete && nested;
        if fits && pace == Pace::Real { Accelerator::Kvm } else { Accelerator::Emulation }
    }
}

/// Where the host's kernel says whether its KVM can be nested; it has the one of its vendor, or neither.
const NESTED: [&str; 2] =
    ["/sys/module/kvm_intel/parameters/nested", "/sys/module/kvm_amd/parameters/nested"];

/// Whether a machine on this machine's KVM gets a KVM itself.
pub(crate) fn nested_kvm() -> bool {
    NESTED.iter().filter_map(|path| fs::read_to_string(path).ok()).any(|said| says_yes(&said))
}

/// A kernel parameter was a number before it became a truth value.
fn says_yes(parameter: &str) -> bool {
    matches!(parameter.trim(), "Y" | "1")
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accelerator::Emulation => "software emulation",
            Accelerator::Kvm => "KVM",
        })
    }
}

/// A board, ready to be started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) board: Board,
    pub(crate) image: &'a BoardImage,
    pub(crate) accelerator: Accelerator,
    pub(crate) pace: Pace,
    /// What init runs in the daemon's place, with its arguments; empty: the daemon.
    pub(crate) program: &'a [String],
    /// The image of the disk that keeps its state; none: its memory does.
    pub(crate) state: Option<&'a Path>,
    /// What whoever wants to reach the daemon from this machine has to know; none: nobody can.
    pub(crate) relay: Option<&'a str>,
    /// The command that speaks with a broker for the board; none: there is no broker.
    pub(crate) broker: Option<&'a str>,
}

/// A command, and what must be there as long as it runs.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) command: Command,
    /// What is not for other people's eyes: a command line is for everybody's.
    pub(crate) secrets: Option<NamedTempFile>,
}

impl Machine<'_> {
    /// The command. `qmp` is where QEMU will listen for the power button.
    pub(crate) fn prepare(&self, qmp: &Path) -> Result<Prepared, SessionError> {
        let mut command = self.command(qmp);
        let line = self.kernel_command_line();
        let Some(token) = self.relay else {
            command.args(["-append", &line]);
            return Ok(Prepared { command, secrets: None });
        };
        // Made for its owner alone. QEMU takes neither quotes nor more than a line there, and a program has no relay.
        let program = command.get_program().to_string_lossy().into_owned();
        let written = NamedTempFile::new().and_then(|mut file| {
            writeln!(file, "[machine]\n  append = \"{line} {RELAY_WORD}{token}\"")?;
            Ok(file)
        });
        let file = written.map_err(|source| SessionError::Start { program, source })?;
        command.arg("-readconfig").arg(file.path());
        Ok(Prepared { command, secrets: Some(file) })
    }

    /// See `nudge`. Where time is counted, keys from outside would make each run another one.
    pub(crate) fn loses_interrupts(&self) -> bool {
        self.board == Board::QemuX86_64
            && self.accelerator == Accelerator::Emulation
            && self.pace == Pace::Real
    }

    fn command(&self, qmp: &Path) -> Command {
        let mut command = Command::new(format!("qemu-system-{}", self.board.arch().name()));
        command.args(self.processor()).args(self.accelerator());
        command.args(["-m", &MEMORY_MIB.to_string(), "-display", "none", "-nodefaults", "-no-user-config"]);
        // `mux=off`: Ctrl-C and Ctrl-A are the board's, not QEMU's.
        command.args(["-chardev", "stdio,id=console,signal=off,mux=off", "-serial", "chardev:console"]);
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", qmp.display()));
        command.args(["-device", "i6300esb", "-action", "watchdog=reset", "-device", "virtio-rng-pci"]);
        if let Some(state) = self.state {
            // A comma would end the path; QEMU takes two for one.
            let path = state.display().to_string().replace(',', ",,");
            // Where time is counted it passes while this machine's disk flushes, as nobody counts that: half a minute of the
            // board's in a second of a busy disk. No plugs are pulled there.
            let cache = if self.pace == Pace::Counted { ",cache=unsafe" } else { "" };
            command.args(["-drive", &format!("file={path},if=none,id=state,format=raw{cache}")]);
            command.args(["-device", &format!("virtio-blk-pci,drive=state,serial={}", state_disk::NAME)]);
        }
        command.arg("-kernel").arg(&self.image.kernel).arg("-initrd").arg(&self.image.initramfs);
        command.args(self.network());
        if self.is_the_same_each_time() {
            command.args(["-rtc", MORNING]);
        }
        command
    }

    /// A card in a network of QEMU's own, from which nothing leaves this machine and where nothing else is. Where time
    /// is counted there is one only for a broker: its packets come when this machine has time for them, so no two runs
    /// are the same then.
    fn network(&self) -> Vec<String> {
        if self.is_the_same_each_time() {
            return Vec::new();
        }
        let mut network = "user,id=net,restrict=on".to_owned();
        if self.relay.is_some() {
            // QEMU takes a port that is free.
            network.push_str(&format!(",hostfwd=tcp:127.0.0.1:0-{RELAY}"));
        }
        if let Some(command) = self.broker {
            network.push_str(&format!(",guestfwd=tcp:{}-cmd:{command}", broker::ON_BOARDS));
        }
        // No boot ROM: the kernel comes from the command line.
        let card = format!("virtio-net-pci,id={},netdev=net,romfile=", monitor::CARD);
        ["-netdev", &network, "-device", &card].map(str::to_owned).to_vec()
    }

    /// Nothing comes from outside, not even the time of day.
    fn is_the_same_each_time(&self) -> bool {
        self.pace == Pace::Counted && self.broker.is_none()
    }

    fn processor(&self) -> Vec<String> {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        match (self.board, self.accelerator) {
            (Board::QemuX86_64, Accelerator::Kvm) => words(&["-M", "q35", "-cpu", "host"]),
            (Board::QemuX86_64, Accelerator::Emulation) => words(&["-M", "q35", "-cpu", "max,+svm"]),
            // Pointer authentication as the architecture defines it costs emulation half its speed.
            (Board::QemuAarch64, _) => {
                words(&["-M", "virt,virtualization=on,gic-version=3", "-cpu", "max,pauth-impdef=on"])
            }
            (Board::QemuAarch64Gicv2, _) => {
                words(&["-M", "virt,virtualization=on,gic-version=2", "-cpu", "cortex-a72"])
            }
        }
    }

    fn accelerator(&self) -> Vec<&'static str> {
        match (self.accelerator, self.pace, self.board) {
            (Accelerator::Kvm, ..) => vec!["-accel", "kvm", "-smp", "2"],
            // With two processors on two threads, about one boot in fifteen ended in a soft lockup. QEMU's VMRUN keeps
            // the vector of an interrupt that it injected; when the other processor makes it leave the guest before the guest's
            // next exit, it delivers that interrupt again, whether the guest takes interrupts or not.
            (Accelerator::Emulation, Pace::Real, Board::QemuX86_64) => vec!["-accel", "tcg", "-smp", "1"],
            (Accelerator::Emulation, Pace::Real, _) => vec!["-accel", "tcg,thread=multi", "-smp", "2"],
            (Accelerator::Emulation, Pace::Counted, _) => {
                vec!["-accel", "tcg", "-smp", "1", "-icount", "shift=0,sleep=off"]
            }
        }
    }

    fn kernel_command_line(&self) -> String {
        let console = match self.board.arch() {
            Arch::X86_64 => "ttyS0",
            Arch::Aarch64 => "ttyAMA0",
        };
        // A panic reboots: nobody stands beside the box.
        let mut line = format!("console={console} mitigations=off quiet panic=5");
        if !self.program.is_empty() {
            line.push_str(" --");
            for word in self.program {
                line.push_str(&if word.contains(' ') { format!(" \"{word}\"") } else { format!(" {word}") });
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn with_relay(
        board: Board,
        pace: Pace,
        program: &[String],
        relay: Option<&str>,
    ) -> (String, Option<NamedTempFile>) {
        let image = BoardImage {
            kernel: PathBuf::from("/kernel"),
            initramfs: PathBuf::from("/initramfs"),
            hearthctl: PathBuf::new(),
            kernel_release: String::new(),
            guest_kernel_origin: String::new(),
        };
        let accelerator = Accelerator::for_board(board, Kvm::Emulating, true, pace);
        let state = Some(Path::new("/a,b"));
        let machine = Machine {
            board,
            image: &image,
            accelerator,
            pace,
            program,
            state,
            relay,
            // Counted boards have none but for a fleet.
            broker: (pace == Pace::Real).then_some("/x join 1"),
        };
        let Prepared { command, secrets } = machine.prepare(Path::new("/qmp")).unwrap();
        (crate::command::shown(&command), secrets)
    }

    fn line(board: Board, pace: Pace, program: &[String]) -> String {
        with_relay(board, pace, program, None).0
    }

    #[test]
    fn a_board_loses_interrupts_where_svm_is_emulated_by_the_clock() {
        let image = BoardImage {
            kernel: PathBuf::new(),
            initramfs: PathBuf::new(),
            hearthctl: PathBuf::new(),
            kernel_release: String::new(),
            guest_kernel_origin: String::new(),
        };
        let loses = |board, accelerator, pace| {
            let (program, state, relay, broker) = (&[][..], None, None, None);
            Machine { board, image: &image, accelerator, pace, program, state, relay, broker }
                .loses_interrupts()
        };
        assert!(loses(Board::QemuX86_64, Accelerator::Emulation, Pace::Real));
        assert!(!loses(Board::QemuX86_64, Accelerator::Kvm, Pace::Real));
        assert!(!loses(Board::QemuX86_64, Accelerator::Emulation, Pace::Counted));
        assert!(!loses(Board::QemuAarch64, Accelerator::Emulation, Pace::Real));
    }

    #[test]
    fn each_board_is_the_machine_that_its_name_says() {
        let x86 = line(Board::QemuX86_64, Pace::Real, &[]);
        assert!(x86.contains("q35") && x86.contains("max,+svm") && x86.contains("-smp 1"), "{x86}");
        let arm = line(Board::QemuAarch64, Pace::Real, &[]);
        assert!(arm.contains("gic-version=3") && arm.contains("ttyAMA0"), "{arm}");
        assert!(line(Board::QemuAarch64Gicv2, Pace::Real, &[]).contains("gic-version=2"));
    }

    #[test]
    fn the_disk_of_its_state_is_called_what_init_looks_for() {
        let shown = line(Board::QemuX86_64, Pace::Real, &[]);
        assert!(shown.contains("file=/a,,b,if=none") && shown.contains("serial=hearth-state"), "{shown}");
    }

    #[test]
    fn a_card_is_in_a_network_that_nothing_leaves_but_where_time_is_counted() {
        let real = line(Board::QemuAarch64, Pace::Real, &[]);
        assert!(real.contains("'user,id=net,restrict=on,guestfwd=tcp:10.0.2.100:1883-cmd:/x join 1' -device virtio-net-pci,id=card,netdev=net"), "{real}");
        assert!(!line(Board::QemuX86_64, Pace::Counted, &[]).contains("-netdev"));
    }

    #[test]
    fn the_relays_token_is_in_a_file_for_its_owner_and_not_on_the_command_line() {
        use std::os::unix::fs::PermissionsExt;
        let (line, kept) = with_relay(Board::QemuX86_64, Pace::Real, &[], Some("s3cret"));
        assert!(line.contains("hostfwd=tcp:127.0.0.1:0-10.0.2.15:9170"), "{line}");
        assert!(!line.contains("s3cret") && !line.contains("-append"), "{line}");
        let file = line.split("-readconfig ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("[machine]\n  append = \"console=ttyS0 "), "{text}");
        assert!(text.ends_with(" hearth.relay=s3cret\"\n"), "{text}");
        drop(kept);
        assert!(!Path::new(&file).exists());
    }

    #[test]
    fn counted_time_needs_one_emulated_processor() {
        let counted = line(Board::QemuX86_64, Pace::Counted, &[]);
        assert!(counted.contains("-icount shift=0,sleep=off") && counted.contains("-smp 1"), "{counted}");
        let accelerator = Accelerator::for_board(Board::of_host(), Kvm::Complete, true, Pace::Counted);
        assert_eq!(accelerator, Accelerator::Emulation);
    }

    #[test]
    fn kvm_is_for_x86_that_nests_and_nothing_else() {
        let chosen = |board, host, nested| Accelerator::for_board(board, host, nested, Pace::Real);
        let own = if Arch::HOST == Arch::X86_64 { Accelerator::Kvm } else { Accelerator::Emulation };
        assert_eq!(chosen(Board::QemuX86_64, Kvm::Complete, true), own);
        assert_eq!(chosen(Board::QemuX86_64, Kvm::Complete, false), Accelerator::Emulation);
        assert_eq!(chosen(Board::QemuX86_64, Kvm::Emulating, true), Accelerator::Emulation);
        for board in [Board::QemuAarch64, Board::QemuAarch64Gicv2] {
            assert_eq!(chosen(board, Kvm::Complete, true), Accelerator::Emulation);
        }
        assert!(says_yes("Y\n") && says_yes("1\n") && !says_yes("N\n") && !says_yes("0\n"));
    }

    #[test]
    fn a_program_follows_two_dashes_with_its_words_kept_whole() {
        let shown = line(Board::QemuX86_64, Pace::Real, &["/bin/a".into(), "b c".into()]);
        assert!(shown.contains(r#"-- /bin/a "b c""#) || shown.contains(r#"-- /bin/a \"b c\""#), "{shown}");
    }
}

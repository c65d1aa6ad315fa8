//! Who takes part in a boot race, and what each of them needs on the board.
//!
//! Duty: turn "our monitor", "QEMU's microvm" and `--peer NAME=COMMAND` into command lines that are valid on the
//! board, with the files behind them. Not here: the race (`hearth-probe`, in the board).

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use thiserror::Error;

use crate::command::{self, CommandError};

/// Where the board keeps what all contenders boot.
pub(crate) const KERNEL: &str = "/usr/lib/hearth/guest/kernel";
/// The initramfs with the workload that says READY.
pub(crate) const INITRD: &str = "/bench/initrd";
/// Our monitor's configuration.
pub(crate) const CONFIG: &str = "/bench/vm.toml";
/// One command line for everybody: a serial console, and no second boot after a failure.
pub(crate) const COMMAND_LINE: &str = "console=ttyS0 quiet reboot=t panic=-1 noreplace-smp";
/// Memory of each guest.
pub(crate) const GUEST_MIB: u64 = 128;

/// Our monitor's names in the tables.
pub(crate) const OURS: &str = "hearth-vmm";
pub(crate) const DEFAULT: &str = "hearth-default";
/// Our monitor's configuration with its own defaults, and at work.
pub(crate) const DEFAULT_CONFIG: &str = "/bench/default.toml";
pub(crate) const DEFAULT_CONTROL: &str = "/run/control.sock";
pub(crate) const WORK_CONFIG: &str = "/bench/work.toml";
/// The initramfs with the probe.
pub(crate) const PROBE_INITRD: &str = "/probe/initrd";
/// What the work race makes on the board (`tests/probe/work`).
pub(crate) const WORK_DISK: &str = "/run/work/disk.img";
pub(crate) const WORK_TAP: &str = "tap-work";
pub(crate) const WORK_SOCKET: &str = "/run/work/vsock.sock";

const QEMU: &str = "qemu-system-x86_64";
const QEMU_DATA: &str = "/usr/share/qemu";
/// Firmware that the microvm machine starts from.
const QEMU_FIRMWARE: [&str; 2] = ["bios-microvm.bin", "qboot.rom"];

#[derive(Debug, Error)]
pub(crate) enum ContendersError {
    #[error("--peer {text}: expected NAME=COMMAND")]
    Form { text: String },
    #[error("--peer {name}: the quotes in its command do not close")]
    Quotes { name: String },
    #[error("--peer {name}: two contenders have this name")]
    Twice { name: String },
    #[error("{program}: not found on this machine's PATH")]
    NotFound { program: String },
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// One monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contender {
    pub(crate) name: String,
    /// As it is run on the board.
    pub(crate) words: Vec<String>,
    /// Its program on this machine, for its size.
    pub(crate) program: PathBuf,
    /// Files of this machine that the board gets under the same path.
    pub(crate) files: Vec<PathBuf>,
    /// Where it answers questions, on the board.
    pub(crate) control: Option<&'static str>,
}

/// Our own monitor; the board has it anyway.
pub(crate) fn hearth(program: PathBuf) -> Contender {
    let words = ["/usr/bin/hearth-vmm", "run", CONFIG].map(str::to_owned).to_vec();
    Contender { name: OURS.into(), words, program, files: Vec::new(), control: None }
}

/// QEMU's own small machine, without the PC devices that it can do without.
pub(crate) fn qemu_microvm() -> Result<Contender, ContendersError> {
    let machine = "microvm,x-option-roms=off,pit=off,pic=off,rtc=off,isa-serial=on";
    let line = format!(
        "{QEMU} -M {machine} -accel kvm -cpu host -smp 1 -m {GUEST_MIB} -nodefaults -no-user-config -display none \
         -no-reboot -serial stdio -kernel $KERNEL -initrd $INITRD -append '{COMMAND_LINE}'"
    );
    let mut qemu = peer(&format!("qemu-microvm={line}"))?;
    qemu.files.extend(QEMU_FIRMWARE.iter().map(|file| Path::new(QEMU_DATA).join(file)));
    Ok(qemu)
}

/// Our monitor with what it does when nobody says otherwise: a virtio console, and no serial port. It has the control
/// socket that a supervisor asks for.
pub(crate) fn hearth_default(program: PathBuf) -> Contender {
    let words = ["/usr/bin/hearth-vmm", "run", DEFAULT_CONFIG].map(str::to_owned).to_vec();
    Contender { name: DEFAULT.into(), words, program, files: Vec::new(), control: Some(DEFAULT_CONTROL) }
}

/// Ours at work.
pub(crate) fn hearth_worker(program: PathBuf) -> Contender {
    let words = ["/usr/bin/hearth-vmm", "run", WORK_CONFIG].map(str::to_owned).to_vec();
    Contender { name: OURS.into(), words, program, files: Vec::new(), control: None }
}

/// QEMU at work: the same disk, the same TAP interface, and vsock in the host's kernel, as it knows no other.
pub(crate) fn qemu_worker() -> Result<Contender, ContendersError> {
    let mut worker = qemu_microvm()?;
    let line = worker.words.iter().position(|word| word == "-append").map(|at| at + 1);
    if let Some(words) = line.and_then(|at| worker.words.get_mut(at)) {
        *words = work_command_line();
    }
    if let Some(initrd) = worker.words.iter_mut().find(|word| *word == INITRD) {
        PROBE_INITRD.clone_into(initrd);
    }
    let devices = format!(
        "-drive file={WORK_DISK},if=none,id=disk,format=raw,cache=writeback,aio=threads \
         -device virtio-blk-device,drive=disk \
         -netdev tap,id=net,ifname={WORK_TAP},script=no,downscript=no,vhost=off \
         -device virtio-net-device,netdev=net -device vhost-vsock-device,guest-cid=5"
    );
    worker.words.extend(devices.split_ascii_whitespace().map(str::to_owned));
    Ok(worker)
}

/// The guest's command line in the work race.
pub(crate) fn work_command_line() -> String {
    format!(
        "{COMMAND_LINE} -- /bin/busybox sh -c \"/bin/busybox ip addr add 10.78.0.2/24 dev eth0; \
         /bin/busybox ip link set eth0 up; /bin/hearth-probe guest work\""
    )
}

/// A peer as the command line names it. Every word that is a file of this machine comes along.
pub(crate) fn peer(text: &str) -> Result<Contender, ContendersError> {
    let form = || ContendersError::Form { text: text.to_owned() };
    let (name, line) = text.split_once('=').ok_or_else(form)?;
    let name = name.trim();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(form());
    }
    let mut words = split(line).ok_or_else(|| ContendersError::Quotes { name: name.to_owned() })?;
    for word in &mut words {
        *word = word
            .replace("$KERNEL", KERNEL)
            .replace("$INITRD", INITRD)
            .replace("$CMDLINE", COMMAND_LINE)
            .replace("$MEMORY_MIB", &GUEST_MIB.to_string());
    }
    let first = words.first_mut().ok_or_else(form)?;
    let program = find(first).ok_or_else(|| ContendersError::NotFound { program: first.clone() })?;
    *first = program.display().to_string();
    let mut files = libraries(&program)?;
    let named = words.iter().map(Path::new).filter(|path| path.is_absolute() && path.is_file());
    files.extend(named.map(Path::to_owned));
    files.sort();
    files.dedup();
    Ok(Contender { name: name.to_owned(), words, program, files, control: None })
}

/// All contenders of a race, ours first.
pub(crate) fn line_up(
    ours: PathBuf,
    qemu: bool,
    peers: &[String],
) -> Result<Vec<Contender>, ContendersError> {
    let mut all = vec![hearth(ours)];
    if qemu {
        all.push(qemu_microvm()?);
    }
    for text in peers {
        let peer = peer(text)?;
        if all.iter().any(|other| other.name == peer.name) {
            return Err(ContendersError::Twice { name: peer.name });
        }
        all.push(peer);
    }
    Ok(all)
}

/// A program by its path, or by its name on the PATH.
fn find(program: &str) -> Option<PathBuf> {
    let path = Path::new(program);
    if path.components().count() > 1 {
        return path.canonicalize().ok().filter(|path| path.is_file());
    }
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The shared libraries of a program and the loader that finds them; none for a static one.
fn libraries(program: &Path) -> Result<Vec<PathBuf>, CommandError> {
    // `ldd` says "not a dynamic executable" with a failing status.
    let listing = command::ask_whatever_its_status(Command::new("ldd").arg(program))?;
    let paths = listing.split_ascii_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).filter(|path| path.is_file()).collect())
}

/// Words as a shell would see them: blanks part them, either kind of quote keeps them together.
fn split(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for character in line.chars() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (Some(_), inside) => word.get_or_insert_default().push(inside),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (None, other) => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        assert_eq!(split("a  'b c' d\"e f\"g ''").unwrap(), ["a", "b c", "de fg", ""]);
        assert_eq!(split("a 'b"), None);
    }

    #[test]
    fn a_peer_is_a_name_and_a_command_with_the_boards_files() {
        let peer = peer("shell=sh -c 'cat $KERNEL $INITRD'").unwrap();
        assert_eq!(peer.name, "shell");
        assert!(peer.words[0].ends_with("/sh"), "{:?}", peer.words);
        assert_eq!(peer.words[2], format!("cat {KERNEL} {INITRD}"));
        assert!(peer.files.iter().any(|file| file.ends_with("libc.so.6")), "{:?}", peer.files);
    }

    #[test]
    fn what_is_no_peer_is_refused_with_what_was_expected() {
        let said = |text: &str| peer(text).unwrap_err().to_string();
        assert_eq!(said("nothing"), "--peer nothing: expected NAME=COMMAND");
        assert_eq!(said("a=b 'c"), "--peer a: the quotes in its command do not close");
        assert_eq!(said("a=no-such-program"), "no-such-program: not found on this machine's PATH");
        let twice = line_up(PathBuf::new(), false, &["hearth-vmm=sh".into()]).unwrap_err();
        assert_eq!(twice.to_string(), "--peer hearth-vmm: two contenders have this name");
    }
}

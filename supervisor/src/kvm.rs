//! What KVM is on this box, asked once of the monitor, so that the log says it.
//!
//! Not here: a decision. A workload that cannot start says so itself.

use std::io;
use std::path::Path;
use std::time::Duration;

use smol::Timer;
use smol::future::or;
use smol::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use smol::process::{Command, Stdio};

/// The measurement takes a tenth of a second on a slow box; a monitor that hangs is not waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of the report that are looked at: its first line is far shorter.
const MAX_LINE: u64 = 4096;

/// What follows `kvm: ` in the log.
pub async fn describe(monitor: &Path) -> String {
    let late = async {
        Timer::after(PATIENCE).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    match or(first_line(monitor), late).await {
        Ok(line) => first_fact(&line).unwrap_or_else(|| "not said".to_owned()),
        Err(error) => format!("{} cannot be asked: {error}", monitor.display()),
    }
}

async fn first_line(monitor: &Path) -> io::Result<String> {
    let mut command = Command::new(monitor);
    command.arg("doctor").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.kill_on_drop(true).spawn()?;
    let mut line = String::new();
    if let Some(report) = child.stdout.take() {
        BufReader::new(report.take(MAX_LINE)).read_line(&mut line).await?;
    }
    Ok(line)
}

/// The report's first line is KVM's: `kvm`, a word, a sentence.
fn first_fact(line: &str) -> Option<String> {
    let rest = line.strip_prefix("kvm")?.trim_start();
    let (word, sentence) = rest.split_once(' ')?;
    Some(format!("{word}: {}", sentence.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_the_report_is_kvms() {
        let report = "kvm                complete       a guest kernel runs at about 900 million\n";
        assert_eq!(first_fact(report).unwrap(), "complete: a guest kernel runs at about 900 million");
        assert_eq!(first_fact("hearth-vmm: no such thing"), None);
        assert_eq!(first_fact(""), None);
    }

    #[test]
    fn a_monitor_that_is_not_there_is_named() {
        let said = smol::block_on(describe(Path::new("/nonexistent/hearth-vmm")));
        assert_eq!(said, "/nonexistent/hearth-vmm cannot be asked: No such file or directory (os error 2)");
    }
}

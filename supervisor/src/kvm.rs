//! What KVM is on this box, asked once of the monitor, so that the log says it.
//!
//! Not here: a decision. A workload that cannot start says so itself.

use std::path::Path;

use smol::process::{Command, Stdio};

/// What follows `kvm: ` in the log.
pub async fn describe(monitor: &Path) -> String {
    let asked = Command::new(monitor).arg("doctor").stdin(Stdio::null()).output().await;
    match asked {
        Ok(output) => {
            first_fact(&String::from_utf8_lossy(&output.stdout)).unwrap_or_else(|| "not said".to_owned())
        }
        Err(error) => format!("{} cannot be asked: {error}", monitor.display()),
    }
}

/// The report's first line is KVM's: `kvm`, a word, a sentence.
fn first_fact(report: &str) -> Option<String> {
    let rest = report.lines().next()?.strip_prefix("kvm")?.trim_start();
    let (word, sentence) = rest.split_once(' ')?;
    Some(format!("{word}: {}", sentence.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_the_report_is_kvms() {
        let report =
            "kvm                complete       a guest kernel runs at about 900 million\ntun   absent\n";
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

//! What a person sees who starts the agent by hand.

use std::process::{Command, Output};

fn agent(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hearth-agent")).args(args).output().expect("runs")
}

#[test]
fn outside_a_guest_it_says_so_in_one_line_and_ends() {
    for args in [&[][..], &["--nonsense"], &["/bin/sh"]] {
        let output = agent(args);
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(text, "hearth-agent: expected to be PID 1 of a guest; see hearth-agent --help\n");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn help_and_version_are_given() {
    let help = agent(&["--help"]);
    assert!(help.status.success());
    assert!(String::from_utf8(help.stdout).expect("UTF-8").contains("hearth.root=DEVICE"));
    let version = agent(&["--version"]);
    let text = String::from_utf8(version.stdout).expect("UTF-8");
    assert_eq!(text, format!("hearth-agent {}\n", env!("CARGO_PKG_VERSION")));
}

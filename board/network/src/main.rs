//! `hearth-network`: the box's own network, a process beside the daemon.
//!
//! ```text
//! network.toml --> purpose --> station --netlink--> links, addresses, routes
//!                              |     ^
//!                              v     |
//!                    resolv.conf   dhcp (pure) <--port--> servers
//! ```
//!
//! Duty: links up, addresses by DHCP or from the file, a way out, name servers; one line on the console for each change.
//! Not here: guests' networks, radios, firewalls. Of IPv6 the kernel takes what routers announce, as it does by itself
//! on an interface that is up; only their name servers are not taken.
//! Invariant: nobody waits for it. A box without a network, or without this program, is a whole box.

#![forbid(unsafe_code)]

mod dhcp;
mod netlink;
mod port;
mod purpose;
mod resolv;
mod station;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use hearth_config::network::NetworkConfig;

use crate::station::Station;

const HELP: &str = "\
hearth-network: brings the box's interfaces up and gives them addresses

usage: hearth-network [--config FILE] [--resolv FILE]

  --config FILE   which interface gets its address how [/etc/hearth/network.toml]
  --resolv FILE   where programs look for name servers [/etc/resolv.conf]

Without a file, every wired interface asks for an address by DHCP; so it does with a file that has a fault, which is
told. It runs until it is ended, and leaves addresses as they are: those of DHCP end with their time.
";

const CONFIG: &str = "/etc/hearth/network.toml";
const RESOLV: &str = "/etc/resolv.conf";

#[derive(Debug, PartialEq, Eq)]
enum Order {
    Run { config: PathBuf, resolv: PathBuf },
    Print(String),
    Wrong(String),
}

fn main() -> ExitCode {
    match order(std::env::args_os().skip(1)) {
        Order::Print(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Order::Wrong(text) => {
            eprintln!("hearth-network: {text}; see hearth-network --help");
            ExitCode::from(2)
        }
        Order::Run { config, resolv } => {
            let config = NetworkConfig::load_if_there(&config).unwrap_or_else(|faults| {
                for fault in &faults {
                    say(&fault.to_string());
                }
                say("the file is left out: wired interfaces ask for addresses by DHCP");
                NetworkConfig::default()
            });
            let error = match Station::open(config, &resolv) {
                Ok(station) => station.run(),
                Err(error) => error,
            };
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn order(mut words: impl Iterator<Item = OsString>) -> Order {
    let (mut config, mut resolv) = (PathBuf::from(CONFIG), PathBuf::from(RESOLV));
    while let Some(word) = words.next() {
        let place = match word.to_str() {
            Some("--help" | "-h") => return Order::Print(HELP.to_owned()),
            Some("--version" | "-V") => {
                return Order::Print(format!("hearth-network {}\n", env!("CARGO_PKG_VERSION")));
            }
            Some("--config") => &mut config,
            Some("--resolv") => &mut resolv,
            _ => return Order::Wrong(format!("expected an option, found {}", word.to_string_lossy())),
        };
        let Some(path) = words.next() else {
            return Order::Wrong(format!("expected a file behind {}", word.to_string_lossy()));
        };
        *place = path.into();
    }
    Order::Run { config, resolv }
}

/// One line on the console. One that does not take it changes nothing.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "hearth-network | {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_have_their_places_and_may_have_others() {
        let order = |line: &str| order(line.split_whitespace().map(OsString::from));
        let run = |config: &str, resolv: &str| Order::Run { config: config.into(), resolv: resolv.into() };
        assert_eq!(order(""), run(CONFIG, RESOLV));
        assert_eq!(order("--resolv /r --config /c"), run("/c", "/r"));
        assert_eq!(order("--config"), Order::Wrong("expected a file behind --config".to_owned()));
        assert_eq!(order("x"), Order::Wrong("expected an option, found x".to_owned()));
        assert!(matches!(order("-h"), Order::Print(text) if text == HELP));
    }
}

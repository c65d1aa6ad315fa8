//! `/etc/resolv.conf`.
//!
//! Duty: what programs are told of name servers. Not here: where they come from (`station`).
//! Invariant: whoever opens the file reads a whole one; it is written when it changes and only then.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::dhcp::message::MAX_NAME_SERVERS;

const HEAD: &str = "# Made by hearth-network, which makes it anew: what is changed by hand is lost.\n";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) servers: Vec<Ipv4Addr>,
    pub(crate) domain: Option<String>,
}

impl Names {
    /// Those who come first have their way.
    pub(crate) fn add(&mut self, servers: &[Ipv4Addr], domain: Option<&str>) {
        for server in servers {
            if !self.servers.contains(server) && self.servers.len() < MAX_NAME_SERVERS {
                self.servers.push(*server);
            }
        }
        if self.domain.is_none() {
            self.domain = domain.map(str::to_owned);
        }
    }

    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        if let Some(domain) = &self.domain {
            text.push_str(&format!("search {domain}\n"));
        }
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        text
    }
}

#[derive(Debug)]
pub(crate) struct ResolvConf(PathBuf);

impl ResolvConf {
    pub(crate) fn at(path: &Path) -> ResolvConf {
        ResolvConf(path.to_owned())
    }

    pub(crate) fn tell(&self, names: &Names) -> io::Result<()> {
        let text = names.text();
        let there = fs::read_to_string(&self.0);
        let same = match &there {
            Ok(there) => *there == text,
            // Somebody's own file stays until there is something to say.
            Err(_) => *names == Names::default(),
        };
        if same || (*names == Names::default() && there.is_ok_and(|there| !there.starts_with(HEAD))) {
            return Ok(());
        }
        let mut new = self.0.as_os_str().to_owned();
        new.push(".new");
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_few_and_each_is_there_once() {
        let mut names = Names::default();
        let all = [1, 2, 1, 3, 4].map(|last| Ipv4Addr::new(10, 0, 0, last));
        names.add(&all[..2], None);
        names.add(&all, Some("a.example"));
        names.add(&[], Some("b.example"));
        let text = format!(
            "{HEAD}search a.example\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n"
        );
        assert_eq!(names.text(), text);
    }

    #[test]
    fn the_file_is_made_anew_when_there_is_something_to_say_and_emptied_only_if_it_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let file = ResolvConf::at(&path);
        let names = Names { servers: vec![Ipv4Addr::new(9, 9, 9, 9)], domain: None };
        file.tell(&Names::default()).unwrap();
        assert!(!path.exists(), "nothing to say");
        fs::write(&path, "nameserver 1.1.1.1\n").unwrap();
        file.tell(&Names::default()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "nameserver 1.1.1.1\n");
        file.tell(&names).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{HEAD}nameserver 9.9.9.9\n"));
        file.tell(&Names::default()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), HEAD);
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["resolv.conf"], "nothing half lies around");
    }
}

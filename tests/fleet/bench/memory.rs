//! What the thread adds to a process's memory, with TLS up and births out.

use std::error::Error;
use std::net::TcpListener;
use std::path::Path;

use hearth_fleet::shell::Identity;
use hearth_fleet_tests::authority::Authority;
use hearth_fleet_tests::broker::Broker;
use hearth_fleet_tests::member::{Member, figures, options};

use crate::{line, resident_kib};

const PROMISED_KIB: usize = 6 << 10;

pub(crate) fn measure(program: &Path) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(folder.path(), "authority")?;
    authority.sign("localhost")?;
    authority.sign("box")?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let more = format!(
        "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n",
        authority.certificate().display(),
        authority.file("localhost", "pem").display(),
        authority.file("localhost", "key").display()
    );
    let broker = Broker::start(program, &more)?;
    let mut listener = broker.listen("spBv1.0/#")?;
    let mut options = options("box", &[format!("mqtts://localhost:{port}")], folder.path())?;
    options.ca = Some(authority.certificate());
    options.identity =
        Some(Identity { certificate: authority.file("box", "pem"), key: authority.file("box", "key") });
    let before = resident_kib("self");
    // As in the daemon: with an outbox and a tree.
    let member = Member::with_outbox(options, 1)?;
    for round in 1..=20 {
        member.show(figures(10, round));
    }
    listener.find(|line| line.contains("DDATA/box/web.9").then_some(()));
    let added = resident_kib("self").saturating_sub(before);
    line("memory added, TLS up, 10 replicas", "<= 6144 KiB", &format!("{added} KiB"), added <= PROMISED_KIB);
    member.stop();
    Ok(())
}

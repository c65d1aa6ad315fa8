//! `[api]`: where the daemon answers beside its own socket.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::reader::Table;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// None: on its socket only.
    pub tcp: Option<SocketAddr>,
    /// What callers over TCP have to know.
    pub token_file: PathBuf,
}

pub(super) fn api(table: &mut Table<'_>) -> Api {
    // Whoever wants it elsewhere has a tunnel for it, with keys and a log.
    let expected = "a loopback address and a port, such as 127.0.0.1:9180";
    let loopback = |text: &str| {
        text.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback() && address.port() != 0)
    };
    Api {
        tcp: table.entry("tcp").text_as(expected, loopback),
        token_file: table.entry("token_file").path().unwrap_or_else(|| "/var/lib/hearth/api.token".into()),
    }
}

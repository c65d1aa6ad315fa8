//! TLS to a broker: whom to trust, and who this box is.
//!
//! Duty: files into what `rustls` wants, and the clock by which certificates are judged. Not here: the handshake.
//! Policy: a broker's certificate has to lead to the authorities in the file, and to be valid at the later of two
//! times: the box's clock, and when a broker's certificate was last found good. So a box whose clock fell back (no
//! battery, no network yet) still connects, and one whose clock was set back on purpose takes no certificate for good
//! that had expired before. A clock that never was right is told by its error: the certificate is not valid yet.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

/// A client's certificate and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Error)]
pub enum TlsError {
    #[error("expected a file of authorities for a server with TLS")]
    NoAuthorities,
    #[error("{}: cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("{}: expected PEM: {fault}", path.display())]
    Pem { path: PathBuf, fault: String },
    #[error("{}: expected at least one certificate", .0.display())]
    Empty(PathBuf),
    #[error("these certificates and keys cannot be used")]
    Unusable(#[from] rustls::Error),
}

/// The later of the clock and a time that certainly was.
#[derive(Debug)]
struct Clock {
    floor_ms: Arc<AtomicU64>,
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(UnixTime::since_unix_epoch(
            now.max(Duration::from_millis(self.floor_ms.load(Ordering::Relaxed))),
        ))
    }
}

pub(super) fn config(
    ca: Option<&Path>,
    identity: Option<&Identity>,
    floor_ms: Arc<AtomicU64>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let ca = ca.ok_or(TlsError::NoAuthorities)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate)?;
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(Clock { floor_ms }))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(Identity { certificate, key }) => {
            let key_bytes = read(key)?;
            let key = PrivateKeyDer::from_pem_slice(&key_bytes).map_err(|fault| bad_pem(key, &fault))?;
            builder.with_client_auth_cert(certificates(certificate)?, key)?
        }
        None => builder.with_no_client_auth(),
    };
    // One broker at a time: tickets of hundreds are memory for nothing.
    config.resumption = rustls::client::Resumption::in_memory_sessions(4);
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = read.map_err(|fault| bad_pem(path, &fault))?;
    if certificates.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(certificates) }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Read(path.to_owned(), error))
}

fn bad_pem(path: &Path, fault: &pem::Error) -> TlsError {
    TlsError::Pem { path: path.to_owned(), fault: fault.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let floor = || Arc::new(AtomicU64::new(0));
        let empty = folder.path().join("ca.pem");
        std::fs::write(&empty, "no certificate").unwrap();
        let told = |ca: Option<&Path>| config(ca, None, floor()).unwrap_err().to_string();
        assert_eq!(told(None), "expected a file of authorities for a server with TLS");
        assert_eq!(told(Some(&empty)), format!("{}: expected at least one certificate", empty.display()));
        let missing = folder.path().join("missing");
        assert_eq!(told(Some(&missing)), format!("{}: cannot be read", missing.display()));
    }

    #[test]
    fn no_certificate_is_judged_by_a_time_before_one_that_certainly_was() {
        let far = 4_000_000_000_000;
        let late = Clock { floor_ms: Arc::new(AtomicU64::new(far)) };
        assert_eq!(late.current_time().map(|time| time.as_secs()), Some(far / 1000));
        let early = Clock { floor_ms: Arc::new(AtomicU64::new(1)) };
        assert!(early.current_time().is_some_and(|time| time.as_secs() > 1_700_000_000));
    }
}

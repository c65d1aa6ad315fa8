//! People with keys, for tests.

use std::io::Cursor;

use minisign::{KeyPair, PublicKeyBox, SecretKeyBox};

use super::envelope::Envelope;
use super::keyring::{Keyring, RoleKeys};
use crate::topics::{Id, Topics};

/// Somebody who signs.
pub(crate) struct Signer(KeyPair);

impl Signer {
    pub(crate) fn new() -> Signer {
        Signer(KeyPair::generate_unencrypted_keypair().unwrap())
    }

    pub(crate) fn word(&self) -> String {
        self.0.pk.to_base64()
    }

    /// The files of a key, as `minisign` reads them.
    pub(crate) fn files(&self) -> (String, String) {
        let public: PublicKeyBox = self.0.pk.to_box().unwrap();
        let secret: SecretKeyBox = self.0.sk.to_box(None).unwrap();
        (public.into_string(), secret.into_string())
    }

    pub(crate) fn sign(&self, text: &str) -> String {
        minisign::sign(None, &self.0.sk, Cursor::new(text), None, None).unwrap().into_string()
    }
}

pub(crate) fn keys(signers: &[&Signer], threshold: usize) -> RoleKeys {
    let words: Vec<_> = signers.iter().map(|signer| signer.word()).collect();
    RoleKeys::new(&words, threshold).unwrap()
}

pub(crate) fn ring(operate: &Signer, release: &Signer) -> Keyring {
    Keyring { version: 0, operate: keys(&[operate], 1), release: keys(&[release], 1) }
}

pub(crate) fn sealed(text: &str, signers: &[&Signer]) -> Envelope {
    Envelope::new(text.to_owned(), signers.iter().map(|signer| signer.sign(text)).collect())
}

pub(crate) fn topics() -> Topics {
    Topics::new(Id::new("plant").unwrap(), Id::new("box-7").unwrap())
}

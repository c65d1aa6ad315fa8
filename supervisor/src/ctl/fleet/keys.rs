//! Keys, signatures and envelopes, in minisign's files.
//!
//! Duty: make and use them. Not here: what they are good for (`hearth_fleet::sign`).
//! Invariant: a secret key is in a file that only its owner reads, and no file that is there is written over.

use std::fs::{self, OpenOptions};
use std::io::{self, Cursor, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hearth_fleet::sign::Envelope;
use minisign::{KeyPair, SecretKey, SecretKeyBox};
use thiserror::Error;

/// Nobody but the owner.
const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

#[derive(Debug, Error)]
pub(super) enum KeysError {
    #[error("{}", .0.display())]
    File(PathBuf, #[source] io::Error),
    #[error("{}: expected a secret key of minisign's, and its password", .0.display())]
    NoKey(PathBuf),
    #[error("a key cannot be made: {0}")]
    Make(String),
    #[error("{}: cannot be signed: {fault}", file.display())]
    Sign { file: PathBuf, fault: String },
}

pub(super) fn keygen(name: &Path, no_password: bool) -> Result<ExitCode, KeysError> {
    let make = |error: minisign::PError| KeysError::Make(error.to_string());
    let pair = if no_password {
        KeyPair::generate_unencrypted_keypair()
    } else {
        // Asks for it.
        KeyPair::generate_encrypted_keypair(None)
    };
    let KeyPair { pk, sk } = pair.map_err(make)?;
    let secret = sk.to_box(None).map_err(make)?.into_string();
    let public = pk.to_box().map_err(make)?.into_string();
    let (secret_file, public_file) = (with_end(name, "key"), with_end(name, "pub"));
    write_new(&secret_file, PRIVATE, &secret)?;
    write_new(&public_file, PUBLIC, &public)?;
    println!("{}", pk.to_base64());
    eprintln!(
        "hearthctl: {} stays here; the line above goes into [fleet.trust] of the boxes' hearth.toml",
        secret_file.display()
    );
    Ok(ExitCode::SUCCESS)
}

pub(super) fn sign_file(key: &Path, file: &Path) -> Result<ExitCode, KeysError> {
    let text = read(file)?;
    let signature = sign(&secret_key(key)?, file, &text)?;
    let beside = signature_of(file);
    fs::write(&beside, signature).map_err(|error| KeysError::File(beside, error))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn seal_file(file: &Path, signatures: &[PathBuf]) -> Result<ExitCode, KeysError> {
    let beside = [signature_of(file)];
    let signatures = if signatures.is_empty() { &beside[..] } else { signatures };
    let signatures: Result<_, _> = signatures.iter().map(|signature| read(signature)).collect();
    println!("{}", Envelope::new(read(file)?, signatures?).to_json());
    Ok(ExitCode::SUCCESS)
}

/// A document as boxes want it. `name` is what faults call it.
pub(super) fn seal(keys: &[SecretKey], name: &Path, text: String) -> Result<String, KeysError> {
    let signatures: Result<_, _> = keys.iter().map(|key| sign(key, name, &text)).collect();
    Ok(Envelope::new(text, signatures?).to_json())
}

/// Likewise of a file, with the signature beside it if there is no key.
pub(super) fn seal_or_sealed(keys: &[SecretKey], file: &Path) -> Result<String, KeysError> {
    let text = read(file)?;
    if keys.is_empty() {
        return Ok(Envelope::new(text, vec![read(&signature_of(file))?]).to_json());
    }
    seal(keys, file, text)
}

/// Asks for the password of one that is encrypted.
pub(super) fn secret_key(file: &Path) -> Result<SecretKey, KeysError> {
    let text = read(file)?;
    let boxed = || SecretKeyBox::from_string(&text);
    let plain = boxed().and_then(SecretKeyBox::into_unencrypted_secret_key);
    plain
        .or_else(|_| boxed().and_then(|boxed| boxed.into_secret_key(None)))
        .map_err(|_| KeysError::NoKey(file.to_owned()))
}

pub(super) fn read(file: &Path) -> Result<String, KeysError> {
    fs::read_to_string(file).map_err(|error| KeysError::File(file.to_owned(), error))
}

fn sign(key: &SecretKey, file: &Path, text: &str) -> Result<String, KeysError> {
    let fault = |error: minisign::PError| KeysError::Sign { file: file.to_owned(), fault: error.to_string() };
    Ok(minisign::sign(None, key, Cursor::new(text), None, None).map_err(fault)?.into_string())
}

fn signature_of(file: &Path) -> PathBuf {
    with_end(file, "minisig")
}

/// Behind whatever the name ends with.
fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(end);
    name.into()
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), KeysError> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| KeysError::File(path.to_owned(), error))
}

//! An authority and what it signs, made with openssl for one test.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use thiserror::Error;

#[derive(Debug, Error)]
pub enum AuthorityError {
    #[error("openssl cannot be run")]
    Run(#[from] io::Error),
    #[error("openssl failed to make {0}")]
    Failed(String),
}

/// Files in a folder: `NAME.pem` and `NAME.key`.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    name: String,
}

impl Authority {
    pub fn new(folder: &Path, name: &str) -> Result<Authority, AuthorityError> {
        let authority = Authority { folder: folder.to_owned(), name: name.to_owned() };
        let subject = format!("/CN={name}");
        let (key, certificate) = (authority.file(name, "key"), authority.file(name, "pem"));
        let args =
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
        openssl(
            name,
            Command::new("openssl")
                .args(args)
                .args(["-subj", &subject, "-keyout"])
                .arg(key)
                .arg("-out")
                .arg(certificate),
        )?;
        Ok(authority)
    }

    pub fn file(&self, name: &str, kind: &str) -> PathBuf {
        self.folder.join(format!("{name}.{kind}"))
    }

    pub fn certificate(&self) -> PathBuf {
        self.file(&self.name, "pem")
    }

    /// A certificate for `name`, which for a server is also where it is.
    pub fn sign(&self, name: &str) -> Result<(), AuthorityError> {
        let request = self.file(name, "csr");
        let subject = format!("/CN={name}");
        let args =
            ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", &subject];
        openssl(
            name,
            Command::new("openssl")
                .args(args)
                .arg("-keyout")
                .arg(self.file(name, "key"))
                .arg("-out")
                .arg(&request),
        )?;
        let extensions = self.file(name, "ext");
        std::fs::write(&extensions, format!("subjectAltName=DNS:{name}\n"))?;
        let mut sign = Command::new("openssl");
        sign.args(["x509", "-req", "-days", "30", "-CAcreateserial", "-in"]).arg(&request);
        sign.arg("-CA").arg(self.certificate()).arg("-CAkey").arg(self.file(&self.name, "key"));
        sign.arg("-extfile").arg(&extensions).arg("-out").arg(self.file(name, "pem"));
        openssl(name, &mut sign)
    }
}

fn openssl(name: &str, command: &mut Command) -> Result<(), AuthorityError> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(AuthorityError::Failed(name.to_owned())) }
}

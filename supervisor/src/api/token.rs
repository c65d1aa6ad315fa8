//! The word that callers over TCP have to know.
//!
//! Duty: read it from its file, or make both, and compare. Not here: headers (`http`), who needs none (`server`).
//! Invariant: a file that others may read opens no door; a comparison takes as long for a good beginning as for none.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};
use thiserror::Error;

/// Random bytes of a token that is made; written down they are twice as many digits.
const RANDOM_BYTES: usize = 32;
/// Characters of a token that somebody chose: fewer could be guessed.
const LEAST: usize = 16;
/// And bytes of its file: what a head can hold anyway.
const MOST: usize = 1024;
/// Permissions of others.
const OTHERS: u32 = 0o077;

#[derive(Debug, Error)]
pub(crate) enum TokenError {
    #[error("{}", .0.display())]
    File(PathBuf, #[source] io::Error),
    #[error("{}: expected mode 0600, found {:04o}: others may read it", .0.display(), .1)]
    Open(PathBuf, u32),
    #[error("{}: expected a token of {LEAST} to {MOST} printable characters", .0.display())]
    Short(PathBuf),
    #[error("there are no random numbers for a token")]
    NoRandom(#[source] rustix::io::Errno),
}

pub(crate) struct Token(String);

impl std::fmt::Debug for Token {
    /// A secret does not get into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// That of the file; where there is none, it is made. Says whether it was.
    pub(crate) fn of(file: &Path) -> Result<(Token, bool), TokenError> {
        match Token::read(file) {
            Err(TokenError::File(_, error)) if error.kind() == io::ErrorKind::NotFound => {
                Token::make(file).map(|token| (token, true))
            }
            read => read.map(|token| (token, false)),
        }
    }

    fn read(file: &Path) -> Result<Token, TokenError> {
        let at = |error| TokenError::File(file.to_owned(), error);
        let opened = fs::File::open(file).map_err(at)?;
        let mode = opened.metadata().map_err(at)?.permissions().mode() & 0o7777;
        if mode & OTHERS != 0 {
            return Err(TokenError::Open(file.to_owned(), mode));
        }
        let mut text = String::new();
        let most = u64::try_from(MOST + 1).unwrap_or(u64::MAX);
        opened.take(most).read_to_string(&mut text).map_err(at)?;
        let token = text.trim();
        let is_good =
            (LEAST..=MOST).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
        if is_good { Ok(Token(token.to_owned())) } else { Err(TokenError::Short(file.to_owned())) }
    }

    fn make(file: &Path) -> Result<Token, TokenError> {
        let at = |error| TokenError::File(file.to_owned(), error);
        let mut bytes = [0; RANDOM_BYTES];
        // So few bytes come whole.
        getrandom(&mut bytes, GetRandomFlags::empty()).map_err(TokenError::NoRandom)?;
        let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(at)?;
        }
        let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(at)?;
        made.write_all(format!("{token}\n").as_bytes()).and_then(|()| made.sync_all()).map_err(at)?;
        Ok(Token(token))
    }

    pub(super) fn is(&self, said: &str) -> bool {
        let (own, said) = (self.0.as_bytes(), said.as_bytes());
        // Its length is no secret.
        own.len() == said.len() && {
            let differs = own.iter().zip(said).fold(0, |differs, (a, b)| differs | (a ^ b));
            std::hint::black_box(differs) == 0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/api.token");
        let (token, made) = Token::of(&file).unwrap();
        assert!(made && token.0.len() == 64, "{}", token.0);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let (again, made) = Token::of(&file).unwrap();
        assert!(!made && again.is(&token.0));
        assert!(!Token::make(&folder.path().join("other")).unwrap().is(&token.0));
        assert_eq!(format!("{token:?}"), "Token");
    }

    #[test]
    fn only_the_whole_token_is_it() {
        let token = Token("0123456789abcdef".to_owned());
        assert!(token.is("0123456789abcdef"));
        for other in ["", "0123456789abcde", "0123456789abcdef0", "1123456789abcdef", "0123456789abcdeF"] {
            assert!(!token.is(other), "{other}");
        }
    }

    #[test]
    fn a_file_that_others_read_or_that_holds_no_token_opens_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("api.token");
        fs::write(&file, "0123456789abcdef\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let told = Token::of(&file).unwrap_err().to_string();
        assert!(told.ends_with("api.token: expected mode 0600, found 0640: others may read it"), "{told}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Token::of(&file).unwrap().0.is("0123456789abcdef"));
        for text in ["short", "two words of some length", &"x".repeat(2000)] {
            fs::write(&file, text).unwrap();
            assert!(matches!(Token::of(&file), Err(TokenError::Short(_))), "{text}");
        }
    }
}

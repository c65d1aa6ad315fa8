//! Who is believed, and who is not.

use std::fs;
use std::process::{Command, Stdio};

use super::testing::{Signer, keys, ring, sealed, topics};
use super::*;

const TEXT: &str = r#"{"hearth":"desired","for":["plant/*"],"version":3,"note":"grüß"}"#;

fn verify(envelope: Envelope, keyring: &Keyring, role: Role) -> Result<Verified, Refusal> {
    envelope.verify(keyring, role, Use::Desired, &topics())
}

#[test]
fn a_good_signature_of_the_role_is_believed_and_no_other() {
    let (operate, release, stranger) = (Signer::new(), Signer::new(), Signer::new());
    let keyring = ring(&operate, &release);
    let verified = verify(sealed(TEXT, &[&stranger, &operate]), &keyring, Role::Operate).unwrap();
    assert_eq!((verified.text(), verified.version()), (TEXT, Ok(3)));
    let unsigned = |role| Refusal::Unsigned { role, good: 0, needed: 1 };
    for signers in [&[&stranger][..], &[&release], &[]] {
        assert_eq!(verify(sealed(TEXT, signers), &keyring, Role::Operate), Err(unsigned(Role::Operate)));
    }
    assert_eq!(verify(sealed(TEXT, &[&operate]), &keyring, Role::Release), Err(unsigned(Role::Release)));
    let nobody = Keyring::default();
    assert_eq!(
        verify(sealed(TEXT, &[&operate]), &nobody, Role::Operate),
        Err(Refusal::NoKeys(Role::Operate))
    );
}

#[test]
fn one_changed_byte_of_the_document_or_its_comment_is_noticed() {
    let operate = Signer::new();
    let keyring = ring(&operate, &Signer::new());
    let signature = operate.sign(TEXT);
    let changed = TEXT.replace(":3", ":4");
    let envelope = Envelope::new(changed, vec![signature.clone()]);
    assert!(matches!(verify(envelope, &keyring, Role::Operate), Err(Refusal::Unsigned { .. })));
    // Spaces that mean nothing to JSON were not signed.
    let envelope = Envelope::new(format!("{TEXT} "), vec![signature.clone()]);
    assert!(matches!(verify(envelope, &keyring, Role::Operate), Err(Refusal::Unsigned { .. })));
    let commented = signature.replace("trusted comment: ", "trusted comment: x");
    let envelope = Envelope::new(TEXT.to_owned(), vec![commented]);
    assert!(matches!(verify(envelope, &keyring, Role::Operate), Err(Refusal::Unsigned { .. })));
}

#[test]
fn a_threshold_counts_people_and_not_signatures() {
    let (a, b, c) = (Signer::new(), Signer::new(), Signer::new());
    let keyring = Keyring { operate: keys(&[&a, &b, &c], 2), ..Keyring::default() };
    let verdict = |signers: &[&Signer]| verify(sealed(TEXT, signers), &keyring, Role::Operate);
    assert_eq!(verdict(&[&a, &a]), Err(Refusal::Unsigned { role: Role::Operate, good: 1, needed: 2 }));
    assert!(verdict(&[&c, &a]).is_ok());
}

#[test]
fn a_document_for_another_box_or_another_use_is_refused_however_it_is_signed() {
    let operate = Signer::new();
    let keyring = ring(&operate, &Signer::new());
    let verdict = |text: &str| verify(sealed(text, &[&operate]), &keyring, Role::Operate).err();
    for (whom, refusal) in [
        (r#"["plant/box-7"]"#, None),
        (r#"["other/box", "*"]"#, None),
        (r#"["plant/box-77", "other/*"]"#, Some(Refusal::OtherBox)),
        ("[]", Some(Refusal::OtherBox)),
        (r#""*""#, Some(Refusal::OtherBox)),
    ] {
        let text = format!(r#"{{"hearth":"desired","for":{whom},"version":1}}"#);
        assert_eq!(verdict(&text), refusal, "{whom}");
    }
    assert_eq!(verdict(r#"{"hearth":"command","for":["*"]}"#), Some(Refusal::OtherUse(Use::Desired)));
    assert!(matches!(verdict("[]"), Some(Refusal::Malformed(_))));
}

#[test]
fn what_is_no_envelope_is_refused_and_so_is_one_that_is_too_large_or_full_of_signatures() {
    for bytes in ["", "{", "[]", r#"{"document":1,"signatures":[]}"#] {
        assert_eq!(Envelope::read(bytes.as_bytes()), Err(Refusal::NoEnvelope), "{bytes}");
    }
    assert_eq!(Envelope::read(&vec![b' '; MAX_ENVELOPE + 1]), Err(Refusal::TooLarge));
    let operate = Signer::new();
    let keyring = ring(&operate, &Signer::new());
    let many = Envelope::new(TEXT.to_owned(), vec![operate.sign(TEXT); 33]);
    assert_eq!(verify(many, &keyring, Role::Operate), Err(Refusal::BadSignatures));
    let nonsense = Envelope::new(TEXT.to_owned(), vec!["nonsense".to_owned()]);
    assert_eq!(verify(nonsense, &keyring, Role::Operate), Err(Refusal::BadSignatures));
    let envelope = sealed(TEXT, &[&operate]);
    assert_eq!(Envelope::read(envelope.to_json().as_bytes()), Ok(envelope));
}

#[test]
fn keys_that_are_none_and_thresholds_that_cannot_be_met_are_told() {
    let word = Signer::new().word();
    let fault = |words: &[&str], threshold| {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        RoleKeys::new(&words, threshold).err().map(|fault| fault.to_string()).unwrap_or_default()
    };
    assert!(fault(&["RWx"], 1).starts_with("expected minisign's public key"));
    assert!(fault(&[&word, &word], 1).starts_with("expected each key once"));
    for threshold in [0, 2] {
        assert!(fault(&[&word], threshold).starts_with("expected a threshold of 1 to 1"));
    }
    assert_eq!(fault(&[], 1), "");
}

#[test]
fn keys_change_by_the_word_of_those_before_and_never_backwards() {
    let (operate, release, next) = (Signer::new(), Signer::new(), Signer::new());
    let keyring = ring(&operate, &release);
    let document = |role: &str, version: u64| {
        let key = next.word();
        format!(r#"{{"hearth":"trust","for":["*"],"version":{version},"{role}":{{"keys":["{key}"]}}}}"#)
    };
    let try_it = |keyring: &Keyring, text: &str, signers: &[&Signer]| {
        rotate(keyring, sealed(text, signers), &topics())
    };
    for (role, signers, good) in [
        ("operate", &[&operate][..], true),
        ("operate", &[&release], true),
        ("operate", &[&next], false),
        ("release", &[&release], true),
        ("release", &[&operate], false),
        ("release", &[&next, &operate], false),
    ] {
        let after = try_it(&keyring, &document(role, 1), signers);
        assert_eq!(after.is_ok(), good, "{role}: {after:?}");
    }
    let after = try_it(&keyring, &document("release", 5), &[&release]).unwrap();
    assert_eq!((after.version, &after.operate), (5, &keyring.operate));
    assert!(
        try_it(&after, &document("operate", 6), &[&release]).is_err(),
        "the old key is nobody's any more"
    );
    assert!(try_it(&after, &document("operate", 6), &[&next]).is_ok());
    for version in [1, 5] {
        let stale = Err(Refusal::Stale { found: version, floor: 6 });
        assert_eq!(try_it(&after, &document("operate", version), &[&next]), stale);
    }
    let empty = r#"{"hearth":"trust","for":["*"],"version":9,"release":{"keys":[]}}"#;
    assert!(matches!(try_it(&after, empty, &[&next]), Err(Refusal::Malformed(_))));
}

/// Debian's `minisign`, if it is there: what the one signs the other believes.
#[test]
fn signatures_are_those_of_minisign() {
    let there = Command::new("minisign").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if there.is_err() {
        println!("skipped: there is no minisign");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let minisign = |words: &[&str]| {
        let output = Command::new("minisign").args(words).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
    };
    fs::write(folder.path().join("text"), TEXT).unwrap();
    minisign(&["-G", "-W", "-p", "their.pub", "-s", "their.key"]);
    minisign(&["-S", "-s", "their.key", "-m", "text", "-x", "text.minisig"]);
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let key = read("their.pub").lines().nth(1).unwrap().to_owned();
    let keyring = Keyring { operate: RoleKeys::new(&[key], 1).unwrap(), ..Keyring::default() };
    let envelope = Envelope::new(TEXT.to_owned(), vec![read("text.minisig")]);
    assert!(verify(envelope, &keyring, Role::Operate).is_ok());

    let ours = Signer::new();
    let (public, _) = ours.files();
    fs::write(folder.path().join("our.pub"), public).unwrap();
    fs::write(folder.path().join("our.minisig"), ours.sign(TEXT)).unwrap();
    minisign(&["-V", "-p", "our.pub", "-m", "text", "-x", "our.minisig"]);
}

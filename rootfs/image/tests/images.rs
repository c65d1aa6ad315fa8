//! What is written can be read back, by other people's programs too.

use backhand::{FilesystemReader, InnerNode};
use hearth_image::{
    CpioFault, Device, Node, Permissions, Source, SquashfsFault, Tree, demo, guest_initrd, write_cpio,
    write_squashfs,
};
use std::{
    fs,
    io::{Cursor, Read},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A folder of its own for one test, gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hearth-image-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("temporary folder");
        Self(path)
    }

    fn file(&self, name: &str, contents: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("inside")).expect("folder");
        fs::write(&path, contents).expect("file");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover folder is no reason to fail a test.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One of everything, with a file larger than a squashfs block that does not compress away.
fn tree(large: &Path) -> Tree {
    let mut tree = Tree::new();
    tree.folder("tmp", Permissions::SCRATCH).expect("fits");
    tree.program("init", "#!/bin/sh\n").expect("fits");
    tree.data("etc/empty", "").expect("fits");
    tree.data("usr/share/large", large).expect("fits");
    tree.symlink("bin", "usr/bin").expect("fits");
    let console = Device { major: 5, minor: 1 };
    tree.char_device("dev/console", Permissions::from_bits(0o600), console).expect("fits");
    tree
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..bytes).map(|_| next()).collect()
}

fn cpio(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = write_cpio(tree, &mut bytes).expect("writes");
    assert_eq!(written, bytes.len() as u64);
    bytes
}

fn squashfs(tree: &Tree) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let written = write_squashfs(tree, &mut out).expect("writes");
    assert_eq!(written, out.get_ref().len() as u64);
    out.into_inner()
}

/// 127 is what the dynamic loader ends with when a library is missing.
fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let usable = found.is_ok_and(|status| status.code() != Some(127));
    if !usable {
        println!("skipped: {program} is not installed");
    }
    usable
}

struct Member {
    name: String,
    mode: u32,
    device: (u32, u32),
    contents: Vec<u8>,
}

/// Reads a `newc` archive strictly, as far as the kernel's own reader cares.
fn members(mut archive: &[u8]) -> Vec<Member> {
    fn take<'a>(archive: &mut &'a [u8], len: usize) -> &'a [u8] {
        let (taken, rest) = archive.split_at(len);
        *archive = rest;
        taken
    }
    let whole = archive.len();
    let mut list = Vec::new();
    loop {
        let header = std::str::from_utf8(take(&mut archive, 110)).expect("ASCII");
        assert_eq!(&header[..6], "070701");
        let field = |n: usize| u32::from_str_radix(&header[6 + 8 * n..14 + 8 * n], 16).expect("hex");
        let name = take(&mut archive, field(11) as usize);
        let name = String::from_utf8(name[..name.len() - 1].to_vec()).expect("UTF-8");
        let align = |archive: &mut &[u8]| {
            let at = whole - archive.len();
            assert!(take(archive, at.next_multiple_of(4) - at).iter().all(|&pad| pad == 0));
        };
        align(&mut archive);
        let contents = take(&mut archive, field(6) as usize).to_vec();
        align(&mut archive);
        if name == "TRAILER!!!" {
            assert!(archive.is_empty(), "nothing after the trailer");
            return list;
        }
        assert_eq!((field(2), field(3), field(5)), (0, 0, 0), "owner, group, time of {name}");
        assert_eq!(field(0) as usize, list.len() + 1, "inode numbers count up");
        list.push(Member { name, mode: field(1), device: (field(9), field(10)), contents });
    }
}

#[test]
fn an_archive_holds_what_the_tree_says() {
    let scratch = Scratch::new("cpio");
    let large = noise(300_001);
    let list = members(&cpio(&tree(&scratch.file("large", &large))));
    let member = |name: &str| list.iter().find(|member| member.name == name).expect(name);
    let mode = |name: &str| member(name).mode;
    assert_eq!(mode("tmp"), 0o041_777);
    assert_eq!(mode("etc"), 0o040_755);
    assert_eq!(mode("init"), 0o100_755);
    assert_eq!(mode("etc/empty"), 0o100_644);
    assert_eq!(mode("bin"), 0o120_777);
    assert_eq!(mode("dev/console"), 0o020_600);
    assert_eq!(member("dev/console").device, (5, 1));
    assert!(member("usr/share/large").contents == large);
}

#[test]
fn the_cpio_program_agrees() {
    if !installed("cpio") {
        return;
    }
    let scratch = Scratch::new("cpio-t");
    let tree = tree(&scratch.file("large", &noise(5)));
    let archive = scratch.file("archive", &cpio(&tree));
    let listing = Command::new("cpio")
        .arg("-t")
        .stdin(fs::File::open(archive).expect("just written"))
        .output()
        .expect("runs");
    assert!(listing.status.success());
    let names: Vec<_> = tree.iter().map(|(path, _)| path.to_string()).collect();
    let listed = String::from_utf8(listing.stdout).expect("UTF-8");
    assert_eq!(listed.lines().collect::<Vec<_>>(), names);
}

#[test]
fn an_image_holds_what_the_tree_says() {
    let scratch = Scratch::new("squashfs");
    let large = noise(300_001);
    let tree = tree(&scratch.file("large", &large));
    let bytes = squashfs(&tree);
    assert!(bytes.len().is_multiple_of(4096), "usable as a disk");
    let image = FilesystemReader::from_reader(Cursor::new(bytes)).expect("readable");
    assert_eq!((image.mod_time, image.id_table.len()), (0, 1));
    let mut seen = 0;
    for node in image.files() {
        let path = node.fullpath.to_str().expect("UTF-8").trim_start_matches('/');
        assert_eq!((node.header.uid, node.header.gid, node.header.mtime), (0, 0, 0), "{path}");
        if path.is_empty() {
            assert_eq!(node.header.permissions, 0o755);
            continue;
        }
        seen += 1;
        match (tree.get(path).expect(path), &node.inner) {
            (Node::Folder(permissions), InnerNode::Dir(_)) => {
                assert_eq!(node.header.permissions, permissions.bits(), "{path}");
            }
            (Node::File(permissions, source), InnerNode::File(file)) => {
                assert_eq!(node.header.permissions, permissions.bits(), "{path}");
                let mut contents = Vec::new();
                image.file(file).reader().read_to_end(&mut contents).expect("readable");
                match source {
                    Source::Literal(literal) => assert_eq!(&contents, literal),
                    Source::Host(_) => assert!(contents == large),
                }
            }
            (Node::Symlink(target), InnerNode::Symlink(link)) => assert_eq!(Path::new(target), link.link),
            (Node::CharDevice(_, device), InnerNode::CharacterDevice(number)) => {
                assert_eq!((device.major, device.minor), (5, 1));
                assert_eq!(number.device_number, 0x501);
            }
            (wanted, _) => panic!("{path} is not {wanted:?}"),
        }
    }
    assert_eq!(seen, tree.len());
}

#[test]
fn the_unsquashfs_program_agrees() {
    if !installed("unsquashfs") {
        return;
    }
    let scratch = Scratch::new("unsquashfs");
    let large = noise(300_001);
    let image = scratch.file("image", &squashfs(&tree(&scratch.file("large", &large))));
    let cat =
        Command::new("unsquashfs").arg("-cat").arg(&image).arg("usr/share/large").output().expect("runs");
    assert!(cat.status.success(), "{}", String::from_utf8_lossy(&cat.stderr));
    assert!(cat.stdout == large);
    let listing = Command::new("unsquashfs").arg("-lln").arg(&image).output().expect("runs");
    let listing = String::from_utf8(listing.stdout).expect("UTF-8");
    assert!(listing.contains("crw------- 0/0"), "{listing}");
    assert!(listing.contains("squashfs-root/bin -> usr/bin"), "{listing}");
}

#[test]
fn the_same_tree_gives_the_same_bytes_whatever_the_host_files_look_like() {
    let (first, second) = (Scratch::new("same-1"), Scratch::new("same-2"));
    for scratch in [&first, &second] {
        scratch.file("tree/bin/tool", b"#!/bin/sh\n");
        scratch.file("tree/etc/conf", &noise(200_000));
        symlink("tool", scratch.0.join("tree/bin/alias")).expect("symlink");
    }
    let mode = |scratch: &Scratch, name: &str, mode| {
        let path = scratch.0.join("tree").join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("own file");
    };
    mode(&first, "bin/tool", 0o755);
    mode(&second, "bin/tool", 0o700);
    mode(&second, "etc/conf", 0o600);
    let old = fs::File::options().append(true).open(second.0.join("tree/etc/conf")).expect("own file");
    old.set_modified(std::time::UNIX_EPOCH).expect("own file");
    let build = |scratch: &Scratch| {
        let mut tree = Tree::new();
        tree.host_folder("", &scratch.0.join("tree")).expect("readable");
        tree
    };
    let (one, two) = (build(&first), build(&second));
    assert_eq!(one.get("bin/alias"), Some(&Node::Symlink("tool".into())));
    assert!(cpio(&one) == cpio(&two));
    assert!(squashfs(&one) == squashfs(&two));
}

#[test]
fn a_host_symlink_out_of_the_folder_stays_a_symlink() {
    let scratch = Scratch::new("escape");
    scratch.file("secret", b"secret");
    scratch.file("tree/a", b"");
    symlink("../secret", scratch.0.join("tree/link")).expect("symlink");
    let mut tree = Tree::new();
    tree.host_folder("srv", &scratch.0.join("tree")).expect("readable");
    assert_eq!(tree.get("srv/link"), Some(&Node::Symlink("../secret".into())));
}

#[test]
fn a_missing_host_file_is_named() {
    let mut tree = Tree::new();
    tree.program("init", Path::new("/nowhere/agent")).expect("not looked at yet");
    let fault = write_cpio(&tree, std::io::sink()).expect_err("missing");
    assert!(matches!(&fault, CpioFault::Copy(name, _) if name == "init"), "{fault:?}");
    let source = std::error::Error::source(&fault).expect("io").to_string();
    assert!(source.starts_with("/nowhere/agent: "), "{source}");
    let fault = write_squashfs(&tree, Cursor::new(Vec::new())).expect_err("missing");
    assert!(matches!(&fault, SquashfsFault::Io(e) if e.to_string().starts_with("/nowhere/agent: ")));
}

#[test]
fn the_name_that_ends_an_archive_is_refused() {
    let mut tree = Tree::new();
    tree.data("TRAILER!!!", "").expect("fine in a squashfs");
    assert!(matches!(write_cpio(&tree, std::io::sink()), Err(CpioFault::Reserved(_))));
}

#[test]
fn two_archives_one_behind_the_other_stay_aligned() {
    for size in 0..8 {
        let mut tree = Tree::new();
        tree.data("f", "12345678".get(..size).expect("short")).expect("fits");
        assert!(cpio(&tree).len().is_multiple_of(4));
    }
}

#[test]
fn the_demo_image_and_the_guest_initrd_have_their_parts() {
    let scratch = Scratch::new("demo");
    let busybox = scratch.file("busybox", b"ELF");
    let demo = demo::tree(&busybox).expect("builds");
    assert_eq!(demo.get("bin/sh"), Some(&Node::Symlink("busybox".into())));
    assert!(demo.get("demo/clock").is_some() && demo.get("etc/hearth/workload.toml").is_some());
    squashfs(&demo);
    let initrd = guest_initrd(&busybox).expect("builds");
    assert!(matches!(initrd.get("init"), Some(Node::File(Permissions::PROGRAM, _))));
    assert!(matches!(initrd.get("dev/console"), Some(Node::CharDevice(..))));
    cpio(&initrd);
}

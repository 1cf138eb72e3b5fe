// SPDX-License-Identifier: Apache-2.0
//! Archives in and out, honest and hostile.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use atoll_agent::frame::Kind;
use atoll_agent::tar::{padding, render_header, Member, Type};
use support::{exists, is_root, str, Agent, Answer};

fn member(kind: Type, path: &str, link: &str, size: u64) -> Member {
    Member {
        kind,
        path: path.as_bytes().to_vec(),
        link: link.as_bytes().to_vec(),
        mode: 0o6755,
        uid: 0,
        gid: 0,
        size,
        modified_seconds: 1_600_000_000,
    }
}

#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn file(mut self, path: &str, content: &[u8]) -> Archive {
        let size = content.len() as u64;
        self.0.extend(render_header(&member(Type::File, path, "", size)));
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len() + padding(size), 0);
        self
    }

    fn other(mut self, kind: Type, path: &str, link: &str) -> Archive {
        self.0.extend(render_header(&member(kind, path, link, 0)));
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn unpack(agent: &Agent, path: &str, archive: &[u8]) -> Answer {
    let mut client = agent.connect();
    client.send_request("unpack", &[("path", str(path))]);
    for piece in archive.chunks(70_001) {
        // The agent may have refused already; its answer says why.
        let _ = client.send_data(Kind::Content, piece);
    }
    let _ = client.send_data(Kind::Content, b"");
    client.finish()
}

#[test]
fn packed_tree_unpacks_to_the_same() {
    let agent = Agent::start();
    let long = "long".repeat(60);
    fs::create_dir_all(agent.file("in/a/b")).unwrap();
    fs::write(agent.file("in/a/b/file"), vec![3; 700_000]).unwrap();
    fs::write(agent.file("in/empty"), b"").unwrap();
    fs::write(agent.file(&format!("in/a/{}", long)), b"long").unwrap();
    symlink("/etc/passwd", agent.file("in/link")).unwrap();
    fs::set_permissions(agent.file("in/a/b/file"), fs::Permissions::from_mode(0o640)).unwrap();

    let packed = agent.request("pack", &[("path", str(&agent.file("in")))]);
    let answer = unpack(&agent, &agent.file("out"), &packed.stdout);

    assert_eq!((answer.code(), answer.int("entries")), ("", Some(6)));
    let differences =
        agent.shell(&format!("diff -r --no-dereference {0}in {0}out", agent.file("")));
    assert_eq!((differences.output().as_str(), differences.int("code")), ("", Some(0)));
    let file = fs::metadata(agent.file("out/a/b/file")).unwrap();
    let original = fs::metadata(agent.file("in/a/b/file")).unwrap();
    assert_eq!((file.mode(), file.mtime()), (original.mode(), original.mtime()));
}

#[test]
fn archives_are_exchanged_with_gnu_tar() {
    let agent = Agent::start();
    let long = "n".repeat(200);
    let text = format!(
        "cd {} && mkdir -p in/d out && echo hi > in/d/f && echo l > in/{} && ln in/d/f in/hard && ln -s d in/s \
         && for f in gnu posix ustar v7; do tar -C in -c --format=$f . > $f.tar 2>/dev/null; done; true",
        agent.file(""), long
    );
    assert_eq!(agent.shell(&text).int("code"), Some(0));

    for format in ["gnu", "posix"] {
        let archive = fs::read(agent.file(&format!("{}.tar", format))).unwrap();
        let target = agent.file(format);
        assert_eq!(unpack(&agent, &target, &archive).code(), "", "{}", format);
        assert_eq!(fs::read(format!("{}/hard", target)).unwrap(), b"hi\n");
        assert_eq!(fs::read(format!("{}/{}", target, long)).unwrap(), b"l\n");
    }
    let packed = agent.request("pack", &[("path", str(&agent.file("in")))]);
    fs::write(agent.file("ours.tar"), &packed.stdout).unwrap();
    let text = format!("cd {} && tar -C out -xf ours.tar && diff -r in out", agent.file(""));
    let answer = agent.shell(&text);
    assert_eq!((answer.output().as_str(), answer.int("code")), ("", Some(0)));
}

#[test]
fn hostile_archives_write_nothing_outside() {
    let agent = Agent::start();
    let outside = agent.file("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(agent.file("secret"), b"secret").unwrap();
    let absolute = agent.file("outside/absolute");
    let escapes: Vec<(&str, Archive)> = vec![
        ("parent", Archive::default().file("../outside/x", b"x")),
        ("inner parent", Archive::default().file("a/../../outside/x", b"x")),
        ("absolute", Archive::default().file(&absolute, b"x")),
        (
            "through a link",
            Archive::default().other(Type::Symlink, "l", &outside).file("l/x", b"x"),
        ),
        (
            "through a relative link",
            Archive::default().other(Type::Symlink, "l", "../outside").file("l/x", b"x"),
        ),
        (
            "directory over a link",
            Archive::default().other(Type::Symlink, "l", &outside).other(Type::Directory, "l", ""),
        ),
        (
            "link through a link",
            Archive::default().other(Type::Symlink, "l", "..").other(
                Type::HardLink,
                "h",
                "l/secret",
            ),
        ),
        ("hard link outside", Archive::default().other(Type::HardLink, "h", "../secret")),
        (
            "absolute hard link",
            Archive::default().other(Type::HardLink, "h", &agent.file("secret")),
        ),
        (
            "hard link to a directory",
            Archive::default().other(Type::Directory, "d", "").other(Type::HardLink, "h", "d"),
        ),
    ];

    for (number, (name, archive)) in escapes.into_iter().enumerate() {
        let target = agent.file(&format!("target{}", number));
        assert_eq!(unpack(&agent, &target, &archive.end()).code(), "invalid", "{}", name);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{}", name);
        assert!(!exists(&format!("{}/h", target)), "{}", name);
    }
    assert_eq!(fs::metadata(agent.file("secret")).unwrap().nlink(), 1);
}

#[test]
fn file_replaces_a_link_and_is_not_written_through_it() {
    let agent = Agent::start();
    fs::write(agent.file("secret"), b"secret").unwrap();
    let link = agent.file("secret");

    let archive = Archive::default().other(Type::Symlink, "a", &link).file("a", b"new").end();
    let answer = unpack(&agent, &agent.file("out"), &archive);

    assert_eq!(answer.code(), "");
    assert_eq!(fs::read(agent.file("secret")).unwrap(), b"secret");
    assert_eq!(fs::read(agent.file("out/a")).unwrap(), b"new");
}

#[test]
fn setuid_and_setgid_are_dropped() {
    let agent = Agent::start();

    let archive = Archive::default().file("f", b"").other(Type::Directory, "d", "").end();
    unpack(&agent, &agent.file("out"), &archive);

    for name in ["out/f", "out/d"] {
        let mode = fs::metadata(agent.file(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
    }
}

#[test]
fn devices_and_broken_archives_are_refused() {
    let agent = Agent::start();
    let device = |kind: u8| {
        let mut block = render_header(&member(Type::File, "dev", "", 0));
        block[156] = kind;
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{:06o}\0 ", sum).as_bytes());
        block
    };
    let mut cut = Archive::default().file("f", &[1; 5000]).end();
    cut.truncate(2000);
    let cases = [
        ("character device", device(b'3')),
        ("block device", device(b'4')),
        ("sparse file", device(b'S')),
        ("garbage", vec![0xa5; 5000]),
        ("cut", cut),
    ];

    for (name, archive) in cases {
        assert_eq!(unpack(&agent, &agent.file("out"), &archive).code(), "invalid", "{}", name);
        assert!(!exists(&agent.file("out/dev")));
    }
}

#[test]
fn huge_headers_are_refused() {
    let agent = Agent::start();
    let mut header = member(Type::Extension(atoll_agent::tar::Extension::Pax), "x", "", 1 << 30);
    header.mode = 0;

    let answer = unpack(&agent, &agent.file("out"), &render_header(&header));

    assert_eq!(answer.code(), "limit");
}

#[test]
fn twenty_thousand_entries_unpack_in_flat_memory() {
    let agent = Agent::start();
    let mut archive = Archive::default();
    for number in 0..20_000 {
        archive = archive.file(&format!("d{}/{}", number % 10, number), b"x");
    }
    let before = agent.rss_kib();

    let answer = unpack(&agent, &agent.file("out"), &archive.end());

    assert_eq!(answer.int("entries"), Some(20_000));
    assert!(agent.rss_kib() < before + 2048);
}

#[test]
fn directory_exchanged_for_a_link_leads_nowhere() {
    let agent = Agent::start();
    let outside = agent.file("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(agent.file("out")).unwrap();
    let directory = agent.file("out/d");
    let is_over = AtomicBool::new(false);

    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                // Each step may fail as the agent works in between; that is the point.
                let _ = fs::rename(&directory, agent.file("away"));
                let _ = symlink(&outside, &directory);
                let _ = fs::remove_file(&directory);
                let _ = fs::remove_dir_all(agent.file("away"));
            }
        });
        for round in 0..300 {
            let archive = Archive::default().file(&format!("d/{}", round), b"x").end();
            // Refused or placed, as the race falls.
            unpack(&agent, &agent.file("out"), &archive);
        }
        is_over.store(true, Ordering::SeqCst);
    });

    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn unpacked_files_belong_to_the_user_asked_for() {
    if !is_root() {
        return;
    }
    let agent = Agent::start();
    let mut client = agent.connect();
    let path = agent.file("made/out");
    client.send_request("unpack", &[("path", str(&path)), ("user", str("nobody"))]);
    let archive = Archive::default().file("a/f", b"x").other(Type::Symlink, "l", "a").end();
    client.send_data(Kind::Content, &archive).unwrap();
    client.send_data(Kind::Content, b"").unwrap();

    assert_eq!(client.finish().code(), "");

    let paths = ["made/out", "made/out/a", "made/out/a/f", "made/out/l"];
    let owners = paths.map(|path| fs::symlink_metadata(agent.file(path)).unwrap().uid());
    assert_eq!(owners, [65534; 4]);
}

#[test]
fn stream_that_ends_without_an_end_mark_is_answered() {
    let agent = Agent::start();

    let empty = unpack(&agent, &agent.file("empty"), b"");
    assert_eq!((empty.code(), empty.int("entries")), ("", Some(0)));

    let mut unmarked = Archive::default().file("f", b"x").end();
    unmarked.truncate(1024);
    let answer = unpack(&agent, &agent.file("unmarked"), &unmarked);
    assert_eq!((answer.code(), answer.int("entries")), ("", Some(1)));
}

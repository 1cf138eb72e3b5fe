// SPDX-License-Identifier: Apache-2.0
//! Operations on files, with the errors that the file system gives.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};
use std::thread;

use atoll_agent::frame::Kind;
use atoll_agent::msgpack::Value;
use support::{exists, field, int, is_root, str, text, wait_until, Agent, Answer};

fn yes() -> Value {
    Value::Bool(true)
}

fn write(agent: &Agent, fields: &[(&str, Value)], content: &[u8]) -> Answer {
    let mut client = agent.connect();
    client.send_request("write", fields);
    for piece in content.chunks(100_000) {
        // The agent may have refused already; its answer says why.
        let _ = client.send_data(Kind::Content, piece);
    }
    let _ = client.send_data(Kind::Content, b"");
    client.finish()
}

fn mode(path: &str) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn written_file_is_read_back_byte_for_byte() {
    let agent = Agent::start();
    let path = agent.file("random");
    let content: Vec<u8> = (0..=255u8).cycle().take(1_000_000).collect();

    let written = write(&agent, &[("path", str(&path)), ("size", Value::Int(1_000_000))], &content);
    let read = agent.request("read", &[("path", str(&path))]);

    assert_eq!(written.int("size"), Some(1_000_000));
    assert_eq!(field(written.last(), "created"), &yes());
    assert_eq!(read.stdout, content);
    assert_eq!(text(&read.events[0], "event"), "file");
    assert_eq!(mode(&path), 0o644);
}

#[test]
fn part_of_a_file_is_read() {
    let agent = Agent::start();
    let path = agent.file("a");
    fs::write(&path, b"0123456789").unwrap();

    for (offset, length, expected) in
        [(2, 3, "234"), (8, 100, "89"), (10, 1, ""), (99, 5, ""), (0, 0, "")]
    {
        let fields =
            [("path", str(&path)), ("offset", Value::Int(offset)), ("length", Value::Int(length))];
        assert_eq!(agent.request("read", &fields).output(), expected);
    }
}

#[test]
fn reading_what_is_no_file_is_refused_at_once() {
    let agent = Agent::start();
    let fifo = agent.file("fifo");
    agent.request("start", &[("shell", str(&format!("mkfifo {}", fifo)))]);
    let missing = agent.file("missing");
    let long = agent.file(&"n".repeat(300));
    let through_file = "/etc/passwd/x";
    let cases = [
        (fifo.as_str(), "not_a_file"),
        ("/dev/zero", "not_a_file"),
        ("/etc", "is_a_directory"),
        (missing.as_str(), "not_found"),
        (long.as_str(), "name_too_long"),
        (through_file, "not_a_directory"),
        ("etc/passwd", "invalid"),
        ("", "invalid"),
        ("/etc\0/passwd", "invalid"),
    ];

    for (path, code) in cases {
        assert_eq!(agent.request("read", &[("path", str(path))]).code(), code, "{:?}", path);
    }
    assert_eq!(agent.request("read", &[]).code(), "invalid");
}

#[test]
fn overwritten_file_keeps_its_mode_and_owner() {
    let agent = Agent::start();
    let path = agent.file("a");
    fs::write(&path, b"old content").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
    if is_root() {
        // `std` has a call for this only since 1.73.
        let chown = std::process::Command::new("chown").args(["1234:5678", &path]).status();
        assert!(chown.unwrap().success());
    }
    let before = fs::metadata(&path).unwrap();

    let answer = write(&agent, &[("path", str(&path))], b"new");

    let after = fs::metadata(&path).unwrap();
    assert_eq!(field(answer.last(), "created"), &Value::Bool(false));
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(
        (after.mode(), after.uid(), after.gid()),
        (before.mode(), before.uid(), before.gid())
    );
}

#[test]
fn mode_owner_and_parents_are_set_when_asked() {
    let agent = Agent::start();
    let path = agent.file("x/y/z");
    let mut fields = vec![("path", str(&path)), ("mode", Value::Int(0o4711)), ("parents", yes())];
    if is_root() {
        fields.push(("user", str("nobody")));
    }

    let answer = write(&agent, &fields, b"data");

    assert_eq!((answer.code(), mode(&path)), ("", 0o4711));
    if is_root() {
        assert_eq!(fs::metadata(&path).unwrap().uid(), 65534);
        assert_eq!(fs::metadata(agent.file("x/y")).unwrap().uid(), 65534);
    }
}

#[test]
fn readers_see_the_old_or_the_new_file_only() {
    let agent = Agent::start();
    let path = agent.file("a");
    fs::write(&path, vec![b'0'; 300_000]).unwrap();

    thread::scope(|scope| {
        for letter in [b'a', b'b'] {
            let (agent, path) = (&agent, &path);
            scope.spawn(move || {
                for _ in 0..20 {
                    write(agent, &[("path", str(path))], &vec![letter; 300_000]);
                }
            });
        }
        for _ in 0..100 {
            let seen = fs::read(&path).unwrap();
            assert_eq!(seen.len(), 300_000);
            assert!(seen.iter().all(|byte| *byte == seen[0]));
        }
    });
    assert_eq!(fs::read_dir(agent.folder.join("files")).unwrap().count(), 1);
}

#[test]
fn early_close_leaves_nothing() {
    let agent = Agent::start();
    let (new, old, log) = (agent.file("new"), agent.file("old"), agent.file("log"));
    fs::write(&old, b"old").unwrap();
    fs::write(&log, b"old").unwrap();

    for (path, append) in [(&new, false), (&old, false), (&log, true)] {
        let mut client = agent.connect();
        client.send_request("write", &[("path", str(path)), ("append", Value::Bool(append))]);
        client.receive_event("ready");
        client.send_data(Kind::Content, &[b'x'; 100_000]).unwrap();
        client.close();
    }

    let folder = agent.folder.join("files");
    wait_until(|| fs::read_dir(&folder).unwrap().count() == 2);
    wait_until(|| fs::read(&log).unwrap() == b"old");
    assert_eq!(fs::read(&old).unwrap(), b"old");
    assert!(!exists(&new));
}

#[test]
fn content_of_another_size_changes_nothing() {
    let agent = Agent::start();
    let path = agent.file("a");
    fs::write(&path, b"old").unwrap();

    for append in [false, true] {
        let fields =
            [("path", str(&path)), ("size", Value::Int(5)), ("append", Value::Bool(append))];
        assert_eq!(write(&agent, &fields, b"1234").code(), "invalid");
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
}

#[test]
fn appending_adds_and_creates() {
    let agent = Agent::start();
    let path = agent.file("a");
    let fields = [("path", str(&path)), ("append", yes())];

    let first = write(&agent, &fields, b"one");
    let second = write(&agent, &fields, b"two");

    assert_eq!(field(first.last(), "created"), &yes());
    assert_eq!(
        (field(second.last(), "created"), second.int("size")),
        (&Value::Bool(false), Some(6))
    );
    assert_eq!(fs::read(&path).unwrap(), b"onetwo");
}

#[test]
fn writing_follows_a_link_to_its_targets_place() {
    let agent = Agent::start();
    fs::create_dir(agent.file("d")).unwrap();
    symlink("d/target", agent.file("one")).unwrap();
    symlink("one", agent.file("two")).unwrap();
    symlink("loop", agent.file("loop")).unwrap();

    let answer = write(&agent, &[("path", str(&agent.file("two")))], b"data");

    assert_eq!(answer.code(), "");
    assert_eq!(fs::read(agent.file("d/target")).unwrap(), b"data");
    assert!(fs::symlink_metadata(agent.file("two")).unwrap().file_type().is_symlink());
    assert_eq!(write(&agent, &[("path", str(&agent.file("loop")))], b"").code(), "loop");
}

#[test]
fn writing_where_no_file_can_be_is_refused() {
    let agent = Agent::start();
    fs::create_dir(agent.file("d")).unwrap();
    let cases = [
        (agent.file("d"), "is_a_directory"),
        ("/".to_owned(), "is_a_directory"),
        (agent.file("no/a"), "not_found"),
        ("/dev/null".to_owned(), "not_a_file"),
        ("/etc/passwd/a".to_owned(), "not_a_directory"),
    ];

    for (path, code) in cases {
        assert_eq!(write(&agent, &[("path", str(&path))], b"x").code(), code, "{}", path);
    }
}

#[test]
fn stat_describes_a_file_and_a_link() {
    let agent = Agent::start();
    fs::write(agent.file("a"), b"12345").unwrap();
    symlink("a", agent.file("l")).unwrap();

    let through = agent.request("stat", &[("path", str(&agent.file("l")))]);
    let itself =
        agent.request("stat", &[("path", str(&agent.file("l"))), ("follow", Value::Bool(false))]);

    let (through, itself) = (field(through.last(), "entry"), field(itself.last(), "entry"));
    assert_eq!((text(through, "type"), int(through, "size")), ("file", 5));
    assert_eq!((text(itself, "type"), text(itself, "target")), ("symlink", "a"));
    assert_eq!(text(itself, "name"), "l");
    let expected = fs::metadata(agent.file("a")).unwrap();
    let modified = expected.mtime() * 1_000_000_000 + expected.mtime_nsec();
    assert_eq!(int(through, "modified_ns"), modified);
}

fn names(answer: &Answer) -> Vec<String> {
    let batches = answer.events.iter().filter(|event| text(event, "event") == "entries");
    let entries = batches.flat_map(|batch| match field(batch, "entries") {
        Value::Array(entries) => entries.clone(),
        other => panic!("{:?}", other),
    });
    entries.map(|entry| text(&entry, "name").to_owned()).collect()
}

#[test]
fn list_is_sorted_deep_and_limited() {
    let agent = Agent::start();
    fs::create_dir_all(agent.file("b/c")).unwrap();
    for name in ["a", "b/2", "b/1", "b/c/x", "z"] {
        fs::write(agent.file(name), b"").unwrap();
    }
    symlink("b", agent.file("link")).unwrap();
    let list = |depth, limit| {
        let path = agent.folder.join("files").to_str().unwrap().to_owned();
        let fields =
            [("path", str(&path)), ("depth", Value::Int(depth)), ("limit", Value::Int(limit))];
        agent.request("list", &fields)
    };

    assert_eq!(names(&list(1, 99)), ["a", "b", "link", "z"]);
    assert_eq!(names(&list(3, 99)), ["a", "b", "b/1", "b/2", "b/c", "b/c/x", "link", "z"]);
    assert_eq!(field(list(3, 8).last(), "truncated"), &Value::Bool(false));
    let short = list(3, 4);
    assert_eq!(names(&short), ["a", "b", "b/1", "b/2"]);
    assert_eq!(field(short.last(), "truncated"), &yes());
    assert_eq!(agent.request("list", &[("path", str(&agent.file("a")))]).code(), "not_a_directory");
}

#[test]
fn large_directory_is_listed_in_several_frames() {
    let agent = Agent::start();
    for number in 0..3000 {
        fs::write(agent.file(&format!("{:04}", number)), b"").unwrap();
    }

    let answer = agent.request("list", &[("path", str(&agent.file("")))]);

    let expected: Vec<_> = (0..3000).map(|number| format!("{:04}", number)).collect();
    assert_eq!(names(&answer), expected);
    assert!(answer.events.len() > 3);
}

#[test]
fn names_that_are_not_utf8_travel_as_bin() {
    let agent = Agent::start();
    let mut path = agent.file("").into_bytes();
    path.extend_from_slice(b"\xff\xfe");

    let written = write(&agent, &[("path", Value::Bin(path.clone()))], b"odd");
    let read = agent.request("read", &[("path", Value::Bin(path.clone()))]);
    let listed = agent.request("list", &[("path", str(&agent.file("")))]);

    assert_eq!((written.code(), read.output().as_str()), ("", "odd"));
    match field(&listed.events[0], "entries") {
        Value::Array(entries) => {
            assert_eq!(field(&entries[0], "name"), &Value::Bin(b"\xff\xfe".to_vec()));
        }
        other => panic!("{:?}", other),
    }
}

#[test]
fn mkdir_makes_one_or_all() {
    let agent = Agent::start();
    let mkdir = |path: &str, parents| {
        let fields =
            [("path", str(path)), ("parents", Value::Bool(parents)), ("mode", Value::Int(0o700))];
        agent.request("mkdir", &fields).code().to_owned()
    };
    fs::write(agent.file("file"), b"").unwrap();

    assert_eq!(mkdir(&agent.file("a/b"), false), "not_found");
    assert_eq!(mkdir(&agent.file("a/b"), true), "");
    assert_eq!((mode(&agent.file("a")), mode(&agent.file("a/b"))), (0o755, 0o700));
    assert_eq!(mkdir(&agent.file("a/b"), false), "exists");
    assert_eq!(mkdir(&agent.file("a/b"), true), "");
    assert_eq!(mkdir(&agent.file("file"), true), "not_a_directory");
    assert_eq!(mkdir("/", true), "");
}

fn two_paths(agent: &Agent, op: &str, source: &str, destination: &str) -> String {
    let fields =
        [("source", str(&agent.file(source))), ("destination", str(&agent.file(destination)))];
    agent.request(op, &fields).code().to_owned()
}

#[test]
fn move_renames_and_replaces_files_but_not_directories() {
    let agent = Agent::start();
    fs::write(agent.file("a"), b"a").unwrap();
    fs::write(agent.file("b"), b"b").unwrap();
    fs::create_dir_all(agent.file("d/e")).unwrap();

    assert_eq!(two_paths(&agent, "move", "a", "new/parent/a"), "");
    assert_eq!(two_paths(&agent, "move", "new/parent/a", "b"), "");
    assert_eq!(fs::read(agent.file("b")).unwrap(), b"a");
    assert_eq!(two_paths(&agent, "move", "b", "d"), "exists");
    assert_eq!(two_paths(&agent, "move", "d", "d/e/f"), "invalid");
    assert_eq!(two_paths(&agent, "move", "missing", "x"), "not_found");
    assert_eq!(two_paths(&agent, "move", "d", "moved"), "");
    assert!(exists(&agent.file("moved/e")));
}

#[test]
fn move_across_file_systems_keeps_everything() {
    let shared = format!("/dev/shm/atoll-agent-test-{}", std::process::id());
    if fs::create_dir(&shared).is_err() {
        return;
    }
    let agent = Agent::start();
    fs::create_dir_all(agent.file("d/e")).unwrap();
    fs::write(agent.file("d/e/f"), b"content").unwrap();
    symlink("../nowhere", agent.file("d/l")).unwrap();
    fs::set_permissions(agent.file("d/e"), fs::Permissions::from_mode(0o711)).unwrap();
    let destination = format!("{}/x/d", shared);

    let fields = [("source", str(&agent.file("d"))), ("destination", str(&destination))];
    let answer = agent.request("move", &fields);

    assert_eq!(answer.code(), "");
    assert!(!exists(&agent.file("d")));
    assert_eq!(fs::read(format!("{}/e/f", destination)).unwrap(), b"content");
    assert_eq!(mode(&format!("{}/e", destination)), 0o711);
    let link = fs::read_link(format!("{}/l", destination)).unwrap();
    assert_eq!(link.to_str(), Some("../nowhere"));
    fs::remove_dir_all(&shared).unwrap();
}

#[test]
fn copy_copies_trees_with_modes_and_links() {
    let agent = Agent::start();
    fs::create_dir_all(agent.file("d/e")).unwrap();
    fs::create_dir_all(agent.file("there")).unwrap();
    fs::write(agent.file("d/e/f"), vec![7; 1_000_000]).unwrap();
    fs::set_permissions(agent.file("d/e/f"), fs::Permissions::from_mode(0o4755)).unwrap();
    symlink("/etc", agent.file("d/l")).unwrap();

    assert_eq!(two_paths(&agent, "copy", "d", "new/d"), "");
    assert_eq!(fs::read(agent.file("new/d/e/f")).unwrap(), vec![7; 1_000_000]);
    assert_eq!(mode(&agent.file("new/d/e/f")), 0o4755);
    assert!(fs::symlink_metadata(agent.file("new/d/l")).unwrap().file_type().is_symlink());
    assert_eq!(two_paths(&agent, "copy", "d", "d/e/inner"), "invalid");
    assert_eq!(two_paths(&agent, "copy", "d", "there"), "exists");
    assert_eq!(two_paths(&agent, "copy", "d/e/f", "d/e/f"), "");
    assert_eq!(fs::read(agent.file("d/e/f")).unwrap().len(), 1_000_000);
}

#[test]
fn remove_takes_links_and_not_what_they_lead_to() {
    let agent = Agent::start();
    fs::create_dir_all(agent.file("d/e/f")).unwrap();
    fs::create_dir_all(agent.file("kept/x")).unwrap();
    symlink(agent.file("kept"), agent.file("d/e/link")).unwrap();
    symlink(agent.file("kept"), agent.file("link")).unwrap();
    let remove = |path: &str, recursive| {
        let fields = [("path", str(path)), ("recursive", Value::Bool(recursive))];
        agent.request("remove", &fields).code().to_owned()
    };

    assert_eq!(remove(&agent.file("d"), false), "not_empty");
    assert_eq!(remove(&agent.file("d/e/f"), false), "");
    assert_eq!(remove(&agent.file("d"), true), "");
    assert_eq!(remove(&agent.file("link/"), true), "");
    assert_eq!(remove(&agent.file("link"), true), "not_found");
    assert!(exists(&agent.file("kept/x")));
    for path in ["/", "//", "/.", "/tmp/..", "/tmp/../"] {
        assert_eq!(remove(path, true), "invalid");
    }
}

#[test]
fn tree_deeper_than_any_path_is_removed() {
    let agent = Agent::start();
    let text = format!(
        "cd {} && i=0; while [ $i -lt 1500 ]; do mkdir dddddddd && cd dddddddd && : > f; i=$((i+1)); done",
        agent.file("")
    );
    agent.request("start", &[("argv", support::argv(&["/bin/sh", "-c", &text]))]);

    let fields = [("path", str(&agent.file("dddddddd"))), ("recursive", yes())];
    let answer = agent.request("remove", &fields);

    assert_eq!(answer.code(), "");
    assert!(!exists(&agent.file("dddddddd")));
}

#[test]
fn chmod_does_not_go_through_links() {
    let agent = Agent::start();
    fs::create_dir_all(agent.file("d")).unwrap();
    fs::write(agent.file("outside"), b"").unwrap();
    fs::write(agent.file("d/f"), b"").unwrap();
    symlink(agent.file("outside"), agent.file("d/l")).unwrap();
    let chmod = |path: &str, recursive| {
        let mode = ("mode", Value::Int(0o700));
        let fields = [("path", str(path)), mode, ("recursive", Value::Bool(recursive))];
        agent.request("chmod", &fields).code().to_owned()
    };

    assert_eq!(chmod(&agent.file("d/l"), false), "loop");
    assert_eq!(chmod(&agent.file("d"), true), "");
    assert_eq!((mode(&agent.file("d/f")), mode(&agent.file("outside"))), (0o700, 0o644));
    assert_eq!(chmod(&agent.file("none"), false), "not_found");
}

#[test]
fn chown_acts_on_links_themselves() {
    if !is_root() {
        return;
    }
    let agent = Agent::start();
    fs::create_dir_all(agent.file("d")).unwrap();
    fs::write(agent.file("outside"), b"").unwrap();
    symlink(agent.file("outside"), agent.file("d/l")).unwrap();
    let fields = [
        ("path", str(&agent.file("d"))),
        ("user", str("nobody")),
        ("group", str("1234")),
        ("recursive", yes()),
    ];

    assert_eq!(agent.request("chown", &fields).code(), "");

    let link = fs::symlink_metadata(agent.file("d/l")).unwrap();
    assert_eq!((link.uid(), link.gid()), (65534, 1234));
    assert_eq!(fs::metadata(agent.file("outside")).unwrap().uid(), 0);
    let unknown = [("path", str("/tmp")), ("user", str("no-such-user"))];
    assert_eq!(agent.request("chown", &unknown).code(), "unknown_user");
}

#[test]
fn file_that_grows_is_read_as_it_was() {
    let agent = Agent::start();
    let path = agent.file("log");
    fs::write(&path, vec![1; 3_000_000]).unwrap();
    let mut client = agent.connect();
    client.send_request("read", &[("path", str(&path))]);
    client.receive_event("file");

    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&[2; 3_000_000]).unwrap();

    assert_eq!(client.finish().stdout, vec![1; 3_000_000]);
}

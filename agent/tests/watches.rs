// SPDX-License-Identifier: Apache-2.0
//! Watched directories: what is told of every kind of change, to whom, and for how long.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::thread;

use atoll_agent::frame::Kind;
use atoll_agent::msgpack::{decode, Value};
use support::watch::{all_changes, folder, items, kernel_watches, receive, write, Watch};
use support::{field, int, str, text, wait_until, Agent};

#[test]
fn every_kind_of_change_is_told() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let outside = agent.file("outside");
    let mut watch = Watch::start(&agent, &root, false);
    let at = |name: &str| format!("{}/{}", root, name);

    fs::write(at("a"), b"1").unwrap();
    assert_eq!(watch.news(), ["created /a", "modified /a"]);
    fs::OpenOptions::new().append(true).open(at("a")).unwrap().write_all(b"2").unwrap();
    assert_eq!(watch.news(), ["modified /a"]);
    fs::File::create(at("a")).unwrap();
    assert_eq!(watch.news(), ["modified /a"]);
    fs::set_permissions(at("a"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(watch.news(), ["attributes /a"]);
    fs::read(at("a")).unwrap();
    assert_eq!(watch.news(), [""; 0]);
    fs::rename(at("a"), at("b")).unwrap();
    assert_eq!(watch.news(), ["renamed /a -> /b"]);
    fs::rename(at("b"), &outside).unwrap();
    assert_eq!(watch.news(), ["removed /b"]);
    fs::rename(&outside, at("c")).unwrap();
    assert_eq!(watch.news(), ["created /c"]);
    fs::remove_file(at("c")).unwrap();
    assert_eq!(watch.news(), ["removed /c"]);
    fs::create_dir(at("d")).unwrap();
    fs::write(at("d/x"), b"").unwrap();
    fs::rename(at("d"), at("e")).unwrap();
    symlink("/etc", at("l")).unwrap();
    assert_eq!(watch.news(), ["created /d/", "renamed /d -> /e/", "created /l"]);
    fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(watch.news(), ["attributes /"]);
}

#[test]
fn root_is_resolved_and_its_changes_bear_the_resolved_path() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    symlink(&root, agent.file("link")).unwrap();

    let mut watch = Watch::start(&agent, &agent.file("link/../link/."), false);

    assert!(watch.root.ends_with("/files/w"), "{}", watch.root);
    fs::write(format!("{}/a", root), b"").unwrap();
    assert_eq!(watch.news(), ["created /a"]);
}

#[test]
fn files_that_the_agent_writes_are_told_under_their_own_names() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let at = |name: &str| format!("{}/{}", root, name);
    let mut watch = Watch::start(&agent, &root, true);

    write(&agent, &at("a"), b"content");
    assert_eq!(watch.news(), ["created /a", "modified /a"]);
    write(&agent, &at("a"), b"");
    assert_eq!(watch.news(), ["modified /a"]);
    write(&agent, &at("empty"), b"");
    assert_eq!(watch.news(), ["created /empty"]);
    let copy = |from: &str, to: &str| {
        let fields = [("source", str(&at(from))), ("destination", str(&at(to)))];
        assert_eq!(agent.request("copy", &fields).code(), "");
    };
    write(&agent, &at("a"), b"more");
    watch.news();
    copy("a", "b");
    assert_eq!(watch.news(), ["created /b", "modified /b"]);
    copy("empty", "b");
    assert_eq!(watch.news(), ["modified /b"]);
    let fields = [("source", str(&at("a"))), ("destination", str(&at("b")))];
    assert_eq!(agent.request("move", &fields).code(), "");
    assert_eq!(watch.news(), ["renamed /a -> /b"]);
}

#[test]
fn write_that_is_given_up_is_not_told() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let mut watch = Watch::start(&agent, &root, true);
    let mut client = agent.connect();
    client.send_request("write", &[("path", str(&format!("{}/a", root)))]);
    client.receive_event("ready");
    client.send_data(Kind::Content, b"half").unwrap();
    wait_until(|| fs::read_dir(&root).unwrap().count() == 1);
    client.close();
    wait_until(|| fs::read_dir(&root).unwrap().count() == 0);

    assert_eq!(watch.news(), [""; 0]);
}

#[test]
fn names_that_only_look_like_the_agents_own_are_told() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let mut watch = Watch::start(&agent, &root, true);
    let name = format!(".atoll-{}-99.new", agent.pid());

    fs::write(format!("{}/{}", root, name), b"").unwrap();

    assert_eq!(watch.news(), [format!("created /{}", name)]);
}

#[test]
fn any_name_is_told_as_it_is() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let watch = Watch::start(&agent, &root, false);
    let names: [&[u8]; 3] = [b"line\nfeed\x1b[2J", b"\xff\xfe", &[b'n'; 255]];
    for name in names {
        fs::write(Path::new(&root).join(std::ffi::OsStr::from_bytes(name)), b"").unwrap();
    }

    let changes = all_changes(&watch.answer(0));

    for (change, name) in changes.iter().zip(names) {
        let expected = [root.as_bytes(), b"/", name].concat();
        match field(change, "path") {
            Value::Str(text) => assert_eq!(text.as_bytes(), expected),
            Value::Bin(bytes) => assert_eq!(bytes, &expected),
            other => panic!("{:?}", other),
        }
    }
    assert_eq!(changes.len(), names.len());
}

#[test]
fn reader_that_follows_hears_at_once_and_any_number_may() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let watch = Watch::start(&agent, &root, false);
    let mut readers = [watch.follow(0), watch.follow(0)];
    for reader in &mut readers {
        assert_eq!(receive(reader), []);
    }

    for name in ["a", "b", "c"] {
        fs::create_dir(format!("{}/{}", root, name)).unwrap();
        for reader in &mut readers {
            let changes = receive(reader);
            assert_eq!(changes.len(), 1);
            assert_eq!(watch.line(&changes[0]), format!("created /{}/", name));
        }
    }

    let mut late = watch.follow(2);
    assert_eq!(watch.line(&receive(&mut late)[0]), "created /c/");
    watch.stop();
    for reader in readers.into_iter().chain([late]) {
        let answer = reader.finish();
        assert_eq!((text(answer.last(), "ended"), answer.int("last")), ("stopped", Some(3)));
    }
}

#[test]
fn reader_comes_back_where_it_left() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let watch = Watch::start(&agent, &root, false);
    let writer = thread::spawn(move || {
        for number in 0..2000 {
            fs::create_dir(format!("{}/{}", root, number)).unwrap();
        }
    });

    let (mut last, mut lines) = (0, Vec::new());
    while lines.len() < 2000 {
        // The first frame may be empty; the connection breaks after the second at the latest.
        let mut reader = watch.follow(last);
        for _ in 0..2 {
            for change in receive(&mut reader) {
                assert_eq!(int(&change, "number"), last + 1);
                last += 1;
                lines.push(watch.line(&change));
            }
            if lines.len() == 2000 {
                break;
            }
        }
        reader.close();
    }

    writer.join().unwrap();
    let expected: Vec<String> = (0..2000).map(|number| format!("created /{}/", number)).collect();
    assert_eq!(lines, expected);
}

#[test]
fn reader_that_comes_late_hears_what_was_dropped() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let fields = [("path", str(&root)), ("keep", Value::Int(10))];
    let number = agent.latest("watch", &fields).int("watch").unwrap();
    let watch = Watch { agent: &agent, number, root: root.clone(), last: 0 };
    for number in 0..30 {
        fs::create_dir(format!("{}/{}", root, number)).unwrap();
    }

    let changes = all_changes(&watch.answer(5));

    assert_eq!(watch.line(&changes[0]), "overflow ");
    assert_eq!(int(&changes[0], "number"), 20);
    assert_eq!((changes.len(), int(&changes[1], "number")), (11, 21));
    let state = watch.state();
    assert_eq!((int(&state, "first"), int(&state, "last")), (21, 30));
    assert_eq!(all_changes(&watch.answer(20)), changes[1..]);
}

#[test]
fn removed_root_ends_the_watch_which_can_still_be_read() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let mut watch = Watch::start(&agent, &root, true);
    let mut reader = watch.follow(0);
    assert_eq!(receive(&mut reader), []);
    // Who works in it holds it, so that the kernel says nothing of its end itself.
    let mut holder = Command::new("sleep").arg("100").current_dir(&root).spawn().unwrap();

    fs::remove_dir(&root).unwrap();

    let answer = reader.finish();
    assert_eq!(text(answer.last(), "ended"), "removed");
    assert_eq!(watch.news(), ["removed /"]);
    assert_eq!(text(&watch.state(), "ended"), "removed");
    assert_eq!(text(watch.answer(1).last(), "ended"), "removed");
    wait_until(|| kernel_watches(&agent) == 0);
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn moved_root_ends_the_watch() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let mut watch = Watch::start(&agent, &root, true);

    fs::rename(&root, agent.file("v")).unwrap();

    assert_eq!(watch.news(), ["removed /"]);
    assert_eq!(text(&watch.state(), "ended"), "removed");
}

#[test]
fn stopped_watch_frees_what_the_kernel_held() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    for number in 0..200 {
        fs::create_dir(format!("{}/{}", root, number)).unwrap();
    }
    let (before, before_kib) = (agent.open_files(), agent.rss_kib());

    for _ in 0..5 {
        let watch = Watch::start(&agent, &root, true);
        assert_eq!(kernel_watches(&agent), 202);
        assert_eq!(watch.stop().code(), "");
        assert_eq!(kernel_watches(&agent), 0);
        assert_eq!(watch.stop().code(), "not_found");
        assert_eq!(watch.answer(0).code(), "not_found");
    }
    wait_until(|| agent.open_files() <= before);
    assert!(agent.rss_kib() < before_kib + 1024, "{} KiB", agent.rss_kib());
}

#[test]
fn watch_without_a_reader_is_given_up_and_one_with_a_reader_is_not() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let start = || {
        let fields = [("path", str(&root)), ("linger_ms", Value::Int(50))];
        let number = agent.latest("watch", &fields).int("watch").unwrap();
        Watch { agent: &agent, number, root: root.clone(), last: 0 }
    };
    let read = start();
    let mut reader = read.follow(0);
    assert_eq!(receive(&mut reader), []);
    let unread = start();

    // Asking for its changes would be to read it.
    let asked = [("watch", Value::Int(unread.number))];
    wait_until(|| agent.latest("watches", &asked).code() == "not_found");

    fs::create_dir(format!("{}/d", root)).unwrap();
    assert_eq!(receive(&mut reader).len(), 1);
    reader.close();
    wait_until(|| agent.latest("watches", &[]).events.len() == 1);
    assert_eq!(kernel_watches(&agent), 0);
}

#[test]
fn watches_are_numbered_listed_and_limited() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let first = folder(&agent, "first");
    let numbers: Vec<i64> = (0..64)
        .map(|number| Watch::start(&agent, if number == 0 { &first } else { &root }, false).number)
        .collect();
    let wanted = [("path", str(&root))];

    assert_eq!(numbers, (1..=64).collect::<Vec<i64>>());
    let listed = agent.latest("watches", &[]);
    let listed = items(field(&listed.events[0], "watches"));
    assert_eq!(listed.iter().map(|watch| int(watch, "watch")).collect::<Vec<_>>(), numbers);
    assert_eq!(agent.latest("watch", &wanted).code(), "limit");
    fs::remove_dir(&first).unwrap();
    let ended = |watch: i64| agent.latest("watches", &[("watch", Value::Int(watch))]);
    wait_until(|| field(&items(field(&ended(1).events[0], "watches"))[0], "ended") != &Value::Nil);
    assert_eq!(agent.latest("watch", &wanted).int("watch"), Some(65));
    assert_eq!(ended(1).code(), "not_found");
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let agent = Agent::start();
    let file = agent.file("file");
    fs::write(&file, b"").unwrap();
    let missing = agent.file("missing");
    let cases = [
        (vec![("path", str(&file))], "not_a_directory"),
        (vec![("path", str(&missing))], "not_found"),
        (vec![("path", str("relative"))], "invalid"),
        (vec![("path", str("/a\0b"))], "invalid"),
        (vec![("path", str(""))], "invalid"),
        (vec![], "invalid"),
        (vec![("path", str("/tmp")), ("keep", Value::Int(0))], "invalid"),
        (vec![("path", str("/tmp")), ("keep", Value::Int(65_537))], "limit"),
        (vec![("path", str("/tmp")), ("linger_ms", Value::Int(86_400_001))], "limit"),
        (vec![("path", str("/tmp")), ("recursive", Value::Int(1))], "invalid"),
    ];
    for (fields, code) in cases {
        assert_eq!(agent.latest("watch", &fields).code(), code, "{:?}", fields);
    }

    let root = folder(&agent, "w");
    let watch = Watch::start(&agent, &root, false);
    assert_eq!(watch.answer(1).code(), "invalid");
    for op in ["changes", "unwatch", "watches"] {
        assert_eq!(agent.latest(op, &[("watch", Value::Int(1000))]).code(), "not_found");
    }
    assert_eq!(agent.latest("changes", &[]).code(), "invalid");
    assert_eq!(agent.later("watch", &[("path", str("/tmp"))]).code(), "unsupported");
    assert_eq!(kernel_watches(&agent), 2);
}

#[test]
fn frames_stay_within_their_limit_however_much_has_changed() {
    let agent = Agent::start();
    let root = folder(&agent, "w");
    let watch = Watch::start(&agent, &root, false);
    for number in 0..4000 {
        fs::write(format!("{}/{}{}", root, number, "n".repeat(200)), b"").unwrap();
    }

    let mut client = watch.follow(0);
    let mut count = 0;
    while count < 4000 {
        let (_, _, payload) = client.receive().unwrap();
        assert!(payload.len() < 100_000);
        count += items(field(&decode(&payload).unwrap(), "changes")).len();
    }
    assert_eq!(count, 4000);
}

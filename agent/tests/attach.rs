// SPDX-License-Identifier: Apache-2.0
//! Processes that outlive their clients: journals, readers, and what is known of those that ended.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use atoll_agent::msgpack::Value;
use support::{argv, field, int, str, text, wait_until, Agent, Client, Followed};

const DETACHED: (&str, Value) = ("detach", Value::Bool(true));

fn number(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap())
}

fn start_detached(agent: &Agent, script: &str, fields: &[(&str, Value)]) -> i64 {
    let mut all = vec![("shell", str(script)), DETACHED];
    all.extend_from_slice(fields);
    let mut client = agent.connect();
    client.send_later("start", &all);
    let process = int(&client.receive_event("started"), "process");
    assert!(client.receive().is_none());
    process
}

fn attach(agent: &Agent, process: i64, fields: &[(&str, Value)]) -> Client {
    let mut all = vec![("process", Value::Int(process))];
    all.extend_from_slice(fields);
    let mut client = agent.connect();
    client.send_later("attach", &all);
    client
}

fn follow_from(agent: &Agent, process: i64, since: u64) -> Followed {
    attach(agent, process, &[("since", number(since))]).follow()
}

fn process(agent: &Agent, id: i64) -> Value {
    let answer = agent.later("processes", &[("process", Value::Int(id))]);
    match field(&answer.events[0], "processes") {
        Value::Array(items) => items[0].clone(),
        other => panic!("{:?}", other),
    }
}

fn has_ended(agent: &Agent, id: i64) -> bool {
    field(&process(agent, id), "ended_ns") != &Value::Nil
}

#[test]
fn output_of_a_detached_process_is_read_later() {
    let agent = Agent::start();
    let id = start_detached(&agent, "echo out; sleep 0.05; echo err >&2; exit 7", &[]);
    wait_until(|| has_ended(&agent, id));

    let whole = follow_from(&agent, id, 0);

    assert_eq!((&whole.stdout[..], &whole.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(text(&whole.events[0], "event"), "attached");
    assert_eq!(int(&whole.events[0], "dropped"), 0);
    assert_eq!(int(whole.last(), "code"), 7);
    assert_eq!((int(whole.last(), "stdout_bytes"), int(whole.last(), "stderr_bytes")), (4, 4));
}

#[test]
fn a_reader_begins_in_the_middle_of_a_frame() {
    let agent = Agent::start();
    let id = start_detached(&agent, "echo 0123456789; sleep 0.05; echo abc >&2", &[]);
    wait_until(|| has_ended(&agent, id));

    let rest = follow_from(&agent, id, 4);
    assert_eq!((&rest.stdout[..], &rest.stderr[..]), (&b"456789\n"[..], &b"abc\n"[..]));
    assert_eq!(rest.starts, [Some(4), Some(0)]);
    let attached = &rest.events[0];
    assert_eq!((int(attached, "stdout"), int(attached, "stderr")), (4, 0));

    let rest = follow_from(&agent, id, 13);
    assert_eq!((&rest.stdout[..], &rest.stderr[..]), (&b""[..], &b"c\n"[..]));
    assert_eq!((int(&rest.events[0], "position"), int(&rest.events[0], "stderr")), (13, 2));

    assert_eq!(follow_from(&agent, id, 15).bytes(), 0);
    let past = attach(&agent, id, &[("since", Value::Int(16))]).follow();
    assert_eq!(text(past.last(), "code"), "invalid");
}

#[test]
fn a_reader_without_follow_stops_where_the_output_is() {
    let agent = Agent::start();
    let id = start_detached(&agent, "echo first; sleep 100", &[]);
    wait_until(|| int(&process(&agent, id), "position") == 6);

    let now = attach(&agent, id, &[("since", Value::Int(2)), ("follow", Value::Bool(false))]);

    let now = now.follow();
    assert_eq!(now.stdout, b"rst\n");
    assert_eq!((text(now.last(), "event"), int(now.last(), "position")), ("done", 6));
}

#[test]
fn several_readers_get_the_same_and_may_signal() {
    let agent = Agent::start();
    let script = "trap 'echo got >&2; exit 3' USR1; echo ready; while :; do sleep 0.02; done";
    let mut first = agent.connect();
    first.send_later("start", &[("shell", str(script))]);
    let id = int(&first.receive_event("started"), "process");
    let readers: Vec<_> = (0..5).map(|_| attach(&agent, id, &[("since", Value::Int(0))])).collect();
    let mut last = attach(&agent, id, &[]);
    assert_eq!(first.receive().unwrap().2, b"ready\n");
    last.receive_event("attached");

    let pairs = [("op", str("signal")), ("signal", Value::Int(10))];
    last.send_control(Value::Map(
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
    ));

    for reader in readers {
        let followed = reader.follow();
        assert_eq!((&followed.stdout[..], &followed.stderr[..]), (&b"ready\n"[..], &b"got\n"[..]));
        assert_eq!(int(followed.last(), "code"), 3);
    }
    assert_eq!(first.follow().stderr, b"got\n");
    assert_eq!(int(last.follow().last(), "code"), 3);
}

#[test]
fn output_goes_on_where_a_client_that_left_has_stopped() {
    let agent = Agent::start();
    let script = "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); sleep 0.001; done";
    let mut client = agent.connect();
    client.send_later("start", &[("shell", str(script))]);
    let id = int(&client.receive_event("started"), "process");
    let mut all = client.receive().unwrap().2;
    client.close();

    // Leaving again and again, each time after a few frames.
    loop {
        let mut reader = attach(&agent, id, &[("since", number(all.len() as u64))]);
        reader.receive_event("attached");
        let mut part = Followed::default();
        for _ in 0..5 {
            if !part.is_over() {
                part.add(reader.receive().unwrap());
            }
        }
        assert!(part.starts[0].map_or(true, |start| start == all.len() as u64));
        all.extend(&part.stdout);
        if part.is_over() {
            break;
        }
    }

    let expected: String = (0..300).map(|line| format!("line {}\n", line)).collect();
    assert_eq!(String::from_utf8(all).unwrap(), expected);
}

#[test]
fn random_readers_of_a_real_process_get_what_its_client_got() {
    let agent = Agent::start();
    let script = "for n in 1 9 300 5000 70000 200000 3 40000 500000 8; do \
                  head -c $n /dev/urandom; head -c $((n/2)) /dev/urandom >&2; sleep 0.02; done";
    let mut client = agent.connect();
    client.send_later("start", &[("shell", str(script))]);
    let id = int(&client.receive_event("started"), "process");
    let mut state = 12345_u64;
    let mut readers = Vec::new();
    for _ in 0..10 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let known = u64::try_from(int(&process(&agent, id), "position")).unwrap();
        let since = (state >> 33) % (known + 1);
        readers.push(thread::spawn({
            let reader = attach(&agent, id, &[("since", number(since))]);
            move || reader.follow()
        }));
        thread::sleep(Duration::from_millis(15));
    }

    let whole = client.follow();

    let is_tail = |part: &[u8], start: Option<u64>, whole: &[u8]| {
        let start = start.map_or(whole.len(), |start| usize::try_from(start).unwrap());
        assert!(part == &whole[start..]);
    };
    assert_eq!(whole.stdout.len(), 815_321);
    for reader in readers {
        let part = reader.join().unwrap();
        is_tail(&part.stdout, part.starts[0], &whole.stdout);
        is_tail(&part.stderr, part.starts[1], &whole.stderr);
        assert_eq!(int(&part.events[0], "position") as u64 + part.bytes(), whole.bytes());
    }
}

#[test]
fn oldest_output_of_a_detached_process_is_dropped_and_counted() {
    let agent = Agent::start();
    let limit = [("journal_bytes", Value::Int(1 << 20))];
    let id = start_detached(&agent, "head -c 5000000 /dev/zero; echo end", &limit);
    wait_until(|| has_ended(&agent, id));

    let kept = follow_from(&agent, id, 1000);

    let attached = &kept.events[0];
    let position = int(attached, "position");
    assert_eq!(int(attached, "dropped"), position - 1000);
    assert_eq!(int(&process(&agent, id), "first"), position);
    assert_eq!(u64::try_from(position).unwrap() + kept.bytes(), 5_000_004);
    assert!(kept.bytes() > 700_000 && kept.bytes() <= 1 << 20);
    assert!(kept.stdout.ends_with(b"\0end\n"));
}

#[test]
fn a_client_that_does_not_read_stops_the_process_when_the_journal_is_full() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let fields = [("argv", argv(&["yes"])), ("journal_bytes", Value::Int(2 << 20))];
    client.send_later("start", &fields);
    let id = int(&client.receive_event("started"), "process");
    let position = || int(&process(&agent, id), "position");
    wait_until(|| position() > 1 << 20);
    wait_until(|| {
        let before = position();
        thread::sleep(Duration::from_millis(50));
        before == position()
    });

    assert!(position() < 3 << 20);
    assert!(agent.rss_kib() < 8 << 10);
    // Who reads gets all of it, and the process goes on.
    let mut followed = Followed::default();
    while followed.bytes() < 20 << 20 {
        followed.add(client.receive().unwrap());
    }
    client.close();
    wait_until(|| position() > 30 << 20);
}

#[test]
fn a_fast_reader_keeps_a_long_stream_off_the_disk() {
    let agent = Agent::start();
    let mut client = agent.connect();
    client.send_later("start", &[("argv", argv(&["head", "-c", "200000000", "/dev/zero"]))]);
    client.receive_event("started");

    let spills = || {
        let files = std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap();
        let names = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        names.filter(|name| name.to_string_lossy().ends_with("(deleted)")).count()
    };
    let mut followed = Followed::default();
    while followed.bytes() < 50_000_000 {
        followed.add(client.receive().unwrap());
    }
    // The journal was full long ago, and what it had on the disk is gone.
    for _ in 0..20 {
        followed.add(client.receive().unwrap());
        assert_eq!(spills(), 0);
    }

    while !followed.is_over() {
        followed.add(client.receive().unwrap());
    }
    assert_eq!(followed.bytes(), 200_000_000);
}

#[test]
fn processes_are_listed_with_what_is_known_of_them() {
    let agent = Agent::start();
    let note = ("note", Value::Bin(vec![0xff; 16 << 10]));
    let done = start_detached(&agent, "echo a; exit 4", &[note, ("tag", str("t"))]);
    wait_until(|| has_ended(&agent, done));
    let running = start_detached(&agent, "echo bcd >&2; sleep 100", &[]);
    wait_until(|| int(&process(&agent, running), "position") == 4);

    let answer = agent.later("processes", &[]);

    let items = match field(&answer.events[0], "processes") {
        Value::Array(items) => items.clone(),
        other => panic!("{:?}", other),
    };
    assert_eq!(items.len(), 2);
    assert_eq!((int(&items[0], "process"), int(&items[1], "process")), (done, running));
    assert_eq!(field(&items[0], "note"), &Value::Bin(vec![0xff; 16 << 10]));
    assert_eq!((text(&items[0], "tag"), int(&items[0], "code")), ("t", 4));
    assert!(int(&items[0], "ended_ns") > int(&items[0], "started_ns"));
    for name in ["code", "signal", "ended_ns", "tag", "note", "pty"] {
        assert_eq!(field(&items[1], name), &Value::Nil, "{}", name);
    }
    assert_eq!((int(&items[1], "stderr_bytes"), int(&items[1], "first")), (4, 0));
    assert_eq!(agent.later("processes", &[("process", Value::Int(99))]).code(), "not_found");
    let long = ("note", Value::Bin(vec![0; (16 << 10) + 1]));
    assert_eq!(agent.later("start", &[("shell", str("true")), long]).code(), "limit");
}

#[test]
fn ended_processes_are_forgotten_when_told_and_when_there_are_too_many() {
    let agent = Agent::start();
    let running = start_detached(&agent, "sleep 100", &[]);
    let of = |id| [("process", Value::Int(id))];
    assert_eq!(agent.later("forget", &of(running)).code(), "busy");
    let ids: Vec<i64> =
        (0..6).map(|_| agent.later("start", &[("shell", str("echo"))]).process()).collect();

    assert_eq!(agent.later("forget", &of(ids[5])).code(), "");
    assert_eq!(agent.later("forget", &of(ids[5])).code(), "not_found");
    assert_eq!(agent.later("configure", &[("keep_ended", Value::Int(2))]).code(), "");

    let known = |id| agent.later("processes", &of(id)).code() == "";
    assert_eq!(
        ids.iter().map(|id| known(*id)).collect::<Vec<_>>(),
        [false, false, false, true, true, false]
    );
    assert!(known(running));
    // One that is read stays longer than those that are not.
    let mut reader = attach(&agent, running, &[]);
    reader.receive_event("attached");
    agent.later("configure", &[("keep_ended_ms", Value::Int(0))]);
    thread::sleep(Duration::from_millis(5));
    assert!(!known(ids[4]));
    assert_eq!(agent.later("attach", &of(ids[4])).code(), "not_found");
    assert_eq!(agent.later("configure", &[("keep_ended", Value::Int(10_001))]).code(), "invalid");
}

#[test]
fn the_oldest_ended_processes_lose_their_output_where_all_hold_too_much() {
    let agent = Agent::start();
    let large = [("journal_bytes", Value::Int(100 << 20))];
    let ids: Vec<i64> = (0..3)
        .map(|_| {
            let id = start_detached(&agent, "head -c 95000000 /dev/zero", &large);
            wait_until(|| has_ended(&agent, id));
            id
        })
        .collect();

    wait_until(|| int(&process(&agent, ids[0]), "first") == 95_000_000);
    assert_eq!(int(&process(&agent, ids[1]), "first"), 0);
    assert_eq!(int(&process(&agent, ids[2]), "first"), 0);
    assert_eq!(int(&process(&agent, ids[0]), "code"), 0);
    let followed = follow_from(&agent, ids[0], 0);
    assert_eq!(int(&followed.events[0], "dropped"), 95_000_000);
}

#[test]
fn timeout_and_exit_of_a_detached_process_are_kept() {
    let agent = Agent::start();
    let id = start_detached(&agent, "sleep 100", &[("timeout_ms", Value::Int(100))]);

    let followed = follow_from(&agent, id, 0);

    assert_eq!(int(followed.last(), "signal"), 15);
    assert_eq!(field(followed.last(), "timed_out"), &Value::Bool(true));
}

#[test]
fn a_process_without_output_ends_and_one_with_output_goes_on() {
    let agent = Agent::start();
    let idle = ("idle_ms", Value::Int(800));
    let begun = Instant::now();

    let silent = agent.later("start", &[("shell", str("sleep 100")), idle.clone()]);
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(field(silent.last(), "timed_out"), &Value::Bool(true));

    let script = "i=0; while [ $i -lt 12 ]; do echo; sleep 0.1; i=$((i+1)); done";
    let busy = agent.later("start", &[("shell", str(script)), idle]);
    assert_eq!((busy.int("code"), busy.stdout.len()), (Some(0), 12));
}

#[test]
fn a_process_that_waits_for_its_reader_is_not_idle() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let fields = [
        ("argv", argv(&["head", "-c", "3000000", "/dev/zero"])),
        ("idle_ms", Value::Int(200)),
        ("journal_bytes", Value::Int(100_000)),
    ];
    client.send_later("start", &fields);
    client.receive_event("started");

    thread::sleep(Duration::from_millis(700));

    let whole = client.follow();
    assert_eq!((whole.stdout.len(), int(whole.last(), "code")), (3_000_000, 0));
}

#[test]
fn operations_of_this_generation_are_unknown_to_the_one_before() {
    let agent = Agent::start();

    for op in ["attach", "configure", "forget", "processes", "resize", "stdin"] {
        assert_eq!(agent.request(op, &[]).code(), "unsupported");
    }
    let answer = agent.request("start", &[("shell", str("echo on")), DETACHED]);
    assert_eq!(answer.output(), "on\n");
}

#[test]
fn children_of_an_ended_process_are_not_in_its_journal() {
    let agent = Agent::start();
    let done = agent.file("done");
    let script = format!("echo first; (sleep 0.1; head -c 3000000 /dev/zero; touch {}) &", done);
    let id = start_detached(&agent, &script, &[]);

    assert_eq!(follow_from(&agent, id, 0).stdout, b"first\n");
    wait_until(|| support::exists(&done));
    assert_eq!(follow_from(&agent, id, 0).stdout, b"first\n");
}

#[test]
fn ended_processes_hold_little_memory_and_few_files() {
    let agent = Agent::start();
    for _ in 0..20 {
        agent.later("start", &[("shell", str("head -c 300000 /dev/zero"))]);
    }
    for _ in 0..300 {
        agent.later("start", &[("argv", argv(&["/bin/echo", "hi"]))]);
    }

    assert!(agent.rss_kib() < 5 << 10, "{} KiB", agent.rss_kib());
    wait_until(|| agent.open_files() < 12);
}

#[test]
fn a_slow_reader_that_leaves_lets_the_process_go_on() {
    let agent = Agent::start();
    let done = agent.file("done");
    let script = format!("head -c 5000000 /dev/zero; touch {}", done);
    let limit = [("journal_bytes", Value::Int(1 << 20))];
    let id = start_detached(&agent, &format!("sleep 0.1; {}", script), &limit);
    let mut reader = attach(&agent, id, &[("since", Value::Int(0))]);
    reader.receive_event("attached");
    thread::sleep(Duration::from_millis(400));
    assert!(!support::exists(&done));

    reader.close();

    wait_until(|| support::exists(&done));
}

/// Takes a minute: `cargo test -- --ignored`.
#[test]
#[ignore]
fn a_reader_that_takes_nothing_is_let_go() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let fields = [("argv", argv(&["yes"])), ("journal_bytes", Value::Int(1 << 20))];
    client.send_later("start", &fields);
    let id = int(&client.receive_event("started"), "process");
    thread::sleep(Duration::from_secs(63));

    wait_until(|| int(&process(&agent, id), "position") > 20 << 20);

    let followed = client.follow();
    assert_eq!(text(followed.last(), "code"), "slow");
    assert_eq!((followed.events.len(), followed.starts[0]), (1, Some(0)));
}

// SPDX-License-Identifier: Apache-2.0
//! Processes at a terminal.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use atoll_agent::frame::Kind;
use atoll_agent::msgpack::Value;
use support::{field, int, is_root, str, wait_until, Agent, Client};

fn size(rows: i64, cols: i64) -> Value {
    Value::Map(vec![("rows".to_owned(), Value::Int(rows)), ("cols".to_owned(), Value::Int(cols))])
}

fn start(agent: &Agent, script: &str, fields: &[(&str, Value)]) -> (Client, i64) {
    let mut all = vec![("shell", str(script)), ("pty", size(24, 80))];
    all.extend_from_slice(fields);
    let mut client = agent.connect();
    client.send_later("start", &all);
    let id = int(&client.receive_event("started"), "process");
    (client, id)
}

/// Reads until the output so far ends with `end`.
fn read_to(client: &mut Client, end: &str) -> String {
    let mut output = String::new();
    while !output.ends_with(end) {
        let (kind, _, payload) = client.receive().expect("a frame");
        assert_eq!(kind, Kind::Stdout, "{:?} after {:?}", payload, output);
        output.push_str(std::str::from_utf8(&payload).unwrap());
    }
    output
}

#[test]
fn a_terminal_has_its_size_and_is_the_controlling_one() {
    let agent = Agent::start();

    let (client, _) = start(&agent, "stty size; tty; echo $TERM; echo err >&2; ls -l /dev/tty >/dev/null && true </dev/tty && echo own", &[]);

    let answer = client.finish();
    let output = answer.output();
    let lines: Vec<&str> = output.split("\r\n").collect();
    assert_eq!((lines[0], lines[2], lines[3], lines[4]), ("24 80", "xterm-256color", "err", "own"));
    assert!(lines[1].starts_with("/dev/pts/"));
    assert_eq!((answer.int("code"), answer.stderr.len()), (Some(0), 0));
}

#[test]
fn a_new_size_is_told_to_the_foreground() {
    let agent = Agent::start();
    let script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.02; done";
    let (mut client, id) = start(&agent, script, &[]);
    read_to(&mut client, "ready\r\n");

    let fields =
        |rows| [("process", Value::Int(id)), ("rows", Value::Int(rows)), ("cols", Value::Int(132))];
    assert_eq!(agent.later("resize", &fields(0)).code(), "invalid");
    assert_eq!(agent.later("resize", &fields(50)).code(), "");

    assert_eq!(client.follow().stdout, b"50 132\r\n");
    let listed = agent.later("processes", &[("process", Value::Int(id))]);
    let pty = match field(&listed.events[0], "processes") {
        Value::Array(items) => field(&items[0], "pty").clone(),
        other => panic!("{:?}", other),
    };
    assert_eq!(pty, size(50, 132));
    assert_eq!(agent.later("resize", &fields(50)).code(), "not_found");
    let plain = agent.later("start", &[("shell", str("true"))]).process();
    let fields = [("process", Value::Int(plain)), ("rows", Value::Int(1)), ("cols", Value::Int(1))];
    assert_eq!(agent.later("resize", &fields).code(), "invalid");
}

#[test]
fn control_c_ends_the_foreground_and_not_the_shell() {
    let agent = Agent::start();
    let script = "trap 'echo still here' INT; sh -c 'echo ready; exec sleep 100'; echo status $?";
    let (mut client, _) = start(&agent, script, &[]);
    read_to(&mut client, "ready\r\n");

    client.send_data(Kind::Stdin, b"\x03").unwrap();

    assert!(read_to(&mut client, "130\r\n").ends_with("still here\r\nstatus 130\r\n"));
}

#[test]
fn an_empty_frame_is_control_d_and_more_may_follow() {
    let agent = Agent::start();
    let (mut client, _) = start(&agent, "stty -echo; echo ready; cat; echo between; cat", &[]);
    read_to(&mut client, "ready\r\n");

    client.send_data(Kind::Stdin, b"a\n").unwrap();
    client.send_data(Kind::Stdin, b"").unwrap();
    read_to(&mut client, "a\r\nbetween\r\n");
    client.send_data(Kind::Stdin, b"b\n").unwrap();
    client.send_data(Kind::Stdin, b"").unwrap();

    let answer = client.follow();
    assert_eq!((answer.stdout, int(answer.events.last().unwrap(), "code")), (b"b\r\n".to_vec(), 0));
}

#[test]
fn a_terminal_outlives_its_client_and_takes_input_from_others() {
    let agent = Agent::start();
    let (client, id) = start(&agent, "stty -echo; echo ready; read line; echo got $line", &[]);
    client.close();
    let mut reader = agent.connect();
    reader.send_later("attach", &[("process", Value::Int(id)), ("since", Value::Int(0))]);
    reader.receive_event("attached");
    read_to(&mut reader, "ready\r\n");

    let mut writer = agent.connect();
    writer.send_later("stdin", &[("process", Value::Int(id))]);
    writer.receive_event("ready");
    writer.send_data(Kind::Stdin, b"it\n").unwrap();
    writer.stream.shutdown(std::net::Shutdown::Write).unwrap();

    assert_eq!(writer.finish().int("bytes"), Some(3));
    assert_eq!(read_to(&mut reader, "it\r\n"), "got it\r\n");
}

#[test]
fn all_that_was_written_before_the_end_arrives() {
    let agent = Agent::start();
    for _ in 0..20 {
        let (client, _) = start(&agent, "seq 1 2000", &[]);
        let answer = client.finish();
        let expected: String = (1..=2000).map(|number| format!("{}\r\n", number)).collect();
        assert_eq!(answer.output(), expected);
    }
    wait_until(|| agent.open_files() < 12);
}

#[test]
fn the_terminal_belongs_to_the_user() {
    if !is_root() {
        return;
    }
    let agent = Agent::start();

    let (client, _) = start(&agent, "stat -c '%U %a' $(tty)", &[("user", str("nobody"))]);

    assert_eq!(client.finish().output(), "nobody 620\r\n");
}

#[test]
fn broken_sizes_are_refused() {
    let agent = Agent::start();
    for pty in [size(0, 80), size(24, 65_536), Value::Map(Vec::new()), Value::Int(1)] {
        let answer = agent.later("start", &[("shell", str("true")), ("pty", pty)]);
        assert_eq!(answer.code(), "invalid");
    }
}

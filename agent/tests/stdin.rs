// SPDX-License-Identifier: Apache-2.0
//! Input for a process from connections other than the one that started it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use atoll_agent::frame::Kind;
use atoll_agent::msgpack::Value;
use support::{argv, int, str, wait_until, Agent, Client};

fn start(agent: &Agent, script: &str, keeps: bool) -> (Client, i64) {
    let mut client = agent.connect();
    let fields =
        [("shell", str(script)), ("stdin", Value::Bool(true)), ("keep_stdin", Value::Bool(keeps))];
    client.send_later("start", &fields);
    let id = int(&client.receive_event("started"), "process");
    (client, id)
}

fn feed(agent: &Agent, id: i64) -> Client {
    let mut client = agent.connect();
    client.send_later("stdin", &[("process", Value::Int(id))]);
    client.receive_event("ready");
    client
}

fn refusal(agent: &Agent, id: i64) -> String {
    agent.later("stdin", &[("process", Value::Int(id))]).code().to_owned()
}

#[test]
fn input_comes_from_one_connection_after_the_other() {
    let agent = Agent::start();
    let (client, id) = start(&agent, "cat", true);

    for text in ["one ", "two "] {
        let mut writer = feed(&agent, id);
        writer.send_data(Kind::Stdin, text.as_bytes()).unwrap();
        writer.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(writer.finish().int("bytes"), Some(4));
    }
    let mut writer = feed(&agent, id);
    writer.send_data(Kind::Stdin, b"three").unwrap();
    writer.send_data(Kind::Stdin, b"").unwrap();
    assert_eq!(writer.finish().int("bytes"), Some(5));

    assert_eq!(client.finish().output(), "one two three");
}

#[test]
fn kept_input_outlives_the_client_that_started_the_process() {
    let agent = Agent::start();
    let (client, id) = start(&agent, "read line; echo got $line", true);
    client.close();
    thread::sleep(Duration::from_millis(50));

    let mut writer = feed(&agent, id);
    writer.send_data(Kind::Stdin, b"it\n").unwrap();
    writer.send_data(Kind::Stdin, b"").unwrap();
    assert_eq!(writer.finish().int("bytes"), Some(3));

    let mut reader = agent.connect();
    reader.send_later("attach", &[("process", Value::Int(id)), ("since", Value::Int(0))]);
    assert_eq!(reader.follow().stdout, b"got it\n");
}

#[test]
fn input_that_is_not_kept_ends_with_its_client() {
    let agent = Agent::start();
    let (client, id) = start(&agent, "cat; echo end; sleep 100", false);

    client.close();

    wait_until(|| refusal(&agent, id) == "stdin_closed");
    let mut reader = agent.connect();
    reader.send_later("attach", &[("process", Value::Int(id)), ("since", Value::Int(0))]);
    reader.receive_event("attached");
    assert_eq!(reader.receive().unwrap().2, b"end\n");
}

#[test]
fn input_is_refused_where_there_is_none() {
    let agent = Agent::start();
    let without = agent.later("start", &[("argv", argv(&["true"]))]).process();
    assert_eq!(refusal(&agent, without), "stdin_closed");
    assert_eq!(refusal(&agent, 99), "not_found");

    let (client, id) = start(&agent, "cat", true);
    let mut writer = feed(&agent, id);
    writer.send_data(Kind::Stdin, b"").unwrap();
    assert_eq!(writer.finish().int("bytes"), Some(0));
    assert_eq!(client.finish().int("code"), Some(0));
    assert_eq!(refusal(&agent, id), "stdin_closed");
}

#[test]
fn a_process_that_ends_refuses_a_waiting_writer() {
    let agent = Agent::start();
    let (client, id) = start(&agent, "sleep 0.2", true);
    let idle = feed(&agent, id);
    // More than a pipe holds: it waits in the middle of a frame.
    let mut busy = feed(&agent, id);
    busy.send_data(Kind::Stdin, &[0; 200_000]).unwrap();

    assert_eq!(client.finish().int("code"), Some(0));
    assert_eq!(idle.finish().code(), "stdin_closed");
    assert_eq!(busy.finish().code(), "stdin_closed");
}

#[test]
fn frames_of_two_connections_are_never_mixed() {
    let agent = Agent::start();
    let (client, id) = start(&agent, "sleep 0.1; cat", true);
    let writers: Vec<_> = [b'a', b'b', b'c']
        .iter()
        .map(|byte| {
            let mut writer = feed(&agent, id);
            let frame = vec![*byte; 100_000];
            thread::spawn(move || {
                for _ in 0..20 {
                    writer.send_data(Kind::Stdin, &frame).unwrap();
                }
                writer.stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!(writer.finish().int("bytes"), Some(2_000_000));
            })
        })
        .collect();
    let reader = thread::spawn(move || client.finish());
    for writer in writers {
        writer.join().unwrap();
    }
    let mut end = feed(&agent, id);
    end.send_data(Kind::Stdin, b"").unwrap();

    let output = reader.join().unwrap().stdout;

    assert_eq!(output.len(), 6_000_000);
    assert!(output.chunks(100_000).all(|frame| frame.iter().all(|byte| *byte == frame[0])));
}

#[test]
fn a_hundred_megabytes_go_in_while_as_many_come_out() {
    let agent = Agent::start();
    let (client, id) = start(&agent, "cat", true);
    let mut writer = feed(&agent, id);
    let sender = thread::spawn(move || {
        for _ in 0..500 {
            writer.send_data(Kind::Stdin, &[7; 200_000]).unwrap();
        }
        writer.send_data(Kind::Stdin, b"").unwrap();
        assert_eq!(writer.finish().int("bytes"), Some(100_000_000));
    });

    let answer = client.finish();

    sender.join().unwrap();
    assert_eq!((answer.stdout.len(), answer.int("code")), (100_000_000, Some(0)));
}

#[test]
fn an_offset_that_does_not_follow_is_refused() {
    let agent = Agent::start();
    let (_client, id) = start(&agent, "cat", true);
    let mut writer = feed(&agent, id);
    let mut bytes = Vec::new();
    atoll_agent::frame::push_frame(&mut bytes, Kind::Stdin, 5, b"x");
    std::io::Write::write_all(&mut writer.stream, &bytes).unwrap();

    assert_eq!(writer.finish().code(), "invalid");
}

// SPDX-License-Identifier: Apache-2.0
//! Bytes to and from processes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use atoll_agent::frame::Kind;
use atoll_agent::msgpack::Value;
use support::{argv, int, runs, str, unique_sleep, wait_until, Agent, Client};

fn start_with_stdin(agent: &Agent, program: &[&str]) -> Client {
    let mut client = agent.connect();
    client.send_request("start", &[("argv", argv(program)), ("stdin", Value::Bool(true))]);
    client
}

#[test]
fn without_stdin_a_process_reads_the_end_of_file_at_once() {
    let agent = Agent::start();

    let answer = agent.request("start", &[("argv", argv(&["cat"]))]);

    assert_eq!((answer.int("code"), answer.stdout.len()), (Some(0), 0));
}

#[test]
fn hundred_megabytes_through_stdin_come_back() {
    let agent = Agent::start();
    let mut client = start_with_stdin(&agent, &["cat"]);
    client.receive_event("started");
    let mut reader = client.stream.try_clone().unwrap();
    let piece: Vec<u8> = (0..200_000u32).map(|number| number.to_le_bytes()[0]).collect();

    let sent_piece = piece.clone();
    let writer = thread::spawn(move || {
        for _ in 0..500 {
            client.send_data(Kind::Stdin, &sent_piece).unwrap();
        }
        client.send_data(Kind::Stdin, b"").unwrap();
        client
    });
    let mut received = 0;
    while received < 500 * piece.len() {
        received += receive_and_compare(&mut reader, &piece, received);
    }

    let answer = writer.join().unwrap().finish();
    assert_eq!((answer.int("code"), answer.int("stdout_bytes")), (Some(0), Some(100_000_000)));
}

fn receive_and_compare(
    stream: &mut std::os::unix::net::UnixStream,
    piece: &[u8],
    position: usize,
) -> usize {
    use atoll_agent::frame::{Header, HEADER_BYTES};
    use std::io::Read;
    let mut head = [0; HEADER_BYTES];
    stream.read_exact(&mut head).unwrap();
    let header = Header::decode(&head).unwrap();
    let mut payload = vec![0; header.length];
    stream.read_exact(&mut payload).unwrap();
    assert_eq!(header.offset, position as u64);
    let expected = |index: usize| piece[(position + index) % piece.len()];
    assert!(payload.iter().enumerate().all(|(index, byte)| *byte == expected(index)));
    payload.len()
}

#[test]
fn stdin_after_the_process_closed_it_is_discarded() {
    let agent = Agent::start();
    let mut client = start_with_stdin(&agent, &["sh", "-c", "exec <&-; sleep 0.3; echo end"]);
    client.receive_event("started");
    thread::sleep(Duration::from_millis(50));

    for _ in 0..40 {
        client.send_data(Kind::Stdin, &[0; 100_000]).unwrap();
    }

    assert_eq!(client.finish().output(), "end\n");
}

#[test]
fn process_may_end_without_reading_its_stdin() {
    let agent = Agent::start();
    let mut client = start_with_stdin(&agent, &["sh", "-c", "sleep 0.1; exit 6"]);
    client.receive_event("started");

    // More than pipe and socket hold; the agent ends meanwhile, so sending may fail.
    while client.send_data(Kind::Stdin, &[0; 200_000]).is_ok() {}

    assert_eq!(client.finish().int("code"), Some(6));
}

#[test]
fn half_closed_connection_ends_stdin_and_still_gets_the_output() {
    let agent = Agent::start();
    let mut client = start_with_stdin(&agent, &["cat"]);
    client.receive_event("started");
    client.send_data(Kind::Stdin, b"some").unwrap();

    client.stream.shutdown(Shutdown::Write).unwrap();

    assert_eq!(client.finish().output(), "some");
}

#[test]
fn gigabyte_of_output_passes_in_flat_memory() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let text = "head -c 1000000000 /dev/zero";
    client.send_request("start", &[("argv", argv(&["sh", "-c", text]))]);
    client.receive_event("started");
    let (mut received, mut peak) = (0, 0);

    while let Some((Kind::Stdout, offset, payload)) = client.receive() {
        assert_eq!(offset, received);
        received += payload.len() as u64;
        if received % 50 == 0 {
            peak = agent.rss_kib().max(peak);
        }
    }

    assert_eq!(received, 1_000_000_000);
    assert!(peak < 8 << 10, "{} KiB", peak);
}

#[test]
fn slow_client_slows_the_process_in_flat_memory() {
    let agent = Agent::start();
    let mut client = agent.connect();
    client.send_request("start", &[("argv", argv(&["yes"])), ("timeout_ms", Value::Int(400))]);
    client.receive_event("started");

    thread::sleep(Duration::from_millis(600));

    assert!(agent.rss_kib() < 8 << 10);
    let answer = client.finish();
    assert!(answer.stdout.len() < 4 << 20);
    assert_eq!(answer.int("stdout_bytes"), Some(i64::try_from(answer.stdout.len()).unwrap()));
}

#[test]
fn descendant_that_holds_the_pipe_does_not_hold_the_answer() {
    let agent = Agent::start();
    let done = agent.file("done");
    let begun = Instant::now();

    // It writes far more than a pipe holds after its parent has ended, and must not be broken.
    let text = format!("(sleep 0.2; head -c 3000000 /dev/zero; touch {}) & echo first", done);
    let answer = agent.shell(&text);

    assert_eq!(answer.output(), "first\n");
    assert!(begun.elapsed() < Duration::from_millis(190));
    wait_until(|| support::exists(&done));
}

#[test]
fn process_goes_on_when_its_client_vanishes() {
    let agent = Agent::start();
    let done = agent.file("done");
    let mut client = agent.connect();
    let text = format!("sleep 0.1; head -c 3000000 /dev/zero; touch {}", done);
    client.send_request("start", &[("shell", str(&text))]);
    client.receive_event("started");

    client.close();

    wait_until(|| support::exists(&done));
}

#[test]
fn closed_output_does_not_end_the_process() {
    let agent = Agent::start();

    let answer = agent.shell("echo out; exec >&- 2>&-; sleep 0.1; exit 9");

    assert_eq!((answer.output().as_str(), answer.int("code")), ("out\n", Some(9)));
}

#[test]
fn both_streams_are_whole_and_apart() {
    let agent = Agent::start();

    let answer =
        agent.shell("i=0; while [ $i -lt 200 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done");

    let expected = |mark: char| (0..200).map(|n| format!("{}{}\n", mark, n)).collect::<String>();
    assert_eq!(answer.output(), expected('o'));
    assert_eq!(answer.stderr, expected('e').into_bytes());
}

#[test]
fn client_that_never_reads_costs_one_thread_and_little_memory() {
    let agent = Agent::start();
    let mark = unique_sleep();
    let mut silent = agent.connect();
    let text = format!("yes & sleep {}", mark);
    silent.send_request("start", &[("shell", str(&text))]);

    thread::sleep(Duration::from_millis(300));

    assert!(runs(&mark));
    assert!(agent.rss_kib() < 8 << 10);
    assert_eq!(agent.shell("echo fine").output(), "fine\n");
    let started = silent.receive_event("started");
    let kill = [
        ("process", Value::Int(int(&started, "process"))),
        ("signal", Value::Int(9)),
        ("tree", Value::Bool(true)),
    ];
    agent.request("signal", &kill);
    wait_until(|| !runs(&mark));
}

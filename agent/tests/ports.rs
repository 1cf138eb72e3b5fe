// SPDX-License-Identifier: Apache-2.0
//! Connections to ports: bytes both ways, each end on its own, refusals, and what listens.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use atoll_agent::msgpack::Value;
use support::{field, int, text, wait_until, Agent, PATIENCE};

#[test]
fn bytes_pass_both_ways_as_they_are() {
    let agent = Agent::start();
    let (listener, port) = listen("127.0.0.1:0");
    let echo = thread::spawn(move || {
        let mut stream = accept(&listener);
        let mut received = vec![0; 256];
        stream.read_exact(&mut received).unwrap();
        stream.write_all(&received).unwrap();
    });
    let every_byte: Vec<u8> = (0..=255).collect();

    let (mut stream, address) = dial(&agent, port);
    stream.write_all(&every_byte).unwrap();

    assert_eq!(read_all(&mut stream), every_byte);
    assert_eq!(address, "127.0.0.1");
    echo.join().unwrap();
}

#[test]
fn what_is_sent_with_the_request_is_not_lost() {
    let agent = Agent::start();
    let (listener, port) = listen("127.0.0.1:0");
    let mut client = agent.connect();
    client.send_newest("dial", &[("port", Value::Int(port))]);
    client.stream.write_all(b"early").unwrap();

    let mut program = accept(&listener);
    client.receive_event("connected");
    client.stream.write_all(b" and late").unwrap();
    client.stream.shutdown(Shutdown::Write).unwrap();

    assert_eq!(read_all(&mut program), b"early and late");
}

#[test]
fn each_end_may_stop_sending_and_go_on_reading() {
    let agent = Agent::start();
    let (listener, port) = listen("127.0.0.1:0");
    let (mut stream, _) = dial(&agent, port);
    let mut program = accept(&listener);

    stream.write_all(b"question").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut program), b"question");
    program.write_all(b"answer").unwrap();
    drop(program);

    assert_eq!(read_all(&mut stream), b"answer");
}

#[test]
fn program_that_stops_sending_still_reads() {
    let agent = Agent::start();
    let (listener, port) = listen("127.0.0.1:0");
    let (mut stream, _) = dial(&agent, port);
    let mut program = accept(&listener);

    program.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream), b"");
    stream.write_all(b"still heard").unwrap();
    drop(stream);

    assert_eq!(read_all(&mut program), b"still heard");
}

#[test]
fn client_that_leaves_ends_the_connection() {
    let agent = Agent::start();
    let (listener, port) = listen("127.0.0.1:0");
    let before = agent.open_files();
    let (mut stream, _) = dial(&agent, port);
    let mut program = accept(&listener);
    stream.write_all(b"last words").unwrap();

    drop(stream);

    assert_eq!(read_all(&mut program), b"last words");
    // The epoll stays.
    wait_until(|| agent.open_files() <= before + 1);
}

#[test]
fn program_that_breaks_off_ends_the_connection() {
    let agent = Agent::start();
    let (listener, port) = listen("127.0.0.1:0");
    let (mut stream, _) = dial(&agent, port);
    let program = accept(&listener);
    stream.write_all(b"never read").unwrap();
    wait_until(|| program.peek(&mut [0]).is_ok());

    // With unread bytes in it the kernel resets the connection.
    drop(program);

    assert_eq!(read_all(&mut stream), b"");
    wait_until(|| (&stream).write_all(b"x").is_err());
}

#[test]
fn large_streams_pass_both_ways_at_once_in_little_memory() {
    const BYTES: usize = 64 << 20;
    let agent = Agent::start();
    let (listener, port) = listen("127.0.0.1:0");
    let echo = thread::spawn(move || {
        let mut program = accept(&listener);
        let mut back = program.try_clone().unwrap();
        std::io::copy(&mut program, &mut back).unwrap();
        back.shutdown(Shutdown::Write).unwrap();
    });
    let (mut stream, _) = dial(&agent, port);
    let before = agent.rss_kib();

    let mut sender = stream.try_clone().unwrap();
    let sending = thread::spawn(move || {
        let piece: Vec<u8> = (0..1 << 20).map(|at: usize| (at % 251) as u8).collect();
        (0..BYTES / piece.len()).for_each(|_| sender.write_all(&piece).unwrap());
        sender.shutdown(Shutdown::Write).unwrap();
    });
    let received = read_all(&mut stream);

    assert_eq!(received.len(), BYTES);
    let is_whole = |(at, byte): (usize, &u8)| *byte == ((at % (1 << 20)) % 251) as u8;
    assert!(received.iter().enumerate().all(is_whole));
    assert!(agent.rss_kib() < before + 2048, "{} KiB", agent.rss_kib());
    // And soon in none.
    wait_until(|| agent.rss_kib() < before + 256);
    sending.join().unwrap();
    echo.join().unwrap();
}

#[test]
fn program_that_does_not_read_slows_its_client_alone() {
    let agent = Agent::start();
    let (listener, port) = listen("127.0.0.1:0");
    let (mut slow, _) = dial(&agent, port);
    let slow_program = accept(&listener);
    let (mut quick, _) = dial(&agent, port);
    let mut quick_program = accept(&listener);

    slow.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    while slow.write_all(&[7; 65_536]).is_ok() {}
    quick.write_all(b"passes").unwrap();
    quick.shutdown(Shutdown::Write).unwrap();

    assert_eq!(read_all(&mut quick_program), b"passes");
    drop((slow, slow_program));
}

#[test]
fn port_where_nothing_listens_is_refused() {
    let agent = Agent::start();
    let (listener, port) = listen("127.0.0.1:0");
    drop(listener);

    let answer = agent.newest("dial", &[("port", Value::Int(port))]);

    assert_eq!(answer.code(), "refused");
    assert_eq!(text(answer.last(), "message"), "nothing listens on the port");
}

#[test]
fn malformed_port_is_invalid() {
    let agent = Agent::start();

    for port in [Value::Int(0), Value::Int(65_536), Value::Int(-1), support::str("80"), Value::Nil]
    {
        let answer = agent.newest("dial", &[("port", port.clone())]);
        assert_eq!(answer.code(), "invalid", "{:?}", port);
    }
}

#[test]
fn every_local_address_is_found() {
    let agent = Agent::start();
    for bound in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0", "127.9.8.7:0"] {
        let (listener, port) = listen(bound);

        let (mut stream, address) = dial(&agent, port);
        stream.write_all(b"!").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();

        assert_eq!(read_all(&mut accept(&listener)), b"!", "{}", bound);
        let bound: SocketAddr = bound.parse().unwrap();
        assert!(bound.ip().is_unspecified() || bound.ip().to_string() == address);
    }
}

#[test]
fn many_connections_cost_no_thread_each() {
    let agent = Agent::start();
    let (listener, port) = listen("127.0.0.1:0");
    let links: Vec<_> = (0..200).map(|_| (dial(&agent, port).0, accept(&listener))).collect();

    let threads = std::fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap().count();
    for (stream, program) in links {
        let (mut stream, mut program) = (stream, program);
        program.write_all(b"alive").unwrap();
        drop(program);
        assert_eq!(read_all(&mut stream), b"alive");
    }

    assert!(threads < 12, "{} threads", threads);
}

#[test]
fn what_listens_is_listed_with_its_owner() {
    let agent = Agent::start();
    let (_listener, port) = listen("127.0.0.1:0");

    let answer = agent.newest("ports", &[("port", Value::Int(port))]);

    let found = ports(&answer.events[0]);
    assert_eq!(found.len(), 1);
    assert_eq!((int(&found[0], "port"), text(&found[0], "address")), (port, "127.0.0.1"));
    assert_eq!(int(&found[0], "pid"), i64::from(std::process::id()));
    assert!(text(&found[0], "command").contains("ports"));
    let all = agent.newest("ports", &[]);
    let listed = all.events.iter().filter(|event| text(event, "event") == "ports");
    assert!(listed.flat_map(ports).any(|one| int(&one, "port") == port));
}

#[test]
fn waiting_for_a_port_ends_when_it_listens() {
    let agent = Agent::start();
    let (listener, port) = listen("127.0.0.1:0");
    drop(listener);
    let mut client = agent.connect();
    client.send_newest("ports", &[("port", Value::Int(port)), ("wait_ms", Value::Int(20_000))]);

    let _listener = TcpListener::bind(("127.0.0.1", u16::try_from(port).unwrap())).unwrap();

    let answer = client.finish();
    assert_eq!(ports(&answer.events[0]).len(), 1);
}

#[test]
fn waiting_in_vain_ends_with_nothing() {
    let agent = Agent::start();
    let (listener, port) = listen("127.0.0.1:0");
    drop(listener);

    let fields = [("port", Value::Int(port)), ("wait_ms", Value::Int(30))];
    let answer = agent.newest("ports", &fields);

    assert_eq!(answer.events.len(), 1);
    assert_eq!(answer.code(), "");
    let too_long = agent.newest("ports", &[("wait_ms", Value::Int(60_001))]);
    assert_eq!(too_long.code(), "limit");
}

#[test]
fn older_generations_know_no_ports() {
    let agent = Agent::start();

    for op in ["dial", "ports"] {
        assert_eq!(agent.latest(op, &[("port", Value::Int(80))]).code(), "unsupported");
        assert_eq!(agent.request(op, &[("port", Value::Int(80))]).code(), "unsupported");
    }
}

fn listen(address: &str) -> (TcpListener, i64) {
    let listener = TcpListener::bind(address).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, i64::from(port))
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A connection, and the address at which it was taken.
fn dial(agent: &Agent, port: i64) -> (UnixStream, String) {
    let mut client = agent.connect();
    client.send_newest("dial", &[("port", Value::Int(port))]);
    let connected = client.receive_event("connected");
    (client.stream, text(&connected, "address").to_owned())
}

/// To the end; a connection that was reset has ended, too.
fn read_all(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    bytes
}

fn ports(event: &Value) -> Vec<Value> {
    match field(event, "ports") {
        Value::Array(items) => items.clone(),
        other => panic!("{:?}", other),
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Clients that break the protocol. The agent must refuse, live on, and stay small.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use atoll_agent::frame::{push_frame, Kind};
use atoll_agent::msgpack::{decode, Encoder, Value};
use support::{argv, field, str, text, Agent, Client};

/// The code of the error that raw bytes are answered with; empty if there is none.
fn code_for(agent: &Agent, bytes: &[u8]) -> String {
    let mut client = agent.connect();
    // The agent may close before it has taken everything.
    let _ = client.stream.write_all(bytes);
    let _ = client.stream.shutdown(std::net::Shutdown::Write);
    last_code(client)
}

fn last_code(mut client: Client) -> String {
    let mut code = String::new();
    while let Some((kind, _, payload)) = client.receive() {
        let value = decode(&payload).ok().filter(|_| kind == Kind::Control);
        if let Some(value) = value.filter(|value| text(value, "event") == "error") {
            code = text(&value, "code").to_owned();
        }
    }
    code
}

fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_frame(&mut bytes, kind, 0, payload);
    bytes
}

fn request(pairs: &[(&str, Value)]) -> Vec<u8> {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let mut encoder = Encoder::default();
    encoder.value(&Value::Map(pairs));
    frame(Kind::Control, &encoder.bytes)
}

#[test]
fn broken_requests_are_answered_with_their_code() {
    let agent = Agent::start();
    let one = ("generation", Value::Int(1));
    let cases = [
        (frame(Kind::Stdout, b"x"), "invalid"),
        (frame(Kind::Control, b""), "invalid"),
        (frame(Kind::Control, b"\xc0"), "invalid"),
        (b"\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(), "limit"),
        (b"\0\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0".to_vec(), "invalid"),
        (request(std::slice::from_ref(&one)), "invalid"),
        (request(&[("op", Value::Int(1)), one.clone()]), "invalid"),
        (request(&[("op", str("fly")), one.clone()]), "unsupported"),
        (request(&[("op", str("stat")), ("path", str("/"))]), "invalid"),
        (
            request(&[("op", str("stat")), ("path", str("/")), ("generation", Value::Int(5))]),
            "generation",
        ),
        (request(&[("op", str("stat")), ("path", Value::Int(7)), one.clone()]), "invalid"),
        (request(&[("op", str("start")), one.clone()]), "invalid"),
        (request(&[("op", str("start")), ("argv", argv(&["a\0b"])), one.clone()]), "invalid"),
        (
            request(&[
                ("op", str("start")),
                ("argv", argv(&["true"])),
                ("timeout_ms", Value::Int(-1)),
                one,
            ]),
            "invalid",
        ),
    ];

    for (bytes, code) in cases {
        assert_eq!(code_for(&agent, &bytes), code, "{:?}", &bytes[..bytes.len().min(80)]);
    }
}

#[test]
fn hello_is_answered_whatever_generation_the_client_speaks() {
    let agent = Agent::start();

    for generation in [1, 2, 3, 4, 1000] {
        let mut client = agent.connect();
        let bytes = request(&[("op", str("hello")), ("generation", Value::Int(generation))]);
        client.stream.write_all(&bytes).unwrap();
        assert_eq!(client.finish().int("generation"), Some(4));
    }
}

#[test]
fn deep_nesting_is_refused() {
    let agent = Agent::start();
    let mut payload = b"\x81\xa1a".to_vec();
    payload.resize(1_000_000, 0x91);

    assert_eq!(code_for(&agent, &frame(Kind::Control, &payload)), "limit");
}

#[test]
fn many_values_are_refused_in_small_memory() {
    let agent = Agent::start();
    let mut payload = b"\x81\xa1a\xdd\x00\x0f\xff\x00".to_vec();
    payload.resize(1 << 20, 0xc0);

    for _ in 0..20 {
        assert_eq!(code_for(&agent, &frame(Kind::Control, &payload)), "limit");
    }

    assert!(agent.rss_kib() < 12 << 10);
}

#[test]
fn half_a_frame_then_silence_costs_little() {
    let agent = Agent::start();
    let mut silent: Vec<Client> = (0..100).map(|_| agent.connect()).collect();

    for client in &mut silent {
        client.stream.write_all(b"\0\x10\0\0\0\0\0\0").unwrap();
    }
    std::thread::sleep(Duration::from_millis(100));

    assert_eq!(agent.shell("echo fine").output(), "fine\n");
    assert!(agent.rss_kib() < 12 << 10, "{}", agent.rss_kib());
}

#[test]
fn frames_out_of_place_end_the_conversation_and_not_the_process() {
    let agent = Agent::start();
    let done = agent.file("done");
    let start = || {
        let mut client = agent.connect();
        let text = format!("sleep 0.2; touch {}", done);
        client.send_request("start", &[("shell", str(&text)), ("stdin", Value::Bool(true))]);
        client
    };
    let wrong_offset = {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, Kind::Stdin, 5, b"x");
        bytes
    };

    for bytes in [frame(Kind::Content, b"x"), frame(Kind::Stdout, b"x"), wrong_offset] {
        let mut client = start();
        client.stream.write_all(&bytes).unwrap();
        assert_eq!(last_code(client), "invalid");
    }
    support::wait_until(|| support::exists(&done));
}

#[test]
fn content_out_of_order_is_refused() {
    let agent = Agent::start();
    let path = agent.file("a");
    let mut client = agent.connect();
    client.send_request("write", &[("path", str(&path))]);
    client.receive_event("ready");
    let mut bytes = Vec::new();
    push_frame(&mut bytes, Kind::Content, 1, b"x");

    client.stream.write_all(&bytes).unwrap();

    assert_eq!(last_code(client), "invalid");
    assert!(!support::exists(&path));
}

#[test]
fn random_bytes_never_end_the_agent() {
    let agent = Agent::start();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let good = request(&[("op", str("hello")), ("generation", Value::Int(1))]);

    for round in 0..3000 {
        let mut bytes = good.clone();
        if round % 3 == 0 {
            bytes = (0..random.below(300)).map(|_| random.byte()).collect();
        } else {
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] = random.byte();
            }
        }
        let mut client = agent.connect();
        let _ = client.stream.write_all(&bytes);
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        let _ = client.stream.read_to_end(&mut Vec::new());
    }

    assert_eq!(agent.request("hello", &[]).code(), "");
    assert!(agent.rss_kib() < 8 << 10);
}

#[test]
fn random_payloads_are_decoded_or_refused() {
    let mut random = Random(42);

    for _ in 0..200_000 {
        let payload: Vec<u8> = (0..random.below(40)).map(|_| random.byte()).collect();
        if let Ok(value) = decode(&payload) {
            let mut encoder = Encoder::default();
            encoder.value(&value);
            assert_eq!(decode(&encoder.bytes), Ok(value));
        }
    }
}

#[test]
fn errors_carry_the_system_error_number() {
    let agent = Agent::start();

    let answer = agent.request("stat", &[("path", str("/no/such/file"))]);

    assert_eq!((answer.code(), answer.int("errno")), ("not_found", Some(2)));
    assert_eq!(field(answer.last(), "message"), &str("No such file or directory"));
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

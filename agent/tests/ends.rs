// SPDX-License-Identifier: Apache-2.0
//! Who listens is told of every process that ends, once and in order.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use atoll_agent::msgpack::Value;
use support::{field, int, str, text, Agent, Client};

fn listen(agent: &Agent) -> Client {
    let mut client = agent.connect();
    client.send_later("ends", &[]);
    client.receive_event("listening");
    client
}

/// The next processes that have ended, so many of them.
fn ended(client: &mut Client, count: usize) -> Vec<Value> {
    let mut all = Vec::new();
    while all.len() < count {
        match field(&client.receive_event("processes"), "processes") {
            Value::Array(items) => all.extend(items.iter().cloned()),
            other => panic!("{:?}", other),
        }
    }
    all
}

fn start_detached(agent: &Agent, script: &str, tag: &str) {
    let fields = [("shell", str(script)), ("detach", Value::Bool(true)), ("tag", str(tag))];
    let mut client = agent.connect();
    client.send_later("start", &fields);
    client.receive_event("started");
}

#[test]
fn every_end_is_told_once_whoever_waits_for_the_process() {
    let agent = Agent::start();
    let mut client = listen(&agent);

    agent.shell("exit 3");
    start_detached(&agent, "kill -9 $$", "left");

    let told = ended(&mut client, 2);
    assert_eq!(told.len(), 2);
    assert_eq!(int(&told[0], "code"), 3);
    assert_eq!((int(&told[1], "signal"), text(&told[1], "tag")), (9, "left"));
    client.close();
}

#[test]
fn all_who_listen_are_told() {
    let agent = Agent::start();
    let (mut first, mut second) = (listen(&agent), listen(&agent));

    agent.shell("exit 4");

    assert_eq!(int(&ended(&mut first, 1)[0], "code"), 4);
    assert_eq!(int(&ended(&mut second, 1)[0], "code"), 4);
}

#[test]
fn what_ended_before_is_not_told() {
    let agent = Agent::start();
    agent.shell("exit 5");
    let mut client = listen(&agent);

    agent.shell("exit 6");

    assert_eq!(int(&ended(&mut client, 1)[0], "code"), 6);
}

#[test]
fn the_feature_is_announced() {
    let agent = Agent::start();
    let hello = agent.request("hello", &[]);
    assert_eq!(field(hello.last(), "features"), &Value::Array(vec![str("ends"), str("sockets")]));
}

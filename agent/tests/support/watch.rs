// SPDX-License-Identifier: Apache-2.0
//! A watch of a real agent, and what it tells.

use std::fs;

use atoll_agent::frame::Kind;
use atoll_agent::msgpack::Value;

use super::{field, int, str, text, Agent, Answer, Client};

/// A watch, and how far its changes have been read.
pub struct Watch<'a> {
    pub agent: &'a Agent,
    pub number: i64,
    pub root: String,
    pub last: i64,
}

impl<'a> Watch<'a> {
    pub fn start(agent: &'a Agent, root: &str, recursive: bool) -> Watch<'a> {
        let fields = [("path", str(root)), ("recursive", Value::Bool(recursive))];
        let answer = agent.latest("watch", &fields);
        assert_eq!(answer.code(), "", "{:?}", answer);
        let root = as_text(field(answer.last(), "path"));
        Watch { agent, number: answer.int("watch").unwrap(), root, last: 0 }
    }

    pub fn answer(&self, since: i64) -> Answer {
        let fields = [
            ("watch", Value::Int(self.number)),
            ("since", Value::Int(since)),
            ("follow", Value::Bool(false)),
        ];
        self.agent.latest("changes", &fields)
    }

    /// What has changed since the last time, one line a change, relative to the root.
    pub fn news(&mut self) -> Vec<String> {
        let changes = all_changes(&self.answer(self.last));
        self.last = changes.last().map_or(self.last, |change| int(change, "number"));
        changes.iter().map(|change| self.line(change)).collect()
    }

    pub fn line(&self, change: &Value) -> String {
        let path = |name| match field(change, name) {
            Value::Nil => None,
            other => Some(as_text(other).replacen(&self.root, "", 1)),
        };
        let from = path("from").map_or(String::new(), |from| format!("{} -> ", from));
        let slash = if field(change, "directory") == &Value::Bool(true) { "/" } else { "" };
        let path = path("path").unwrap_or_default();
        format!("{} {}{}{}", text(change, "kind"), from, path, slash)
    }

    pub fn follow(&self, since: i64) -> Client {
        let mut client = self.agent.connect();
        let fields = [("watch", Value::Int(self.number)), ("since", Value::Int(since))];
        client.send_latest("changes", &fields);
        client
    }

    pub fn state(&self) -> Value {
        let fields = [("watch", Value::Int(self.number))];
        let answer = self.agent.latest("watches", &fields);
        items(field(&answer.events[0], "watches"))[0].clone()
    }

    pub fn stop(&self) -> Answer {
        self.agent.latest("unwatch", &[("watch", Value::Int(self.number))])
    }
}

fn as_text(value: &Value) -> String {
    match value {
        Value::Str(text) => text.clone(),
        Value::Bin(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("no text: {:?}", other),
    }
}

pub fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        other => panic!("no array: {:?}", other),
    }
}

pub fn all_changes(answer: &Answer) -> Vec<Value> {
    let (last, batches) = answer.events.split_last().unwrap();
    assert_eq!(text(last, "event"), "done", "{:?}", last);
    batches.iter().flat_map(|batch| items(field(batch, "changes")).to_vec()).collect()
}

/// The changes of the next frame.
pub fn receive(client: &mut Client) -> Vec<Value> {
    items(field(&client.receive_event("changes"), "changes")).to_vec()
}

pub fn write(agent: &Agent, path: &str, content: &[u8]) {
    let mut client = agent.connect();
    client.send_request("write", &[("path", str(path)), ("parents", Value::Bool(true))]);
    if !content.is_empty() {
        client.send_data(Kind::Content, content).unwrap();
    }
    client.send_data(Kind::Content, b"").unwrap();
    assert_eq!(client.finish().code(), "");
}

pub fn folder(agent: &Agent, name: &str) -> String {
    let path = agent.file(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// How many watches the agent's kernel holds for it, those of directories above included.
pub fn kernel_watches(agent: &Agent) -> usize {
    let folder = format!("/proc/{}/fdinfo", agent.pid());
    let files = fs::read_dir(folder).unwrap().filter_map(|file| file.ok());
    let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    texts.map(|text| text.matches("inotify wd:").count()).sum()
}

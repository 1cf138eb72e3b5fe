// SPDX-License-Identifier: Apache-2.0
//! A real agent on a socket of its own, and a client that trusts it.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod watch;

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use atoll_agent::frame::{push_frame, Header, Kind, HEADER_BYTES};
use atoll_agent::msgpack::{decode, Encoder, Value};
use atoll_agent::sys_unsafe::{effective_uid, send_signal, SIGTERM};

pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Agent {
    child: Child,
    pub folder: PathBuf,
}

impl Agent {
    pub fn start() -> Agent {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::SeqCst);
        let name = format!("atoll-agent-test-{}-{}", std::process::id(), number);
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("files")).unwrap();
        let binary = env!("CARGO_BIN_EXE_atoll-agent");
        let socket = folder.join("socket");
        let mut command = Command::new(binary);
        command.arg("--socket").arg(&socket).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        // The agent lets go of its output once it is ready, so this ends.
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        Agent { child, folder }
    }

    pub fn connect(&self) -> Client {
        let stream = UnixStream::connect(self.folder.join("socket")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { stream, offset: 0 }
    }

    /// Sends a request and reads to its last frame.
    pub fn request(&self, op: &str, fields: &[(&str, Value)]) -> Answer {
        let mut client = self.connect();
        client.send_request(op, fields);
        client.finish()
    }

    /// The same in generation 2.
    pub fn later(&self, op: &str, fields: &[(&str, Value)]) -> Answer {
        let mut client = self.connect();
        client.send_later(op, fields);
        client.finish()
    }

    /// The same in generation 3.
    pub fn latest(&self, op: &str, fields: &[(&str, Value)]) -> Answer {
        let mut client = self.connect();
        client.send_latest(op, fields);
        client.finish()
    }

    /// The same in generation 4.
    pub fn newest(&self, op: &str, fields: &[(&str, Value)]) -> Answer {
        let mut client = self.connect();
        client.send_newest(op, fields);
        client.finish()
    }

    pub fn shell(&self, text: &str) -> Answer {
        self.request("start", &[("shell", str(text))])
    }

    /// A path in a folder that goes with the agent.
    pub fn file(&self, name: &str) -> String {
        self.folder.join("files").join(name).to_str().unwrap().to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // It may be dead already, which the test then has found out.
        let _ = send_signal(pid, SIGTERM);
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub struct Client {
    pub stream: UnixStream,
    offset: u64,
}

impl Client {
    pub fn send_request(&mut self, op: &str, fields: &[(&str, Value)]) {
        self.send_in_generation(1, op, fields);
    }

    pub fn send_later(&mut self, op: &str, fields: &[(&str, Value)]) {
        self.send_in_generation(2, op, fields);
    }

    /// The same in generation 4.
    pub fn send_newest(&mut self, op: &str, fields: &[(&str, Value)]) {
        self.send_in_generation(4, op, fields);
    }

    pub fn send_latest(&mut self, op: &str, fields: &[(&str, Value)]) {
        self.send_in_generation(3, op, fields);
    }

    fn send_in_generation(&mut self, generation: i64, op: &str, fields: &[(&str, Value)]) {
        let generation = ("generation".to_owned(), Value::Int(generation));
        let mut pairs = vec![("op".to_owned(), str(op)), generation];
        pairs.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        self.send_control(Value::Map(pairs));
    }

    pub fn send_control(&mut self, value: Value) {
        let mut encoder = Encoder::default();
        encoder.value(&value);
        let mut bytes = Vec::new();
        push_frame(&mut bytes, Kind::Control, 0, &encoder.bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    pub fn send_data(&mut self, kind: Kind, payload: &[u8]) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, kind, self.offset, payload);
        self.offset += payload.len() as u64;
        self.stream.write_all(&bytes)
    }

    pub fn receive(&mut self) -> Option<(Kind, u64, Vec<u8>)> {
        let mut head = [0; HEADER_BYTES];
        self.stream.read_exact(&mut head).ok()?;
        let header = Header::decode(&head).unwrap();
        let mut payload = vec![0; header.length];
        self.stream.read_exact(&mut payload).ok()?;
        Some((header.kind, header.offset, payload))
    }

    /// The next control frame, with nothing else before it.
    pub fn receive_event(&mut self, event: &str) -> Value {
        let (kind, _, payload) = self.receive().expect("a frame");
        let value = decode(&payload).unwrap();
        assert_eq!((kind, text(&value, "event")), (Kind::Control, event), "{:?}", value);
        value
    }

    /// Everything to the last frame.
    pub fn finish(mut self) -> Answer {
        let mut answer = Answer::default();
        loop {
            let (kind, offset, payload) = self.receive().expect("a frame");
            match kind {
                Kind::Control => {
                    let value = decode(&payload).unwrap();
                    let event = text(&value, "event").to_owned();
                    answer.events.push(value);
                    if matches!(event.as_str(), "done" | "exit" | "error") {
                        assert!(self.receive().is_none(), "a frame after the last");
                        return answer;
                    }
                }
                Kind::Stderr => answer.stderr.extend(payload),
                _ => {
                    assert_eq!(offset, answer.stdout.len() as u64);
                    answer.stdout.extend(payload);
                }
            }
        }
    }

    /// Everything to the last frame, wherever the streams begin.
    pub fn follow(mut self) -> Followed {
        let mut followed = Followed::default();
        while !followed.is_over() {
            let frame = self.receive().expect("a frame");
            followed.add(frame);
        }
        assert!(self.receive().is_none(), "a frame after the last");
        followed
    }

    pub fn close(self) {
        self.stream.shutdown(Shutdown::Both).unwrap();
    }
}

#[derive(Default, Debug)]
pub struct Answer {
    pub events: Vec<Value>,
    /// Or content.
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Answer {
    pub fn last(&self) -> &Value {
        self.events.last().unwrap()
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        match field(self.last(), name) {
            Value::Int(number) => Some(*number),
            Value::Nil => None,
            other => panic!("{} is {:?}", name, other),
        }
    }

    /// The code of an error; empty for success.
    pub fn code(&self) -> &str {
        match text(self.last(), "event") {
            "error" => text(self.last(), "code"),
            _ => "",
        }
    }

    pub fn process(&self) -> i64 {
        int(&self.events[0], "process")
    }

    pub fn output(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }
}

/// A part of the output of a process.
#[derive(Default, Debug)]
pub struct Followed {
    pub events: Vec<Value>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Where each begins, and where the next byte must be.
    pub starts: [Option<u64>; 2],
}

impl Followed {
    pub fn add(&mut self, (kind, offset, payload): (Kind, u64, Vec<u8>)) {
        let (bytes, start) = match kind {
            Kind::Control => return self.events.push(decode(&payload).unwrap()),
            Kind::Stdout => (&mut self.stdout, &mut self.starts[0]),
            Kind::Stderr => (&mut self.stderr, &mut self.starts[1]),
            other => panic!("a frame of kind {:?}", other),
        };
        let start = *start.get_or_insert(offset);
        assert!(!payload.is_empty());
        assert_eq!(offset, start + bytes.len() as u64);
        bytes.extend(payload);
    }

    pub fn is_over(&self) -> bool {
        let last = self.events.last().map_or("", |event| text(event, "event"));
        matches!(last, "done" | "exit" | "error")
    }

    pub fn last(&self) -> &Value {
        self.events.last().unwrap()
    }

    pub fn bytes(&self) -> u64 {
        (self.stdout.len() + self.stderr.len()) as u64
    }
}

pub fn field<'a>(value: &'a Value, name: &str) -> &'a Value {
    match value {
        Value::Map(pairs) => {
            let found = pairs.iter().find(|(key, _)| key == name);
            &found.unwrap_or_else(|| panic!("no {} in {:?}", name, pairs)).1
        }
        other => panic!("no map: {:?}", other),
    }
}

pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    match field(value, name) {
        Value::Str(text) => text,
        other => panic!("{} is {:?}", name, other),
    }
}

pub fn int(value: &Value, name: &str) -> i64 {
    match field(value, name) {
        Value::Int(number) => *number,
        other => panic!("{} is {:?}", name, other),
    }
}

pub fn str(text: &str) -> Value {
    Value::Str(text.to_owned())
}

pub fn argv(items: &[&str]) -> Value {
    Value::Array(items.iter().map(|item| str(item)).collect())
}

pub fn is_root() -> bool {
    effective_uid() == 0
}

pub fn wait_until(condition: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process runs whose command line holds `mark`.
pub fn runs(mark: &str) -> bool {
    let entries = fs::read_dir("/proc").unwrap();
    let lines = entries.filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).any(|line| line.contains(mark))
}

/// A number of seconds to sleep that no other test uses, to be found again by `runs`.
pub fn unique_sleep() -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    format!("1000.{}{:03}", std::process::id(), LAST.fetch_add(1, Ordering::SeqCst))
}

pub fn exists(path: &str) -> bool {
    Path::new(path).symlink_metadata().is_ok()
}

// SPDX-License-Identifier: Apache-2.0
//! A client's view of one process while it runs: its output to the client, the client's input and
//! signals to it. The process does not depend on it: when the client goes, output goes to the
//! drainer and the process goes on.

use std::os::unix::io::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::{errno, Error, Result};
use crate::frame::Kind;
use crate::handler::signal::SignalRequest;
use crate::message::{error_record, Fields, Record};
use crate::output::{Outbox, Output};
use crate::process::{Exit, Process};
use crate::sys_unsafe::{poll_fds, write_bytes, PollFd, POLLERR, POLLHUP, POLLIN, POLLOUT};

pub struct Session<'a> {
    agent: &'a Agent,
    connection: &'a mut Connection,
    process: Arc<Process>,
    stdout: Output,
    stderr: Output,
    stdin: Input,
    outbox: Outbox,
    /// Until when the news that the process has started may wait for what follows it.
    held_until: Option<Instant>,
    is_client_reading_only: bool,
}

/// Every write wakes the server, which on a small host takes its time from the command itself. So
/// the whole answer of a command that ends at once, or with its first output, is one write.
const HOLD: Duration = Duration::from_millis(2);
/// Longer than the hold, so that one wait without any news outlasts it.
const HOLD_WAIT_MS: i32 = 3;
/// Before the client, its input and the other stream get their turn.
const READS_IN_A_ROW: usize = 16;

/// What is ready, in the order of the poll set.
struct Ready {
    event: bool,
    client: i16,
    stdout: bool,
    stderr: bool,
    stdin: bool,
}

impl<'a> Session<'a> {
    pub fn new(
        agent: &'a Agent,
        connection: &'a mut Connection,
        process: Arc<Process>,
        outputs: (OwnedFd, OwnedFd),
        stdin: Option<OwnedFd>,
    ) -> Session<'a> {
        Session {
            agent,
            connection,
            process,
            stdout: Output::new(outputs.0, Kind::Stdout),
            stderr: Output::new(outputs.1, Kind::Stderr),
            stdin: Input::new(stdin),
            outbox: Outbox::default(),
            held_until: Some(Instant::now() + HOLD),
            is_client_reading_only: false,
        }
    }

    /// Serves the client until the process has ended and the client knows, or the client has gone.
    pub fn run(mut self, started: Record) {
        self.outbox.push(started);
        let served = self.serve();
        if matches!(served, Err(Error::Closed)) {
            self.hear_last_words();
        }
        // The pipes must be read on before anything here can wait for a slow client.
        self.agent.drainer.adopt([self.stdout, self.stderr]);
        drop(self.stdin);
        match served {
            Err(Error::Closed) => return,
            // Behind what is queued, of which half a frame may have gone already.
            Err(error) => self.outbox.push(error_record(error)),
            Ok(()) => {}
        }
        // When the client has gone there is nobody left to tell.
        let _ = self.outbox.send(self.connection);
    }

    fn serve(&mut self) -> Result<()> {
        // Frames may have come along with the request.
        self.take_frames()?;
        loop {
            if self.held_until.is_none() {
                self.outbox.send_nowait(self.connection)?;
            }
            if let Some(exit) = self.process.exit() {
                return self.finish(exit);
            }
            let ready = self.wait()?;
            if ready.event {
                self.process.clear_event();
            }
            if ready.client & POLLIN != 0 {
                self.hear_client()?;
            } else if ready.client & (POLLHUP | POLLERR) != 0 {
                return Err(Error::Closed);
            }
            if ready.stdin {
                self.stdin.write_held();
                self.take_frames()?;
            }
            if ready.stdout || ready.stderr || self.is_hold_over() {
                self.held_until = None;
            }
            if ready.stdout {
                forward(&mut self.stdout, &mut self.outbox, self.connection)?;
            }
            if ready.stderr {
                forward(&mut self.stderr, &mut self.outbox, self.connection)?;
            }
        }
    }

    fn wait(&self) -> Result<Ready> {
        let entry = |fd, events| PollFd { fd, events, revents: 0 };
        let can_read_output = self.outbox.is_empty() || self.held_until.is_some();
        let output =
            |output: &Output| entry(if can_read_output { output.fd() } else { -1 }, POLLIN);
        let mut fds = [
            entry(self.process.event().as_raw_fd(), POLLIN),
            entry(self.connection.as_raw_fd(), self.client_events()),
            output(&self.stdout),
            output(&self.stderr),
            entry(self.stdin.blocked_fd(), POLLOUT),
        ];
        let timeout = if self.held_until.is_some() { HOLD_WAIT_MS } else { -1 };
        match poll_fds(&mut fds, timeout).map_err(Error::from) {
            // Nothing is ready then, and we come again.
            Ok(_) | Err(Error::System(errno::EINTR)) => {}
            Err(error) => return Err(error),
        }
        let [event, client, stdout, stderr, stdin] = fds.map(|fd| fd.revents);
        Ok(Ready {
            event: event != 0,
            client,
            stdout: stdout != 0,
            stderr: stderr != 0,
            stdin: stdin != 0,
        })
    }

    /// Input that the process does not take holds the client back, as a pipe would.
    fn client_events(&self) -> i16 {
        let can_hear = !self.is_client_reading_only && !self.stdin.is_blocked();
        let hear = if can_hear { POLLIN } else { 0 };
        let can_speak = !self.outbox.is_empty() && self.held_until.is_none();
        let speak = if can_speak { POLLOUT } else { 0 };
        hear | speak
    }

    fn is_hold_over(&self) -> bool {
        self.held_until.map_or(true, |until| Instant::now() >= until)
    }

    fn hear_client(&mut self) -> Result<()> {
        match self.connection.fill_nowait() {
            Ok(_) => self.take_frames(),
            Err(Error::Closed) => {
                // It will say no more, but may have closed only this direction.
                self.is_client_reading_only = true;
                self.stdin.close();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// A client that has gone may have left a signal behind, for a process it had not heard of yet.
    fn hear_last_words(&mut self) {
        while let Ok(true) = self.connection.fill_nowait() {
            if self.take_frames().is_err() {
                return;
            }
        }
    }

    fn take_frames(&mut self) -> Result<()> {
        while !self.stdin.is_blocked() {
            let frame = match self.connection.buffered_frame()? {
                Some(frame) => frame,
                None => return Ok(()),
            };
            match frame.kind {
                Kind::Stdin => self.stdin.take(frame.offset, frame.payload)?,
                Kind::Control => signal(&self.process, frame.payload)?,
                _ => return Err(Error::Invalid("unexpected frame while a process runs")),
            }
        }
        Ok(())
    }

    fn finish(&mut self, exit: Exit) -> Result<()> {
        self.stdout.read_held(&mut self.outbox)?;
        self.stderr.read_held(&mut self.outbox)?;
        let (code, signal) = match exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
        };
        let duration = self.process.started.elapsed().as_micros();
        let record = Record::event("exit")
            .optional_int("code", code)
            .optional_int("signal", signal)
            .bool("timed_out", self.process.has_timed_out())
            .uint("duration_us", u64::try_from(duration).unwrap_or(u64::MAX))
            .uint("stdout_bytes", self.stdout.bytes())
            .uint("stderr_bytes", self.stderr.bytes());
        self.outbox.push(record);
        Ok(())
    }
}

/// From a pipe that is ready into the outbox, and on without a look at anything else as long as the
/// pipe is full and the client takes all: waiting costs more than reading, in gVisor several times.
fn forward(output: &mut Output, outbox: &mut Outbox, connection: &mut Connection) -> Result<()> {
    for _ in 0..READS_IN_A_ROW {
        let has_more = output.read(outbox)?;
        if !has_more {
            break;
        }
        outbox.send_nowait(connection)?;
        if !outbox.is_empty() {
            break;
        }
    }
    Ok(())
}

fn signal(process: &Process, payload: &[u8]) -> Result<()> {
    let fields = Fields::decode(payload)?;
    if fields.text("op")? != Some("signal") {
        return Err(Error::Invalid("only signals may be sent while a process runs"));
    }
    let request = SignalRequest::parse(&fields)?;
    // A process that has just ended cannot be signalled; the client is about to hear of its end.
    let _ = process.signal(request.signal, request.tree);
    Ok(())
}

/// The process's standard input. What it does not take at once is held, one frame at most.
struct Input {
    pipe: Option<OwnedFd>,
    held: Vec<u8>,
    written: usize,
    offset: u64,
    is_ended: bool,
}

impl Input {
    /// `pipe` must not block.
    fn new(pipe: Option<OwnedFd>) -> Input {
        Input { pipe, held: Vec::new(), written: 0, offset: 0, is_ended: false }
    }

    fn is_blocked(&self) -> bool {
        self.written < self.held.len()
    }

    /// For `poll`: -1 unless something is held.
    fn blocked_fd(&self) -> i32 {
        match &self.pipe {
            Some(pipe) if self.is_blocked() => pipe.as_raw_fd(),
            _ => -1,
        }
    }

    fn take(&mut self, offset: u64, payload: &[u8]) -> Result<()> {
        if offset != self.offset {
            return Err(Error::Invalid("stdin offset does not follow"));
        }
        self.offset += payload.len() as u64;
        if payload.is_empty() {
            self.close();
            return Ok(());
        }
        let taken = self.write(payload);
        if taken < payload.len() {
            self.held.clear();
            self.held.extend_from_slice(&payload[taken..]);
            self.written = 0;
        }
        Ok(())
    }

    fn write_held(&mut self) {
        self.written += self.write(&self.held[self.written..]);
        if !self.is_blocked() {
            self.held = Vec::new();
            self.written = 0;
            if self.is_ended {
                self.pipe = None;
            }
        }
    }

    /// End of file for the process, after what is held.
    fn close(&mut self) {
        self.is_ended = true;
        if !self.is_blocked() {
            self.pipe = None;
        }
    }

    /// How much need not be offered again. A process that has closed its input takes everything,
    /// to nowhere.
    fn write(&self, bytes: &[u8]) -> usize {
        let pipe = match &self.pipe {
            Some(pipe) => pipe,
            None => return bytes.len(),
        };
        match write_bytes(pipe, bytes).map_err(Error::from) {
            Ok(count) => count,
            Err(Error::System(errno::EAGAIN)) | Err(Error::System(errno::EINTR)) => 0,
            Err(_) => bytes.len(),
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! A client's view of one process while it runs: its output to the client, the client's input and
//! signals to it. The process does not depend on it: when the client goes, the drainer takes over
//! what the session did for the process.

use std::os::unix::io::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::{errno, Error, Result};
use crate::frame::Kind;
use crate::handler::signal::SignalRequest;
use crate::journal::Offer;
use crate::message::{error_record, Fields, Record};
use crate::outbox::Outbox;
use crate::output::Took;
use crate::process::{micros, Ended, Process};
use crate::pump::{Pump, Waits};
use crate::reader::Reader;
use crate::stdin::Input;
use crate::sys_unsafe::{poll_fds, PollFd, POLLERR, POLLHUP, POLLIN, POLLOUT};
use crate::waker::Waker;

/// Every write wakes the server, which on a small host takes its time from the command itself. So
/// the whole answer of a command that ends at once, or with its first output, is one write.
const HOLD: Duration = Duration::from_millis(2);
/// Longer than the hold, so that one wait without any news outlasts it.
const HOLD_WAIT_MS: i32 = 3;
/// How long a reader may take nothing although there is something for it.
const SLOW: Duration = Duration::from_secs(60);
/// How long it then may take to hear of it.
const LAST_WORDS: Duration = Duration::from_secs(60);
/// After so many writes the client is heard, and the process read.
const WRITES: usize = 4;
/// Before the client, its input and the process's end get their turn.
const READS_IN_A_ROW: usize = 32;

pub struct Session<'a> {
    agent: &'a Agent,
    connection: &'a mut Connection,
    process: Arc<Process>,
    reader: Reader,
    /// Of who has started the process, while it runs.
    pump: Option<Pump>,
    input: Input,
    outbox: Outbox,
    waker: Option<Waker>,
    /// Until when the news that the process has started may wait for what follows it.
    held_until: Option<Instant>,
    is_client_reading_only: bool,
    /// Whether the process's input ends with the client's.
    ends_input: bool,
    /// Whether there is more to send than the client has taken.
    is_behind: bool,
    may_be_slow: bool,
    stuck_since: Option<Instant>,
    is_last_said: bool,
}

/// What is ready.
struct Ready {
    client: i16,
    waker: bool,
    stdin: bool,
    process: Waits,
}

const NOTHING: PollFd = PollFd { fd: -1, events: 0, revents: 0 };

impl<'a> Session<'a> {
    /// Tells the client `first`, then what the reader has for it.
    pub fn new(
        agent: &'a Agent,
        connection: &'a mut Connection,
        process: Arc<Process>,
        reader: Reader,
        first: Record,
    ) -> Session<'a> {
        let mut outbox = Outbox::default();
        outbox.push(first);
        Session {
            agent,
            connection,
            input: Input::new(&process),
            process,
            reader,
            pump: None,
            outbox,
            waker: None,
            held_until: None,
            is_client_reading_only: false,
            ends_input: false,
            is_behind: false,
            may_be_slow: false,
            stuck_since: None,
            is_last_said: false,
        }
    }

    /// Of who has started the process and reads its output, until the process or the client ends.
    pub fn with_pump(mut self, pump: Pump, ends_input: bool) -> Session<'a> {
        self.pump = Some(pump);
        self.ends_input = ends_input;
        self.held_until = Some(Instant::now() + HOLD);
        self
    }

    /// Sends these frames before what the reader has.
    pub fn with_frames(mut self, frames: &[u8]) -> Session<'a> {
        self.outbox.push_bytes(frames);
        self
    }

    /// For clients that know no error for being slow.
    pub fn patient(mut self) -> Session<'a> {
        self.may_be_slow = true;
        self
    }

    /// Serves the client until it knows all there is to know, or has gone.
    pub fn run(mut self) {
        let agent = self.agent;
        let served = self.serve();
        if matches!(served, Err(Error::Closed)) {
            self.hear_last_words();
        }
        // The pipes must be read on before anything here can wait for a slow client.
        if let Some(pump) = self.pump.take() {
            self.agent.drainer.adopt(pump);
        }
        if self.ends_input {
            self.process.stdin.close();
        }
        match served {
            Ok(()) | Err(Error::Closed) => {}
            // Behind what is queued, of which half a frame may have gone already.
            Err(error) => self.say_last(error),
        }
        agent.history.make_room();
    }

    fn say_last(self, error: Error) {
        let Session { connection, reader, mut outbox, .. } = self;
        if reader.copy_rest_of_frame(&mut outbox).is_err() {
            // The frame has no rest any more, so nothing can follow it.
            return;
        }
        // The process must wait no longer.
        drop(reader);
        outbox.push(error_record(error));
        // When the client has gone there is nobody left to tell.
        let _ = outbox.send_within(connection, LAST_WORDS);
    }

    fn serve(&mut self) -> Result<()> {
        // Frames may have come along with the request.
        self.take_frames()?;
        loop {
            if self.held_until.is_none() && self.speak()? {
                return Ok(());
            }
            if self.finish_process() {
                self.held_until = None;
                continue;
            }
            let ready = self.wait()?;
            if let (Some(waker), true) = (&self.waker, ready.waker) {
                waker.clear();
            }
            if ready.client & POLLIN != 0 {
                self.hear_client()?;
            } else if ready.client & (POLLHUP | POLLERR) != 0 {
                return Err(Error::Closed);
            }
            if ready.stdin || ready.waker {
                self.input.write_held();
                self.take_frames()?;
            }
            if self.read_process(&ready.process)? {
                return Ok(());
            }
        }
    }

    /// Reads what the process has written, and on without a look at anything else while there is
    /// much and the client takes it: waiting costs more than reading, in gVisor several times. True
    /// when the client has heard the last.
    fn read_process(&mut self, ready: &Waits) -> Result<bool> {
        if ready[1].revents != 0 || ready[2].revents != 0 || self.is_hold_over() {
            self.held_until = None;
        }
        let mut ready = *ready;
        for _ in 0..READS_IN_A_ROW {
            let took = self.pump.as_mut().map_or(Ok(Took::Nothing), |pump| pump.read(&ready))?;
            // The event has been taken, and to take it twice would be to wait for the next.
            ready[0].revents = 0;
            if took < Took::Much {
                break;
            }
            if self.speak()? {
                return Ok(true);
            }
            if self.is_behind {
                break;
            }
        }
        Ok(false)
    }

    /// Once the process has ended: what its children still write is not for us.
    fn finish_process(&mut self) -> bool {
        let history = &self.agent.history;
        if !self.pump.as_mut().map_or(false, |pump| pump.finish(history)) {
            return false;
        }
        self.pump.take().into_iter().for_each(|pump| self.agent.drainer.adopt(pump));
        true
    }

    /// Sends what the client takes now. True when it has heard the last.
    fn speak(&mut self) -> Result<bool> {
        let mut has_sent = false;
        self.is_behind = true;
        for _ in 0..WRITES {
            self.gather()?;
            has_sent |= self.outbox.send_nowait(self.connection)? > 0;
            if !self.outbox.is_empty() {
                break;
            }
            if self.is_last_said {
                return Ok(true);
            }
            match self.reader.send_nowait(self.connection)? {
                Offer::Taken => has_sent = true,
                Offer::Refused => break,
                Offer::Nothing => {
                    self.is_behind = false;
                    break;
                }
            }
        }
        self.check_speed(has_sent)?;
        Ok(false)
    }

    /// Puts together what is small, so that it is one write.
    fn gather(&mut self) -> Result<()> {
        if self.is_last_said || self.outbox.is_on_its_way() {
            return Ok(());
        }
        // Asked first: what comes before the end is in the journal then.
        let ended = self.process.ended();
        if !self.reader.copy_small(&mut self.outbox)? {
            return Ok(());
        }
        let last = match (self.reader.end_position(), ended) {
            (Some(position), _) => Record::done().uint("position", position),
            (None, Some(ended)) => exit_record(&self.process, &ended),
            (None, None) => return Ok(()),
        };
        self.outbox.push(last);
        self.is_last_said = true;
        Ok(())
    }

    fn check_speed(&mut self, has_sent: bool) -> Result<()> {
        if !self.is_behind || self.may_be_slow {
            self.stuck_since = None;
            return Ok(());
        }
        let now = Instant::now();
        if has_sent || self.stuck_since.is_none() {
            self.stuck_since = Some(now);
        }
        match self.stuck_since {
            Some(since) if now - since >= SLOW => Err(Error::Slow),
            _ => Ok(()),
        }
    }

    fn wait(&mut self) -> Result<Ready> {
        let process = self.process_waits()?;
        let has_news = self.prepare_waker()?;
        let entry = |fd, events| PollFd { fd, events, revents: 0 };
        let mut fds = [
            entry(self.connection.as_raw_fd(), self.client_events()),
            entry(self.waker.as_ref().map_or(-1, AsRawFd::as_raw_fd), POLLIN),
            entry(self.input.blocked_fd(), POLLOUT),
            process[0],
            process[1],
            process[2],
        ];
        let timeout = if has_news { 0 } else { self.wait_ms() };
        match poll_fds(&mut fds, timeout).map_err(Error::from) {
            // Nothing is ready then, and we come again.
            Ok(_) | Err(Error::System(errno::EINTR)) => {}
            Err(error) => return Err(error),
        }
        let [client, waker, stdin, process @ ..] = fds;
        Ok(Ready {
            client: client.revents,
            waker: waker.revents != 0,
            stdin: stdin.revents != 0,
            process,
        })
    }

    fn process_waits(&mut self) -> Result<Waits> {
        let pump = match &self.pump {
            Some(pump) => pump,
            None => return Ok([NOTHING; 3]),
        };
        let waits = pump.waits(self.waker.as_ref(), self.is_behind);
        // Another reader must make room: only then are we woken by anything but what we poll.
        if self.waker.is_none() && !self.is_behind && self.process.journal.is_stalled() {
            self.waker = Some(Waker::new()?);
            return Ok(pump.waits(self.waker.as_ref(), false));
        }
        Ok(waits)
    }

    /// Has the waker woken by whatever cannot be polled for; true if there is some of it already.
    fn prepare_waker(&mut self) -> Result<bool> {
        let waits_for_journal = self.pump.is_none() && !self.is_behind;
        let waits_for_turn = self.input.waits_for_turn();
        if !waits_for_journal && !waits_for_turn {
            return Ok(false);
        }
        let waker = match self.waker.take() {
            Some(waker) => waker,
            None => Waker::new()?,
        };
        let mut has_news = false;
        if waits_for_turn {
            self.input.listen(&waker);
            if !self.input.waits_for_turn() {
                // It came meanwhile, perhaps before we listened.
                waker.wake();
            }
        }
        if waits_for_journal {
            has_news = !self.reader.sleep(&waker);
        }
        self.waker = Some(waker);
        Ok(has_news)
    }

    fn wait_ms(&self) -> i32 {
        if self.held_until.is_some() {
            return HOLD_WAIT_MS;
        }
        match self.stuck_since {
            // One more than is left, so that it is over afterwards.
            Some(since) => {
                let left = SLOW.saturating_sub(since.elapsed()).as_millis() + 1;
                i32::try_from(left).unwrap_or(i32::MAX)
            }
            None => -1,
        }
    }

    /// Input that the process does not take holds the client back, as a pipe would.
    fn client_events(&self) -> i16 {
        let can_hear = !self.is_client_reading_only && !self.input.is_blocked();
        let hear = if can_hear { POLLIN } else { 0 };
        let can_speak = self.is_behind && self.held_until.is_none();
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
                if self.ends_input {
                    self.input.end();
                }
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
        while !self.input.is_blocked() {
            let frame = match self.connection.buffered_frame()? {
                Some(frame) => frame,
                None => return Ok(()),
            };
            match frame.kind {
                Kind::Stdin => self.input.take(frame.offset, frame.payload)?,
                Kind::Control => signal(&self.process, frame.payload)?,
                _ => return Err(Error::Invalid("unexpected frame while a process runs")),
            }
        }
        Ok(())
    }
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

fn exit_record(process: &Process, ended: &Ended) -> Record {
    let (code, signal) = ended.exit.parts();
    let end = process.journal.extent().1;
    Record::event("exit")
        .optional_int("code", code)
        .optional_int("signal", signal)
        .bool("timed_out", ended.timed_out)
        .uint("duration_us", micros(ended.duration))
        .uint("stdout_bytes", end.stdout)
        .uint("stderr_bytes", end.stderr)
}

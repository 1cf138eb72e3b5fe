// SPDX-License-Identifier: Apache-2.0
//! A process's standard input, which several connections may feed: frame by frame, each whole
//! before another connection's.

use std::cell::Cell;
use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{errno, Error, Result};
use crate::process::Process;
use crate::pty_unsafe::end_of_file_byte;
use crate::sys_unsafe::write_bytes;
use crate::waker::Waker;

pub struct Stdin {
    state: Mutex<State>,
    is_terminal: bool,
}

struct State {
    /// None once it is closed. It does not block.
    pipe: Option<Arc<OwnedFd>>,
    last_writer: u64,
    /// Who has written a part of a frame.
    turn: Option<u64>,
    /// Hear when a turn is over, and when it is closed.
    listeners: Vec<(u64, Waker)>,
}

/// What became of some bytes.
enum Taken {
    Some(usize),
    /// Another connection's frame must be whole first.
    NotYet,
    Closed,
}

impl Stdin {
    pub fn none() -> Stdin {
        Stdin::new(None, false)
    }

    /// What is given must not block.
    pub fn pipe(pipe: OwnedFd) -> Stdin {
        Stdin::new(Some(pipe), false)
    }

    pub fn terminal(master: OwnedFd) -> Stdin {
        Stdin::new(Some(master), true)
    }

    fn new(pipe: Option<OwnedFd>, is_terminal: bool) -> Stdin {
        let pipe = pipe.map(Arc::new);
        let state = State { pipe, last_writer: 0, turn: None, listeners: Vec::new() };
        Stdin { state: Mutex::new(state), is_terminal }
    }

    pub fn is_open(&self) -> bool {
        self.lock().pipe.is_some()
    }

    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// End of file for the process, at once.
    pub fn close(&self) {
        let mut state = self.lock();
        state.pipe = None;
        state.tell();
    }

    fn pipe_of(&self) -> Option<Arc<OwnedFd>> {
        self.lock().pipe.clone()
    }

    fn write(&self, writer: u64, bytes: &[u8]) -> Taken {
        let mut state = self.lock();
        if state.turn.map_or(false, |turn| turn != writer) {
            return Taken::NotYet;
        }
        let pipe = match &state.pipe {
            Some(pipe) => pipe,
            None => return Taken::Closed,
        };
        let count = match write_bytes(&**pipe, bytes).map_err(Error::from) {
            Ok(count) => count,
            Err(Error::System(errno::EAGAIN)) | Err(Error::System(errno::EINTR)) => 0,
            Err(_) => {
                state.pipe = None;
                state.tell();
                return Taken::Closed;
            }
        };
        state.take_turn(writer, count < bytes.len());
        Taken::Some(count)
    }

    fn end(&self, writer: u64) -> Taken {
        if self.is_terminal {
            let byte = self.pipe_of().map_or(0, |master| end_of_file_byte(&*master));
            return self.write(writer, &[byte]);
        }
        let mut state = self.lock();
        if state.turn.map_or(false, |turn| turn != writer) {
            return Taken::NotYet;
        }
        if state.pipe.take().is_none() {
            return Taken::Closed;
        }
        state.tell();
        Taken::Some(1)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the whole program, so a poisoned lock is never seen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_turn(&mut self, writer: u64, keeps: bool) {
        let had = self.turn.is_some();
        self.turn = if keeps { Some(writer) } else { None };
        if had && !keeps {
            self.tell();
        }
    }

    fn tell(&self) {
        self.listeners.iter().for_each(|(_, waker)| waker.wake());
    }
}

/// One connection's frames for a process. What the process does not take at once is held, one frame
/// at most.
pub struct Input {
    process: Arc<Process>,
    writer: u64,
    offset: u64,
    held: Vec<u8>,
    written: usize,
    /// Whether an end is held behind the bytes.
    holds_end: bool,
    has_ended: bool,
    is_refused: Cell<bool>,
    pipe: Option<Arc<OwnedFd>>,
}

impl Input {
    pub fn new(process: &Arc<Process>) -> Input {
        let mut state = process.stdin.lock();
        state.last_writer += 1;
        Input {
            process: Arc::clone(process),
            writer: state.last_writer,
            offset: 0,
            held: Vec::new(),
            written: 0,
            holds_end: false,
            has_ended: false,
            is_refused: Cell::new(false),
            pipe: None,
        }
    }

    /// `waker` hears when another connection's frame is whole, and when the process takes no more.
    pub fn listen(&mut self, waker: &Waker) {
        let mut state = self.process.stdin.lock();
        state.listeners.retain(|(writer, _)| *writer != self.writer);
        state.listeners.push((self.writer, waker.clone()));
    }

    pub fn is_blocked(&self) -> bool {
        self.written < self.held.len() || self.holds_end
    }

    /// Whether another connection is in the middle of a frame, so that ours waits for its waker.
    pub fn waits_for_turn(&self) -> bool {
        let turn = self.process.stdin.lock().turn;
        self.is_blocked() && turn.map_or(false, |turn| turn != self.writer)
    }

    /// For `poll`: -1 unless something is held that is ours to write.
    pub fn blocked_fd(&mut self) -> RawFd {
        self.pipe = None;
        if !self.is_blocked() || self.waits_for_turn() {
            return -1;
        }
        // Held, so that the number means the same while we poll.
        self.pipe = self.process.stdin.pipe_of();
        self.pipe.as_ref().map_or(-1, |pipe| pipe.as_raw_fd())
    }

    /// Whether an end has been given, and taken.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    pub fn bytes(&self) -> u64 {
        self.offset
    }

    /// Whether the process has not taken something of what it was given, or takes nothing before it
    /// was given anything. With all that it was given it may end: more need not have been to come.
    pub fn is_refused(&self) -> bool {
        self.is_refused.get() || (self.offset == 0 && !self.has_ended && !self.is_open())
    }

    /// Whether the process has an input at all, which has not been ended.
    pub fn is_open(&self) -> bool {
        self.process.stdin.is_open()
    }

    /// Must not be called while blocked.
    pub fn take(&mut self, offset: u64, payload: &[u8]) -> Result<()> {
        if offset != self.offset {
            return Err(Error::Invalid("stdin offset does not follow"));
        }
        self.offset += payload.len() as u64;
        if payload.is_empty() {
            self.end();
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

    /// End of file for the process, after what is held.
    pub fn end(&mut self) {
        self.holds_end = true;
        self.write_held();
    }

    pub fn write_held(&mut self) {
        if self.written < self.held.len() {
            self.written += self.write(&self.held[self.written..]);
        }
        if self.written == self.held.len() {
            self.held = Vec::new();
            self.written = 0;
            self.end_held();
        }
    }

    fn end_held(&mut self) {
        if !self.holds_end {
            return;
        }
        match self.process.stdin.end(self.writer) {
            Taken::Some(0) | Taken::NotYet => return,
            Taken::Some(_) => self.has_ended = true,
            Taken::Closed => self.is_refused.set(true),
        }
        self.holds_end = false;
    }

    /// How much need not be offered again. A process that has closed its input takes everything,
    /// to nowhere.
    fn write(&self, bytes: &[u8]) -> usize {
        match self.process.stdin.write(self.writer, bytes) {
            Taken::Some(count) => count,
            Taken::NotYet => 0,
            Taken::Closed => {
                self.is_refused.set(true);
                bytes.len()
            }
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let mut state = self.process.stdin.lock();
        state.listeners.retain(|(writer, _)| *writer != self.writer);
        if state.turn == Some(self.writer) {
            state.turn = None;
            state.tell();
        }
    }
}

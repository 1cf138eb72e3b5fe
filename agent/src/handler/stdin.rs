// SPDX-License-Identifier: Apache-2.0
//! `stdin`: input for a process from any connection.

use std::os::unix::io::AsRawFd;

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::frame::Kind;
use crate::handler::process_id;
use crate::message::{Fields, Record};
use crate::stdin::Input;
use crate::sys_unsafe::{poll_fds, PollFd, POLLERR, POLLHUP, POLLIN, POLLOUT};
use crate::waker::Waker;

pub fn apply(agent: &Agent, connection: &mut Connection, fields: &Fields) -> Result<()> {
    let process = agent.history.find(process_id(fields)?)?;
    let waker = Waker::new()?;
    let mut input = Input::new(&process);
    // Before it is asked, or a close could come between the two.
    input.listen(&waker);
    if input.is_refused() {
        return Err(Error::StdinClosed);
    }
    connection.send_record(Record::event("ready"))?;
    feed(connection, &mut input, &waker)?;
    connection.send_record(Record::done().uint("bytes", input.bytes()))
}

/// Until the input has been ended, or the client has no more of it and all has been taken.
fn feed(connection: &mut Connection, input: &mut Input, waker: &Waker) -> Result<()> {
    let mut is_client_done = false;
    loop {
        take_frames(connection, input)?;
        if input.has_ended() {
            return Ok(());
        }
        if input.is_refused() {
            return Err(Error::StdinClosed);
        }
        if is_client_done && !input.is_blocked() {
            return Ok(());
        }
        let can_hear = !is_client_done && !input.is_blocked();
        let entry = |fd, events| PollFd { fd, events, revents: 0 };
        let mut fds = [
            entry(connection.as_raw_fd(), if can_hear { POLLIN } else { 0 }),
            entry(waker.as_raw_fd(), POLLIN),
            entry(input.blocked_fd(), POLLOUT),
        ];
        // Interrupted or not, `revents` says what is ready.
        let _ = poll_fds(&mut fds, -1);
        let [client, woken, stdin] = fds.map(|fd| fd.revents);
        if woken != 0 {
            waker.clear();
        }
        if woken != 0 || stdin != 0 {
            input.write_held();
        }
        if client & POLLIN != 0 {
            is_client_done = match connection.fill_nowait() {
                Err(Error::Closed) => true,
                other => other.map(|_| false)?,
            };
        } else if client & (POLLHUP | POLLERR) != 0 {
            // Nobody is left to hear what became of the rest.
            return Err(Error::Closed);
        }
    }
}

fn take_frames(connection: &mut Connection, input: &mut Input) -> Result<()> {
    while !input.is_blocked() && !input.has_ended() {
        let frame = match connection.buffered_frame()? {
            Some(frame) => frame,
            None => return Ok(()),
        };
        match frame.kind {
            Kind::Stdin => input.take(frame.offset, frame.payload)?,
            _ => return Err(Error::Invalid("only stdin frames are expected here")),
        }
    }
    Ok(())
}

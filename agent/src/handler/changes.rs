// SPDX-License-Identifier: Apache-2.0
//! `changes`: what has changed beneath a watched directory since a number, and what goes on to.

use std::sync::Arc;

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::Result;
use crate::handler::watch_number;
use crate::message::{Fields, Record};
use crate::waker::Waker;
use crate::watches::change::End;
use crate::watches::changes::Batch;
use crate::watches::watch::Watch;

pub fn apply(agent: &Agent, connection: &mut Connection, fields: &Fields) -> Result<()> {
    let watch = agent.watches.find(watch_number(fields)?)?;
    let (since, follows) = (fields.number("since")?.unwrap_or(0), fields.bool("follow", true)?);
    let mut reader = Reader::open(watch, since, follows)?;
    // Sent at once, empty or not, so that the client knows that there is such a watch.
    send(connection, &reader.read())?;
    let last = loop {
        let batch = reader.read();
        if !batch.changes.is_empty() {
            send(connection, &batch)?;
        } else if !follows || batch.ended.is_some() {
            break batch;
        } else {
            reader.wait(connection)?;
        }
    };
    let ended = last.ended.map(End::name);
    connection.send_record(Record::done().uint("last", last.last).optional_str("ended", ended))
}

fn send(connection: &mut Connection, batch: &Batch) -> Result<()> {
    connection.send_record(Record::event("changes").records("changes", &batch.changes))
}

struct Reader {
    watch: Arc<Watch>,
    id: u64,
    last: u64,
    until: u64,
    waker: Waker,
}

impl Reader {
    fn open(watch: Arc<Watch>, since: u64, follows: bool) -> Result<Reader> {
        let waker = Waker::new()?;
        if !follows {
            watch.take_in();
        }
        let id = watch.changes.open(since)?;
        let until = if follows { u64::MAX } else { watch.changes.extent().last };
        Ok(Reader { watch, id, last: since, until, waker })
    }

    fn read(&mut self) -> Batch {
        let batch = self.watch.changes.read(self.last, self.until);
        self.last = batch.last;
        batch
    }

    /// Waits for more, for as long as there is a client.
    fn wait(&self, connection: &Connection) -> Result<()> {
        if !self.watch.changes.sleep(self.id, self.last, &self.waker) {
            return Ok(());
        }
        self.waker.sleep_beside(connection)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.watch.close_reader(self.id);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! `ends`: every process that ends from now on, as it ends.

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::Result;
use crate::handler::processes::send_processes;
use crate::message::Record;

pub fn apply(agent: &Agent, connection: &mut Connection) -> Result<()> {
    let listener = agent.history.listen()?;
    // Whoever has this hears of all that ends later, and finds all that ended before by asking.
    connection.send_record(Record::event("listening"))?;
    loop {
        let ended = listener.take()?;
        if ended.is_empty() {
            listener.waker().sleep_beside(connection)?;
        } else {
            send_processes(connection, &ended)?;
        }
    }
}

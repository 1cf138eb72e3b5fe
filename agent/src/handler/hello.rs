// SPDX-License-Identifier: Apache-2.0
//! `hello`: who we are and what we speak.

use crate::connection::Connection;
use crate::error::Result;
use crate::handler::GENERATION;
use crate::message::Record;

/// What a client may ask for that no generation promises.
const FEATURES: [&str; 2] = ["ends", "sockets"];

pub fn apply(connection: &mut Connection) -> Result<()> {
    let record = Record::done()
        .uint("generation", GENERATION)
        .str("version", env!("CARGO_PKG_VERSION"))
        .uint("pid", u64::from(std::process::id()))
        .strs("features", &FEATURES);
    connection.send_record(record)
}

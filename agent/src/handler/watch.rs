// SPDX-License-Identifier: Apache-2.0
//! `watch`: the changes of a directory are kept from now on.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::message::{Fields, Record};
use crate::path::AbsolutePath;
use crate::watches::watch::Wanted;

const DEFAULT_KEEP: u64 = 16_384;
const MAX_KEEP: u64 = 65_536;
const DEFAULT_LINGER_MS: u64 = 300_000;
const MAX_LINGER_MS: u64 = 86_400_000;

pub fn apply(agent: &Agent, connection: &mut Connection, fields: &Fields) -> Result<()> {
    let wanted = parse(fields)?;
    let watch = agent.watches.start(wanted, &|| !connection.is_gone())?;
    let answer = Record::done().uint("watch", watch.number).bytes("path", watch.path.bytes());
    let sent = connection.send_record(answer);
    if sent.is_err() {
        // Who does not know of it cannot stop it. It may have been stopped already.
        let _ = agent.watches.stop(watch.number);
    }
    sent
}

fn parse(fields: &Fields) -> Result<Wanted> {
    let path = fields.bytes("path")?.ok_or(Error::Invalid("a path is missing"))?;
    let keep = fields.number("keep")?.unwrap_or(DEFAULT_KEEP);
    let linger_ms = fields.number("linger_ms")?.unwrap_or(DEFAULT_LINGER_MS);
    if keep == 0 {
        return Err(Error::Invalid("keep is at least 1"));
    }
    if keep > MAX_KEEP {
        return Err(Error::Limit("keep is beyond 65536 changes"));
    }
    if linger_ms > MAX_LINGER_MS {
        return Err(Error::Limit("linger_ms is beyond a day"));
    }
    Ok(Wanted {
        path: resolve(&AbsolutePath::parse(path)?)?,
        is_recursive: fields.bool("recursive", false)?,
        keep: usize::try_from(keep).map_err(|_| Error::Limit("keep does not fit"))?,
        linger: Duration::from_millis(linger_ms),
    })
}

/// The path with no links in it.
fn resolve(path: &AbsolutePath) -> Result<AbsolutePath> {
    let resolved = fs::canonicalize(OsStr::from_bytes(path.bytes()))?;
    AbsolutePath::parse(&resolved.into_os_string().into_vec())
}

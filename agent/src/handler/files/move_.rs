// SPDX-License-Identifier: Apache-2.0
//! `move`: a rename where the kernel can, else a copy and a removal.

use crate::connection::Connection;
use crate::error::{errno, Error, Result};
use crate::file_unsafe::rename_at;
use crate::handler::files::copy::{copy_tree, locate, make_destination};
use crate::handler::files::remove::remove_tree;
use crate::handler::files::{done, path_field, Cancel};
use crate::message::{Fields, Record};

pub fn apply(connection: &Connection, fields: &Fields) -> Result<Record> {
    let source = locate(&path_field(fields, "source")?)?;
    source.parent.stat_child(&source.name)?;
    let destination = make_destination(&path_field(fields, "destination")?)?;
    let renamed = rename_at(&source.parent, &source.name, &destination.parent, &destination.name);
    match renamed.map_err(Error::from) {
        Ok(()) => done(),
        Err(Error::System(errno::EINVAL)) => {
            Err(Error::Invalid("the destination lies within the source"))
        }
        Err(Error::System(errno::EXDEV)) => {
            let mut cancel = Cancel::new(connection);
            copy_tree(&source, &destination, &mut cancel)?;
            remove_tree(&source, &mut cancel)?;
            done()
        }
        Err(error) => Err(error),
    }
}

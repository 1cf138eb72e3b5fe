// SPDX-License-Identifier: Apache-2.0
//! One change beneath a watched directory, and how it is said.

use crate::message::Record;

/// Besides its paths, of one change.
const CHANGE_BYTES: usize = 96;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Created,
    Modified,
    Removed,
    Renamed,
    Attributes,
    Overflow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Stopped,
    Removed,
    Failed,
}

#[derive(Debug)]
pub struct Change {
    pub kind: Kind,
    pub path: Option<Vec<u8>>,
    pub from: Option<Vec<u8>>,
    pub is_directory: bool,
}

impl Change {
    pub fn new(kind: Kind, path: Vec<u8>, is_directory: bool) -> Change {
        Change { kind, path: Some(path), from: None, is_directory }
    }

    pub fn renamed(from: Vec<u8>, path: Vec<u8>, is_directory: bool) -> Change {
        Change { kind: Kind::Renamed, path: Some(path), from: Some(from), is_directory }
    }

    /// What cannot be told: beneath one directory that is not followed, or anywhere.
    pub fn overflow(path: Option<Vec<u8>>) -> Change {
        Change { kind: Kind::Overflow, is_directory: path.is_some(), path, from: None }
    }

    /// Whether the other is the same once more, and to hear of both is to hear of one.
    pub fn is_repeated_by(&self, other: &Change) -> bool {
        let may_repeat = matches!(self.kind, Kind::Modified | Kind::Attributes | Kind::Overflow);
        may_repeat && (self.kind, &self.path) == (other.kind, &other.path)
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        let length = |path: &Option<Vec<u8>>| path.as_ref().map_or(0, Vec::capacity);
        CHANGE_BYTES + length(&self.path) + length(&self.from)
    }

    pub fn render(&self, number: u64, at: u64) -> Vec<u8> {
        let record = Record::new()
            .uint("number", number)
            .str("kind", self.kind.name())
            .optional_bytes("path", self.path.as_deref())
            .optional_bytes("from", self.from.as_deref())
            .bool("directory", self.is_directory)
            .uint("at_ns", at);
        record.finish()
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Created => "created",
            Kind::Modified => "modified",
            Kind::Removed => "removed",
            Kind::Renamed => "renamed",
            Kind::Attributes => "attributes",
            Kind::Overflow => "overflow",
        }
    }
}

impl End {
    pub fn name(self) -> &'static str {
        match self {
            End::Stopped => "stopped",
            End::Removed => "removed",
            End::Failed => "failed",
        }
    }
}

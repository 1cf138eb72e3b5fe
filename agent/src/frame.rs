// SPDX-License-Identifier: Apache-2.0
//! The fixed header in front of every payload. Knows nothing of sockets or of what a payload means.

use crate::error::{Error, Result};

pub const HEADER_BYTES: usize = 16;
pub const MAX_CONTROL_BYTES: usize = 1 << 20;
pub const MAX_DATA_BYTES: usize = 256 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Control,
    Stdin,
    Stdout,
    Stderr,
    Content,
}

impl Kind {
    fn from_byte(byte: u8) -> Result<Kind> {
        match byte {
            0 => Ok(Kind::Control),
            1 => Ok(Kind::Stdin),
            2 => Ok(Kind::Stdout),
            3 => Ok(Kind::Stderr),
            4 => Ok(Kind::Content),
            _ => Err(Error::Invalid("unknown frame kind")),
        }
    }

    pub fn byte(self) -> u8 {
        match self {
            Kind::Control => 0,
            Kind::Stdin => 1,
            Kind::Stdout => 2,
            Kind::Stderr => 3,
            Kind::Content => 4,
        }
    }

    pub fn max_bytes(self) -> usize {
        if self == Kind::Control {
            return MAX_CONTROL_BYTES;
        }
        MAX_DATA_BYTES
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub length: usize,
    pub kind: Kind,
    pub offset: u64,
}

impl Header {
    /// Reads a header and refuses what no receiver should go on with.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Header> {
        let [l0, l1, l2, l3, kind, r0, r1, r2, offset @ ..] = *bytes;
        let kind = Kind::from_byte(kind)?;
        if (r0, r1, r2) != (0, 0, 0) {
            return Err(Error::Invalid("reserved header bytes are not zero"));
        }
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if length > kind.max_bytes() {
            return Err(Error::Limit("frame is longer than its kind allows"));
        }
        let offset = u64::from_be_bytes(offset);
        if kind == Kind::Control && offset != 0 {
            return Err(Error::Invalid("control frame with an offset"));
        }
        Ok(Header { length, kind, offset })
    }

    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        // Every payload we build is at most MAX_CONTROL_BYTES long.
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        bytes[4] = self.kind.byte();
        bytes[8..].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }
}

/// Appends a whole frame.
pub fn push_frame(out: &mut Vec<u8>, kind: Kind, offset: u64, payload: &[u8]) {
    let header = Header { length: payload.len(), kind, offset };
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(payload);
}

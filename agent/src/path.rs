// SPDX-License-Identifier: Apache-2.0
//! Paths as the protocol gives them: absolute bytes without NUL. Only text; `directory.rs` goes to
//! the file system with them.

use std::ffi::CString;

use crate::error::{Error, Result};

/// An absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbsolutePath(Vec<u8>);

impl AbsolutePath {
    pub fn parse(bytes: &[u8]) -> Result<AbsolutePath> {
        if bytes.first() != Some(&b'/') {
            return Err(Error::Invalid("path is not absolute"));
        }
        if bytes.contains(&0) {
            return Err(Error::Invalid("path holds a NUL byte"));
        }
        Ok(AbsolutePath(bytes.to_vec()))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn c_string(&self) -> Result<CString> {
        c_string(&self.0)
    }

    /// The parent's path and the last name, without trailing slashes. None for the root. A last
    /// name of `.` or `..` is refused: what it names is not an entry of its parent.
    pub fn split(&self) -> Result<Option<(AbsolutePath, Vec<u8>)>> {
        let end = match self.0.iter().rposition(|byte| *byte != b'/') {
            Some(last) => last + 1,
            None => return Ok(None),
        };
        let trimmed = &self.0[..end];
        // The path is absolute, so there is a slash.
        let start = trimmed.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let name = &trimmed[start..];
        if name == b"." || name == b".." {
            return Err(Error::Invalid("path ends in a dot name"));
        }
        Ok(Some((AbsolutePath(trimmed[..start].to_vec()), name.to_vec())))
    }

    /// The path of `name` beneath this one; an absolute `name` replaces it, as in a symlink.
    pub fn join(&self, name: &[u8]) -> AbsolutePath {
        if name.first() == Some(&b'/') {
            return AbsolutePath(name.to_vec());
        }
        let mut joined = self.0.clone();
        if joined.last() != Some(&b'/') {
            joined.push(b'/');
        }
        joined.extend_from_slice(name);
        AbsolutePath(joined)
    }
}

pub fn c_string(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::Invalid("a NUL byte where none may be"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(path: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let parts = AbsolutePath::parse(path).unwrap().split().unwrap();
        parts.map(|(parent, name)| (parent.0, name))
    }

    #[test]
    fn path_is_split_at_its_last_name() {
        assert_eq!(split(b"/a/b//"), Some((b"/a/".to_vec(), b"b".to_vec())));
        assert_eq!(split(b"/a"), Some((b"/".to_vec(), b"a".to_vec())));
        assert_eq!(split(b"///"), None);
    }

    #[test]
    fn dot_names_are_refused() {
        for path in [&b"/."[..], b"/a/..", b"/a/../", b"/./"] {
            assert!(AbsolutePath::parse(path).unwrap().split().is_err());
        }
    }

    #[test]
    fn paths_that_are_not_absolute_are_refused() {
        for path in [&b""[..], b"a", b"./a", b"/a\0b"] {
            assert!(AbsolutePath::parse(path).is_err());
        }
    }
}

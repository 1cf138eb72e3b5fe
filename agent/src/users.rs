// SPDX-License-Identifier: Apache-2.0
//! Users and groups from `/etc/passwd` and `/etc/group`, read here because a static glibc has no
//! working `getpwnam`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::file_unsafe::{stat_at, Stat, CWD};
use crate::path::c_string;

/// Of each file; what lies beyond is not seen.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// The kernel's own limit.
const MAX_GROUPS: usize = 65_536;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub name: Vec<u8>,
    pub uid: u32,
    pub gid: u32,
    pub home: Vec<u8>,
    pub shell: Vec<u8>,
}

/// The two files, read again only when they have changed.
pub struct Users {
    passwd: Cached,
    group: Cached,
}

impl Users {
    pub fn new() -> Users {
        Users { passwd: Cached::new("/etc/passwd"), group: Cached::new("/etc/group") }
    }

    /// The account of a name or a decimal uid; root if none is given. A uid without an entry is
    /// taken as it is, with a group of the same number.
    pub fn account(&self, user: Option<&[u8]>) -> Result<Account> {
        let passwd = self.passwd.text();
        match user {
            None => Ok(by_uid(&passwd, 0).unwrap_or_else(|| nameless(0))),
            Some(user) => match (by_name(&passwd, user), parse_id(user)) {
                (Some(account), _) => Ok(account),
                (None, Some(uid)) => Ok(by_uid(&passwd, uid).unwrap_or_else(|| nameless(uid))),
                (None, None) => Err(Error::UnknownUser),
            },
        }
    }

    /// The group of a name or a decimal gid.
    pub fn gid(&self, group: &[u8]) -> Result<u32> {
        let text = self.group.text();
        let named = group_rows(&text).find(|row| row.name == group).map(|row| row.gid);
        named.or_else(|| parse_id(group)).ok_or(Error::UnknownUser)
    }

    /// All groups of an account, its own first.
    pub fn groups(&self, account: &Account) -> Vec<u32> {
        let text = self.group.text();
        let is_member = |row: &GroupRow<'_>| {
            row.gid != account.gid
                && row.members.split(|byte| *byte == b',').any(|m| m == account.name)
        };
        let others = group_rows(&text).filter(is_member).map(|row| row.gid);
        std::iter::once(account.gid).chain(others).take(MAX_GROUPS).collect()
    }

    /// Names by id, for the length of one request.
    pub fn names(&self) -> Names {
        let passwd = self.passwd.text();
        let group = self.group.text();
        let mut names = Names::default();
        for account in lines(&passwd).filter_map(parse_account) {
            names.users.entry(account.uid).or_insert(account.name);
        }
        for row in group_rows(&group) {
            names.groups.entry(row.gid).or_insert_with(|| row.name.to_vec());
        }
        names
    }
}

impl Default for Users {
    fn default() -> Users {
        Users::new()
    }
}

#[derive(Default)]
pub struct Names {
    pub users: BTreeMap<u32, Vec<u8>>,
    pub groups: BTreeMap<u32, Vec<u8>>,
}

struct Cached {
    path: &'static str,
    held: Mutex<(Option<Stat>, Arc<Vec<u8>>)>,
}

impl Cached {
    fn new(path: &'static str) -> Cached {
        Cached { path, held: Mutex::new((None, Arc::default())) }
    }

    /// The file's bytes; empty if it cannot be read.
    fn text(&self) -> Arc<Vec<u8>> {
        let now = c_string(self.path.as_bytes()).ok().and_then(|path| stat_at(&CWD, &path, 0).ok());
        // A panic ends the whole program, so a poisoned lock is never seen.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.0 != now {
            *held = (now, Arc::new(now.map_or_else(Vec::new, |_| read_bounded(self.path))));
        }
        Arc::clone(&held.1)
    }
}

fn read_bounded(path: &str) -> Vec<u8> {
    let mut text = Vec::new();
    // A file that cannot be read names nobody; ids still work.
    let _ = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut text));
    text
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

fn by_name(passwd: &[u8], name: &[u8]) -> Option<Account> {
    lines(passwd).filter_map(parse_account).find(|account| account.name == name)
}

fn by_uid(passwd: &[u8], uid: u32) -> Option<Account> {
    lines(passwd).filter_map(parse_account).find(|account| account.uid == uid)
}

fn nameless(id: u32) -> Account {
    let name = if id == 0 { b"root".to_vec() } else { id.to_string().into_bytes() };
    Account { name, uid: id, gid: id, home: b"/".to_vec(), shell: b"/bin/sh".to_vec() }
}

fn parse_account(line: &[u8]) -> Option<Account> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
    match fields[..] {
        [name, _, uid, gid, _, home, shell] if !name.is_empty() => Some(Account {
            name: name.to_vec(),
            uid: parse_id(uid)?,
            gid: parse_id(gid)?,
            home: or_default(home, b"/"),
            shell: or_default(shell, b"/bin/sh"),
        }),
        _ => None,
    }
}

fn or_default(field: &[u8], default: &[u8]) -> Vec<u8> {
    let field = if field.is_empty() { default } else { field };
    field.to_vec()
}

struct GroupRow<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

fn group_rows(text: &[u8]) -> impl Iterator<Item = GroupRow<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = parse_id(fields.nth(1)?)?;
        Some(GroupRow { name, gid, members: fields.next().unwrap_or_default() })
    })
}

/// A decimal id. The highest means "leave as it is" to the kernel and is no id.
fn parse_id(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_line_is_read() {
        let account = parse_account(b"user:x:1000:1001:U:/home/user:/bin/bash").unwrap();

        assert_eq!((account.uid, account.gid), (1000, 1001));
        assert_eq!(account.home, b"/home/user");
    }

    #[test]
    fn broken_account_lines_are_passed_over() {
        for line in [&b""[..], b"x", b"a:x:b:c:d:e:f", b"a:x:-1:0::/:", b":x:1:1::/:"] {
            assert_eq!(parse_account(line), None);
        }
    }

    #[test]
    fn highest_id_is_refused() {
        assert_eq!(parse_id(b"4294967295"), None);
        assert_eq!(parse_id(b"4294967294"), Some(4_294_967_294));
        assert_eq!(parse_id(b"+1"), None);
    }

    #[test]
    fn group_line_is_read() {
        let rows: Vec<_> = group_rows(b"a:x:5:b,c\nbroken\nd:x:6:\n").collect();

        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].name, rows[0].gid, rows[0].members), (&b"a"[..], 5, &b"b,c"[..]));
    }
}

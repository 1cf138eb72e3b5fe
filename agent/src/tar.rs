// SPDX-License-Identifier: Apache-2.0
//! Headers of tar members: ustar with pax records both ways, GNU long names when reading. Pure
//! functions from bytes to records and back; who reads and writes files is in `handler/files`.

use crate::error::{Error, Result};

pub const BLOCK_BYTES: usize = 512;
/// Of a pax or GNU long-name member: paths are at most 4 KiB, a header holds few.
pub const MAX_EXTENSION_BYTES: u64 = 64 << 10;

pub type Block = [u8; BLOCK_BYTES];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    File,
    HardLink,
    Symlink,
    Directory,
    Fifo,
    /// Pax records for the next member, or for all; GNU's long name and long link target.
    Extension(Extension),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    Pax,
    PaxGlobal,
    LongName,
    LongLink,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub kind: Type,
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    pub modified_seconds: i64,
}

/// Bytes after `size` of content up to the next block.
pub fn padding(size: u64) -> usize {
    let used = usize::try_from(size % BLOCK_BYTES as u64).unwrap_or(0);
    (BLOCK_BYTES - used) % BLOCK_BYTES
}

pub fn is_end(block: &Block) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// Reads one header. Devices and what this code does not know are refused.
pub fn parse_header(block: &Block) -> Result<Member> {
    check_sum(block)?;
    let mut path = text(&block[..100]).to_vec();
    let prefix = text(&block[345..500]);
    // GNU's own format keeps other things where ustar has the prefix.
    if &block[257..263] == b"ustar\0" && !prefix.is_empty() {
        path = [prefix, b"/", &path].concat();
    }
    let kind = parse_type(block[156], &path)?;
    let has_content = matches!(kind, Type::File | Type::Extension(_));
    let size = number(&block[124..136])?;
    Ok(Member {
        kind,
        path,
        link: text(&block[157..257]).to_vec(),
        // Some archives keep the type of file here too; only permission bits are kept.
        mode: u32::try_from(number(&block[100..108])? & 0o7777).unwrap_or(0),
        uid: number(&block[108..116])?,
        gid: number(&block[116..124])?,
        size: if has_content { size } else { 0 },
        modified_seconds: i64::try_from(number(&block[136..148])?).unwrap_or(0),
    })
}

fn parse_type(byte: u8, path: &[u8]) -> Result<Type> {
    match byte {
        // Before ustar a directory was a file whose name ends in a slash.
        b'0' | 0 | b'7' if path.last() == Some(&b'/') => Ok(Type::Directory),
        b'0' | 0 | b'7' => Ok(Type::File),
        b'1' => Ok(Type::HardLink),
        b'2' => Ok(Type::Symlink),
        b'3' | b'4' => Err(Error::Invalid("a device in the archive")),
        b'5' => Ok(Type::Directory),
        b'6' => Ok(Type::Fifo),
        b'x' => Ok(Type::Extension(Extension::Pax)),
        b'g' => Ok(Type::Extension(Extension::PaxGlobal)),
        b'L' => Ok(Type::Extension(Extension::LongName)),
        b'K' => Ok(Type::Extension(Extension::LongLink)),
        _ => Err(Error::Invalid("an unknown type of member in the archive")),
    }
}

fn check_sum(block: &Block) -> Result<()> {
    let stated = number(&block[148..156])?;
    if stated != u64::from(sum(block)) {
        return Err(Error::Invalid("the archive has a broken header"));
    }
    Ok(())
}

/// The sum of all bytes, with blanks in place of the sum itself.
fn sum(block: &Block) -> u32 {
    let all: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let own: u32 = block[148..156].iter().map(|byte| u32::from(*byte)).sum();
    all - own + 8 * u32::from(b' ')
}

fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// Octal digits between blanks; or, with the top bit set, GNU's big-endian binary.
fn number(field: &[u8]) -> Result<u64> {
    let broken = Error::Invalid("the archive has a broken number");
    if let [0x80, rest @ ..] = field {
        let (high, low) = rest.split_at(rest.len() - 7);
        let is_small = high.iter().all(|byte| *byte == 0);
        let value = low.iter().fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
        return Some(value).filter(|_| is_small).ok_or(broken);
    }
    let digits: &[u8] = text(field);
    let start = digits.iter().position(|byte| *byte != b' ').unwrap_or(digits.len());
    let digits = &digits[start..];
    let end = digits.iter().position(|byte| *byte == b' ').unwrap_or(digits.len());
    let octal = |value: u64, byte: &u8| match byte {
        b'0'..=b'7' => Some(value << 3 | u64::from(byte - b'0')),
        _ => None,
    };
    digits[..end].iter().try_fold(0, octal).ok_or(broken)
}

/// What extensions say of the next member.
#[derive(Default)]
pub struct Overrides {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    modified_seconds: Option<i64>,
}

impl Overrides {
    pub fn add(&mut self, extension: Extension, content: &[u8]) -> Result<()> {
        match extension {
            Extension::LongName => self.path = Some(text(content).to_vec()),
            Extension::LongLink => self.link = Some(text(content).to_vec()),
            // It says nothing that is used here of a single member.
            Extension::PaxGlobal => {}
            Extension::Pax => return self.add_records(content),
        }
        Ok(())
    }

    pub fn apply(&mut self, member: &mut Member) {
        let Overrides { path, link, size, modified_seconds } = std::mem::take(self);
        member.path = path.unwrap_or_else(|| std::mem::take(&mut member.path));
        member.link = link.unwrap_or_else(|| std::mem::take(&mut member.link));
        if member.kind == Type::File {
            member.size = size.unwrap_or(member.size);
        }
        member.modified_seconds = modified_seconds.unwrap_or(member.modified_seconds);
    }

    /// `LENGTH KEY=VALUE\n`, the length being that of the whole record.
    fn add_records(&mut self, mut content: &[u8]) -> Result<()> {
        let broken = Error::Invalid("the archive has a broken pax record");
        while !content.is_empty() {
            let blank = content.iter().position(|byte| *byte == b' ').ok_or(broken)?;
            let length = decimal(&content[..blank]).and_then(|n| usize::try_from(n).ok());
            let length = length.filter(|n| *n > blank + 1 && *n <= content.len()).ok_or(broken)?;
            let (record, rest) = content.split_at(length);
            content = rest;
            let pair = record[blank + 1..].strip_suffix(b"\n").ok_or(broken)?;
            let equals = pair.iter().position(|byte| *byte == b'=').ok_or(broken)?;
            self.add_record(&pair[..equals], &pair[equals + 1..])?;
        }
        Ok(())
    }

    fn add_record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let broken = Error::Invalid("the archive has a broken pax record");
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value).ok_or(broken)?),
            b"mtime" => self.modified_seconds = seconds(value),
            // The content would not be the file's bytes.
            _ if key.starts_with(b"GNU.sparse") => {
                return Err(Error::Invalid("a sparse file in the archive"))
            }
            _ => {}
        }
        Ok(())
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Whole seconds of a time that may have a sign and a fraction.
fn seconds(text: &[u8]) -> Option<i64> {
    let whole = text.split(|byte| *byte == b'.').next()?;
    std::str::from_utf8(whole).ok()?.parse().ok()
}

/// The header of a member, behind a pax header where ustar's fields are too small.
pub fn render_header(member: &Member) -> Vec<u8> {
    let mut records = Vec::new();
    if member.path.len() > 100 {
        push_record(&mut records, "path", &member.path);
    }
    if member.link.len() > 100 {
        push_record(&mut records, "linkpath", &member.link);
    }
    if octal_fits(member.size, 11).is_none() {
        push_record(&mut records, "size", member.size.to_string().as_bytes());
    }
    if member.modified_seconds < 0
        || octal_fits(member.modified_seconds.unsigned_abs(), 11).is_none()
    {
        push_record(&mut records, "mtime", member.modified_seconds.to_string().as_bytes());
    }
    for (key, id) in [("uid", member.uid), ("gid", member.gid)] {
        if octal_fits(id, 7).is_none() {
            push_record(&mut records, key, id.to_string().as_bytes());
        }
    }
    let mut out = Vec::with_capacity(BLOCK_BYTES);
    if !records.is_empty() {
        let size = records.len() as u64;
        out.extend_from_slice(&render_block(
            b'x',
            b"pax",
            b"",
            0o644,
            &Member { size, ..member.clone() },
        ));
        out.extend_from_slice(&records);
        out.resize(out.len() + padding(size), 0);
    }
    let kind = type_byte(member.kind);
    out.extend_from_slice(&render_block(kind, &member.path, &member.link, member.mode, member));
    out
}

fn type_byte(kind: Type) -> u8 {
    match kind {
        Type::File => b'0',
        Type::HardLink => b'1',
        Type::Symlink => b'2',
        Type::Directory => b'5',
        Type::Fifo => b'6',
        Type::Extension(Extension::Pax) => b'x',
        Type::Extension(Extension::PaxGlobal) => b'g',
        Type::Extension(Extension::LongName) => b'L',
        Type::Extension(Extension::LongLink) => b'K',
    }
}

fn render_block(kind: u8, path: &[u8], link: &[u8], mode: u32, member: &Member) -> Block {
    let mut block = [0; BLOCK_BYTES];
    put(&mut block[..100], path);
    put_octal(&mut block[100..108], u64::from(mode));
    put_octal(&mut block[108..116], member.uid);
    put_octal(&mut block[116..124], member.gid);
    put_octal(&mut block[124..136], member.size);
    put_octal(&mut block[136..148], u64::try_from(member.modified_seconds).unwrap_or(0));
    block[156] = kind;
    put(&mut block[157..257], link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum = u64::from(sum(&block));
    put_octal(&mut block[148..155], sum);
    block[155] = b' ';
    block
}

/// What does not fit is cut: a pax record before the header holds it whole.
fn put(field: &mut [u8], text: &[u8]) {
    let count = text.len().min(field.len());
    field[..count].copy_from_slice(&text[..count]);
}

fn put_octal(field: &mut [u8], number: u64) {
    let digits = field.len() - 1;
    let text = octal_fits(number, digits).unwrap_or_else(|| "0".repeat(digits));
    put(field, text.as_bytes());
}

fn octal_fits(number: u64, digits: usize) -> Option<String> {
    Some(format!("{:0width$o}", number, width = digits)).filter(|text| text.len() == digits)
}

fn push_record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    // The length counts its own digits, so it is tried until it is right.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{} {}=", length, key).as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(path: &[u8]) -> Member {
        Member {
            kind: Type::File,
            path: path.to_vec(),
            link: Vec::new(),
            mode: 0o644,
            uid: 1000,
            gid: 1000,
            size: 12,
            modified_seconds: 1_700_000_000,
        }
    }

    fn block(bytes: &[u8]) -> Block {
        bytes.try_into().unwrap()
    }

    #[test]
    fn short_member_round_trips_in_one_block() {
        let member = member(b"a/b");

        let header = render_header(&member);

        assert_eq!(parse_header(&block(&header)), Ok(member));
    }

    #[test]
    fn long_path_and_large_size_round_trip_through_pax() {
        for length in [101, 980, 990, 1000, 4000] {
            let mut member = member(&vec![b'p'; length]);
            member.size = 1 << 40;
            member.modified_seconds = -5;
            let header = render_header(&member);
            let mut overrides = Overrides::default();
            let pax = parse_header(&block(&header[..512])).unwrap();
            let content = &header[512..512 + usize::try_from(pax.size).unwrap()];

            overrides.add(Extension::Pax, content).unwrap();
            let mut read = parse_header(&block(&header[header.len() - 512..])).unwrap();
            overrides.apply(&mut read);

            assert_eq!(pax.kind, Type::Extension(Extension::Pax));
            assert_eq!(read, member);
        }
    }

    #[test]
    fn broken_pax_records_are_refused() {
        let records: [&[u8]; 7] = [
            b"x",
            b"5 a=b",
            b"99 a=b\n",
            b"0 a=b\n",
            b"6 ab=\x00",
            b"18446744073709551615 a=b\n",
            b" a=b\n",
        ];
        for content in records {
            assert!(Overrides::default().add(Extension::Pax, content).is_err(), "{:?}", content);
        }
    }

    #[test]
    fn changed_header_is_refused() {
        let mut header = block(&render_header(&member(b"a")));
        header[0] = b'b';

        assert!(parse_header(&header).is_err());
    }

    #[test]
    fn gnu_binary_size_is_read() {
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1]), Ok((2 << 32) + 1));
        assert!(number(&[0x80, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1]).is_err());
        assert!(number(&[0xff; 12]).is_err());
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The subset of msgpack that the protocol uses: nil, bool, integers, str, bin, array, map.
//!
//! Decoding is bounded in depth and in the number of values, so that a small hostile message cannot
//! become a large tree. Encoding always takes the shortest form.

use std::collections::BTreeSet;

use crate::error::{Error, Result};

pub const MAX_DEPTH: usize = 16;
/// Values in one message; each costs 32 bytes here, so this bounds a message to 4 MiB of tree.
pub const MAX_VALUES: usize = 128 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    /// Only for numbers above `i64::MAX`; smaller ones are always `Int`.
    Uint(u64),
    Str(String),
    Bin(Vec<u8>),
    Array(Vec<Value>),
    Map(Vec<(String, Value)>),
}

/// Decodes exactly one value that fills `bytes`.
pub fn decode(bytes: &[u8]) -> Result<Value> {
    let mut decoder = Decoder { rest: bytes, left: MAX_VALUES };
    let value = decoder.value(0)?;
    if !decoder.rest.is_empty() {
        return Err(Error::Invalid("bytes after the message"));
    }
    Ok(value)
}

struct Decoder<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Decoder<'a> {
    fn value(&mut self, depth: usize) -> Result<Value> {
        self.left = self.left.checked_sub(1).ok_or(Error::Limit("too many values in a message"))?;
        let tag = self.take(1)?[0];
        match tag {
            0x00..=0x7f => Ok(Value::Int(i64::from(tag))),
            0x80..=0x8f => self.map(usize::from(tag & 0x0f), depth),
            0x90..=0x9f => self.array(usize::from(tag & 0x0f), depth),
            0xa0..=0xbf => self.text(usize::from(tag & 0x1f)),
            0xc0 => Ok(Value::Nil),
            0xc2 => Ok(Value::Bool(false)),
            0xc3 => Ok(Value::Bool(true)),
            0xc4..=0xc6 => {
                let length = self.length(1 << (tag - 0xc4))?;
                Ok(Value::Bin(self.take(length)?.to_vec()))
            }
            0xcc..=0xcf => Ok(from_unsigned(self.big_endian(1 << (tag - 0xcc))?)),
            0xd0..=0xd3 => self.signed(1 << (tag - 0xd0)),
            0xd9..=0xdb => {
                let length = self.length(1 << (tag - 0xd9))?;
                self.text(length)
            }
            0xdc | 0xdd => {
                let count = self.length(2 << (tag - 0xdc))?;
                self.array(count, depth)
            }
            0xde | 0xdf => {
                let count = self.length(2 << (tag - 0xde))?;
                self.map(count, depth)
            }
            0xe0..=0xff => Ok(Value::Int(i64::from(tag) - 256)),
            _ => Err(Error::Invalid("float, extension or reserved msgpack type")),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        if count > self.rest.len() {
            return Err(Error::Invalid("message ends early"));
        }
        let (head, tail) = self.rest.split_at(count);
        self.rest = tail;
        Ok(head)
    }

    fn big_endian(&mut self, width: usize) -> Result<u64> {
        let bytes = self.take(width)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, width: usize) -> Result<usize> {
        let number = self.big_endian(width)?;
        usize::try_from(number).map_err(|_| Error::Limit("length does not fit"))
    }

    fn signed(&mut self, width: usize) -> Result<Value> {
        let number = self.big_endian(width)?;
        let unused_bits = 64 - 8 * width;
        // Shifting the sign bit to the top and back extends it.
        Ok(Value::Int(i64::from_be_bytes((number << unused_bits).to_be_bytes()) >> unused_bits))
    }

    fn text(&mut self, length: usize) -> Result<Value> {
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| Error::Invalid("str is not UTF-8"))?;
        Ok(Value::Str(text.to_owned()))
    }

    fn array(&mut self, count: usize, depth: usize) -> Result<Value> {
        self.check_container(count, depth)?;
        let mut items = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            items.push(self.value(depth + 1)?);
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, count: usize, depth: usize) -> Result<Value> {
        self.check_container(count.saturating_mul(2), depth)?;
        let mut pairs = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            let key = match self.value(depth + 1)? {
                Value::Str(key) => key,
                _ => return Err(Error::Invalid("map key is not a str")),
            };
            pairs.push((key, self.value(depth + 1)?));
        }
        if has_repeated_key(&pairs) {
            return Err(Error::Invalid("repeated map key"));
        }
        Ok(Value::Map(pairs))
    }

    /// Every value takes at least one byte, so a count beyond what is left is a lie; checking it
    /// first keeps the allocation in proportion to the message.
    fn check_container(&self, values: usize, depth: usize) -> Result<()> {
        if depth >= MAX_DEPTH {
            return Err(Error::Limit("message is nested too deeply"));
        }
        if values > self.rest.len() {
            return Err(Error::Invalid("message ends early"));
        }
        if values > self.left {
            return Err(Error::Limit("too many values in a message"));
        }
        Ok(())
    }
}

fn from_unsigned(number: u64) -> Value {
    i64::try_from(number).map_or(Value::Uint(number), Value::Int)
}

fn has_repeated_key(pairs: &[(String, Value)]) -> bool {
    let mut seen = BTreeSet::new();
    !pairs.iter().all(|(key, _)| seen.insert(key.as_str()))
}

/// Appends the shortest encoding of each thing it is given.
#[derive(Default)]
pub struct Encoder {
    pub bytes: Vec<u8>,
}

impl Encoder {
    pub fn value(&mut self, value: &Value) {
        match value {
            Value::Nil => self.nil(),
            Value::Bool(flag) => self.bool(*flag),
            Value::Int(number) => self.int(*number),
            Value::Uint(number) => self.uint(*number),
            Value::Str(text) => self.str(text),
            Value::Bin(bytes) => self.bin(bytes),
            Value::Array(items) => {
                self.array(items.len());
                items.iter().for_each(|item| self.value(item));
            }
            Value::Map(pairs) => {
                self.map(pairs.len());
                for (key, item) in pairs {
                    self.str(key);
                    self.value(item);
                }
            }
        }
    }

    pub fn nil(&mut self) {
        self.bytes.push(0xc0);
    }

    pub fn bool(&mut self, flag: bool) {
        self.bytes.push(if flag { 0xc3 } else { 0xc2 });
    }

    pub fn uint(&mut self, number: u64) {
        let bytes = number.to_be_bytes();
        match number {
            0..=0x7f => self.bytes.push(bytes[7]),
            0x80..=0xff => self.tagged(0xcc, &bytes[7..]),
            0x100..=0xffff => self.tagged(0xcd, &bytes[6..]),
            0x1_0000..=0xffff_ffff => self.tagged(0xce, &bytes[4..]),
            _ => self.tagged(0xcf, &bytes),
        }
    }

    pub fn int(&mut self, number: i64) {
        if let Ok(number) = u64::try_from(number) {
            return self.uint(number);
        }
        let bytes = number.to_be_bytes();
        match number {
            -0x20..=-1 => self.bytes.push(bytes[7]),
            -0x80..=-0x21 => self.tagged(0xd0, &bytes[7..]),
            -0x8000..=-0x81 => self.tagged(0xd1, &bytes[6..]),
            -0x8000_0000..=-0x8001 => self.tagged(0xd2, &bytes[4..]),
            _ => self.tagged(0xd3, &bytes),
        }
    }

    pub fn str(&mut self, text: &str) {
        self.head(text.len(), Some((0xa0, 32)), [Some(0xd9), Some(0xda), Some(0xdb)]);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub fn bin(&mut self, bytes: &[u8]) {
        self.head(bytes.len(), None, [Some(0xc4), Some(0xc5), Some(0xc6)]);
        self.bytes.extend_from_slice(bytes);
    }

    pub fn array(&mut self, count: usize) {
        self.head(count, Some((0x90, 16)), [None, Some(0xdc), Some(0xdd)]);
    }

    pub fn map(&mut self, count: usize) {
        self.head(count, Some((0x80, 16)), [None, Some(0xde), Some(0xdf)]);
    }

    /// A name or path: str where it is UTF-8, else bin.
    pub fn text_or_bin(&mut self, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.str(text),
            Err(_) => self.bin(bytes),
        }
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.bytes.push(tag);
        self.bytes.extend_from_slice(bytes);
    }

    /// `fixed` is the base tag and the number of lengths it holds; `sized` the tags with 8, 16 and
    /// 32 bits of length. Messages are bounded far below 32 bits.
    fn head(&mut self, length: usize, fixed: Option<(u8, u8)>, sized: [Option<u8>; 3]) {
        let bytes = (length as u64).to_be_bytes();
        if let Some((base, _)) = fixed.filter(|(_, below)| length < usize::from(*below)) {
            return self.bytes.push(base | bytes[7]);
        }
        match sized {
            [Some(tag), _, _] if length <= 0xff => self.tagged(tag, &bytes[7..]),
            [_, Some(tag), _] if length <= 0xffff => self.tagged(tag, &bytes[6..]),
            [_, _, Some(tag)] => self.tagged(tag, &bytes[4..]),
            _ => {}
        }
    }
}

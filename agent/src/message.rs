// SPDX-License-Identifier: Apache-2.0
//! Requests as fields with types, and replies as they are built. Knows no operation.

use crate::error::{Error, Result};
use crate::msgpack::{decode, Encoder, Value};

/// The fields of a control message. Unknown ones are ignored, so that a later generation can add.
pub struct Fields(Vec<(String, Value)>);

impl Fields {
    pub fn decode(payload: &[u8]) -> Result<Fields> {
        match decode(payload)? {
            Value::Map(pairs) => Ok(Fields(pairs)),
            _ => Err(Error::Invalid("control message is not a map")),
        }
    }

    /// The value under `name`; nil counts as absent.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let found = self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        found.filter(|value| **value != Value::Nil)
    }

    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Str(text)) => Ok(Some(text)),
            Some(_) => Err(Error::Invalid("a field that must be str is not")),
        }
    }

    pub fn bytes(&self, name: &str) -> Result<Option<&[u8]>> {
        self.get(name).map(as_bytes).transpose()
    }

    pub fn bool(&self, name: &str, default: bool) -> Result<bool> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(Error::Invalid("a field that must be bool is not")),
        }
    }

    /// An integer that must not be negative and must fit 63 bits, like every size and time here.
    pub fn number(&self, name: &str) -> Result<Option<u64>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Int(number)) => u64::try_from(*number)
                .map(Some)
                .map_err(|_| Error::Invalid("a field that must not be negative is")),
            Some(Value::Uint(_)) => Err(Error::Invalid("a number is too large")),
            Some(_) => Err(Error::Invalid("a field that must be int is not")),
        }
    }

    pub fn array(&self, name: &str) -> Result<Option<&[Value]>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(Error::Invalid("a field that must be array is not")),
        }
    }

    pub fn map(&self, name: &str) -> Result<&[(String, Value)]> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Value::Map(pairs)) => Ok(pairs),
            Some(_) => Err(Error::Invalid("a field that must be map is not")),
        }
    }

    /// A map with fields of its own.
    pub fn record(&self, name: &str) -> Result<Option<Fields>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Map(pairs)) => Ok(Some(Fields(pairs.clone()))),
            Some(_) => Err(Error::Invalid("a field that must be map is not")),
        }
    }

    /// Permission bits.
    pub fn mode(&self, name: &str) -> Result<Option<u32>> {
        match self.number(name)? {
            None => Ok(None),
            Some(mode) => match u32::try_from(mode) {
                Ok(mode) if mode <= 0o7777 => Ok(Some(mode)),
                _ => Err(Error::Invalid("mode is beyond 0o7777")),
            },
        }
    }
}

/// Names and paths travel as str or bin.
pub fn as_bytes(value: &Value) -> Result<&[u8]> {
    match value {
        Value::Str(text) => Ok(text.as_bytes()),
        Value::Bin(bytes) => Ok(bytes),
        _ => Err(Error::Invalid("a field that must be bytes is not")),
    }
}

/// A map under construction. It holds at most 15 pairs, so its head is one byte, patched in.
pub struct Record {
    encoder: Encoder,
    count: u8,
}

impl Record {
    pub fn new() -> Record {
        let mut encoder = Encoder { bytes: Vec::with_capacity(192) };
        encoder.map(0);
        Record { encoder, count: 0 }
    }

    pub fn event(name: &str) -> Record {
        Record::new().str("event", name)
    }

    pub fn done() -> Record {
        Record::event("done")
    }

    pub fn str(self, name: &str, text: &str) -> Record {
        self.pair(name, |encoder| encoder.str(text))
    }

    pub fn optional_str(self, name: &str, text: Option<&str>) -> Record {
        self.pair(name, |encoder| match text {
            Some(text) => encoder.str(text),
            None => encoder.nil(),
        })
    }

    pub fn strs(self, name: &str, texts: &[&str]) -> Record {
        self.pair(name, |encoder| {
            encoder.array(texts.len());
            texts.iter().for_each(|text| encoder.str(text));
        })
    }

    pub fn bytes(self, name: &str, bytes: &[u8]) -> Record {
        self.pair(name, |encoder| encoder.text_or_bin(bytes))
    }

    pub fn optional_bytes(self, name: &str, bytes: Option<&[u8]>) -> Record {
        self.pair(name, |encoder| match bytes {
            Some(bytes) => encoder.text_or_bin(bytes),
            None => encoder.nil(),
        })
    }

    pub fn int(self, name: &str, number: i64) -> Record {
        self.pair(name, |encoder| encoder.int(number))
    }

    pub fn uint(self, name: &str, number: u64) -> Record {
        self.pair(name, |encoder| encoder.uint(number))
    }

    pub fn optional_int(self, name: &str, number: Option<i32>) -> Record {
        self.pair(name, |encoder| match number {
            Some(number) => encoder.int(i64::from(number)),
            None => encoder.nil(),
        })
    }

    pub fn optional_uint(self, name: &str, number: Option<u64>) -> Record {
        self.pair(name, |encoder| match number {
            Some(number) => encoder.uint(number),
            None => encoder.nil(),
        })
    }

    pub fn bool(self, name: &str, flag: bool) -> Record {
        self.pair(name, |encoder| encoder.bool(flag))
    }

    pub fn record(self, name: &str, inner: Record) -> Record {
        self.pair(name, |encoder| encoder.bytes.extend(inner.finish()))
    }

    pub fn optional_record(self, name: &str, inner: Option<Record>) -> Record {
        self.pair(name, |encoder| match inner {
            Some(inner) => encoder.bytes.extend(inner.finish()),
            None => encoder.nil(),
        })
    }

    pub fn records(self, name: &str, items: &[Vec<u8>]) -> Record {
        self.pair(name, |encoder| {
            encoder.array(items.len());
            items.iter().for_each(|item| encoder.bytes.extend_from_slice(item));
        })
    }

    pub fn finish(self) -> Vec<u8> {
        self.encoder.bytes
    }

    fn pair(mut self, name: &str, value: impl FnOnce(&mut Encoder)) -> Record {
        self.count += 1;
        assert!(self.count < 16, "a record of ours has more than 15 pairs");
        self.encoder.bytes[0] = 0x80 | self.count;
        self.encoder.str(name);
        value(&mut self.encoder);
        self
    }
}

impl Default for Record {
    fn default() -> Record {
        Record::new()
    }
}

pub fn error_record(error: Error) -> Record {
    Record::event("error")
        .str("code", error.code())
        .int("errno", i64::from(error.errno()))
        .str("message", &error.to_string())
}

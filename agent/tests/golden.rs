// SPDX-License-Identifier: Apache-2.0
//! The frozen frames of each generation, which every codec must read and write alike.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod json;

use atoll_agent::error::{Error, Result};
use atoll_agent::frame::{push_frame, Header, Kind, HEADER_BYTES};
use atoll_agent::msgpack::{decode, Encoder, Value};
use json::Json;

const GOLDEN: &str = include_str!("../../protocol/agent/gen-1.json");
const LATER: &str = include_str!("../../protocol/agent/gen-2.json");
const LATEST: &str = include_str!("../../protocol/agent/gen-3.json");
const NEWEST: &str = include_str!("../../protocol/agent/gen-4.json");

#[test]
fn golden_frames_are_decoded_and_encoded_to_the_same_bytes() {
    let generations = [(GOLDEN, 80), (LATER, 25), (LATEST, 20), (NEWEST, 15)];
    for (generation, at_least) in generations {
        let generation = Json::parse(generation);
        let cases = generation.get("frames").items();
        assert!(cases.len() > at_least);
        cases.iter().for_each(check_case);
    }
}

#[test]
fn malformed_frames_are_refused_with_their_code() {
    let golden = Json::parse(GOLDEN);
    assert!(golden.get("malformed").items().len() > 40);

    for case in golden.get("malformed").items() {
        let bytes = from_hex(case.get("hex").text());
        let read = split(&bytes).and_then(|(header, payload)| match header.kind {
            Kind::Control => match decode(payload)? {
                Value::Map(_) => Ok(()),
                _ => Err(Error::Invalid("no map")),
            },
            _ => Ok(()),
        });
        let code = read.err().map(Error::code);
        assert_eq!(code, Some(case.get("error").text()), "{}", case.get("name").text());
    }
}

#[test]
fn long_strings_arrays_and_maps_round_trip() {
    let text = Value::Str("a".repeat(70_000));
    let bin = Value::Bin(vec![0; 70_000]);
    let array = Value::Array(vec![Value::Nil; 70_000]);
    let pairs = (0..30_000).map(|number| (number.to_string(), Value::Int(number))).collect();

    for value in [text, bin, array, Value::Map(pairs)] {
        let mut encoder = Encoder::default();
        encoder.value(&value);
        assert_eq!(decode(&encoder.bytes), Ok(value));
    }
}

#[test]
fn integers_of_any_width_are_read() {
    let wide: [(&[u8], i64); 5] = [
        (b"\xcc\x05", 5),
        (b"\xcd\x00\x05", 5),
        (b"\xd3\x00\x00\x00\x00\x00\x00\x00\x05", 5),
        (b"\xd1\xff\xff", -1),
        (b"\xd0\xff", -1),
    ];
    for (bytes, number) in wide {
        assert_eq!(decode(bytes), Ok(Value::Int(number)));
    }
}

#[test]
fn too_many_values_are_refused() {
    let nils = 200_000_u32;
    let mut bytes = vec![0xdd];
    bytes.extend_from_slice(&nils.to_be_bytes());
    bytes.resize(bytes.len() + nils as usize, 0xc0);

    assert!(matches!(decode(&bytes), Err(Error::Limit(_))));
}

fn check_case(case: &Json) {
    let name = case.get("name").text();
    let bytes = from_hex(case.get("frame_hex").text());
    let (header, payload) = split(&bytes).unwrap();
    assert_eq!(kind_name(header.kind), case.get("kind").text(), "{}", name);
    assert_eq!(i128::from(header.offset), case.get("offset").number(), "{}", name);
    let mut again = Vec::new();
    if header.kind == Kind::Control {
        let expected = to_value(case.get("value"));
        assert_eq!(decode(payload).unwrap(), expected, "{}", name);
        let mut encoder = Encoder::default();
        encoder.value(&expected);
        push_frame(&mut again, header.kind, 0, &encoder.bytes);
    } else {
        assert_eq!(payload, from_hex(case.get("payload_hex").text()), "{}", name);
        push_frame(&mut again, header.kind, header.offset, payload);
    }
    assert_eq!(again, bytes, "{}", name);
}

fn split(bytes: &[u8]) -> Result<(Header, &[u8])> {
    let early = Error::Invalid("early");
    let head = bytes.get(..HEADER_BYTES).ok_or(early)?;
    let header = Header::decode(head.try_into().unwrap())?;
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES + header.length).ok_or(early)?;
    assert_eq!(bytes.len(), HEADER_BYTES + header.length);
    Ok((header, payload))
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Control => "control",
        Kind::Stdin => "stdin",
        Kind::Stdout => "stdout",
        Kind::Stderr => "stderr",
        Kind::Content => "content",
    }
}

fn to_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => match i64::try_from(*number) {
            Ok(number) => Value::Int(number),
            Err(_) => Value::Uint(u64::try_from(*number).unwrap()),
        },
        Json::Text(text) => Value::Str(text.clone()),
        Json::List(items) => Value::Array(items.iter().map(to_value).collect()),
        Json::Map(pairs) => match &pairs[..] {
            [(key, Json::Text(hex))] if key == "$bin" => Value::Bin(from_hex(hex)),
            _ => {
                Value::Map(pairs.iter().map(|(key, item)| (key.clone(), to_value(item))).collect())
            }
        },
    }
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let pairs = digits.map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

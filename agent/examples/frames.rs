// SPDX-License-Identifier: Apache-2.0
//! Frames from standard input, decoded and encoded again to standard output: another codec can be
//! compared with ours on any input. A refusal is one line on standard error, its code first, and
//! exit status 1. Not part of what ships.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use atoll_agent::error::{Error, Result};
use atoll_agent::frame::{push_frame, Header, Kind, HEADER_BYTES};
use atoll_agent::msgpack::{decode, Encoder, Value};

fn main() -> ExitCode {
    let mut input = Vec::new();
    if io::stdin().read_to_end(&mut input).is_err() {
        return ExitCode::from(2);
    }
    match recode(&input) {
        Ok(output) => match io::stdout().write_all(&output) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(2),
        },
        Err(error) => {
            eprintln!("{}: {}", error.code(), error);
            ExitCode::FAILURE
        }
    }
}

fn recode(mut input: &[u8]) -> Result<Vec<u8>> {
    let mut output = Vec::new();
    while !input.is_empty() {
        let (header, payload) = split_frame(&mut input)?;
        if header.kind == Kind::Control {
            let value = decode(payload)?;
            if !matches!(value, Value::Map(_)) {
                return Err(Error::Invalid("control message is not a map"));
            }
            let mut encoder = Encoder::default();
            encoder.value(&value);
            push_frame(&mut output, header.kind, header.offset, &encoder.bytes);
        } else {
            push_frame(&mut output, header.kind, header.offset, payload);
        }
    }
    Ok(output)
}

fn split_frame<'a>(input: &mut &'a [u8]) -> Result<(Header, &'a [u8])> {
    let early = Error::Invalid("frame ends early");
    let head = input.get(..HEADER_BYTES).and_then(|head| <[u8; HEADER_BYTES]>::try_from(head).ok());
    let header = Header::decode(&head.ok_or(early)?)?;
    let payload = input.get(HEADER_BYTES..HEADER_BYTES + header.length).ok_or(early)?;
    *input = &input[HEADER_BYTES + header.length..];
    Ok((header, payload))
}

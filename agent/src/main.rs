// SPDX-License-Identifier: Apache-2.0
//! `atoll-agent --socket PATH`: PID 1 of a sandbox.

use std::ffi::OsString;
use std::process::ExitCode;

use atoll_agent::init;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let path = match init::parse_arguments(&arguments) {
        Some(path) => path,
        None => {
            eprintln!("usage: atoll-agent --socket PATH");
            return ExitCode::from(2);
        }
    };
    match init::run(&path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("atoll-agent: cannot serve on {}: {}", path.display(), error);
            ExitCode::FAILURE
        }
    }
}

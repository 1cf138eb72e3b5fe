// SPDX-License-Identifier: Apache-2.0
//! The agent as a library, so that tests and the frame tool use the very code that ships.

#![deny(clippy::undocumented_unsafe_blocks, clippy::unwrap_used, clippy::expect_used)]
#![deny(clippy::cast_possible_truncation, clippy::dbg_macro, clippy::print_stdout)]
#![deny(unsafe_code)]

pub mod agent;
pub mod connection;
pub mod deadline;
pub mod directory;
pub mod drainer;
#[allow(unsafe_code)]
pub mod epoll_unsafe;
pub mod error;
#[allow(unsafe_code)]
pub mod file_unsafe;
pub mod frame;
#[allow(unsafe_code)]
pub mod gift_unsafe;
pub mod handler;
pub mod history;
pub mod init;
#[allow(unsafe_code)]
pub mod inotify_unsafe;
pub mod journal;
pub mod listeners;
pub mod log;
pub mod message;
pub mod msgpack;
pub mod outbox;
pub mod output;
pub mod path;
pub mod ports;
pub mod process;
#[allow(unsafe_code)]
pub mod pty_unsafe;
pub mod pump;
pub mod reader;
pub mod server;
pub mod session;
#[allow(unsafe_code)]
pub mod spawn_unsafe;
pub mod spill;
pub mod stdin;
pub mod stdio;
#[allow(unsafe_code)]
pub mod supervisor_unsafe;
#[allow(unsafe_code)]
pub mod sys_unsafe;
pub mod tar;
pub mod tree;
pub mod users;
pub mod waker;
pub mod walk;
pub mod watches;

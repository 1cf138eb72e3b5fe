// SPDX-License-Identifier: Apache-2.0
//! TCP ports of the sandbox: which ones listen, and connections to them.
//!
//! `listeners` reads the kernel's tables, `owners` says whose they are, `dial` connects, `link` moves
//! the bytes of one connection through `buffers`, and `exchange` drives all of them from one thread.

pub mod buffers;
pub mod dial;
pub mod exchange;
pub mod link;
pub mod listeners;
pub mod owners;

// SPDX-License-Identifier: Apache-2.0
//! Watched directories: the kernel's events (`events`) and the directories that are followed (`follow`)
//! become numbered changes (`watcher`, `changes`), which are kept for a time (`watch`, `table`).

pub mod books;
pub mod change;
pub mod changes;
pub mod events;
pub mod follow;
pub mod scan;
pub mod table;
pub mod temporary;
pub mod watch;
pub mod watcher;

// SPDX-License-Identifier: Apache-2.0
//! One watch: a thread that takes in what the kernel says, until it is stopped, its directory is gone,
//! or nobody has read for too long.

use std::os::unix::io::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use crate::error::{errno, Error, Result};
use crate::inotify_unsafe::Inotify;
use crate::path::AbsolutePath;
use crate::server::THREAD_STACK_BYTES;
use crate::sys_unsafe::{give_back_memory, poll_fds, PollFd, POLLIN};
use crate::waker::Waker;
use crate::watches::change::End;
use crate::watches::changes::Changes;
use crate::watches::follow::Work;
use crate::watches::table::{Usage, Watches};
use crate::watches::watcher::Watcher;

/// What a client asks for.
pub struct Wanted {
    pub path: AbsolutePath,
    pub is_recursive: bool,
    pub keep: usize,
    pub linger: Duration,
}

pub struct Watch {
    pub number: u64,
    pub path: AbsolutePath,
    pub is_recursive: bool,
    pub started_at: SystemTime,
    pub changes: Changes,
    linger: Duration,
    /// None once the watch has ended.
    watcher: Mutex<Option<Watcher>>,
    is_stopped: AtomicBool,
    waker: Waker,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Watch {
    /// Active when it is returned; `run` keeps it so.
    pub fn new(
        number: u64,
        wanted: Wanted,
        usage: &Usage,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Watch> {
        let Wanted { path, is_recursive, keep, linger } = wanted;
        let changes = Changes::new(keep, Arc::clone(&usage.bytes));
        let work = Work { changes: &changes, goes_on };
        let directories = Arc::clone(&usage.directories);
        let watcher = Watcher::new(path.clone(), is_recursive, directories, work)?;
        Ok(Watch {
            number,
            path,
            is_recursive,
            started_at: SystemTime::now(),
            changes,
            linger,
            watcher: Mutex::new(Some(watcher)),
            is_stopped: AtomicBool::new(false),
            waker: Waker::new()?,
            thread: Mutex::new(None),
        })
    }

    /// Takes in changes as they come, in a thread of its own.
    pub fn run(self: &Arc<Self>, watches: &Arc<Watches>) -> Result<()> {
        let (watch, watches) = (Arc::clone(self), Arc::clone(watches));
        let builder = thread::Builder::new().stack_size(THREAD_STACK_BYTES);
        let thread = builder.spawn(move || {
            watch.serve();
            watches.forget(watch.number);
            drop(watch);
            give_back_memory();
        })?;
        *self.lock_thread() = Some(thread);
        Ok(())
    }

    /// Ends it. The kernel's watches are freed when this returns.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.waker.wake();
        let thread = self.lock_thread().take();
        // A panic ends the whole program, so there is none to be told of.
        thread.into_iter().for_each(|thread| drop(thread.join()));
    }

    /// Takes in what the kernel has queued until now.
    pub fn take_in(&self) {
        let goes_on = || !self.is_stopped.load(Ordering::SeqCst);
        let mut watcher = self.lock_watcher();
        let end = match watcher.as_mut() {
            Some(watcher) => {
                let work = Work { changes: &self.changes, goes_on: &goes_on };
                watcher.take_in(work).unwrap_or_else(|error| match error {
                    Error::Closed => Some(End::Stopped),
                    // It would not do better at the next event.
                    _ => Some(End::Failed),
                })
            }
            None => None,
        };
        match end {
            Some(end) => self.end(&mut watcher, end),
            None => self.changes.wake(),
        }
        if watcher.as_ref().map_or(false, Watcher::has_more) {
            // They are in the kernel's queue no longer, so that it wakes nobody.
            self.waker.wake();
        }
    }

    /// There is one reader less.
    pub fn close_reader(&self, reader: u64) {
        self.changes.close(reader);
        self.waker.wake();
    }

    fn serve(&self) {
        let inotify = self.lock_watcher().as_ref().map(|watcher| Arc::clone(watcher.inotify()));
        while self.wait(inotify.as_deref()) {
            self.take_in();
            if self.changes.extent().ended.is_some() {
                // Nobody else holds it, so that the kernel's watches are freed.
                drop(inotify);
                // For those who have not read it all.
                while self.wait(None) {}
                return;
            }
        }
        self.end(&mut self.lock_watcher(), End::Stopped);
    }

    /// Until there may be something to do. False when it is time to stop.
    fn wait(&self, inotify: Option<&Inotify>) -> bool {
        let left = self.changes.time_left(self.linger);
        if self.is_stopped.load(Ordering::SeqCst) || left == Some(Duration::ZERO) {
            return false;
        }
        // One more than is left, so that it is over afterwards.
        let left = left.map(|left| left.as_millis() + 1);
        let timeout = left.map_or(-1, |left| i32::try_from(left).unwrap_or(i32::MAX));
        let entry = |fd| PollFd { fd, events: POLLIN, revents: 0 };
        let queue = inotify.map_or(-1, AsRawFd::as_raw_fd);
        let mut fds = [entry(self.waker.as_raw_fd()), entry(queue)];
        match poll_fds(&mut fds, timeout).map_err(Error::from) {
            Ok(_) | Err(Error::System(errno::EINTR)) => {}
            Err(_) => return false,
        }
        if fds[0].revents != 0 {
            self.waker.clear();
        }
        true
    }

    fn end(&self, watcher: &mut Option<Watcher>, end: End) {
        *watcher = None;
        self.changes.end(end);
        self.waker.wake();
    }

    fn lock_watcher(&self) -> MutexGuard<'_, Option<Watcher>> {
        // A panic ends the whole program, so a poisoned lock is never seen.
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

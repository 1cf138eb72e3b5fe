// SPDX-License-Identifier: Apache-2.0
//! Drives the pumps of processes whose client has gone, so that their output is kept, and whoever
//! still writes never sees a broken pipe. One thread for all of them, which lives while there are
//! any.

use std::os::unix::io::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::Result;
use crate::history::History;
use crate::pump::{Pump, Waits};
use crate::server::THREAD_STACK_BYTES;
use crate::sys_unsafe::{poll_fds, PollFd, POLLIN};
use crate::waker::Waker;

const DISCARD_BYTES: usize = 64 << 10;

pub struct Drainer {
    history: Arc<History>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    arrived: Vec<Pump>,
    /// Set while the thread lives.
    waker: Option<Waker>,
}

impl Drainer {
    pub fn new(history: Arc<History>) -> Drainer {
        Drainer { history, state: Mutex::default() }
    }

    pub fn adopt(self: &Arc<Self>, mut pump: Pump) {
        if pump.is_over() {
            return;
        }
        let mut state = self.lock();
        state.arrived.push(pump);
        match &state.waker {
            Some(waker) => waker.wake(),
            // Without a thread the pipes wait, unread but unbroken, for the next one.
            None => state.waker = self.start_thread().ok(),
        }
    }

    fn start_thread(self: &Arc<Self>) -> Result<Waker> {
        let waker = Waker::new()?;
        let (drainer, own_waker) = (Arc::clone(self), waker.clone());
        let builder = thread::Builder::new().stack_size(THREAD_STACK_BYTES);
        builder.spawn(move || drainer.run(&own_waker))?;
        Ok(waker)
    }

    fn run(&self, waker: &Waker) {
        let mut pumps: Vec<Pump> = Vec::new();
        let mut buffer = vec![0; DISCARD_BYTES];
        while self.take_arrived(&mut pumps) {
            let ready = wait_ready(waker, &mut pumps);
            let mut ready = ready.into_iter();
            // One for each, in the same order.
            pumps.retain_mut(|pump| match ready.next() {
                Some(ready) => self.turn(pump, &ready, &mut buffer),
                None => true,
            });
            self.history.make_room();
        }
    }

    /// False when there is nothing to do any more; the thread must then end.
    fn take_arrived(&self, pumps: &mut Vec<Pump>) -> bool {
        let mut state = self.lock();
        pumps.append(&mut state.arrived);
        if pumps.is_empty() {
            state.waker = None;
        }
        !pumps.is_empty()
    }

    /// False when the pump has done all it had to.
    fn turn(&self, pump: &mut Pump, ready: &Waits, buffer: &mut [u8]) -> bool {
        if ready.iter().all(|entry| entry.revents == 0) && !pump.has_news() {
            return true;
        }
        if pump.is_finished() {
            pump.discard(ready, buffer);
        } else if pump.read(ready).is_err() {
            pump.close_outputs();
        }
        pump.finish(&self.history);
        !pump.has_nothing()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the whole program, so a poisoned lock is never seen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sleeps until a pump or the waker is ready; says what is of each pump.
fn wait_ready(waker: &Waker, pumps: &mut [Pump]) -> Vec<Waits> {
    let mut fds = vec![PollFd { fd: waker.as_raw_fd(), events: POLLIN, revents: 0 }];
    fds.extend(pumps.iter().flat_map(|pump| pump.waits(Some(waker), false)));
    // One that has ended before we could hear of it is not waited for.
    let timeout = if pumps.iter().any(Pump::has_news) { 0 } else { -1 };
    // Interrupted or not, `revents` says what is ready.
    let _ = poll_fds(&mut fds, timeout);
    if fds[0].revents != 0 {
        waker.clear();
    }
    fds[1..].chunks_exact(3).map(|of_pump| [of_pump[0], of_pump[1], of_pump[2]]).collect()
}

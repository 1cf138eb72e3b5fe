// SPDX-License-Identifier: Apache-2.0
//! Drives all connections to ports from one thread, so that a thousand idle ones cost two descriptors
//! each and nothing else: a thread for each would soon be all that the sandbox may have.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::unix::io::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::epoll_unsafe::{Epoll, Event};
use crate::error::{Error, Result};
use crate::ports::buffers::Buffers;
use crate::ports::link::{Link, CLIENT, PROGRAM};
use crate::server::THREAD_STACK_BYTES;

const MAX_LINKS: usize = 4096;
const EVENTS_AT_ONCE: usize = 128;
/// How long what a client sent before it left may take to reach a program that does not read.
const LINGER: Duration = Duration::from_secs(10);
/// Without anything to move for so long, the memory that it moves through is given back.
const REST: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Exchange {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    links: HashMap<u64, Link>,
    buffers: Buffers,
    last: u64,
    /// Made with the first connection, and kept.
    epoll: Option<Arc<Epoll>>,
}

/// Links whose client has gone, by when they end at the latest.
type Leaving = VecDeque<(Instant, u64)>;

impl Exchange {
    /// Whether there is room for one more.
    pub fn check_room(&self) -> Result<()> {
        if self.lock().links.len() >= MAX_LINKS {
            return Err(Error::Limit("the sandbox has too many connections to its ports"));
        }
        Ok(())
    }

    /// Takes over a connection. What cannot be is closed.
    pub fn adopt(
        self: &Arc<Self>,
        client: OwnedFd,
        program: OwnedFd,
        early: Vec<u8>,
    ) -> Result<()> {
        let mut state = self.lock();
        let epoll = match &state.epoll {
            Some(epoll) => Arc::clone(epoll),
            None => self.start_thread()?,
        };
        state.epoll = Some(Arc::clone(&epoll));
        state.last += 1;
        let id = state.last;
        let link = Link::new(client, program, early, &mut state.buffers);
        // The thread waits for the lock before it looks for what these tokens mean.
        for end in [CLIENT, PROGRAM] {
            epoll.add(link.fd(end), token(id, end), link.awaited(end))?;
        }
        state.links.insert(id, link);
        Ok(())
    }

    fn start_thread(self: &Arc<Self>) -> io::Result<Arc<Epoll>> {
        let epoll = Arc::new(Epoll::new()?);
        let (exchange, own_epoll) = (Arc::clone(self), Arc::clone(&epoll));
        let builder = thread::Builder::new().stack_size(THREAD_STACK_BYTES);
        builder.spawn(move || exchange.run(&own_epoll))?;
        Ok(epoll)
    }

    fn run(&self, epoll: &Epoll) {
        let mut events = [Event::default(); EVENTS_AT_ONCE];
        let mut leaving = Leaving::new();
        let mut patience = -1;
        loop {
            // Interrupted is nothing ready.
            let count = epoll.wait(&mut events, patience).unwrap_or(0);
            let mut state = self.lock();
            if count == 0 {
                state.buffers.clear();
            }
            for event in &events[..count] {
                let (id, end) = parts(event.token);
                state.turn(epoll, (id, end), event.events, &mut leaving);
            }
            state.end_late(epoll, &mut leaving);
            patience = wait_ms(&leaving, &state.buffers);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the whole program, so a poisoned lock is never seen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn turn(&mut self, epoll: &Epoll, (id, end): (u64, usize), events: u32, leaving: &mut Leaving) {
        self.buffers.fit(self.links.len());
        // It may have ended by the event before.
        let link = match self.links.get_mut(&id) {
            Some(link) => link,
            None => return,
        };
        let was_gone = link.is_gone(end);
        link.turn(end, events, &mut self.buffers);
        if link.is_gone(end) && !was_gone {
            // Its hanging up would be told again and again. It is closed last, with the link.
            let _ = epoll.remove(link.fd(end));
            if end == CLIENT {
                leaving.push_back((Instant::now() + LINGER, id));
            }
        }
        if link.is_over() || !is_waited_for(epoll, id, link) {
            self.end(epoll, id);
        }
    }

    fn end(&mut self, epoll: &Epoll, id: u64) {
        if let Some(link) = self.links.remove(&id) {
            // Closing does so by itself only where no other descriptor of the same file is left.
            for end in [CLIENT, PROGRAM] {
                let _ = epoll.remove(link.fd(end));
            }
        }
    }

    fn end_late(&mut self, epoll: &Epoll, leaving: &mut Leaving) {
        let now = Instant::now();
        while leaving.front().map_or(false, |(at, _)| *at <= now) {
            if let Some((_, id)) = leaving.pop_front() {
                self.end(epoll, id);
            }
        }
    }
}

/// Says what to wait for, where that is not what it was. False where the kernel does not take it, which it always should.
fn is_waited_for(epoll: &Epoll, id: u64, link: &mut Link) -> bool {
    [CLIENT, PROGRAM].iter().all(|&end| {
        let is_news = !link.is_gone(end) && link.has_new_wish(end);
        !is_news || epoll.change(link.fd(end), token(id, end), link.awaited(end)).is_ok()
    })
}

fn token(id: u64, end: usize) -> u64 {
    id << 1 | end as u64
}

fn parts(token: u64) -> (u64, usize) {
    (token >> 1, if token & 1 == 0 { CLIENT } else { PROGRAM })
}

fn wait_ms(leaving: &Leaving, buffers: &Buffers) -> i32 {
    let rest = (!buffers.is_empty()).then_some(REST);
    let left = leaving.front().map(|(at, _)| at.saturating_duration_since(Instant::now()));
    left.into_iter()
        .chain(rest)
        .min()
        .map_or(-1, |left| i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX))
}

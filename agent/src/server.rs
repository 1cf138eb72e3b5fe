// SPDX-License-Identifier: Apache-2.0
//! Threads that wait for connections and serve one at a time each.
//!
//! Several wait in `accept` on the same listener, so that no connection ever waits for a thread to
//! be made: one is made when the last idle one takes work, and superfluous ones end.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::agent::Agent;
use crate::connection::Connection;
use crate::handler;

/// Of every thread; the kernel gives memory only for what is touched.
pub const THREAD_STACK_BYTES: usize = 128 << 10;
const FIRST_THREADS: usize = 2;
const MAX_IDLE_THREADS: usize = 4;
/// Connections beyond it wait in the kernel's backlog.
const MAX_THREADS: usize = 2048;
/// When accepting fails for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

pub struct Server {
    agent: Arc<Agent>,
    listener: UnixListener,
    threads: AtomicUsize,
    idle: AtomicUsize,
}

impl Server {
    /// Starts to serve, in threads of its own.
    pub fn start(agent: Arc<Agent>, listener: UnixListener) -> io::Result<()> {
        let (threads, idle) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let server = Arc::new(Server { agent, listener, threads, idle });
        for _ in 0..FIRST_THREADS {
            server.add_thread()?;
        }
        Ok(())
    }

    fn add_thread(self: &Arc<Self>) -> io::Result<()> {
        self.threads.fetch_add(1, Ordering::SeqCst);
        self.idle.fetch_add(1, Ordering::SeqCst);
        let server = Arc::clone(self);
        let builder = thread::Builder::new().stack_size(THREAD_STACK_BYTES);
        let spawned = builder.spawn(move || server.run());
        if spawned.is_err() {
            self.threads.fetch_sub(1, Ordering::SeqCst);
            self.idle.fetch_sub(1, Ordering::SeqCst);
        }
        spawned.map(drop)
    }

    fn run(self: Arc<Self>) {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(_) => {
                    thread::sleep(ACCEPT_PAUSE);
                    continue;
                }
            };
            self.take_work();
            handler::serve(&self.agent, Connection::new(stream));
            if !self.stay_idle() {
                return;
            }
        }
    }

    /// Leaves another thread waiting. If none can be made now, the next connection waits until a
    /// busy one is free, which is the limit doing its work.
    fn take_work(self: &Arc<Self>) {
        let was_last = self.idle.fetch_sub(1, Ordering::SeqCst) == 1;
        if was_last && self.threads.load(Ordering::SeqCst) < MAX_THREADS {
            let _ = self.add_thread();
        }
    }

    fn stay_idle(&self) -> bool {
        // One step: counted in and out again, it would hide from `take_work` that nobody waits.
        let one_more = |idle| (idle < MAX_IDLE_THREADS).then_some(idle + 1);
        let stays = self.idle.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_ok();
        if !stays {
            self.threads.fetch_sub(1, Ordering::SeqCst);
        }
        stays
    }
}

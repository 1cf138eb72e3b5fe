// SPDX-License-Identifier: Apache-2.0
//! Starts one command under a *supervisor* of its own.
//!
//! Whatever a command leaves behind (double forks, `setsid`, `nohup`) must stay attributable to it,
//! or a timeout could not kill it. Environment marks and resource limits can be shed by the
//! command, and cgroups are not ours inside. So each command gets a supervisor: a child process of
//! the agent that is a *subreaper*, makes the command, reaps it and every orphan of its tree, and
//! exits when nothing is left. The tree is then simply the supervisor's descendants.
//!
//! A fork would copy the agent's page tables twice per command. The supervisor is instead made with
//! `CLONE_VM | CLONE_FILES`: a process of its own that shares the agent's memory and descriptors, as
//! cheap as a thread; the command comes from it by `CLONE_VM | CLONE_VFORK`, with descriptors of its
//! own. Both run on a small stack of ours and obey these rules:
//!
//! - They use raw system calls, atomics and memory prepared before; never the allocator, a lock, a
//!   panic or `errno`, because they share the thread-local storage of the thread that made them.
//! - All signals stay blocked in the supervisor, so only SIGKILL and SIGSTOP act on it. Root inside
//!   the sandbox can send those; the agent then adopts the command (see `process.rs`).
//! - The agent's memory is not dumpable, so a command that has changed its user but has not yet
//!   exec'ed cannot be traced by other processes of that user.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::raw::{c_char, c_int, c_void};
use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::supervisor_unsafe::{notify, supervise};
use crate::sys_unsafe::{new_eventfd, read_bytes, send_signal, wait_any, Limit, SIGCONT};

const STACK_BYTES: usize = 64 << 10;
const GUARD_BYTES: usize = 4 << 10;
const SUPERVISOR_BYTES: usize = 24 << 10;
/// Stacks kept for the next commands.
const MAX_SPARE_STACKS: usize = 8;

pub const CLONE_VM: c_int = 0x100;
const CLONE_FS: c_int = 0x200;
const CLONE_FILES: c_int = 0x400;
pub const SIGCHLD: c_int = 17;

/// The low byte of a wait status that tells of a stop.
const STOPPED: c_int = 0x7f;

pub const STATE_STARTING: i32 = 0;
pub const STATE_RUNNING: i32 = 1;
pub const STATE_FAILED: i32 = 2;
pub const STATE_EXITED: i32 = 3;
/// The supervisor was killed and the command is now the agent's own child.
pub const STATE_ADOPTED: i32 = 4;

pub const STAGE_SETUP: i32 = 1;
pub const STAGE_DIRECTORY: i32 = 2;
pub const STAGE_EXEC: i32 = 3;

/// What the supervisor and the command's first moments tell the agent.
pub struct Report {
    state: AtomicI32,
    pub main_pid: AtomicI32,
    wait_status: AtomicI32,
    pub stage: AtomicI32,
    pub errno: AtomicI32,
    /// None once nobody can write to it any more.
    event: Mutex<Option<Arc<OwnedFd>>>,
    /// Its number, for the supervisor, which must take no lock.
    event_fd: RawFd,
}

impl Report {
    pub fn new() -> io::Result<Report> {
        let event = new_eventfd()?;
        Ok(Report {
            state: AtomicI32::new(STATE_STARTING),
            main_pid: AtomicI32::new(0),
            wait_status: AtomicI32::new(0),
            stage: AtomicI32::new(0),
            errno: AtomicI32::new(0),
            event_fd: event.as_raw_fd(),
            event: Mutex::new(Some(Arc::new(event))),
        })
    }

    pub fn state(&self) -> i32 {
        self.state.load(Ordering::SeqCst)
    }

    /// The command's pid, 0 before it exists.
    pub fn main_pid(&self) -> c_int {
        self.main_pid.load(Ordering::SeqCst)
    }

    /// Meaningful in `STATE_EXITED`.
    pub fn wait_status(&self) -> c_int {
        self.wait_status.load(Ordering::SeqCst)
    }

    /// Meaningful in `STATE_FAILED`: one of the stages, and the error number.
    pub fn failure(&self) -> (i32, i32) {
        (self.stage.load(Ordering::SeqCst), self.errno.load(Ordering::SeqCst))
    }

    /// Becomes readable when the state changes.
    pub fn event(&self) -> Option<Arc<OwnedFd>> {
        lock(&self.event).clone()
    }

    /// Nothing will be published any more: the supervisor has been reaped, and its command has
    /// ended. Whoever still waits holds the event.
    pub fn close_event(&self) {
        *lock(&self.event) = None;
    }

    pub fn set_exited(&self, wait_status: c_int) {
        self.wait_status.store(wait_status, Ordering::SeqCst);
        self.publish(STATE_EXITED);
    }

    /// Runs in the supervisor too: atomics and one system call.
    pub fn publish(&self, state: i32) {
        self.state.store(state, Ordering::SeqCst);
        notify(self.event_fd);
    }
}

pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    /// Whether this is the agent's own user, so that no privilege is given up.
    pub keeps_user: bool,
}

/// Everything the command needs, allocated before it exists.
pub struct Launch {
    pub argv: Pointers,
    pub env: Pointers,
    /// Programs to try in order, as `execvp` does.
    pub candidates: Vec<CString>,
    pub directory: CString,
    /// Where the directory cannot be entered, the root does as well.
    pub may_use_root_directory: bool,
    pub credentials: Option<Credentials>,
    pub stdio: [RawFd; 3],
    /// Whether the first of them becomes the controlling terminal.
    pub has_terminal: bool,
    pub files: Limit,
    pub reset_oom_score: bool,
}

impl Launch {
    pub fn new(argv: Vec<CString>, env: Vec<CString>, candidates: Vec<CString>) -> Launch {
        Launch {
            argv: Pointers::new(argv),
            env: Pointers::new(env),
            candidates,
            directory: CString::default(),
            may_use_root_directory: false,
            credentials: None,
            stdio: [0, 1, 2],
            has_terminal: false,
            files: Limit::default(),
            reset_oom_score: false,
        }
    }

    pub fn directory(mut self, directory: CString, may_use_root: bool) -> Launch {
        self.directory = directory;
        self.may_use_root_directory = may_use_root;
        self
    }

    pub fn credentials(mut self, credentials: Option<Credentials>) -> Launch {
        self.credentials = credentials;
        self
    }

    pub fn limits(mut self, files: Limit, reset_oom_score: bool) -> Launch {
        self.files = files;
        self.reset_oom_score = reset_oom_score;
        self
    }

    /// The descriptors must stay open until the command has started; each is above 2.
    pub fn stdio(mut self, stdio: [RawFd; 3], has_terminal: bool) -> Launch {
        self.stdio = stdio;
        self.has_terminal = has_terminal;
        self
    }
}

/// Strings with the null-terminated array of pointers to them that `execve` wants.
pub struct Pointers {
    _strings: Vec<CString>,
    pub pointers: Vec<*const c_char>,
}

impl Pointers {
    fn new(strings: Vec<CString>) -> Pointers {
        let mut pointers: Vec<_> = strings.iter().map(|text| text.as_ptr()).collect();
        pointers.push(ptr::null());
        Pointers { _strings: strings, pointers }
    }
}

/// Memory for the stacks of a supervisor (upper part) and of its command until exec (lower part),
/// above a guard page.
pub struct Stack(*mut u8);

// SAFETY: the mapping belongs to this value alone and may be used from any thread.
unsafe impl Send for Stack {}
// SAFETY: no method reads or writes the mapping.
unsafe impl Sync for Stack {}

extern "C" {
    pub fn clone(
        start: extern "C" fn(*mut c_void) -> c_int,
        stack: *mut c_void,
        flags: c_int,
        argument: *mut c_void,
        ...
    ) -> c_int;
    fn mmap(
        at: *mut c_void,
        n: usize,
        protect: c_int,
        flags: c_int,
        fd: c_int,
        o: i64,
    ) -> *mut c_void;
    fn munmap(at: *mut c_void, length: usize) -> c_int;
    fn mprotect(at: *mut c_void, length: usize, protect: c_int) -> c_int;
}

impl Stack {
    pub fn new() -> io::Result<Stack> {
        const PROT_READ_WRITE: c_int = 3;
        const MAP_PRIVATE_ANONYMOUS_STACK: c_int = 0x2_0022;
        // SAFETY: asks for new memory wherever the kernel likes.
        let base = unsafe {
            mmap(ptr::null_mut(), STACK_BYTES, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_STACK, -1, 0)
        };
        if base as isize == -1 {
            return Err(io::Error::last_os_error());
        }
        let stack = Stack(base.cast());
        // SAFETY: takes access from the first page of our own new mapping.
        if unsafe { mprotect(base, GUARD_BYTES, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stack)
    }

    fn supervisor_top(&self) -> *mut c_void {
        self.0.wrapping_add(STACK_BYTES).cast()
    }

    fn command_top(&self) -> *mut c_void {
        self.0.wrapping_add(STACK_BYTES - SUPERVISOR_BYTES).cast()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `new` mapped. The owner drops a stack only once its
        // supervisor has been reaped, so nothing runs on it.
        unsafe { munmap(self.0.cast(), STACK_BYTES) };
    }
}

/// What a supervisor reads until it has published that its command runs or failed.
pub struct Orders {
    pub launch: Launch,
    pub report: Arc<Report>,
    pub command_top: *mut c_void,
}

struct Resident {
    report: Arc<Report>,
    stack: Stack,
}

/// All supervisors that have not been reaped, and what must live as long as they do.
#[derive(Default)]
pub struct Nursery {
    residents: Mutex<BTreeMap<c_int, Resident>>,
    spare: Mutex<Vec<Stack>>,
}

/// A child of the agent that has ended: a supervisor, or an orphan it was left.
pub struct Reaped {
    pub pid: c_int,
    pub wait_status: c_int,
}

impl Nursery {
    /// Makes a supervisor, which makes the command. `on_made` hears its pid before it can be
    /// reaped.
    pub fn order(
        &self,
        launch: Launch,
        report: &Arc<Report>,
        on_made: impl FnOnce(c_int),
    ) -> io::Result<Ordered> {
        let stack = match lock(&self.spare).pop() {
            Some(stack) => stack,
            None => Stack::new()?,
        };
        let command_top = stack.command_top();
        let orders = Box::new(Orders { launch, report: Arc::clone(report), command_top });
        let argument = Box::into_raw(orders);
        let flags = CLONE_VM | CLONE_FS | CLONE_FILES | SIGCHLD;
        // Held over the clone: `reap` must not meet a supervisor that is not listed yet.
        let mut residents = lock(&self.residents);
        // SAFETY: the stack is ours and unused until the supervisor has been reaped; `supervise`
        // obeys the module's rules; `Ordered` keeps the orders for as long as they are read.
        let pid = unsafe { clone(supervise, stack.supervisor_top(), flags, argument.cast()) };
        if pid < 0 {
            let error = io::Error::last_os_error();
            // SAFETY: no supervisor exists, so the box is ours alone again.
            drop(unsafe { Box::from_raw(argument) });
            return Err(error);
        }
        residents.insert(pid, Resident { report: Arc::clone(report), stack });
        on_made(pid);
        Ok(Ordered { report: Arc::clone(report), orders: argument })
    }

    /// Reaps one ended child, if there is one.
    pub fn reap(&self) -> io::Result<Option<Reaped>> {
        let (pid, wait_status) = loop {
            match wait_any()? {
                Some((pid, status)) if status & 0xff == STOPPED => self.resume(pid),
                Some(ended) => break ended,
                None => return Ok(None),
            }
        };
        let resident = lock(&self.residents).remove(&pid);
        if let Some(Resident { report, stack }) = resident {
            let state = report.state();
            if matches!(state, STATE_STARTING | STATE_RUNNING) {
                report.publish(STATE_ADOPTED);
            }
            if state == STATE_STARTING {
                // The command may still be on its way to exec on this stack: given up for good.
                std::mem::forget(stack);
                return Ok(Some(Reaped { pid, wait_status }));
            }
            let mut spare = lock(&self.spare);
            if spare.len() < MAX_SPARE_STACKS {
                spare.push(stack);
            }
        }
        Ok(Some(Reaped { pid, wait_status }))
    }
}

impl Nursery {
    /// Root inside can stop a supervisor, which would then report nothing, not even to a deadline.
    /// A stopped command that we have adopted stays stopped: that may be meant.
    fn resume(&self, pid: c_int) {
        if lock(&self.residents).contains_key(&pid) {
            // It can only have been killed meanwhile, and then it is reaped next.
            let _ = send_signal(pid, SIGCONT);
        }
    }
}

/// No code of ours panics under these locks, and a panic would end the process anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A command that is being started.
pub struct Ordered {
    report: Arc<Report>,
    orders: *mut Orders,
}

impl Ordered {
    /// Waits until the command runs, or has failed to, or its supervisor was killed.
    pub fn wait(self) {
        let mut count = [0u8; 8];
        // Without an event the state is final.
        if let Some(event) = self.report.event() {
            while self.report.state() == STATE_STARTING {
                // An error here is EINTR at most; the state decides.
                let _ = read_bytes(&*event, &mut count);
            }
        }
        // A killed supervisor's command may still read the orders: they are left alone for good.
        if self.report.state() != STATE_ADOPTED {
            // SAFETY: made by `Box::into_raw` in `order`; the supervisor published after its last
            // look at them.
            drop(unsafe { Box::from_raw(self.orders) });
        }
    }
}

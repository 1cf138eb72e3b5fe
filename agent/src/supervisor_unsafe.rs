// SPDX-License-Identifier: Apache-2.0
//! What runs in a supervisor, and in its command until exec: by the rules that `spawn_unsafe.rs`
//! states. Raw system calls, atomics and prepared memory only.

use std::arch::asm;
use std::os::raw::{c_int, c_void};
use std::os::unix::io::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::Arc;

use crate::spawn_unsafe::{
    clone, Credentials, Launch, Orders, Report, CLONE_VM, SIGCHLD, STAGE_DIRECTORY, STAGE_EXEC,
    STAGE_SETUP, STATE_FAILED, STATE_RUNNING,
};
use crate::sys_unsafe::last_errno;

const CLONE_VFORK: c_int = 0x4000;
const CLONE_PARENT_SETTID: c_int = 0x10_0000;

/// Adds one to an eventfd.
pub fn notify(event: RawFd) {
    let one: u64 = 1;
    raw(number::WRITE, [event as usize, address(&one), 8, 0]);
}

/// The supervisor's whole life.
pub(crate) extern "C" fn supervise(argument: *mut c_void) -> c_int {
    let orders: *mut Orders = argument.cast();
    // SAFETY: `order` passed orders that live until we publish, and a report that lives until we
    // have been reaped. No reference to the orders is kept beyond the publishing.
    let report: &Report = unsafe { &*Arc::as_ptr(&(*orders).report) };
    // SAFETY: as above.
    let command_top = unsafe { (*orders).command_top };
    become_subreaper();
    let flags = CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID | SIGCHLD;
    let main_pid: *const AtomicI32 = &report.main_pid;
    // SAFETY: the command's stack is the unused lower part; we sleep until it execs or exits. The
    // kernel stores the pid before the command runs, so that even if we are killed it is known.
    let main = unsafe { clone(run_command, command_top, flags, argument, main_pid) };
    if main < 0 {
        // The thread whose errno this is waits for our report and does not look at it.
        report.errno.store(last_errno(), Ordering::SeqCst);
        report.stage.store(STAGE_SETUP, Ordering::SeqCst);
    }
    if report.stage.load(Ordering::SeqCst) != 0 {
        reap_until_none(0, report);
        report.publish(STATE_FAILED);
        return 0;
    }
    report.publish(STATE_RUNNING);
    reap_until_none(main, report);
    0
}

fn become_subreaper() {
    const PR_SET_CHILD_SUBREAPER: usize = 36;
    raw(number::PRCTL, [PR_SET_CHILD_SUBREAPER, 1, 0, 0]);
}

/// Reaps the command and every orphan of its tree until there are no children left.
///
/// Each is looked at before it is reaped. Root inside may kill us at any moment; a child that has
/// ended then becomes the agent's, which reaps it in our place. The kernel lets even one that is
/// being killed finish its wait: the status of what we reaped at once would be gone with us.
fn reap_until_none(main: c_int, report: &Report) {
    const EINTR: isize = -4;
    const ANY: usize = 0;
    const WAIT_ALL_KINDS: usize = 0x4000_0000;
    const WAIT_ENDED: usize = 4;
    const LEAVE_IT: usize = 0x100_0000;
    loop {
        let mut ended = Ended::default();
        let options = WAIT_ALL_KINDS | WAIT_ENDED | LEAVE_IT;
        let result = raw(number::WAITID, [ANY, 0, address_mut(&mut ended), options]);
        if result == EINTR {
            continue;
        }
        if result < 0 {
            return;
        }
        if ended.pid == main && main != 0 {
            report.set_exited(ended.wait_status());
        }
        raw(number::WAIT4, [ended.pid as usize, 0, WAIT_ALL_KINDS, 0]);
    }
}

/// The kernel's `siginfo_t` as `waitid` fills it on systems of 64 bits.
#[derive(Default)]
#[repr(C)]
struct Ended {
    signal: c_int,
    errno: c_int,
    code: c_int,
    _padding: c_int,
    pid: c_int,
    uid: c_int,
    status: c_int,
    _rest: [c_int; 25],
}

impl Ended {
    /// As `wait` would have told it.
    fn wait_status(&self) -> c_int {
        const EXITED: c_int = 1;
        const DUMPED: c_int = 3;
        match self.code {
            EXITED => (self.status & 0xff) << 8,
            DUMPED => self.status | 0x80,
            _ => self.status,
        }
    }
}

/// The command until its exec, on a borrowed stack in the agent's memory.
extern "C" fn run_command(argument: *mut c_void) -> c_int {
    let orders: *mut Orders = argument.cast();
    // SAFETY: the orders outlive us: our supervisor sleeps until we exec or exit, and if it is
    // killed meanwhile they are never freed.
    let orders = unsafe { &*orders };
    let (stage, errno) = prepare_and_exec(&orders.launch);
    orders.report.errno.store(errno, Ordering::SeqCst);
    orders.report.stage.store(stage, Ordering::SeqCst);
    127
}

/// Returns only when something failed: where and why.
fn prepare_and_exec(launch: &Launch) -> (i32, i32) {
    if let Err(errno) = prepare(launch) {
        return (STAGE_SETUP, errno);
    }
    if let Err(errno) = enter_directory(launch) {
        return (STAGE_DIRECTORY, errno);
    }
    if let Err(errno) = become_user(launch) {
        return (STAGE_SETUP, errno);
    }
    unblock_signals();
    (STAGE_EXEC, exec_first(launch))
}

fn prepare(launch: &Launch) -> Result<(), i32> {
    call(number::SETSID, [0; 4])?;
    for (target, fd) in launch.stdio.iter().enumerate() {
        call(number::DUP3, [*fd as usize, target, 0, 0])?;
    }
    if launch.has_terminal {
        const TIOCSCTTY: usize = 0x540e;
        call(number::IOCTL, [0, TIOCSCTTY, 0, 0])?;
    }
    const RLIMIT_NOFILE: usize = 7;
    call(number::PRLIMIT64, [0, RLIMIT_NOFILE, address(&launch.files), 0])?;
    if launch.reset_oom_score {
        reset_oom_score();
    }
    Ok(())
}

fn enter_directory(launch: &Launch) -> Result<(), i32> {
    let entered = call(number::CHDIR, [launch.directory.as_ptr() as usize, 0, 0, 0]);
    if entered.is_err() && launch.may_use_root_directory {
        let root = b"/\0".as_ptr() as usize;
        return call(number::CHDIR, [root, 0, 0, 0]).map(drop);
    }
    entered.map(drop)
}

/// The agent may be protected from the OOM killer; what it starts must not be. Where the file
/// cannot be written the score was never lowered by us.
fn reset_oom_score() {
    const CWD: usize = -100_isize as usize;
    let path = b"/proc/self/oom_score_adj\0".as_ptr() as usize;
    if let Ok(fd) = call(number::OPENAT, [CWD, path, 1, 0]) {
        raw(number::WRITE, [fd, b"0".as_ptr() as usize, 1, 0]);
        raw(number::CLOSE, [fd, 0, 0, 0]);
    }
}

fn become_user(launch: &Launch) -> Result<(), i32> {
    let Credentials { uid, gid, groups, keeps_user } = match &launch.credentials {
        Some(credentials) => credentials,
        None => return Ok(()),
    };
    let (uid, gid) = (*uid as usize, *gid as usize);
    let set = call(number::SETGROUPS, [groups.len(), groups.as_ptr() as usize, 0, 0]);
    // Some user namespaces forbid this call to all; who stays the same user gains nothing then.
    if set.is_err() && !keeps_user {
        return set.map(drop);
    }
    call(number::SETRESGID, [gid, gid, gid, 0])?;
    call(number::SETRESUID, [uid, uid, uid, 0])?;
    Ok(())
}

fn unblock_signals() {
    const SIG_SETMASK: usize = 2;
    let none: u64 = 0;
    raw(number::RT_SIGPROCMASK, [SIG_SETMASK, address(&none), 0, 8]);
}

/// Tries each candidate as `execvp` does: what is missing is passed over, what may not be run is
/// remembered, anything else is final.
fn exec_first(launch: &Launch) -> i32 {
    const ENOENT: i32 = 2;
    const EACCES: i32 = 13;
    const ENOTDIR: i32 = 20;
    let argv = launch.argv.pointers.as_ptr() as usize;
    let env = launch.env.pointers.as_ptr() as usize;
    let mut remembered = ENOENT;
    for program in &launch.candidates {
        match call(number::EXECVE, [program.as_ptr() as usize, argv, env, 0]) {
            Err(EACCES) => remembered = EACCES,
            Err(ENOENT) | Err(ENOTDIR) => {}
            Err(errno) => return errno,
            Ok(_) => {}
        }
    }
    remembered
}

fn address<T>(thing: &T) -> usize {
    thing as *const T as usize
}

fn address_mut<T>(thing: &mut T) -> usize {
    thing as *mut T as usize
}

fn call(number: usize, arguments: [usize; 4]) -> Result<usize, i32> {
    let result = raw(number, arguments);
    if result < 0 {
        // Error numbers are below 4096.
        return Err(i32::try_from(-result).unwrap_or(i32::MAX));
    }
    Ok(result as usize)
}

/// A system call without glibc, which would write `errno`. Every caller is in this module and
/// passes integers or addresses of live memory of the size that the call expects. A fifth argument
/// is zero.
#[cfg(target_arch = "x86_64")]
fn raw(number: usize, arguments: [usize; 4]) -> isize {
    let [a, b, c, d] = arguments;
    let result: isize;
    // SAFETY: see above; the instruction clobbers rcx and r11 only.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, in("r8") 0_usize, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
fn raw(number: usize, arguments: [usize; 4]) -> isize {
    let [a, b, c, d] = arguments;
    let result: usize;
    // SAFETY: see above.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c,
            in("x3") d, in("x4") 0_usize, options(nostack));
    }
    result as isize
}

#[cfg(target_arch = "x86_64")]
mod number {
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const CHDIR: usize = 80;
    pub const SETSID: usize = 112;
    pub const SETGROUPS: usize = 116;
    pub const SETRESUID: usize = 117;
    pub const SETRESGID: usize = 119;
    pub const PRCTL: usize = 157;
    pub const WAITID: usize = 247;
    pub const OPENAT: usize = 257;
    pub const DUP3: usize = 292;
    pub const PRLIMIT64: usize = 302;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const DUP3: usize = 24;
    pub const IOCTL: usize = 29;
    pub const CHDIR: usize = 49;
    pub const OPENAT: usize = 56;
    pub const CLOSE: usize = 57;
    pub const WRITE: usize = 64;
    pub const WAITID: usize = 95;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const SETRESUID: usize = 147;
    pub const SETRESGID: usize = 149;
    pub const SETSID: usize = 157;
    pub const SETGROUPS: usize = 159;
    pub const PRCTL: usize = 167;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
    pub const PRLIMIT64: usize = 261;
}

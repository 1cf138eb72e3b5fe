// SPDX-License-Identifier: Apache-2.0
//! Terminals: making one, its size and its end-of-file character.

use std::ffi::CString;
use std::io;
use std::os::raw::{c_int, c_uint, c_ulong};
use std::os::unix::io::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::file_unsafe::{
    change_mode, change_owner_at, open_at, CWD, O_CLOEXEC, O_NOCTTY, O_NONBLOCK, O_RDWR,
};
use crate::sys_unsafe::{check, own, set_blocking};

const TIOCSPTLCK: c_ulong = 0x4004_5431;
const TIOCGPTN: c_ulong = 0x8004_5430;
const TIOCGPTPEER: c_ulong = 0x5441;
const TIOCSWINSZ: c_ulong = 0x5414;
const TCGETS: c_ulong = 0x5401;
const VEOF: usize = 4;
/// ^D, where the terminal does not say.
const END_OF_FILE: u8 = 4;
/// The first is a link or a bind of the second, where it is there at all.
const MULTIPLEXERS: [&[u8]; 2] = [b"/dev/ptmx", b"/dev/pts/ptmx"];
/// Its user reads and writes, `mesg` of its group writes.
const MODE: c_uint = 0o620;
/// Leaves the group as the file system has made it.
const SAME_GROUP: u32 = u32::MAX;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
    x_pixels: u16,
    y_pixels: u16,
}

/// The kernel's, which is smaller than glibc's.
#[repr(C)]
#[derive(Default)]
struct Termios {
    flags: [c_uint; 4],
    line: u8,
    characters: [u8; 19],
}

extern "C" {
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
}

impl Size {
    pub fn new(rows: u16, columns: u16) -> Size {
        Size { rows, columns, x_pixels: 0, y_pixels: 0 }
    }
}

/// The terminal of a process: our end of it, while the process runs.
pub struct Terminal {
    state: Mutex<(Option<OwnedFd>, Size)>,
    /// Whether the kernel tells the foreground of a new size. gVisor does not.
    pub tells_size: bool,
}

/// Both ends of a new terminal.
pub struct Ends {
    /// Ours, which does not block.
    pub master: OwnedFd,
    pub slave: OwnedFd,
    pub tells_size: bool,
}

/// A terminal for a process of `uid`.
pub fn open_terminal(size: Size, uid: u32) -> io::Result<Ends> {
    let master = open_master()?;
    let unlocked: c_int = 0;
    // SAFETY: the kernel reads one int.
    check(unsafe { ioctl(master.as_raw_fd(), TIOCSPTLCK, &unlocked as *const c_int) })?;
    set_size(&master, size)?;
    // Only Linux itself can do this, and what cannot does not tell of a new size either.
    let peer = open_peer(&master);
    let tells_size = peer.is_ok();
    let slave = peer.or_else(|_| open_by_name(&master))?;
    // Who is not root cannot give it away, and needs not.
    let _ = change_owner_at(&slave, c_path(b"")?.as_c_str(), uid, SAME_GROUP);
    let _ = change_mode(&slave, MODE);
    Ok(Ends { master, slave, tells_size })
}

fn open_master() -> io::Result<OwnedFd> {
    let mut last = io::ErrorKind::NotFound.into();
    for path in MULTIPLEXERS {
        match open_at(&CWD, &c_path(path)?, O_RDWR | O_NONBLOCK, 0) {
            Ok(master) => return Ok(master),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn open_peer(master: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = O_RDWR | O_NOCTTY | O_CLOEXEC;
    // SAFETY: takes integers only, and returns a new descriptor.
    own(unsafe { ioctl(master.as_raw_fd(), TIOCGPTPEER, flags) })
}

fn open_by_name(master: &OwnedFd) -> io::Result<OwnedFd> {
    let mut number: c_int = 0;
    // SAFETY: the kernel writes one int.
    check(unsafe { ioctl(master.as_raw_fd(), TIOCGPTN, &mut number as *mut c_int) })?;
    let path = format!("/dev/pts/{}", number);
    // Whatever else the sandbox has put there must not stop us.
    let slave = open_at(&CWD, &c_path(path.as_bytes())?, O_RDWR | O_NONBLOCK, 0)?;
    let mut termios = Termios::default();
    get_attributes(&slave, &mut termios)?;
    set_blocking(&slave)?;
    Ok(slave)
}

fn c_path(path: &[u8]) -> io::Result<CString> {
    CString::new(path).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn set_size(terminal: &impl AsRawFd, size: Size) -> io::Result<()> {
    // SAFETY: the kernel reads one winsize, which `Size` is.
    check(unsafe { ioctl(terminal.as_raw_fd(), TIOCSWINSZ, &size as *const Size) }).map(drop)
}

fn get_attributes(terminal: &impl AsRawFd, termios: &mut Termios) -> io::Result<()> {
    // SAFETY: the kernel writes its termios of 36 bytes, which `Termios` is.
    check(unsafe { ioctl(terminal.as_raw_fd(), TCGETS, termios as *mut Termios) }).map(drop)
}

/// What a program that reads lines from the terminal takes for the end of its input.
pub fn end_of_file_byte(master: &impl AsRawFd) -> u8 {
    let mut termios = Termios::default();
    match get_attributes(master, &mut termios) {
        Ok(()) => termios.characters[VEOF],
        Err(_) => END_OF_FILE,
    }
}

impl Terminal {
    pub fn new(master: OwnedFd, size: Size, tells_size: bool) -> Terminal {
        Terminal { state: Mutex::new((Some(master), size)), tells_size }
    }

    pub fn size(&self) -> Size {
        self.lock().1
    }

    /// False once the process has ended.
    pub fn resize(&self, size: Size) -> io::Result<bool> {
        let mut state = self.lock();
        match &state.0 {
            Some(master) => set_size(master, size)?,
            None => return Ok(false),
        }
        state.1 = size;
        Ok(true)
    }

    pub fn close(&self) {
        self.lock().0 = None;
    }

    fn lock(&self) -> MutexGuard<'_, (Option<OwnedFd>, Size)> {
        // A panic ends the whole program, so a poisoned lock is never seen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const _: () = assert!(std::mem::size_of::<Termios>() == 36);

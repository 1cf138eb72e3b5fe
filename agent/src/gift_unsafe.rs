// SPDX-License-Identifier: Apache-2.0
//! Receiving a descriptor that was sent along with bytes, which `std` cannot do yet.

use std::io;
use std::mem::size_of;
use std::os::raw::{c_int, c_uint, c_void};
use std::os::unix::io::{AsRawFd, OwnedFd};
use std::ptr;

use crate::sys_unsafe::{check_size, own};

const SOL_SOCKET: c_int = 1;
const SCM_RIGHTS: c_int = 1;
const MSG_CMSG_CLOEXEC: c_int = 0x4000_0000;
/// Of what comes beside the bytes: one header and one descriptor. More than one are closed by the kernel.
const CONTROL_BYTES: usize = 20;

#[repr(C)]
struct Piece {
    base: *mut c_void,
    length: usize,
}

#[repr(C)]
struct MessageHeader {
    name: *mut c_void,
    name_length: c_uint,
    pieces: *mut Piece,
    piece_count: usize,
    control: *mut c_void,
    control_length: usize,
    flags: c_int,
}

#[repr(C)]
#[derive(Default)]
struct Control {
    length: usize,
    level: c_int,
    kind: c_int,
    fd: c_int,
}

extern "C" {
    fn recvmsg(fd: c_int, message: *mut MessageHeader, flags: c_int) -> isize;
}

/// Receives bytes, and the descriptor that was sent with them.
pub fn recv_gift(fd: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut piece = Piece { base: buffer.as_mut_ptr().cast(), length: buffer.len() };
    let mut control = Control::default();
    let mut message = MessageHeader {
        name: ptr::null_mut(),
        name_length: 0,
        pieces: &mut piece,
        piece_count: 1,
        control: (&mut control as *mut Control).cast(),
        control_length: CONTROL_BYTES,
        flags: 0,
    };
    // SAFETY: all that `message` points to lives as long as the call, and is as long as it says.
    let received = unsafe { recvmsg(fd.as_raw_fd(), &mut message, MSG_CMSG_CLOEXEC) };
    let count = check_size(received)?;
    let is_gift = message.control_length >= CONTROL_BYTES
        && control.length == CONTROL_BYTES
        && (control.level, control.kind) == (SOL_SOCKET, SCM_RIGHTS);
    Ok((count, if is_gift { Some(own(control.fd)?) } else { None }))
}

const _: () = assert!(size_of::<Control>() >= CONTROL_BYTES);
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<MessageHeader>() == 56);

// SPDX-License-Identifier: Apache-2.0
//! Connects to a port in here, on whatever address of this machine something listens.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::error::{errno, Error, Result};
use crate::ports::listeners::listeners;

/// In here connecting takes no time, unless whoever listens has a full queue.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Each holds a thread; a program that listens and never accepts must not get all of them.
const MAX_CONNECTING: usize = 256;
const USUAL: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

static CONNECTING: AtomicUsize = AtomicUsize::new(0);

/// A connection to `port`; `Error::Refused` where nothing listens there.
pub fn connect(port: u16) -> Result<TcpStream> {
    let _turn = Turn::take()?;
    for address in USUAL {
        if let Some(stream) = attempt(SocketAddr::new(address, port))? {
            return Ok(stream);
        }
    }
    // Bound to one address alone, which only the table knows.
    for listener in listeners(Some(port)) {
        let address = listener.address;
        if address.is_unspecified() || USUAL.contains(&address) {
            continue;
        }
        if let Some(stream) = attempt(SocketAddr::new(address, port))? {
            return Ok(stream);
        }
    }
    Err(Error::Refused)
}

/// None where nobody listens at this address.
fn attempt(address: SocketAddr) -> Result<Option<TcpStream>> {
    let stream = match TcpStream::connect_timeout(&address, CONNECT_TIME) {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(Error::PortBusy),
        Err(error) => {
            return match error.raw_os_error().unwrap_or(errno::EIO) {
                errno::ECONNREFUSED
                | errno::EADDRNOTAVAIL
                | errno::EAFNOSUPPORT
                | errno::ENETUNREACH
                | errno::EHOSTUNREACH
                | errno::EINVAL => Ok(None),
                number => Err(Error::System(number)),
            };
        }
    };
    // The kernel may give us the very port that we asked for: then we have met ourselves.
    let is_mirror = stream.local_addr()? == stream.peer_addr()?;
    stream.set_nodelay(true)?;
    Ok(Some(stream).filter(|_| !is_mirror))
}

/// The right to be connecting.
struct Turn;

impl Turn {
    fn take() -> Result<Turn> {
        let one_more = |count| (count < MAX_CONNECTING).then_some(count + 1);
        match CONNECTING.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more) {
            Ok(_) => Ok(Turn),
            Err(_) => Err(Error::Limit("too many connections to ports are being made")),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        CONNECTING.fetch_sub(1, Ordering::SeqCst);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What listens, from the kernel's own tables of TCP sockets.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// More than a sandbox has by any accident; who has more is told so.
pub const MAX_LISTENERS: usize = 4096;
/// Of one table. Linux lists those who listen first, whatever else there is.
const MAX_TABLE_BYTES: u64 = 8 << 20;
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
const LISTENS: &str = "0A";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    pub address: IpAddr,
    pub port: u16,
    pub inode: u64,
}

/// Those on `port`, or all, by port and address. A table that cannot be read is an empty one.
pub fn listeners(port: Option<u16>) -> Vec<Listener> {
    let mut found = Vec::new();
    for table in TABLES {
        if let Ok(file) = File::open(table) {
            let lines = BufReader::new(file.take(MAX_TABLE_BYTES)).lines();
            let listening = lines.map_while(Result::ok).filter_map(|line| parse(&line));
            let wanted = listening.filter(|one| port.map_or(true, |port| one.port == port));
            found.extend(wanted.take(MAX_LISTENERS));
        }
    }
    found.sort_by_key(|one| (one.port, one.address));
    found
}

/// One line of a table, where it is of a socket that listens.
fn parse(line: &str) -> Option<Listener> {
    let mut fields = line.split_ascii_whitespace();
    let (local, state) = (fields.nth(1)?, fields.nth(1)?);
    if state != LISTENS {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    Some(Listener {
        address: parse_address(address)?,
        port: u16::from_str_radix(port, 16).ok()?,
        inode: fields.nth(5)?.parse().ok()?,
    })
}

/// The kernel prints the address as words of 32 bits in its own byte order.
fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |index: usize| {
        let digits = text.get(8 * index..8 * index + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for (index, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(index)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{parse, Listener};

    #[test]
    fn line_of_a_listening_socket_is_read() {
        let line = "   2: 0100007F:A861 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 16962469 1 000000006ef353a8 100 0 0 10 0";

        let address = "127.0.0.1".parse().unwrap();
        let expected = Listener { address, port: 43105, inode: 16_962_469 };
        assert_eq!(parse(line), Some(expected));
    }

    #[test]
    fn address_of_sixteen_bytes_is_read() {
        let line = "   1: 00000000000000000000000001000000:BE5B 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7";

        assert_eq!(parse(line).unwrap().address.to_string(), "::1");
    }

    #[test]
    fn whatever_else_the_table_holds_is_left_out() {
        let connected = "   0: 0100007F:A861 0100007F:1234 01 00000000:00000000 00:00000000 00000000     0        0 7";
        let lines = [
            connected,
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt",
            "",
            "0: 0100007F 00000000:0000 0A 0 0 0 0 0 7",
            "0: 0100007F:FFFFF 00000000:0000 0A 0 0 0 0 0 7",
            "0: 01000\u{e9}7F:1F90 00000000:0000 0A 0 0 0 0 0 7",
            "0: 0100007F:1F90 00000000:0000 0A 0 0 0 0 0",
        ];

        for line in lines {
            assert_eq!(parse(line), None, "{}", line);
        }
    }
}

//! From a recipe to bytes: what the IP packet carries.

use std::net::IpAddr;

use super::{
    build::{checksum, length_of},
    recipe::{Protocol, Recipe},
};

/// The transport header and what follows it, with the checksum that belongs there.
///
/// `about` is the packet that an ICMP error is about, from its IP header on.
pub(super) fn segment(
    recipe: &Recipe,
    src: IpAddr,
    dst: IpAddr,
    about: Option<Vec<u8>>,
) -> Vec<u8> {
    let mut bytes = header(recipe, about.is_some());
    match about {
        Some(inner) => {
            bytes.extend(inner);
            bytes.extend(&recipe.behind);
        }
        None => bytes.extend((0..recipe.payload).map(|at| at.to_le_bytes()[0])),
    }
    let at = match recipe.protocol {
        Protocol::Tcp => 16,
        Protocol::Udp | Protocol::UdpLite | Protocol::Dccp => 6,
        Protocol::Icmp | Protocol::Icmpv6 => 2,
        _ => return bytes,
    };
    let mut sum = if recipe.protocol == Protocol::Icmp {
        checksum(&bytes)
    } else {
        checksum(&[pseudo_header(recipe, src, dst, &bytes), bytes.clone()].concat())
    };
    // 0 means that there is none (RFC 768).
    if sum == 0 && matches!(recipe.protocol, Protocol::Udp | Protocol::UdpLite) {
        sum = 0xffff;
    }
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// What the checksum covers of the IP header (RFC 9293 section 3.1, RFC 8200 section 8.1).
fn pseudo_header(recipe: &Recipe, src: IpAddr, dst: IpAddr, segment: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    for addr in [src, dst] {
        match addr {
            IpAddr::V4(addr) => header.extend(addr.octets()),
            IpAddr::V6(addr) => header.extend(addr.octets()),
        }
    }
    header.extend([0, recipe.protocol.number()]);
    header.extend(length_of(segment).to_be_bytes());
    header
}

fn header(recipe: &Recipe, is_error: bool) -> Vec<u8> {
    let ports = [recipe.src_port.to_be_bytes(), recipe.dst_port.to_be_bytes()].concat();
    let id = recipe.id.to_be_bytes();
    match recipe.protocol {
        Protocol::Tcp => {
            let words = 5 + length_of(&recipe.tcp_options) / 4;
            let [_, offset] = (words << 4).to_be_bytes();
            let mut header = ports;
            header.extend([0, 0, 0, 1, 0, 0, 0, 0, offset, flags(&recipe.flags)]);
            header.extend([0xff, 0xff, 0, 0, 0, 0]);
            header.extend(&recipe.tcp_options);
            header
        }
        Protocol::Udp | Protocol::UdpLite => {
            let mut header = ports;
            header.extend((8 + recipe.payload).to_be_bytes());
            header.extend([0, 0]);
            header
        }
        Protocol::Sctp => [&ports[..], &[0; 8]].concat(),
        // Three words: data, with a short sequence number (RFC 4340 section 5.1).
        Protocol::Dccp => [&ports[..], &[3, 0, 0, 0, 2 << 1, 0, 0, 1]].concat(),
        Protocol::Icmp | Protocol::Icmpv6 => {
            let usual = match (recipe.protocol, is_error) {
                (Protocol::Icmp, false) => 8,
                (Protocol::Icmp, true) => 3,
                (_, false) => 128,
                (_, true) => 1,
            };
            let mut header = vec![recipe.icmp_type.unwrap_or(usual), recipe.icmp_code, 0, 0];
            if is_error {
                header.extend(recipe.icmp_word.to_be_bytes());
            } else {
                header.extend(recipe.icmp_id.to_be_bytes());
                header.extend([0, 1]);
            }
            header
        }
        Protocol::Gre => gre(recipe),
        Protocol::Esp => [&id[..], &[0, 0, 0, 1]].concat(),
        // Six words, of which three are a check value (RFC 4302 section 2).
        Protocol::Ah => [&[6, 4, 0, 0], &id[..], &[0, 0, 0, 1], &[0xaa; 12]].concat(),
        Protocol::L2tp => id.to_vec(),
        _ => Vec::new(),
    }
}

/// RFC 2784 and 2890, version 1 RFC 2637.
fn gre(recipe: &Recipe) -> Vec<u8> {
    const CHECKSUM: u16 = 0x8000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    const VERSION: u16 = 7;
    let flags = recipe.gre_flags;
    let is_pptp = flags & VERSION == 1;
    let carried: u16 = if is_pptp { 0x880b } else { 0x0800 };
    let mut header = [flags.to_be_bytes(), carried.to_be_bytes()].concat();
    if flags & CHECKSUM != 0 {
        header.extend([0xbe, 0xef, 0, 0]);
    }
    if is_pptp {
        // The length of the payload, and the call that it belongs to.
        header.extend(recipe.payload.to_be_bytes());
        header.extend(&recipe.id.to_be_bytes()[2..]);
    } else if flags & KEY != 0 {
        header.extend(recipe.id.to_be_bytes());
    }
    if flags & SEQUENCE != 0 {
        header.extend([0, 0, 0, 1]);
    }
    header
}

fn flags(letters: &str) -> u8 {
    letters.chars().fold(0, |flags, letter| {
        flags
            | match letter {
                'F' => 0x01,
                'S' => 0x02,
                'R' => 0x04,
                'P' => 0x08,
                _ => 0x10,
            }
    })
}

//! From a row to bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    row::{DstMac, Extension, Layer, Protocol, Row, Tag},
    world::LAN_MAC,
};

const FRAGMENT_HEADER: u8 = 44;

/// The bytes of a row, from its layer's start.
pub fn packet(row: &Row) -> Vec<u8> {
    let transport = transport(row);
    let ip = match row.ip {
        4 => ipv4(row, &transport),
        6 => ipv6(row, &transport),
        _ => vec![0; row.payload.into()],
    };
    let mut bytes = match row.layer {
        Layer::Ethernet => ethernet(row),
        Layer::Network => Vec::new(),
    };
    bytes.extend(ip);
    bytes.extend((0..row.padding).map(|_| 0xee));
    if let Some(length) = row.truncate {
        bytes.truncate(length);
    }
    bytes
}

/// The source and destination of a row's packet.
pub fn addresses(row: &Row) -> (IpAddr, IpAddr) {
    let (lan, remote): (IpAddr, IpAddr) = match row.ip {
        6 => (
            Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2).into(),
            Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 2).into(),
        ),
        _ => (
            Ipv4Addr::new(10, 1, 0, 2).into(),
            Ipv4Addr::new(10, 2, 0, 2).into(),
        ),
    };
    let (src, dst) = match row.layer {
        Layer::Ethernet => (lan, remote),
        Layer::Network => (remote, lan),
    };
    (row.src.unwrap_or(src), row.dst.unwrap_or(dst))
}

fn ethernet(row: &Row) -> Vec<u8> {
    let mut frame = Vec::from(match row.dst_mac {
        DstMac::Gateway => LAN_MAC,
        DstMac::Other => [2, 0, 0, 0, 0, 0x77],
        DstMac::Broadcast => [0xff; 6],
        DstMac::Multicast => [0x01, 0, 0x5e, 0, 0, 9],
    });
    frame.extend([2, 0, 0, 0, 0, 2]);
    for tag in &row.tags {
        let (kind, control): (u16, u16) = match tag {
            Tag::Customer => (0x8100, 10),
            Tag::Service => (0x88a8, 20),
            Tag::Priority => (0x8100, 0xa000),
        };
        frame.extend(kind.to_be_bytes());
        frame.extend(control.to_be_bytes());
    }
    let kind = row
        .ethertype
        .unwrap_or(if row.ip == 6 { 0x86dd } else { 0x0800 });
    frame.extend(kind.to_be_bytes());
    frame
}

fn ipv4(row: &Row, transport: &[u8]) -> Vec<u8> {
    let header_bytes = 20 + u16::from(row.options);
    let ihl = row
        .ihl
        .unwrap_or_else(|| u8::try_from(header_bytes / 4).unwrap_or(15));
    let length = row.length.unwrap_or(header_bytes + length_of(transport));
    let fragment = row.fragment.map_or(0x4000, |fragment| {
        u16::from(fragment.dont) << 14 | u16::from(fragment.more) << 13 | fragment.offset
    });
    let mut header = vec![row.version.unwrap_or(4) << 4 | ihl & 0xf, 0];
    header.extend(length.to_be_bytes());
    header.extend([0x12, 0x34]);
    header.extend(fragment.to_be_bytes());
    header.extend([row.ttl, row.protocol.number(), 0, 0]);
    let (src, dst) = addresses(row);
    for addr in [src, dst] {
        match addr {
            IpAddr::V4(addr) => header.extend(addr.octets()),
            IpAddr::V6(_) => header.extend([0; 4]),
        }
    }
    // No operation.
    header.extend((0..row.options).map(|_| 1));
    let sum = checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    header.extend(transport);
    header
}

fn ipv6(row: &Row, transport: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let kinds: Vec<u8> = row
        .extensions
        .iter()
        .map(|extension| match extension {
            Extension::HopByHop => 0,
            Extension::Routing => 43,
            Extension::Destination => 60,
            Extension::Authentication => 51,
        })
        .chain(row.fragment.map(|_| FRAGMENT_HEADER))
        .chain([row.protocol.number()])
        .collect();
    let mut last = 0;
    for (extension, &next) in row.extensions.iter().zip(&kinds[1..]) {
        last = body.len();
        // The length byte counts eight bytes beyond the first eight; of an authentication
        // header, four bytes beyond the first eight.
        let (length, rest) = match extension {
            Extension::HopByHop => (0, 6),
            Extension::Routing => (2, 22),
            Extension::Destination => (1, 14),
            Extension::Authentication => (4, 22),
        };
        body.extend([next, length]);
        body.extend((0..rest).map(|_| 0));
    }
    if let Some(fragment) = row.fragment {
        last = body.len();
        body.extend([row.protocol.number(), 0]);
        body.extend((fragment.offset << 3 | u16::from(fragment.more)).to_be_bytes());
        body.extend([0xde, 0xad, 0xbe, 0xef]);
    }
    if let Some(length) = row.extension_length
        && let Some(byte) = body.get_mut(last + 1)
    {
        *byte = length;
    }
    body.extend(transport);

    let mut packet = vec![row.version.unwrap_or(6) << 4, 0, 0, 0];
    packet.extend(row.length.unwrap_or(length_of(&body)).to_be_bytes());
    packet.extend([kinds[0], row.ttl]);
    let (src, dst) = addresses(row);
    for addr in [src, dst] {
        match addr {
            IpAddr::V6(addr) => packet.extend(addr.octets()),
            IpAddr::V4(addr) => packet.extend(addr.to_ipv6_mapped().octets()),
        }
    }
    packet.extend(body);
    packet
}

fn transport(row: &Row) -> Vec<u8> {
    let ports = [row.src_port.to_be_bytes(), row.dst_port.to_be_bytes()].concat();
    let payload = row.payload;
    let mut bytes = match row.protocol {
        Protocol::Tcp => {
            let mut header = ports;
            header.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags(&row.flags)]);
            header.extend([0xff, 0xff, 0, 0, 0, 0]);
            header
        }
        Protocol::Udp | Protocol::UdpLite => {
            let mut header = ports;
            header.extend((8 + payload).to_be_bytes());
            header.extend([0, 0]);
            header
        }
        Protocol::Sctp | Protocol::Dccp => {
            let mut header = ports;
            header.extend([0; 8]);
            header
        }
        Protocol::Icmp | Protocol::Icmpv6 => {
            let echo = if row.protocol == Protocol::Icmp {
                8
            } else {
                128
            };
            let mut header = vec![row.icmp_type.unwrap_or(echo), 0, 0, 0];
            header.extend(row.icmp_id.to_be_bytes());
            header.extend([0, 1]);
            header
        }
        _ => Vec::new(),
    };
    bytes.extend((0..payload).map(|at| at.to_le_bytes()[0]));
    bytes
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

fn length_of(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX)
}

/// The checksum of a header whose own checksum field is 0 (RFC 1071).
pub fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

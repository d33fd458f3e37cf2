//! Any bytes are parsed, and what the parser says of them is true.

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use steer_common::{
    abi::PassReason,
    key::mapped,
    packet::Packet as _,
    parse::{self, Kind, L3_OFFSET_MAX, Layer, Parsed, Version},
};

use crate::packets::{
    build::{HOST_MAC, checksum},
    host::SlicePacket,
    rewrite::{clamped, forwarded},
    world::LAN_MAC,
};

const UDP: u32 = 17;
const TCP: u32 = 6;

/// Parses the packets of an input; the upper half of its first byte makes merged ones of them.
pub fn parse(input: &[u8]) {
    let is_merged = input.first().is_some_and(|first| first >> 4 == 0xf);
    let gso_size_bytes = if is_merged { 1_200 } else { 0 };
    for (layer, bytes) in packets(input) {
        check(layer, &bytes, gso_size_bytes);
    }
}

/// The bytes of an input as an IP packet, as a frame, and behind a header of a frame for this gateway,
/// which need not be found byte by byte. The first byte says what is done with them.
pub fn packets(input: &[u8]) -> Vec<(Layer, Vec<u8>)> {
    let Some((first, bytes)) = input.split_first() else {
        return Vec::new();
    };
    let mut bytes = bytes.to_vec();
    if first & 1 != 0 {
        mend_checksum(&mut bytes);
    }
    let tags: &[u8] = match first >> 1 & 3 {
        1 => &[0x81, 0x00, 0, 10],
        2 => &[0x88, 0xa8, 0, 20, 0x81, 0x00, 0xa0, 0],
        _ => &[],
    };
    let kind: &[u8] = match bytes.first().map(|first| first >> 4) {
        Some(6) => &[0x86, 0xdd],
        _ => &[0x08, 0x00],
    };
    let frame = [&LAN_MAC[..], &HOST_MAC, tags, kind, &bytes].concat();
    vec![
        (Layer::Network, bytes.clone()),
        (Layer::Ethernet, bytes),
        (Layer::Ethernet, frame),
    ]
}

fn check(layer: Layer, bytes: &[u8], gso_size_bytes: u32) {
    let packet = SlicePacket {
        bytes,
        gso_size_bytes,
        segments: 1,
    };
    let found = parse_packet(layer, &packet);
    let parsed = match found {
        Ok(parsed) => parsed,
        Err(reason) => return check_reason(layer, reason),
    };
    let (src, dst) = check_place(layer, &packet, &parsed);
    check_key(&parsed, &src, &dst);
    let end = parsed.l3_offset + parsed.l3_len_bytes as usize;
    let exact = SlicePacket {
        bytes: &bytes[..end],
        ..packet
    };
    // BIG TCP has no length but the one of all bytes.
    if gso_size_bytes == 0 {
        assert_eq!(parse_packet(layer, &exact), found, "padding matters");
    }
    check_ports(&bytes[parsed.l3_offset..end], &parsed);
    check_other_way(layer, &exact, &parsed);
    check_rewritten(layer, &exact, &parsed);
}

fn parse_packet(layer: Layer, packet: &SlicePacket<'_>) -> Result<Parsed, PassReason> {
    let mut parsed = Parsed::EMPTY;
    parse::parse(packet, layer, &mut parsed).map(|()| parsed)
}

/// Only reasons that bytes alone can be.
fn check_reason(layer: Layer, reason: PassReason) {
    let in_frame = matches!(reason, PassReason::OtherHost | PassReason::TooManyTags);
    let in_packet = matches!(
        reason,
        PassReason::NotIp
            | PassReason::Malformed
            | PassReason::TooManyHeaders
            | PassReason::LocalScope
            | PassReason::Jumbogram
            | PassReason::BadChecksum
    );
    assert!(
        in_packet || (in_frame && layer == Layer::Ethernet),
        "{reason:?}"
    );
}

/// Offsets, lengths and fields are where the headers have them. The packet's addresses.
fn check_place(layer: Layer, packet: &SlicePacket<'_>, parsed: &Parsed) -> ([u8; 16], [u8; 16]) {
    let bytes = packet.bytes;
    let Parsed {
        l3_offset, tags, ..
    } = *parsed;
    assert!(l3_offset <= L3_OFFSET_MAX);
    match layer {
        Layer::Network => assert_eq!((l3_offset, tags), (0, 0)),
        Layer::Ethernet => {
            assert_eq!(l3_offset, 14 + 4 * usize::from(tags));
            assert!(packet.to_this_host());
        }
    }
    let end = l3_offset + parsed.l3_len_bytes as usize;
    assert!(end <= bytes.len(), "ends behind the packet");
    let ip = &bytes[l3_offset..end];
    let (header_bytes, ttl, src, dst) = match parsed.version {
        Version::V4 => {
            let header_bytes = usize::from(ip[0] & 0xf) * 4;
            assert_eq!(checksum(&ip[..header_bytes]), 0, "header checksum");
            let addr = |at: usize| mapped([ip[at], ip[at + 1], ip[at + 2], ip[at + 3]]);
            (header_bytes, ip[8], addr(12), addr(16))
        }
        Version::V6 => {
            let mut addrs = [[0; 16]; 2];
            addrs[0].copy_from_slice(&ip[8..24]);
            addrs[1].copy_from_slice(&ip[24..40]);
            (40, ip[7], addrs[0], addrs[1])
        }
    };
    let version = match parsed.version {
        Version::V4 => 4,
        Version::V6 => 6,
    };
    assert_eq!(ip[0] >> 4, version);
    assert_eq!(parsed.ttl, ttl);
    if let Some(l4_offset) = parsed.l4_offset() {
        assert!(l4_offset >= l3_offset + header_bytes && l4_offset <= end);
    }
    for addr in [src, dst] {
        assert!(
            addr != [0; 16] && addr[0] != 0xff,
            "not for one segment only"
        );
    }
    (src, dst)
}

/// The key is canonical, and of this packet.
fn check_key(parsed: &Parsed, src: &[u8; 16], dst: &[u8; 16]) {
    let key = &parsed.key;
    if key.has_number() {
        assert!(key.low_addr <= key.high_addr);
    } else {
        assert!((key.low_addr, key.low_port) <= (key.high_addr, key.high_port));
    }
    assert_eq!(key.addr(parsed.source), src);
    assert_eq!(key.addr(parsed.source.other()), dst);
    assert!(key.protocol <= 0xff);
    match parsed.kind {
        Kind::Whole | Kind::FirstFragment => {}
        Kind::LaterFragment | Kind::Error => assert_eq!((key.low_port, key.high_port), (0, 0)),
    }
    if parsed.tcp_flags != 0 {
        assert_eq!((key.protocol, parsed.kind), (TCP, Kind::Whole));
    }
}

/// Another parser finds the same ports and flags, if it finds any.
fn check_ports(ip: &[u8], parsed: &Parsed) {
    if !matches!(parsed.kind, Kind::Whole | Kind::FirstFragment) {
        return;
    }
    let Ok(other) = LaxSlicedPacket::from_ip(ip) else {
        return;
    };
    let is_same_length = match &other.net {
        Some(LaxNetSlice::Ipv4(v4)) => v4.header().total_len() as usize == ip.len(),
        Some(LaxNetSlice::Ipv6(v6)) => usize::from(v6.header().payload_length()) + 40 == ip.len(),
        _ => false,
    };
    if !is_same_length {
        return;
    }
    let key = &parsed.key;
    let ports = (key.port(parsed.source), key.port(parsed.source.other()));
    match other.transport {
        Some(TransportSlice::Udp(udp)) if key.protocol == UDP => {
            assert_eq!(ports, (udp.source_port(), udp.destination_port()));
        }
        Some(TransportSlice::Tcp(tcp)) if key.protocol == TCP => {
            assert_eq!(ports, (tcp.source_port(), tcp.destination_port()));
            if parsed.kind == Kind::Whole {
                assert_eq!(parsed.tcp_flags & 0x02 != 0, tcp.syn());
                assert_eq!(parsed.tcp_flags & 0x01 != 0, tcp.fin());
            }
        }
        _ => {}
    }
}

/// The same packet the other way has the same key, and comes from the other end.
fn check_other_way(layer: Layer, packet: &SlicePacket<'_>, parsed: &Parsed) {
    let mut bytes = packet.bytes.to_vec();
    let at = parsed.l3_offset;
    match parsed.version {
        Version::V4 => swap(&mut bytes, at + 12, 4),
        Version::V6 => swap(&mut bytes, at + 8, 16),
    }
    let key = &parsed.key;
    let has_ports = matches!(key.protocol, TCP | UDP | 33 | 132 | 136)
        && matches!(parsed.kind, Kind::Whole | Kind::FirstFragment);
    if has_ports && (key.low_port, key.high_port) != (0, 0) {
        let Some(l4_offset) = parsed.l4_offset() else {
            return;
        };
        swap(&mut bytes, l4_offset, 2);
    }
    let other_way = SlicePacket {
        bytes: &bytes,
        ..*packet
    };
    let back = parse_packet(layer, &other_way).expect("the same the other way");
    assert_eq!(back.key, *key);
    let ends_differ =
        key.low_addr != key.high_addr || (!key.has_number() && key.low_port != key.high_port);
    if ends_differ {
        assert_eq!(back.source, parsed.source.other());
    }
}

/// What a router makes of the packet is a packet of the same flow.
fn check_rewritten(layer: Layer, packet: &SlicePacket<'_>, parsed: &Parsed) {
    let end = parsed.l3_offset + parsed.l3_len_bytes as usize;
    if parsed.ttl > 1 {
        let bytes = forwarded(packet.bytes, parsed);
        let routed = SlicePacket {
            bytes: &bytes,
            ..*packet
        };
        let after = parse_packet(layer, &routed).expect("still a packet");
        assert_eq!((after.key, after.ttl), (parsed.key, parsed.ttl - 1));
        assert_eq!(after.tags, 0);
    }
    let ip = clamped(&packet.bytes[parsed.l3_offset..end], parsed.l3_offset, 536);
    let bytes = [&packet.bytes[..parsed.l3_offset], &ip].concat();
    let lowered = SlicePacket {
        bytes: &bytes,
        ..*packet
    };
    let after = parse_packet(layer, &lowered).expect("still a packet");
    assert_eq!(after, *parsed, "the MSS is of no interest");
}

/// Two neighbouring fields change places.
fn swap(bytes: &mut [u8], at: usize, length: usize) {
    let (first, second) = bytes[at..at + 2 * length].split_at_mut(length);
    first.swap_with_slice(second);
}

/// Or the fuzzer would have to guess it.
fn mend_checksum(bytes: &mut [u8]) {
    let header_bytes = bytes
        .first()
        .map_or(0, |first| usize::from(first & 0xf) * 4);
    if bytes.first().is_some_and(|first| first >> 4 == 4)
        && (20..=bytes.len()).contains(&header_bytes)
    {
        bytes[10..12].fill(0);
        let sum = checksum(&bytes[..header_bytes]);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

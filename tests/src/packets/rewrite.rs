//! What a router makes of a packet, written down a second time.

use steer_common::parse::{Parsed, Version};

/// The packet after forwarding: TTL down by one, VLAN tags and padding gone.
///
/// The checksum follows RFC 1624 equation 3 word by word, so that one that was
/// wrong stays wrong by as much.
pub fn forwarded(bytes: &[u8], parsed: &Parsed) -> Vec<u8> {
    let start = parsed.l3_offset;
    let end = start + parsed.l3_len_bytes as usize;
    let mut packet = bytes[start..end].to_vec();
    match parsed.version {
        Version::V4 => {
            let before = word(&packet, 8);
            packet[8] -= 1;
            let after = word(&packet, 8);
            replace(&mut packet, 10, &[(before, after)]);
        }
        Version::V6 => packet[7] -= 1,
    }
    if start == 0 {
        return packet;
    }
    let mut frame = bytes[..12].to_vec();
    frame.extend_from_slice(&bytes[start - 2..start]);
    frame.extend(packet);
    frame
}

/// A packet for the LAN as the program leaves it: with room for the MAC header that the kernel
/// fills in.
pub fn delivered(packet: &[u8]) -> Vec<u8> {
    [&[0; 14], packet].concat()
}

/// The IP packet with the MSS of a SYN lowered to `limit`, if it is a SYN with a higher one.
///
/// What starts behind byte 255 of the frame, of which `l2_bytes` are before the packet, is not looked
/// at, nor more than twelve options.
///
/// Every 16-bit word of the segment that changed goes into the checksum, so it does not matter at
/// which address the option lies.
pub fn clamped(packet: &[u8], l2_bytes: usize, limit: u16) -> Vec<u8> {
    let mut after = packet.to_vec();
    let Some(tcp) = tcp_offset(packet).filter(|tcp| l2_bytes + tcp <= 255) else {
        return after;
    };
    let Some(at) = mss_offset(&packet[tcp..]) else {
        return after;
    };
    if word(packet, tcp + at) <= limit {
        return after;
    }
    after[tcp + at..][..2].copy_from_slice(&limit.to_be_bytes());
    let changed: Vec<(u16, u16)> = (tcp..tcp + 60)
        .step_by(2)
        .take_while(|at| at + 2 <= packet.len())
        .map(|at| (word(packet, at), word(&after, at)))
        .filter(|(before, after)| before != after)
        .collect();
    replace(&mut after, tcp + 16, &changed);
    after
}

/// Where the MSS is in a TCP header, if it is that of a SYN and whole (RFC 9293 section 3.2).
fn mss_offset(tcp: &[u8]) -> Option<usize> {
    const SYN: u8 = 0x02;
    let header = tcp.get(..usize::from(tcp.get(12)? >> 4) * 4)?;
    if header.len() < 20 || header[13] & SYN == 0 {
        return None;
    }
    let mut at = 20;
    for _ in 0..12 {
        match (header.get(at)?, header.get(at + 1)) {
            (0, _) => return None,
            (1, _) => at += 1,
            (2, Some(4)) => return (at + 4 <= header.len()).then_some(at + 2),
            (_, Some(&length)) if length >= 2 => at += usize::from(length),
            _ => return None,
        }
    }
    None
}

/// Where the TCP header of an IP packet starts, unless that is a fragment.
fn tcp_offset(packet: &[u8]) -> Option<usize> {
    const TCP: u8 = 6;
    if packet.first()? >> 4 == 4 {
        let is_whole = word(packet, 6) << 2 == 0;
        return (packet[9] == TCP && is_whole).then(|| usize::from(packet[0] & 0xf) * 4);
    }
    let mut next = *packet.get(6)?;
    let mut at = 40;
    loop {
        let length = usize::from(*packet.get(at + 1)?);
        let bytes = match next {
            TCP => return Some(at),
            0 | 43 | 60 => (length + 1) * 8,
            51 => (length + 2) * 4,
            44 if word(packet.get(at..at + 4)?, 2) & 0xfff9 == 0 => 8,
            _ => return None,
        };
        next = packet[at];
        at += bytes;
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Brings a checksum up to date with words that were replaced.
fn replace(packet: &mut [u8], checksum_at: usize, words: &[(u16, u16)]) {
    let sum = words
        .iter()
        .fold(!word(packet, checksum_at), |sum, &(before, after)| {
            ones_sum(ones_sum(sum, !before), after)
        });
    packet[checksum_at..][..2].copy_from_slice(&(!sum).to_be_bytes());
}

fn ones_sum(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

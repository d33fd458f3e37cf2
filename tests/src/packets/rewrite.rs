//! What a router makes of a frame, written down a second time.

use steer_common::parse::{Parsed, Version};

/// The frame after forwarding: TTL down by one, VLAN tags and padding gone.
///
/// The checksum follows RFC 1624 equation 3 word by word, so that one that was
/// wrong stays wrong by as much.
pub fn forwarded(frame: &[u8], parsed: &Parsed) -> Vec<u8> {
    let start = parsed.l3_offset;
    let end = start + parsed.l3_len_bytes as usize;
    let mut packet = frame[start..end].to_vec();
    let word = |packet: &[u8], at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    match parsed.version {
        Version::V4 => {
            let before = word(&packet, 8);
            packet[8] -= 1;
            let after = word(&packet, 8);
            let sum = !ones_sum(&[!word(&packet, 10), !before, after]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        Version::V6 => packet[7] -= 1,
    }
    let mut forwarded = frame[..12].to_vec();
    forwarded.extend_from_slice(&frame[start - 2..start]);
    forwarded.extend(packet);
    forwarded
}

fn ones_sum(words: &[u16]) -> u16 {
    words.iter().fold(0, |sum: u16, &word| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

//! The header checksum after forwarding, against a sum from scratch.

use steer_common::rewrite::checksum_after_ttl;

/// Checksum of a header (RFC 1071): the complement of the ones' complement sum.
fn checksum(words: &[u16]) -> u16 {
    let mut sum: u32 = words.iter().map(|&word| u32::from(word)).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// Every rest of a header (as the word that makes up the sum of all other fields) with every TTL.
#[test]
fn equals_a_sum_from_scratch() {
    for rest in 0..=u16::MAX {
        for ttl in 1..=u8::MAX {
            let word = |ttl: u8| u16::from(ttl) << 8 | 6;
            let before = checksum(&[rest, word(ttl)]);
            let after = u16::from_be(checksum_after_ttl(before.to_be()));
            let expected = checksum(&[rest, word(ttl - 1)]);
            assert_eq!(after, expected, "rest {rest:#06x}, TTL {ttl}");
        }
    }
}

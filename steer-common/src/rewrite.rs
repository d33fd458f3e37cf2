//! What forwarding changes in a packet.

/// The header checksum after the TTL went down by one (RFC 1624 equation 3, as
/// `ip_decrease_ttl` in `include/net/ip.h`). `checksum` is in network order as
/// it lies in memory.
#[inline(always)]
pub const fn checksum_after_ttl(checksum: u16) -> u16 {
    // The TTL is the high byte of its 16-bit word: the sum falls by 0x0100.
    let sum = u16::from_be(checksum) as u32 + 0x0100;
    ((sum + (sum >= 0xffff) as u32) as u16).to_be()
}

//! Echo requests over IPv4, turned into their answers.

/// Offset of the ICMP message behind a header without options.
const MESSAGE: usize = 20;
const REQUEST: u8 = 8;
const REPLY: u8 = 0;

/// Makes an echo request the answer to it; false for any other packet.
pub(super) fn turn_round(packet: &mut [u8]) -> bool {
    let is_request = packet.len() >= MESSAGE + 8
        && packet[0] == 0x45
        && packet[9] == 1
        && packet[MESSAGE] == REQUEST;
    if !is_request {
        return false;
    }
    // Source and destination change places, which no checksum notices.
    let (before, destination) = packet.split_at_mut(16);
    before[12..].swap_with_slice(&mut destination[..4]);
    packet[MESSAGE] = REPLY;
    // RFC 1624: the sum loses what the type has lost.
    let sum = u16::from_be_bytes([packet[MESSAGE + 2], packet[MESSAGE + 3]]);
    let (sum, carry) = sum.overflowing_add(u16::from(REQUEST) << 8);
    let sum = sum + u16::from(carry);
    packet[MESSAGE + 2..MESSAGE + 4].copy_from_slice(&sum.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv4Slice, Icmpv4Type, NetSlice, PacketBuilder, SlicedPacket};

    use super::*;

    #[test]
    fn a_request_becomes_its_answer() {
        for payload in [&[0_u8; 16][..], &[0xff; 16], b"payload"] {
            let mut packet = Vec::new();
            PacketBuilder::ipv4([10, 9, 0, 1], [10, 9, 0, 2], 64)
                .icmpv4_echo_request(7, 9)
                .write(&mut packet, payload)
                .unwrap();
            assert!(turn_round(&mut packet));
            let sliced = SlicedPacket::from_ip(&packet).unwrap();
            let Some(NetSlice::Ipv4(ip)) = &sliced.net else {
                panic!("{sliced:?}")
            };
            let header = ip.header();
            assert_eq!(header.source(), [10, 9, 0, 2]);
            assert_eq!(header.destination(), [10, 9, 0, 1]);
            let message = Icmpv4Slice::from_slice(&packet[MESSAGE..]).unwrap();
            let Icmpv4Type::EchoReply(echo) = message.icmp_type() else {
                panic!("{message:?}")
            };
            assert_eq!((echo.id, echo.seq), (7, 9));
            let sum = message.icmp_type().calc_checksum(message.payload());
            assert_eq!(message.checksum(), sum);
            drop(sliced);
            // It is an answer now.
            assert!(!turn_round(&mut packet));
        }
    }
}

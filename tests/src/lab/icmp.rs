//! ICMP errors of both families among captured packets: who complains of what.

use std::net::{IpAddr, SocketAddr};

use super::packet::{ICMP, ICMPV6, Packet, Protocol};

/// What an error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// TTL or hop limit used up on the way.
    TimeExceeded,
    /// Fragmentation needed or packet too big, with the MTU.
    TooBig(u32),
    /// The port is closed.
    PortUnreachable,
    /// Anything else: type and code.
    Other(u8, u8),
}

/// One error message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IcmpError {
    /// Who sent it.
    pub from: IpAddr,
    /// Whom it tells.
    pub to: IpAddr,
    /// What it says.
    pub fault: Fault,
    /// Protocol of the packet that it reports on.
    pub protocol: Protocol,
    /// Sender of that packet.
    pub src: SocketAddr,
    /// Destination of that packet.
    pub dst: SocketAddr,
}

impl IcmpError {
    /// Reads an error about a TCP or UDP packet; `None` for anything else.
    pub fn of(packet: &Packet<'_>) -> Option<Self> {
        let message = packet.payload;
        let (&kind, &code) = (message.first()?, message.get(1)?);
        let word = u32::from_be_bytes(*message.get(4..)?.first_chunk()?);
        let fault = match (packet.protocol, kind, code) {
            (ICMP, 11, 0) | (ICMPV6, 3, 0) => Fault::TimeExceeded,
            (ICMP, 3, 4) => Fault::TooBig(word & 0xffff),
            (ICMPV6, 2, 0) => Fault::TooBig(word),
            (ICMP, 3, 3) | (ICMPV6, 1, 4) => Fault::PortUnreachable,
            (ICMP, 3 | 11 | 12, _) | (ICMPV6, 1..=4, _) => Fault::Other(kind, code),
            _ => return None,
        };
        let (protocol, src, dst) = Packet::parse(message.get(8..)?)?.flow()?;
        Some(Self {
            from: packet.src,
            to: packet.dst,
            fault,
            protocol,
            src,
            dst,
        })
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, icmpv4::DestUnreachableHeader};

    use super::*;

    #[test]
    fn fragmentation_needed() {
        let mut inner = Vec::new();
        PacketBuilder::ipv4([10, 1, 0, 2], [10, 2, 0, 2], 63)
            .tcp(4000, 80, 1, 1000)
            .write(&mut inner, &[0; 1_400])
            .unwrap();
        let mut bytes = Vec::new();
        let fault = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1420 };
        PacketBuilder::ipv4([10, 1, 0, 1], [10, 1, 0, 2], 64)
            .icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(fault))
            .write(&mut bytes, &inner[..28])
            .unwrap();
        let error = IcmpError::of(&Packet::parse(&bytes).unwrap()).unwrap();
        assert_eq!(error.fault, Fault::TooBig(1420));
        assert_eq!(error.from.to_string(), "10.1.0.1");
        assert_eq!(error.protocol, Protocol::Tcp);
        assert_eq!(error.dst.to_string(), "10.2.0.2:80");
    }
}

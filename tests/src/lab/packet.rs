//! Which conversation a captured packet belongs to.

use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};

/// Transport protocol of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// One flow: both directions of it are the same value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conversation {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The end behind gateway A.
    pub client: SocketAddr,
    /// The end behind gateway B.
    pub server: SocketAddr,
}

/// Reads a packet that starts at its IP header as (protocol, source, destination);
/// `None` for what is neither TCP nor UDP. The packet may be cut short.
pub(super) fn parse(packet: &[u8]) -> Option<(Protocol, SocketAddr, SocketAddr)> {
    let packet = LaxSlicedPacket::from_ip(packet).ok()?;
    let (src, dst): (IpAddr, IpAddr) = match packet.net? {
        LaxNetSlice::Ipv4(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        LaxNetSlice::Ipv6(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        LaxNetSlice::Arp(_) => return None,
    };
    let (protocol, src_port, dst_port) = match packet.transport? {
        TransportSlice::Tcp(tcp) => (Protocol::Tcp, tcp.source_port(), tcp.destination_port()),
        TransportSlice::Udp(udp) => (Protocol::Udp, udp.source_port(), udp.destination_port()),
        _ => return None,
    };
    Some((
        protocol,
        SocketAddr::new(src, src_port),
        SocketAddr::new(dst, dst_port),
    ))
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    #[test]
    fn udp_over_ipv4() {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4([10, 1, 0, 2], [10, 2, 0, 2], 64)
            .udp(4000, 53)
            .write(&mut bytes, &[0; 40])
            .unwrap();
        let expected = (
            Protocol::Udp,
            "10.1.0.2:4000".parse().unwrap(),
            "10.2.0.2:53".parse().unwrap(),
        );
        assert_eq!(parse(&bytes), Some(expected));
        assert_eq!(parse(&bytes[..30]), Some(expected), "cut short");
    }

    #[test]
    fn tcp_over_ipv6() {
        let mut bytes = Vec::new();
        let (src, dst) = (
            "fd00:1::2".parse::<std::net::Ipv6Addr>().unwrap(),
            [0xfd; 16],
        );
        PacketBuilder::ipv6(src.octets(), dst, 64)
            .tcp(4000, 80, 1, 1000)
            .write(&mut bytes, &[])
            .unwrap();
        let (protocol, src, dst) = parse(&bytes).unwrap();
        assert_eq!(protocol, Protocol::Tcp);
        assert_eq!(src.to_string(), "[fd00:1::2]:4000");
        assert_eq!(dst.port(), 80);
    }
}

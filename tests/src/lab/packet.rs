//! What the tests read of a captured packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;

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

impl Conversation {
    /// The flow of a packet seen on a tunnel of gateway A: what leaves through
    /// a tunnel comes from the client.
    pub(super) fn at_a(
        protocol: Protocol,
        src: SocketAddr,
        dst: SocketAddr,
        outgoing: bool,
    ) -> Self {
        let (client, server) = if outgoing { (src, dst) } else { (dst, src) };
        Self {
            protocol,
            client,
            server,
        }
    }
}

/// Where a fragment belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Identification of the whole packet.
    pub id: u32,
    /// Where its payload begins in the whole one's.
    pub offset_bytes: u16,
    /// Others follow.
    pub more: bool,
}

/// A packet that starts at its IP header; it may be cut short.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// TTL or hop limit.
    pub hops: u8,
    /// Protocol after all extension headers.
    pub protocol: u8,
    /// Set if this is a part of a packet only.
    pub fragment: Option<Fragment>,
    /// What follows the IP header and its extensions.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads the headers; `None` for what is not IP.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::v4(bytes),
            6 => Self::v6(bytes),
            _ => None,
        }
    }

    fn v4(bytes: &'a [u8]) -> Option<Self> {
        let fragment = number(bytes, 6)?;
        let (offset, more) = (fragment << 3, fragment & 0x2000 != 0);
        let part = Fragment {
            id: number(bytes, 4)?.into(),
            offset_bytes: offset,
            more,
        };
        let header_bytes = usize::from(bytes[0] & 0xf) * 4;
        let length = usize::from(number(bytes, 2)?).min(bytes.len());
        Some(Self {
            src: Ipv4Addr::from(*bytes.get(12..)?.first_chunk()?).into(),
            dst: Ipv4Addr::from(*bytes.get(16..)?.first_chunk()?).into(),
            hops: bytes[8],
            protocol: bytes[9],
            fragment: (more || offset > 0).then_some(part),
            payload: bytes.get(header_bytes..length)?,
        })
    }

    fn v6(bytes: &'a [u8]) -> Option<Self> {
        let payload = bytes.get(40..)?;
        let length = usize::from(number(bytes, 4)?).min(payload.len());
        let mut packet = Self {
            src: Ipv6Addr::from(*bytes.get(8..)?.first_chunk()?).into(),
            dst: Ipv6Addr::from(*bytes.get(24..)?.first_chunk()?).into(),
            hops: bytes[7],
            protocol: bytes[6],
            fragment: None,
            payload: &payload[..length],
        };
        // Ends at the latest with the bytes: every header has some.
        while let Some((next, header_bytes)) = packet.extension() {
            if packet.protocol == FRAGMENT {
                let offset = number(packet.payload, 2)?;
                packet.fragment = Some(Fragment {
                    id: u32::from_be_bytes(*packet.payload.get(4..)?.first_chunk()?),
                    offset_bytes: offset & !7,
                    more: offset & 1 != 0,
                });
            }
            packet.protocol = next;
            packet.payload = packet.payload.get(header_bytes..)?;
            if packet.fragment.is_some_and(|part| part.offset_bytes > 0) {
                break;
            }
        }
        Some(packet)
    }

    /// What follows this extension header, and its length; `None` if it is none.
    fn extension(&self) -> Option<(u8, usize)> {
        let &[next, length, ..] = self.payload else {
            return None;
        };
        let length = usize::from(length);
        match self.protocol {
            0 | 43 | 60 => Some((next, (length + 1) * 8)),
            FRAGMENT => Some((next, 8)),
            51 => Some((next, (length + 2) * 4)),
            _ => None,
        }
    }

    /// Protocol and both ends of TCP or UDP; `None` also for all fragments but the first.
    pub fn flow(&self) -> Option<(Protocol, SocketAddr, SocketAddr)> {
        let protocol = match self.protocol {
            TCP => Protocol::Tcp,
            UDP => Protocol::Udp,
            _ => return None,
        };
        if self.fragment.is_some_and(|part| part.offset_bytes > 0) {
            return None;
        }
        Some((
            protocol,
            SocketAddr::new(self.src, number(self.payload, 0)?),
            SocketAddr::new(self.dst, number(self.payload, 2)?),
        ))
    }

    /// The identifier of an echo request or reply.
    pub fn echo(&self) -> Option<u16> {
        match (self.protocol, self.payload) {
            (ICMP, [0 | 8, _, _, _, high, low, ..])
            | (ICMPV6, [128 | 129, _, _, _, high, low, ..]) => {
                Some(u16::from_be_bytes([*high, *low]))
            }
            _ => None,
        }
    }

    /// The MSS option of a TCP segment with SYN.
    pub fn mss(&self) -> Option<u16> {
        const SYN: u8 = 2;
        let is_syn = self.protocol == TCP && self.payload.get(13)? & SYN != 0;
        let header = self
            .payload
            .get(..usize::from(self.payload.get(12)? >> 4) * 4)?;
        let mut options = header.get(20..).filter(|_| is_syn)?;
        loop {
            options = match *options {
                [2, 4, high, low, ..] => return Some(u16::from_be_bytes([high, low])),
                [1, ..] => &options[1..],
                [kind, length, ..] if kind > 1 && length > 1 => {
                    options.get(usize::from(length)..)?
                }
                _ => return None,
            }
        }
    }
}

/// The two bytes at a place.
fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, TcpOptionElement};

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
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.hops, packet.fragment), (64, None));
        assert_eq!(packet.flow(), Some(expected));
        assert_eq!(
            Packet::parse(&bytes[..24]).unwrap().flow(),
            Some(expected),
            "cut short"
        );
    }

    #[test]
    fn only_the_first_fragment_has_ports() {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4([10, 1, 0, 2], [10, 2, 0, 2], 64)
            .udp(4000, 53)
            .write(&mut bytes, &[0; 40])
            .unwrap();
        bytes[4..8].copy_from_slice(&[0, 9, 0x20, 0]);
        let first = Packet::parse(&bytes).unwrap();
        let part = |offset_bytes, more| {
            Some(Fragment {
                id: 9,
                offset_bytes,
                more,
            })
        };
        assert_eq!(first.fragment, part(0, true));
        assert!(first.flow().is_some());
        bytes[6..8].copy_from_slice(&[0, 2]);
        let last = Packet::parse(&bytes).unwrap();
        assert_eq!(last.fragment, part(16, false));
        assert_eq!(last.flow(), None);
    }

    #[test]
    fn tcp_over_ipv6_with_mss() {
        let mut bytes = Vec::new();
        let src: Ipv6Addr = "fd00:1::2".parse().unwrap();
        let options = [
            TcpOptionElement::Noop,
            TcpOptionElement::WindowScale(7),
            TcpOptionElement::MaximumSegmentSize(1440),
        ];
        PacketBuilder::ipv6(src.octets(), [0xfd; 16], 64)
            .tcp(4000, 80, 1, 1000)
            .syn()
            .options(&options)
            .unwrap()
            .write(&mut bytes, &[])
            .unwrap();
        let packet = Packet::parse(&bytes).unwrap();
        let (protocol, src, dst) = packet.flow().unwrap();
        assert_eq!(protocol, Protocol::Tcp);
        assert_eq!(src.to_string(), "[fd00:1::2]:4000");
        assert_eq!(dst.port(), 80);
        assert_eq!(packet.mss(), Some(1440));
    }
}

//! What a packet is made of, in the words of the packet table.
//!
//! What a recipe leaves out is as in an ordinary TCP segment between a host on
//! the LAN and one behind the tunnels.

use std::net::IpAddr;

use serde::Deserialize;
use steer_common::abi::TunnelId;

/// One packet.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Where it arrives; if not given, where the row says, or with `other_way` at the other side.
    pub hook: Option<Hook>,
    /// Comes the other way.
    pub other_way: bool,
    /// The tunnel that it comes from, 1 if not given; or that the kernel routed it to.
    pub device: Option<TunnelId>,
    /// Size of its segments, if it stands for several.
    pub gso_size: u32,

    /// The destination of the frame.
    pub dst_mac: DstMac,
    /// VLAN tags in the frame, outermost first.
    pub tags: Vec<Tag>,
    /// The type in the frame, if not that of the IP version.
    pub ethertype: Option<u16>,
    /// Cuts the frame, MAC header and all, to as many bytes. Nothing happens where there is none.
    pub frame_bytes: Option<usize>,
    /// Cuts the IP packet to as many bytes.
    pub packet_bytes: Option<usize>,
    /// Bytes after the IP packet.
    pub padding: u16,

    /// IP version: 4, 6, or 0 for a frame without IP.
    pub ip: u8,
    /// Source address.
    pub src: Option<IpAddr>,
    /// Destination address.
    pub dst: Option<IpAddr>,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP and ECN: type of service or traffic class.
    pub tos: u8,
    /// Don't fragment (IPv4).
    pub df: bool,
    /// Identification of the datagram that fragments belong to; IPv4 takes 16 bits of it.
    pub identification: u32,
    /// IPv4 options.
    pub options: Options,
    /// Fragment fields of IPv4; for IPv6 a fragment header after the other extensions.
    pub fragment: Option<Fragment>,
    /// IPv6 extension headers, outermost first.
    pub extensions: Vec<Extension>,
    /// Overrides the version in the IP header.
    pub version: Option<u8>,
    /// Overrides the header length of IPv4, in 4-byte words.
    pub ihl: Option<u8>,
    /// Overrides the length in the IP header (IPv6: of the payload).
    pub length: Option<u16>,
    /// Overrides the length byte of the last extension header.
    pub extension_length: Option<u8>,
    /// Overrides the header checksum of IPv4.
    pub checksum: Option<u16>,

    /// What the IP packet carries.
    pub protocol: Protocol,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// TCP flags: letters of `FSRPA`.
    pub flags: String,
    /// TCP options, a multiple of four bytes.
    pub tcp_options: Vec<u8>,
    /// ICMP type; echo if absent, destination unreachable if it is about another packet.
    pub icmp_type: Option<u8>,
    /// ICMP code.
    pub icmp_code: u8,
    /// Echo identifier.
    pub icmp_id: u16,
    /// The packet that an ICMP error is about: one the other way.
    pub about: Option<Box<Recipe>>,
    /// The second word of an ICMP error: MTU, pointer, or length (RFC 4884).
    pub icmp_word: u32,
    /// Bytes of an ICMP error behind that packet: extensions, say (RFC 4884).
    pub behind: Vec<u8>,
    /// SPI of ESP or AH, GRE key, session of L2TP.
    pub id: u32,
    /// Flags and version of a GRE header.
    pub gre_flags: u16,
    /// Bytes after the transport header.
    pub payload: u16,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            hook: None,
            other_way: false,
            device: None,
            gso_size: 0,
            dst_mac: DstMac::Gateway,
            tags: Vec::new(),
            ethertype: None,
            frame_bytes: None,
            packet_bytes: None,
            padding: 0,
            ip: 4,
            src: None,
            dst: None,
            ttl: 64,
            tos: 0,
            df: true,
            identification: 0xdead_1234,
            options: Options::Idle(0),
            fragment: None,
            extensions: Vec::new(),
            version: None,
            ihl: None,
            length: None,
            extension_length: None,
            checksum: None,
            protocol: Protocol::Tcp,
            src_port: 40_000,
            dst_port: 443,
            flags: String::new(),
            tcp_options: Vec::new(),
            icmp_type: None,
            icmp_code: 0,
            icmp_id: 7_453,
            about: None,
            icmp_word: 0,
            behind: Vec::new(),
            id: 0x1234_5678,
            gre_flags: 0,
            payload: 32,
        }
    }
}

impl Recipe {
    /// The same at a hook, unless it says itself where it arrives.
    #[must_use]
    pub fn on(&self, hook: Hook) -> Self {
        Self {
            hook: self.hook.or(Some(if self.other_way {
                hook.other_way()
            } else {
                hook
            })),
            ..self.clone()
        }
    }

    /// The tunnel that it comes from, or that the kernel routed it to.
    pub fn device(&self) -> TunnelId {
        self.device.unwrap_or(1)
    }

    /// Where it arrives.
    pub fn hook(&self) -> Hook {
        self.hook.unwrap_or(Hook::Lan)
    }

    /// Whether it has something of a frame that an IP packet alone cannot have.
    pub fn needs_frame(&self) -> bool {
        self.dst_mac != DstMac::Gateway
            || !self.tags.is_empty()
            || self.ethertype.is_some()
            || self.frame_bytes.is_some()
            || self.ip == 0
    }
}

/// Where a packet meets a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// A LAN device, ingress mode.
    Lan,
    /// A LAN device without MAC header, ingress mode.
    LanL3,
    /// A LAN device, mark mode.
    Mark,
    /// A LAN device without MAC header, mark mode.
    MarkL3,
    /// The way into a tunnel, after the kernel's routing.
    Egress,
    /// The way out of a tunnel: learns only.
    Tunnel,
    /// The way out of a tunnel in ingress mode: learns and forwards.
    Return,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Lan,
        Self::LanL3,
        Self::Mark,
        Self::MarkL3,
        Self::Egress,
        Self::Tunnel,
        Self::Return,
    ];

    /// Where its packets' bytes start.
    pub fn layer(self) -> Layer {
        match self {
            Self::Lan | Self::Mark => Layer::Ethernet,
            Self::LanL3 | Self::MarkL3 | Self::Egress | Self::Tunnel | Self::Return => {
                Layer::Network
            }
        }
    }

    /// Whether its packets go to the remote side.
    pub fn is_out(self) -> bool {
        !matches!(self, Self::Tunnel | Self::Return)
    }

    /// Where the replies arrive.
    #[must_use]
    pub fn other_way(self) -> Self {
        match self {
            Self::Lan | Self::LanL3 => Self::Return,
            Self::Mark | Self::MarkL3 | Self::Egress => Self::Tunnel,
            Self::Tunnel => Self::Egress,
            Self::Return => Self::Lan,
        }
    }
}

/// Where a packet's bytes start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// At the Ethernet header.
    Ethernet,
    /// At the IP header.
    Network,
}

/// Whom a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DstMac {
    /// This gateway.
    Gateway,
    /// Another machine on the LAN.
    Other,
    /// All machines.
    Broadcast,
    /// A group of machines.
    Multicast,
}

/// A VLAN tag, written as its kind and its VLAN: `c10` is customer VLAN 10.
///
/// The gateway has devices for c10, s20, c10 inside of both, and c30 inside of s20. Every tag carries priority 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Tag {
    /// Type: 0x8100 of a customer (`c`), 0x88a8 of a service tag (`s`).
    pub ethertype: u16,
    /// VLAN; 0 has a priority only.
    pub vlan: u16,
}

impl TryFrom<String> for Tag {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let ethertype = match text.chars().next() {
            Some('c') => 0x8100,
            Some('s') => 0x88a8,
            _ => return Err(format!("{text} is neither c nor s and a VLAN")),
        };
        let vlan = text[1..]
            .parse()
            .map_err(|error| format!("{text}: {error}"))?;
        Ok(Self { ethertype, vlan })
    }
}

/// Fragment fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fragment {
    /// In units of eight bytes.
    pub offset: u16,
    /// More to come.
    pub more: bool,
    /// Don't fragment, all the same (IPv4).
    #[serde(default)]
    pub df: bool,
}

/// IPv4 options.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Options {
    /// So many bytes of "no operation".
    Idle(u8),
    /// These, a multiple of four.
    Bytes(Vec<u8>),
}

/// An IPv6 extension header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Extension {
    /// An ordinary one.
    Usual(Usual),
    /// Any: what follows its length byte, in all a multiple of eight bytes.
    Raw {
        /// Protocol number.
        header: u8,
        /// Zeros before the bytes.
        #[serde(default)]
        zeros: usize,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// An ordinary extension header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Usual {
    /// Hop-by-hop options: eight bytes of padding.
    HopByHop,
    /// Routing header without segments left, 24 bytes.
    Routing,
    /// Destination options, 16 bytes of padding.
    Destination,
    /// Authentication header, 24 bytes.
    Authentication,
    /// Destination options, 128 bytes of padding.
    Long,
}

/// What an IP packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the protocols' own names")]
pub enum Protocol {
    Tcp,
    Udp,
    UdpLite,
    Sctp,
    Dccp,
    Icmp,
    Icmpv6,
    Igmp,
    Gre,
    Esp,
    Ah,
    L2tp,
    /// IPv4 in IP.
    IpIp,
    /// IPv6 in IP.
    Ipv6,
    Ospf,
    /// 253, for experiments (RFC 3692).
    Experiment,
    /// IPv6 without anything in it.
    NoNextHeader,
}

impl Protocol {
    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Self::Icmp => 1,
            Self::Igmp => 2,
            Self::IpIp => 4,
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Dccp => 33,
            Self::Ipv6 => 41,
            Self::Gre => 47,
            Self::Esp => 50,
            Self::Ah => 51,
            Self::Icmpv6 => 58,
            Self::NoNextHeader => 59,
            Self::Ospf => 89,
            Self::L2tp => 115,
            Self::Sctp => 132,
            Self::UdpLite => 136,
            Self::Experiment => 253,
        }
    }
}

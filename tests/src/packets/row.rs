//! The rows of the packet table: what a packet is made of, and what becomes of it.

use std::{fs, net::IpAddr, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// A file of rows.
#[derive(Debug, Deserialize)]
struct File {
    packet: Vec<Row>,
}

/// Every row of the files in `tests/packets`, in the order of their names.
pub fn all() -> Result<Vec<Row>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("packets");
    let mut paths = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut rows = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        let text = fs::read_to_string(&path).with_context(|| name.clone())?;
        let file: File = toml::from_str(&text).with_context(|| name)?;
        rows.extend(file.packet);
    }
    Ok(rows)
}

/// One packet. What a row leaves out is as in an ordinary TCP segment from the
/// LAN to a steered prefix.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What it is; shown when the row fails.
    pub name: String,
    /// Where the bytes start, and thereby on which hook it arrives.
    #[serde(default)]
    pub layer: Layer,
    /// The destination of the frame.
    #[serde(default)]
    pub dst_mac: DstMac,
    /// VLAN tags in the frame, outermost first.
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// The type in the frame, if not that of the IP version.
    pub ethertype: Option<u16>,
    /// IP version: 4, 6, or 0 for a frame without IP.
    #[serde(default = "four")]
    pub ip: u8,
    /// Source address.
    pub src: Option<IpAddr>,
    /// Destination address.
    pub dst: Option<IpAddr>,
    /// TTL or hop limit.
    #[serde(default = "sixty_four")]
    pub ttl: u8,
    /// Bytes of IPv4 options, a multiple of four.
    #[serde(default)]
    pub options: u8,
    /// Fragment fields of IPv4; for IPv6 a fragment header after the other extensions.
    pub fragment: Option<Fragment>,
    /// IPv6 extension headers, outermost first.
    #[serde(default)]
    pub extensions: Vec<Extension>,
    /// What the IP packet carries.
    #[serde(default)]
    pub protocol: Protocol,
    /// Source port.
    #[serde(default = "client_port")]
    pub src_port: u16,
    /// Destination port.
    #[serde(default = "server_port")]
    pub dst_port: u16,
    /// TCP flags: letters of `FSRPA`.
    #[serde(default)]
    pub flags: String,
    /// ICMP type; echo if absent.
    pub icmp_type: Option<u8>,
    /// Echo identifier.
    #[serde(default = "identifier")]
    pub icmp_id: u16,
    /// Bytes after the transport header.
    #[serde(default = "thirty_two")]
    pub payload: u16,
    /// Overrides the version in the IP header.
    pub version: Option<u8>,
    /// Overrides the header length of IPv4, in 4-byte words.
    pub ihl: Option<u8>,
    /// Overrides the length in the IP header (IPv6: of the payload).
    pub length: Option<u16>,
    /// Overrides the length byte of the last extension header.
    pub extension_length: Option<u8>,
    /// Cuts the packet to as many bytes.
    pub truncate: Option<usize>,
    /// Bytes after the IP packet.
    #[serde(default)]
    pub padding: u16,
    /// What becomes of it.
    pub expect: Expect,
}

fn four() -> u8 {
    4
}
fn sixty_four() -> u8 {
    64
}
fn client_port() -> u16 {
    40_000
}
fn server_port() -> u16 {
    443
}
fn identifier() -> u16 {
    0x1d1d
}
fn thirty_two() -> u16 {
    32
}

/// Where a packet's bytes start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// At the Ethernet header: it enters the LAN device.
    #[default]
    Ethernet,
    /// At the IP header: it comes out of a tunnel, from the remote side.
    Network,
}

/// Whom a frame is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DstMac {
    /// This gateway.
    #[default]
    Gateway,
    /// Another machine on the LAN.
    Other,
    /// All machines.
    Broadcast,
    /// A group of machines.
    Multicast,
}

/// A VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tag {
    /// 0x8100, VLAN 10.
    Customer,
    /// 0x88a8, VLAN 20.
    Service,
    /// 0x8100, VLAN 0: a priority only.
    Priority,
}

/// Fragment fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Fragment {
    /// In units of eight bytes.
    pub offset: u16,
    /// More to come.
    pub more: bool,
    /// Don't fragment (IPv4).
    #[serde(default)]
    pub dont: bool,
}

/// An IPv6 extension header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extension {
    /// Hop-by-hop options, eight bytes.
    HopByHop,
    /// Routing header without segments left, 24 bytes.
    Routing,
    /// Destination options, 16 bytes.
    Destination,
    /// Authentication header, 24 bytes.
    Authentication,
}

/// What an IP packet carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the protocols' own names")]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    UdpLite,
    Sctp,
    Dccp,
    Icmp,
    Icmpv6,
    Gre,
    Esp,
    /// An authentication header over IPv4.
    Ah,
    /// IPv4 in IP.
    IpIp,
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
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::UdpLite => 136,
            Self::Sctp => 132,
            Self::Dccp => 33,
            Self::Icmp => 1,
            Self::Icmpv6 => 58,
            Self::Gre => 47,
            Self::Esp => 50,
            Self::Ah => 51,
            Self::IpIp => 4,
            Self::Ospf => 89,
            Self::Experiment => 253,
            Self::NoNextHeader => 59,
        }
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// The kernel gets it: the name of the reason.
    Pass(#[serde(deserialize_with = "reason")] steer_common::abi::PassReason),
    /// It leaves through a tunnel, forwarded as a router would.
    Redirect(Flow),
    /// It came out of a tunnel, and its flow is known now.
    Learn(Flow),
    /// It came out of a tunnel and nothing is learned.
    Ignore,
}

fn reason<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<steer_common::abi::PassReason, D::Error> {
    let name = String::deserialize(deserializer)?;
    steer_common::abi::PassReason::ALL
        .into_iter()
        .find(|reason| reason.name() == name)
        .ok_or_else(|| serde::de::Error::custom(format!("no reason is called {name}")))
}

/// The flow that a packet belongs to, besides its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Protocol number of the key.
    pub protocol: u8,
    /// Source port of the key.
    #[serde(default)]
    pub src_port: u16,
    /// Destination port of the key.
    #[serde(default)]
    pub dst_port: u16,
}
